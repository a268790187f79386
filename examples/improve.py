"""Make rounds of self-improvement.

Prints what became of each round and why, and which student is the current one. Two
small rounds, as in self_improvement.ipynb, take four minutes on two cores; those of twenty
questions take several times as long. The same command again goes on.

    python examples/improve.py [DOCUMENTS] -o RUN [--held-out FILE] [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from reflectory import RunConfig, SelfImprovement
from reflectory.demo.story import data_folder


def improve(rounds: SelfImprovement) -> int:
    """Make the rounds that are left, print all of them, and return how many failed."""
    result = rounds.run()
    for record in result.rounds:
        print(f"round {record.number}: {record.decision}: {record.reason}")
        for warning in record.warnings:
            print(f"  note: {warning}")
    print(f"the student is number {result.current}: {rounds.adapter() or 'the base itself'}")
    return sum(record.decision == "failed" for record in result.rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, make the rounds and return the exit code."""
    parser = argparse.ArgumentParser(description="Make rounds of self-improvement.")
    parser.add_argument("documents", nargs="?", default=str(data_folder() / "documents"))
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--held-out", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--questions", type=int, default=20)
    given = parser.parse_args(arguments)
    config = RunConfig.from_dict(
        {
            "documents": given.documents,
            "practice": {"questions": given.questions},
            "improvement": {"rounds": given.rounds, "held_out": given.held_out},
        }
    )
    return 1 if improve(SelfImprovement(given.output, config)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
