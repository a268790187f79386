"""What a plan shows of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflectory.report.plan_table import plan_rows
from reflectory.report.sheet import Grid, Sheet

if TYPE_CHECKING:
    from reflectory.planning import RunPlan


def plan_sheet(plan: RunPlan) -> Sheet:
    """Return calls, tokens, cost and time of a run in three cases."""
    count = plan.instructions
    return Sheet(
        title=f"Plan of {count:,} loop{'s' * (count != 1)}",
        lines=(
            f"teacher {plan.teacher}, student {plan.student}, {plan.grader} grader, "
            f"{plan.concurrency} at the same time",
            "least: loops stop as early as a rule can; usual: they go on to the last iteration; "
            "most: with every retry",
            "measured on a short loop" if plan.probe is not None else "nothing was measured",
        ),
        grids=(Grid("", ("what", *plan.cases), tuple(plan_rows(plan))),),
    )
