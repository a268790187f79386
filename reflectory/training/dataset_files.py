"""The files that rows stand in: JSON Lines, Parquet, a folder of Hugging Face ``datasets``.

All three are written and read row by row, so that memory does not grow with
their number. pyarrow and ``datasets`` are imported when they are needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from reflectory.errors import DatasetError
from reflectory.training.dataset_columns import COLUMNS, Style, columns_of, encode_row
from reflectory.training.rows import Format, Row

FileFormat = Literal["jsonl", "parquet", "datasets"]
FILE_FORMATS: tuple[FileFormat, ...] = ("jsonl", "parquet", "datasets")

ROWS_FILES: dict[FileFormat, str] = {
    "jsonl": "train.jsonl",
    "parquet": "train.parquet",
    "datasets": "train/*.arrow",
}
"""Where the rows are in the folder of a data set."""

_BATCH = 1000
_MESSAGE_COLUMNS = frozenset({"prompt", "completion", "chosen", "rejected"})


def write_rows(
    folder: Path, rows: Iterable[Row], format: Format, style: Style, file_format: FileFormat
) -> None:
    """Write rows into an empty folder.

    Raises:
        DatasetError: A text of a row is no Unicode.
        OSError: The disk is full.
    """
    if file_format == "jsonl":
        with (folder / ROWS_FILES["jsonl"]).open("wb") as file:
            file.writelines(encode_row(row, style) for row in rows)
    elif file_format == "parquet":
        _write_parquet(folder / ROWS_FILES["parquet"], rows, format, style)
    else:
        _save_datasets(folder, rows, format, style)


def _write_parquet(file: Path, rows: Iterable[Row], format: Format, style: Style) -> None:
    import pyarrow.parquet as pq

    schema = arrow_schema(format, style)
    # Through our own file: pyarrow's own sink reports a full disk only when it is closed.
    with file.open("wb") as sink, pq.ParquetWriter(sink, schema) as writer:
        for table in _tables(rows, schema, style):
            writer.write_table(table)


def _save_datasets(folder: Path, rows: Iterable[Row], format: Format, style: Style) -> None:
    """Write what ``Dataset.save_to_disk`` writes, without all rows in memory."""
    import pyarrow as pa
    from datasets import Dataset, DatasetDict
    from datasets.table import MemoryMappedTable

    schema = arrow_schema(format, style)
    stream = folder / ".rows.arrow"
    try:
        digest = hashlib.sha256()
        with stream.open("wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for table in _tables(_digested(rows, digest, style), schema, style):
                writer.write_table(table)
        # A fingerprint of the content: by default it is one of the path and the time.
        data = Dataset(
            MemoryMappedTable.from_file(str(stream)), fingerprint=digest.hexdigest()[:16]
        )
        with _no_progress_bars():
            DatasetDict({"train": data}).save_to_disk(str(folder))
        del data
    finally:
        stream.unlink(missing_ok=True)


def _digested(rows: Iterable[Row], digest: Any, style: Style) -> Iterator[Row]:
    for row in rows:
        digest.update(encode_row(row, style))
        yield row


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from datasets.utils.logging import (
        disable_progress_bar,
        enable_progress_bar,
        is_progress_bar_enabled,
    )

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def _tables(rows: Iterable[Row], schema: Any, style: Style) -> Iterator[Any]:
    import pyarrow as pa

    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH)):
        for row in batch:
            encode_row(row)  # raises where Arrow would with less to say
        yield pa.Table.from_pylist([columns_of(row, style) for row in batch], schema=schema)


def arrow_schema(format: Format, style: Style) -> Any:
    """Return the types of the columns, the same whatever the rows hold."""
    import pyarrow as pa

    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    special = {"margin": pa.float64(), "label": pa.bool_()}
    fields = []
    for name in (*COLUMNS[format], "provenance"):
        text = style == "plain" or name not in _MESSAGE_COLUMNS
        fields.append((name, special.get(name, pa.string() if text else messages)))
    return pa.schema(fields)


def read_rows(place: Path, file_format: FileFormat) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file and line, columns) of every row.

    Args:
        place: The file, or the folder of ``save_to_disk``.
        file_format: What it is.

    Raises:
        DatasetError: It cannot be read, or a line is no JSON object.
    """
    reader = {"jsonl": _read_jsonl, "parquet": _read_parquet, "datasets": _read_datasets}
    try:
        yield from reader[file_format](place)
    except OSError as error:
        raise DatasetError(
            f"cannot read the data set {place}: {error.strerror or error}",
            hint="pass a folder that `reflectory dataset` wrote, or a file with its columns",
        ) from error


def _read_jsonl(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # Binary, because JSON strings may hold other line separators than a newline.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{file}, line {number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DatasetError(
                    f"{place}, is no JSON: {error}", hint="mend or remove the line"
                ) from error
            if not isinstance(values, dict):
                raise DatasetError(f"{place}, is no JSON object", hint="mend or remove the line")
            yield place, values


def _read_parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        with file.open("rb") as source, pq.ParquetFile(source) as parquet:
            for batch in parquet.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield f"{file}, row {number}", values
    except pa.ArrowException as error:
        raise DatasetError(
            f"{file} is no Parquet file that can be read: {error}", hint="write it again"
        ) from error


def _read_datasets(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from datasets import DatasetDict, load_from_disk

    try:
        data = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{folder} is no folder of `datasets` that can be read: {error}",
            hint="write it again with save_to_disk",
        ) from error
    splits = data if isinstance(data, DatasetDict) else {"train": data}
    for split, rows in splits.items():
        for number, values in enumerate(rows, start=1):
            yield f"{folder}, {split} row {number}", values


def file_format_of(place: Path) -> FileFormat:
    """Tell a file format by the name of a file; a folder is one of ``datasets``."""
    if place.is_dir():
        return "datasets"
    return "parquet" if place.suffix.lower() == ".parquet" else "jsonl"


def checksums(folder: Path, leave_out: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of every file in a folder, by its path there.

    Args:
        folder: The folder.
        leave_out: Names of files directly in it that are not counted.
    """
    left_out = {folder / name for name in leave_out}
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file not in left_out)
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
