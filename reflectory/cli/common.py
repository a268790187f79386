"""What the verbs share: consoles, progress, and the loop from options or a file.

Everything for people goes to standard error, so that standard output holds
the result alone and ``--json`` can be piped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from reflectory.loop import ReflectiveLoop

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


def config_from(
    path: Path | None, changes: Mapping[str, Any], overrides: Iterable[str] | None = None
) -> RunConfig:
    """Return the configuration of a file with the options of the command line over it.

    Args:
        path: YAML file, or ``None`` for the defaults.
        changes: Values by dotted field (``loop.epsilon``); ``None`` is "not given".
        overrides: ``FIELD=VALUE`` of ``--override``; they have the last word.

    Raises:
        UserError: The file cannot be read, or an override is none.
        ConfigError: With every problem of file and options together.
    """
    from reflectory.cli.overrides import override
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
    override(data, overrides or ())
    return RunConfig.from_dict(data, source="options" if path is None else str(path))
