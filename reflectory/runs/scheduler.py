"""Many loops at the same time on this machine, a bounded number of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from reflectory.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_many(
    items: AsyncIterable[Item] | Iterable[Item],
    worker: Callable[[Item], Awaitable[Result]],
    *,
    concurrency: int,
) -> AsyncGenerator[Result, None]:
    """Give each item to ``worker``, several at a time, and yield results as they finish.

    The input is read only as far as there is room, and a result that was not
    taken yet takes up room too, so a million items need no more memory than
    ``concurrency`` of them, and a slow reader slows the workers down.

    A worker records the failures it expects in what it returns. An exception
    ends everything: the results that are there are yielded, the other workers
    are cancelled and waited for, and then it is raised. So it is when the
    reader stops early, which takes ``aclose`` (or ``contextlib.aclosing``)
    because leaving an ``async for`` closes nothing by itself.

    Args:
        items: What to work on; an iterator that blocks holds up all workers.
        worker: Called once per item, in the order of the input.
        concurrency: Most workers at the same time, at least 1.

    Yields:
        Results in the order in which they finish.

    Raises:
        UserError: ``concurrency`` is below 1.
    """
    if concurrency < 1:
        raise UserError(
            f"concurrency must be at least 1, got {concurrency}", hint="1 runs one at a time"
        )
    return _run(items, worker, concurrency)


async def _run(
    items: AsyncIterable[Item] | Iterable[Item],
    worker: Callable[[Item], Awaitable[Result]],
    concurrency: int,
) -> AsyncGenerator[Result, None]:
    source = _read(items)
    running: dict[asyncio.Task[Result], None] = {}  # a set that keeps the order of starting
    ready: deque[Result] = deque()
    # Reading is a task like the others: a source that makes us wait for its next
    # item must not hold back results that are there.
    reading: asyncio.Task[Item] | None = None
    exhausted = False

    async def work(item: Item) -> Result:
        return await worker(item)

    try:
        while True:
            if reading is None and not exhausted and len(running) + len(ready) < concurrency:
                reading = asyncio.create_task(_next(source))
            if ready:
                yield ready.popleft()
                continue
            waiting: list[asyncio.Task[Any]] = [*running]
            if reading is not None:
                waiting.append(reading)
            if not waiting:
                return
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            failed = [task for task in waiting if task in done and _has_failed(task)]
            finished = [task for task in running if task in done]
            ready.extend(task.result() for task in finished if task not in failed)
            for task in finished:
                del running[task]
            if failed:
                # What succeeded is handed over before what failed ends everything.
                while ready:
                    yield ready.popleft()
                failed[0].result()
            if reading is not None and reading in done:
                exhausted = reading.exception() is not None
                if not exhausted:
                    running[asyncio.create_task(work(reading.result()))] = None
                reading = None
    finally:
        left: list[asyncio.Task[Any]] = [*running]
        if reading is not None:
            left.append(reading)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await source.aclose()


class _ExhaustedError(Exception):
    """The source has no more items; a task may not raise StopAsyncIteration itself."""


def _has_failed(task: asyncio.Task[Any]) -> bool:
    """Return whether a finished task was cancelled or raised, other than at the source's end."""
    if task.cancelled():
        return True
    error = task.exception()
    return error is not None and not isinstance(error, _ExhaustedError)


async def _next(source: AsyncGenerator[Item, None]) -> Item:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise _ExhaustedError from None


async def _read(items: AsyncIterable[Item] | Iterable[Item]) -> AsyncGenerator[Item, None]:
    """Yield the items of either kind of iterable."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
