"""``students.json`` and ``round.json``: reading, adding and restoring."""

from __future__ import annotations

import json
from pathlib import Path

from reflectory.errors import IntegrityError, RunDirectoryError
from reflectory.improvement.folder import read_record
from reflectory.improvement.records import SCHEMA_VERSION, Lineage, RoundRecord, StudentRecord
from reflectory.models.store import sha256_of
from reflectory.runs.files import write_atomic

STUDENTS_FILE = "students.json"
ROUND_FILE = "round.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def read_lineage(run: Path) -> Lineage:
    """Return the students of a run; only the base when no round has trained one.

    Raises:
        RunDirectoryError: The folder is no run directory, or of a newer schema.
        IntegrityError: The file is damaged.
    """
    file = run / STUDENTS_FILE
    if not file.exists():
        if not (run / "manifest.json").exists():
            raise RunDirectoryError(
                f"{run} is no run of rounds: it has no {STUDENTS_FILE}",
                hint="pass the folder that `reflectory improve` wrote",
            )
        return Lineage(students=(StudentRecord(number=0, decision="base"),))
    _refuse_newer(file)
    return read_record(file, Lineage)


def write_lineage(run: Path, lineage: Lineage) -> None:
    """Replace the students of a run in one step.

    Raises:
        StorageError: The disk is full; the old file is still there.
    """
    write_atomic(run / STUDENTS_FILE, lineage.model_dump_json(indent=2) + "\n")


def add_student(run: Path, record: StudentRecord) -> StudentRecord:
    """Add the student that a round trained; a promoted one becomes the current one.

    Doing it twice for one round is harmless.

    Args:
        run: The run directory.
        record: Everything but the number, which is the next one.

    Returns:
        The record with its number.
    """
    lineage = read_lineage(run)
    known = lineage.of_round(record.round) if record.round is not None else None
    if known is not None:
        return known
    added = record.model_copy(update={"number": len(lineage.students)})
    current = added.number if added.decision == "promoted" else lineage.current
    students = (*lineage.students, added)
    write_lineage(run, lineage.model_copy(update={"students": students, "current": current}))
    return added


def restore_student(run: Path, number: int) -> StudentRecord:
    """Make an earlier student the current one, after looking at its adapter.

    Raises:
        UserError: There is no such student.
        IntegrityError: Its adapter is gone or is not the one that was trained.
    """
    lineage = read_lineage(run)
    record = lineage.student(number)
    adapter_of(run, record)
    if lineage.current != number:
        write_lineage(run, lineage.model_copy(update={"current": number}))
    return record


def adapter_of(run: Path, record: StudentRecord) -> Path | None:
    """Return the folder of a student's adapter, checked; ``None`` for number 0.

    Raises:
        IntegrityError: The weights are gone or not those that were trained.
    """
    if record.adapter is None:
        return None
    folder = run / record.adapter
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise IntegrityError(
            f"the adapter of student {record.number} is not in {folder}",
            hint="bring the folder back, or restore another student with "
            "`reflectory improve --restore`",
        )
    if sha256_of(weights) != record.sha256:
        raise IntegrityError(
            f"{weights} is not what student {record.number} was trained to",
            hint="bring the file back, or restore another student with "
            "`reflectory improve --restore`",
        )
    return folder


def read_rounds(run: Path) -> list[RoundRecord]:
    """Return the rounds that are over, in order.

    Raises:
        IntegrityError: A record is damaged.
        RunDirectoryError: A record is of a newer schema.
    """
    found: list[RoundRecord] = []
    while (file := run / "rounds" / f"{len(found):03d}" / ROUND_FILE).exists():
        _refuse_newer(file)
        found.append(read_record(file, RoundRecord))
    return found


def write_round(run: Path, record: RoundRecord) -> None:
    """Write the record of a round in one step; the round is over then."""
    folder = run / "rounds" / f"{record.number:03d}"
    write_atomic(folder / ROUND_FILE, record.model_dump_json(indent=2) + "\n")


def reopen_failed(run: Path) -> bool:
    """Let the last round be made again if it failed; return whether it did."""
    rounds = read_rounds(run)
    if not rounds or rounds[-1].decision != "failed":
        return False
    file = run / "rounds" / f"{rounds[-1].number:03d}" / ROUND_FILE
    file.replace(file.with_name("round.failed.json"))
    return True


def _refuse_newer(file: Path) -> None:
    try:
        version = json.loads(file.read_bytes()).get("schema_version")
    except (ValueError, AttributeError) as error:
        raise IntegrityError(
            f"{file} is damaged: {error}", hint="restore the file from a copy"
        ) from error
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RunDirectoryError(
            f"{file} has schema version {version}, known up to {SCHEMA_VERSION}",
            hint="upgrade reflectory to read it",
        )
