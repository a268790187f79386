"""The records of a reflective loop: immutable, typed, with a JSON round trip.

No record holds a clock reading or a path of a machine, so two runs with the
same seed write the same bytes; times live in the run's manifest and cache.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.errors import UserError

SCHEMA_VERSION = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From schema version n to n + 1, keyed by n; applied one after the other on reading."""


class Record(BaseModel):
    """Base of all records: frozen, no unknown fields, compared by value."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="strings",  # JSON has no infinity; a log-likelihood can be one
    )


class Document(Record):
    """A source d_i, before it is cut into passages.

    Attributes:
        id: Unique among the documents of an index.
        title: Human-readable name; empty when the source has none.
        text: The whole text; passage offsets count its characters.
        source: Where it came from (file name, address), for people.
        pages: Character offset at which each page starts; empty when there are none.
        metadata: Whatever the reader knew besides (licence, author ...).
    """

    id: str
    title: str = ""
    text: str
    source: str = ""
    pages: tuple[int, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)


class Passage(Record):
    """A retrievable piece of a document, an element of S_i.

    Attributes:
        id: Unique among the passages of an index.
        document_id: The document it was cut from.
        title: Title of that document.
        text: The characters ``start`` to ``end`` of that document.
        start: Offset of the first character in the document's text.
        end: Offset behind the last character.
        source: Where the document came from.
        page: Page number, from 1, where the document has pages.
        licence: The document's licence, where it states one.
    """

    id: str
    document_id: str
    title: str = ""
    text: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    source: str = ""
    page: int | None = None
    licence: str = ""


class PathStep(Record):
    """One step of the way from a question to a passage.

    Attributes:
        kind: What was reached: ``question``, ``entity``, ``document`` or ``passage``.
        name: What it is called; a passage by its id.
        by: Along which edge: ``mention``, ``relation``, ``co-occurrence``,
            ``title``, ``part``, ``similarity``, or the layer that found it first
            (``dense``, ``lexical``). Empty for the first step.
        detail: The words that say so, where there are some: a verb, a sentence.
    """

    kind: str
    name: str
    by: str = ""
    detail: str = ""


class ScoredPassage(Record):
    """A passage with the score of the retriever that found it (higher is better).

    Attributes:
        passage: The passage.
        score: Of all layers together.
        signals: What single layers said, by name, where the retriever has layers.
        path: Why it was chosen: from the question over entities and passages to this one.
    """

    passage: Passage
    score: float
    signals: dict[str, float] = Field(default_factory=dict)
    path: tuple[PathStep, ...] = ()


class Evidence(Record):
    """A stretch of a passage that supports a statement.

    Attributes:
        passage: Id of the passage.
        start: Offset of its first character in the passage's text.
        end: Offset behind its last character.
        score: How well it supports the statement, in [0, 1].
    """

    passage: str
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    score: float = Field(ge=0.0, le=1.0)


class Statement(Record):
    """One sentence of an answer, and what supports it.

    Attributes:
        start: Offset of its first character in the answer's text.
        end: Offset behind its last character.
        supported: Whether some passage in use supports it.
        evidence: The best supporting stretches, best first; the nearest misses
            of an unsupported statement are not listed.
    """

    start: int = Field(ge=0)
    end: int = Field(ge=0)
    supported: bool
    evidence: tuple[Evidence, ...] = ()


class Question(Record):
    """Q[j,t], what the teacher asks at a level.

    Attributes:
        text: The question as the student reads it.
        attempts: How many tries the teacher needed (1 is the best).
        edited: Whether a person changed it before it was asked.
    """

    text: str
    attempts: int = Field(default=1, ge=1)
    edited: bool = False


class Answer(Record):
    """R[j,t], what the student answers to a question.

    Attributes:
        text: The answer, without thinking blocks and citation marks.
        context: Ids of the passages C[j,t] that the student saw, in their order.
        cited: Ids of the passages that the answer rests on.
        cited_by: ``student`` when it named them itself, ``overlap`` when they
            were attributed afterwards because it named none.
        thinking: What a reasoning model thought before it answered.
        statements: The sentences of the answer with their evidence, in order.
        groundedness: Share of the statements that some passage supports, in [0, 1];
            ``None`` when nothing was stated or it was not measured.
    """

    text: str
    context: tuple[str, ...] = ()
    cited: tuple[str, ...] = ()
    cited_by: str = "student"
    thinking: str = ""
    statements: tuple[Statement, ...] = ()
    groundedness: float | None = Field(default=None, ge=0.0, le=1.0)


class Feedback(Record):
    """F[j,t], or the grade G[t] of a whole response.

    Attributes:
        score: How good, in [0, 1].
        reason: Why, in words that the student can use.
        grader: Name of the grader that decided.
        signals: The numbers that the score was made from.
        raw: What the model said, where it was asked for a grade in words.
        edited: Whether a person changed it.
    """

    score: float = Field(ge=0.0, le=1.0)
    reason: str
    grader: str
    signals: dict[str, float] = Field(default_factory=dict)
    raw: str = ""
    edited: bool = False


class Failure(Record):
    """Something that went wrong and was recorded instead of being scored as zero.

    Attributes:
        step: The step of Algorithm 1: ask, answer, evaluate, align, reflect, grade.
        kind: Class name of the error.
        message: What the error said.
        raw: The model's output, where there was one.
    """

    step: str
    kind: str
    message: str
    raw: str = ""


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


class Response(Record):
    """R_t, the student's response to the instruction after t reflections.

    Attributes:
        iteration: t; 0 is the response before any reflection.
        answer: The text, the context C_t it was written from, and its citations.
        grade: G[t]; ``None`` until graded and when grading failed.
        failure: Why there is no grade, or why the reflection could not be read
            (the text is then that of the response before it).
    """

    iteration: int = Field(ge=0)
    answer: Answer
    grade: Feedback | None = None
    failure: Failure | None = None

    @property
    def text(self) -> str:
        """The response itself."""
        return self.answer.text


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


class Trajectory(Record):
    """All of one loop: the record that everything else is made from.

    Attributes:
        schema_version: Version of this layout; older ones are migrated on reading.
        id: Derived from the instruction and its place in the input.
        instruction: I.
        levels: Names of the levels, easiest first.
        passages: Every passage that was in use, by id.
        responses: R_0 to R_final, in order.
        examinations: The cells, ordered by iteration and then by level.
        stop: Why the loop ended; ``None`` when it failed.
        chosen: Index into ``responses`` of the one that is returned.
        epsilon: The threshold of the loop, for drawing.
        models: Fingerprints of teacher, student, embedder and grader.
        seed: Seed of all its random draws.
        flags: Reasons to look twice.
        error: Set when the loop failed as a whole; nothing else may be complete then.
        metadata: What the user attached to the instruction.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    instruction: str
    levels: tuple[str, ...]
    passages: dict[str, Passage] = Field(default_factory=dict)
    responses: tuple[Response, ...] = ()
    examinations: tuple[Examination, ...] = ()
    stop: StopReason | None = None
    chosen: int = 0
    epsilon: float | None = None
    models: dict[str, str] = Field(default_factory=dict)
    seed: int = 0
    flags: tuple[Flag, ...] = ()
    error: Failure | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def status(self) -> str:
        """``done`` or ``failed``."""
        return "failed" if self.error is not None else "done"

    @property
    def response(self) -> str:
        """The text that the loop returns (R_final, or the best by G when so configured)."""
        return self.responses[self.chosen].text if self.responses else ""

    @property
    def grades(self) -> list[float | None]:
        """G[0..t], ``None`` where a response could not be graded."""
        return [r.grade.score if r.grade is not None else None for r in self.responses]

    @property
    def context(self) -> tuple[Passage, ...]:
        """The passages in use for the last response, in order."""
        if not self.responses:
            return ()
        return tuple(self.passages[i] for i in self.responses[-1].answer.context)

    @property
    def alignment(self) -> AlignmentMatrix:
        """A as an :class:`~reflectory.alignment.AlignmentMatrix` of shape (k, T)."""
        return matrix_of(
            self.levels,
            self.examinations,
            epsilon=self.epsilon,
            converged=self.stop is not None and self.stop.converged,
        )

    def to_json(self) -> str:
        """Return one line of JSON, the same bytes for equal trajectories."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read what :meth:`to_json` wrote, also by an older version.

        Raises:
            UserError: The line is not a trajectory, or one of a newer schema.
        """
        import json

        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"not a trajectory: {error}", hint="the line is not JSON") from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if type(version) is not int or version < 1:
            raise UserError("not a trajectory: no schema version", hint="is this another file?")
        if version > SCHEMA_VERSION:
            raise UserError(
                f"this trajectory has schema version {version}, known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory to read it",
            )
        for step in range(version, SCHEMA_VERSION):
            data = MIGRATIONS[step](data)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UserError(f"not a trajectory: {error}", hint="is the file damaged?") from error


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
