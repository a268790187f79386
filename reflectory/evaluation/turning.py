"""Answers turned right and turned wrong at each iteration, and what stopping there gives."""

from __future__ import annotations

from pydantic import Field

from reflectory.types import Record


class TurningPoint(Record):
    """What one iteration did to the answers of all questions.

    A loop that stopped earlier keeps its last answer, so that every iteration is over the
    same questions.

    Attributes:
        iteration: t of the response that came out; 0 is R_0, which turned nothing.
        reached: Loops that really made this iteration.
        turned_right: Questions whose answer was wrong before and is right now.
        turned_wrong: Questions whose answer was right before and is wrong now.
        means: Metrics that stopping here would have given, averaged over all questions.
        chosen: The same when the best response so far by the judge's grade is returned.
    """

    iteration: int = Field(ge=0)
    reached: int = Field(ge=0)
    turned_right: int = Field(ge=0)
    turned_wrong: int = Field(ge=0)
    means: dict[str, float] = Field(default_factory=dict)
    chosen: dict[str, float] = Field(default_factory=dict)
