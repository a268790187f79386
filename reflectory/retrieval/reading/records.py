"""What readers return, what they may find broken, and what documents state about themselves."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from datetime import date
from typing import Any

from reflectory.errors import DocumentError
from reflectory.types import Document, Record


class SkippedFile(Record):
    """Something in a folder that was not read.

    Attributes:
        path: The file, relative to the folder that was given; with ``:LINE`` for a row.
        reason: Why, in one sentence.
    """

    path: str
    reason: str


Found = list[Document | SkippedFile]
"""What a reader makes of one file."""

MAX_UNPACKED = 256 * 2**20
"""Most bytes that a compressed file may unpack to; a bomb unpacks to a thousand times its size."""

MALFORMED: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,  # also NotImplementedError and RecursionError
    SyntaxError,  # what lxml's errors are made of
    EOFError,
    OSError,  # Arrow's name for a damaged file
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
"""What the libraries of formats raise, besides errors of their own, on a malformed structure."""

_LICENCE_FIELDS = ("licence", "license")
_RIGHTS_FIELDS = ("rights", "dc.rights", "dcterms.license", "dcterms.rights")
_AUTHOR_FIELDS = ("author", "authors", "creator", "dc.creator", "dcterms.creator")


def damaged(name: str, kind: str, error: BaseException) -> DocumentError:
    """Return the error for a file that its library cannot make sense of.

    Args:
        name: The file.
        kind: What it should be, with its article: ``the PDF``.
        error: What the library said.
    """
    detail = str(error).split("\n", 1)[0][:200]
    return DocumentError(
        f"{name}: {kind} is damaged ({type(error).__name__}: {detail})",
        hint="open it in the program it was made with and save it anew, or save its text",
    )


def check_size(size: int, place: str) -> None:
    """Refuse what turns out to be far larger than its file.

    Args:
        size: Bytes or characters so far.
        place: The file, or the row of it.

    Raises:
        DocumentError: ``size`` is above ``MAX_UNPACKED``.
    """
    if size > MAX_UNPACKED:
        raise DocumentError(
            f"{place}: it unpacks to more than {MAX_UNPACKED / 2**20:.3g} MiB",
            hint="split it, or remove it if you do not know where it comes from",
        )


def metadata_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return what a document states about itself, under the names that the rest relies on.

    A licence stands under ``licence``, however the document spells it, and who
    wrote it under ``author``. Other strings, numbers, truth values and dates keep
    their names; lists (but of authors) and objects are left out.

    Args:
        fields: The document's own names and values.
    """
    metadata: dict[str, str] = {}
    for key, value in fields.items():
        name, text = str(key), _as_text(value)
        lowered = name.lower()
        if lowered in _AUTHOR_FIELDS and isinstance(value, list | tuple):
            text = ", ".join(filter(None, (_as_text(_name_in(item)) for item in value)))
        if not text:
            continue
        if lowered in _LICENCE_FIELDS:
            metadata["licence"] = text
        else:
            metadata[name] = text
        if lowered in _RIGHTS_FIELDS:
            metadata.setdefault("licence", text)
        if lowered in _AUTHOR_FIELDS:
            metadata.setdefault("author", text)
    return metadata


def _name_in(author: Any) -> Any:
    return author.get("name") if isinstance(author, Mapping) else author


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, date):  # and datetime, which is one
        return value.isoformat()
    return json.dumps(value) if isinstance(value, int | float) else ""
