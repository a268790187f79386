"""What a student practises on: questions written from the documents, and answers to choose from."""

from __future__ import annotations

from pydantic import Field

from reflectory.config.base import Settings, Unit


class PracticeConfig(Settings):
    """Instructions that the teacher writes from the documents.

    Attributes:
        questions: How many to write; 0 practises on the given instructions alone.
        attempts: Tries of the teacher at each question, besides what rules draft; the best
            that passes is kept.
        temperature: Randomness of the tries.
        multi_document: Share of questions that need passages of two documents, in [0, 1];
            fewer are written where the documents share too little.
        minimum_lead: A question is kept when the teacher finds its answer at least so much
            likelier, in nats per token, than the best other name, date or phrase of the
            same passages.
        seed: Seed of every draw.
    """

    questions: int = Field(default=60, ge=0)
    attempts: int = Field(default=2, ge=0, le=64)
    temperature: float = Field(default=0.7, ge=0.0, le=5.0)
    multi_document: Unit = 0.2
    minimum_lead: float = Field(default=-3.0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)


class CandidateConfig(Settings):
    """Answers among which the one to learn is chosen.

    Attributes:
        samples: Answers that the student draws for every practised question besides
            those of its loop; 0 draws none.
        temperature: Their randomness.
        condense: Also consider the shortest stretches of an answer that the documents hold.
        minimum_gain: A shorter candidate takes the place of the one it was cut from when its
            grade is at least so much higher; negative values prefer brevity.
        seed: Seed of every draw.
    """

    samples: int = Field(default=4, ge=0, le=64)
    temperature: float = Field(default=0.8, ge=0.0, le=5.0)
    condense: bool = True
    minimum_gain: float = Field(default=0.0, ge=-1.0, le=1.0)
    seed: int = Field(default=0, ge=0)
