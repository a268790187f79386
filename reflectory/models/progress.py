"""How far a download is: a callback, and two ways to show it to a person.

The library calls back and prints nothing; only :func:`rich_progress`, which
the command line uses, writes to the terminal.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Is told how far a piece of work is.

    Contract: may be called from any thread, often, and with the same numbers
    again; ``completed_bytes`` never falls within one description, and
    ``total_bytes`` is ``None`` where the size is unknown (a conversion).
    """

    def __call__(self, description: str, completed_bytes: int, total_bytes: int | None, /) -> None:
        """Note that ``completed_bytes`` of ``total_bytes`` are done."""
        ...


def silent(description: str, completed_bytes: int, total_bytes: int | None, /) -> None:
    """Show nothing; the default wherever a :class:`Progress` is accepted."""


@contextmanager
def watch_folder(
    folder: Path, description: str, total_bytes: int, progress: Progress, every_s: float = 0.2
) -> Iterator[None]:
    """Report the bytes that grow in a folder, whoever writes them.

    pip and the hub's client report in ways that differ between their versions,
    while the files they write are seen the same way always.

    Args:
        folder: Where the files appear, in sub-folders too.
        description: What is being loaded, for people.
        total_bytes: The known size, at which the report is capped: a file may
            lie there twice for a moment while it is copied.
        progress: Who is told.
        every_s: Seconds between two looks.
    """
    done = threading.Event()
    best = 0

    def look() -> None:
        nonlocal best
        best = max(best, min(bytes_in(folder), total_bytes))
        progress(description, best, total_bytes)

    def keep_looking() -> None:
        while not done.wait(every_s):
            look()

    progress(description, 0, total_bytes)
    thread = threading.Thread(target=keep_looking, daemon=True)
    thread.start()
    try:
        yield
        look()
    finally:
        done.set()
        thread.join()


def bytes_in(folder: Path) -> int:
    """Return the size of all files under ``folder``; files that vanish meanwhile count as 0."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # It was moved or removed between the listing and this look.
    return total


@contextmanager
def rich_progress() -> Iterator[Progress]:
    """Yield a :class:`Progress` that draws bars on stderr, or lines where it is no terminal."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    tasks: dict[str, TaskID] = {}
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:

        def show(description: str, completed_bytes: int, total_bytes: int | None, /) -> None:
            if description not in tasks:
                tasks[description] = bars.add_task(description, total=total_bytes)
            bars.update(tasks[description], completed=completed_bytes, total=total_bytes)

        yield show


class _Lines:
    """Writes a line per description, and one per tenth of its bytes."""

    def __init__(self) -> None:
        self._shown: dict[str, int] = {}

    def __call__(self, description: str, completed_bytes: int, total_bytes: int | None, /) -> None:
        tenth = 10 * completed_bytes // total_bytes if total_bytes else 0
        if self._shown.get(description, -1) >= tenth:
            return
        self._shown[description] = tenth
        size = f" {completed_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB" if total_bytes else ""
        sys.stderr.write(f"{description}{size}\n")
        sys.stderr.flush()
