"""The reader of PDF: text by page. pypdf is loaded when first needed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from io import BytesIO
from typing import Any
from xml.parsers.expat import ExpatError

from reflectory.errors import DocumentError
from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.reading.records import (
    MALFORMED,
    Found,
    check_size,
    damaged,
    metadata_of,
)
from reflectory.retrieval.reading.text import pages_of, stem_of
from reflectory.types import Document

_log = logging.getLogger(__name__)
# What is wrong with a file is said by us, as its reason. Whoever configures logging still hears
# pypdf, too; nobody else gets its lines, without the file's name, between those of a verb.
logging.getLogger("pypdf").addHandler(logging.NullHandler())

_STATED = ("author", "licence", "license", "rights")
_LICENCES = (
    ("http://creativecommons.org/ns#", "license"),
    ("http://ns.adobe.com/xap/1.0/rights/", "WebStatement"),
    ("http://ns.adobe.com/xap/1.0/rights/", "UsageTerms"),
)
_RESOURCE = "rdf:resource"


def read_pdf(data: bytes, name: str) -> Found:
    """Read the text of a PDF; pages are separated by a blank line.

    Raises:
        DocumentError: It is damaged, needs a password, or has no text (a scan).
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError

    try:
        reader = PdfReader(BytesIO(data))
        # Many files are encrypted with an empty password, which any viewer tries.
        if reader.is_encrypted and not reader.decrypt(""):
            raise FileNotDecryptedError("it needs a password")
        texts = _texts(reader, name)
        stated = _docinfo(reader)
    except (FileNotDecryptedError, DependencyError) as error:
        raise DocumentError(
            f"{name}: the PDF is encrypted ({error})", hint="save a copy without a password"
        ) from error
    except (PyPdfError, *MALFORMED) as error:
        # pypdf's documentation: "broken PDF files might cause other exceptions" than its own.
        raise damaged(name, "the PDF", error) from error
    if not any(text.strip() for text in texts):
        raise DocumentError(
            f"{name}: no page of the PDF has text",
            hint="it is probably scanned; run character recognition (OCR) on it first",
        )
    text, pages = pages_of(texts)
    try:
        stated = _xmp(reader) | stated
    except (PyPdfError, *MALFORMED, ExpatError) as error:
        # The text is whole, so the document is read; only what it states is not known.
        _log.warning("%s: its XMP metadata are damaged (%s)", name, type(error).__name__)
    known = metadata_of({key: stated.get(key, "") for key in _STATED})
    return [
        Document(
            id=name,
            title=clean_line(stated.get("title", "")) or stem_of(name),
            text=text,
            source=name,
            pages=pages,
            metadata={key: known[key] for key in ("author", "licence") if key in known},
        )
    ]


def _texts(reader: Any, name: str) -> list[str]:
    """Return the texts of the pages; pypdf bounds what one stream unpacks to, not all of them."""
    texts: list[str] = []
    length = 0
    for page in reader.pages:
        texts.append(page.extract_text() or "")
        length += len(texts[-1])
        check_size(length, name)
    return texts


def _docinfo(reader: Any) -> dict[str, str]:
    """Return the entries of the document information dictionary that have a value."""
    info = reader.metadata
    if info is None:
        return {}
    own = {str(key).lstrip("/").lower(): info[key] for key in info}
    texts = {key: value for key, value in own.items() if isinstance(value, str)}
    texts |= {"title": info.title or "", "author": info.author or ""}
    return {key: clean_line(value) for key, value in texts.items() if clean_line(value)}


def _xmp(reader: Any) -> dict[str, str]:
    """Return title, authors and licence of the XMP metadata, where there are some."""
    xmp = reader.xmp_metadata
    if xmp is None:
        return {}
    found = {
        "title": _first((xmp.dc_title or {}).values()),
        "author": ", ".join(xmp.dc_creator or ()),
        "rights": _first((xmp.dc_rights or {}).values()),
    }
    # In the order of their worth: an address, a text that says what is allowed, dc:rights.
    for namespace, name in _LICENCES:
        nodes = list(xmp.get_element("", namespace, name))
        texts = [clean_line(node.nodeValue or _text_below(node)) for node in nodes]
        addresses = [node.getAttribute(_RESOURCE) for node in nodes if node.attributes]
        statement = _first([*addresses, *texts])
        if statement:
            return {key: value for key, value in found.items() if value} | {"licence": statement}
    return {key: value for key, value in found.items() if value}


def _first(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")


def _text_below(node: Any) -> str:
    if node.nodeType == node.TEXT_NODE:
        return str(node.data)
    return " ".join(_text_below(child) for child in node.childNodes)
