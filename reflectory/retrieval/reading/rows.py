"""Rows become documents: of JSON Lines, tables, Parquet files and data sets alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from reflectory.errors import DocumentError
from reflectory.retrieval.reading.records import (
    Found,
    SkippedFile,
    check_size,
    metadata_of,
)
from reflectory.retrieval.reading.text import decode
from reflectory.types import Document

_ROW_COST = 100
"""Bytes that a row takes even when it is empty, so that a billion of them are noticed."""


class Columns(NamedTuple):
    """Which columns are what; licence and author are found by their names.

    Attributes:
        text: The text of a document.
        title: Its title, where there is such a column.
        id: Its id, where there is such a column.
    """

    text: str = "text"
    title: str = "title"
    id: str = "id"

    @classmethod
    def of(cls, names: Iterable[str]) -> Columns | None:
        """Return the columns of a table by their names in any case; ``None`` without a text."""
        known: dict[str, str] = {}
        for name in names:
            known.setdefault(name.strip().lower(), name)
        if cls().text not in known:
            return None
        return cls(*(known.get(name, name) for name in cls()))


class Row(NamedTuple):
    """A row and where it stands.

    Attributes:
        place: Name of the file or data set and number of the row, from 1.
        values: The values by column.
    """

    place: str
    values: Mapping[str, Any]


def documents_of(
    rows: Iterable[Row], columns: Columns, *, licence: str = "", bounded: bool = True
) -> Found:
    """Make a document of each row.

    Further columns with a string, number, truth value or date become metadata;
    lists and objects are left out. A row whose text is empty is skipped and
    reported.

    Args:
        rows: The rows.
        columns: Which columns are what.
        licence: Licence of all rows that state none.
        bounded: Whether to refuse rows that unpack to far more than a file may hold.

    Raises:
        DocumentError: A row has no text, repeats an id, or there is too much of it.
    """
    found: Found = []
    places: dict[str, str] = {}
    size = 0
    for row in rows:
        document = _document_of(row, columns, licence)
        size += len(document.text) + sum(map(len, document.metadata.values())) + _ROW_COST
        if bounded:
            check_size(size, row.place)
        if not document.text.strip():
            found.append(SkippedFile(path=row.place, reason="its text is empty"))
            continue
        if document.id in places:
            raise DocumentError(
                f"{row.place}: the id {document.id!r} was used in line {places[document.id]}",
                hint="ids must differ; leave them out to have them made",
            )
        places[document.id] = row.place.rpartition(":")[2]
        found.append(document)
    return found


def _document_of(row: Row, columns: Columns, licence: str) -> Document:
    text = row.values.get(columns.text)
    title, given = row.values.get(columns.title), row.values.get(columns.id)
    if text is not None and not isinstance(text, str):
        raise DocumentError(
            f"{row.place}: `{columns.text}` is not a string", hint="give the text as a string"
        )
    if title is not None and not isinstance(title, str):
        raise DocumentError(
            f"{row.place}: `{columns.title}` is not a string", hint="give a string or leave it"
        )
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int)):
        raise DocumentError(
            f"{row.place}: `{columns.id}` is neither string nor integer", hint="or leave it out"
        )
    metadata = metadata_of({k: v for k, v in row.values.items() if k not in columns})
    if licence:
        metadata.setdefault("licence", licence)
    return Document(
        id=row.place if given is None or given == "" else str(given),
        title=title or "",
        text=text or "",
        source=row.place,
        metadata=metadata,
    )


def read_json_lines(data: bytes, name: str) -> Found:
    """Read JSON Lines: ``text``, and where present ``title``, ``id`` and ``licence``.

    Further fields with a string, number or truth value become metadata; lists
    and objects are left out. A row whose text is empty is skipped and reported.

    Raises:
        DocumentError: A line is no JSON object, has no ``text``, or repeats an id.
    """
    # Not splitlines: a JSON string may hold U+2028 as it is.
    lines = enumerate(decode(data, name).split("\n"), start=1)
    rows = (_json_row(line, f"{name}:{number}") for number, line in lines if line.strip())
    return documents_of(rows, Columns(), bounded=False)


def _json_row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{place}: not JSON ({error})", hint="mend this line") from error
    if not isinstance(row, dict):
        raise DocumentError(
            f"{place}: expected an object, got {type(row).__name__}",
            hint='each line looks like {"text": "...", "title": "..."}',
        )
    if not isinstance(row.get("text"), str):
        fields = ", ".join(list(row)[:8]) or "none"
        raise DocumentError(
            f"{place}: no string field `text` (fields: {fields})",
            hint='each line looks like {"text": "...", "title": "..."}',
        )
    return Row(place, row)
