"""The prediction of a run as a table, and beside it what the run took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from reflectory.planning import Comparison, RunPlan

_TITLES = {"least": "least", "usual": "usual", "most": "most"}


def plan_table(plan: RunPlan) -> Table:
    """Return calls by role, then tokens, operations, cost and time, in three cases."""
    title = f"{plan.instructions:,} instructions, {plan.grader} grader"
    table = Table("", title=title, title_justify="left", box=box.SIMPLE)
    for name in _TITLES.values():
        table.add_column(name, justify="right")
    for name, *figures in plan_rows(plan):
        table.add_row(name, *figures, style="bold" if name == "calls" else "")
    return table


def plan_rows(plan: RunPlan) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table: a name, and a figure per case."""
    cases = [plan.cases[case] for case in plan.cases]
    yield "iterations of a loop", *(str(case.iterations) for case in cases)
    for role in cases[0].roles:
        yield f"calls {role}", *(_count(case.roles[role].calls) for case in cases)
    yield "calls", *(_count(case.total.calls) for case in cases)
    yield "tokens read", *(_count(case.total.prompt_tokens) for case in cases)
    yield "tokens written", *(_count(case.total.completion_tokens) for case in cases)
    yield "operations", *(_operations(case.flops) for case in cases)
    yield "cost", *(_cost(case.cost) for case in cases)
    yield "time", *(_time(case.seconds) for case in cases)


def comparison_table(found: Comparison) -> Table:
    """Return the plan of as many loops as are over beside what they took."""
    title = f"{found.loops:,} of {found.planned:,} loops are over"
    table = Table("", title=title, title_justify="left", box=box.SIMPLE)
    for name in (*_TITLES.values(), "fact"):
        table.add_column(name, justify="right")
    needs = [*(found.predicted[case] for case in found.predicted), found.fact]
    roles = dict.fromkeys(role for roles in needs for role in roles)
    for role in roles:
        calls = (need[role].calls if role in need else 0 for need in needs)
        table.add_row(f"calls {role}", *map(_count, calls))
    for title, field in (
        ("calls", "calls"),
        ("tokens read", "prompt_tokens"),
        ("tokens written", "completion_tokens"),
    ):
        sums = (sum(getattr(part, field) for part in need.values()) for need in needs)
        table.add_row(title, *map(_count, sums), style="bold" if field == "calls" else "")
    table.add_row("cost", *(_cost(value) for value in found.cost.values()))
    hours = (None if value is None else value * 3600 for value in found.hours.values())
    table.add_row("time", *map(_time, hours))
    return table


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _operations(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2e}"


def _cost(value: float | None) -> str:
    return "unknown" if value is None else f"${value:,.4f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
