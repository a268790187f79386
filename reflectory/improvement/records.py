"""The records of rounds: which student came from which rows, and what was decided."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from reflectory.errors import UserError
from reflectory.types import Record, Shown

SCHEMA_VERSION = 1

Decision = Literal["promoted", "rolled_back", "failed", "abandoned"]
"""What became of a round; ``abandoned`` when an earlier student was restored in it."""


class StudentRecord(Record):
    """One student: the base, or an adapter that a round trained.

    Attributes:
        number: From 0, which is the student that the configuration names.
        adapter: Folder of its adapter relative to the run; ``None`` for number 0.
        sha256: Of the adapter's weights; empty for number 0.
        parent: The student whose weights training began from; ``None`` for number 0 and
            where it began from the base.
        round: The round that trained it.
        rows: Rows that it was trained on.
        rows_sha256: Of their data set.
        decision: ``base``, ``promoted`` or ``rolled_back``.
        reason: Why.
        figures: Means of the held-out check: metrics of this student.
        versions: Of the libraries that trained it.
        commit: Of the working copy that trained it, where there is one.
    """

    number: int = Field(ge=0)
    adapter: str | None = None
    sha256: str = ""
    parent: int | None = None
    round: int | None = None
    rows: int = 0
    rows_sha256: str = ""
    decision: Literal["base", "promoted", "rolled_back"]
    reason: str = ""
    figures: dict[str, float] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None


class Lineage(Record):
    """Every student of a run; the content of ``students.json``.

    Attributes:
        schema_version: Version of this layout.
        current: Number of the student that the next round begins with.
        students: All of them, by number.
    """

    schema_version: int = SCHEMA_VERSION
    current: int = 0
    students: tuple[StudentRecord, ...]

    def student(self, number: int) -> StudentRecord:
        """Return one student.

        Raises:
            UserError: There is none of this number.
        """
        if not 0 <= number < len(self.students):
            raise UserError(
                f"there is no student {number}",
                hint=f"choose one from 0 to {len(self.students) - 1}; `reflectory improve --list`",
            )
        return self.students[number]

    def of_round(self, number: int) -> StudentRecord | None:
        """Return the student that a round trained, or ``None``."""
        return next((s for s in self.students if s.round == number), None)


class RoundRecord(Shown, Record):
    """What a round did and what became of it; the content of ``round.json``.

    Attributes:
        schema_version: Version of this layout.
        number: From 0.
        student: The student that the round began with.
        trained: The student that it trained; ``None`` when it did not come so far.
        decision: What became of it.
        reason: Why, in one sentence with the figures.
        warnings: What a reader should know besides.
        reviews: What a person said, by review.
        counts: What each stage counted.
        comparisons: The held-out comparisons by metric, as JSON values.
        failure: Stage, class, message and hint of what ended it early.
        settings: The parts of the configuration that the round used.
    """

    schema_version: int = SCHEMA_VERSION
    number: int = Field(ge=0)
    student: int = Field(ge=0)
    trained: int | None = None
    decision: Decision
    reason: str
    warnings: tuple[str, ...] = ()
    reviews: dict[str, bool] = Field(default_factory=dict)
    counts: dict[str, dict[str, Any]] = Field(default_factory=dict)
    comparisons: dict[str, dict[str, Any]] = Field(default_factory=dict)
    failure: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)


class ImprovementResult(Shown, Record):
    """What a call of the rounds left.

    Attributes:
        rounds: All rounds of the run, also those of earlier calls.
        students: All students.
        current: Number of the current one.
    """

    rounds: tuple[RoundRecord, ...]
    students: tuple[StudentRecord, ...]
    current: int

    @property
    def student(self) -> StudentRecord:
        """The current student."""
        return self.students[self.current]

    @property
    def failed(self) -> bool:
        """Whether the last round failed."""
        return bool(self.rounds) and self.rounds[-1].decision == "failed"
