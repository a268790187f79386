"""The report of an evaluation, from what was answered and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reflectory.contenders.protocol import Contender
from reflectory.evaluation.comparison import FEW_ROWS
from reflectory.evaluation.held_out import HeldOutItem
from reflectory.evaluation.records import EvaluationReport
from reflectory.evaluation.sets import EvaluationSet
from reflectory.evaluator.answering import Answers, Budgets
from reflectory.evaluator.arena import Arena
from reflectory.evaluator.scoring import ScoreSheet, Tables, comparisons_of, tables_of
from reflectory.runs.directory import RunDirectory
from reflectory.runs.manifest import Manifest


async def report_of(
    arena: Arena,
    directory: RunDirectory,
    contenders: Sequence[Contender],
    questions: EvaluationSet,
    items: Sequence[HeldOutItem],
    answers: Answers,
    budgets: Budgets,
) -> EvaluationReport:
    """Measure all answers and return everything that was found.

    References are looked at here for the first time.
    """
    from reflectory.evaluation.turning import turning_points

    settings, parts = arena.settings, arena.parts
    sheet = ScoreSheet(items, settings.measured)
    await sheet.measure(answers, embedder=parts.embedder, verifier=parts.verifier)
    tables = tables_of(contenders, items, answers, budgets, sheet, settings.budgets)
    reference = answers[settings.reference]
    turning = turning_points(
        [reference[item.id] for item in items], sheet.of_all(reference), right=settings.right
    )
    return EvaluationReport(
        name=questions.name,
        rows=len(items),
        set_hash=questions.hash,
        reference=settings.reference,
        primary=settings.primary,
        tables=tables,
        comparisons=comparisons_of(tables, settings),
        turning=turning,
        domains=_domains(questions, tables, settings.reference, settings.primary),
        config=directory.config.model_dump(mode="json"),
        environment=_environment(directory.manifest),
        seconds=_seconds(directory.manifest),
        warnings=tuple(_warnings(items, answers, tables)),
    )


def _domains(
    questions: EvaluationSet, tables: Tables, reference: str, primary: str
) -> dict[str, float]:
    """Return the mean of the primary metric by domain, of the reference in the first table."""
    domains = {question.id: question.domain for question in questions.questions}
    rows = next(iter(tables.values()))
    (row,) = (row for row in rows if row.contender == reference)
    values: dict[str, list[float]] = {}
    for answer in row.answers:
        if domains[answer.id]:
            values.setdefault(domains[answer.id], []).append(answer.values[primary])
    return {name: sum(found) / len(found) for name, found in sorted(values.items())}


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


def _seconds(manifest: Manifest) -> float:
    """Return the wall-clock time of all sessions."""
    spans = (
        datetime.fromisoformat(s.updated) - datetime.fromisoformat(s.started)
        for s in manifest.sessions
    )
    return round(sum(span.total_seconds() for span in spans), 1)


def _warnings(items: Sequence[HeldOutItem], answers: Answers, tables: Tables) -> list[str]:
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
