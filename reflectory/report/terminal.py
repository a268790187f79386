"""The matrix, a trajectory and scores in the terminal, drawn with rich.

Everything here returns a renderable; printing is the caller's. Meaning never
rests on colour alone: values, ``fail`` and ``-`` are written out, so that the
output can be read on a plain terminal, in a log and by people who do not see
the colours. Only ASCII is added to the texts, for consoles that know no more.

What models and documents say is shown without control characters, so that it
cannot move the cursor or change the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.report.cleaning import clean
from reflectory.report.reading.words import FLAGS, failure_words
from reflectory.types import Response, Trajectory

Score = float | int | None

# Sequential oranges from light to dark, the colours of the picture.
_ORANGES = ("#fee8d3", "#fdd0a2", "#fdae6b", "#fd8d3c", "#f16913", "#d94801", "#a63603", "#7f2704")
_FIRST_WHITE = 5  # from this shade on, white is easier to read than black
# The same for terminals of 16 colours: ever darker, and told apart by lightness alone.
_SIXTEEN = (
    Style(color="black", bgcolor="bright_white"),
    Style(color="black", bgcolor="bright_yellow"),
    Style(color="black", bgcolor="yellow"),
    Style(color="bright_white", bgcolor="red"),
)
_CELL = 6  # columns of the terminal that a cell takes


SAME_GRADE = 0.005
"""Grades that differ by less than this count as equal: they are shown with two digits."""


def matrix_table(matrix: AlignmentMatrix) -> RenderableType:
    """Return the matrix as coloured blocks, with the change (Equation 32) as last row.

    Rows are levels, the easiest on top. A failed cell reads ``fail``, a pending
    one ``-``; a change below epsilon carries a star. Iterations that do not fit
    beside one another are continued below.
    """
    return _MatrixView(matrix)


def trajectory_summary(trajectory: Trajectory) -> RenderableType:
    """Return R_0 beside R_final, the grades G, what is grounded, what was added, why it ended.

    R_final is the response that the loop returns; where that is not the last
    one (``returns: best``), the heading says so. Of its statements those are
    written out that no passage supports.
    """
    parts: list[RenderableType] = [_labelled("instruction", trajectory.instruction)]
    if trajectory.error is not None:
        parts.append(_labelled("failed", failure_words(trajectory.error), style="bold red"))
    if trajectory.responses:
        parts += [_Responses(trajectory), _grades(trajectory), *_evidence_lines(trajectory)]
    parts += [_labelled("ended by", _stop_words(trajectory)), *_flag_lines(trajectory)]
    return Group(*parts)


def scores_table(
    before: Mapping[str, Score],
    after: Mapping[str, Score],
    *,
    names: tuple[str, str] = ("before", "after"),
) -> Table:
    """Return rows of (metric, before, after, change).

    Args:
        before: Scores by the metric's name; ``None`` or NaN where there is none.
        after: The same; metrics of either side are shown, those of ``before`` first.
        names: Headings of the two columns.

    The change has no colour, because for some metrics less is better.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", overflow="fold")
    for heading in (*names, "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for metric in dict.fromkeys([*before, *after]):
        old, new = before.get(metric), after.get(metric)
        change = _number(new - old, sign=True) if _known(old) and _known(new) else "-"
        table.add_row(Text(plain(metric)), _number(old), _number(new), change)
    return table


@dataclass(frozen=True)
class _MatrixView:
    """The matrix, folded to the width of the console."""

    matrix: AlignmentMatrix

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        matrix = self.matrix
        epsilon = "" if matrix.epsilon is None else f"* < epsilon {matrix.epsilon:g}"
        heads = [plain(level) for level in matrix.levels]
        longest = max(cell_len(text) for text in (*heads, epsilon, "change"))
        head = min(longest, max(10, options.max_width // 3))
        fit = max(1, (options.max_width - head - 2) // _CELL)
        starts = range(0, max(matrix.iterations, 1), fit)
        for start in starts:
            shown = range(start, min(start + fit, matrix.iterations))
            if start:
                yield Text()
            few = console.color_system in ("standard", "windows")
            yield self._block(heads, shown, head=head, epsilon=epsilon, few_colours=few)
        if not matrix.iterations:
            yield Text("no iteration yet", style="dim")
        if matrix.converged:
            yield Text(f"converged at t = {matrix.iterations - 1}")

    def _block(
        self,
        heads: Sequence[str],
        shown: Sequence[int],
        *,
        head: int,
        epsilon: str,
        few_colours: bool,
    ) -> Table:
        matrix = self.matrix
        table = Table(box=None, padding=0, pad_edge=False)
        table.add_column("level", width=head + 2, overflow="fold")
        for t in shown:
            table.add_column(f"t={t}", width=_CELL, justify="center", no_wrap=True)
        for j, name in enumerate(heads):
            cells = [_cell(matrix.values[j, t], matrix.status[j][t], few_colours) for t in shown]
            table.add_row(Text(name), *cells)
        if matrix.iterations > 1:
            label = Text(f"change\n{epsilon}" if epsilon else "change", style="italic")
            table.add_row(label, *(self._change(t) for t in shown))
        return table

    def _change(self, t: int) -> Text:
        """Return the change from iteration t-1 to t; a star when it is below epsilon."""
        if t == 0:
            return Text("")
        change, epsilon = self.matrix.deltas[t - 1], self.matrix.epsilon
        if math.isnan(change):
            return Text("?")
        if epsilon is not None and change < epsilon:
            return Text(f" {change:.2f}*", style="bold")
        return Text(f" {change:.2f} ")


def _cell(value: float, status: CellStatus, few_colours: bool) -> Text:
    if status is CellStatus.FAILED:
        return Text(" fail ", style=Style(color="red", bold=True))
    if status is CellStatus.PENDING:
        return Text("  -   ", style=Style(dim=True))
    return Text(f" {value:.2f} ", style=_shade(value, few_colours))


def _shade(value: float, few_colours: bool) -> Style:
    """Return the colours of a value in [0, 1]: the higher, the darker."""
    shades = len(_SIXTEEN) if few_colours else len(_ORANGES)
    shade = min(int(value * shades), shades - 1)
    if few_colours:
        return _SIXTEEN[shade]
    ink = "#ffffff" if shade >= _FIRST_WHITE else "#000000"
    return Style(color=ink, bgcolor=_ORANGES[shade])


@dataclass(frozen=True)
class _Responses:
    """R_0 beside the returned response, or above it where there is no room."""

    trajectory: Trajectory

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        panels = list(self._panels())
        if len(panels) == 1 or options.max_width < 76:
            yield from panels
            return
        grid = Table.grid(expand=True, padding=(0, 1))
        for _ in panels:
            grid.add_column(ratio=1)
        grid.add_row(*panels)
        yield grid

    def _panels(self) -> Iterator[Panel]:
        responses, chosen = self.trajectory.responses, self.trajectory.chosen
        last = len(responses) - 1
        yield _panel(responses[0], "R_0, the first response")
        if chosen != 0:
            which = "the last response" if chosen == last else "the best response by G"
            yield _panel(responses[chosen], f"R_{chosen}, {which}")
        elif last > 0:
            # Reflection happened and R_0 is what is returned: show what it was preferred to.
            yield _panel(responses[last], f"R_{last}, the last (R_0 is returned)")


def _panel(response: Response, title: str) -> Panel:
    grade = "not graded" if response.grade is None else f"G = {response.grade.score:.2f}"
    # Panel titles are read as markup, so they are handed over as text.
    return Panel(
        Text(plain(response.text) or "(empty)"),
        title=Text(title),
        subtitle=Text(grade),
        title_align="left",
        subtitle_align="right",
        box=box.SQUARE,
    )


def _grades(trajectory: Trajectory) -> Text:
    text = _by_iteration("grades G", trajectory.grades, trajectory.chosen)
    if len(trajectory.grades) > 1:
        text.append("  (* returned)", style="not bold dim")
    return text


def _evidence_lines(trajectory: Trajectory) -> Iterator[Text]:
    """Yield groundedness, the returned response's statements without support, and additions."""
    shares = trajectory.groundedness
    if any(share is not None for share in shares):
        yield _by_iteration("grounded", shares, trajectory.chosen)
    for statement in trajectory.responses[trajectory.chosen].answer.unsupported:
        yield _labelled("no passage supports", " ".join(statement.split()))
    for added in trajectory.additions:
        passage = trajectory.passages.get(added.passage)
        title = passage.title if passage is not None and passage.title else added.passage
        because = "a good answer used it" if added.reason == "useful" else "not known"
        yield _labelled(f"added for t={added.iteration}", f"{title} ({added.level}: {because})")


def _by_iteration(label: str, values: Sequence[float | None], chosen: int) -> Text:
    text = Text(f"{label}:", style="bold")
    for t, value in enumerate(values):
        star = "*" if t == chosen and len(values) > 1 else ""
        words = ("-" if value is None else f"{value:.2f}") + star
        text.append(f"  t={t} ", style="not bold dim").append(words, style="not bold")
    return text


def _stop_words(trajectory: Trajectory) -> str:
    stop = trajectory.stop
    if stop is None:
        return "nothing: the loop did not finish"
    plural = "" if stop.iterations == 1 else "s"
    detail = f": {stop.detail}" if stop.detail else ""
    verdict = "converged" if stop.converged else "not converged"
    return f"{stop.rule} after {stop.iterations} iteration{plural} ({verdict}){detail}"


def _flag_lines(trajectory: Trajectory) -> Iterator[Text]:
    for flag in trajectory.flags:
        yield _labelled(f"look twice [{flag.value}]", FLAGS[flag], style="bold yellow")


def _labelled(label: str, words: str, *, style: str = "bold") -> Text:
    return Text.assemble((f"{label}:", style), " ", plain(words))


def plain(text: str) -> str:
    """Return a text without what a terminal cannot show; see :func:`~.cleaning.clean`."""
    return clean(text)


def _known(value: Score) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)


def _number(value: Score, *, sign: bool = False) -> str:
    if value is None or math.isnan(value):
        return "-"
    form = "+" if sign else ""
    return f"{value:{form}d}" if isinstance(value, int) else f"{value:{form}.3f}"
