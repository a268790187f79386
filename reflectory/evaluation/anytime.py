"""What a contender is worth when it is stopped at any budget (anytime curves)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from reflectory.errors import UserError
from reflectory.evaluation.records import BudgetKind, ContenderAnswer
from reflectory.types import Record


class AnytimePoint(Record):
    """The mean over all questions at one budget.

    Attributes:
        spent: The budget: calls or tokens that may be spent on each question.
        mean: The metric; a question without an answer so far counts as 0.
        answered: Questions that have an answer.
    """

    spent: float = Field(ge=0.0)
    mean: float
    answered: int = Field(ge=0)


class AnytimeCurve(Record):
    """One contender over all budgets.

    Attributes:
        contender: Its name.
        metric: What is averaged.
        budget: What is spent.
        questions: Number of questions.
        steps: The mean at every budget at which it changes, the smallest first; between
            two of them the mean stays that of the first.
        attempts: The points at which every question has made its n-th attempt, or its last
            one where it makes fewer; others have made more by then.
    """

    contender: str
    metric: str
    budget: BudgetKind
    questions: int = Field(ge=1)
    steps: tuple[AnytimePoint, ...] = ()
    attempts: tuple[AnytimePoint, ...] = ()


def anytime_curve(
    answers: Sequence[ContenderAnswer],
    values: Mapping[str, Sequence[Mapping[str, float]]],
    metric: str,
    budget: BudgetKind,
) -> AnytimeCurve:
    """Return what one contender would have reached at every budget.

    Args:
        answers: Of one contender, one per question.
        values: Per question's id the metrics of its attempts, in their order.
        metric: Which of them to follow.
        budget: What is spent.

    Raises:
        UserError: There are no answers, they are of several contenders, or a metric is missing.
    """
    names = sorted({answer.contender for answer in answers})
    if len(names) != 1:
        raise UserError(
            f"a curve needs the answers of one contender, got {', '.join(names) or 'none'}",
            hint="draw one curve for each contender",
        )
    measured = [_measured(answer, values, metric, budget) for answer in answers]
    steps = _steps(measured)
    return AnytimeCurve(
        contender=names[0],
        metric=metric,
        budget=budget,
        questions=len(answers),
        steps=steps,
        attempts=_attempts(measured, steps),
    )


def _measured(
    answer: ContenderAnswer,
    values: Mapping[str, Sequence[Mapping[str, float]]],
    metric: str,
    budget: BudgetKind,
) -> list[tuple[int, float]]:
    """Return (spent, value) of every attempt of one question."""
    rows = values.get(answer.id, ())
    if len(rows) != len(answer.attempts):
        raise UserError(
            f"{answer.id} has {len(answer.attempts)} attempts and the metrics of {len(rows)}",
            hint="measure every attempt, in their order",
        )
    if missing := [n for n, row in enumerate(rows) if metric not in row]:
        raise UserError(
            f"attempt {missing[0]} at {answer.id} has no {metric}",
            hint=f"it has {', '.join(sorted(rows[missing[0]])) or 'no metrics'}",
        )
    spent = [getattr(attempt, budget) for attempt in answer.attempts]
    return [(cost, float(row[metric])) for cost, row in zip(spent, rows, strict=True)]


def _steps(measured: Sequence[Sequence[tuple[int, float]]]) -> tuple[AnytimePoint, ...]:
    """Return the mean at each budget at which some question gets another answer."""
    events = sorted(
        (cost, question, place)
        for question, attempts in enumerate(measured)
        for place, (cost, _) in enumerate(attempts)
    )
    now: list[float | None] = [None] * len(measured)
    total, answered, points = 0.0, 0, []
    for i, (cost, question, place) in enumerate(events):
        before, value = now[question], measured[question][place][1]
        total += value - (before or 0.0)
        answered += before is None
        now[question] = value
        if i + 1 == len(events) or events[i + 1][0] != cost:
            points.append(AnytimePoint(spent=cost, mean=total / len(measured), answered=answered))
    return tuple(points)


def _attempts(
    measured: Sequence[Sequence[tuple[int, float]]], steps: Sequence[AnytimePoint]
) -> tuple[AnytimePoint, ...]:
    """Return the steps at which the last question makes its first, second, ... attempt."""
    at = {step.spent: step for step in steps}
    tried = [[cost for cost, _ in attempts] for attempts in measured if attempts]
    longest = max(map(len, tried), default=0)
    return tuple(
        at[max(costs[min(place, len(costs) - 1)] for costs in tried)] for place in range(longest)
    )
