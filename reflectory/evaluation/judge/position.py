"""Whether a judge of pairs looks at the answers or at the order in which they are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from reflectory.evaluation.judge.concurrency import bounded
from reflectory.evaluation.metrics.preference import PairJudge, Preference, prefer
from reflectory.types import Passage


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
        unreadable: Pairs that could not.
        changed: Share of pairs whose preference changes with the order; ``None`` without
            pairs, and for a judge for which order cannot matter.
        first: Share of the changes in favour of what is shown first; ``None`` without
            changes.
    """

    pairs: int
    unreadable: int
    changed: float | None
    first: float | None


async def position_of(
    judge: PairJudge, pairs: Sequence[Pair], *, concurrency: int = 64
) -> PositionReport:
    """Show every pair in both orders and count the preferences that change.

    Args:
        judge: Of pairs.
        pairs: What to show.
        concurrency: Most pairs at a time.
    """

    def call(pair: Pair) -> Callable[[], Awaitable[Preference]]:
        return lambda: prefer(judge, pair.question, pair.one, pair.two, pair.context)

    said = await bounded([call(pair) for pair in pairs], concurrency)
    read = [p for p in said if p.changed is not None]
    moved = [p for p in read if p.changed]
    return PositionReport(
        pairs=len(read),
        unreadable=sum(bool(p.failure) for p in said),
        changed=len(moved) / len(read) if read else None,
        first=sum(map(_favours_first, moved)) / len(moved) if moved else None,
    )


def _favours_first(preference: Preference) -> bool:
    """Return whether the place of a changed preference is the first one.

    Both verdicts name answers: the first answer was shown first in order, the second one
    when swapped. A tie in one order leaves the other one to decide.
    """
    points = {"first": 1, "tie": 0, "second": -1, None: 0}
    return points[preference.in_order] - points[preference.swapped] > 0
