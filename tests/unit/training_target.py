"""A training that the tests kill: run as a script in a process of its own.

Usage: training_target.py BASE OUTPUT SETTINGS KILL, where KILL is "never", "step:N"
(after the N-th call of progress) or "fill:N" (while the N-th checkpoint is being
filled).
"""

import json
import os
import signal
import sys

from reflectory.config import TrainingConfig
from reflectory.training import Message, PreferenceRow, Provenance, TrainingRow, train_adapter
from reflectory.training.resume import StageFolder
from reflectory.training.rows import assistant


def prompt(i):
    return (Message(role="user", content=f"{'text ' * (2 + i)}\n\nQuestion: number {i}?"),)


def rows(count):
    return [
        TrainingRow(
            prompt=prompt(i),
            completion=assistant("stone " * (1 + i)),
            provenance=Provenance(trajectory=f"t{i}", grader="rule", score=0.8),
        )
        for i in range(count)
    ]


def pairs(count):
    return [
        PreferenceRow(
            prompt=prompt(i),
            chosen=assistant("stone " * (1 + i)),
            rejected=assistant("perhaps a tree"),
            margin=0.4,
            provenance=Provenance(trajectory=f"t{i}", grader="rule", score=0.8),
        )
        for i in range(count)
    ]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    base, output, settings, kill = sys.argv[1:]
    kind, _, number = kill.partition(":")
    calls = {"step": 0, "fill": 0}

    def count(what):
        calls[what] += 1
        if kind == what and calls[what] == int(number):
            die()

    settle = StageFolder._settle

    def watched(self, new, place):
        (first, *_) = sorted(new.iterdir())
        whole = first.read_bytes()
        if kind == "fill":
            first.write_bytes(whole[: len(whole) // 2])
            count("fill")
            first.write_bytes(whole)
        settle(self, new, place)

    StageFolder._settle = watched
    report = train_adapter(
        rows(8),
        base,
        output,
        TrainingConfig(**json.loads(settings)),
        preferences=pairs(8),
        progress=lambda *_: count("step"),
        dtype="float32",
        device="cpu",
    )
    print(json.dumps({"resumed": report.resumed_from, "steps": calls["step"]}))


if __name__ == "__main__":
    main()
