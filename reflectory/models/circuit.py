"""A server that fails again and again is left alone until it answers again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from reflectory.errors import BackendError, ServerUnavailable

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
"""Waits double up to this."""


class Circuit:
    """Counts failures in a row, and opens: then one call at a time tries the server.

    While it is closed everybody calls. After ``pause_after`` failures in a row it
    is open: whoever calls waits for ``wait_s`` first, and only one does (which is
    for the caller to see to). An answer, of whatever content, closes it.

    An outage whose waits and tries come to more than ``longest_pause_s`` ends in
    :class:`~reflectory.errors.ServerUnavailable`, for everybody who was there. Who
    calls after that finds it closed.

    May be used from any thread.

    Args:
        name: Of the model, for messages.
        pause_after: Failures in a row that open it, at least 1.
        backoff_s: Wait before the first try; doubled after each that fails.
        longest_pause_s: Most seconds without an answer.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        *,
        pause_after: int,
        backoff_s: float,
        longest_pause_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._pause_after = pause_after
        self._backoff_s = backoff_s
        self._longest_pause_s = longest_pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._paused_s = 0.0
        self._next_try = 0.0
        self._tries = 0
        self._open = False
        self._outage = 0
        self._given_up: tuple[int, str] = (-1, "")

    @property
    def is_open(self) -> bool:
        """Whether the server is left alone but for one call at a time."""
        return self._open

    @property
    def outage(self) -> int:
        """Number of outages that were given up so far; who calls notes it for :meth:`check`."""
        return self._outage

    def check(self, outage: int) -> None:
        """Stop a call that was waiting when an outage was given up.

        Raises:
            ServerUnavailable: So it is.
        """
        given_up, said = self._given_up
        if outage <= given_up:
            raise self._unavailable(said)

    @property
    def wait_s(self) -> float:
        """Seconds until the server may be tried; 0 while closed."""
        return max(0.0, self._next_try - self._clock()) if self._open else 0.0

    def answered(self) -> None:
        """Note that the server has answered, be it that a request is wrong."""
        with self._lock:
            if self._open:
                logger.warning("%s answers again; the run goes on", self._name)
            self._close()
            self._paused_s = 0.0

    def refused(self) -> None:
        """Note that the server is there, though it wants no calls now."""
        with self._lock:
            self._close()

    def pause(self, seconds: float, error: BackendError) -> None:
        """Note that everybody waits, because the server asked for it.

        Args:
            seconds: How long, beyond what was noted before.
            error: What it said.

        Raises:
            ServerUnavailable: There was no answer for too long, or would be.
        """
        with self._lock:
            self._pause(seconds, error)

    def failed(self, error: BackendError, *, tried: bool = False, took_s: float = 0.0) -> None:
        """Note that a call failed at the server's side.

        Args:
            error: What was raised.
            tried: Whether it was the one call that tried an open circuit; others were
                on their way when it opened, and say nothing new.
            took_s: How long the try took.

        Raises:
            ServerUnavailable: There was no answer for too long.
        """
        with self._lock:
            self._failures += 1
            if self._open:
                if not tried:
                    return
                self._tries += 1
            elif self._failures < self._pause_after:
                return
            else:
                self._open = True
            wait = min(self._backoff_s * 2.0 ** min(self._tries, 60), LONGEST_WAIT_S)
            self._pause(wait + (took_s if tried else 0.0), error)
            self._next_try = self._clock() + wait
            logger.warning(
                "%s failed %d times in a row and is paused; next try in %.1f s (%s)",
                self._name,
                self._failures,
                wait,
                error.message,
            )

    def _close(self) -> None:
        self._failures = self._tries = 0
        self._open = False

    def _pause(self, seconds: float, error: BackendError) -> None:
        """Add to the pauses of this outage, or give it up."""
        self._paused_s += seconds
        if self._paused_s <= self._longest_pause_s:
            return
        self._given_up = (self._outage, error.message)
        self._outage += 1
        self._paused_s = 0.0
        self._close()
        raise self._unavailable(error.message)

    def _unavailable(self, said: str) -> ServerUnavailable:
        return ServerUnavailable(
            f"{self._name} gives no answer, and remote.longest_pause_s "
            f"({self._longest_pause_s:g} s) is over; it last said: {said}",
            hint="the same command goes on where this run stopped, when the server is back",
        )
