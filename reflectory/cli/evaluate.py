"""``reflectory evaluate``: does reflection help, against contenders of the same budget?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.budget import budget_changes
from reflectory.cli.common import config_from, out, print_json
from reflectory.cli.progress import Display, showing
from reflectory.errors import UserError

if TYPE_CHECKING:
    from reflectory.config import RunConfig
    from reflectory.evaluation.records import EvaluationReport
    from reflectory.evaluator.answering import OnProgress
    from reflectory.evaluator.answering import Progress as Answered


REPORT, ANSWERS, ITEMS, PAGE = "evaluation.json", "answers.jsonl", "items.jsonl", "report.html"
"""Files of an evaluation in its run directory."""
_FAILURES_SAID = 10


def evaluate(
    output: options.ResumedRun = None,
    config: options.ConfigFile = None,
    override: options.Overrides = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Questions with answers or constraints, or dataset:NAME."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="What rows are read as: auto, questions, ifeval.")
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="Rows of each set, from 1: 61-100 or 1-25,40.")
    ] = None,
    documents: options.Documents = None,
    contenders: options.Names = None,
    metrics: options.Names = None,
    reference: Annotated[
        str | None, typer.Option(help="Contender that the others are compared with.")
    ] = None,
    judge: Annotated[bool | None, typer.Option(help="Put the judge on trial.")] = None,
    teacher: options.ModelName = None,
    student: options.ModelName = None,
    student_adapter: options.AdapterFolder = None,
    concurrency: Annotated[int | None, typer.Option(help="Questions at the same time.")] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    max_calls: options.MaxCalls = None,
    max_tokens: options.MaxTokens = None,
    max_cost: options.MaxCost = None,
    max_hours: options.MaxHours = None,
    prices: options.Prices = None,
    retry_failed: Annotated[bool, typer.Option(help="Ask again where a contender failed.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Compare two earlier evaluations instead: the earlier, the later."),
    ] = None,
    page: Annotated[bool, typer.Option(help="Write report.html into RUN.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare the loop with contenders that get the same calls and tokens.

    Direct answer, retrieval, best of N, self-consistency, self-refine, and the loop with
    single parts removed answer the same questions. No contender sees a reference.

    Example: reflectory evaluate --set questions.jsonl -d notes/ -o runs/evaluation
    """
    if compare is not None:
        _compared(*compare, json=json)
        return
    if output is None:
        raise UserError("no run directory was named", hint="give --output RUN")
    settings = config_from(
        config,
        {
            "evaluation.sets": sets,
            "evaluation.shape": shape,
            "evaluation.rows": rows,
            "documents": documents,
            "evaluation.contenders": _names(contenders),
            "evaluation.metrics": _names(metrics),
            "evaluation.reference": reference,
            "evaluation.judge": judge,
            "teacher": teacher,
            "student": student,
            "student_adapter": student_adapter,
            "concurrency": concurrency,
            "device": device,
            "dtype": dtype,
            **budget_changes(max_calls, max_tokens, max_cost, max_hours, prices),
        },
        override,
    )
    report = evaluated(settings, output, retry_failed=retry_failed, quiet=quiet or json)
    if page:
        write_report_page(output, report)
    if json:
        print_json(report.model_dump(mode="json"))
    if json or quiet:
        return
    from reflectory.report.evaluation_table import evaluation_text

    out.print(evaluation_text(report))
    place = f" The page for people is {output / PAGE}." if page else ""
    said = f"Every answer and number is in {output}.{place}"
    out.print(said, markup=False, highlight=False, soft_wrap=True)


def write_report_page(run: Path, report: EvaluationReport, page: Path | None = None) -> Path:
    """Write the page of an evaluation and return its path, which is in the run by default."""
    from reflectory.evaluation.answer_store import AnswerStore
    from reflectory.evaluation.set_rows import EvaluationItem
    from reflectory.report.evaluation_page import write_page

    lines = (run / ITEMS).read_text(encoding="utf-8").split("\n")
    items = [EvaluationItem.model_validate_json(line) for line in lines if line]
    answers = AnswerStore(run / ANSWERS)
    return write_page(report, page or run / PAGE, answers=answers, questions=items)


def read_report(path: Path) -> EvaluationReport:
    """Return the report of an earlier evaluation.

    Args:
        path: Its run directory, or its ``evaluation.json``.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    from pydantic import ValidationError

    from reflectory.evaluation.records import EvaluationReport

    file = path / REPORT if path.is_dir() else path
    try:
        return EvaluationReport.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot read the evaluation {file}: {error.strerror or error}",
            hint="give the run directory of a finished `reflectory evaluate`",
        ) from error
    except ValidationError as error:
        _refuse_newer(file)
        raise UserError(
            f"{file} is no report of an evaluation: {error.errors()[0]['msg']}",
            hint="give the run directory of a finished `reflectory evaluate`",
        ) from error


def _refuse_newer(file: Path) -> None:
    """Say of a report that could not be read whether a later version wrote it."""
    import json

    from reflectory.evaluation.records import SCHEMA_VERSION

    try:
        data = json.loads(file.read_bytes())
    except ValueError:
        return
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(
            f"{file} has schema version {version}, known up to {SCHEMA_VERSION}",
            hint="upgrade reflectory to read it",
        )


def _compared(before: Path, after: Path, *, json: bool) -> None:
    from reflectory.evaluation.changes import compare_reports

    found = compare_reports(read_report(before), read_report(after))
    if json:
        print_json(found.model_dump(mode="json"))
        return
    from reflectory.report.changes_table import comparison_text

    out.print(comparison_text(found))


def evaluated(
    settings: RunConfig, output: Path, *, retry_failed: bool = False, quiet: bool = False
) -> EvaluationReport:
    """Run an evaluation with progress on standard error and return its report.

    Args:
        settings: Names sets, contenders, models and documents.
        output: Run directory.
        retry_failed: Ask again where a contender failed.
        quiet: Show no progress.
    """
    from reflectory.evaluator import Evaluator

    evaluator = Evaluator(settings)
    with showing(quiet=quiet) as display:
        display.activity.expect("answers", None)
        return evaluator.run(output, on_progress=_shown(display), retry_failed=retry_failed)


def _shown(display: Display) -> OnProgress:
    """Return what counts answers, and says which contender failed while these are few."""
    failures = 0

    def show(answered: Answered) -> None:
        nonlocal failures
        failure = answered.failure
        display.activity.answered(
            answered.done, answered.total, answered.contender, failed=bool(failure)
        )
        if not failure:
            return
        failures += 1
        if failures <= _FAILURES_SAID:
            display.note(f"{answered.contender} failed on {answered.question}: {failure}")
        elif failures == _FAILURES_SAID + 1:
            display.note(f"more failed; {ANSWERS} in the run directory has them all")

    return show


def _names(given: str | None) -> Any:
    """Return names that were written with commas; ``None`` when none were given."""
    if given is None:
        return None
    return [name.strip() for name in given.split(",") if name.strip()]
