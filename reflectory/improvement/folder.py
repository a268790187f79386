"""The folder of a round, and how a stage knows that its work is done.

A stage notes the hash of its inputs in ``stages.json`` before it begins, takes away what
it made from other inputs, and puts its output in place in one step at the end. So an
output that stands beside the right hash is whole and made from these inputs, whatever
moment a kill came at, and an output is never made twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from reflectory.errors import IntegrityError, StorageError
from reflectory.runs.files import (
    remove_temporaries,
    storage_errors,
    sync_folder,
    write_atomic,
    write_json,
)
from reflectory.types import Record

R = TypeVar("R", bound=Record)

_REMEDY = "take the file away and start the same command again; recorded calls are not repeated"


class StageFolder:
    """A folder with the outputs of stages and the hashes of their inputs.

    Args:
        path: The folder; it exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path / "stages.json"

    def is_done(self, stage: str, key: str, output: str) -> bool:
        """Return whether a stage has made its output from these inputs.

        Args:
            stage: Name of the stage.
            key: Hash of its inputs.
            output: What it puts in place last, relative to the folder.
        """
        return self._noted(stage).get("key") == key and (self.path / output).exists()

    def begin(self, stage: str, key: str, outputs: Iterable[str]) -> None:
        """Note what a stage works from; what it made from anything else is taken away.

        Raises:
            StorageError: The folder cannot be written.
        """
        if self._noted(stage).get("key") == key:
            return
        for output in outputs:
            discard(self.path / output)
        self._note(stage, {"key": key})

    def count(self, stage: str, counts: Mapping[str, Any]) -> None:
        """Note what a stage counted, before it puts its output in place."""
        self._note(stage, {**self._noted(stage), "counts": dict(counts)})

    def counts(self, stage: str) -> dict[str, Any]:
        """Return what a stage counted; empty when it noted nothing."""
        counts: dict[str, Any] = self._noted(stage).get("counts", {})
        return counts

    def note(self, name: str, value: Any) -> None:
        """Keep a value of the round as a whole."""
        self._note(name, {"value": value})

    def noted(self, name: str) -> Any:
        """Return what :meth:`note` kept, or ``None``."""
        return self._noted(name).get("value")

    def clean(self) -> None:
        """Remove what kills have left; only for the process that holds the run's lock."""
        remove_temporaries(self.path)
        for leftover in self.path.glob(".*.*"):
            # Checkpoints of a training are gone on with, and no leftover.
            if leftover.is_dir() and leftover.suffix != ".work":
                shutil.rmtree(leftover, ignore_errors=True)

    def _noted(self, stage: str) -> dict[str, Any]:
        return self._all().get(stage, {})

    def _all(self) -> dict[str, dict[str, Any]]:
        if not self._file.exists():
            return {}
        with storage_errors(self._file, "read"):
            text = self._file.read_bytes()
        try:
            data: dict[str, dict[str, Any]] = json.loads(text)
        except ValueError as error:
            raise IntegrityError(f"{self._file} is damaged: {error}", hint=_REMEDY) from error
        return data

    def _note(self, stage: str, value: Mapping[str, Any]) -> None:
        write_json(self._file, {**self._all(), stage: dict(value)})


def discard(path: Path) -> None:
    """Remove a file or folder; a kill in the middle leaves nothing under its name."""
    if not path.exists():
        return
    aside = path.with_name(f".{path.name}.discarded")
    with storage_errors(path):
        if aside.exists():
            shutil.rmtree(aside)
        if path.is_dir():
            path.rename(aside)
            sync_folder(path.parent)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            path.unlink()
            sync_folder(path.parent)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON Lines, in one step.

    Raises:
        StorageError: The disk is full; what was there before is unchanged.
    """
    write_atomic(path, "".join(f"{record.model_dump_json()}\n" for record in records))


def read_records(path: Path, kind: type[R]) -> list[R]:
    """Read what :func:`write_records` wrote.

    Raises:
        IntegrityError: A line is damaged; it is named.
        StorageError: The file cannot be read.
    """
    with storage_errors(path, "read"):
        lines = path.read_bytes().split(b"\n")
    found: list[R] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise IntegrityError(
                f"line {number} of {path} is damaged: {error.errors()[0]['msg']}", hint=_REMEDY
            ) from error
    return found


def read_record(path: Path, kind: type[R]) -> R:
    """Read one record from a JSON file.

    Raises:
        IntegrityError: The file is damaged.
        StorageError: The file cannot be read.
    """
    with storage_errors(path, "read"):
        text = path.read_bytes()
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise IntegrityError(
            f"{path} is damaged: {error.errors()[0]['msg']}", hint=_REMEDY
        ) from error


def add_seconds(path: Path, stage: str, seconds: float) -> None:
    """Add to how long a stage took; the only file of a round with times in it."""
    known: dict[str, float] = {}
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    known[stage] = round(known.get(stage, 0.0) + seconds, 3)
    with suppress(StorageError):  # what is lost is a figure, not work
        write_json(path, known)
