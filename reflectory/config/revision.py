"""How a reflection becomes the next response: how many drafts, and which one is accepted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reflectory.config.base import Settings


class RevisionConfig(Settings):
    """How R_{t+1} is chosen.

    The survey takes whatever the student writes. Small models write worse answers than they
    had, so by default the teacher grades R_t and what might follow it, and the best is kept.

    Attributes:
        accept: ``better`` takes a draft only when its grade is above that of R_t under the
            same context; ``always`` takes the reflection as it is, as in the survey.
        drafts: Reflections that the student writes; the first as it writes responses, the
            others drawn with ``temperature``. With ``always`` the first is the only one.
            ``auto`` writes 4 where the teacher's grades are likelihoods, and 1 elsewhere.
        temperature: Randomness of further drafts.
        condense: Also consider the short stretches of R_t, of the drafts and of the answers
            of the examination that the documents hold, where the instruction asks for a
            name, a date, a number, a thing or yes or no. ``auto`` does so where the teacher's
            grades are likelihoods, which cost little.
        condensed: Most short stretches of an iteration.
        brevity: Where short stretches are considered, an answer of at most five words counts
            as graded so much higher. Likelihoods favour long answers, which repeat what the
            question said.
        minimum_gain: A draft has to be graded so much better than R_t.
    """

    accept: Literal["better", "always"] = "better"
    drafts: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    temperature: float = Field(default=0.8, ge=0.0, le=5.0)
    condense: Literal["auto", "always", "never"] = "auto"
    condensed: int = Field(default=24, ge=1, le=100)
    brevity: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    minimum_gain: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
