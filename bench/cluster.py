"""Ray with one worker and with two: how much faster, and what a call costs on the way.

    python bench/cluster.py --json bench/results/DATE-cluster.json

Loops with a model that sleeps 200 ms a call, spread over workers of a Ray cluster on this
machine; then calls of a model that answers at once, through the keeper of calls, for the rate
at which one keeper can record. No figure here needs a real model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from provenance import provenance

from reflectory import ReflectiveLoop
from reflectory.background import BACKGROUND
from reflectory.cluster import ClusterRunner
from reflectory.cluster.calls import CallDesk, DeskModel
from reflectory.cluster.runtime import ray_cluster, start_keeper
from reflectory.config.cluster import ClusterConfig
from reflectory.models.protocol import Request, Segment
from reflectory.runs import Instruction
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld

WORLD = SyntheticWorld(skill=0.5, gain=0.4, levels=2)


def make_loop(delay_s: float) -> ReflectiveLoop:
    """Return a loop whose model sleeps in every call."""
    teacher, student = WORLD.teacher(), WORLD.student()
    teacher._delay_s = student._delay_s = delay_s
    return ReflectiveLoop(
        WORLD.documents(),
        teacher=teacher,
        student=student,
        grader=WORLD.grader(),
        embedder=ConstantEmbedder(),
        config=WORLD.config(max_iterations=2, epsilon=1e-9),
    )


def time_run(workers: int, instructions: int, delay_s: float, concurrency: int) -> dict[str, Any]:
    """Return how long a run takes, with and without the start of its workers."""
    config = ClusterConfig(engine="ray", workers=workers, cpus=0.5)
    runner = ClusterRunner(partial(make_loop, delay_s), config)
    marks: list[float] = []

    async def items() -> AsyncIterator[Instruction]:
        """Yield instructions once all workers are up, so that their start is not measured."""
        while runner.crew is None or runner.crew.ready < workers:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        marks.append(time.perf_counter())
        for number in range(instructions):
            yield Instruction(f"{number:06d}", f"What is known of number {number}?")

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        stream = runner.stream(items(), concurrency=concurrency, output=Path(folder) / "run")
        count = sum(1 for _ in BACKGROUND.iterate(stream))
        ended = time.perf_counter()
        calls = json.loads((Path(folder) / "run/manifest.json").read_text())["totals"]["calls"]
    return {
        "workers": workers,
        "loops": count,
        "calls": calls,
        "with_start_s": ended - began,
        "seconds": ended - marks[0],
    }


def time_keeper(calls: int, loops: int) -> dict[str, float]:
    """Return calls per second through one keeper, from one process with many loops."""

    async def main() -> tuple[float, int]:
        desk = CallDesk("bench", door)
        model = DeskModel(ScriptedModel(lambda request: "an answer of some length " * 8), desk)
        numbers = iter(range(calls))

        async def ask() -> None:
            for number in numbers:
                segments = (Segment(text="shared " * 800), Segment(text=f"task {number}"))
                await model.complete(Request(role="student.answer", segments=segments))

        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(loops)))
        return time.perf_counter() - began, desk.visits

    with tempfile.TemporaryDirectory() as folder:
        door = start_keeper(ray, Path(folder) / "calls.sqlite")
        seconds, visits = asyncio.run(main())
    return {
        "loops": loops,
        "calls": calls,
        "visits": visits,
        "calls_per_second": calls / seconds,
        "ms_per_call_and_loop": 1000 * seconds * loops / calls,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--instructions", type=int, default=96)
    parser.add_argument("--concurrency", type=int, default=8, help="loops of each worker")
    parser.add_argument("--sleep", type=float, default=0.2, help="seconds of a call")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--calls", type=int, default=4000)
    options = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parent))
    asked = {name: value for name, value in vars(options).items() if name != "json"}
    figures: dict[str, Any] = {"provenance": provenance("ray"), "options": asked}
    with ray_cluster(ClusterConfig(engine="ray", workers=2, cpus=0.5)) as ray:
        runs = [
            time_run(workers, options.instructions, options.sleep, options.concurrency)
            for _ in range(options.repeat)
            for workers in (1, 2)
        ]
        median = {
            workers: statistics.median(r["seconds"] for r in runs if r["workers"] == workers)
            for workers in (1, 2)
        }
        figures["runs"] = runs
        figures["speedup"] = median[1] / median[2]
        started = {
            workers: statistics.median(r["with_start_s"] for r in runs if r["workers"] == workers)
            for workers in (1, 2)
        }
        figures["speedup_with_start"] = started[1] / started[2]
        figures["keeper"] = [time_keeper(options.calls, loops) for loops in (1, 8, 64, 256)]
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
