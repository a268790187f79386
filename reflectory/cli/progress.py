"""The progress of the long verbs: a live view, plain lines, or nothing.

A terminal gets a view that is drawn anew in place; what is no terminal, and a dumb one,
gets a line every so often and no control characters. Drawing has a thread of its own and
takes at most a fiftieth of its time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleRenderable
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType

from reflectory.cli.common import err
from reflectory.cli.progress_activity import Activity
from reflectory.cli.progress_time import clock
from reflectory.cli.progress_view import ProgressView
from reflectory.cli.progress_words import progress_line
from reflectory.observability.listening import listened_by
from reflectory.report.terminal import plain

if TYPE_CHECKING:
    from reflectory.cli.interrupts import Asked

_EVERY_S = 0.25
"""Least time between two drawings."""
_SHARE = 50
"""Drawing takes at most one part in so many of the time."""
_LINES_FROM_S, _LINES_TO_S = 5.0, 300.0
"""Time between two plain lines: at the beginning, and at most."""


def _terminal_may_be_gone() -> AbstractContextManager[None]:
    """Let a run go on whose terminal was closed, as ``nohup`` allows."""
    return suppress(OSError)


class Display:
    """Shows an activity while a verb works. This one shows nothing, for ``--quiet``.

    Args:
        activity: What is shown.

    Attributes:
        activity: The same; verbs tell it what no listener hears.
    """

    def __init__(self, activity: Activity) -> None:
        self.activity = activity

    def stage(self, text: str) -> None:
        """Say that something else begins."""
        self.activity.begin_stage()

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""

    def start(self) -> None:
        """Begin to show."""

    def stop(self) -> None:
        """Show no more, and leave the terminal as it was."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else, who asks a question there."""
        self.stop()
        try:
            yield
        finally:
            self.start()


class _Ticking(Display):
    """Does something again and again, in a thread of its own."""

    def __init__(self, activity: Activity, console: Console) -> None:
        super().__init__(activity)
        self.console = console
        self._enough: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def stage(self, text: str) -> None:
        super().stage(text)
        self.note(f"[{clock(self.activity.snapshot().seconds)}] {text}")

    def note(self, text: str) -> None:
        with _terminal_may_be_gone():
            self.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    def start(self) -> None:
        self._enough = threading.Event()
        self._thread = threading.Thread(
            target=self._tick, args=(self._enough,), name="progress", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        if self._enough is None or self._thread is None:
            return
        self._enough.set()
        self._thread.join()
        self._enough = self._thread = None

    def _tick(self, enough: threading.Event) -> None:
        pause = _EVERY_S
        while not enough.wait(pause):
            began = time.thread_time()
            with _terminal_may_be_gone():
                self.show()
            pause = max(_EVERY_S, _SHARE * (time.thread_time() - began))

    def show(self) -> None:
        """Show how things stand."""


class LiveDisplay(_Ticking):
    """Draws the view in place.

    Args:
        activity: What is shown.
        console: A terminal.
    """

    def __init__(self, activity: Activity, console: Console) -> None:
        super().__init__(activity, console)
        self._view = ProgressView(activity.snapshot)
        self._live: _Live | None = None

    def start(self) -> None:
        """Draw the view for the first time."""
        self._live = _Live(self._view, self.console)
        with _terminal_may_be_gone():
            self._live.start(refresh=True)
        super().start()

    def stop(self) -> None:
        """Take the view away, and let the cursor be seen again."""
        super().stop()
        if self._live is not None:
            with _terminal_may_be_gone():
                self._live.stop()
            self._live = None

    def show(self) -> None:
        """Draw the view anew."""
        if self._live is not None:
            self._live.refresh()


class LinesDisplay(_Ticking):
    """Writes a line now and then: soon at the beginning, ever more seldom later.

    Args:
        activity: What is shown.
        console: Where to.
        clock: Seconds that only grow; for tests.
    """

    def __init__(
        self, activity: Activity, console: Console, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(activity, console)
        self._clock = clock
        self._began = self._due = clock()
        self._said = ""
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Write how it stands at the end."""
        super().stop()
        self.say()

    def show(self) -> None:
        """Write a line if it is time for one."""
        now = self._clock()
        if now < self._due:
            return
        pause = min(_LINES_TO_S, max(_LINES_FROM_S, (now - self._began) / 20))
        if self.say():
            self._due = now + pause

    def say(self) -> bool:
        """Write the line of this moment, if it tells of anything new."""
        snapshot = self.activity.snapshot()
        line = progress_line(snapshot)
        with self._lock:
            if not line or line == self._said:
                return False
            self._said = line
        self.note(f"[{clock(snapshot.seconds)}] {line}")
        return True


class _Live(Live):
    """Rich's live display, drawn only when it is told to, that survives a narrower terminal."""

    def __init__(self, view: ProgressView, console: Console) -> None:
        super().__init__(
            view,
            console=console,
            auto_refresh=False,
            transient=True,
            # Standard output may be a file, and stays one.
            redirect_stdout=sys.stdout.isatty(),
            vertical_overflow="crop",
        )
        self._view = view
        self._width = console.width

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return what is printed, with what was drawn before taken away first."""
        width = self.console.width
        rows = self._view.rows_at(width)
        found = super().process_renderables(renderables)
        if width < self._width and rows:
            # The terminal has wrapped the lines anew, so they take more rows than rich knows.
            found = [_erased(rows), *found[1:]]
        self._width = width
        return found


def _erased(rows: int) -> Control:
    """Return what takes away so many rows, from the one with the cursor upwards."""
    line = (ControlType.ERASE_IN_LINE, 2)
    above = ((ControlType.CURSOR_UP, 1), line) * (rows - 1)
    return Control(ControlType.CARRIAGE_RETURN, line, *above)


def is_live(console: Console) -> bool:
    """Return whether a console is a terminal on which lines can be drawn anew."""
    # Rich takes a file for a terminal where FORCE_COLOR is set, as in many a CI.
    is_terminal = console.file.isatty() and console.is_terminal
    return is_terminal and console.is_interactive and not console.is_dumb_terminal


def is_a_terminal(file: Path) -> bool:
    """Return whether a file is a terminal, as ``/dev/stderr`` may be one.

    Whoever writes there does not know what a view has drawn, and each would spoil the other.
    """
    try:
        if not file.is_char_device():  # opening a pipe might wait for ever
            return False
        with file.open("rb") as opened:
            return opened.isatty()
    except OSError:
        return False


@contextmanager
def showing(
    *,
    quiet: bool = False,
    lines: bool = False,
    asked: Asked | None = None,
    console: Console = err,
) -> Iterator[Display]:
    """Show on standard error what the block does.

    Args:
        quiet: Show nothing, and listen to nothing.
        lines: Write lines on a terminal, too.
        asked: Set when somebody asks for an end; a live view says so itself.
        console: Where to.
    """
    if quiet:
        yield Display(Activity())
        return
    activity = Activity(asked=asked)
    display: _Ticking
    live = is_live(console) and not lines
    display = LiveDisplay(activity, console) if live else LinesDisplay(activity, console)
    with listened_by(activity):
        if asked is not None:
            asked.shown = live
        display.start()
        try:
            yield display
        finally:
            display.stop()
            if asked is not None:
                asked.shown = False
