"""Readers of plain text and Markdown, and how bytes become text."""

from __future__ import annotations

import codecs
import re
from pathlib import PurePosixPath
from typing import Any

from reflectory.errors import DocumentError
from reflectory.retrieval.reading.records import Found, metadata_of
from reflectory.types import Document

_BYTE_ORDER_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WESTERN_SHARE = 0.25
"""Most bytes above 127 of a text in cp1252: French has about 0.05, Cyrillic 0.8."""

_ATX_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$")
_SETEXT_LINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S | re.M)
_LONGEST_FRONT_MATTER = 64 * 2**10


def stem_of(name: str) -> str:
    """Return the file name without folder and suffix: the title of last resort."""
    return PurePosixPath(name).stem


def decode(data: bytes, name: str) -> str:
    """Return the text of a file.

    A byte order mark decides. Otherwise the bytes are UTF-8, or else cp1252, the
    usual encoding of old files from Western Europe. cp1252 is only believed when
    it is plausible: never latin-1, which calls every file a text, not for a
    UTF-8 file with a damaged spot, and not when a quarter of the bytes would be
    accented letters, as in a file that is really Cyrillic or Japanese. A refused
    file is better than one that is silently misread.

    Raises:
        DocumentError: The bytes are no text, or in an encoding that is not known.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _decode_strictly(data, encoding, name)
    if b"\0" in data:
        raise DocumentError(
            f"{name}: binary data, or UTF-16 without a byte order mark",
            hint="save it as UTF-8 text",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        lenient = data.decode("utf-8", errors="replace")
        damaged = lenient.count("\ufffd")
        intact = sum(1 for character in lenient if character > "\x7f") - damaged
        high = sum(1 for byte in data if byte > 0x7F)
        control = sum(1 for byte in data if byte < 0x20 and byte not in b"\t\n\r\f\x1b")
        if intact > damaged or high > _WESTERN_SHARE * len(data) or control > 0:
            raise DocumentError(
                f"{name}: not valid UTF-8 at byte {error.start}",
                hint="save it as UTF-8 text, or remove it if it is not a text",
            ) from error
        return _decode_strictly(data, "cp1252", name)


def _decode_strictly(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{name}: not valid {encoding} at byte {error.start}", hint="save it as UTF-8 text"
        ) from error


def read_plain(data: bytes, name: str) -> Found:
    """Read a plain text; its title is the file's name."""
    return [Document(id=name, title=stem_of(name), text=decode(data, name), source=name)]


def read_markdown(data: bytes, name: str) -> Found:
    """Read Markdown as it is, but for its front matter.

    The title is that of the front matter, or else the first heading. Author,
    licence and the other single values of the front matter become metadata.
    """
    fields, text = _front_matter(decode(data, name))
    metadata = metadata_of(fields)
    title = metadata.pop("title", "") or _first_heading(text) or stem_of(name)
    return [Document(id=name, title=title, text=text, source=name, metadata=metadata)]


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Part a text into the fields of its YAML front matter and the rest.

    What looks like front matter and is no mapping of YAML is a text between two
    rules, and stays one.
    """
    block = _FRONT_MATTER.match(text)
    if block is None or len(block[1]) > _LONGEST_FRONT_MATTER:
        return {}, text
    import yaml

    try:
        # Only strings: "0.10" or "no" shall stay what somebody wrote.
        fields = yaml.load(block[1], Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, text
    return (fields, text[block.end() :]) if isinstance(fields, dict) else ({}, text)


def pages_of(texts: list[str]) -> tuple[str, tuple[int, ...]]:
    """Join the texts of pages by blank lines; return also where each page starts."""
    starts: list[int] = []
    length = 0
    for text in texts:
        starts.append(length)
        length += len(text) + 2
    return "\n\n".join(texts), tuple(starts)


def _first_heading(text: str) -> str:
    fence = ""
    before = ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
            continue
        if mark:
            fence = mark[1]
            continue
        heading = _ATX_HEADING.match(line)
        if heading and heading[1]:
            return heading[1]
        if before and _SETEXT_LINE.match(line):
            return before
        before = line.strip()
    return ""
