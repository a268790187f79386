"""One reflective loop: T, epsilon, levels, and how tokens are drawn."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from reflectory.alignment import EpsilonRule, PatienceRule, StopRule, TargetRule
from reflectory.config.base import Settings, Unit
from reflectory.config.levels import DEFAULT_LEVELS, Level
from reflectory.config.retrieval import RetrievalConfig
from reflectory.config.revision import RevisionConfig


class SamplingConfig(Settings):
    """How the agents draw their tokens.

    Attributes:
        question_tokens: Most tokens of a question.
        answer_tokens: Most tokens of an answer to a question.
        response_tokens: Most tokens of R_t.
        grade_tokens: Most tokens of a grade in words.
        teacher_temperature: Randomness of questions; 0 asks the likeliest.
        student_temperature: Randomness of answers and responses.
        repetition_penalty: For all of them; small models repeat themselves.
    """

    question_tokens: int = Field(default=40, ge=4)
    answer_tokens: int = Field(default=48, ge=1)
    response_tokens: int = Field(default=96, ge=1)
    grade_tokens: int = Field(default=160, ge=1)
    teacher_temperature: float = Field(default=0.7, ge=0.0, le=5.0)
    student_temperature: float = Field(default=0.0, ge=0.0, le=5.0)
    repetition_penalty: float = Field(default=1.1, gt=0.0, le=5.0)


class LoopConfig(Settings):
    """One reflective loop (Algorithm 1).

    Attributes:
        max_iterations: T, the most iterations.
        epsilon: Threshold of Equation 32; the loop stops below it.
        patience: Also stop when the mean of A has not risen for so many iterations.
        target: Also stop when every level has reached this value of A.
        levels: l_1 to l_k, easiest first.
        returns: Which response is returned: the ``last`` (as in the survey) or
            the ``best`` by G. Decided in docs/decisions.md.
        grader: ``auto`` takes the likelihood grader where the teacher can score
            texts and the spoken one elsewhere.
        question_attempts: Tries at a question before the cell counts as failed.
        grade_attempts: Tries at a grade in words before it counts as failed.
        citations: ``find`` attributes each answer to the passages whose words it
            repeats; ``ask`` also has the student name them, which strong models can
            and small ones answer worse for (docs/experiments.md).
        review: Stop for a person after a ``question`` or a ``grade``.
        retrieval: How documents become context.
        revision: Which draft of a reflection becomes the next response.
        sampling: How tokens are drawn.
        prompts: Replacements of single prompts by name (see ``agents/prompts``).
        seed: Seed of every random draw.
    """

    max_iterations: int = Field(default=3, ge=1, le=1000)
    epsilon: float = Field(default=0.05, gt=0.0, allow_inf_nan=False)
    patience: int | None = Field(default=None, ge=1)
    target: Unit | None = None
    levels: tuple[Level, ...] = DEFAULT_LEVELS
    returns: Literal["last", "best"] = "last"
    grader: Literal["auto", "likelihood", "spoken"] = "auto"
    question_attempts: int = Field(default=3, ge=1, le=20)
    grade_attempts: int = Field(default=3, ge=1, le=20)
    citations: Literal["find", "ask"] = "find"
    review: tuple[Literal["question", "grade"], ...] = ()
    retrieval: RetrievalConfig = RetrievalConfig()
    revision: RevisionConfig = RevisionConfig()
    sampling: SamplingConfig = SamplingConfig()
    prompts: dict[str, str] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)

    @field_validator("levels")
    @classmethod
    def _unique_levels(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        if not levels:  # not min_length: that counts only the levels that are valid
            raise ValueError("at least one level is needed")
        names = [level.name for level in levels]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"level names must differ, repeated: {', '.join(repeated)}")
        return levels

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the levels, easiest first."""
        return tuple(level.name for level in self.levels)

    def stop_rules(self) -> tuple[StopRule, ...]:
        """Return the rules that may stop the loop, epsilon first."""
        rules: list[StopRule] = [EpsilonRule(self.epsilon)]
        if self.patience is not None:
            rules.append(PatienceRule(self.patience))
        if self.target is not None:
            rules.append(TargetRule(self.target))
        return tuple(rules)
