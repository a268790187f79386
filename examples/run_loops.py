"""Run reflective loops over a folder of documents.

Prints, for every instruction, the first response and the last one, their grades G[0] to G[t],
and the alignment matrix. One instruction takes a minute or two on two cores.

    python examples/run_loops.py [DOCUMENTS] [-i INSTRUCTION ...] [-t ITERATIONS]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from reflectory import LoopConfig, ReflectiveLoop
from reflectory.demo.story import data_folder

INSTRUCTIONS = ["Explain why scientists disagree about what exploded over Tunguska."]


def run_loops(loop: ReflectiveLoop, instructions: Sequence[str]) -> int:
    """Print response, grades and matrix of every loop; return how many loops failed."""
    failed = 0
    for trajectory in loop.map(instructions):
        print(f"\n{trajectory.instruction}")
        if trajectory.error is not None:
            failed += 1
            print(f"failed: {trajectory.error.message}")
            continue
        print(f"R_0:     {trajectory.responses[0].text}")
        print(f"R_final: {trajectory.response}")
        grades = ["none" if g is None else f"{g:.2f}" for g in trajectory.grades]
        print(f"G:       {', '.join(grades)}")
        print(trajectory.alignment)
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run the loops and return the exit code."""
    parser = argparse.ArgumentParser(description="Run reflective loops over documents.")
    parser.add_argument("documents", nargs="?", default=str(data_folder() / "documents"))
    parser.add_argument("-i", "--instruction", action="append")
    parser.add_argument("-t", "--max-iterations", type=int, default=3)
    given = parser.parse_args(arguments)
    config = LoopConfig(max_iterations=given.max_iterations)
    with ReflectiveLoop(given.documents, config=config) as loop:
        return 1 if run_loops(loop, given.instruction or INSTRUCTIONS) else 0


if __name__ == "__main__":
    raise SystemExit(main())
