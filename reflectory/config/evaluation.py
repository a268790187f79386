"""An evaluation: which questions, which contenders, what is measured and held equal."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from reflectory.config.base import Settings

DEFAULT_CONTENDERS = (
    "direct",
    "retrieve",
    "best_of_n",
    "best_of_n_apart",
    "self_consistency",
    "self_refine",
    "loop",
    "loop_one_level",
    "loop_no_retrieval",
    "loop_no_reflection",
)
"""The contenders of an evaluation, in the order of its tables."""

REFERENCE_METRICS = ("f1", "exact_match", "contains", "groundedness", "words")
"""What is measured where answers are compared with references."""

CONSTRAINT_METRICS = ("strict_prompt", "strict_instruction", "loose_prompt", "loose_instruction")
"""What is measured where rules verify what a prompt demands (IFEval)."""

_DEFAULTS = {"primary": "f1", "right": "exact_match"}


class EvaluationConfig(Settings):
    """An evaluation against contenders of the same budget.

    Attributes:
        sets: Files of questions with references or constraints (JSON Lines), or
            ``dataset:NAME?split=...``.
        shape: What their rows are read as: ``auto`` by their fields, ``ifeval`` all with
            constraints that rules can verify, ``questions`` by references alone.
        rows: Which rows of each, counted from 1, such as ``61-100``; all when empty.
        documents: Files and folders that questions without documents of their own are
            answered from; the set's own paragraphs, or the run's documents, when there
            are none.
        contenders: Who answers, by name.
        reference: The contender that the others are compared with; what it spends on a
            question is the budget of all that may ask more than once.
        metrics: What is measured of every answer, by name. The default is that of sets with
            references: a set with constraints is measured by these as well, and one
            without references by these alone.
        primary: The metric that claims rest on; for the default of a set without references
            stands ``strict_prompt``.
        right: The metric by which an answer counts as turned right or wrong: 1 is right; likewise.
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
    shape: Literal["auto", "questions", "ifeval"] = "auto"
    rows: str = ""
    documents: tuple[str, ...] = ()
    contenders: tuple[str, ...] = DEFAULT_CONTENDERS
    reference: str = "loop"
    metrics: tuple[str, ...] = REFERENCE_METRICS
    primary: str = _DEFAULTS["primary"]
    right: str = _DEFAULTS["right"]
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

    def fitted(self, *, references: bool, constraints: bool, documents: bool) -> EvaluationConfig:
        """Return the same with metrics that suit a set, wherever the default ones stand.

        By their values and not by whether somebody wrote them, so that a configuration that
        was saved with its defaults means what it meant.

        Args:
            references: Whether any question has references.
            constraints: Whether any has constraints.
            documents: Whether any is answered from documents.
        """
        if not constraints:
            return self
        changes: dict[str, object] = {}
        if self.metrics == REFERENCE_METRICS:
            compared: tuple[str, ...] = REFERENCE_METRICS[:-1] if references else ()
            if not documents:
                compared = tuple(name for name in compared if name != "groundedness")
            # Words last: a page has no room for all of them.
            changes["metrics"] = (*compared, *CONSTRAINT_METRICS, REFERENCE_METRICS[-1])
        if not references:
            changes |= {
                name: CONSTRAINT_METRICS[0]
                for name, default in _DEFAULTS.items()
                if getattr(self, name) == default
            }
        return self.model_copy(update=changes)
