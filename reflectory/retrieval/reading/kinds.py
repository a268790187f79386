"""What a file holds by its first bytes, against what its suffix says.

Only formats with a signature are told apart. A text has none, so whether a file
that claims to be text is one is found out by decoding it.
"""

from __future__ import annotations

import zipfile
from io import BytesIO
from typing import NamedTuple

from reflectory.errors import DocumentError


class Kind(NamedTuple):
    """A format that can be recognised.

    Attributes:
        name: What it is called, with its article.
        suffix: The suffix that it is read under; empty when it is not read.
        advice: What to do with one that is not read.
    """

    name: str
    suffix: str = ""
    advice: str = "remove it, or save its text as UTF-8"


PDF = Kind("a PDF", ".pdf")
DOCX = Kind("a Word document (DOCX)", ".docx")
PPTX = Kind("a presentation (PPTX)", ".pptx")
PARQUET = Kind("a Parquet file", ".parquet")
HTML = Kind("an HTML page", ".html")
RTF = Kind("a document in Rich Text Format (RTF)", advice="save it as .docx or as text")
ENCRYPTED_OFFICE = Kind(
    "an Office document that is encrypted", advice="save a copy without a password"
)
OLD_OFFICE = Kind(
    "an Office document of the time before 2007 (.doc, .ppt, .xls)",
    advice="save it as .docx, .pptx or .csv",
)

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# A password turns a DOCX into an OLE file with a stream of this name.
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_SIGNATURES = (
    (b"%PDF-", PDF),
    (b"PAR1", PARQUET),
    (b"PARE", Kind("an encrypted Parquet file", advice="save a copy that is not encrypted")),
    (b"{\\rtf", RTF),
    (b"\x89PNG\r\n\x1a\n", Kind("a picture (PNG)")),
    (b"\xff\xd8\xff", Kind("a picture (JPEG)")),
    (b"GIF8", Kind("a picture (GIF)")),
    (b"\x1f\x8b\x08", Kind("compressed by gzip", advice="unpack it first")),
    (b"BZh", Kind("compressed by bzip2", advice="unpack it first")),
    (b"\xfd7zXZ\0", Kind("compressed by xz", advice="unpack it first")),
    (b"\x28\xb5\x2f\xfd", Kind("compressed by Zstandard", advice="unpack it first")),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", advice="unpack it first")),
)
_ZIP_FOLDERS = (
    ("word/", DOCX),
    ("ppt/", PPTX),
    ("xl/", Kind("a spreadsheet (XLSX)", advice="save its sheets as .csv")),
)
_ZIP = Kind("a ZIP archive", advice="unpack it first")
_OTHER_ZIP = Kind("an OpenDocument file or an e-book", advice="save it as .docx, .pptx or text")
_BINARY_SUFFIXES = {kind.suffix for kind in (PDF, DOCX, PPTX, PARQUET)}


def check_kind(data: bytes, name: str, suffix: str) -> None:
    """Refuse a file that plainly holds something else than its suffix says.

    Args:
        data: The whole file.
        name: Its name, for the message.
        suffix: The suffix that decides how it would be read, in lower case.

    Raises:
        DocumentError: With what the file really holds.
    """
    kind = kind_of(data)
    if kind is None or kind.suffix == suffix:
        return
    if kind is HTML and suffix not in _BINARY_SUFFIXES:
        return  # a text may begin with a tag
    raise DocumentError(
        f"{name}: it is {kind.name}, not what a name ending in {suffix} says",
        hint=f"rename it to end in {kind.suffix}" if kind.suffix else kind.advice,
    )


def kind_of(data: bytes) -> Kind | None:
    """Return what a file holds, or ``None`` where nothing gives it away."""
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return kind
    if data.startswith(_OLE):
        return ENCRYPTED_OFFICE if _ENCRYPTED_STREAM in data else OLD_OFFICE
    if data.startswith(b"PK\x03\x04"):
        return _kind_of_zip(data)
    if start[:14].lower().startswith((b"<!doctype html", b"<html")):
        return HTML
    return None


def _kind_of_zip(data: bytes) -> Kind | None:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        # Truncated: what it was is not known, but the suffix of a package is believed,
        # and its reader then says that it is damaged. For a text it is an archive.
        return None if b"\0" in data[:64] and b".xml" in data[:4096] else _ZIP
    for folder, kind in _ZIP_FOLDERS:
        if any(entry.startswith(folder) for entry in names):
            return kind
    return _OTHER_ZIP if "mimetype" in names else _ZIP
