"""What the progress of ``reflectory run`` costs, on a model that answers at once.

    python bench/progress_cost.py --json bench/results/DATE-progress-cost.json

The same loops (four levels, two iterations, 19 calls) into a run directory, by turns: with
``--quiet``, with the live view on a pseudo terminal of 120 x 40, with plain lines, and as it
was before, when every node was told through LangGraph's stream. Processor seconds of this
process count, because other work on the machine changes the time of the clock.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import os
import pty
import statistics
import struct
import tempfile
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

from orchestration import instructions
from orchestration_work import ITERATIONS, Double, make_loop
from provenance import provenance
from rich.console import Console

from reflectory.background import BACKGROUND
from reflectory.cli import progress
from reflectory.driver import LoopEvent
from reflectory.runner import Runner
from reflectory.runs import Instruction

MODES = ("quiet", "live", "lines", "told of every node")


def ignore(event: LoopEvent) -> None:
    """Do nothing: being told is what is measured."""


def terminal() -> Console:
    """Return a console on a pseudo terminal that somebody reads."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def read() -> None:
        with suppress(OSError):  # the other side is closed
            while os.read(master, 65536):
                pass

    threading.Thread(target=read, daemon=True).start()
    return Console(file=os.fdopen(slave, "w"), force_terminal=True, color_system="truecolor")


def timed(mode: str, loops: int, concurrency: int, console: Console) -> float:
    """Return the processor seconds of so many loops."""
    loop = make_loop(Double())
    on_event = ignore if mode == MODES[-1] else None
    items = (Instruction(f"{i:06d}", text) for i, text in enumerate(instructions(loops)))
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        quiet = mode in ("quiet", MODES[-1])
        began = time.process_time()
        lines = mode == "lines"
        with progress.showing(quiet=quiet, lines=lines, console=console) as display:
            display.activity.expect("loops", loops, iterations=ITERATIONS)
            runner = Runner(loop, on_event=on_event)
            stream = runner.stream(items, concurrency=concurrency, output=Path(folder) / "run")
            for trajectory in BACKGROUND.iterate(stream):
                display.activity.finished(trajectory)
        return time.process_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    parser.add_argument("--loops", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    console = terminal()
    timed("quiet", 8, given.concurrency, console)  # imports and the first compilation
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    for turn in range(given.repeat):
        for mode in MODES if turn % 2 == 0 else MODES[::-1]:
            found[mode].append(timed(mode, given.loops, given.concurrency, console))
            print(f"{mode}: {found[mode][-1]:.2f} s", flush=True)
    per_loop = {mode: statistics.median(s) / given.loops * 1e3 for mode, s in found.items()}
    # Turn by turn, because the speed of a shared machine drifts.
    ratios = {
        mode: [s / q for s, q in zip(seconds, found["quiet"], strict=True)]
        for mode, seconds in found.items()
    }
    figures = {
        "provenance": provenance("langgraph", "rich"),
        "options": {"loops": given.loops, "concurrency": given.concurrency},
        "processor_seconds": found,
        "median_ms_per_loop": per_loop,
        "over_quiet": {mode: statistics.median(turns) - 1 for mode, turns in ratios.items()},
    }
    print(json.dumps({k: figures[k] for k in ("median_ms_per_loop", "over_quiet")}, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
