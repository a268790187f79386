"""``reflectory run``: reflective loops over documents, into a run directory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli.budget import (
    MaxCalls,
    MaxCost,
    MaxHours,
    MaxTokens,
    Prices,
    budget_changes,
    left_of,
    spent_line,
)
from reflectory.cli.common import (
    FAILED,
    LoopProgress,
    config_from,
    err,
    loop_from,
    out,
    print_json,
    progress_bar,
)
from reflectory.errors import UserError

if TYPE_CHECKING:
    from reflectory.config import RunConfig
    from reflectory.driver import OnEvent
    from reflectory.loop import ReflectiveLoop
    from reflectory.types import Trajectory


def run(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Run directory; the same again resumes.")
    ],
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="YAML configuration.")
    ] = None,
    documents: Annotated[
        list[str] | None,
        typer.Option("--documents", "-d", help="File, folder or index; repeatable."),
    ] = None,
    instruction: Annotated[
        list[str] | None, typer.Option("--instruction", "-i", help="What to ask; repeatable.")
    ] = None,
    instructions: Annotated[
        str | None, typer.Option(help="File: one per line, or JSON Lines.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="local, local:PATH, PROVIDER:MODEL")] = None,
    student: Annotated[str | None, typer.Option(help="local, local:PATH, PROVIDER:MODEL")] = None,
    student_adapter: Annotated[str | None, typer.Option(help="Folder of an adapter.")] = None,
    max_iterations: Annotated[int | None, typer.Option(help="T.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Threshold of Equation 32.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Loops at the same time.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda, mps, cpu")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, bfloat16, float16, float32, int8")
    ] = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    prices: Prices = None,
    retry_failed: Annotated[bool, typer.Option(help="Run failed instructions again.")] = False,
    engine: Annotated[str | None, typer.Option(help="local, or ray: on a cluster.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes with models, on Ray.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Run reflective loops; the same command on the same RUN goes on where it stopped.

    Example: reflectory run -d notes/ -i "Why do the two sources disagree?" -o runs/first
    """
    if instruction and instructions:
        raise UserError(
            "both --instruction and --instructions were given", hint="put them all into the file"
        )
    settings = config_from(
        config,
        {
            "documents": documents,
            "instructions": instructions or instruction,
            "teacher": teacher,
            "student": student,
            "student_adapter": student_adapter,
            "loop.max_iterations": max_iterations,
            "loop.epsilon": epsilon,
            "loop.seed": seed,
            "concurrency": concurrency,
            "cluster.engine": engine,
            "cluster.workers": workers,
            "device": device,
            "dtype": dtype,
            **budget_changes(max_calls, max_tokens, max_cost, max_hours, prices),
        },
    )
    if not settings.documents:
        raise UserError(
            "no documents were named", hint="give --documents FOLDER, or a configuration"
        )
    if not settings.instructions:
        raise UserError(
            "no instructions were named", hint="give --instruction TEXT or --instructions FILE"
        )
    trajectories = run_loops(settings, output, retry_failed=retry_failed, quiet=quiet or json)
    failed = [t for t in trajectories if t.status == "failed"]
    if json:
        print_json([summary_of(t) for t in trajectories])
    else:
        show(trajectories, output)
    if failed:
        raise typer.Exit(FAILED)


def run_loops(
    settings: Any, output: Path, *, retry_failed: bool = False, quiet: bool = False
) -> list[Trajectory]:
    """Run all instructions of a configuration and return their trajectories.

    Args:
        settings: A :class:`~reflectory.config.RunConfig`.
        output: Run directory.
        retry_failed: Run again what failed in an earlier session.
        quiet: Show no progress.
    """
    from reflectory.background import BACKGROUND
    from reflectory.runs.instructions import read_instructions

    given = settings.instructions
    items = list(read_instructions(Path(given) if isinstance(given, str) else list(given)))
    loop = loop_from(settings)
    done: list[Trajectory] = []
    with loop, progress_bar(quiet=quiet) as bar:
        shown = LoopProgress(
            bar, len(items), len(settings.loop.levels), settings.loop.max_iterations
        )
        runner = runner_for(settings, loop, shown.on_event)
        stream = runner.stream(
            items, concurrency=settings.concurrency, output=output, retry_failed=retry_failed
        )
        for trajectory in BACKGROUND.iterate(stream):
            shown.finish(trajectory.id)
            done.append(trajectory)
            if not quiet and not err.is_terminal:
                left = left_of(getattr(runner, "ledger", None))
                err.print(f"{len(done)}/{len(items)} {trajectory.id} {trajectory.status}{left}")
    return done


def runner_for(settings: RunConfig, loop: ReflectiveLoop, on_event: OnEvent) -> Any:
    """Return what runs the loops: this process, or the workers of a cluster.

    Args:
        settings: Says which; on a cluster each worker makes a loop of its own from it.
        loop: What this process runs; not opened for a cluster.
        on_event: Told of every finished node; a cluster reports finished loops only.
    """
    if settings.cluster.engine == "ray":
        from reflectory.cluster import ClusterRunner

        # Workers have another current folder, so every path is a whole one.
        whole = settings.anchored(Path.cwd())
        return ClusterRunner(partial(loop_from, whole), settings.cluster, settings=settings)
    from reflectory.runner import Runner

    return Runner(loop, settings=settings, on_event=on_event)


def summary_of(trajectory: Trajectory) -> dict[str, Any]:
    """Return what a machine wants to know of a trajectory."""
    return {
        "id": trajectory.id,
        "status": trajectory.status,
        "instruction": trajectory.instruction,
        "response": trajectory.response,
        "grades": trajectory.grades,
        "alignment": trajectory.alignment.to_dict(),
        "stop": trajectory.stop.model_dump() if trajectory.stop else None,
        "flags": [str(flag) for flag in trajectory.flags],
        "error": trajectory.error.message if trajectory.error else None,
    }


def show(trajectories: list[Trajectory], output: Path) -> None:
    """Print the trajectories for people: in full when they are few."""
    from reflectory.report.statistics import statistics_table
    from reflectory.report.terminal import matrix_table, trajectory_summary
    from reflectory.runs.manifest import Manifest

    failed = [t for t in trajectories if t.status == "failed"]
    if len(trajectories) <= 3:
        for trajectory in trajectories:
            if trajectory.status == "done":
                out.print(trajectory_summary(trajectory))
                out.print(matrix_table(trajectory.alignment))
    for trajectory in failed:
        out.print(f"failed: {trajectory.id}: {trajectory.error and trajectory.error.message}")
    if (output / "manifest.json").is_file():
        manifest = Manifest.load(output / "manifest.json")
        out.print(statistics_table(manifest.totals.tokens, manifest.sessions[-1].engines))
        out.print(spent_line(manifest))
    ungraded = share_ungraded(trajectories)
    if ungraded > 0.2:
        err.print(
            f"[yellow]warning[/]: {ungraded:.0%} of the grades could not be read; "
            "run `reflectory check` to measure the grader"
        )
    out.print(
        f"{len(trajectories) - len(failed)} done, {len(failed)} failed, "
        f"{ungraded:.0%} of the grades unreadable. Everything is in {output}"
    )


def share_ungraded(trajectories: list[Trajectory]) -> float:
    """Return the share of answers and responses without a grade, in [0, 1]."""
    due = graded = 0
    for trajectory in trajectories:
        due += len(trajectory.examinations) + len(trajectory.responses)
        graded += sum(cell.feedback is not None for cell in trajectory.examinations)
        graded += sum(grade is not None for grade in trajectory.grades)
    return 1.0 - graded / due if due else 0.0
