"""What ``reflectory run`` says: to people at the end, to machines while it runs.

A run may be of any length, so nothing here keeps more than counts and a few of
the trajectories.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.cli.common import err, out
from reflectory.cli.run_summary import Tally, failure_lines, run_summary
from reflectory.report.terminal import plain

if TYPE_CHECKING:
    from reflectory.driver import LoopEvent
    from reflectory.errors import ReflectoryError
    from reflectory.runs.call_cache import CallCache
    from reflectory.types import Trajectory


class People:
    """Says at the end what came of a run.

    Attributes:
        hears_steps: Whether :meth:`step` does anything; being told costs time.
    """

    hears_steps = False

    def __init__(self) -> None:
        self._started = time.monotonic()

    def begin(self, total: int | None) -> None:
        """Nothing is said; the progress display does that."""

    def step(self, event: LoopEvent) -> None:
        """Nothing is said; the progress display does that."""

    def finished(self, trajectory: Trajectory) -> None:
        """Nothing is said; the progress display does that."""

    def end(self, tally: Tally, output: Path, error: ReflectoryError | None = None) -> None:
        """Print trajectories in full when they are few, failures, and what it took."""
        from reflectory.report.statistics import statistics_table
        from reflectory.report.terminal import matrix_table, trajectory_summary
        from reflectory.runs.manifest import Manifest

        if error is not None and not tally.count:
            return  # it never began, so the error says everything
        for trajectory in tally.few:
            if trajectory.status == "done":
                out.print(trajectory_summary(trajectory))
                out.print(matrix_table(trajectory.alignment))
        for line in failure_lines(tally, output):
            out.print(plain(line), markup=False, highlight=False)
        manifest = None
        if (output / "manifest.json").is_file():
            manifest = Manifest.load(output / "manifest.json")
            out.print(statistics_table(manifest.totals.tokens, manifest.sessions[-1].engines))
        out.print(run_summary(tally, output, time.monotonic() - self._started, manifest))
        if tally.share_ungraded > 0.2:
            err.print(
                f"[yellow]warning[/]: {tally.share_ungraded:.0%} of the grades could not be read; "
                "run `reflectory check` to measure the grader"
            )
        out.print(
            f"{tally.done} done, {tally.failed} failed, {tally.share_ungraded:.0%} of the grades "
            f"unreadable. Everything is in {output}",
            markup=False,
            highlight=False,
        )


class Quiet(People):
    """Says which loops failed, and nothing else."""

    def end(self, tally: Tally, output: Path, error: ReflectoryError | None = None) -> None:
        """Print failures to standard error, where errors go."""
        for line in failure_lines(tally, output):
            err.print(plain(line), markup=False, highlight=False, soft_wrap=True)


class JsonList(People):
    """Writes one JSON list, an entry for each trajectory when it is finished."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def finished(self, trajectory: Trajectory) -> None:
        """Write the entry of a trajectory."""
        text = json.dumps(summary_of(trajectory), ensure_ascii=False, indent=2)
        sys.stdout.write(("[\n  " if not self._count else ",\n  ") + text.replace("\n", "\n  "))
        self._count += 1

    def end(self, tally: Tally, output: Path, error: ReflectoryError | None = None) -> None:
        """Close the list; when nothing was begun because of an error, none is written."""
        if self._count or error is None:
            sys.stdout.write("\n]\n" if self._count else "[]\n")
            sys.stdout.flush()


class Events(People):
    """Writes JSON Lines while the run goes on: ``started``, ``step``, ``finished`` ...

    Steps come from the thread that runs the loops, the others from the one that
    waits. When the reader goes away, the run goes on and says nothing more.

    Args:
        output: The run directory, whose call cache knows what each loop used.
    """

    hears_steps = True

    def __init__(self, output: Path) -> None:
        super().__init__()
        self._output = output
        self._lock = threading.Lock()
        self._began = time.time()
        self._calls: CallCache | None = None
        self._is_read = True

    def begin(self, total: int | None) -> None:
        """Say how many instructions there are, where that is known."""
        self._write("started", run=str(self._output), instructions=total)

    def step(self, event: LoopEvent) -> None:
        """Say which step of which loop is done."""
        self._write(
            "step",
            id=event.trajectory_id,
            step=event.step,
            iteration=event.iteration,
            level=event.level,
        )

    def finished(self, trajectory: Trajectory) -> None:
        """Say how a loop ended and what its calls used."""
        about: dict[str, Any] = {"id": trajectory.id, "status": trajectory.status}
        if trajectory.error is not None:
            about["error"] = trajectory.error.model_dump(include={"step", "kind", "message"})
            self._write("failed", **about, tokens=self._tokens(trajectory.id))
            return
        stop = trajectory.stop.model_dump() if trajectory.stop else None
        about |= {"stop": stop, "grades": trajectory.grades, "flags": list(trajectory.flags)}
        self._write("finished", **about, tokens=self._tokens(trajectory.id))

    def end(self, tally: Tally, output: Path, error: ReflectoryError | None = None) -> None:
        """Say why it stopped, if it did, and the sums."""
        from reflectory.runs.manifest import Manifest

        if self._calls is not None:
            self._calls.close()
        if error is not None:
            self._write("stopped", kind=type(error).__name__, message=error.message)
        totals = None
        if (output / "manifest.json").is_file():
            totals = Manifest.load(output / "manifest.json").totals.model_dump(mode="json")
        self._write(
            "summary",
            done=tally.done,
            failed=tally.failed,
            interrupted=tally.interrupted,
            seconds=round(time.time() - self._began, 3),
            totals=totals,
        )

    def _tokens(self, trajectory_id: str) -> dict[str, int] | None:
        """Return what the calls of a loop used, where this folder has them."""
        from reflectory.runs.call_cache import CallCache
        from reflectory.runs.call_inspection import totals_of

        if self._calls is None:
            if not (self._output / "calls.sqlite").is_file():
                return None
            self._calls = CallCache(self._output / "calls.sqlite")
        used = totals_of(self._calls, trajectory_id)
        return {
            "calls": used.calls,
            "prompt": used.prompt_tokens,
            "reused": used.reused_tokens,
            "completion": used.completion_tokens,
        }

    def _write(self, event: str, **about: Any) -> None:
        line = json.dumps(
            {"event": event, "time": round(time.time(), 3), **about}, ensure_ascii=False
        )
        with self._lock:
            if not self._is_read:
                return
            try:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            except BrokenPipeError:
                self._is_read = False
                # Or Python complains when it empties its buffer at the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def summary_of(trajectory: Trajectory) -> dict[str, Any]:
    """Return what a machine wants to know of a trajectory."""
    return {
        "id": trajectory.id,
        "status": trajectory.status,
        "instruction": trajectory.instruction,
        "response": trajectory.response,
        "grades": trajectory.grades,
        "alignment": trajectory.alignment.to_dict(),
        "stop": trajectory.stop.model_dump() if trajectory.stop else None,
        "flags": [str(flag) for flag in trajectory.flags],
        "error": trajectory.error.message if trajectory.error else None,
    }
