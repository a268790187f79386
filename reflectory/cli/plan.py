"""``reflectory plan``: what a run would take, and what it took beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.common import config_from, err, loop_from, out, print_json
from reflectory.errors import UserError

if TYPE_CHECKING:
    from reflectory.config import RunConfig
    from reflectory.planning import Comparison, LearningNeed, RunPlan


def plan(
    run: Annotated[
        Path | None, typer.Argument(help="Run directory: show its plan beside what it took.")
    ] = None,
    config: options.ConfigFile = None,
    override: options.Overrides = None,
    documents: options.Documents = None,
    instruction: options.Instructions = None,
    instructions: Annotated[
        str | None, typer.Option(help="File: one per line, or JSON Lines.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Number of instructions, where they are not named yet.")
    ] = None,
    teacher: options.ModelName = None,
    student: options.ModelName = None,
    max_iterations: options.MaxIterations = None,
    concurrency: options.LoopsAtOnce = None,
    prices: options.Prices = None,
    probe: Annotated[
        bool, typer.Option(help="Time one short loop on the models; --no-probe loads nothing.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also keep the plan in this RUN.")
    ] = None,
    json: options.JsonResult = False,
) -> None:
    """Predict calls, tokens, cost and time of a run; afterwards show them beside the facts.

    Example: reflectory plan -c run.yaml
    """
    if run is not None:
        _compared(run, json=json)
        return
    settings = config_from(
        config,
        {
            "documents": documents,
            "instructions": instructions or instruction,
            "teacher": teacher,
            "student": student,
            "loop.max_iterations": max_iterations,
            "concurrency": concurrency,
            "budget.prices": None if prices is None else str(prices),
        },
        override,
    )
    from reflectory.planning import note_plan, plan_learning

    number, longest, first = _instructions(settings, count)
    made, size = _planned(settings, number, longest, first, probe=probe)
    learning = plan_learning(settings, made.cases["usual"], instructions=number, parameters=size)
    if output is not None:
        note_plan(output, made)
    if json:
        shown = made.model_dump(mode="json")
        print_json({**shown, "training": learning.model_dump(mode="json")})
        return
    from reflectory.report.plan_table import plan_table

    out.print(plan_table(made))
    for line in (*_remarks(made, settings), _training(learning)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _instructions(settings: RunConfig, count: int | None) -> tuple[int, str, str | None]:
    """Return how many instructions there are, the longest and the first of them."""
    from reflectory.runs.instructions import read_instructions

    given = settings.instructions
    if not given:
        if count is None:
            raise UserError(
                "no instructions were named",
                hint="give --instructions FILE, or say how many there will be with --count",
            )
        return _at_least_one(count), "", None
    number, longest, first = 0, "", None
    for item in read_instructions(given if isinstance(given, str) else list(given)):
        number += 1
        first = item.text if first is None else first
        longest = max(longest, item.text, key=len)
    return _at_least_one(number if count is None else count), longest, first


def _at_least_one(count: int) -> int:
    if count < 1:
        raise UserError(f"--count must be at least 1, got {count}")
    return count


def _planned(
    settings: RunConfig, number: int, longest: str, first: str | None, *, probe: bool
) -> tuple[RunPlan, int | None]:
    """Return the plan, and N of the student where it was loaded and runs in this process."""
    from reflectory.planning import plan_of_names, plan_of_parts, probe_run, sizes_of

    if not probe:
        tokens = max(40, len(longest) // 4)
        named = plan_of_names(settings, instructions=number, instruction_tokens=tokens)
        return named, None
    if first is None or not settings.documents:
        raise UserError(
            "there is nothing to probe with: documents and an instruction are needed",
            hint="name them, or plan with --no-probe",
        )
    from reflectory.background import BACKGROUND

    loop = loop_from(settings)
    with loop, err.status("one short loop"):
        parts = BACKGROUND.run(loop.aopen())
        found = BACKGROUND.run(probe_run(parts, first))
        tokens = max(40, parts.student.count_tokens(longest))
        made = plan_of_parts(
            settings,
            parts,
            loop.sources,
            instructions=number,
            instruction_tokens=tokens,
            probe=found,
        )
        return made, sizes_of(parts)["student"]


def _remarks(made: RunPlan, settings: RunConfig) -> list[str]:
    """Return what a reader has to know about the figures."""
    lines = []
    if made.probe is None:
        lines.append("Time is unknown without a probe, and tokens are those of full prompts.")
    else:
        lines.append(
            f"Probed with one short loop: {made.probe.calls} calls, {made.probe.seconds:.1f} s."
        )
    if made.cases["usual"].cost is None:
        lines.append(
            f"The cost is unknown: no price is known for {made.teacher} or {made.student}; "
            "name it with --prices."
        )
    need = made.cases["most"]
    amounts: Mapping[str, float | None] = {
        "calls": need.total.calls,
        "tokens": need.total.tokens,
        "cost": need.cost,
        "hours": None if need.seconds is None else need.seconds / 3600,
    }
    for name, limit in settings.budget.limits.items():
        amount = amounts[name]
        if amount is not None and amount > limit:
            lines.append(f"The budget of {limit:,g} {name} may not be enough.")
    return lines


def _training(learning: LearningNeed) -> str:
    flops = "" if learning.flops is None else f", 6 N D = {learning.flops:.2e} operations"
    return (
        f"Training on all of it, at most: {learning.rows:,} rows, {learning.steps:,} steps, "
        f"{learning.tokens:,} tokens{flops}."
    )


def _compared(run: Path, *, json: bool) -> None:
    from reflectory.planning import compare, plan_of_names, read_plan
    from reflectory.runs.directory import RunView

    view = RunView.read(run)
    made = read_plan(run)
    if made is None:  # of a version that kept none
        loops = max(1, view.manifest.totals.done + view.manifest.totals.failed)
        made = plan_of_names(view.config, instructions=loops, instruction_tokens=40)
    found: Comparison = compare(view, made)
    if json:
        shown: dict[str, Any] = found.model_dump(mode="json")
        print_json(shown)
        return
    from reflectory.report.plan_table import comparison_table

    out.print(comparison_table(found))
