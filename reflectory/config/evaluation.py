"""An evaluation: which questions, which contenders, what is measured and held equal."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from reflectory.config.base import Settings

DEFAULT_CONTENDERS = (
    "direct",
    "retrieve",
    "best_of_n",
    "best_of_n_condensed",
    "self_consistency",
    "self_refine",
    "loop",
    "loop_one_level",
    "loop_no_retrieval",
    "loop_no_reflection",
)
"""The contenders of an evaluation, in the order of its tables."""


class EvaluationConfig(Settings):
    """An evaluation against contenders of the same budget.

    Attributes:
        sets: Files of questions with references (JSON Lines), or ``dataset:NAME?split=...``.
        rows: Which rows of each, counted from 1, such as ``61-100``; all when empty.
        documents: Files and folders that questions without documents of their own are
            answered from; the set's own paragraphs, or the run's documents, when there
            are none.
        contenders: Who answers, by name.
        reference: The contender that the others are compared with; what it spends on a
            question is the budget of all that may ask more than once.
        metrics: What is measured of every answer, by name.
        primary: The metric that claims rest on.
        right: The metric by which an answer counts as turned right or wrong: 1 is right.
        budgets: What the tables hold equal, one table each.
        calls: Most model calls per question, instead of what the reference spends.
        tokens: Most tokens per question, likewise.
        temperature: Randomness of the answers that sampling contenders draw.
        samples: Most answers that they draw for one question.
        judge: Whether the judge is put on trial.
        confidence: Of the intervals.
        resamples: Draws of the bootstrap and of the permutation test.
        seed: Seed of samples, bootstrap and tests.
    """

    sets: tuple[str, ...] = ()
    rows: str = ""
    documents: tuple[str, ...] = ()
    contenders: tuple[str, ...] = DEFAULT_CONTENDERS
    reference: str = "loop"
    metrics: tuple[str, ...] = ("f1", "exact_match", "contains", "groundedness", "words")
    primary: str = "f1"
    right: str = "exact_match"
    budgets: tuple[Literal["calls", "tokens"], ...] = ("calls", "tokens")
    calls: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.7, gt=0.0, le=5.0)
    samples: int = Field(default=256, ge=1, le=100_000)
    judge: bool = True
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    resamples: int = Field(default=10_000, ge=100, le=1_000_000)
    seed: int = Field(default=0, ge=0)

    @field_validator("sets", "documents", "contenders", "metrics", "budgets", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("contenders", "metrics", "budgets")
    @classmethod
    def _some_and_each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("at least one name is needed")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"named more than once: {', '.join(repeated)}")
        return names

    @property
    def measured(self) -> tuple[str, ...]:
        """All metrics that the figures need, ``primary`` and ``right`` included."""
        return tuple(dict.fromkeys((*self.metrics, self.primary, self.right)))
