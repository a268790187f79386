"""Metrics, equal-budget baselines and paired comparison.

Only the metrics are loaded with the package; they need no heavy library.
"""

from reflectory.evaluation.metrics import (
    Aggregate,
    AnswerScores,
    aggregate,
    contains_answer,
    exact_match,
    normalise_answer,
    score_answer,
    token_f1,
)

__all__ = [
    "Aggregate",
    "AnswerScores",
    "aggregate",
    "contains_answer",
    "exact_match",
    "normalise_answer",
    "score_answer",
    "token_f1",
]
