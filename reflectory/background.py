"""The synchronous door: one event loop in a thread of its own.

There is one implementation of everything, and it is asynchronous. Called from
plain code or from a notebook cell (whose own event loop is busy running the
cell), the coroutine runs on this background loop while the caller waits.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from reflectory.errors import UserError

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


def _without_widgets() -> None:
    """Keep tqdm, which the models' libraries import, from asking a notebook for ipywidgets.

    It does so once, when it is first imported there; nothing of this package needs them.
    """
    if "ipykernel.zmqshell" in sys.modules:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")
            importlib.import_module("tqdm.auto")


class BackgroundLoop:
    """An event loop in a daemon thread, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(
        self, coroutine: Coroutine[Any, Any, T], *, on_interrupt: Callable[[], bool] | None = None
    ) -> T:
        """Run a coroutine to its end and return its result.

        A ``KeyboardInterrupt`` in the waiting thread cancels the coroutine and
        waits until it has cleaned up, so that what is finished is kept.

        Args:
            coroutine: What to run.
            on_interrupt: Called at a ``KeyboardInterrupt``; when it returns true the
                waiting goes on instead.

        Raises:
            UserError: Called on the background loop itself, where waiting
                would never end.
        """
        loop = self._running()
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise UserError(
                "a synchronous method was called from inside reflectory's event loop",
                hint="await the method of the same name with an 'a' before it (arun, amap)",
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        while True:
            try:
                return future.result()
            except KeyboardInterrupt:
                if on_interrupt is not None and on_interrupt():
                    continue
                future.cancel()
                _wait(future)
                raise

    def iterate(
        self, iterator: AsyncIterator[T], *, stop: Callable[[], None] | None = None
    ) -> Iterator[T]:
        """Yield what an asynchronous iterator yields; closing this one closes that one.

        Args:
            iterator: What to run.
            stop: Asks it to come to an end. Then the first ``KeyboardInterrupt`` while
                waiting calls it, the iterator is read to its end, and the
                interrupt is raised there; the second one cancels it.

        Raises:
            KeyboardInterrupt: At the end, when there was one while waiting.
        """
        interrupted = False

        def ask_once() -> bool:
            nonlocal interrupted
            if stop is None or interrupted:
                return False
            interrupted = True
            _LOG.warning("finishing what is in flight; interrupt again to stop at once")
            stop()
            return True

        try:
            while True:
                try:
                    yield self.run(_next(iterator), on_interrupt=ask_once)
                except StopAsyncIteration:
                    break
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                self.run(close())
        if interrupted:
            raise KeyboardInterrupt

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                _without_widgets()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="reflectory", daemon=True
                )
                self._thread.start()
            return self._loop


async def _next(iterator: AsyncIterator[T]) -> T:
    return await anext(iterator)


def _wait(future: Future[Any]) -> None:
    """Wait until a cancelled coroutine has ended; how it ended is of no interest."""
    wait([future], timeout=30)


BACKGROUND = BackgroundLoop()
"""The one loop of the process; models keep their futures on it."""
