"""The alignment matrix: levels as rows, iterations as columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reflectory.alignment.equations import column_change
from reflectory.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import RenderableType

SCHEMA_VERSION = 1


class CellStatus(StrEnum):
    """What is known of one cell."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


def _states_of(known: NDArray[np.bool_], status: Any) -> tuple[tuple[CellStatus, ...], ...]:
    """Return the status of every cell, checked against which values are known."""
    if status is None:
        states = [
            [CellStatus.DONE if cell else CellStatus.PENDING for cell in row] for row in known
        ]
        return tuple(tuple(row) for row in states)
    try:
        given = tuple(tuple(CellStatus(s) for s in row) for row in status)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the status of a cell cannot be read: {error}",
            hint=f"it is one of {', '.join(CellStatus)}",
        ) from error
    done = [[state is CellStatus.DONE for state in row] for row in given]
    if done != known.tolist():
        raise UserError(
            "the status of the cells does not fit their values",
            hint="exactly the cells that are done have a value",
        )
    return given


class AlignmentMatrix:
    """A[j,t] for one loop, with the status of every cell.

    The survey starts from a matrix of zeros. A zero would say "the answer was
    worthless", so a cell that was not computed holds NaN here (``null`` in
    JSON) and its status says why.

    Args:
        levels: Names of the k levels, easiest first; at least one, no repeats.
        values: Array of shape (k, T), each cell in [0, 1] or NaN.
        status: Status per cell, shape (k, T); by default DONE where there is a
            value and PENDING elsewhere.
        epsilon: The threshold that the loop was run with, drawn as a line in
            the curve; ``None`` when there was none.
        converged: Whether the loop stopped because of epsilon.

    Raises:
        UserError: Levels, shapes, values and status do not fit together.
    """

    def __init__(
        self,
        levels: Sequence[str],
        values: Any = None,
        *,
        status: Any = None,
        epsilon: float | None = None,
        converged: bool = False,
    ) -> None:
        self._levels = tuple(levels)
        if not self._levels or len(set(self._levels)) != len(self._levels):
            raise UserError(
                f"an alignment matrix needs level names without repeats, got {list(levels)}",
                hint="give each level a name of its own",
            )
        k = len(self._levels)
        try:
            array = np.array([[]] * k if values is None else values, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"alignment values are no array of numbers: {error}",
                hint="rows are levels, columns are iterations, NaN is a missing cell",
            ) from error
        if array.ndim != 2 or array.shape[0] != k:
            raise UserError(
                f"alignment values have shape {array.shape}, expected ({k}, T)",
                hint="rows are levels, columns are iterations",
            )
        known = ~np.isnan(array)
        if np.any((array[known] < 0.0) | (array[known] > 1.0)):
            raise UserError(
                "alignment values must lie in [0, 1]", hint="use NaN for a missing cell"
            )
        self._status = _states_of(known, status)
        array += 0.0  # a negative zero becomes a plain one: equal matrices have one hash
        array.setflags(write=False)
        self._values = array
        if epsilon is not None and not math.isfinite(epsilon):
            raise UserError(f"epsilon must be a finite number, got {epsilon}", hint="or None")
        self.epsilon = None if epsilon is None else float(epsilon)
        self.converged = bool(converged)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the k levels, easiest first."""
        return self._levels

    @property
    def values(self) -> NDArray[np.float64]:
        """The matrix as a read-only array of shape (k, T), NaN where nothing is known."""
        return self._values

    @property
    def status(self) -> tuple[tuple[CellStatus, ...], ...]:
        """Status per cell, k rows of T."""
        return self._status

    @property
    def iterations(self) -> int:
        """T, the number of columns."""
        return int(self._values.shape[1])

    @property
    def deltas(self) -> NDArray[np.float64]:
        """Norm of the change from each column to the next (Equation 32), shape (max(T-1, 0),).

        Entry i is the change from iteration i to i + 1; NaN where a cell failed.
        """
        columns = self._values.T
        return np.array(
            [column_change(now, before) for before, now in pairwise(columns)],
            dtype=np.float64,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AlignmentMatrix):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield (level, row) pairs, easiest level first."""
        return iter(zip(self._levels, self._values, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as plain JSON types, with ``None`` for missing cells."""
        return {
            "schema_version": SCHEMA_VERSION,
            "levels": list(self._levels),
            "values": [[None if math.isnan(v) else float(v) for v in row] for row in self._values],
            "status": [[s.value for s in row] for row in self._status],
            "epsilon": self.epsilon,
            "converged": self.converged,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AlignmentMatrix:
        """Build a matrix from what :meth:`to_dict` returned.

        Raises:
            UserError: The data is of a newer schema or is no matrix.
        """
        version = data.get("schema_version", SCHEMA_VERSION) if isinstance(data, dict) else None
        if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
            raise UserError(
                f"this alignment matrix has schema version {version}, known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory to read it",
            )
        try:
            levels, rows = data["levels"], data["values"]
            if not isinstance(levels, list) or not all(isinstance(n, str) for n in levels):
                raise TypeError("levels must be a list of names")
            if not all(v is None or type(v) in (int, float) for row in rows for v in row):
                raise TypeError("values must be lists of numbers")
            values = [[math.nan if v is None else float(v) for v in row] for row in rows]
            return cls(
                levels,
                values,
                status=data.get("status"),
                epsilon=data.get("epsilon"),
                converged=bool(data.get("converged", False)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"this is no alignment matrix: {error!r}",
                hint="pass what AlignmentMatrix.save wrote",
            ) from error

    def save(self, path: str | Path) -> Path:
        """Write the matrix as JSON and return the path."""
        target = Path(path)
        target.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return target

    @classmethod
    def load(cls, path: str | Path) -> AlignmentMatrix:
        """Read a matrix that :meth:`save` wrote.

        Raises:
            UserError: The file is missing, is not JSON or holds no matrix.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"cannot read an alignment matrix from {path}: {error}",
                hint="pass a file that AlignmentMatrix.save wrote",
            ) from error
        return cls.from_dict(data)

    def plot(self, **options: Any) -> tuple[Axes, Axes]:
        """Draw the matrix as the survey's Figure 5 does, beside the curve of its change.

        See :func:`reflectory.report.heatmap.plot_alignment` for the options.
        """
        from reflectory.report.heatmap import plot_alignment

        return plot_alignment(self, **options)

    def _repr_html_(self) -> str:
        """What a notebook shows: a table in the picture's colours."""
        from reflectory.report.matrix_html import matrix_html

        return matrix_html(self)

    def __rich__(self) -> RenderableType:
        """What rich prints, as in ``rich.print(matrix)``."""
        from reflectory.report.terminal import matrix_table

        return matrix_table(self)

    def _repr_png_(self) -> bytes:
        """What is shown where there is no HTML, as on paper: the picture with its curve."""
        from reflectory.report.heatmap import alignment_png

        return alignment_png(self)

    def __repr__(self) -> str:
        return f"AlignmentMatrix({len(self._levels)} levels x {self.iterations} iterations)"

    def __str__(self) -> str:
        width = max(len(name) for name in self._levels)
        header = " " * width + "".join(f"   t={t:<3}" for t in range(self.iterations))
        mark = {CellStatus.FAILED: "failed", CellStatus.PENDING: "."}
        rows = [
            f"{name:<{width}}"
            + "".join(
                f"  {v:6.2f}" if state is CellStatus.DONE else f"  {mark[state]:>6}"
                for v, state in zip(row, states, strict=True)
            )
            for (name, row), states in zip(self, self._status, strict=True)
        ]
        return "\n".join([header, *rows])
