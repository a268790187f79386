"""Metrics of answers: by words, by overlap, by vectors, by rules, by preference.

Only the metrics of words are loaded with the package; they need no library. The others
stand in modules of their own, imported when they are asked for.
"""

from reflectory.evaluation.metrics.answers import (
    CLOSED_ANSWERS,
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
    "CLOSED_ANSWERS",
    "Aggregate",
    "AnswerScores",
    "aggregate",
    "contains_answer",
    "exact_match",
    "normalise_answer",
    "score_answer",
    "token_f1",
]
