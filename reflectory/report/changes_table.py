"""Two evaluations beside one another in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reflectory.evaluation.changes import (
    ChangedField,
    ContenderChange,
    ReportComparison,
    TurnedAnswer,
)
from reflectory.report.evaluation_words import BUDGETS, counted, interval, listed, number
from reflectory.report.terminal import plain

_SHOWN = 10  # turned answers of each kind that are written out
_LONG = 160  # characters of an answer that are shown


def comparison_text(found: ReportComparison) -> RenderableType:
    """Return what changed: warnings, claims, a table per budget, answers and settings."""
    same = "the same set" if found.same_set else "DIFFERENT SETS"
    names = found.after if found.before == found.after else f"{found.before} and {found.after}"
    parts: list[RenderableType] = [
        Text(plain(f"{names}: {counted(found.rows, 'question')} in both, {same}."))
    ]
    parts += [Text(f"warning: {plain(w)}", style="bold yellow") for w in found.warnings]
    parts += [Text(plain(sentence)) for sentence in change_claims(found)]
    main = [c for c in found.changes if c.metric in (found.primary, found.right)]
    for budget in dict.fromkeys(change.budget for change in main):
        changes = [change for change in main if change.budget == budget]
        parts += ["", _changes(changes, f"with {BUDGETS[budget]}")]
    if hidden := {c.metric: None for c in found.changes if c not in main}:
        parts.append(Text(plain(f"not shown, but in the record: {listed(hidden)}"), style="dim"))
    for title, turned in (("right", found.turned_right), ("wrong", found.turned_wrong)):
        if turned:
            parts += ["", _turned(turned, f"turned {title} by {found.right}")]
    for title, fields in (("settings", found.config), ("environment", found.environment)):
        if fields:
            parts += ["", _fields(fields, f"{title} that changed")]
    if not found.config:
        parts += ["", Text("no setting changed")]
    return Group(*parts)


def change_claims(found: ReportComparison) -> list[str]:
    """Return one sentence per contender and table that surely changed on the primary metric.

    Nothing is claimed with few rows or an interval that holds zero.
    """
    said, still = [], []
    for change in found.changes:
        if change.metric != found.primary:
            continue
        result = change.result
        if result.few or not result.excludes_zero:
            still.append(f"{change.contender} ({change.budget})")
            continue
        verb = "is better" if result.difference > 0 else "is worse"
        said.append(
            f"{change.contender} {verb} on {change.metric} with {BUDGETS[change.budget]}: "
            f"{number(result.before)} before, {number(result.after)} now, "
            f"{number(result.difference, sign=True)} ({result.confidence:.0%} interval "
            f"{interval(result)})."
        )
    if still:
        said.append(f"No change of {found.primary} can be claimed for {listed(still)}.")
    return said


def _changes(changes: Sequence[ContenderChange], title: str) -> Table:
    table = _table(title)
    table.add_column("contender", overflow="fold", min_width=6)
    table.add_column("metric", overflow="fold", min_width=6)
    table.add_column("before", justify="right")
    table.add_column("now", justify="right")
    table.add_column("change", justify="right", min_width=8)
    table.add_column("interval", justify="right", min_width=16)
    table.add_column("+/-", justify="right", overflow="fold")
    last = ""
    for change in changes:
        result = change.result
        claimed = result.excludes_zero and not result.few
        name = "" if change.contender == last else change.contender
        last = change.contender
        table.add_row(
            Text(plain(name)),
            Text(plain(change.metric)),
            number(result.before),
            number(result.after),
            number(result.difference, sign=True) + (" !" if claimed else "  "),
            f"[{number(result.low, sign=True)}, {number(result.high, sign=True)}]",
            f"{result.better}/{result.worse}",
        )
    return table


def _turned(turned: Sequence[TurnedAnswer], title: str) -> Table:
    more = len(turned) - _SHOWN
    table = _table(f"{title}: {len(turned):,}" + (f", the first {_SHOWN}" if more > 0 else ""))
    table.add_column("question", overflow="fold", max_width=14)
    table.add_column("contender", overflow="fold", max_width=18)
    table.add_column("before", overflow="fold", ratio=1)
    table.add_column("now", overflow="fold", ratio=1)
    for answer in turned[:_SHOWN]:
        words = (answer.id, answer.contender, _short(answer.before), _short(answer.after))
        table.add_row(*(Text(plain(word)) for word in words))
    return table


def _fields(fields: Sequence[ChangedField], title: str) -> Table:
    table = _table(title)
    for heading in ("field", "before", "now"):
        table.add_column(heading, overflow="fold")
    for changed in fields:
        words = (changed.field, _short(changed.before), _short(changed.after))
        table.add_row(*(Text(plain(word)) for word in words))
    return table


def _table(title: str) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        title=Text(plain(title)),
        title_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )


def _short(text: str | None) -> str:
    """Return a text on one line, cut where it is long."""
    if text is None:
        return "-"
    line = " ".join(text.split())
    return line if len(line) <= _LONG else line[: _LONG - 3] + "..."
