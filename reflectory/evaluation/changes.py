"""Two evaluations of the same questions: what changed from the earlier to the later one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from reflectory.errors import UserError
from reflectory.evaluation.comparison import FEW_ROWS, PairedComparison, compare
from reflectory.evaluation.fields import ChangedField as ChangedField
from reflectory.evaluation.fields import changed_fields as changed_fields
from reflectory.evaluation.fields import flatten as flatten
from reflectory.evaluation.records import (
    BudgetKind,
    ContenderRow,
    EvaluationReport,
    ScoredAnswer,
)
from reflectory.evaluation.weights import Weights, weight
from reflectory.types import Record
from reflectory.types.shown import Shown

RIGHT = 0.5
"""From this value on an answer counts as right."""

_BINARY = ("exact_match", "contains")


class ContenderChange(Record):
    """One contender in both evaluations, on one metric of one table.

    Attributes:
        budget: Which table.
        contender: Its name in both.
        metric: Name of the metric.
        result: Earlier against later, paired by question.
    """

    budget: BudgetKind
    contender: str
    metric: str
    result: PairedComparison


class TurnedAnswer(Record):
    """A question that one contender got right in only one of the evaluations.

    Attributes:
        contender: Its name.
        id: Of the question.
        before: The earlier answer; ``None`` when there was none.
        after: The later one.
    """

    contender: str
    id: str
    before: str | None
    after: str | None


class ReportComparison(Shown, Record):
    """What changed from one evaluation to another.

    Attributes:
        before: Name of the earlier one's set.
        after: Of the later one's.
        same_set: Whether both asked the same questions with the same references and documents.
        rows: Questions that were compared.
        primary: Metric that claims rest on: the later one's.
        right: Metric that says whether an answer is right.
        budget: Table whose answers ``turned_right`` and ``turned_wrong`` hold; the others
            are compared in ``changes`` alone.
        changes: By table, contender and metric.
        turned_right: Wrong in the earlier evaluation and right in the later one; those of the
            later one's reference contender first.
        turned_wrong: The other way round.
        config: Settings that differ.
        environment: Versions, devices and fingerprints that differ.
        warnings: What a reader has to know before believing a number.
    """

    before: str
    after: str
    same_set: bool
    rows: int
    primary: str
    right: str
    budget: BudgetKind
    changes: tuple[ContenderChange, ...]
    turned_right: tuple[TurnedAnswer, ...] = ()
    turned_wrong: tuple[TurnedAnswer, ...] = ()
    config: tuple[ChangedField, ...] = ()
    environment: tuple[ChangedField, ...] = ()
    warnings: tuple[str, ...] = ()


def compare_reports(
    before: EvaluationReport,
    after: EvaluationReport,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> ReportComparison:
    """Compare two evaluations, contender by contender, on the questions that both asked.

    Args:
        before: The earlier one.
        after: The later one.
        confidence: Of the intervals, in (0, 1).
        resamples: Draws of the bootstrap and of the test.
        seed: Seed of both.

    Raises:
        UserError: They share no question, no table, no contender or no metric.
    """
    budgets: list[BudgetKind] = [b for b in after.tables if b in before.tables]
    if not budgets:
        raise UserError(
            f"the evaluations share no table: {_some(before.tables)} and {_some(after.tables)}",
            hint="evaluate both with the same kind of budget, calls or tokens",
        )
    pairs = [
        (budget, old, new)
        for budget in budgets
        for new in after.tables[budget]
        for old in before.tables[budget]
        if old.contender == new.contender
    ]
    if not pairs:
        raise UserError(
            "the evaluations share no contender: "
            f"{_some(_contenders(before))} and {_some(_contenders(after))}",
            hint="evaluate at least one contender under the same name in both",
        )
    shared = _shared_ids(before, after)
    changes, warnings = [], _warnings(before, after, len(shared))
    for budget, old, new in pairs:
        for metric in [m for m in new.means if m in old.means]:
            asked = [id for id in shared if weight(after.weights, metric, id) > 0.0]
            values = _paired(old, new, metric, asked, after.weights)
            if len(values) < len(asked):
                warnings.append(
                    f"{new.contender}, {metric}: {len(asked) - len(values)} of {len(asked)} "
                    "questions have no value in one of the evaluations and are left out"
                )
            if values:
                earlier, later, weighed = zip(*values, strict=True)
                result = compare(
                    earlier,
                    later,
                    name=metric,
                    confidence=confidence,
                    resamples=resamples,
                    seed=seed,
                    alternative="two-sided",
                    interval="expanded",
                    weights=weighed,
                )
                changes.append(
                    ContenderChange(
                        budget=budget, contender=new.contender, metric=metric, result=result
                    )
                )
    if not changes:
        raise UserError(
            "the evaluations share no metric of a contender",
            hint="evaluate both with the same metrics",
        )
    right = right_metric(after)
    turned = [
        (up, answer)
        for budget, old, new in sorted(pairs, key=lambda p: p[2].contender != after.reference)
        if budget == budgets[0]
        for up, answer in _turned(old, new, right)
    ]
    return ReportComparison(
        before=before.name,
        after=after.name,
        same_set=before.set_hash == after.set_hash,
        rows=len(shared),
        primary=after.primary,
        right=right,
        budget=budgets[0],
        changes=tuple(changes),
        turned_right=tuple(answer for up, answer in turned if up),
        turned_wrong=tuple(answer for up, answer in turned if not up),
        config=changed_fields(before.config, after.config),
        environment=changed_fields(before.environment, after.environment),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def right_metric(report: EvaluationReport) -> str:
    """Return the metric that says whether an answer is right.

    The one that the evaluation was configured with. A report without it: the primary one
    where it only takes 0 and 1, else exact match or containment where they were measured.
    """
    settings = report.config.get("evaluation")
    configured = settings.get("right") if isinstance(settings, Mapping) else None
    values: dict[str, set[float]] = {}
    for rows in report.tables.values():
        for row in rows:
            for answer in row.answers:
                for metric, value in answer.values.items():
                    values.setdefault(metric, set()).add(value)
    if isinstance(configured, str) and configured in values:
        return configured
    binary = {metric for metric, found in values.items() if found <= {0.0, 1.0}}
    wanted = (report.primary, *_BINARY)
    return next((metric for metric in wanted if metric in binary), report.primary)


def is_right(answer: ScoredAnswer, metric: str) -> bool:
    """Return whether an answer counts as right by a metric.

    Args:
        answer: An answer with its metrics.
        metric: Its name.
    """
    return answer.text is not None and answer.values.get(metric, 0.0) >= RIGHT


def _shared_ids(before: EvaluationReport, after: EvaluationReport) -> list[str]:
    """Return the ids of the questions that both asked, in the order of the later one."""
    old, new = _ids(before), _ids(after)
    shared = [name for name in new if name in old]
    if not shared:
        raise UserError(
            f"the evaluations share no question: {len(old)} of {before.name} and "
            f"{len(new)} of {after.name} have no id in common",
            hint="compare evaluations of the same set",
        )
    return shared


def _ids(report: EvaluationReport) -> dict[str, None]:
    rows = (row for rows in report.tables.values() for row in rows)
    return {answer.id: None for row in rows for answer in row.answers}


def _contenders(report: EvaluationReport) -> list[str]:
    return list({row.contender: None for rows in report.tables.values() for row in rows})


def _warnings(before: EvaluationReport, after: EvaluationReport, shared: int) -> list[str]:
    said = []
    if before.set_hash != after.set_hash:
        said.append(
            f"THE SETS ARE NOT THE SAME: only the {shared} questions whose ids are in both are "
            f"compared (of {before.rows} and {after.rows}), and the same id may mean another "
            "question, reference or document"
        )
    if before.primary != after.primary:
        said.append(
            f"claims rested on {before.primary} and rest on {after.primary} now, which is used here"
        )
    if shared < FEW_ROWS:
        said.append(f"few rows: {shared}, nothing is claimed")
    old, new = _contenders(before), _contenders(after)
    for which, only in (("earlier", set(old) - set(new)), ("later", set(new) - set(old))):
        if only:
            said.append(f"only in the {which} evaluation: {', '.join(sorted(only))}")
    return said


def _paired(
    before: ContenderRow,
    after: ContenderRow,
    metric: str,
    shared: Sequence[str],
    weights: Weights,
) -> list[tuple[float, float, float]]:
    """Return both values of each shared question that has two, and its weight."""
    old = {a.id: a.values.get(metric, math.nan) for a in before.answers}
    new = {a.id: a.values.get(metric, math.nan) for a in after.answers}
    found = (
        (old.get(name, math.nan), new.get(name, math.nan), weight(weights, metric, name))
        for name in shared
    )
    return [pair for pair in found if all(map(math.isfinite, pair))]


def _turned(
    before: ContenderRow, after: ContenderRow, metric: str
) -> Iterator[tuple[bool, TurnedAnswer]]:
    """Yield the questions that changed sides, and whether they are right now."""
    old = {answer.id: answer for answer in before.answers}
    for answer in after.answers:
        earlier = old.get(answer.id)
        if earlier is None or metric not in earlier.values or metric not in answer.values:
            continue
        if is_right(earlier, metric) == is_right(answer, metric):
            continue
        yield (
            is_right(answer, metric),
            TurnedAnswer(
                contender=after.contender, id=answer.id, before=earlier.text, after=answer.text
            ),
        )


def _some(names: Mapping[BudgetKind, object] | Sequence[str]) -> str:
    return ", ".join(names) or "none"
