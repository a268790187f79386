"""Records of what a loop does: cells, responses, how its context grew, why it ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import numpy as np
from pydantic import Field

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.types.answers import Answer, Failure, Feedback, Question
from reflectory.types.documents import PathStep
from reflectory.types.record import Record


class Examination(Record):
    """Everything of one cell: question, answer, feedback and A[j,t].

    Attributes:
        level: Name of the level l_j.
        iteration: t, from 0.
        status: DONE when all of it is there, FAILED with ``failure`` otherwise.
        similarity: Cosine between the embeddings of answer and instruction.
        alignment: A[j,t] (Equation 31); ``None`` when the cell failed.
    """

    level: str
    iteration: int = Field(ge=0)
    status: CellStatus = CellStatus.PENDING
    question: Question | None = None
    answer: Answer | None = None
    feedback: Feedback | None = None
    similarity: float | None = None
    alignment: float | None = Field(default=None, ge=0.0, le=1.0)
    failure: Failure | None = None


class Draft(Record):
    """Something that might have become a response, and what the teacher thought of it.

    Attributes:
        text: What it says.
        origin: ``kept`` (R_t itself), ``reflection`` (what the student wrote after the
            examination), ``drawn`` (another try at it), ``fresh`` (an answer written without
            the examination) or ``condensed`` (a short stretch of one of them, or of an
            answer of the examination, that the documents hold).
        score: The teacher's grade in [0, 1]; ``None`` when it could not be graded.
        agreement: Share of what the student wrote for the instruction by itself (R_0 and
            fresh answers, or reflections where there are none) that holds it, in [0, 1];
            ``None`` where it is no short answer that the documents hold, or none was asked
            for.
        passage: Id of the one passage that a fresh answer was written from; ``None`` where
            the student read all of C_{t+1}.
        channel: How much likelier an answer of few words makes the instruction than other names
            of the documents do, in nats within [-6, 6]; ``None`` where it was not measured. It
            counts where there is an ``agreement``.
    """

    text: str
    origin: Literal["kept", "reflection", "drawn", "fresh", "condensed"]
    score: float | None = Field(default=None, ge=0.0, le=1.0)
    agreement: float | None = Field(default=None, ge=0.0, le=1.0)
    passage: str | None = None
    channel: float | None = None


class Response(Record):
    """R_t, the student's response to the instruction after t reflections.

    Attributes:
        iteration: t; 0 is the response before any reflection.
        answer: The text, the context C_t it was written from, and its citations.
        grade: G[t]; ``None`` until graded and when grading failed.
        failure: Why there is no grade, or why the reflection could not be read
            (the text is then that of the response before it).
        drafts: Among what it was chosen, best first; empty for R_0 and where nothing was
            chosen.
    """

    iteration: int = Field(ge=0)
    answer: Answer
    grade: Feedback | None = None
    failure: Failure | None = None
    drafts: tuple[Draft, ...] = ()

    @property
    def text(self) -> str:
        """The response itself."""
        return self.answer.text


class ContextAddition(Record):
    """A passage that joined the context, and what it joined for.

    Attributes:
        iteration: t + 1, the first context C_{t+1} that holds it.
        passage: Its id.
        level: Level of the question that brought it.
        question: Q[j,t], as it was asked.
        reason: ``useful`` when a good answer rested on it; ``unknown`` when the
            answer to the question was graded poor or states something that no
            passage supports, which is what the student was seen not to know.
        score: Score of the retriever for this question (higher is better).
        signals: What single layers of the retriever said, by name.
        path: The way from the question to the passage, where the retriever knows it.
    """

    iteration: int = Field(ge=1)
    passage: str
    level: str
    question: str
    reason: Literal["useful", "unknown"]
    score: float
    signals: dict[str, float] = Field(default_factory=dict)
    path: tuple[PathStep, ...] = ()


class StopReason(Record):
    """Why a loop ended: the rule that fired, or ``max_iterations``."""

    rule: str
    converged: bool
    iterations: int = Field(ge=0)
    detail: str = ""


class Flag(StrEnum):
    """Reasons to look twice at a trajectory."""

    CONSTANT_JUDGE = "constant_judge"
    """The judge gave every answer the same score, so convergence means nothing."""
    UNGRADED = "ungraded"
    """More than a fifth of what should have been graded could not be."""
    NO_CONTEXT = "no_context"
    """Nothing was retrieved; the student answered from memory."""


def matrix_of(
    levels: tuple[str, ...],
    examinations: tuple[Examination, ...],
    *,
    epsilon: float | None = None,
    converged: bool = False,
) -> AlignmentMatrix:
    """Return the matrix that a set of examinations fills.

    Args:
        levels: Names of the k levels; the rows.
        examinations: Cells in any order; cells that are not named are pending.
        epsilon: Threshold to remember for drawing.
        converged: Whether the loop stopped by epsilon.
    """
    columns = 1 + max((e.iteration for e in examinations), default=-1)
    values = np.full((len(levels), columns), np.nan)
    status = [[CellStatus.PENDING] * columns for _ in levels]
    row = {name: j for j, name in enumerate(levels)}
    for cell in examinations:
        j, t = row[cell.level], cell.iteration
        status[j][t] = cell.status
        if cell.alignment is not None:
            values[j, t] = cell.alignment
    return AlignmentMatrix(
        levels, values, status=status if columns else None, epsilon=epsilon, converged=converged
    )
