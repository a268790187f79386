"""What the verbs share: consoles, progress, and the loop from options or a file.

Everything for people goes to standard error, so that standard output holds
the result alone and ``--json`` can be piped.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from reflectory.config import RunConfig
    from reflectory.driver import LoopEvent
    from reflectory.loop import ReflectiveLoop

ConfigOption = Annotated[Path | None, typer.Option("-c", "--config", help="YAML configuration.")]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""

err = Console(stderr=True)
"""For people: progress, messages and errors."""
out = Console(soft_wrap=False)
"""For results."""


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    sys.stdout.flush()


class LoopProgress:
    """Shows which loop is where: one bar over all steps of all loops.

    Args:
        progress: The display.
        loops: Number of loops, when known.
        levels: k.
        iterations: T; a loop that stops earlier jumps to its end.
    """

    def __init__(self, progress: Progress, loops: int | None, levels: int, iterations: int) -> None:
        self._progress = progress
        self._per_loop = 4 + iterations * (4 * levels + 3) + 1
        total = None if loops is None else loops * self._per_loop
        self._task = progress.add_task("starting", total=total)
        self._steps: Counter[str] = Counter()

    def on_event(self, event: LoopEvent) -> None:
        """Count a finished step and say what it was."""
        self._steps[event.trajectory_id] += 1
        where = "" if event.iteration is None else f" t={event.iteration}"
        level = "" if event.level is None else f" {event.level}"
        self._progress.update(self._task, advance=1, description=f"{event.step}{where}{level}")

    def finish(self, trajectory_id: str) -> None:
        """Count the steps that a loop did not need."""
        left = self._per_loop - self._steps.pop(trajectory_id, 0)
        self._progress.update(self._task, advance=left)


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Progress]:
    """Show a progress display on standard error while the block runs.

    Where standard error is no terminal, nothing is drawn; the verbs print
    plain lines of their own there.
    """
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", justify="left"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=quiet or not err.is_terminal,
    ) as progress:
        yield progress


def loop_from(config: RunConfig) -> ReflectiveLoop:
    """Return the loop that a configuration describes; nothing is loaded yet."""
    from reflectory.loop import ReflectiveLoop

    return ReflectiveLoop(
        documents=list(config.documents),
        teacher=config.teacher,
        student=config.student,
        config=config.loop,
        embedder=config.embedder,
        teacher_adapter=config.teacher_adapter,
        student_adapter=config.student_adapter,
        device=config.device,
        dtype=config.dtype,
        remote=config.remote,
    )


def config_from(path: Path | None, changes: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a file with the options of the command line over it.

    Args:
        path: YAML file, or ``None`` for the defaults.
        changes: Values by dotted field (``loop.epsilon``); ``None`` is "not given".

    Raises:
        UserError: The file cannot be read.
        ConfigError: With every problem of file and options together.
    """
    from reflectory.config import RunConfig

    base = RunConfig() if path is None else RunConfig.load(path)
    data = base.model_dump(mode="json")
    for name, value in changes.items():
        if value is None:
            continue
        *parents, field = name.split(".")
        place = data
        for parent in parents:
            place = place[parent]
        place[field] = value
    return RunConfig.from_dict(data, source="options" if path is None else str(path))
