"""The command ``reflectory``: its verbs, and how errors become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import reflectory
from reflectory.cli import (
    cache,
    check,
    dataset,
    demo,
    evaluate,
    export,
    improve,
    index,
    models,
    plan,
    report,
    run,
    show,
    trace,
    train,
)
from reflectory.cli.common import DONE, INTERRUPTED, err
from reflectory.cli.messages import print_error
from reflectory.errors import ReflectoryError

app = typer.Typer(
    name="reflectory",
    help="Examine a model with questions of rising difficulty, and train it on what it learnt.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 budget spent. Example: reflectory demo",
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"reflectory {reflectory.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that stand before the verb."""


app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.command("index")(index.index)
app.command("run")(run.run)
app.command("show")(show.show)
app.command("trace")(trace.trace)
app.command("cache")(cache.cache)
app.command("dataset")(dataset.dataset)
app.command("train")(train.train)
app.command("improve")(improve.improve)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("export")(export.export)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors are printed, never raised.

    Only errors of reflectory's own kinds are turned into a message. Anything
    else is a bug and keeps its traceback.
    """
    from reflectory.observability.spans import sent_from_environment

    try:
        with sent_from_environment():
            app(args=arguments, prog_name="reflectory")
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else DONE
        if code == INTERRUPTED:
            err.print("Interrupted. What is finished is kept; the same command goes on from there.")
        return code
    except ReflectoryError as error:
        print_error(error)
        return error.exit_code
    return DONE


if __name__ == "__main__":  # accelerate launch -m reflectory.cli.main
    main()
