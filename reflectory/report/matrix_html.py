"""The matrix as a table of HTML: what a notebook shows, and what a screen reader can read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.report.colours import orange
from reflectory.report.html import environment


@dataclass(frozen=True)
class _Cell:
    """One cell as the template writes it."""

    text: str
    kind: str
    background: str = ""
    ink: str = ""


def matrix_html(matrix: AlignmentMatrix, *, caption: str | None = None, note: str = "") -> str:
    """Return the matrix as a fragment of HTML that is readable on light and dark pages.

    Values are written out and colour only repeats them. A failed cell is hatched and says so,
    a pending one is a dash. The last row is the change (Equation 32), with a star below
    epsilon.

    Args:
        matrix: k levels by T iterations; T may be 0.
        caption: Stands above; what is shown and how the loop ended by default.
        note: Stands below.
    """
    rows = [
        (level, [_cell(float(v), state) for v, state in zip(values, states, strict=True)])
        for (level, values), states in zip(matrix, matrix.status, strict=True)
    ]
    return whole_characters(
        environment()
        .get_template("matrix.html.j2")
        .render(
            caption=matrix_caption(matrix) if caption is None else caption,
            note=note,
            iterations=range(matrix.iterations),
            rows=rows,
            changes=[_change(delta, matrix.epsilon) for delta in matrix.deltas],
            epsilon=matrix.epsilon,
        )
    )


def whole_characters(text: str) -> str:
    """Return a text without halves of characters, which no message to a notebook can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def matrix_caption(matrix: AlignmentMatrix) -> str:
    """Return one line that says what a matrix is, and how its loop ended."""
    levels, count = len(matrix.levels), matrix.iterations
    size = f"{levels} level{'s' * (levels != 1)}, {count} iteration{'s' * (count != 1)}"
    end = f"; converged at t = {count - 1}" if matrix.converged and count else ""
    return f"Alignment A[j,t]: {size}{end}"


def _cell(value: float, state: CellStatus) -> _Cell:
    if state is CellStatus.FAILED:
        return _Cell("failed", "failed")
    if state is CellStatus.PENDING or math.isnan(value):
        return _Cell("-", "pending")
    background, ink = orange(value)
    return _Cell(f"{value:.2f}", "done", background, ink)


def _change(delta: float, epsilon: float | None) -> str:
    if math.isnan(delta):
        return "not known"
    return f"{delta:.2f}{'*' if epsilon is not None and delta < epsilon else ''}"
