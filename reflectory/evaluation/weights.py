"""How much a question weighs in the mean of a metric.

Nearly always as much as any other. The share of instructions that are followed is, as it is
published (arXiv:2311.07911), one over all instructions, so that a prompt weighs as much as it
has constraints; and a question that lacks what a metric needs has no part in its mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reflectory.errors import UserError
from reflectory.evaluation.metrics.metric import Metric
from reflectory.evaluation.metrics.registry import METRICS
from reflectory.evaluation.set_rows import EvaluationItem, EvaluationQuestion

Weights = Mapping[str, Mapping[str, float]]
"""By metric and question; a metric that is missing weighs every question the same."""

BY_INSTRUCTION = frozenset({"strict_instruction", "loose_instruction"})
"""Metrics whose mean is over constraints and not over prompts."""


def weights_of(
    questions: Sequence[EvaluationQuestion | EvaluationItem],
    metrics: Sequence[str],
    *,
    alone: Collection[str] = (),
) -> dict[str, dict[str, float]]:
    """Return the weights of the metrics that do not weigh every question the same.

    Args:
        questions: Of the evaluation.
        metrics: Names of what is measured.
        alone: Ids of the questions that are answered without documents, so that nothing can
            be looked up in any.

    Raises:
        UserError: A metric says nothing of any question.
    """
    found = {}
    for name in metrics:
        own = {q.id: _weight(name, q, alone=q.id in alone) for q in questions}
        if not any(own.values()):
            needs = _needs(METRICS[name])
            raise UserError(
                f"the metric {name} needs {needs}, and no question of the set has any",
                hint="choose other metrics, with evaluation.metrics, primary and right",
            )
        if set(own.values()) != {1.0}:
            found[name] = own
    return found


def _needs(metric: Metric) -> str:
    if metric.needs_verifier:
        return "documents"
    return "references" if metric.needs_references else "constraints"


def _weight(name: str, question: EvaluationQuestion | EvaluationItem, *, alone: bool) -> float:
    metric = METRICS[name]
    if alone and metric.needs_verifier:
        return 0.0
    if not metric.defined(question.references, question.constraints):
        return 0.0
    return float(len(question.constraints)) if name in BY_INSTRUCTION else 1.0


def weight(weights: Weights, metric: str, id: str) -> float:
    """Return how much a question weighs in a metric.

    Args:
        weights: Of the evaluation.
        metric: Its name.
        id: Of the question.
    """
    return weights[metric].get(id, 0.0) if metric in weights else 1.0


def weighted_mean(values: Mapping[str, float], metric: str, weights: Weights) -> float | None:
    """Return the mean of a metric over questions; ``None`` where none of them has a part in it.

    Args:
        values: By question.
        metric: Its name.
        weights: Of the evaluation.
    """
    own = {id: weight(weights, metric, id) for id in values}
    total = sum(own.values())
    return sum(own[id] * value for id, value in values.items()) / total if total else None
