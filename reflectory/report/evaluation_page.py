"""An evaluation as one page for people: it needs no network and is read from the disk.

The texts of models and documents stand in the page as text. The template escapes them, and
the page's content security policy allows no script but its own, named by its hash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reflectory.evaluation.changes import right_metric
from reflectory.evaluation.fields import flatten
from reflectory.evaluation.records import ContenderAnswer, EvaluationReport
from reflectory.report import evaluation_words as words
from reflectory.report.evaluation_pictures import evaluation_pictures
from reflectory.report.evaluation_questions import Asked, contenders_of, questions_of
from reflectory.report.html import asset, environment, script_hash
from reflectory.runs.files import storage_errors, write_atomic

_TABLE_METRICS = 8  # more columns than these cannot be read beside one another
_ANSWER_METRICS = 4  # metrics that stand below an answer


def write_page(
    report: EvaluationReport,
    path: str | Path,
    *,
    answers: Iterable[ContenderAnswer] | None = None,
    questions: Iterable[Asked] | None = None,
) -> Path:
    """Write an evaluation as one self-contained HTML file.

    Args:
        report: What was found.
        path: Where the page goes; a file that is there is replaced.
        answers: All attempts of the contenders (``answers.jsonl``), to be shown below the
            answers. Of many only the reference contender's are shown.
        questions: What was asked and the references; a report holds only their ids.

    Returns:
        The path.

    Raises:
        StorageError: The file cannot be written.
    """
    target = Path(path)
    text = page_html(report, answers=answers, questions=questions)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    # A model's output may hold halves of characters, which no file can.
    write_atomic(target, text.encode("utf-8", "replace"))
    return target


def page_html(
    report: EvaluationReport,
    *,
    answers: Iterable[ContenderAnswer] | None = None,
    questions: Iterable[Asked] | None = None,
) -> str:
    """Return the page; the arguments are those of :func:`write_page`.

    Args:
        report: What was found.
        answers: What contenders answered, for the questions one by one.
        questions: What was asked, with references.
    """
    script = asset("evaluation.js")
    attempts = None if answers is None else list(answers)
    asked = None if questions is None else list(questions)
    return (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            **_common(report, sortable=True),
            style=asset("page.css") + asset("evaluation.css"),
            script=script,
            script_hash=script_hash(script),
            contenders=contenders_of(report),
            right=right_metric(report),
            questions=questions_of(report, answers=attempts, questions=asked),
            answer_metrics=words.metrics_of(report),
            figures_of_answer=_ANSWER_METRICS,
            pictures=evaluation_pictures(report, answers=attempts, questions=asked),
            settings=flatten(report.config),
            environment=flatten(report.environment),
        )
    )


def tables_html(report: EvaluationReport) -> str:
    """Return summary and tables as a fragment of HTML, as a notebook shows them."""
    return (
        environment()
        .get_template("evaluation_notebook.html.j2")
        .render(**_common(report, sortable=False))
    )


def _common(report: EvaluationReport, *, sortable: bool) -> dict[str, Any]:
    """Return what the page and the fragment of a notebook show."""
    return {
        "sortable": sortable,
        "report": report,
        "words": words,
        "metrics": words.metrics_of(report)[:_TABLE_METRICS],
        "tables": {budget: words.standings(report, budget) for budget in report.tables},
        "at": _scale(report),
    }


def _scale(report: EvaluationReport) -> Callable[[float], float]:
    """Return what places a difference of the primary metric in a picture 200 wide.

    One scale serves all tables, so that their intervals can be compared; it holds zero.
    """
    ends = [
        end
        for pair in report.comparisons
        if pair.metric == report.primary
        for end in (pair.result.low, pair.result.high)
        if math.isfinite(end)
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    width = (high - low) or 1.0
    return lambda value: round(6.0 + 188.0 * (value - low) / width, 2)
