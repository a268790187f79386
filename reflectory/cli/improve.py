"""``reflectory improve``: rounds of self-improvement, and the students they made."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from reflectory.cli import options
from reflectory.cli.budget import budget_changes
from reflectory.cli.common import FAILED, config_from, err, out, print_json
from reflectory.cli.progress import Display, showing
from reflectory.errors import UserError

if TYPE_CHECKING:
    from reflectory.config import LoopConfig
    from reflectory.improvement import ImprovementResult, RoundRecord
    from reflectory.types import Trajectory


def improve(
    run: Annotated[Path | None, typer.Argument(help="Run directory, as --output.")] = None,
    output: options.ResumedRun = None,
    config: options.ConfigFile = None,
    override: options.Overrides = None,
    documents: options.Documents = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="File of questions with answers; repeatable.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds in all.")] = None,
    questions: Annotated[
        int | None, typer.Option(help="Questions that the teacher writes per round.")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    max_calls: options.MaxCalls = None,
    max_tokens: options.MaxTokens = None,
    max_cost: options.MaxCost = None,
    max_hours: options.MaxHours = None,
    prices: options.Prices = None,
    retry_failed: Annotated[
        bool, typer.Option(help="Make the last round again if it failed.")
    ] = False,
    approve: Annotated[
        str | None, typer.Option(help="Answer a waiting review with yes: rows or promotion.")
    ] = None,
    refuse: Annotated[
        str | None, typer.Option(help="Answer a waiting review with no: rows or promotion.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the students of RUN.")] = False,
    restore: Annotated[
        int | None, typer.Option(help="Make an earlier student of RUN the current one.")
    ] = None,
    json: options.JsonResult = False,
    quiet: options.Quiet = False,
) -> None:
    """Practise, choose rows, train, check, and promote or roll back, round after round.

    The same command on the same RUN goes on where it stopped. An adapter becomes the
    student only if it is better on held-out questions; any student can be restored.

    Example: reflectory improve -c run.yaml -o runs/better
    """
    if run is not None and output is not None and run != output:
        raise UserError("two run directories were named", hint="give RUN or --output")
    folder = output or run
    if folder is None:
        raise UserError("no run directory was named", hint="give --output RUN")
    if restore is not None or show_list:
        _look(folder, restore, json=json)
        return
    settings = config_from(
        config,
        {
            "documents": documents,
            "improvement.held_out": held_out,
            "improvement.rounds": rounds,
            "practice.questions": questions,
            "device": device,
            "dtype": dtype,
            **budget_changes(max_calls, max_tokens, max_cost, max_hours, prices),
        },
        override,
    )
    from reflectory.improvement import SelfImprovement

    review = _Review(approve, refuse)
    began = time.perf_counter()
    with showing(quiet=quiet, lines=json) as display:

        def on_review(shown: Mapping[str, Any]) -> bool | None:
            with display.paused():
                return review(shown)

        result = SelfImprovement(folder, settings).run(
            watcher=_watcher(display),
            on_review=on_review if settings.improvement.review else None,
            retry_failed=retry_failed,
        )
    if json:
        print_json({"seconds": round(time.perf_counter() - began, 1), **_as_json(result)})
    elif not quiet:
        _show(result, folder)
    if result.failed:
        err.print("The last round failed. --retry-failed makes it again; --rounds adds another.")
        raise typer.Exit(FAILED)


def _look(folder: Path, restore: int | None, *, json: bool) -> None:
    """Restore a student, or only show which there are."""
    from reflectory.improvement import SelfImprovement

    rounds = SelfImprovement(folder)
    if restore is not None:
        record = rounds.restore(restore)
        err.print(f"Student {record.number} is the current one; the next round begins with it.")
    result = rounds.result()
    if json:
        print_json(_as_json(result))
    else:
        _show(result, folder)


class _Review:
    """Asks in the terminal, or takes the answer of the command line for the review it names."""

    def __init__(self, approve: str | None, refuse: str | None) -> None:
        self._answers: dict[str, bool] = {}
        for given, answer in ((approve, True), (refuse, False)):
            if given is None:
                continue
            if given not in ("rows", "promotion"):
                raise UserError(
                    f"there is no review of {given}", hint="a review is of rows or promotion"
                )
            if given in self._answers:
                raise UserError(f"{given} are both approved and refused", hint="choose one")
            self._answers[given] = answer

    def __call__(self, shown: Mapping[str, Any]) -> bool | None:
        from reflectory.improvement.driver import ReviewWaits

        what = str(shown["review"])
        if what in self._answers:
            return self._answers.pop(what)  # for one review, not for those of later rounds
        if not sys.stdin.isatty():
            raise ReviewWaits(shown)
        for name, value in shown.items():
            err.print(f"  {name}: {value}", markup=False, highlight=False)
        return typer.confirm(f"Round {shown['round']}: approve the {what}?", err=True)


def _watcher(display: Display) -> Any:
    """Return what tells a display of stages, loops and training steps."""
    from reflectory.improvement import RoundWatcher

    activity = display.activity

    class Watcher(RoundWatcher):
        def stage(self, number: int, name: str, text: str) -> None:
            display.stage(f"round {number}: {text}")

        def loops(self, count: int, config: LoopConfig) -> None:
            activity.expect("loops", count, iterations=config.max_iterations)

        def loop_done(self, trajectory: Trajectory) -> None:
            activity.finished(trajectory)

        def training(self) -> Callable[[int, int, float, float], None]:
            return activity.trained

        def round_done(self, record: RoundRecord) -> None:
            said = record.decision.replace("_", " ")
            display.note(f"round {record.number} {said}: {record.reason}")

    return Watcher()


def _as_json(result: ImprovementResult) -> dict[str, Any]:
    return {
        "current": result.current,
        "students": [s.model_dump(mode="json") for s in result.students],
        "rounds": [r.model_dump(mode="json", exclude={"settings"}) for r in result.rounds],
    }


def _show(result: ImprovementResult, folder: Path) -> None:
    if result.rounds:
        table = Table(title="Rounds")
        for column in ("round", "began with", "rows", "F1", "gain", "p", "decision"):
            table.add_column(column, justify="left" if column == "decision" else "right")
        for record in result.rounds:
            table.add_row(*_row(record))
        out.print(table)
    for record in result.rounds:
        out.print(f"round {record.number}: {record.reason}", markup=False, highlight=False)
        for warning in record.warnings:
            out.print(f"  note: {warning}", markup=False, highlight=False)
        if record.failure.get("hint"):
            out.print(f"  -> {record.failure['hint']}", markup=False, highlight=False)
    table = Table(title="Students")
    for column in ("number", "adapter", "parent", "rows", "F1", "words", "decision"):
        table.add_column(column, justify="left" if column in ("adapter", "decision") else "right")
    for student in result.students:
        table.add_row(
            f"{student.number}{' *' if student.number == result.current else ''}",
            student.adapter or "none, the base",
            "" if student.parent is None else str(student.parent),
            str(student.rows or ""),
            _figure(student.figures, "f1", ".3f"),
            _figure(student.figures, "words", ".1f"),
            student.decision.replace("_", " "),
        )
    out.print(table)
    current = result.student
    place = "the base itself" if current.adapter is None else str(folder / current.adapter)
    out.print(f"The current student (*) is {place}", markup=False, highlight=False, soft_wrap=True)


def _row(record: RoundRecord) -> tuple[str, ...]:
    f1 = record.comparisons.get("f1")
    rows = record.counts.get("curate", {}).get("rows", "")
    if f1 is None:
        figures = ("", "", "")
    else:
        figures = (
            f"{f1['before']:.3f} -> {f1['after']:.3f}",
            f"{f1['difference']:+.3f}",
            f"{f1['p_value']:.3g}",
        )
    decision = record.decision.replace("_", " ")
    return (str(record.number), str(record.student), str(rows), *figures, decision)


def _figure(figures: Mapping[str, float], name: str, form: str) -> str:
    return format(figures[name], form) if name in figures else ""
