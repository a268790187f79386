"""Ctrl-C and SIGTERM: the first one asks, the second one means it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ASKED = b"\nFinishing what is in flight and beginning nothing more; once more stops at once.\n"


class Asked(threading.Event):
    """Set when somebody has asked for an end.

    Attributes:
        shown: Whether a display says so; otherwise a line is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown = False


@contextmanager
def stopping_on_signals() -> Iterator[Asked]:
    """Set an event at the first SIGINT or SIGTERM of the block; raise at the second.

    Schedulers of clusters send SIGTERM some time before they kill. In another
    thread than the main one nothing is done, because signals arrive in that one only.

    Yields:
        The event that asks for an end.

    Raises:
        KeyboardInterrupt: There was a second signal.
    """
    asked = Asked()

    def handle(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        if not asked.shown:
            os.write(2, _ASKED)  # what was interrupted may be in the middle of a print

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before: dict[signal.Signals, Any] = {}
    for kind in (signal.SIGINT, signal.SIGTERM):
        before[kind] = signal.signal(kind, handle)
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, signal.SIG_DFL if handler is None else handler)
