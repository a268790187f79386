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
from reflectory.evaluation.metrics.instructions import follow
from reflectory.evaluation.records import ContenderAnswer, EvaluationReport
from reflectory.report.evaluation_questions import Asked, constraints_of, contenders_of
from reflectory.report.html import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FOLLOWED = ("strict_prompt", "loose_prompt")


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
        questions: The references and constraints that the attempts are scored with.
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

    Only for metrics that need nothing but references or constraints and weigh every question
    the same; others give no curve.
    """
    compared = {field.name for field in fields(AnswerScores)}
    if report.primary not in {*compared, *_FOLLOWED} or report.primary in report.weights:
        return []
    asked = {question.id: question for question in questions}
    by_contender: dict[str, list[ContenderAnswer]] = {}
    for answer in answers:
        if answer.id in asked:
            by_contender.setdefault(answer.contender, []).append(answer)
    curves = []
    for name in contenders_of(report):
        found = by_contender.get(name, [])
        # A curve over other questions than the tables' would not be the same figure.
        if len(found) != report.rows:
            continue
        values = {
            answer.id: [
                {report.primary: _score(attempt.text, asked[answer.id], report.primary)}
                for attempt in answer.attempts
            ]
            for answer in found
        }
        curves.append(anytime_curve(found, values, report.primary, "calls"))
    return curves


def _score(text: str, question: Asked, metric: str) -> float:
    if metric in _FOLLOWED:
        found = follow(text, constraints_of(question))
        return float(all(found.strict if metric == "strict_prompt" else found.loose))
    return float(getattr(score_answer(text, question.references), metric))
