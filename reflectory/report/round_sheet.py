"""What a round and a run of rounds show of themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reflectory.report.round_plots import DECISIONS
from reflectory.report.sheet import Grid, Sheet

if TYPE_CHECKING:
    from reflectory.improvement.records import ImprovementResult, RoundRecord


def round_sheet(record: RoundRecord) -> Sheet:
    """Return what a round did: the decision, the check before and after, what was counted."""
    student = f"began with student {record.student}"
    trained = "" if record.trained is None else f", trained student {record.trained}"
    lines = [f"{record.reason}", f"{student}{trained}"]
    lines += [f"{name}: {value}" for name, value in record.failure.items()]
    return Sheet(
        title=f"Round {record.number}: {DECISIONS.get(record.decision, record.decision)}",
        lines=tuple(line for line in lines if line),
        warnings=record.warnings,
        grids=(_checks(record), _counts(record)),
    )


def result_sheet(result: ImprovementResult) -> Sheet:
    """Return all rounds and students of a run, one line each."""
    count = len(result.rounds)
    metric = next((name for r in result.rounds for name in r.comparisons), "")
    rounds = tuple(
        (
            f"{r.number}",
            DECISIONS.get(r.decision, r.decision),
            f"{r.student}",
            "-" if r.trained is None else f"{r.trained}",
            _number(r.comparisons.get(metric, {}).get("before")),
            _number(r.comparisons.get(metric, {}).get("after")),
        )
        for r in result.rounds
    )
    students = tuple(
        (
            f"{s.number}{' *' if s.number == result.current else ''}",
            s.decision.replace("_", " "),
            "-" if s.parent is None else f"{s.parent}",
            f"{s.rows}" if s.rows else "-",
            s.adapter or "-",
        )
        for s in result.students
    )
    before, after = (f"{metric} before", f"{metric} after") if metric else ("before", "after")
    return Sheet(
        title=f"{count} round{'s' * (count != 1)}; student {result.current} is in use",
        grids=(
            Grid(
                "Rounds",
                ("round", "decision", "student", "trained", before, after),
                rounds,
                words=frozenset({"decision"}),
            ),
            Grid(
                "Students (* is in use)",
                ("student", "decision", "parent", "rows", "adapter"),
                students,
                words=frozenset({"decision", "adapter"}),
            ),
        ),
    )


def _checks(record: RoundRecord) -> Grid:
    rows = tuple(
        (
            name,
            _number(pair.get("before")),
            _number(pair.get("after")),
            _number(pair.get("difference"), sign=True),
            f"[{_number(pair.get('low'), sign=True)}, {_number(pair.get('high'), sign=True)}]",
            *(f"{pair.get(part, '-')}" for part in ("better", "worse", "same")),
        )
        for name, pair in record.comparisons.items()
    )
    heads = ("metric", "before", "after", "change", "interval", "better", "worse", "same")
    return Grid("Held-out questions, before and after", heads, rows)


def _counts(record: RoundRecord) -> Grid:
    rows = tuple(
        (f"{stage}: {name}", f"{value:,}" if isinstance(value, int) else f"{value:.3g}")
        for stage, counts in record.counts.items()
        for name, value in counts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    return Grid("What each stage counted", ("stage", "count"), rows)


def _number(value: Any, *, sign: bool = False) -> str:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return f"{value:+.3f}" if sign else f"{value:.3f}"
