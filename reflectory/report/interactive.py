"""Charts to point at, zoom and hide lines in: the same figures with Plotly.

Plotly is an optional part, ``pip install "reflectory[interactive]"``, and is loaded when a chart
is made. A chart shows itself in a notebook; ``chart.write_html("chart.html")`` writes one
file with its script in it, which needs no network.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from reflectory.alignment import AlignmentMatrix
from reflectory.errors import UserError
from reflectory.report.axes import INK, ORANGE, PALE
from reflectory.report.colours import orange
from reflectory.types import Examination, Trajectory

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_WRAP = 60  # columns of what is said beside the pointer
_LONG = 300  # characters of a text that are said there


def matrix_chart(shown: AlignmentMatrix | Trajectory, *, title: str | None = None) -> Figure:
    """Return A as a heat map that says what each cell is.

    Of a trajectory, the pointer shows question, answer and grade of a cell; of a matrix, its
    value and status.

    Args:
        shown: The matrix, or the trajectory that has it.
        title: Stands above; the instruction of a trajectory by default.

    Returns:
        A figure of Plotly.

    Raises:
        UserError: Plotly is not installed.
    """
    graph = _plotly()
    matrix = shown.alignment if isinstance(shown, Trajectory) else shown
    cells = _cells_of(shown)
    said = [
        [_said(level, t, matrix, cells.get((level, t))) for t in range(matrix.iterations)]
        for level in matrix.levels
    ]
    values = [[None if math.isnan(v) else float(v) for v in row] for row in matrix.values]
    steps = range(matrix.iterations)
    heat = graph.Heatmap(
        z=values,
        x=[f"t={t}" for t in steps],
        y=[_text(level, 24) for level in matrix.levels],
        text=[[_written(matrix, j, t) for t in steps] for j in range(len(matrix.levels))],
        texttemplate="%{text}",
        hovertext=said,
        hoverinfo="text",
        hoverongaps=True,
        colorscale=[[step / 20, orange(step / 20)[0]] for step in range(21)],
        zmin=0.0,
        zmax=1.0,
        xgap=2,
        ygap=2,
        colorbar={"title": "A[j,t]"},
    )
    figure = graph.Figure(heat)
    if title is None and isinstance(shown, Trajectory):
        title = shown.instruction
    _lay_out(figure, title, height=150 + 46 * max(len(matrix.levels), 2))
    figure.update_yaxes(autorange="reversed")  # the easiest level on top
    figure.update_xaxes(title_text="iteration t")
    return figure


def run_chart(trajectories: Iterable[Trajectory], *, most: int = 200) -> Figure:
    """Return the grades G[t] of the loops of a run as lines that say their instruction.

    Args:
        trajectories: Of a run; failed loops are passed over. No more than ``most`` are read.
        most: How many loops are drawn.

    Returns:
        A figure of Plotly, the mean above the loops.

    Raises:
        UserError: Plotly is not installed.
    """
    graph = _plotly()
    done = list(islice((t for t in trajectories if t.status == "done"), most))
    figure = graph.Figure()
    for trajectory in done:
        grades = trajectory.grades
        stop = "" if trajectory.stop is None else f"<br>stopped by {_text(trajectory.stop.rule)}"
        figure.add_scatter(
            x=list(range(len(grades))),
            y=grades,
            mode="lines+markers",
            line={"color": PALE, "width": 1},
            marker={"size": 5},
            showlegend=False,
            hovertext=[
                f"{_text(trajectory.instruction)}<br>G[{t}] = {_grade(score)}{stop}"
                for t, score in enumerate(grades)
            ],
            hoverinfo="text",
        )
    columns = max((len(t.grades) for t in done), default=0)
    found = [[t.grades[i] for t in done if i < len(t.grades)] for i in range(columns)]
    known = [[score for score in column if score is not None] for column in found]
    means = [sum(column) / len(column) if column else None for column in known]
    figure.add_scatter(
        x=list(range(columns)),
        y=means,
        mode="lines+markers",
        line={"color": ORANGE, "width": 3},
        marker={"size": 9},
        name="mean",
        hovertext=[
            f"mean of {len(column)} loops: G[{t}] = {_grade(mean)}"
            for t, (column, mean) in enumerate(zip(known, means, strict=True))
        ],
        hoverinfo="text",
    )
    count = f"{len(done)} loop{'s' * (len(done) != 1)}"
    _lay_out(figure, f"Grades of the responses, {count}", height=420)
    figure.update_xaxes(title_text="reflections t", dtick=1 if columns <= 20 else None)
    figure.update_yaxes(title_text="grade G[t]", range=[0, 1])
    return figure


def _plotly() -> Any:
    try:
        import plotly.graph_objects as graph
    except ImportError as error:
        raise UserError(
            "charts need Plotly, which is not installed",
            hint='pip install "reflectory[interactive]"; the functions of '
            "reflectory.report.plots draw without it",
        ) from error
    return graph


def _lay_out(figure: Any, title: str | None, *, height: int) -> None:
    figure.update_layout(
        title=None if not title else {"text": _text(title, 90), "font": {"size": 15}},
        template="plotly_white",
        font={"color": INK},
        height=height,
        margin={"l": 20, "r": 20, "t": 70 if title else 30, "b": 40},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)


def _cells_of(shown: AlignmentMatrix | Trajectory) -> dict[tuple[str, int], Examination]:
    if not isinstance(shown, Trajectory):
        return {}
    return {(cell.level, cell.iteration): cell for cell in shown.examinations}


def _written(matrix: AlignmentMatrix, j: int, t: int) -> str:
    value = matrix.values[j, t]
    return str(matrix.status[j][t]) if math.isnan(value) else f"{value:.2f}"


def _said(level: str, t: int, matrix: AlignmentMatrix, cell: Examination | None) -> str:
    """Return what stands beside the pointer, in Plotly's few tags."""
    written = _written(matrix, matrix.levels.index(level), t)
    lines = [f"<b>{_text(level)}, t = {t}</b>: {written}"]
    if cell is not None:
        if cell.question is not None:
            lines.append(f"Question: {_text(cell.question.text)}")
        if cell.answer is not None:
            lines.append(f"Answer: {_text(cell.answer.text)}")
        if cell.feedback is not None:
            lines.append(f"Grade: {cell.feedback.score:.2f}")
        if cell.failure is not None:
            lines.append(f"Failed: {_text(cell.failure.message)}")
    return "<br>".join(lines)


def _text(text: str, columns: int = _WRAP) -> str:
    """Return a text of others in lines, without what Plotly would read as a tag."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    short = whole if len(whole) <= _LONG else f"{whole[:_LONG]} ..."
    return "<br>".join(html.escape(line) for line in textwrap.wrap(short, columns)) or "-"


def _grade(score: float | None) -> str:
    return "not graded" if score is None else f"{score:.2f}"
