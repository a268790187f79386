"""PREPROCESS of Algorithm 1: one clean form of a document's text.

Offsets of passages count characters of the text that comes out of here. What
comes out is left alone by a second call, so it does not matter who called first.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from reflectory.errors import DocumentError
from reflectory.types import Document

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

# Characters that a reader does not see but a tokenizer does: controls, soft
# hyphens, zero-width spaces, direction marks, byte order marks and tag
# characters (which can carry a hidden instruction). The joiners U+200C and
# U+200D stay: Persian, Indic scripts and emoji are spelt with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean_text(text: str, *, last: bool = True) -> str:
    """Return ``text`` with one kind of line end, no invisible characters, in NFC.

    Args:
        text: Any string.
        last: Whether this is the end of a text, so that spaces at its end go too
            (a piece that goes on in the middle of a line keeps them).

    Returns:
        The clean text; lone surrogates, which no file can hold, become U+FFFD.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = _SURROGATES.sub("\ufffd", text)
    # Composing comes after removing: an invisible character can keep a letter
    # and its accent apart.
    lines = unicodedata.normalize("NFC", text).split("\n")
    ends = len(lines) if last else len(lines) - 1
    return "\n".join([line.rstrip() for line in lines[:ends]] + lines[ends:])


def clean_line(text: str) -> str:
    """Return ``text`` as a single clean line, for titles and names."""
    return " ".join(clean_text(text).split())


def preprocess(document: Document) -> Document:
    """Return d_proc = PREPROCESS(d): the same document with a clean text.

    The page offsets are moved along. Ids are left as they are.

    Raises:
        DocumentError: The id cannot be written to a file, or the page offsets
            do not rise or lie outside the text.
    """
    if not document.id or _SURROGATES.search(document.id):
        raise DocumentError(
            f"the document id {document.id!r} cannot be used",
            hint="give every document a non-empty id that is valid Unicode",
        )
    text, pages = _clean_pages(document)
    return Document(
        id=document.id,
        title=clean_line(document.title),
        text=text,
        source=clean_line(document.source),
        pages=pages,
        metadata={
            clean_line(key): clean_text(value) for key, value in sorted(document.metadata.items())
        },
    )


def _clean_pages(document: Document) -> tuple[str, tuple[int, ...]]:
    """Clean each page by itself, so that the place where it starts is known afterwards."""
    text, pages = document.text, document.pages
    if not pages:
        return clean_text(text), ()
    bounds = [0, *pages, len(text)]
    if any(left > right for left, right in pairwise(bounds)):
        raise DocumentError(
            f"document {document.id}: its page offsets do not fit its text",
            hint="pages holds the offset at which each page starts, in rising order",
        )
    pieces: list[str] = []
    starts: list[int] = []
    length = 0
    for number, (left, right) in enumerate(pairwise(bounds)):
        if number > 0:
            starts.append(length)
        piece = clean_text(text[left:right], last=right == len(text))
        pieces.append(piece)
        length += len(piece)
    return "".join(pieces), tuple(starts)
