"""The held-out questions of the demo, with what the student said before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reflectory.evaluation.held_out import HeldOutAnswer, HeldOutQuestion
from reflectory.types import Record


class CheckedAnswer(Record):
    """One held-out question and two answers to it.

    Attributes:
        id: Of the question.
        question: What the student was asked.
        references: Right answers, of which any counts.
        before: The answer of the student as it was; ``None`` when there was none.
        after: That of the student with its adapter; ``None`` when there was none.
        f1: Token F1 of both, before and after, in [0, 1].
    """

    id: str
    question: str
    references: tuple[str, ...]
    before: str | None
    after: str | None
    f1: tuple[float, float]

    @property
    def change(self) -> float:
        """F1 after training less F1 before, in [-1, 1]."""
        before, after = self.f1
        return after - before


def checked_answers(
    questions: Sequence[HeldOutQuestion],
    before: Sequence[HeldOutAnswer],
    after: Sequence[HeldOutAnswer],
) -> tuple[CheckedAnswer, ...]:
    """Return every question with both answers, in the order of the questions.

    Args:
        questions: What was asked.
        before: One answer per question, of the student as it was.
        after: The same, with its adapter.
    """
    old: Mapping[str, HeldOutAnswer] = {answer.id: answer for answer in before}
    new: Mapping[str, HeldOutAnswer] = {answer.id: answer for answer in after}
    return tuple(
        CheckedAnswer(
            id=q.id,
            question=q.question,
            references=q.references,
            before=old[q.id].text,
            after=new[q.id].text,
            f1=(old[q.id].f1, new[q.id].f1),
        )
        for q in questions
    )


def most_changed(checked: Sequence[CheckedAnswer], count: int) -> list[CheckedAnswer]:
    """Return the answers whose F1 changed most, to either side.

    Args:
        checked: All of them; of two that changed alike, the earlier one comes first.
        count: At most so many; those that did not change are never among them.
    """
    changed = [answer for answer in checked if answer.change]
    return sorted(changed, key=lambda answer: -abs(answer.change))[:count]
