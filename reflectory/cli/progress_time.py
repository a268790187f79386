"""How fast it goes, how long it will still take by what is finished, and durations in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_MOST_OF_A_LOOP = 0.95
"""A loop in the making counts as at most so much of a finished one."""
_WINDOW_S = 20.0
"""Rates are means over so long."""
_SHORTEST_S = 2.0
"""A mean over less says nothing."""


class Work:
    """Estimates the time left from the work that one session has done.

    A loop in the making counts by its nodes: as the share that it has of what finished
    loops needed on the average, so those that converge early teach the estimate, too. The
    last loops run beside fewer others, so it is at least what one of them takes by itself.
    Before anything is finished there is no estimate.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._finished = 0
        self._nodes = 0
        self._seconds = 0.0

    def begin(self, now: float) -> None:
        """Note that work begins at ``now``; the first time counts."""
        if self._began is None:
            self._began = now

    def finish(self, now: float, nodes: int = 0, seconds: float = 0.0) -> None:
        """Note that a piece is finished.

        Args:
            now: Seconds of the clock.
            nodes: How many nodes it took; 0 when that is not known.
            seconds: How long it took; 0 when that is not known.
        """
        self.begin(now)
        self._finished += 1
        self._nodes += nodes
        self._seconds += seconds

    def left(self, now: float, pieces: int | None, running: Sequence[int]) -> float | None:
        """Return the seconds left, or ``None`` when nothing can be said.

        Args:
            now: Seconds of the clock.
            pieces: How many are not finished, those in the making included; ``None`` when
                nobody knows.
            running: Nodes of each piece in the making.
        """
        if pieces is None or not self._finished or self._began is None:
            return None
        elapsed = now - self._began
        if elapsed <= 0.0:
            return None
        mean = self._nodes / self._finished
        shares = [min(n / mean, _MOST_OF_A_LOOP) for n in running] if mean else []
        begun = sum(shares)
        rest = max(0.0, pieces - begun) * elapsed / (self._finished + begun)
        # The one that is furthest from its end, or one that has not begun.
        least = min(shares, default=0.0) if pieces <= len(running) else 0.0
        alone = (1.0 - least) * self._seconds / self._finished if pieces else 0.0
        return max(rest, alone)


class Rates:
    """Tokens read and written per second, as means over the last while."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def at(self, now: float, read: int, written: int) -> tuple[float | None, float | None]:
        """Note two counts and return their rates, ``None`` as long as too little was seen.

        Args:
            now: Seconds of the clock.
            read: Tokens read so far.
            written: Tokens written so far.
        """
        seen = self._seen
        seen.append((now, read, written))
        while len(seen) > 2 and seen[1][0] <= now - _WINDOW_S:
            seen.popleft()
        then, read_then, written_then = seen[0]
        seconds = now - then
        if seconds < _SHORTEST_S:
            return None, None
        return (read - read_then) / seconds, (written - written_then) / seconds


def clock(seconds: float) -> str:
    """Return a duration as on a stopwatch: ``0:07``, ``12:40``, ``3:05:10``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def about(seconds: float) -> str:
    """Return a duration as it is guessed: ``40 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    if seconds < 10:
        return "10 s"
    if seconds < 90:
        return f"{round(seconds, -1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
