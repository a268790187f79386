"""A run of many instructions: does its memory grow, does it become slower?

python bench/long_run.py --instructions 1000 100000 --json FILE

Each size runs in a process of its own, with k = T = 1 and scripted models that answer
at once, into a run directory. Reported are peak memory and the rate of each tenth, by the
clock and by processor time; the latter means something on a busy machine, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from provenance import provenance

from reflectory import ReflectiveLoop
from reflectory.background import BACKGROUND
from reflectory.runner import Runner
from reflectory.runs import read_instructions
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld


class Forgetful(list[Any]):
    """Keeps nothing: a test double remembers every request, which is no growth of the run."""

    def append(self, item: Any) -> None:
        """Forget it."""


def forgetful(model: ScriptedModel) -> ScriptedModel:
    """Return the model, which no longer remembers what it was asked."""
    model.requests = Forgetful()
    return model


def peak_megabytes() -> float:
    """Return the most memory that this process had so far (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not say how much memory a process had")


def measure(count: int, folder: Path) -> dict[str, Any]:
    """Run so many instructions and return what was measured."""
    asked = folder / "asked.jsonl"
    with asked.open("w") as file:
        for number in range(count):
            text = f"What is known about thing number {number}?"
            file.write(json.dumps({"instruction": text}) + "\n")
    world = SyntheticWorld(levels=1)
    loop = ReflectiveLoop(
        world.documents(),
        teacher=forgetful(world.teacher()),
        student=forgetful(world.student()),
        grader=world.grader(),
        embedder=ConstantEmbedder(),
        config=world.config(max_iterations=1),
    )
    stream = Runner(loop).stream(read_instructions(asked), concurrency=8, output=folder / "run")
    tenths = []
    clock, processor, since = 0.0, 0.0, 0
    for done, _ in enumerate(BACKGROUND.iterate(stream), start=1):
        if done == 1:  # opening the run directory is no part of the first tenth
            clock, processor, since = time.perf_counter(), time.process_time(), 1
        if done % max(1, count // 10) == 0:
            now, used = time.perf_counter(), time.process_time()
            tenth = {
                "done": done,
                "per_second": round((done - since) / (now - clock), 2),
                "per_processor_second": round((done - since) / (used - processor), 2),
                "peak_mb": round(peak_megabytes(), 1),
            }
            tenths.append(tenth)
            print(count, tenth, file=sys.stderr, flush=True)
            clock, processor, since = now, used, done
    sizes = {path.name: path.stat().st_size for path in sorted((folder / "run").iterdir())}
    return {"instructions": count, "tenths": tenths, "bytes": sizes}


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return how the longest run compares with the shortest, and its end with its beginning."""
    short, long = runs[0]["tenths"], runs[-1]["tenths"]
    return {
        "memory_ratio": round(long[-1]["peak_mb"] / short[-1]["peak_mb"], 3),
        **{
            f"{name}_last_to_first": round(long[-1][name] / long[0][name], 3)
            for name in ("per_second", "per_processor_second")
        },
    }


def main() -> None:
    """Run each size in its own process and write what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--instructions", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--in", dest="folder", type=Path, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder is not None:
        print(json.dumps(measure(given.instructions[0], given.folder)))
        return
    runs = []
    for count in sorted(given.instructions):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--instructions", str(count), "--in", folder]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            runs.append(json.loads(said))
    result = {**provenance("langgraph"), "runs": runs, "summary": summary(runs)}
    text = json.dumps(result, indent=2) + "\n"
    if given.json is not None:
        given.json.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
