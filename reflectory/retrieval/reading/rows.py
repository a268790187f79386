"""Rows become documents: JSON Lines."""

from __future__ import annotations

import json
from typing import Any

from reflectory.errors import DocumentError
from reflectory.retrieval.reading.records import Found, SkippedFile
from reflectory.retrieval.reading.text import decode
from reflectory.types import Document


def read_json_lines(data: bytes, name: str) -> Found:
    """Read JSON Lines: ``text``, and where present ``title`` and ``id``.

    Further fields with a string, number or truth value become metadata; lists
    and objects are left out. A row whose text is empty is skipped and reported.

    Raises:
        DocumentError: A line is no JSON object, has no ``text``, or repeats an id.
    """
    found: Found = []
    lines: dict[str, int] = {}
    # Not splitlines: a JSON string may hold U+2028 as it is.
    for number, line in enumerate(decode(data, name).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        row = _row_of(line, place)
        if not row["text"].strip():
            found.append(SkippedFile(path=place, reason="its text is empty"))
            continue
        document = _document_of(row, place)
        if document.id in lines:
            raise DocumentError(
                f"{place}: the id {document.id!r} was used in line {lines[document.id]}",
                hint="ids must differ; leave them out to have them made",
            )
        lines[document.id] = number
        found.append(document)
    return found


def _row_of(line: str, place: str) -> dict[str, Any]:
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
    return row


def _document_of(row: dict[str, Any], place: str) -> Document:
    title, given = row.get("title"), row.get("id")
    if title is not None and not isinstance(title, str):
        raise DocumentError(f"{place}: `title` is not a string", hint="give a string or leave it")
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int)):
        raise DocumentError(f"{place}: `id` is neither string nor integer", hint="or leave it out")
    metadata = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in row.items()
        if key not in {"text", "title", "id"} and isinstance(value, str | int | float)
    }
    return Document(
        id=place if given is None or given == "" else str(given),
        title=title or "",
        text=row["text"],
        source=place,
        metadata=metadata,
    )
