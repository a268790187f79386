"""Records of what is said: questions, answers with their evidence, feedback, failures."""

from __future__ import annotations

from pydantic import Field

from reflectory.types.record import Record


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

    @property
    def unsupported(self) -> tuple[str, ...]:
        """The statements that no passage in use supports, in their words and order."""
        return tuple(self.text[s.start : s.end] for s in self.statements if not s.supported)


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
