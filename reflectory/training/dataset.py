"""Rows as a folder: JSON Lines that TRL reads, a data card, and a manifest.

``train.jsonl`` has TRL's column names and one more, ``provenance``; it loads
with ``datasets.load_dataset("json", data_files=...)``. ``dataset.json`` says
what is in it and holds its sha256, ``README.md`` says it for people. Nothing
heavy is imported here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from reflectory.config import CurationConfig, problems_of
from reflectory.errors import DatasetError, IntegrityError
from reflectory.training.counts import CurationCounts
from reflectory.training.data_card import data_card
from reflectory.training.rows import FORMATS, Format, PreferenceRow, TrainingRow
from reflectory.training.staging import staged_folder
from reflectory.types import Record

SCHEMA_VERSION = 2  # since 2, provenance says what supports a completion
ROWS_FILE = "train.jsonl"
MANIFEST_FILE = "dataset.json"

Row = TrainingRow | PreferenceRow
_ROW_TYPES: dict[Format, type[TrainingRow] | type[PreferenceRow]] = {
    "sft": TrainingRow,
    "dpo": PreferenceRow,
}


class DatasetManifest(Record):
    """What a data set holds; the content of ``dataset.json``.

    Attributes:
        schema_version: Version of this layout.
        format: ``sft`` or ``dpo``.
        rows: Number of rows.
        sha256: Of the bytes of ``train.jsonl``.
        kinds: Rows by what they come from (``response``, or ``answer`` with its level).
        trajectories: Number of trajectories that gave rows.
        models: Fingerprints that occur, by role.
        seeds: Seeds of the loops, as far as the caller told them.
        sources_licence: Licence of the documents; ``unknown`` unless stated.
        rule: The thresholds of curation; ``None`` when the rows came from elsewhere.
        counts: What was seen and refused; ``None`` likewise.
    """

    schema_version: int = SCHEMA_VERSION
    format: Format
    rows: int = Field(ge=1)
    sha256: str
    kinds: dict[str, int]
    trajectories: int
    models: dict[str, tuple[str, ...]]
    seeds: tuple[int, ...] = ()
    sources_licence: str = "unknown"
    rule: dict[str, Any] | None = None
    counts: CurationCounts | None = None


@dataclass(frozen=True)
class RowSet:
    """Rows that were read, and the sha256 of the bytes they were read from."""

    format: Format
    rows: tuple[Row, ...]
    sha256: str
    manifest: DatasetManifest | None = None

    def training_rows(self) -> tuple[TrainingRow, ...]:
        """Return the rows for supervised training.

        Raises:
            DatasetError: These are preference pairs.
        """
        if self.format != "sft":
            raise DatasetError(
                f"supervised training needs rows of the format sft, got {self.format}",
                hint="make the data set with --format sft",
            )
        return tuple(row for row in self.rows if isinstance(row, TrainingRow))


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Return rows as JSON Lines, the same bytes for equal rows."""
    lines = (
        json.dumps(
            row.model_dump(mode="json", exclude={"kind"}), ensure_ascii=False, allow_nan=False
        )
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def rows_sha256(rows: Sequence[Row]) -> str:
    """Return the sha256 that a data set of these rows has."""
    return hashlib.sha256(encode_rows(rows)).hexdigest()


def write_dataset(
    folder: str | Path,
    rows: Sequence[Row],
    *,
    format: Format = "sft",
    rule: CurationConfig | None = None,
    counts: CurationCounts | None = None,
    seeds: Sequence[int] = (),
    sources_licence: str = "unknown",
) -> DatasetManifest:
    """Write a data set; an earlier one in the same place is replaced as a whole.

    Args:
        folder: Where to write.
        rows: At least one, all of the kind that the format needs.
        format: ``sft`` or ``dpo``.
        rule: The rule by which the rows were chosen, for the card.
        counts: What was seen and refused, for the card.
        seeds: Seeds of the loops that the rows come from.
        sources_licence: Licence of the documents, when it is known.

    Raises:
        DatasetError: There are no rows, or rows of another kind.
        UserError: The folder holds something that is no data set.
        StorageError: The disk is full or the folder cannot be written.
    """
    if format not in FORMATS:
        raise DatasetError(
            f"unknown data set format {format!r}", hint=f"choose one of {', '.join(FORMATS)}"
        )
    if not rows:
        raise DatasetError(
            "there are no rows to write",
            hint="lower the thresholds of curation, or make more trajectories",
        )
    if any(row.kind != format for row in rows):
        raise DatasetError(
            f"not every row is of the format {format}", hint="write each format on its own"
        )
    content = encode_rows(rows)
    manifest = DatasetManifest(
        format=format,
        rows=len(rows),
        sha256=hashlib.sha256(content).hexdigest(),
        kinds=_kinds(rows),
        trajectories=len({row.provenance.trajectory for row in rows}),
        models=_models(rows),
        seeds=tuple(sorted(set(seeds))),
        sources_licence=sources_licence,
        rule=rule.model_dump(mode="json") if rule is not None else None,
        counts=counts,
    )
    with staged_folder(folder, marker=MANIFEST_FILE) as staging:
        (staging / ROWS_FILE).write_bytes(content)
        card = data_card(manifest.model_dump(mode="json"), rows_file=ROWS_FILE)
        (staging / "README.md").write_text(card, encoding="utf-8")
        text = manifest.model_dump_json(indent=2) + "\n"
        (staging / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return manifest


def read_dataset(path: str | Path) -> RowSet:
    """Read and check a data set.

    Args:
        path: The folder that :func:`write_dataset` wrote, or a JSON Lines file
            with the same columns; of a file the checksum cannot be checked.

    Raises:
        DatasetError: Something is missing, empty, or no row (with its line number).
        IntegrityError: The rows are not those that the manifest describes.
    """
    place = Path(path)
    if not place.is_dir():
        content = _read(place)
        format = _format_of(place, content)
        return RowSet(format, _parse(place, content, format), _sha256(content))
    content = _read(place / ROWS_FILE)
    manifest = _manifest(place / MANIFEST_FILE)
    digest = _sha256(content)
    if digest != manifest.sha256:
        raise IntegrityError(
            f"{place / ROWS_FILE} was changed after it was written",
            hint=f"to use rows that you edited, pass the file {ROWS_FILE} and not its folder",
        )
    return RowSet(manifest.format, _parse(place, content, manifest.format), digest, manifest)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"cannot read the data set {file}: {error.strerror or error}",
            hint="pass a folder that `reflectory dataset` wrote, or a JSON Lines file",
        ) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _manifest(file: Path) -> DatasetManifest:
    try:
        data = json.loads(_read(file))
        version = data["schema_version"]
        if version > SCHEMA_VERSION:
            raise DatasetError(
                f"{file} has schema version {version}, known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory to read it",
            )
        return DatasetManifest.model_validate(data)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{file} describes no data set: {error}", hint="write the data set again"
        ) from error


def _format_of(file: Path, content: bytes) -> Format:
    """Tell the format of a bare file from the columns of its first line."""
    first = next((line for line in content.splitlines() if line.strip()), b"")
    if not first:
        raise DatasetError(f"{file} holds no rows", hint="lower the thresholds of curation")
    return "dpo" if b'"rejected"' in first and b'"completion"' not in first else "sft"


def _parse(file: Path, content: bytes, format: Format) -> tuple[Row, ...]:
    rows: list[Row] = []
    # Not splitlines(): JSON strings may hold other line separators than a newline.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(_ROW_TYPES[format].model_validate_json(line))
        except ValidationError as error:
            raise DatasetError(
                f"{file}, line {number}, is no {format} row: {'; '.join(problems_of(error))}",
                hint="mend or remove the line",
            ) from error
    if not rows:
        raise DatasetError(f"{file} holds no rows", hint="lower the thresholds of curation")
    return tuple(rows)


def _kinds(rows: Sequence[Row]) -> dict[str, int]:
    names = Counter(
        row.provenance.what + (f" ({row.provenance.level})" if row.provenance.level else "")
        for row in rows
    )
    return dict(sorted(names.items()))


def _models(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        for role, fingerprint in row.provenance.models.items():
            found.setdefault(role, set()).add(fingerprint)
    return {role: tuple(sorted(names)) for role, names in sorted(found.items())}
