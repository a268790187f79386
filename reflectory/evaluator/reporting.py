"""The report of an evaluation, from what was answered and measured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reflectory.contenders.protocol import Contender
from reflectory.evaluation.comparison import FEW_ROWS
from reflectory.evaluation.metrics.domains import generalisation
from reflectory.evaluation.records import ContenderAnswer, EvaluationReport
from reflectory.evaluation.set_rows import EvaluationItem
from reflectory.evaluation.sets import EvaluationSet
from reflectory.evaluation.trends import matrix_report
from reflectory.evaluation.turning import turning_points
from reflectory.evaluation.weights import Weights, weight, weighted_mean, weights_of
from reflectory.evaluator.answering import Answers, Budgets
from reflectory.evaluator.arena import Arena
from reflectory.evaluator.scoring import ScoreSheet, Tables, comparisons_of, tables_of
from reflectory.evaluator.trial import trial_of
from reflectory.runs.directory import RunDirectory
from reflectory.runs.manifest import Manifest
from reflectory.runs.spending import seconds_of
from reflectory.types import Trajectory


async def report_of(
    arena: Arena,
    directory: RunDirectory,
    contenders: Sequence[Contender],
    questions: EvaluationSet,
    items: Sequence[EvaluationItem],
    answers: Answers,
    budgets: Budgets,
    *,
    own_grader: bool = False,
) -> EvaluationReport:
    """Measure all answers and return everything that was found.

    References and constraints are looked at here for the first time.

    Args:
        arena: Models, and the evaluation's configuration.
        directory: Holds the reference's trajectories.
        contenders: In the order of the tables.
        questions: The set.
        items: Its questions with their contexts.
        answers: What everybody said.
        budgets: What each question could cost.
        own_grader: Whether the judge was handed over in Python.
    """
    settings, parts = arena.settings, arena.parts
    weights = weights_of(items, settings.measured, alone=arena.alone)
    sheet = ScoreSheet(items, settings.measured, weights)
    await sheet.measure(answers, embedder=parts.embedder, verifier=parts.verifier)
    tables = tables_of(contenders, items, answers, budgets, sheet, settings.budgets)
    reference = answers[settings.reference]
    turning = turning_points(
        [reference[item.id] for item in items],
        sheet.of_all(reference),
        right=settings.right,
        weights=weights,
    )
    loops = _loops(directory, reference.values())
    domains = _domains(questions, tables, settings.reference, settings.primary, weights)
    judge = None
    if settings.judge:
        judge = await trial_of(arena, items, answers, sheet, loops, own_grader=own_grader)
    manifest = directory.update_manifest(hits=arena.hits)  # the time until now
    return EvaluationReport(
        name=questions.name,
        rows=len(items),
        set_hash=questions.hash,
        reference=settings.reference,
        primary=settings.primary,
        weights=weights,
        tables=tables,
        comparisons=comparisons_of(tables, settings, weights),
        turning=turning,
        judge=judge,
        matrices=matrix_report(loops) if loops else None,
        domains=domains,
        generalisation=_generalisation(domains),
        config=directory.config.model_dump(mode="json"),
        environment=_environment(manifest),
        seconds=round(seconds_of(manifest.sessions, directory.calls, time.time()), 1),
        warnings=(
            *_partly(settings.primary, weights),
            *_warnings(items, answers, tables),
        ),
    )


def _loops(directory: RunDirectory, answers: Iterable[ContenderAnswer]) -> list[Trajectory]:
    """Return the trajectories of these answers, which may be fewer than the run holds."""
    named = [answer.trajectory for answer in answers if answer.trajectory is not None]
    found = (directory.trajectories.get(name) for name in named)
    return [trajectory for trajectory in found if trajectory is not None]


def _domains(
    questions: EvaluationSet, tables: Tables, reference: str, primary: str, weights: Weights
) -> dict[str, float]:
    """Return the mean of the primary metric by domain, of the reference in the first table."""
    domains = {question.id: question.domain for question in questions.questions}
    rows = next(iter(tables.values()))
    (row,) = (row for row in rows if row.contender == reference)
    values: dict[str, dict[str, float]] = {}
    for answer in row.answers:
        if domains[answer.id] and weight(weights, primary, answer.id) > 0.0:
            values.setdefault(domains[answer.id], {})[answer.id] = answer.values[primary]
    means = {name: weighted_mean(own, primary, weights) for name, own in sorted(values.items())}
    return {name: mean for name, mean in means.items() if mean is not None}


def _generalisation(domains: Mapping[str, float]) -> float | None:
    """Return Equation 13, in which a domain weighs the same however many questions it has."""
    if len(domains) < 2:
        return None
    return generalisation({name: [mean] for name, mean in domains.items()}).score


def _environment(manifest: Manifest) -> dict[str, Any]:
    session = manifest.sessions[-1]
    return {
        "reflectory": session.reflectory,
        "commit": session.commit,
        "libraries": dict(session.libraries),
        "python": session.python,
        "platform": session.platform,
        "device": session.device,
        "models": {part: record.model_dump() for part, record in manifest.models.items()},
        "identity": dict(manifest.identity),
    }


def _partly(primary: str, weights: Weights) -> list[str]:
    """Return a warning where claims rest on some of the questions."""
    own = weights.get(primary, {})
    measured = sum(value > 0.0 for value in own.values())
    if measured == len(own):
        return []
    return [
        f"claims rest on {primary}, which says something of {measured} of {len(own)} questions only"
    ]


def _warnings(items: Sequence[EvaluationItem], answers: Answers, tables: Tables) -> list[str]:
    found = []
    if len(items) < FEW_ROWS:
        found.append(f"only {len(items)} questions: no interval over so few can be believed")
    found += _failures(answers)
    for kind, rows in tables.items():
        for row in rows:
            if row.missing:
                found.append(
                    f"{row.contender} has no answer within the budget of {kind} to {row.missing} "
                    f"of {len(items)} questions; these count as wrong"
                )
    return found


def _failures(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = []
    for name, by_question in answers.items():
        failed = [answer for answer in by_question.values() if answer.failure]
        if failed:
            found.append(
                f"{name} failed on {len(failed)} of {len(by_question)} questions, first on "
                f"{failed[0].id}: {failed[0].failure}"
            )
    return found
