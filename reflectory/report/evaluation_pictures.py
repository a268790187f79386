"""The pictures of an evaluation's page, as SVG that stands inside the page.

Texts stay texts, so that the page's reader can select and find them; what they hold is
escaped by matplotlib's writer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from reflectory.evaluation.anytime import AnytimeCurve, anytime_curve
from reflectory.evaluation.metrics import AnswerScores, score_answer
from reflectory.evaluation.records import ContenderAnswer, EvaluationReport
from reflectory.report.evaluation_questions import Asked, contenders_of
from reflectory.report.html import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def evaluation_pictures(
    report: EvaluationReport,
    *,
    answers: Sequence[ContenderAnswer] | None = None,
    questions: Sequence[Asked] | None = None,
) -> dict[str, str]:
    """Return SVG pictures by name; one that has nothing to show is left out.

    Args:
        report: What was found.
        answers: All attempts, for the curve of what fewer calls would have given.
        questions: The references that the attempts are scored with.
    """
    from reflectory.report.evaluation_plots import plot_anytime
    from reflectory.report.judge_plots import plot_calibration, plot_roc
    from reflectory.report.matrix_plots import plot_levels, plot_stops

    drawn: dict[str, Callable[[], Axes]] = {}
    curves = anytime_curves(report, answers or (), questions or ())
    if curves:
        drawn["anytime"] = lambda: plot_anytime(curves, reference=report.reference)
    if (judge := report.judge) is not None:
        if any(found.curve for found in judge.separations):
            drawn["roc"] = lambda: plot_roc(judge)
        if judge.bins:
            drawn["calibration"] = lambda: plot_calibration(judge)
    if (matrices := report.matrices) is not None:
        if any(any(level.counts) for level in matrices.levels):
            drawn["levels"] = lambda: plot_levels(matrices)
        if any(any(by.values()) for by in matrices.stops.values()):
            drawn["stops"] = lambda: plot_stops(matrices)
    return {name: svg(draw, name) for name, draw in drawn.items()}


def anytime_curves(
    report: EvaluationReport, answers: Sequence[ContenderAnswer], questions: Sequence[Asked]
) -> list[AnytimeCurve]:
    """Return what each contender would have reached with fewer calls, on the primary metric.

    Only for metrics that need nothing but the references; others give no curve.
    """
    if report.primary not in {field.name for field in fields(AnswerScores)}:
        return []
    references = {question.id: question.references for question in questions}
    by_contender: dict[str, list[ContenderAnswer]] = {}
    for answer in answers:
        if answer.id in references:
            by_contender.setdefault(answer.contender, []).append(answer)
    curves = []
    for name in contenders_of(report):
        found = by_contender.get(name, [])
        # A curve over other questions than the tables' would not be the same figure.
        if len(found) != report.rows:
            continue
        values = {
            answer.id: [
                {report.primary: _score(attempt.text, references[answer.id], report.primary)}
                for attempt in answer.attempts
            ]
            for answer in found
        }
        curves.append(anytime_curve(found, values, report.primary, "calls"))
    return curves


def _score(text: str, references: tuple[str, ...], metric: str) -> float:
    return float(getattr(score_answer(text, references), metric))
