"""What an evaluation records: attempts, answers, tables and the report that holds them all.

A contender is recorded as the sequence of answers that it would have given had it stopped
there, each with the calls and tokens spent so far. One sequence serves every table: the
answer at a budget is the last attempt that fits into it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reflectory.evaluation.comparison import PairedComparison
from reflectory.evaluation.judge.records import JudgeReport
from reflectory.evaluation.matrices import MatrixReport
from reflectory.evaluation.turning import TurningPoint
from reflectory.types import Passage, Record, Shown

SCHEMA_VERSION = 1
"""Of the layout of ``evaluation.json``."""

BudgetKind = Literal["calls", "tokens"]
"""What a table holds equal over the contenders."""


class Attempt(Record):
    """What a contender would answer if it stopped here.

    Attributes:
        text: The answer.
        calls: Model calls so far, completions and scorings alike, the judge's included.
        tokens: Tokens read and written so far, whether a cache held them or not.
        note: What made it, such as ``R_2`` or ``sample 7``.
        grade: The judge's score in [0, 1] where the contender asked for one.
        extra: Passages that it was written from besides C_0; groundedness counts them.
    """

    text: str
    calls: int = Field(ge=0)
    tokens: int = Field(ge=0)
    note: str = ""
    grade: float | None = None
    extra: tuple[Passage, ...] = ()


class ContenderAnswer(Record):
    """All attempts of one contender at one question.

    Attributes:
        contender: Its name.
        id: Of the question.
        attempts: In the order of what they cost; empty when nothing was answered.
        trajectory: Id of the loop's trajectory, where there is one.
        failure: Why there is no answer, or why it ended early.
        seconds: From the first call to the last.
        key: Hash of all that decides it; when an evaluation is resumed, an answer whose key
            has changed is asked for again.
    """

    contender: str
    id: str
    key: str = ""
    attempts: tuple[Attempt, ...] = ()
    trajectory: str | None = None
    failure: str = ""
    seconds: float = 0.0

    def within(self, kind: BudgetKind, budget: int | None) -> Attempt | None:
        """Return the last attempt that the budget pays for.

        An attempt that cost more is never returned; ``None`` when the first one did.

        Args:
            kind: What is counted.
            budget: Most calls or tokens; ``None`` for no limit.
        """
        fitting = [a for a in self.attempts if budget is None or getattr(a, kind) <= budget]
        return fitting[-1] if fitting else None


class ScoredAnswer(Record):
    """One answer of a table with its metrics.

    Attributes:
        id: Of the question.
        text: The answer; ``None`` when there is none within the budget.
        calls: Calls it cost.
        tokens: Tokens it cost.
        note: What made it.
        values: Metrics by name. Without an answer every one is 0; one that says nothing of
            the question is missing.
    """

    id: str
    text: str | None
    calls: int = 0
    tokens: int = 0
    note: str = ""
    values: dict[str, float] = Field(default_factory=dict)


class ContenderRow(Record):
    """One contender in one table.

    Attributes:
        contender: Its name.
        description: One sentence for people.
        answers: One per question, in the order of the set.
        means: Metrics averaged over the questions that they say something of.
        calls: Mean calls per question.
        tokens: Mean tokens per question.
        missing: Questions without an answer within the budget.
    """

    contender: str
    description: str = ""
    answers: tuple[ScoredAnswer, ...]
    means: dict[str, float]
    calls: float
    tokens: float
    missing: int


class ContenderComparison(Record):
    """The reference contender against another one, on one metric of one table.

    Attributes:
        budget: Which table.
        contender: The other one; ``result.before`` is its mean, ``result.after`` the
            reference contender's.
        metric: Name of the metric.
        result: Difference, interval and p-value.
        adjusted: The p-value corrected for the number of contenders (Holm 1979).
    """

    budget: BudgetKind
    contender: str
    metric: str
    result: PairedComparison
    adjusted: float = Field(ge=0.0, le=1.0)


class EvaluationReport(Shown, Record):
    """Everything that an evaluation found; ``evaluation.json`` holds it.

    Attributes:
        schema_version: Of this record.
        name: Of the set.
        rows: Number of questions.
        set_hash: sha256 of questions, references and documents.
        reference: Name of the contender that the others are compared with (the loop).
        primary: The metric that claims rest on.
        weights: How much each question weighs in the mean of a metric, where not all weigh
            the same: 0 for one that lacks what the metric needs, the number of its
            constraints for shares of instructions.
        tables: Rows of each table, in the order of the configuration.
        comparisons: All pairs, metrics and tables.
        turning: Answers turned right and wrong at each iteration of the reference contender,
            and what stopping there would have given.
        judge: What the trial of the judge found; ``None`` when it was not asked for.
        matrices: What the alignment matrices show; ``None`` without a loop among the
            contenders.
        domains: Mean of the primary metric of the reference contender by domain.
        generalisation: Equation 13 over the domains; ``None`` with fewer than two.
        config: The configuration as plain data.
        environment: Versions, device and models' fingerprints.
        seconds: Wall-clock time of all sessions.
        warnings: What a reader has to know before believing a number, such as few rows.
    """

    schema_version: Literal[1] = 1
    name: str
    rows: int = Field(ge=1)
    set_hash: str
    reference: str
    primary: str
    weights: dict[str, dict[str, float]] = Field(default_factory=dict)
    tables: dict[BudgetKind, tuple[ContenderRow, ...]]
    comparisons: tuple[ContenderComparison, ...] = ()
    turning: tuple[TurningPoint, ...] = ()
    judge: JudgeReport | None = None
    matrices: MatrixReport | None = None
    domains: dict[str, float] = Field(default_factory=dict)
    generalisation: float | None = None
    config: dict[str, object] = Field(default_factory=dict)
    environment: dict[str, object] = Field(default_factory=dict)
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
