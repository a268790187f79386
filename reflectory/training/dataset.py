"""Rows as a folder: a file that TRL reads, a data card, and a manifest.

The file of rows has TRL's column names and one more, ``provenance`` as JSON text;
``datasets.load_dataset`` reads it. ``dataset.json`` says what is in it and holds
its sha256, ``README.md`` says it for people. Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from reflectory.config import CurationConfig
from reflectory.errors import DatasetError, IntegrityError
from reflectory.training.counts import CurationCounts, Tally
from reflectory.training.data_card import data_card
from reflectory.training.dataset_columns import STYLES, Style, encode_row, format_of, plain, row_of
from reflectory.training.dataset_files import (
    FILE_FORMATS,
    ROWS_FILES,
    FileFormat,
    checksums,
    file_format_of,
    read_rows,
    write_rows,
)
from reflectory.training.rows import (
    FORMATS,
    ROW_TYPES,
    Format,
    PreferenceRow,
    Row,
    TrainingRow,
)
from reflectory.training.staging import staged_folder
from reflectory.types import Record, Shown

SCHEMA_VERSION = 3  # since 3, other file formats, and provenance is JSON text
ROWS_FILE = ROWS_FILES["jsonl"]
MANIFEST_FILE = "dataset.json"
CARD_FILE = "README.md"

RowT = TypeVar("RowT", bound=Row)


class Derivation(Record):
    """How rows of a format that curation does not make came about.

    Attributes:
        explanation: The rule, in words with its numbers.
        tally: What was seen, accepted and refused.
    """

    explanation: str
    tally: Tally = Tally()


class DatasetManifest(Shown, Record):
    """What a data set holds; the content of ``dataset.json``.

    Attributes:
        schema_version: Version of this layout.
        format: ``sft``, ``dpo``, ``kto``, ``feedback`` or ``prompts``.
        style: ``chat`` (messages) or ``plain`` (texts).
        file_format: ``jsonl``, ``parquet`` or ``datasets``.
        rows: Number of rows.
        sha256: Of the rows, whatever the file format (see :func:`rows_sha256`); that of
            ``train.jsonl`` where this is written in chat style.
        files: sha256 of the bytes of every file with rows, by its path in the folder.
        kinds: Rows by what they come from (``response``, ``answer`` with its level, or
            ``manual``).
        sources: Rows by who wrote the completion, the terms of Equation 5.
        trajectories: Number of trajectories that gave rows.
        models: Fingerprints that occur, by role.
        seeds: Seeds of the loops, as far as the caller told them.
        sources_licence: Licence of the documents; ``unknown`` unless stated.
        rule: The thresholds of curation; ``None`` when the rows came from elsewhere.
        counts: What was seen and refused; ``None`` likewise.
        derivation: The rule of a format that curation does not make, and what it refused;
            ``None`` when curation made the rows.
    """

    schema_version: int = SCHEMA_VERSION
    format: Format
    style: Style = "chat"
    file_format: FileFormat = "jsonl"
    rows: int = Field(ge=1)
    sha256: str
    files: dict[str, str] = Field(default_factory=dict)
    kinds: dict[str, int]
    sources: dict[str, int] = Field(default_factory=dict)
    trajectories: int
    models: dict[str, tuple[str, ...]]
    seeds: tuple[int, ...] = ()
    sources_licence: str = "unknown"
    rule: dict[str, Any] | None = None
    counts: CurationCounts | None = None
    derivation: Derivation | None = None


@dataclass(frozen=True, repr=False)
class RowSet(Shown):
    """Rows of one format, and their sha256."""

    format: Format
    rows: tuple[Row, ...]
    sha256: str
    manifest: DatasetManifest | None = None

    @classmethod
    def of(cls, format: Format, rows: Iterable[Row]) -> RowSet:
        """Return rows that were never in a file.

        Args:
            format: Of all rows.
            rows: Any number.

        Raises:
            DatasetError: A row is of another format.
        """
        kept = tuple(_of_format(rows, format))
        return cls(format, kept, rows_sha256(kept))

    def training_rows(self) -> tuple[TrainingRow, ...]:
        """Return the rows for supervised training.

        Raises:
            DatasetError: These are rows of another format.
        """
        return self._only(TrainingRow, "supervised training", "sft")

    def preference_rows(self) -> tuple[PreferenceRow, ...]:
        """Return the pairs for preference training.

        Raises:
            DatasetError: These are rows of another format.
        """
        return self._only(PreferenceRow, "preference training", "dpo")

    def _only(self, kind: type[RowT], purpose: str, format: Format) -> tuple[RowT, ...]:
        if self.format != format:
            raise DatasetError(
                f"{purpose} needs rows of the format {format}, got {self.format}",
                hint=f"make the data set with --format {format}",
            )
        return tuple(row for row in self.rows if isinstance(row, kind))


def rows_sha256(rows: Iterable[Row]) -> str:
    """Return the sha256 that a data set of these rows has: of their JSON Lines."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(encode_row(row))
    return digest.hexdigest()


@dataclass
class _Summary:
    """Counts rows as they go by, so that nobody has to hold them all."""

    format: Format
    style: Style
    digest: Any = field(default_factory=hashlib.sha256)
    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    trajectories: set[str] = field(default_factory=set)
    models: dict[str, set[str]] = field(default_factory=dict)

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in _of_format(rows, self.format):
            origin = row.provenance
            self.digest.update(encode_row(plain(row) if self.style == "plain" else row))
            self.rows += 1
            level = f" ({origin.level})" if origin.level else ""
            self.kinds["manual" if origin.source == "manual" else origin.what + level] += 1
            self.sources[origin.source] += 1
            if origin.trajectory:
                self.trajectories.add(origin.trajectory)
            for role, fingerprint in origin.models.items():
                self.models.setdefault(role, set()).add(fingerprint)
            yield row


def _of_format(rows: Iterable[Row], format: Format) -> Iterator[Row]:
    for row in rows:
        if row.kind != format:
            raise DatasetError(
                f"not every row is of the format {format}: there is one of {row.kind}",
                hint="write each format on its own",
            )
        yield row


def write_dataset(
    folder: str | Path,
    rows: Iterable[Row],
    *,
    format: Format = "sft",
    style: Style = "chat",
    file_format: FileFormat = "jsonl",
    rule: CurationConfig | None = None,
    counts: CurationCounts | None = None,
    derivation: Derivation | None = None,
    seeds: Sequence[int] = (),
    sources_licence: str = "unknown",
) -> DatasetManifest:
    """Write a data set; an earlier one in the same place is replaced as a whole.

    Args:
        folder: Where to write.
        rows: At least one, all of the kind that the format needs; they may be a stream.
        format: One of :data:`~reflectory.training.rows.FORMATS`.
        style: ``chat`` for messages, ``plain`` for texts.
        file_format: ``jsonl``, ``parquet``, or ``datasets`` for a folder that
            ``datasets.load_from_disk`` reads.
        rule: The rule by which the rows were chosen, for the card.
        counts: What was seen and refused, for the card.
        derivation: Both of a format that was made from candidates, feedback or questions.
        seeds: Seeds of the loops that the rows come from.
        sources_licence: Licence of the documents, when it is known.

    Raises:
        DatasetError: There are no rows, or rows of another kind.
        UserError: The folder holds something that is no data set.
        StorageError: The disk is full or the folder cannot be written.
    """
    _check_choice("data set format", format, FORMATS)
    _check_choice("style", style, STYLES)
    _check_choice("file format", file_format, FILE_FORMATS)
    summary = _Summary(format, style)
    with staged_folder(folder, marker=MANIFEST_FILE) as staging:
        write_rows(staging, summary.watch(rows), format, style, file_format)
        if not summary.rows:
            raise DatasetError(
                "there are no rows to write",
                hint="lower the thresholds of curation, or make more trajectories",
            )
        manifest = DatasetManifest(
            format=format,
            style=style,
            file_format=file_format,
            rows=summary.rows,
            sha256=summary.digest.hexdigest(),
            files=checksums(staging, ()),
            kinds=dict(sorted(summary.kinds.items())),
            sources=dict(sorted(summary.sources.items())),
            trajectories=len(summary.trajectories),
            models={r: tuple(sorted(names)) for r, names in sorted(summary.models.items())},
            seeds=tuple(sorted(set(seeds))),
            sources_licence=sources_licence,
            rule=rule.model_dump(mode="json") if rule is not None else None,
            counts=counts,
            derivation=derivation,
        )
        card = data_card(manifest.model_dump(mode="json"), rows_file=ROWS_FILES[file_format])
        (staging / CARD_FILE).write_text(card, encoding="utf-8")
        text = manifest.model_dump_json(indent=2) + "\n"
        (staging / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return manifest


def _check_choice(what: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise DatasetError(f"unknown {what} {given!r}", hint=f"choose one of {', '.join(known)}")


def read_dataset(path: str | Path) -> RowSet:
    """Read and check a data set.

    Args:
        path: The folder that :func:`write_dataset` wrote, or a file (JSON Lines,
            Parquet) or a folder of ``datasets`` with the same columns; of those the
            checksum cannot be checked.

    Raises:
        DatasetError: Something is missing, empty, or no row (with its line number).
        IntegrityError: The rows are not those that the manifest describes.
    """
    manifest = read_manifest(path)
    rows = tuple(iterate_rows(path))
    format = manifest.format if manifest is not None else _format_of_rows(rows)
    return RowSet(format, rows, rows_sha256(rows), manifest)


def iterate_rows(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a data set one by one, as :func:`read_dataset` reads them.

    Raises:
        DatasetError: Something is missing, empty, or no row (with its line number).
        IntegrityError: The rows are not those that the manifest describes.
    """
    place = Path(path)
    manifest = read_manifest(place)
    if manifest is None:
        file_format, format = file_format_of(place), None
    else:
        file_format, format = manifest.file_format, manifest.format
        _check_files(place, manifest)
        if file_format != "datasets":
            place /= ROWS_FILES[file_format]
    empty = True
    for where, values in read_rows(place, file_format):
        empty = False
        if format is None:
            format = format_of(frozenset(values)) or "sft"  # whose error names what is missing
        yield row_of(values, format, where)
    if empty:
        raise DatasetError(f"{path} holds no rows", hint="lower the thresholds of curation")


def read_manifest(path: str | Path) -> DatasetManifest | None:
    """Return what a data set says of itself; ``None`` for a bare file or foreign folder.

    Raises:
        DatasetError: The manifest is damaged or of a newer version.
    """
    file = Path(path) / MANIFEST_FILE
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_bytes())
        version = data["schema_version"]
        if version > SCHEMA_VERSION:
            raise DatasetError(
                f"{file} has schema version {version}, known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory to read it",
            )
        if version < SCHEMA_VERSION:  # the sha256 was that of the one file
            data = {**data, "files": {ROWS_FILE: data["sha256"]}}
        return DatasetManifest.model_validate(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{file} describes no data set: {error}", hint="write the data set again"
        ) from error


def _check_files(folder: Path, manifest: DatasetManifest) -> None:
    found = checksums(folder, (MANIFEST_FILE, CARD_FILE))
    for name, digest in manifest.files.items():
        if name not in found:
            raise DatasetError(
                f"cannot read the data set {folder}: {name} is missing",
                hint="write the data set again",
            )
        if found[name] != digest:
            raise IntegrityError(
                f"{folder / name} was changed after it was written",
                hint=f"to use rows that you edited, pass the file {name} and not its folder",
            )


def _format_of_rows(rows: Sequence[Row]) -> Format:
    return next(name for name, kind in ROW_TYPES.items() if isinstance(rows[0], kind))
