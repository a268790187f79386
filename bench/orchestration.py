"""What the machinery of a loop costs: beside the same loop by hand, in LangGraph, and peers.

    python bench/orchestration.py --peers PYTHON --json bench/results/DATE-orchestration.json

Loops with four levels and two iterations, 19 model calls each, on a model that answers at once
and on one that sleeps 200 ms and serves 100 calls at a time. All contenders run by turns, in
this process; distilabel and camel in processes of their own, by the interpreter of an
environment that has them. The time from the first call to the end counts, for all of them: what
a run needs once (imports, processes, opening a directory) is no cost per call. Figures are
medians.

- floor: the very same calls in the same order, and nothing else
- asyncio: the loop written by hand, with this package's agents
- langgraph: the same nodes as a plain LangGraph graph, without a checkpointer
- reflectory: without a run directory
- reflectory, kept: with call cache, checkpoints and trajectories in a run directory
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from orchestration_loops import at_once, by_hand, in_langgraph
from orchestration_work import ITERATIONS, Agents, Double, make_loop
from provenance import provenance

from reflectory.models.protocol import Request, Segment
from reflectory.runner import Runner
from reflectory.runs import Instruction

CALLS = 1 + 9 * ITERATIONS
"""Of a loop: R_0, and per iteration four questions, four answers and a reflection."""
CONTENDERS = ("floor", "asyncio", "langgraph", "reflectory", "reflectory, kept")

Measured = Callable[[Double, int, int], Awaitable[None]]


def instructions(count: int) -> Iterator[str]:
    """Yield instructions that differ."""
    for number in range(count):
        yield f"Explain how tide mill number {number} works while the gate is closed."


async def floor(model: Double, loops: int, concurrency: int) -> None:
    """Make the calls of the loops in their order, with prompts of the usual length."""
    shared = Segment(text="The moon pulls the water of the sea. " * 60, shared=True)

    async def call(instruction: str, number: int) -> None:
        segments = (shared, Segment(text=f"{instruction} {number}"))
        await model.complete(Request(role="student.answer", segments=segments, seed=number))

    async def branch(instruction: str, number: int) -> None:
        await call(instruction, number)
        await call(instruction, number)

    async def loop(instruction: str) -> None:
        await call(instruction, 0)
        for t in range(ITERATIONS):
            await asyncio.gather(*(branch(instruction, 10 * t + j) for j in range(4)))
            await call(instruction, t)

    await at_once(loop, instructions(loops), concurrency)


async def hand(model: Double, loops: int, concurrency: int) -> None:
    """Run the loop in plain asyncio."""
    agents = Agents(await make_loop(model).aopen())
    await at_once(by_hand(agents), instructions(loops), concurrency)


async def plain_graph(model: Double, loops: int, concurrency: int) -> None:
    """Run the loop in plain LangGraph."""
    agents = Agents(await make_loop(model).aopen())
    await at_once(in_langgraph(agents), instructions(loops), concurrency)


async def bare(model: Double, loops: int, concurrency: int) -> None:
    """Run reflectory without a run directory."""
    await _stream(model, loops, concurrency, None)


async def kept(model: Double, loops: int, concurrency: int) -> None:
    """Run reflectory into a run directory."""
    with tempfile.TemporaryDirectory() as folder:
        await _stream(model, loops, concurrency, Path(folder) / "run")


async def _stream(model: Double, loops: int, concurrency: int, output: Path | None) -> None:
    items = (Instruction(f"{i:06d}", text) for i, text in enumerate(instructions(loops)))
    runner = Runner(make_loop(model))
    async for trajectory in runner.stream(items, concurrency=concurrency, output=output):
        if trajectory.error is not None:
            raise RuntimeError(f"a loop failed: {trajectory.error.message}")


RUN: dict[str, Measured] = dict(
    zip(CONTENDERS, (floor, hand, plain_graph, bare, kept), strict=True)
)


def timed(
    name: str, loops: int, concurrency: int, delay_s: float, places: int = 100
) -> dict[str, float]:
    """Run a contender once and return what it took."""

    async def run() -> tuple[float, float]:
        model = Double(delay_s, places)
        gc.collect()
        await RUN[name](model, loops, concurrency)
        began, used = model.began
        taken = time.perf_counter() - began, time.process_time() - used
        if model.calls != CALLS * loops:
            raise RuntimeError(f"{name} made {model.calls} calls, not {CALLS * loops}")
        return taken

    seconds, processor = asyncio.run(run())
    return {
        "loops": loops,
        "calls": CALLS * loops,
        "seconds": seconds,
        "processor_seconds": processor,
    }


def same_prompts() -> bool:
    """Return whether all contenders but the floor ask the model the very same."""

    async def asked(name: str) -> list[tuple[str, ...]]:
        model = Double()
        model.asked = []
        await RUN[name](model, 3, 2)
        return sorted(model.asked)

    found = [asyncio.run(asked(name)) for name in CONTENDERS[1:]]
    return all(one == found[0] for one in found)


def prompts(loops: int) -> list[list[list[str]]]:
    """Return the prompts of every loop by stage, for contenders that run elsewhere."""

    async def one(instruction: str) -> list[list[str]]:
        model = Double()
        model.asked = []
        await by_hand(Agents(await make_loop(model).aopen()))(instruction)
        texts = ["\n\n".join(segments) for _, _, *segments in model.asked]
        sizes = [1, *([4, 4, 1] * ITERATIONS)]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [texts[start : start + size] for start, size in zip(starts, sizes, strict=True)]

    return [asyncio.run(one(instruction)) for instruction in instructions(loops)]


def peer(python: str, name: str, file: Path, delay_s: float) -> dict[str, float]:
    """Run a peer's pipeline over prompts in a file; it says what it took."""
    script = Path(__file__).with_name(f"orchestration_{name}.py")
    command = [python, str(script), str(file), str(delay_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def summary(runs: list[dict[str, Any]], model_s: float) -> dict[str, Any]:
    """Return medians of a contender.

    Args:
        runs: Of one contender.
        model_s: What the model itself needs for one call when all its places are taken.
    """
    each = [run["seconds"] / run["calls"] for run in runs]
    call_s = statistics.median(each)
    found: dict[str, Any] = {
        "ms_per_call": round(1000 * call_s, 4),
        "ms_per_call_least_and_most": [round(1000 * s, 4) for s in (min(each), max(each))],
        "loops_per_second": round(1 / call_s / CALLS, 2),
    }
    if "processor_seconds" in runs[0]:
        used = statistics.median(run["processor_seconds"] / run["calls"] for run in runs)
        found["processor_ms_per_call"] = round(1000 * used, 4)
    if model_s:
        found["times_the_model"] = round(call_s / model_s, 3)
    return found


def measure(
    names: list[str], one: Callable[[str, int], dict[str, float]], repeat: int
) -> dict[str, list[dict[str, Any]]]:
    """Run all contenders by turns, and each round in another order."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(repeat):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            runs[name].append(one(name, turn))
            print(turn, name, runs[name][-1], file=sys.stderr, flush=True)
    return runs


def main() -> None:
    """Measure both models and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    parser.add_argument("--loops", type=int, default=100, help="at once, with a model at once")
    parser.add_argument("--concurrency", type=int, default=8, help="loops at the same time")
    parser.add_argument("--sleeping-loops", type=int, default=200)
    parser.add_argument("--sleep", type=float, default=0.2, help="seconds of a slow call")
    parser.add_argument("--places", type=int, default=100, help="calls at once of a slow model")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--sleeping-repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS))
    parser.add_argument("--peers", default=None, help="python that has distilabel and camel-ai")
    given = parser.parse_args()
    peers = ["distilabel", "camel"] if given.peers else []
    names = [*given.only, *peers]
    options = {name: value for name, value in vars(given).items() if name not in {"json", "peers"}}
    figures: dict[str, Any] = {
        "provenance": provenance("langgraph", "langgraph-checkpoint-sqlite", "pydantic"),
        "options": options,
        "calls_per_loop": CALLS,
        "same_prompts": same_prompts(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for kind, loops, delay_s, concurrency, repeat in (
            ("at once", given.loops, 0.0, given.concurrency, given.repeat),
            ("sleeping", given.sleeping_loops, given.sleep, given.places, given.sleeping_repeat),
        ):
            if not repeat:
                continue
            file = Path(folder) / f"{kind}.json"
            if peers:
                file.write_text(json.dumps(prompts(loops)))
            for name in given.only:
                timed(name, 4, 2, 0.0)  # imports, caches, the first compilation

            def one(
                name: str,
                turn: int,
                loops: int = loops,
                delay_s: float = delay_s,
                concurrency: int = concurrency,
                file: Path = file,
            ) -> dict[str, float]:
                if name in peers:
                    return peer(given.peers, name, file, delay_s)
                return timed(name, loops, concurrency, delay_s, given.places)

            runs = measure(names, one, repeat)
            model_s = delay_s / given.places
            figures[kind] = {
                "runs": runs,
                "medians": {name: summary(found, model_s) for name, found in runs.items()},
            }
            print(kind, json.dumps(figures[kind]["medians"], indent=2))
    text = json.dumps(figures, indent=2) + "\n"
    if given.json is not None:
        given.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
