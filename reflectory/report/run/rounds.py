"""What the rounds of a run left: rows, training, the check, the decision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reflectory.errors import IntegrityError, ReflectoryError
from reflectory.evaluation.comparison import PairedComparison
from reflectory.evaluation.held_out import HeldOutAnswer
from reflectory.improvement.checking import EVALUATION, Evaluation
from reflectory.improvement.folder import read_record
from reflectory.improvement.lineage import ROUND_FILE, read_rounds
from reflectory.improvement.records import RoundRecord
from reflectory.report.run.datasets import DatasetFacts, dataset_facts
from reflectory.runs.files import storage_errors
from reflectory.training.lineage import MANIFEST_FILE, AdapterManifest, read_adapter_manifest

CHECKED = 300
"""Most questions of a check whose answers are shown."""

_HIDDEN = frozenset({"count", "missing", "empty"})


@dataclass(frozen=True)
class Figure:
    """One metric before and after.

    Attributes:
        name: Of the metric.
        before: Its mean with the old student.
        after: With the new one.
        comparison: The paired difference; ``None`` where only the means are known.
    """

    name: str
    before: float
    after: float
    comparison: PairedComparison | None = None


@dataclass(frozen=True)
class CheckedQuestion:
    """What both students said to one question.

    Attributes:
        id: Of the question.
        question: Its text; empty where the file holds only the id.
        references: The right answers, as far as they are known.
        before: The old student's answer; ``None`` when there is none.
        after: The new one's.
        turned: 1 when the answer got better by F1, -1 when worse, 0 otherwise; ``None``
            when it was not scored.
    """

    id: str
    question: str
    references: tuple[str, ...]
    before: str | None
    after: str | None
    turned: int | None = None


@dataclass(frozen=True)
class Check:
    """A comparison of the student before and after a round.

    Attributes:
        figures: By metric.
        questions: At most :data:`CHECKED` of them.
        count: All questions.
        proposals: Whether the right answers are proposals of the teacher.
    """

    figures: tuple[Figure, ...]
    questions: tuple[CheckedQuestion, ...]
    count: int
    proposals: bool = False


@dataclass(frozen=True)
class RoundFacts:
    """Everything of one round that its folder holds.

    Attributes:
        number: From 0.
        record: What was decided; ``None`` while it is not over, and in the demo.
        datasets: Its data sets.
        training: What trained its adapter.
        check: Before and after.
        seconds: Time of each stage.
        problems: Files that could not be read, with the reason.
    """

    number: int
    record: RoundRecord | None
    datasets: tuple[DatasetFacts, ...]
    training: AdapterManifest | None
    check: Check | None
    seconds: dict[str, float]
    problems: tuple[str, ...] = ()


def rounds_of(run: Path) -> tuple[RoundFacts, ...]:
    """Return the rounds of a run directory, also of an unfinished one, in order.

    A file of a round that is damaged is a problem of that round and no error.
    """
    folder = run / "rounds"
    numbers = sorted(int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit() and p.is_dir())
    records: dict[int, RoundRecord] = {}
    damaged = ""
    if any((folder / f"{n:03d}" / ROUND_FILE).exists() for n in numbers):
        try:
            records = {record.number: record for record in read_rounds(run)}
        except ReflectoryError as error:
            damaged = error.message
    found = [_round(folder / f"{n:03d}", n, records.get(n)) for n in numbers]
    if damaged and found:
        first = found[0]
        found[0] = RoundFacts(**{**vars(first), "problems": (damaged, *first.problems)})
    return tuple(found)


def _round(folder: Path, number: int, record: RoundRecord | None) -> RoundFacts:
    problems: list[str] = []
    sets: list[DatasetFacts] = []
    for name in ("dataset", "preferences"):
        try:
            known = dataset_facts(folder / name, name)
        except ReflectoryError as error:
            problems.append(error.message)
            continue
        if known is not None:
            sets.append(known)
            problems += [known.problem] if known.problem else []
    training = check = None
    try:
        if (folder / "adapter" / MANIFEST_FILE).is_file():
            training = read_adapter_manifest(folder / "adapter")
    except ReflectoryError as error:
        problems.append(error.message)
    try:
        check = check_of(folder / EVALUATION)
    except ReflectoryError as error:
        problems.append(error.message)
    return RoundFacts(
        number=number,
        record=record,
        datasets=tuple(sets),
        training=training,
        check=check,
        seconds=_seconds(folder / "timing.json"),
        problems=tuple(problems),
    )


def _seconds(file: Path) -> dict[str, float]:
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(file.read_bytes())
        return {str(k): float(v) for k, v in found.items() if isinstance(v, int | float)}
    return {}


def check_of(file: Path) -> Check | None:
    """Return the check in an ``evaluation.json`` of a round or of the demo.

    Returns:
        ``None`` when there is no such file.

    Raises:
        IntegrityError: It is damaged.
        StorageError: It cannot be read.
    """
    if not file.is_file():
        return None
    with storage_errors(file, "read"):
        text = file.read_bytes()
    try:
        data = json.loads(text)
        if "answers" in data:  # the demo compares two students without a rule
            return _demo_check(data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise IntegrityError(
            f"{file} is damaged: {error}", hint="take the file away, or restore it from a copy"
        ) from error
    return _round_check(read_record(file, Evaluation))


def _round_check(found: Evaluation) -> Check:
    compared = {**found.comparisons, found.forgetting.name: found.forgetting}
    if found.fluency is not None:
        compared[found.fluency.name] = found.fluency
    figures = tuple(
        Figure(name, result.before, result.after, result) for name, result in compared.items()
    )
    before = {answer.id: answer for answer in found.before.answers}
    after = {answer.id: answer for answer in found.after.answers}
    questions = tuple(
        CheckedQuestion(
            id=q.id,
            question=q.question,
            references=q.references,
            before=before[q.id].text if q.id in before else None,
            after=after[q.id].text if q.id in after else None,
            turned=_turned(before.get(q.id), after.get(q.id)),
        )
        for q in found.questions[:CHECKED]
    )
    return Check(figures, questions, len(found.questions), found.proposals)


def _turned(before: HeldOutAnswer | None, after: HeldOutAnswer | None) -> int | None:
    if before is None or after is None:
        return None
    return (after.f1 > before.f1) - (after.f1 < before.f1)


def _demo_check(data: Mapping[str, Any]) -> Check:
    before, after = data["before"], data["after"]
    figures = tuple(
        Figure(str(name), float(before[name]), float(after[name]))
        for name in before
        if name in after and name not in _HIDDEN
    )
    questions = tuple(_demo_question(answer) for answer in data["answers"][:CHECKED])
    return Check(figures, questions, len(data["answers"]))


def _demo_question(answer: Mapping[str, Any]) -> CheckedQuestion:
    """Return a question of the demo; runs of earlier versions hold no more than its id."""
    before, after = answer.get("f1", (0.0, 0.0))
    return CheckedQuestion(
        id=str(answer["id"]),
        question=str(answer.get("question", "")),
        references=tuple(map(str, answer.get("references", ()))),
        before=answer["before"],
        after=answer["after"],
        turned=(after > before) - (after < before) if "f1" in answer else None,
    )
