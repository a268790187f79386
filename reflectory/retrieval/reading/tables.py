"""The readers of tables: CSV and TSV by the standard library, Parquet by pyarrow.

A column named ``text`` makes every row a document. A table without one is a
single document that says for every row what stands in which column.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from io import BytesIO, StringIO
from itertools import islice
from typing import Any

from reflectory.errors import DocumentError
from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.reading.records import (
    MALFORMED,
    Found,
    check_size,
    damaged,
    metadata_of,
)
from reflectory.retrieval.reading.rows import Columns, Row, documents_of
from reflectory.retrieval.reading.text import decode, stem_of
from reflectory.types import Document

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 100
_SAMPLE_CHARACTERS = 2**18
_BATCH_ROWS = 256
_VALUE_COST = 4


def read_csv(data: bytes, name: str, *, delimiters: str = _DELIMITERS) -> Found:
    """Read a table whose first row names the columns.

    With a column ``text`` (and where present ``title``, ``id`` and ``licence``)
    the rows are documents, as in JSON Lines; otherwise the table is one text.
    The delimiter is found out: a comma, semicolon, tab or vertical bar.

    Raises:
        DocumentError: It has an unknown encoding, a broken quotation or no rows.
    """
    text = decode(data, name)
    # A limit of the whole process, 128 KiB a field until somebody raises it.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    delimiter = _delimiter_of(text, delimiters)
    try:
        lines = list(_csv_lines(text, delimiter, csv.QUOTE_MINIMAL, name))
    except DocumentError:
        # Tables parted by tabs are often written without quoting, where a quotation
        # mark at the beginning of a field is only a quotation mark.
        if delimiter != "\t":
            raise
        lines = list(_csv_lines(text, delimiter, csv.QUOTE_NONE, name))
    if len(lines) < 2:
        raise DocumentError(
            f"{name}: there are no rows below the names of the columns",
            hint="the first row names the columns; add one, or remove the file",
        )
    names = _unique(lines[0][1])
    rows = (Row(place, _named(names, cells)) for place, cells in lines[1:])
    columns = Columns.of(names)
    if columns is not None:
        return documents_of(rows, columns, bounded=False)
    return [_table_of(rows, name)]


read_tsv = partial(read_csv, delimiters="\t")
"""As :func:`read_csv`, for tables that are known to be parted by tabs."""


def _csv_lines(
    text: str, delimiter: str, quoting: Any, name: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield (place of its first line, cells) of each row that is not empty."""
    reader = csv.reader(
        StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True
    )
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{name}:{line}", cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DocumentError(
            f"{name}:{line}: the row cannot be read ({error})",
            hint="a quotation mark within a quoted cell is written twice; mend this row",
        ) from error


def _delimiter_of(text: str, delimiters: str) -> str:
    """Return the delimiter that parts the most first rows into equally many cells.

    Not by csv.Sniffer, which gives up on tables of one column and takes quotation
    marks never to be doubled when the sample has none. Reading the beginning with
    each candidate costs little more.
    """
    best, best_score = delimiters[0], (0.0, 0)
    sample = text[:_SAMPLE_CHARACTERS]
    for delimiter in delimiters:
        lines = csv.reader(StringIO(sample, newline=""), delimiter=delimiter)
        try:
            widths = Counter(len(cells) for cells in islice(lines, _SAMPLE_ROWS) if cells)
        except csv.Error:
            continue
        width, count = max(widths.items(), key=lambda item: item[1], default=(0, 0))
        score = (count / widths.total() if width > 1 else 0.0, width)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _unique(names: list[str]) -> list[str]:
    """Return names of columns that differ; a column without a name gets its number."""
    found: dict[str, None] = {}
    for number, raw in enumerate(names, start=1):
        name = clean_line(raw) or f"column {number}"
        while name in found:
            name = f"{name} ({number})"
        found[name] = None
    return list(found)


def _named(names: list[str], cells: list[str]) -> dict[str, str]:
    """Return cells by the names of their columns; more cells than names get numbers."""
    row = dict(zip(names, cells, strict=False))
    for number, cell in enumerate(cells[len(names) :], start=len(names) + 1):
        row[f"column {number}"] = cell
    return row


def _table_of(rows: Iterator[Row], name: str, licence: str = "") -> Document:
    """Make one text of all rows, a paragraph each, so that passages hold whole rows."""
    out: list[str] = []
    size = 0
    for row in rows:
        cells = ((key, _shown(value)) for key, value in row.values.items())
        line = "; ".join(f"{key}: {cell}" for key, cell in cells if cell)
        if line:
            out.append(line if line[-1] in ".!?" else f"{line}.")
            size += len(line)
            check_size(size, row.place)
    return Document(
        id=name,
        title=stem_of(name),
        text="\n\n".join(out),
        source=name,
        metadata={"licence": licence} if licence else {},
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(filter(None, map(_shown, value)))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    return "" if value is None or isinstance(value, bytes) else clean_line(str(value))


def read_parquet(data: bytes, name: str) -> Found:
    """Read a Parquet file as a table; see :func:`read_csv`.

    Raises:
        DocumentError: It is damaged, encrypted, or unpacks to very much.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        source = parquet.ParquetFile(BytesIO(data))
        layout = source.metadata
        groups = [layout.row_group(number) for number in range(layout.num_row_groups)]
        check_size(sum(group.total_byte_size for group in groups), name)
        # A run of equal values is stored as one and its length, whatever that is.
        chunks = (group.column(at) for group in groups for at in range(group.num_columns))
        check_size(_VALUE_COST * sum(chunk.num_values for chunk in chunks), name)
        schema = source.schema_arrow
        texts = [
            field.name
            for field in schema
            if pyarrow.types.is_string(field.type) or pyarrow.types.is_large_string(field.type)
        ]
        # A text that is repeated a million times is stored once; as a dictionary it stays so.
        source = parquet.ParquetFile(BytesIO(data), read_dictionary=texts)
        rows = _parquet_rows(source, name)
        columns = Columns.of(schema.names)
        licence = _licence_of(schema.metadata)
        if columns is not None:
            return documents_of(rows, columns, licence=licence)
        return [_table_of(rows, name, licence)]
    except (pyarrow.ArrowException, *MALFORMED) as error:
        raise damaged(name, "the Parquet file", error) from error


def _parquet_rows(source: Any, name: str) -> Iterator[Row]:
    number = 0
    for batch in source.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
        for values in zip(*map(_cells, batch.columns), strict=True):
            number += 1
            yield Row(f"{name}:{number}", dict(zip(batch.schema.names, values, strict=True)))


def _cells(column: Any) -> list[Any]:
    """Return the values of a column; those of a dictionary as the same few objects."""
    from pyarrow import DictionaryArray

    if not isinstance(column, DictionaryArray):
        return list(column.to_pylist())
    used = column.indices.unique().drop_null()  # the dictionary is that of thousands of rows
    values = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [values.get(at) for at in column.indices.to_pylist()]


def _licence_of(metadata: Mapping[bytes, bytes] | None) -> str:
    """Return what the metadata of a schema say under ``licence``, however it is spelt."""
    stated = {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, value in (metadata or {}).items()
    }
    return metadata_of(stated).get("licence", "")
