"""What two compared evaluations show of themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from reflectory.evaluation.changes import (
    ChangedField,
    ContenderChange,
    ReportComparison,
    TurnedAnswer,
)
from reflectory.report.changes_table import change_claims
from reflectory.report.evaluation_words import BUDGETS, counted, number
from reflectory.report.sheet import Grid, Sheet

_SHOWN = 10  # turned answers of each kind that are written out
_LONG = 160  # characters of an answer that are shown


def changes_sheet(found: ReportComparison) -> Sheet:
    """Return what changed: claims, a table per budget, turned answers, settings that differ."""
    names = found.after if found.before == found.after else f"{found.before} and {found.after}"
    same = "the same set" if found.same_set else "different sets"
    main = [c for c in found.changes if c.metric in (found.primary, found.right)]
    budgets = dict.fromkeys(change.budget for change in main)
    return Sheet(
        title=f"{names}: {counted(found.rows, 'question')} in both, {same}",
        lines=(*change_claims(found), *(() if found.config else ("No setting changed.",))),
        warnings=found.warnings,
        grids=(
            *(_changes([c for c in main if c.budget == b], f"With {BUDGETS[b]}") for b in budgets),
            _turned(found.turned_right, f"Turned right by {found.right}"),
            _turned(found.turned_wrong, f"Turned wrong by {found.right}"),
            _fields(found.config, "Settings that changed"),
            _fields(found.environment, "Environment that changed"),
        ),
    )


def _changes(changes: Sequence[ContenderChange], caption: str) -> Grid:
    rows = tuple(
        (
            change.contender,
            change.metric,
            number(change.result.before),
            number(change.result.after),
            number(change.result.difference, sign=True),
            f"[{number(change.result.low, sign=True)}, {number(change.result.high, sign=True)}]",
            *(f"{n}" for n in (change.result.better, change.result.worse, change.result.same)),
        )
        for change in changes
    )
    heads = ("contender", "metric", "before", "now", "change", "interval")
    return Grid(
        caption, (*heads, "better", "worse", "same"), rows, words=frozenset({"contender", "metric"})
    )


def _turned(turned: Sequence[TurnedAnswer], caption: str) -> Grid:
    more = len(turned) - _SHOWN
    rows = tuple(
        (answer.id, answer.contender, _short(answer.before), _short(answer.after))
        for answer in turned[:_SHOWN]
    )
    return Grid(
        f"{caption}: {len(turned):,}" + (f", the first {_SHOWN}" if more > 0 else ""),
        ("question", "contender", "before", "now"),
        rows,
        words=frozenset({"contender", "before", "now"}),
    )


def _fields(fields: Sequence[ChangedField], caption: str) -> Grid:
    rows = tuple((c.field, _short(c.before), _short(c.after)) for c in fields)
    return Grid(caption, ("field", "before", "now"), rows, words=frozenset({"before", "now"}))


def _short(text: str | None) -> str:
    return "-" if text is None else textwrap.shorten(text, _LONG, placeholder=" ...")
