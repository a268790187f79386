"""The reader of PDF: text by page. pypdf is loaded when first needed."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from reflectory.errors import DocumentError
from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.reading.records import Found
from reflectory.retrieval.reading.text import stem_of
from reflectory.types import Document

# pypdf's documentation: "broken PDF files might cause other exceptions" than its
# own. These are the ones that reading a malformed structure leads to.
_MALFORMED = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    AssertionError,
    RecursionError,
    EOFError,
    struct.error,
    zlib.error,
)


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
        texts = [page.extract_text() or "" for page in reader.pages]
        title = str((reader.metadata and reader.metadata.title) or "")
    except (FileNotDecryptedError, DependencyError) as error:
        raise DocumentError(
            f"{name}: the PDF is encrypted ({error})", hint="save a copy without a password"
        ) from error
    except (PyPdfError, *_MALFORMED) as error:
        raise DocumentError(
            f"{name}: the PDF is damaged ({type(error).__name__}: {error})",
            hint="open it in a viewer and save it anew, or save its text",
        ) from error
    if not any(text.strip() for text in texts):
        raise DocumentError(
            f"{name}: no page of the PDF has text",
            hint="it is probably scanned; run character recognition (OCR) on it first",
        )
    pages: list[int] = []
    length = 0
    for text in texts:
        pages.append(length)
        length += len(text) + 2
    return [
        Document(
            id=name,
            title=clean_line(title) or stem_of(name),
            text="\n\n".join(texts),
            source=name,
            pages=tuple(pages),
        )
    ]
