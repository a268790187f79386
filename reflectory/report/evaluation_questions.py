"""Every question of an evaluation with what all contenders said, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reflectory.evaluation.changes import is_right, right_metric
from reflectory.evaluation.metrics.instructions import Instruction
from reflectory.evaluation.records import (
    Attempt,
    BudgetKind,
    ContenderAnswer,
    EvaluationReport,
    ScoredAnswer,
)
from reflectory.evaluation.weights import weight

_ATTEMPTS_LIMIT = 4_000_000
"""Characters of attempts that a page holds; with more, only the reference contender's."""


class Asked(Protocol):
    """A question as it was asked, such as :class:`~reflectory.evaluation.held_out.HeldOutItem`."""

    @property
    def id(self) -> str:
        """Unique in its set."""

    @property
    def question(self) -> str:
        """What the contenders were asked."""

    @property
    def references(self) -> tuple[str, ...]:
        """Right answers, of which any counts."""


@dataclass(frozen=True)
class ShownAnswer:
    """One answer of one contender.

    Attributes:
        contender: Its name.
        reference: Whether it is the contender that the others are compared with.
        budgets: Tables that hold this answer; empty when all do.
        answer: Text, cost and metrics.
        right: Whether it counts as right; ``None`` where the metric says nothing of it.
        attempts: What the contender would have answered earlier, in order.
        failure: Why there is no answer, or why it ended early.
    """

    contender: str
    reference: bool
    budgets: tuple[BudgetKind, ...]
    answer: ScoredAnswer
    right: bool | None
    attempts: tuple[Attempt, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class ShownQuestion:
    """A question with all answers.

    Attributes:
        id: Of the question.
        text: What was asked; empty when it is not known.
        references: Right answers, where they are known.
        answers: In the order of the tables.
        marks: Per table one letter for each contender in the order of
            :func:`contenders_of`: ``r`` right, ``w`` wrong, ``n`` no answer, ``-`` not asked
            or nothing said of by the metric.
        constraints: What rules verify of an answer, by kind and parameters.
        measured: Whether the metric says anything of the question.
    """

    id: str
    text: str
    references: tuple[str, ...]
    answers: tuple[ShownAnswer, ...]
    marks: dict[BudgetKind, str]
    constraints: tuple[str, ...] = ()
    measured: bool = True

    @property
    def right(self) -> int | None:
        """Contenders that are right in the first table; ``None`` where nothing is said of it."""
        marks = next(iter(self.marks.values()), "")
        unsaid = not self.measured or (marks and set(marks) <= {"-"})
        return None if unsaid else marks.count("r")


def contenders_of(report: EvaluationReport) -> list[str]:
    """Return the names of all contenders, the reference first."""
    names = {report.reference: None}
    for rows in report.tables.values():
        names |= {row.contender: None for row in rows}
    return list(names)


def questions_of(
    report: EvaluationReport,
    *,
    answers: Iterable[ContenderAnswer] | None = None,
    questions: Iterable[Asked] | None = None,
) -> list[ShownQuestion]:
    """Return all questions in the order of the set.

    Args:
        report: Tables with the answers.
        answers: All attempts of the contenders, where they are to be shown.
        questions: What was asked and the references, which the report does not hold.
    """
    asked = {question.id: question for question in questions or ()}
    tried = _attempts(answers, report.reference)
    names, metric = contenders_of(report), right_metric(report)
    scored: dict[str, dict[str, dict[BudgetKind, ScoredAnswer]]] = {}
    for budget, rows in report.tables.items():
        for row in rows:
            for answer in row.answers:
                by_contender = scored.setdefault(answer.id, {})
                by_contender.setdefault(row.contender, {})[budget] = answer
    return [
        ShownQuestion(
            id=name,
            text=asked[name].question if name in asked else "",
            references=asked[name].references if name in asked else (),
            answers=tuple(
                shown
                for contender in names
                if contender in found
                for shown in _shown(
                    contender,
                    found[contender],
                    metric,
                    tried.get((contender, name)),
                    reference=contender == report.reference,
                )
            ),
            marks={
                budget: "".join(_mark(found.get(n, {}).get(budget), metric) for n in names)
                for budget in report.tables
            },
            constraints=tuple(map(_constraint, constraints_of(asked.get(name)))),
            measured=weight(report.weights, metric, name) > 0.0,
        )
        for name, found in scored.items()
    ]


def constraints_of(question: Asked | None) -> tuple[Instruction, ...]:
    """Return what rules verify of an answer; a question of an earlier version has nothing."""
    found: tuple[Instruction, ...] = getattr(question, "constraints", ())
    return found


def _constraint(instruction: Instruction) -> str:
    """Return a kind with its parameters, such as ``no_comma`` or ``number_words (300)``."""
    values = instruction.parameters.values()
    said = "; ".join(", ".join(v) if isinstance(v, list | tuple) else str(v) for v in values)
    kind = instruction.id.split(":")[-1].replace("_", " ")
    return f"{kind} ({said})" if said else kind


def _mark(answer: ScoredAnswer | None, metric: str) -> str:
    if answer is None:
        return "-"
    if answer.text is None:
        return "n"
    if metric not in answer.values:
        return "-"
    return "r" if is_right(answer, metric) else "w"


def _shown(
    contender: str,
    by_budget: Mapping[BudgetKind, ScoredAnswer],
    metric: str,
    tried: ContenderAnswer | None,
    *,
    reference: bool,
) -> Iterable[ShownAnswer]:
    """Yield a contender's answers; one that several tables share stands once."""
    same: list[tuple[ScoredAnswer, list[BudgetKind]]] = []
    for budget, answer in by_budget.items():
        for known, budgets in same:
            if known == answer:
                budgets.append(budget)
                break
        else:
            same.append((answer, [budget]))
    for place, (answer, budgets) in enumerate(same):
        first = place == 0 and tried is not None
        yield ShownAnswer(
            contender=contender,
            reference=reference,
            budgets=tuple(budgets) if len(same) > 1 else (),
            answer=answer,
            right=is_right(answer, metric) if metric in answer.values else None,
            attempts=tried.attempts if first and tried is not None else (),
            failure=tried.failure if first and tried is not None else "",
        )


def _attempts(
    answers: Iterable[ContenderAnswer] | None, reference: str
) -> dict[tuple[str, str], ContenderAnswer]:
    """Return attempts by contender and question, without those that a page cannot hold."""
    found: Sequence[ContenderAnswer] = list(answers or ())
    size = sum(len(attempt.text) for answer in found for attempt in answer.attempts)
    kept = {}
    for answer in found:
        few = size <= _ATTEMPTS_LIMIT or answer.contender == reference
        shown = answer if few else answer.model_copy(update={"attempts": ()})
        kept[answer.contender, answer.id] = shown
    return kept
