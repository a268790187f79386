"""Whether a judge of pairs looks at the answers or at the order in which they are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from reflectory.errors import OutputError
from reflectory.types import Passage

Choice = Literal["first", "second", "tie"]
T = TypeVar("T")


@runtime_checkable
class PairwiseJudge(Protocol):
    """Says which of two answers is better.

    Contract: ``choose`` is asked in one order and must not swap by itself; it may be called
    many times at once, and raises :class:`~reflectory.errors.OutputError` when a model's
    verdict cannot be read.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of what judges."""
        ...

    async def choose(
        self, question: str, first: str, second: str, context: Sequence[Passage]
    ) -> Choice:
        """Return which of the two answers is better, or that neither is."""
        ...


class Pair(NamedTuple):
    """Two answers to one question."""

    question: str
    one: str
    two: str
    context: tuple[Passage, ...]


class PositionReport(NamedTuple):
    """What changing the order did.

    Attributes:
        pairs: Pairs that could be read in both orders.
        unreadable: Judgements that could not be read.
        changed: Share of pairs whose preference changes with the order; ``None`` without
            pairs.
        first: Share of the changes in favour of what is shown first, ties counting half;
            ``None`` without changes.
    """

    pairs: int
    unreadable: int
    changed: float | None
    first: float | None


async def position_of(
    judge: PairwiseJudge, pairs: Sequence[Pair], *, concurrency: int = 64
) -> PositionReport:
    """Show every pair in both orders and count the preferences that change.

    Args:
        judge: Of pairs.
        pairs: What to show.
        concurrency: Most judgements at a time.
    """

    async def one(pair: Pair, swapped: bool) -> Choice | None:
        first, second = (pair.two, pair.one) if swapped else (pair.one, pair.two)
        try:
            return await judge.choose(pair.question, first, second, pair.context)
        except OutputError:
            return None

    asked = [(pair, swapped) for pair in pairs for swapped in (False, True)]
    said = await bounded([_call(one, pair, swapped) for pair, swapped in asked], concurrency)
    both = list(zip(said[::2], said[1::2], strict=True))
    readable = [(a, b) for a, b in both if a is not None and b is not None]
    points = {"first": 1.0, "tie": 0.5, "second": 0.0}
    # The same answer wins in both orders when one says "first" and the other "second".
    moved = [(points[a], points[b]) for a, b in readable if points[a] + points[b] != 1.0]
    towards = [1.0 if a + b > 1.0 else 0.0 for a, b in moved]
    return PositionReport(
        pairs=len(readable),
        unreadable=sum(choice is None for choice in said),
        changed=len(moved) / len(readable) if readable else None,
        first=sum(towards) / len(towards) if towards else None,
    )


def _call(
    function: Callable[[Pair, bool], Awaitable[Choice | None]], pair: Pair, swapped: bool
) -> Callable[[], Awaitable[Choice | None]]:
    return lambda: function(pair, swapped)


async def bounded(calls: Sequence[Callable[[], Awaitable[T]]], concurrency: int) -> list[T]:
    """Return what the calls return, in order, with at most so many of them at a time.

    When one raises, the others are cancelled and awaited.
    """
    gate = asyncio.Semaphore(max(1, concurrency))

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await call()

    tasks = [asyncio.ensure_future(one(call)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
