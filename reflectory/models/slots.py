"""A bound on how many calls run at once, whatever event loop each of them is on."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Self


class Slots:
    """As many places as were asked for, given out in the order of asking.

    An asyncio.Semaphore belongs to one event loop; a model may be called from
    several, one after the other or at the same time, and its bound holds for
    all of them together. Used with ``async with``.

    Args:
        count: Most holders at once, at least 1.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._free:
                self._free -= 1
                return self
            place = loop.create_future()
            self._waiting.append((loop, place))
        try:
            await place
        except asyncio.CancelledError:
            with self._lock:
                given = (loop, place) not in self._waiting
                if not given:
                    self._waiting.remove((loop, place))
            if given:  # The place came while this call was being cancelled.
                self._release()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        """Give the place to whoever has waited longest, or back."""
        with self._lock:
            while self._waiting:
                loop, place = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_fill, place)
                except RuntimeError:
                    continue  # That loop was closed with the call still waiting.
                return
            self._free += 1


def _fill(place: asyncio.Future[None]) -> None:
    if not place.done():  # Else it was cancelled, and its call gives the place on.
        place.set_result(None)
