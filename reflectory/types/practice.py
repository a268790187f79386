"""What a student practises on, and the answers among which the one to learn is chosen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reflectory.types.documents import Passage
from reflectory.types.record import Record


class PracticeQuestion(Record):
    """An instruction that the teacher wrote from passages of the documents.

    Attributes:
        id: Unique in its set.
        instruction: What the student is asked.
        answer: What the teacher took for the answer before it wrote the question: a stretch
            of a passage, or "yes" or "no". It is a proposal, never a gold answer.
        kind: ``fact`` (one passage), ``bridge`` (what one document calls by name, another
            describes) or ``comparison`` (of two documents).
        level: Name of the level it belongs to.
        passages: What it was written from.
        lead: How much likelier, in nats per token, the teacher finds the answer than its
            best rival in the same passages; ``None`` where that cannot be measured.
        attempts: Tries that were made at it.
        writer: Fingerprint of the model that wrote it.
    """

    id: str
    instruction: str
    answer: str
    kind: Literal["fact", "bridge", "comparison"]
    level: str
    passages: tuple[Passage, ...]
    lead: float | None = None
    attempts: int = Field(default=1, ge=1)
    writer: str = ""


class Candidate(Record):
    """One answer among several to the same question.

    Attributes:
        text: The answer.
        origin: ``loop`` (a response or answer of the trajectory), ``sample`` (drawn afterwards),
            ``condensed`` (a stretch of one of those) or ``teacher`` (what the teacher took for
            the answer when it wrote the question).
        score: Grade by the teacher in [0, 1]; ``None`` when it could not be graded.
        grader: Name of the grader.
        groundedness: Share of its statements that a passage supports, in [0, 1].
        agreement: Share of the drawn samples that say the same, in [0, 1]; ``None``
            when none was drawn.
        seed: Of the draw; ``None`` when it was not drawn.
        failure: Why it has no score.
    """

    text: str
    origin: Literal["loop", "sample", "condensed", "teacher"]
    score: float | None = Field(default=None, ge=0.0, le=1.0)
    grader: str = ""
    groundedness: float | None = Field(default=None, ge=0.0, le=1.0)
    agreement: float | None = Field(default=None, ge=0.0, le=1.0)
    seed: int | None = None
    failure: str = ""


class CandidateSet(Record):
    """All answers to one question of a trajectory (its instruction, or a cell's question).

    Attributes:
        trajectory: Id of the trajectory.
        what: ``response`` (the instruction was answered) or ``answer`` (a cell's question).
        level: Level of the question; ``None`` for the instruction.
        iteration: t of the cell; of the best response for the instruction.
        question: What was asked.
        context: C_t, the passages that all prompts of the loop share, in order.
        extra: What the question alone retrieved besides.
        candidates: The answers, in a fixed order.
        chosen: Index of the one to learn; ``None`` when none is good enough.
        reason: Why it was chosen, or why none was.
    """

    trajectory: str
    what: Literal["response", "answer"]
    level: str | None = None
    iteration: int = Field(default=0, ge=0)
    question: str
    context: tuple[Passage, ...]
    extra: tuple[Passage, ...] = ()
    candidates: tuple[Candidate, ...]
    chosen: int | None = Field(default=None, ge=0)
    reason: str = ""
