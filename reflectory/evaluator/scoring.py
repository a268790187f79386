"""From answers to tables: metrics, means and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reflectory.agents.verification import Verifier
from reflectory.config import EvaluationConfig
from reflectory.contenders.protocol import Contender
from reflectory.evaluation.metrics.registry import measure_answers
from reflectory.evaluation.multiple import compare_contenders
from reflectory.evaluation.records import (
    Attempt,
    BudgetKind,
    ContenderAnswer,
    ContenderComparison,
    ContenderRow,
    ScoredAnswer,
)
from reflectory.evaluation.set_rows import EvaluationItem
from reflectory.evaluation.weights import Weights, weight, weighted_mean
from reflectory.evaluator.answering import Answers, Budgets
from reflectory.models.protocol import Embedder

Values = dict[str, float]
Tables = dict[BudgetKind, tuple[ContenderRow, ...]]
_Said = tuple[str, str, tuple[str, ...]]


class ScoreSheet:
    """The metrics of every attempt that was made; the same answer is measured once.

    Args:
        items: Questions, references, constraints and contexts.
        names: Metrics.
        weights: How much a question weighs in a metric, where not all weigh the same.
    """

    def __init__(
        self, items: Sequence[EvaluationItem], names: Sequence[str], weights: Weights
    ) -> None:
        self._items = {item.id: item for item in items}
        self.names = tuple(names)
        self.weights = weights
        self._values: dict[_Said, Values] = {}

    async def measure(
        self, answers: Answers, *, embedder: Embedder | None, verifier: Verifier | None
    ) -> None:
        """Measure all attempts of all contenders.

        A metric that an answer leaves undefined (groundedness, when it states nothing)
        counts as 0: what says nothing is supported by nothing. So does a metric that says
        nothing of a question, whose weight in it is 0.
        """
        said = {
            _said(id, attempt): attempt
            for by_question in answers.values()
            for id, answer in by_question.items()
            for attempt in answer.attempts
        }
        items = [self._items[id] for id, _, _ in said]
        found = await measure_answers(
            [attempt.text for attempt in said.values()],
            [item.references for item in items],
            [
                (*item.context, *attempt.extra)
                for item, attempt in zip(items, said.values(), strict=True)
            ],
            [item.question for item in items],
            self.names,
            embedder=embedder,
            verifier=verifier,
            constraints=[item.constraints for item in items],
        )
        for key, values in zip(said, found, strict=True):
            self._values[key] = {name: values.get(name, 0.0) for name in self.names}

    def of(self, id: str, attempt: Attempt | None) -> Values:
        """Return the metrics of an attempt; all are 0 where there is none."""
        if attempt is None:
            return dict.fromkeys(self.names, 0.0)
        return self._values[_said(id, attempt)]

    def defined(self, id: str, attempt: Attempt | None) -> Values:
        """Return the metrics of an attempt that say something of its question."""
        values = self.of(id, attempt)
        return {name: v for name, v in values.items() if weight(self.weights, name, id) > 0.0}

    def of_all(self, answers: Mapping[str, ContenderAnswer]) -> dict[str, list[Values]]:
        """Return the metrics of one contender's attempts, by question."""
        return {
            id: [self.of(id, attempt) for attempt in answer.attempts]
            for id, answer in answers.items()
        }


def _said(id: str, attempt: Attempt) -> _Said:
    return id, attempt.text, tuple(passage.id for passage in attempt.extra)


def tables_of(
    contenders: Sequence[Contender],
    items: Sequence[EvaluationItem],
    answers: Answers,
    budgets: Budgets,
    sheet: ScoreSheet,
    kinds: Sequence[BudgetKind],
) -> Tables:
    """Return one table per budget, a row per contender."""
    return {
        kind: tuple(
            _row(contender, items, answers[contender.name], budgets, sheet, kind)
            for contender in contenders
        )
        for kind in kinds
    }


def _row(
    contender: Contender,
    items: Sequence[EvaluationItem],
    answers: Mapping[str, ContenderAnswer],
    budgets: Budgets,
    sheet: ScoreSheet,
    kind: BudgetKind,
) -> ContenderRow:
    scored = []
    for item in items:
        attempt = answers[item.id].within(kind, budgets[item.id][kind])
        cost = {} if attempt is None else attempt.model_dump(include={"calls", "tokens", "note"})
        scored.append(
            ScoredAnswer(
                id=item.id,
                text=None if attempt is None else attempt.text,
                values=sheet.defined(item.id, attempt),
                **cost,
            )
        )
    count = len(scored)
    return ContenderRow(
        contender=contender.name,
        description=contender.description,
        answers=tuple(scored),
        means={
            name: mean for name in sheet.names if (mean := _mean(scored, name, sheet)) is not None
        },
        calls=sum(s.calls for s in scored) / count,
        tokens=sum(s.tokens for s in scored) / count,
        missing=sum(s.text is None for s in scored),
    )


def _mean(scored: Sequence[ScoredAnswer], name: str, sheet: ScoreSheet) -> float | None:
    values = {answer.id: answer.values.get(name, 0.0) for answer in scored}
    return weighted_mean(values, name, sheet.weights)


def comparisons_of(
    tables: Tables, settings: EvaluationConfig, weights: Weights
) -> tuple[ContenderComparison, ...]:
    """Return the reference against every other contender, in every table and metric."""
    found: list[ContenderComparison] = []
    for kind, rows in tables.items():
        (reference,) = (row for row in rows if row.contender == settings.reference)
        others = [row for row in rows if row is not reference]
        found += compare_contenders(
            reference,
            others,
            settings.measured,
            kind,
            confidence=settings.confidence,
            resamples=settings.resamples,
            seed=settings.seed,
            weights=weights,
        )
    return tuple(found)
