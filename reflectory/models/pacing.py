"""Limits on requests and tokens per minute, kept by a window that slides.

A bucket that fills up steadily would let twice its size through within a
minute. Here every request is remembered until it is certain that the server's
own minute no longer holds it, so no window of a minute, wherever it begins,
has more than the limit.
"""

from __future__ import annotations

import heapq
import itertools
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

WINDOW_S = 60.0
_LAG_S = 1.0
"""A request that is not answered yet is taken to have arrived within this time."""

_LIMIT_HEADERS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    *(
        (f"anthropic-ratelimit-{kind}-remaining", f"anthropic-ratelimit-{kind}-reset")
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")


class Departure:
    """A request that was let through.

    Attributes:
        sent: When, on the pacer's clock.
        tokens: What it counts as.
        expires: When it no longer counts.
    """

    __slots__ = ("expires", "sent", "tokens")

    def __init__(self, sent: float, tokens: int, expires: float) -> None:
        self.sent = sent
        self.tokens = tokens
        self.expires = expires


class Pacer:
    """Says when the next request may go, and remembers those that went.

    Whoever asks ``wait_s`` and calls ``start`` must be alone between the two;
    the other methods may be called from any thread at any time.

    Args:
        requests: Most requests in any window, at least 1; ``None`` for no limit.
        tokens: Most tokens in any window, at least 1; ``None`` for no limit. A request
            that is larger than that goes when no other one is in the window.
        window_s: Length of the window in seconds.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        requests: int | None = None,
        tokens: int | None = None,
        *,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_requests = requests
        self._most_tokens = tokens
        self._window_s = window_s
        self._clock = clock
        self._lock = threading.Lock()
        self._number = itertools.count()
        # Entries whose time is not that of their departure are out of date.
        self._leaving: list[tuple[float, int, Departure]] = []
        self._requests = 0
        self._tokens = 0
        self._held_until = -float("inf")

    def wait_s(self, tokens: int) -> float:
        """Return how long a request must wait at least; 0 lets it go now.

        After the wait it has to ask again: it may still be too early.
        """
        with self._lock:
            now = self._clock()
            held = max(0.0, self._held_until - now)
            self._forget(now)
            full = (self._most_requests is not None and self._requests >= self._most_requests) or (
                self._most_tokens is not None
                and self._requests > 0
                and self._tokens + tokens > self._most_tokens
            )
            return max(held, self._leaving[0][0] - now) if full else held

    @property
    def held_s(self) -> float:
        """Seconds for which the server wants no request."""
        return max(0.0, self._held_until - self._clock())

    def start(self, tokens: int) -> Departure:
        """Remember a request that goes now."""
        with self._lock:
            now = self._clock()
            departure = Departure(now, tokens, now + _LAG_S + self._window_s)
            if self._most_requests is not None or self._most_tokens is not None:
                self._requests += 1
                self._tokens += tokens
                self._push(departure)
            return departure

    def settle(self, departure: Departure, tokens: int | None = None) -> None:
        """Note that a request was answered, and what it used if that is known."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            if departure.expires <= now or not self._leaving:
                return
            if tokens is not None:
                self._tokens += tokens - departure.tokens
                departure.tokens = tokens
            arrived = min(now, departure.sent + _LAG_S)
            if arrived + self._window_s < departure.expires:
                departure.expires = arrived + self._window_s
                self._push(departure)

    def hold(self, seconds: float) -> float:
        """Let nothing through for so long; return by how many seconds that is longer than before.

        Args:
            seconds: From now; a hold that ends later already stays.
        """
        with self._lock:
            now = self._clock()
            before = max(self._held_until, now)
            self._held_until = max(before, now + seconds)
            return self._held_until - before

    def release(self) -> None:
        """End a hold."""
        with self._lock:
            self._held_until = -float("inf")

    def _push(self, departure: Departure) -> None:
        heapq.heappush(self._leaving, (departure.expires, next(self._number), departure))

    def _forget(self, now: float) -> None:
        """Drop the requests that have left the window, and entries that are out of date."""
        while self._leaving:
            expires, _, departure = self._leaving[0]
            current = departure.expires == expires
            if current and expires > now:
                return
            heapq.heappop(self._leaving)
            if current:
                self._requests -= 1
                self._tokens -= departure.tokens


def exhausted_for_s(headers: Mapping[str, Any], *, now: datetime | None = None) -> float:
    """Return the seconds until a server lets anything through again, by its headers.

    Args:
        headers: Of a response, names in lower case; OpenAI's names, which others use too
            (``x-ratelimit-remaining-requests``, ``x-ratelimit-reset-requests`` with a
            duration), or Anthropic's (``anthropic-ratelimit-requests-remaining``,
            ``anthropic-ratelimit-requests-reset`` with a moment).
        now: What moments are counted from, with a time zone.

    Returns:
        0 unless the server says that nothing remains, and for how long.
    """
    longest = 0.0
    for remaining, reset in _LIMIT_HEADERS:
        if str(headers.get(remaining, "")).strip() == "0":
            said = str(headers.get(reset, ""))
            longest = max(longest, _seconds(said) or _seconds_until(said, now))
    return longest


def _seconds(text: str) -> float:
    """Return the seconds of ``1h2m``, ``6m0s``, ``120ms`` or a plain number; 0 for others."""
    text = text.strip()
    found = _DURATION.fullmatch(text)
    try:
        if found is None or not text:
            return max(0.0, min(float(text), 86_400.0))
        parts = [float(part) if part else 0.0 for part in found.groups()]
    except ValueError:
        return 0.0
    return sum(p * s for p, s in zip(parts, (3600.0, 60.0, 1.0, 0.001), strict=True))


def _seconds_until(text: str, now: datetime | None) -> float:
    """Return the seconds until a moment such as ``2026-01-31T12:00:00Z``; 0 for what is none."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, min(seconds, 86_400.0))
