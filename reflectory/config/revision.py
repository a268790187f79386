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
        accept: ``better`` takes a draft only when it counts for more than R_t, by its grade
            under the same context and what ``brevity``, ``agreement`` and ``channel`` add;
            ``always`` takes the reflection as it is, as in the survey.
        drafts: Reflections that the student writes; the first as it writes responses, the
            others drawn with ``temperature``. With ``always`` the first is the only one.
            ``auto`` writes 2 where the teacher's grades are likelihoods, and 1 elsewhere.
        fresh: Answers to the instruction, drawn with ``temperature``, that the student writes
            besides, without what it had and without the examination. ``auto`` writes 10 where
            grades are likelihoods, and none elsewhere. None with ``always``.
        reading: What fresh answers are written from: ``together`` from all of C_{t+1},
            ``apart`` from one passage each, more of them from passages that the instruction
            is likelier to be about (at most the first eight). Small models are distracted by
            passages that are not. ``auto`` reads apart where grades are likelihoods.
        temperature: Randomness of further drafts and of fresh answers.
        condense: Also consider the short stretches of R_t, of the drafts and of the answers
            of the examination that the documents hold, where the instruction asks for a
            name, a date, a number, a thing or yes or no. ``auto`` does so where the teacher's
            grades are likelihoods, which cost little.
        condensed: Most short stretches of an iteration.
        brevity: Where short stretches are considered, an answer of at most five words that
            the documents hold and the instruction does not, or yes or no, counts as graded so
            much higher. Likelihoods favour long answers, which repeat what the question said.
        agreement: Such an answer counts as graded so much higher again when R_0 and all
            fresh answers hold it, and in proportion when some do. Reflections have seen R_t
            and are no voices of their own; they count where there are no fresh answers.
        channel: Such an answer counts as graded so much higher, or lower, for every nat by which
            it makes the instruction likelier than other names of the documents do. Only where
            the teacher's grades are likelihoods, whose ``channel`` says it, within 6 nats.
        minimum_gain: What follows R_t has to count so much more. ``auto`` asks for 0.1 where
            grades are likelihoods, which move by about that much between two contexts, and
            for nothing elsewhere.
    """

    accept: Literal["better", "always"] = "better"
    drafts: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    fresh: Annotated[int, Field(ge=0, le=64)] | Literal["auto"] = "auto"
    reading: Literal["auto", "together", "apart"] = "auto"
    temperature: float = Field(default=0.8, ge=0.0, le=5.0)
    condense: Literal["auto", "always", "never"] = "auto"
    condensed: int = Field(default=24, ge=1, le=100)
    brevity: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    agreement: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    channel: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02
    minimum_gain: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["auto"] = "auto"

    def drafts_of(self, cheap_grades: bool) -> int:
        """Return how many reflections an iteration has.

        Args:
            cheap_grades: Whether the teacher's grades are likelihoods.
        """
        if self.accept == "always":
            return 1
        return (2 if cheap_grades else 1) if self.drafts == "auto" else self.drafts

    def fresh_of(self, cheap_grades: bool) -> int:
        """Return how many answers an iteration has that know nothing of the examination.

        Args:
            cheap_grades: Whether the teacher's grades are likelihoods.
        """
        if self.accept == "always":
            return 0
        return (10 if cheap_grades else 0) if self.fresh == "auto" else self.fresh

    def reads_apart(self, cheap_grades: bool) -> bool:
        """Return whether fresh answers read one passage each.

        Args:
            cheap_grades: Whether the teacher's grades are likelihoods.
        """
        return self.reading == "apart" or (self.reading == "auto" and cheap_grades)

    def condenses(self, cheap_grades: bool) -> bool:
        """Return whether short stretches are considered.

        Args:
            cheap_grades: Whether the teacher's grades are likelihoods.
        """
        return self.condense == "always" or (self.condense == "auto" and cheap_grades)

    def gain_of(self, cheap_grades: bool) -> float:
        """Return how much more than R_t its follower has to count, in [0, 1].

        Args:
            cheap_grades: Whether the teacher's grades are likelihoods.
        """
        if self.minimum_gain != "auto":
            return self.minimum_gain
        return 0.1 if cheap_grades else 0.0
