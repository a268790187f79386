"""A run that a test holds up, so that it depends on nobody's speed.

A file beside the log of calls, named as it with ``.hold``, has a number in it: calls after so
many wait until the file is gone. What is held up cannot end before the test kills or stops it,
however late the test comes.
"""

import asyncio
from contextlib import contextmanager
from pathlib import Path


async def wait_while_held(log: Path) -> None:
    """Wait if more calls have been written to the log than are let through."""
    while _most(log) < _count(log):  # noqa: ASYNC110 - another process takes the file away
        await asyncio.sleep(0.01)


@contextmanager
def held(log: Path, calls: int):
    """Let so many calls through, and the others at the end of the block."""
    file = _hold(log)
    file.write_text(str(calls), encoding="utf-8")
    try:
        yield
    finally:
        file.unlink()


def _hold(log: Path) -> Path:
    return log.with_suffix(".hold")


def _most(log: Path) -> float:
    try:
        return int(_hold(log).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return float("inf")


def _count(log: Path) -> int:
    return log.read_bytes().count(b"\n")
