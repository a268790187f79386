"""Rows as the columns of a file: chat or plain text, the same in every file format.

Every column has one type, whatever the rows hold. JSON readers tell the type of a
column from the first megabytes of a file and stop where it changes, so fields
that may be missing (``provenance``, the passages of a prompt) are one column of
JSON text. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from reflectory.config import problems_of
from reflectory.errors import DatasetError
from reflectory.training.rows import ROW_TYPES, Format, Message, Row

Style = Literal["chat", "plain"]
STYLES: tuple[Style, ...] = ("chat", "plain")

COLUMNS: dict[Format, tuple[str, ...]] = {
    "sft": ("prompt", "completion"),
    "dpo": ("prompt", "chosen", "rejected", "margin"),
    "kto": ("prompt", "completion", "label"),
    "feedback": ("prompt", "privileged_context"),
    "prompts": ("prompt", "question", "rubric", "context", "extra"),
}
"""What TRL's trainers (and our reward function) read; ``provenance`` stands behind them."""

_MESSAGES = frozenset({"prompt", "completion", "chosen", "rejected"})
_JSON_TEXT = frozenset({"context", "extra", "provenance"})
_BETWEEN = "\n\n"

# JSON allows them unescaped; readers that split a text into lines do not expect them.
_SEPARATORS = {ord(c): f"\\u{ord(c):04x}" for c in "\u0085\u2028\u2029"}


def columns_of(row: Row, style: Style = "chat") -> dict[str, Any]:
    """Return a row as the values of its columns, in their order.

    In plain style the system and user message become one text with a blank line
    behind each, so that a completion can be appended as it is.
    """
    names = (*COLUMNS[row.kind], "provenance")
    data = row.model_dump(mode="json", include=set(names))
    return {name: _written(name, data[name], style) for name in names}


def _written(name: str, value: Any, style: Style) -> Any:
    if name in _JSON_TEXT:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    if name in _MESSAGES and style == "plain":
        texts = [message["content"] for message in value]
        return "".join(text + _BETWEEN for text in texts) if name == "prompt" else texts[0]
    return value


def encode_row(row: Row, style: Style = "chat") -> bytes:
    """Return a row as one line of JSON, the same bytes for equal rows.

    Raises:
        DatasetError: A text of it is no Unicode.
    """
    line = json.dumps(columns_of(row, style), ensure_ascii=False, allow_nan=False)
    try:
        return (line.translate(_SEPARATORS) + "\n").encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"a row holds half a character (a lone surrogate): {line[:80]!r}...",
            hint="decode the text that it was made from with errors='replace'",
        ) from error


def row_of(values: Mapping[str, Any], format: Format, place: str) -> Row:
    """Return the row that a line or record of a file holds.

    A plain prompt becomes one user message. ``provenance`` may be JSON text or,
    as earlier versions wrote it, an object.

    Args:
        values: The columns.
        format: What kind of row it is.
        place: File and line, for the error.

    Raises:
        DatasetError: It is no such row.
    """
    try:
        row = ROW_TYPES[format].model_validate({n: _read(n, v) for n, v in values.items()})
        encode_row(row)
    except ValidationError as error:
        problems = "; ".join(problems_of(error))
    except (ValueError, RecursionError, DatasetError) as error:
        problems = str(error).partition("\n")[0]
    else:
        return row
    raise DatasetError(f"{place}, is no {format} row: {problems}", hint="mend or remove the line")


def _read(name: str, value: Any) -> Any:
    if name in _JSON_TEXT and isinstance(value, str):
        return json.loads(value)
    if name in _MESSAGES and isinstance(value, str):
        if name == "prompt":
            return [{"role": "user", "content": value.removesuffix(_BETWEEN)}]
        return [{"role": "assistant", "content": value}]
    return value


def plain(row: Row) -> Row:
    """Return a row as it is read back from a file in plain style."""
    prompt = _BETWEEN.join(message.content for message in row.prompt)
    return row.model_copy(update={"prompt": (Message(role="user", content=prompt),)})


def format_of(names: frozenset[str]) -> Format | None:
    """Tell a format by the names of the columns of a file; ``None`` when it is none."""
    for format in ("dpo", "kto", "feedback", "prompts", "sft"):
        if names >= {n for n in COLUMNS[format] if n not in {"margin", "rubric", *_JSON_TEXT}}:
            return format
    return None
