"""The zip packages of Office: what is checked before a library opens one.

python-docx and python-pptx read every part into memory with ``ZipFile.read``,
which unpacks up to two gigabytes of one part at once, even where the archive's
directory states a few bytes. So the parts are read here piece by piece, no
further than stated, and the libraries get a package of what was read.
Entities cost their parsers nothing (both leave them as they are, and libxml2
stops at its amplification limit), but a text with entities would lose words;
Office never writes a document type, so one that is there is refused.
"""

from __future__ import annotations

import zipfile
from io import BytesIO
from typing import Any

from reflectory.errors import DocumentError
from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.reading.records import (
    MALFORMED,
    MAX_UNPACKED,
    damaged,
    metadata_of,
)

MAX_XML = 64 * 2**20
"""Most bytes of XML; a parsed tree takes up to twenty times as much memory."""

MAX_PARTS = 10_000
"""Most parts of a package."""

_PIECE = 2**16
_DOCUMENT_TYPES = tuple(
    mark.encode(encoding)
    for mark in ("<!DOCTYPE", "<!ENTITY")
    for encoding in ("utf-8", "utf-16-le", "utf-16-be")
)
_STRICT = b"http://purl.oclc.org/ooxml/officeDocument"
# What the programs and libraries write into a document that nobody named.
_NO_TITLES = {"", "powerpoint presentation", "word document", "presentation", "document1"}


def open_package(data: bytes, name: str, kind: str) -> BytesIO:
    """Return a package with the same parts that is safe to open.

    Args:
        data: The whole file.
        name: Its name, for the message.
        kind: What it should be, with its article: ``the Word document``.

    Raises:
        DocumentError: It is encrypted, damaged, a bomb, or not what the libraries read.
    """
    safe = BytesIO()
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive, zipfile.ZipFile(safe, "w") as checked:
            _check_sizes(archive.infolist(), name, kind)
            # Of several parts of one name the last one counts.
            for part in {part.filename: part for part in archive.infolist()}.values():
                content = _content(archive, part)
                if _is_xml(part):
                    _check_xml(content, part.filename, name, kind)
                checked.writestr(part.filename, content)
    except MALFORMED as error:
        raise damaged(name, kind, error) from error
    safe.seek(0)
    return safe


def _content(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    """Return a part as far as its size is stated; its checksum tells whether that is all."""
    content = bytearray()
    with archive.open(part) as stream:
        while piece := stream.read(_PIECE):
            content += piece
    return bytes(content)


def _check_sizes(parts: list[zipfile.ZipInfo], name: str, kind: str) -> None:
    if any(part.flag_bits & 0x1 for part in parts):
        raise DocumentError(f"{name}: {kind} is encrypted", hint="save a copy without a password")
    total = sum(part.file_size for part in parts)
    markup = sum(part.file_size for part in parts if _is_xml(part))
    for size, limit, what in ((markup, MAX_XML, "of XML"), (total, MAX_UNPACKED, "in all")):
        if size > limit:
            raise DocumentError(
                f"{name}: {kind} unpacks to {size / 2**20:,.0f} MiB {what}, "
                f"and at most {limit // 2**20} are read",
                hint="split it, or remove it if you do not know where it comes from",
            )
    if len(parts) > MAX_PARTS:
        raise DocumentError(
            f"{name}: {kind} has {len(parts)} parts, and at most {MAX_PARTS} are read",
            hint="split it, or remove it if you do not know where it comes from",
        )


def _is_xml(part: zipfile.ZipInfo) -> bool:
    return part.filename.lower().endswith((".xml", ".rels"))


def _check_xml(content: bytes, part: str, name: str, kind: str) -> None:
    if any(mark in content for mark in _DOCUMENT_TYPES):
        raise DocumentError(
            f"{name}: {part} declares XML entities, which {kind} never needs",
            hint="do not trust this file; if it is yours, save it anew",
        )
    if part == "_rels/.rels" and _STRICT in content:
        raise DocumentError(
            f"{name}: {kind} is in the Strict form of Open XML, which is not read",
            hint="save it in the ordinary form",
        )


def properties_of(package: Any) -> tuple[str, dict[str, str]]:
    """Return the title and the metadata that a package states.

    Author and title are core properties. Open XML has no place for a licence, so
    it is looked for among the properties that people add themselves.

    Args:
        package: The opened package, of python-docx or python-pptx.
    """
    core = _part_of(package, "package/2006/relationships/metadata/core-properties")
    own = _part_of(package, "officeDocument/2006/relationships/custom-properties")
    fields: dict[str, Any] = {}
    if own is not None:
        fields |= _own_properties(own.blob)
    title = ""
    if core is not None:  # else the libraries would make up properties of their own
        title = clean_line(package.core_properties.title or "")
        fields |= {"author": clean_line(package.core_properties.author or "")}
    known = metadata_of(fields)
    kept: dict[str, str] = {key: known[key] for key in ("author", "licence") if key in known}
    return ("" if title.lower() in _NO_TITLES else title), kept


def _part_of(package: Any, relation: str) -> Any:
    try:
        return package.part_related_by(f"http://schemas.openxmlformats.org/{relation}")
    except KeyError:
        return None


def _own_properties(content: bytes) -> dict[str, str]:
    from lxml import etree

    root = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
    return {
        str(entry.get("name") or ""): clean_line("".join(entry.itertext()))
        for entry in root.iterfind("{*}property")
    }
