"""The record of a whole loop, and how lines of older versions are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationError

from reflectory.alignment import AlignmentMatrix
from reflectory.errors import UserError
from reflectory.types.answers import Failure
from reflectory.types.documents import Passage
from reflectory.types.loop import (
    ContextAddition,
    Examination,
    Flag,
    Response,
    StopReason,
    matrix_of,
)
from reflectory.types.record import Record

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA_VERSION = 3


def _to_version_2(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 added evidence and additions; where they were not recorded they stay empty.

    What a version 1 line knows of additions (which passages came) does not say why,
    so none are made up.
    """
    return {**data, "schema_version": 2}


def _to_version_3(data: dict[str, Any]) -> dict[str, Any]:
    """Version 3 added the drafts among which a response was chosen; before, nothing was."""
    return {**data, "schema_version": 3}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _to_version_2,
    2: _to_version_3,
}
"""From schema version n to n + 1, keyed by n; applied one after the other on reading."""


class Trajectory(Record):
    """All of one loop: the record that everything else is made from.

    Attributes:
        schema_version: Version of this layout; older ones are migrated on reading.
        id: Derived from the instruction and its place in the input.
        instruction: I.
        levels: Names of the levels, easiest first.
        passages: Every passage that was in use, by id.
        responses: R_0 to R_final, in order.
        examinations: The cells, ordered by iteration and then by level.
        additions: What joined C_0 on the way to the last context, in its order.
        stop: Why the loop ended; ``None`` when it failed.
        chosen: Index into ``responses`` of the one that is returned.
        epsilon: The threshold of the loop, for drawing.
        models: Fingerprints of teacher, student, embedder and grader.
        seed: Seed of all its random draws.
        flags: Reasons to look twice.
        error: Set when the loop failed as a whole; nothing else may be complete then.
        metadata: What the user attached to the instruction.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    instruction: str
    levels: tuple[str, ...]
    passages: dict[str, Passage] = Field(default_factory=dict)
    responses: tuple[Response, ...] = ()
    examinations: tuple[Examination, ...] = ()
    additions: tuple[ContextAddition, ...] = ()
    stop: StopReason | None = None
    chosen: int = 0
    epsilon: float | None = None
    models: dict[str, str] = Field(default_factory=dict)
    seed: int = 0
    flags: tuple[Flag, ...] = ()
    error: Failure | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def status(self) -> str:
        """``done`` or ``failed``."""
        return "failed" if self.error is not None else "done"

    @property
    def response(self) -> str:
        """The text that the loop returns (R_final, or the best by G when so configured)."""
        return self.responses[self.chosen].text if self.responses else ""

    @property
    def grades(self) -> list[float | None]:
        """G[0..t], ``None`` where a response could not be graded."""
        return [r.grade.score if r.grade is not None else None for r in self.responses]

    @property
    def groundedness(self) -> list[float | None]:
        """Share of supported statements of R_0..R_t, ``None`` where nothing was measured."""
        return [r.answer.groundedness for r in self.responses]

    @property
    def context(self) -> tuple[Passage, ...]:
        """The passages in use for the last response, in order."""
        if not self.responses:
            return ()
        return tuple(self.passages[i] for i in self.responses[-1].answer.context)

    @property
    def alignment(self) -> AlignmentMatrix:
        """A as an :class:`~reflectory.alignment.AlignmentMatrix` of shape (k, T)."""
        return matrix_of(
            self.levels,
            self.examinations,
            epsilon=self.epsilon,
            converged=self.stop is not None and self.stop.converged,
        )

    def to_json(self) -> str:
        """Return one line of JSON, the same bytes for equal trajectories."""
        return self.model_dump_json()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from reflectory.report.reading import trajectory_css, trajectory_html

        return f"<style>{trajectory_css()}</style>\n{trajectory_html(self)}"

    def __rich__(self) -> RenderableType:
        """What rich prints, as in ``rich.print(trajectory)``."""
        from reflectory.report.reading import trajectory_text

        return trajectory_text(self)

    def __repr__(self) -> str:
        count = len(self.responses)
        return f"Trajectory({self.id!r}, {count} response{'s' * (count != 1)}, {self.status})"

    def __str__(self) -> str:
        """The trajectory to read, as text without colours."""
        from reflectory.report.reading import plain_text

        return plain_text(self)

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read what :meth:`to_json` wrote, also by an older version.

        Raises:
            UserError: The line is not a trajectory, or one of a newer schema.
        """
        import json

        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"not a trajectory: {error}", hint="the line is not JSON") from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if type(version) is not int or version < 1:
            raise UserError("not a trajectory: no schema version", hint="is this another file?")
        if version > SCHEMA_VERSION:
            raise UserError(
                f"this trajectory has schema version {version}, known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory to read it",
            )
        for step in range(version, SCHEMA_VERSION):
            data = MIGRATIONS[step](data)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UserError(f"not a trajectory: {error}", hint="is the file damaged?") from error
