"""``reflectory run``: reflective loops over documents, into a run directory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.budget import budget_changes
from reflectory.cli.common import FAILED, INTERRUPTED, config_from, loop_from
from reflectory.cli.interrupts import Asked, stopping_on_signals
from reflectory.cli.progress import Display, is_a_terminal, showing
from reflectory.cli.run_output import Events, JsonList, People, Quiet
from reflectory.cli.run_summary import Tally
from reflectory.errors import ReflectoryError, UserError
from reflectory.observability.logs import json_log

if TYPE_CHECKING:
    from reflectory.config import RunConfig
    from reflectory.driver import OnEvent
    from reflectory.loop import ReflectiveLoop


def run(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Run directory; the same again resumes.")
    ],
    config: options.ConfigFile = None,
    override: options.Overrides = None,
    documents: options.Documents = None,
    instruction: options.Instructions = None,
    instructions: Annotated[
        str | None,
        typer.Option(help="File: one per line, JSON Lines or Parquet; or dataset:NAME."),
    ] = None,
    teacher: options.ModelName = None,
    student: options.ModelName = None,
    student_adapter: options.AdapterFolder = None,
    max_iterations: options.MaxIterations = None,
    epsilon: Annotated[float | None, typer.Option(help="Threshold of Equation 32.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
    concurrency: options.LoopsAtOnce = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    max_calls: options.MaxCalls = None,
    max_tokens: options.MaxTokens = None,
    max_cost: options.MaxCost = None,
    max_hours: options.MaxHours = None,
    prices: options.Prices = None,
    retry_failed: Annotated[bool, typer.Option(help="Run failed instructions again.")] = False,
    engine: Annotated[str | None, typer.Option(help="local, or ray: on a cluster.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes with models, on Ray.")] = None,
    json: options.JsonResult = False,
    events: Annotated[
        bool, typer.Option("--events", help="Print JSON Lines of what happens, while it runs.")
    ] = False,
    log_json: Annotated[
        Path | None, typer.Option(help="File for a log of nodes and calls, as JSON Lines.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Run reflective loops; the same command on the same RUN goes on where it stopped.

    Example: reflectory run -d notes/ -i "Why do the two sources disagree?" -o runs/first
    """
    if json and events:
        raise UserError("both --json and --events were given", hint="choose one of them")
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
        override,
    )
    if not settings.documents:
        raise UserError(
            "no documents were named", hint="give --documents FOLDER, or a configuration"
        )
    if not settings.instructions:
        raise UserError(
            "no instructions were named", hint="give --instruction TEXT or --instructions FILE"
        )
    said = Events(output) if events else JsonList() if json else Quiet() if quiet else People()
    with nullcontext() if log_json is None else json_log(log_json):
        tally = run_loops(
            settings,
            output,
            said,
            retry_failed=retry_failed,
            quiet=quiet or json or events,
            lines=log_json is not None and is_a_terminal(log_json),
        )
    if tally.interrupted:
        raise typer.Exit(INTERRUPTED)
    if tally.failed:
        raise typer.Exit(FAILED)


def run_loops(
    settings: RunConfig,
    output: Path,
    said: People,
    *,
    retry_failed: bool = False,
    quiet: bool = False,
    lines: bool = False,
) -> Tally:
    """Run all instructions of a configuration and count what comes of them.

    The first Ctrl-C or SIGTERM lets the loops in flight finish; the second stops them.

    Args:
        settings: What to run.
        output: Run directory.
        said: Told of what happens.
        retry_failed: Run again what failed in an earlier session.
        quiet: Show no progress.
        lines: Show it as lines on a terminal, too.
    """
    tally = Tally()
    try:
        with stopping_on_signals() as asked:
            display = showing(quiet=quiet, lines=lines, asked=asked)
            _run_loops(settings, output, said, tally, asked, retry_failed, display)
    except ReflectoryError as error:
        said.end(tally, output, error)
        raise
    except KeyboardInterrupt:
        tally.interrupted = True
        said.end(tally, output)
        raise
    said.end(tally, output)
    return tally


def _run_loops(
    settings: RunConfig,
    output: Path,
    said: People,
    tally: Tally,
    asked: Asked,
    retry_failed: bool,
    shown: AbstractContextManager[Display],
) -> None:
    from reflectory.background import BACKGROUND
    from reflectory.runs.instructions import read_instructions
    from reflectory.runs.stopping import Stoppable

    given = settings.instructions
    found = read_instructions(Path(given) if isinstance(given, str) else list(given))
    items = Stoppable(found, asked)
    loop = loop_from(settings)
    said.begin(found.total)
    with loop, shown as display:
        display.activity.expect(
            "loops",
            found.total,
            iterations=settings.loop.max_iterations,
            observed=settings.cluster.engine != "ray",
        )
        # Being told of every node makes graphs of branches; a display listens.
        runner = runner_for(settings, loop, said.step if said.hears_steps else None)
        stream = runner.stream(
            items, concurrency=settings.concurrency, output=output, retry_failed=retry_failed
        )
        for trajectory in BACKGROUND.iterate(stream):
            display.activity.finished(trajectory)
            tally.add(trajectory)
            said.finished(trajectory)
    tally.interrupted = items.left


def runner_for(settings: RunConfig, loop: ReflectiveLoop, on_event: OnEvent | None) -> Any:
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
