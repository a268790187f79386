"""An evaluation in the terminal: one table per budget and what may be claimed from it.

Everything here returns renderables. Only ASCII is added to names and texts, colour carries
no meaning, and nothing that a name holds is read as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reflectory.evaluation.records import BudgetKind, EvaluationReport
from reflectory.report.evaluation_words import (
    BUDGETS,
    LEGEND,
    Standing,
    claims,
    headline,
    judge_words,
    matrix_words,
    metrics_of,
    number,
    probability,
    standings,
    turning_words,
    warnings_of,
    weighing,
)
from reflectory.report.terminal import plain

_NARROW = 72  # below so many columns the differences get a table of their own
_FIXED = 18 + 7 + 8 + 5 + 8 + 18 + 7  # columns that all tables have, with their gaps
_METRIC = 10  # columns that a metric takes


def evaluation_text(report: EvaluationReport) -> RenderableType:
    """Return everything that a reader needs first: tables, claims, iterations, judge, matrices.

    It fits a console of 80 columns; on a wider one more metrics are shown.
    """
    parts: list[RenderableType] = [Text(plain(line)) for line in headline(report)]
    parts += [Text(f"warning: {plain(w)}", style="bold yellow") for w in warnings_of(report)]
    for budget in report.tables:
        parts += ["", budget_table(report, budget), _sentences(claims(report, budget))]
    parts.append(Text(LEGEND, style="dim"))
    if report.weights:
        parts.append(Text(plain(weighing(report)), style="dim"))
    parts += _turning(report)
    if report.judge is not None:
        parts += _section(f"the judge ({report.judge.grader})", judge_words(report.judge))
    if report.matrices is not None:
        parts += _section("the alignment matrices", matrix_words(report.matrices))
    if report.domains:
        parts += ["", _domains(report)]
    return Group(*parts)


def budget_table(report: EvaluationReport, budget: BudgetKind) -> RenderableType:
    """Return one table, as wide as the console allows.

    A row has the contender's metrics, mean calls and tokens per question, questions
    without an answer, and the difference of the reference contender to it with interval
    and corrected p-value.

    Args:
        report: What was found.
        budget: Which of its budgets: calls or tokens.
    """
    return _BudgetTable(report, budget)


@dataclass(frozen=True)
class _BudgetTable:
    """One budget's table; what is left out depends on the width."""

    report: EvaluationReport
    budget: BudgetKind

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report, rows = self.report, standings(self.report, self.budget)
        metrics, width = metrics_of(report), options.max_width
        title = f"with {BUDGETS[self.budget]}"
        if width < _NARROW:
            yield self._table(rows, metrics[:1], title=title, versus=False)
            if len(rows) > 1:
                yield self._table(rows, (), title=f"{report.reference} minus the other")
        else:
            room = 1 + max(0, (width - _FIXED - _METRIC) // _METRIC)
            yield self._table(rows, metrics[:room], title=title)
            if metrics[room:]:
                hidden = ", ".join(metrics[room:])
                yield Text(f"not shown at this width: {plain(hidden)}", style="dim")

    def _table(
        self, rows: Sequence[Standing], metrics: Sequence[str], *, title: str, versus: bool = True
    ) -> Table:
        report = self.report
        table = Table(
            box=box.SIMPLE_HEAD,
            title=Text(plain(title)),
            title_justify="left",
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column("contender", overflow="fold", min_width=10)
        for metric in metrics:
            table.add_column(_heading(metric), justify="right", min_width=5)
        if metrics:
            table.add_column("calls", justify="right", no_wrap=True)
            table.add_column("tokens", justify="right", no_wrap=True)
            table.add_column("no answer", justify="right", max_width=6)
        if versus:
            heading = f"{plain(report.reference)} minus it, {plain(report.primary)}"
            # The sign stands before the interval, so two columns read as one.
            table.add_column(Text(heading), justify="right", max_width=16, overflow="fold")
            table.add_column("adj. p", justify="right", max_width=6)
        for standing in rows:
            table.add_row(*self._cells(standing, metrics, versus=versus), style=_style(standing))
        return table

    def _cells(
        self, standing: Standing, metrics: Sequence[str], *, versus: bool
    ) -> Iterator[RenderableType]:
        row = standing.row
        mark = "* " if standing.reference else "  "
        yield Text(mark + plain(row.contender))
        for metric in metrics:
            yield number(row.means.get(metric))
        if metrics:
            yield from (number(row.calls, 1), number(row.tokens, 0), str(row.missing or "-"))
        if versus:
            yield _difference(standing)
            yield "" if standing.versus is None else probability(standing.versus.adjusted)


def _difference(standing: Standing) -> Text:
    """Return the difference above its interval; a ``!`` where it may be claimed."""
    if standing.versus is None:
        return Text("")
    result = standing.versus.result
    first = number(result.difference, sign=True) + (" !" if standing.claimed else "  ")
    return Text(
        f"{first}\n[{number(result.low, sign=True)}, {number(result.high, sign=True)}]",
        style="bold" if standing.claimed else "",
    )


def _style(standing: Standing) -> str:
    return "bold" if standing.reference else ""


def _heading(metric: str) -> Text:
    """Return a metric's name so that it can be folded between its words."""
    return Text(plain(metric).replace("_", " "), justify="right")


def _turning(report: EvaluationReport) -> list[RenderableType]:
    """Return the iterations of the reference contender as a table and in words."""
    if not report.turning:
        return []
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(f"{plain(report.reference)} by iteration"),
        title_justify="left",
        pad_edge=False,
    )
    for heading in ("t", "loops", "turned right", "turned wrong"):
        table.add_column(heading, justify="right", overflow="fold")
    stopped = Text(f"{plain(report.primary)} if stopped here")
    table.add_column(stopped, justify="right", overflow="fold")
    table.add_column("best by G so far", justify="right", overflow="fold")
    for point in report.turning:
        first = point.iteration == 0
        table.add_row(
            str(point.iteration),
            f"{point.reached:,}",
            "-" if first else f"{point.turned_right:,}",
            "-" if first else f"{point.turned_wrong:,}",
            number(point.means.get(report.primary)),
            number(point.chosen.get(report.primary)),
        )
    return ["", table, _sentences(turning_words(report))]


def _domains(report: EvaluationReport) -> Text:
    means = ", ".join(f"{name} {number(mean)}" for name, mean in sorted(report.domains.items()))
    text = f"{report.primary} of {report.reference} by domain: {means}."
    if report.generalisation is not None:
        text += f" Generalisation (Equation 13): {number(report.generalisation)}."
    return Text(plain(text))


def _section(title: str, sentences: Iterable[str]) -> list[RenderableType]:
    return ["", Text(plain(title), style="italic"), _sentences(sentences)]


def _sentences(sentences: Iterable[str]) -> RenderableType:
    """Return sentences as a list that is indented when it is wrapped."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for sentence in sentences:
        grid.add_row("-", Text(plain(sentence)))
    return Padding(grid, (0, 0, 0, 1))
