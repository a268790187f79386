"""A step that asks whether the prompt helps the student to the completion at all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from reflectory.errors import UnsupportedCapability, UserError
from reflectory.models.protocol import Capability, Model, ScoreRequest, Segment, TokenScores
from reflectory.training.curation.reading import completions_of
from reflectory.training.curation.steps import AnyRow, Outcome, R, sorted_out

BATCH_ROWS = 64
"""Rows that are scored at the same time, two requests each."""

_ROLE = "curation.difficulty"


async def difficulty_of(row: AnyRow, student: Model) -> float:
    """Return the instruction-following difficulty of a row (Li et al. 2023b, arXiv:2308.12032).

    IFD = ppl(completion | prompt) / ppl(completion), the perplexities of the student itself.
    Without a prompt means: after an empty message in the model's own chat format. From 1 on
    the prompt made the completion no likelier; near 0 it leaves nothing to be learnt.

    Args:
        row: Of a pair, the chosen completion counts.
        student: A model that scores.

    Returns:
        A number of at least 0, or NaN where there is none.

    Raises:
        BackendError: The model failed.
        UserError: The row does not fit into the model's context window.
    """
    completion = completions_of(row)[0]
    prompt = tuple(
        Segment(text=m.content, speaker="system" if m.role == "system" else "user")
        for m in row.prompt
    )

    async def score(*segments: Segment) -> TokenScores:
        request = ScoreRequest(segments=segments, continuations=(completion,), role=_ROLE)
        return (await student.score(request)).continuations[0]

    after, alone = await asyncio.gather(score(*prompt), score(Segment(text="")))
    if not after.logprobs or not alone.logprobs:
        return math.nan
    exponent = alone.mean - after.mean  # log of the ratio of perplexities exp(-mean)
    return math.exp(exponent) if not exponent > 700.0 else math.inf


@dataclass(frozen=True)
class Difficulty:
    """Refuses rows that are too easy or too hard to follow for the student.

    Args:
        student: Scores the completions.
        lowest: Rows below this are refused.
        highest: Rows of at least this are refused.

    Raises:
        UserError: The student cannot score.
    """

    student: Model
    lowest: float = 0.0
    highest: float = 1.0
    name: ClassVar[str] = "difficulty"

    def __post_init__(self) -> None:
        """Check the student."""
        if Capability.SCORE not in self.student.capabilities:
            raise UserError(
                f"the step of curation `difficulty` needs a student that scores, which "
                f"{self.student.fingerprint} does not",
                hint="switch `difficulty` off, or use a local student",
            )

    @property
    def explanation(self) -> str:
        """The ratio and its range."""
        return (
            "Instruction-following difficulty is the student's perplexity of the completion "
            f"after the prompt over that without it. Kept from {self.lowest:g} to below "
            f"{self.highest:g}."
        )

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows within the range.

        Raises:
            BackendError: The model failed.
        """
        reasons: list[str] = []
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            reasons += await asyncio.gather(*(self._reason(row) for row in batch))
        return sorted_out(rows, reasons)

    async def _reason(self, row: AnyRow) -> str:
        try:
            value = await difficulty_of(row, self.student)
        except UnsupportedCapability:
            raise
        except UserError:  # the row is too long for the model
            return "not_measurable"
        if math.isnan(value):
            return "not_measurable"
        if value < self.lowest:
            return "too_easy"
        return "too_hard" if value >= self.highest else ""
