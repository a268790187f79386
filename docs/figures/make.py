"""Draw the figures of the concepts page from a run that exists.

    reflectory demo --output runs/demo
    python docs/figures/make.py runs/demo

Everything in them is what the models of that run said and how they were graded; no number
is chosen, and the trajectories are taken in the order in which the instructions were given.
"""

from __future__ import annotations

import html
import re
import sys
import textwrap
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes

from reflectory.evaluation.trends import matrix_report
from reflectory.report.axes import BLUE, INK, ORANGE, legend_below, new_axes, plain
from reflectory.report.heatmap import save_alignment, save_figure
from reflectory.report.matrix_plots import plot_levels
from reflectory.runs import RunView
from reflectory.types import Trajectory

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "concepts.md"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "reflectory", "font.family": "sans-serif"}


def draw_changes(trajectories: list[Trajectory]) -> Axes:
    """Draw the norm of Equation 32 of every loop, and epsilon."""
    ax = plain(new_axes(5.6, 3.4))
    for loop in trajectories:
        deltas = loop.alignment.deltas
        ax.plot(range(1, len(deltas) + 1), deltas, "o-", color=ORANGE, alpha=0.6, linewidth=1.5)
    ax.plot([], [], "o-", color=ORANGE, label="one loop")
    ax.axhline(trajectories[0].epsilon, color=INK, linestyle="--", linewidth=1.1, label="epsilon")
    ax.set_xticks(range(1, max(len(loop.alignment.deltas) for loop in trajectories) + 1))
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel("iteration t")
    ax.set_ylabel("norm of A[:,t] - A[:,t-1]")
    legend_below(ax)
    return ax


def draw_grades(trajectories: list[Trajectory]) -> Axes:
    """Draw G[t] of every loop's responses."""
    ax = plain(new_axes(5.6, 3.4))
    longest = max(len(loop.grades) for loop in trajectories)
    for loop in trajectories:
        ax.plot(range(len(loop.grades)), loop.grades, "s-", color=BLUE, alpha=0.6, linewidth=1.5)
    ax.plot([], [], "s-", color=BLUE, label="one loop")
    ax.set_xticks(range(longest), labels=[f"R_{t}" for t in range(longest)])
    ax.set_ylim(0.0, 1.0)
    ax.set_ylabel("G[t], the response's own grade")
    legend_below(ax)
    return ax


def iteration_table(loop: Trajectory, t: int) -> str:
    """Write out one iteration of a loop as a Markdown table: a row per level."""
    rows = ["| level | Q[j,t] | R[j,t] | F[j,t] | A[j,t] |", "|---|---|---|---|---|"]
    cells = {cell.level: cell for cell in loop.examinations if cell.iteration == t}
    for level in loop.levels:
        cell = cells[level]
        asked = said_as_data(cell.question.text if cell.question else "failed")
        said = said_as_data(cell.answer.text if cell.answer else "failed")
        score = f"{cell.feedback.score:.2f}" if cell.feedback else "unknown"
        value = f"{cell.alignment:.2f}" if cell.alignment is not None else "unknown"
        rows.append(f"| {level} | {asked} | {said} | {score} | {value} |")
    return f"Instruction: *{said_as_data(loop.instruction)}*\n\n" + "\n".join(rows)


def said_as_data(text: str, longest: int = 240) -> str:
    """Return what a model said so that Markdown shows it and does nothing with it."""
    short = textwrap.shorten(text, longest, placeholder=" ...")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", html.escape(short, quote=False))


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what stands between a page's marks of that name."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.read_text("utf-8").partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page} has no marks {start.strip()} and {end}")
    page.write_text(f"{before}{start}\n{text}\n\n{end}{after}", "utf-8")


def draw_all(run: Path, folder: Path) -> list[Path]:
    """Draw every figure of the page, and its table, from a run directory; return the files."""
    trajectories = sorted(RunView.read(run).trajectories, key=lambda loop: loop.id)
    first = trajectories[0]
    with rc_context(STYLE):
        drawn = {
            "levels.svg": plot_levels(matrix_report(trajectories)),
            "changes.svg": draw_changes(trajectories),
            "grades.svg": draw_grades(trajectories),
        }
        files = [save_alignment(first.alignment, folder / "matrix.svg")]
        for name, ax in drawn.items():
            files.append(save_figure(ax.get_figure(root=True), folder / name))
    write_between(PAGE, "one iteration", iteration_table(first, 0))
    return [*files, PAGE]


if __name__ == "__main__":
    for file in draw_all(Path(sys.argv[1]), FOLDER):
        print(file)
