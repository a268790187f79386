"""Which of two answers is better, asked in both orders, and the win rate that follows.

A judge that sees two answers may prefer a place and not an answer (Zheng et al. 2023,
arXiv:2306.05685). So it is asked twice, with the answers swapped, and only a preference that
survives the swap counts. What could not be read is a failure and no tie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from reflectory.errors import OutputError, UserError
from reflectory.types import Passage, Record

Verdict = Literal["first", "second", "tie"]
"""Which answer is better."""

_SWAPPED: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie"}


@runtime_checkable
class PairJudge(Protocol):
    """Compares two answers to one question.

    Contract: ``choose`` may be called many times at once, returns the same for the same
    arguments, never sees a reference answer, and raises
    :class:`~reflectory.errors.OutputError` when its verdict cannot be read. The default
    judges are in :mod:`reflectory.evaluation.metrics.pair_judges`.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of what judges, for records."""
        ...

    @property
    def ordered(self) -> bool:
        """Whether the order in which answers are shown could matter."""
        ...

    async def choose(
        self, question: str, first: str, second: str, context: Sequence[Passage]
    ) -> Verdict:
        """Return which of two answers is better, as they are shown.

        Args:
            question: What was asked.
            first: The answer that is shown first.
            second: The other one.
            context: Passages, in the order in which they are shown.
        """
        ...


class Preference(Record):
    """What a judge says of two answers.

    Attributes:
        winner: The better answer; ``tie`` where the judge sees no difference or its preference
            did not survive the swap; ``None`` where it could not be read.
        in_order: What it said with the first answer shown first; ``None`` when not asked or
            not readable.
        swapped: What it said with the second answer shown first, named by answer and not by
            place; ``None`` when not asked or not readable.
        failure: Why there is no winner, with what the judge said.
    """

    winner: Verdict | None
    in_order: Verdict | None = None
    swapped: Verdict | None = None
    failure: str = ""

    @property
    def changed(self) -> bool | None:
        """Whether the order changed the verdict; ``None`` when it was not asked in both."""
        if self.in_order is None or self.swapped is None:
            return None
        return self.in_order != self.swapped


class WinRate(Record):
    """The first answers of many pairs against the second ones.

    Attributes:
        rate: Wins and half of the ties, divided by the pairs that could be read, in [0, 1];
            ``None`` when none could.
        wins: Pairs whose first answer is better.
        losses: Pairs whose second answer is better.
        ties: Pairs without a preference that survives.
        failures: Pairs that could not be judged; they are in no rate.
        changed: Share of the pairs asked in both orders whose verdict changed with the order,
            in [0, 1]; ``None`` when no pair was. A judge that draws one of two by chance has
            0.5, one that looks at the place alone has 1.
    """

    rate: float | None = Field(ge=0.0, le=1.0)
    wins: int
    losses: int
    ties: int
    failures: int
    changed: float | None = Field(default=None, ge=0.0, le=1.0)


async def prefer(
    judge: PairJudge, question: str, first: str, second: str, context: Sequence[Passage] = ()
) -> Preference:
    """Return which of two answers a judge prefers in both orders.

    Equal answers are a tie without a call. A judge for which order cannot matter is asked once.

    Args:
        judge: Who compares.
        question: What both answer.
        first: One answer.
        second: The other.
        context: The passages that they were answered from.
    """
    if first.strip() == second.strip():
        return Preference(winner="tie")
    asked = [judge.choose(question, first, second, context)]
    if judge.ordered:
        asked.append(judge.choose(question, second, first, context))
    said = await asyncio.gather(*asked, return_exceptions=True)
    failures = []
    verdicts: list[Verdict | None] = []
    for answer in said:
        if isinstance(answer, OutputError):
            failures.append(f"{answer.message}: {answer.raw!r}")
            verdicts.append(None)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            verdicts.append(answer)
    in_order = verdicts[0]
    turned = verdicts[1] if judge.ordered else None
    swapped = None if turned is None else _SWAPPED[turned]
    winner: Verdict | None
    if failures:
        winner = None
    elif judge.ordered:
        winner = in_order if in_order == swapped else "tie"
    else:
        winner = in_order
    return Preference(
        winner=winner, in_order=in_order, swapped=swapped, failure="; ".join(failures)
    )


def win_rate(preferences: Sequence[Preference]) -> WinRate:
    """Return how often the first answer wins, ties as half.

    Raises:
        UserError: There is no preference.
    """
    if not preferences:
        raise UserError("there is no pair to count", hint="compare at least one pair of answers")
    wins, losses, ties = (
        sum(p.winner == verdict for p in preferences) for verdict in ("first", "second", "tie")
    )
    read = wins + losses + ties
    changes = [p.changed for p in preferences if p.changed is not None]
    return WinRate(
        rate=(wins + 0.5 * ties) / read if read else None,
        wins=wins,
        losses=losses,
        ties=ties,
        failures=len(preferences) - read,
        changed=sum(changes) / len(changes) if changes else None,
    )
