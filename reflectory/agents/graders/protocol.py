"""What a grader is: a question, an answer and the documents in; a score and a reason out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from reflectory.types import Feedback, Passage


@dataclass(frozen=True)
class GradingTask:
    """One answer to judge.

    Attributes:
        question: Q[j,t], or the instruction I for a grade of R_t.
        answer: R[j,t], or R_t.
        rubric: What a good answer has.
        context: C_t, what all calls of the loop share.
        extra: What was retrieved for the question besides.
        unsupported: Statements of the answer for which no evidence was found in
            the passages (see :mod:`reflectory.agents.verification`); empty when
            there are none or nobody looked.
        apart: Whether a grader may also read the passages one at a time. Not where the answer
            may have been written from one of them alone: it is likely there, right or wrong.
    """

    question: str
    answer: str
    rubric: str = ""
    context: tuple[Passage, ...] = ()
    extra: tuple[Passage, ...] = ()
    unsupported: tuple[str, ...] = ()
    apart: bool = True

    @property
    def passages(self) -> tuple[Passage, ...]:
        """C[j,t], all that the student saw."""
        return (*self.context, *self.extra)


@runtime_checkable
class Grader(Protocol):
    """Judges answers.

    Contract: ``grade`` may be called many times at once, returns the same
    feedback for the same task, never sees a reference answer, and raises
    :class:`~reflectory.errors.OutputError` with the raw text when a model's
    verdict cannot be read: a failure is never a score.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of what judges, for manifests and caches."""
        ...

    async def grade(self, task: GradingTask) -> Feedback:
        """Return the score in [0, 1] and the reason for one answer."""
        ...


@runtime_checkable
class ManyGrader(Grader, Protocol):
    """A grader that judges several answers to one question for little more than one.

    Contract: ``grade_together`` gives every answer the feedback that ``grade`` gives it, up
    to rounding, and raises as ``grade`` does when one of them cannot be judged.
    """

    async def grade_together(self, tasks: Sequence[GradingTask]) -> list[Feedback]:
        """Return one feedback per task; they differ in the answer and what it lacks alone."""
        ...
