"""The reader of HTML: what a page shows. beautifulsoup4 is loaded when first needed."""

from __future__ import annotations

import re
from typing import Any

from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.reading.records import Found, metadata_of
from reflectory.retrieval.reading.text import decode, stem_of
from reflectory.retrieval.sentences import words
from reflectory.types import Document

_INVISIBLE_TAGS = words(
    "script style noscript template head svg iframe object embed audio video canvas"
)
_PARAGRAPH_TAGS = words(
    "p div section article main header footer nav aside blockquote pre ul ol dl table figure "
    "figcaption form fieldset address hr h1 h2 h3 h4 h5 h6 details summary body"
)
_LINE_TAGS = words("br li dt dd tr caption option")
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_HIDDEN_STYLE = re.compile(r"(display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_ADDRESS = re.compile(r"(https?:)?//", re.IGNORECASE)
_STATED_BY_META = words(
    "author dc.creator dcterms.creator license licence rights dc.rights dcterms.rights "
    "dcterms.license"
)
_MARKED_SECTION = re.compile(r"<!\[[^>]*>?")
_BLANK_LINES = re.compile(r"\n{3,}")


def read_html(data: bytes, name: str) -> Found:
    """Read what a page shows: no scripts, styles or hidden elements.

    Headings and list items get the marks of Markdown, so that passages can follow them.

    Raises:
        DocumentError: The page is in an unknown encoding.
    """
    soup = _parsed(_decode_html(data, name))
    heading = soup.title or soup.find("h1")
    title = clean_line(heading.get_text(" ")) if heading is not None else ""
    stated = _stated(soup)  # before the text, which is walked without changing the tree
    return [
        Document(
            id=name,
            title=title or stem_of(name),
            text=_visible_text(soup),
            source=name,
            metadata=stated,
        )
    ]


def _parsed(text: str) -> Any:
    from bs4 import BeautifulSoup, ParserRejectedMarkup

    try:
        return BeautifulSoup(text, "html.parser")
    except ParserRejectedMarkup:
        # Python's parser gives up at a marked section that it does not know, where a browser
        # takes all up to the next ">" for a comment.
        return BeautifulSoup(_MARKED_SECTION.sub("", text), "html.parser")


def _stated(soup: Any) -> dict[str, str]:
    """Return licence and author: of links first, which mean the page, then of ``<meta>``."""
    fields = {
        str(tag.get("name") or tag.get("property") or "").lower(): clean_line(
            str(tag.get("content") or "")
        )
        for tag in soup.find_all("meta")
    }
    known = metadata_of({key: value for key, value in fields.items() if key in _STATED_BY_META})
    for key, relation in (("licence", "license"), ("author", "author")):
        tag = soup.find(["a", "link"], rel=relation) or soup.find(itemprop=relation)
        if tag is None:
            continue
        address = clean_line(str(tag.get("href") or tag.get("content") or ""))
        text = clean_line(tag.get_text(" "))
        # A licence is known by its address, a person by the name.
        first, second = (address, text) if key == "licence" else (text, "")
        if key == "licence" and not _ADDRESS.match(address):
            first, second = text, address
        if first or second:
            known[key] = first or second
    return {key: known[key] for key in ("author", "licence") if key in known}


def _decode_html(data: bytes, name: str) -> str:
    """Believe what the page says of its encoding if that is true, and else what its bytes say."""
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    if declared and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode(declared)
        except (LookupError, UnicodeDecodeError):
            pass  # the declaration is wrong, which is common; the bytes decide
    return decode(data, name)


def _is_hidden(tag: Any) -> bool:
    return (
        tag.name in _INVISIBLE_TAGS
        or tag.has_attr("hidden")
        or tag.get("aria-hidden") == "true"
        or bool(_HIDDEN_STYLE.search(str(tag.get("style", ""))))
    )


def _visible_text(soup: Any) -> str:
    """Walk the tree with a stack of its own: pages nest deeper than Python recurses."""
    from bs4 import NavigableString, Tag
    from bs4.element import PreformattedString

    out: list[str] = []
    stack: list[Any] = [soup]
    preformatted = 0
    while stack:
        node = stack.pop()
        if isinstance(node, _Close):
            preformatted -= node.preformatted
            out.append(node.text)
        elif isinstance(node, PreformattedString):
            pass  # comments, doctypes, processing instructions
        elif isinstance(node, NavigableString):
            out.append(str(node) if preformatted else re.sub(r"\s+", " ", node))
        elif isinstance(node, Tag) and not _is_hidden(node):
            is_preformatted = node.name in {"pre", "textarea"}
            preformatted += is_preformatted
            before, after = _breaks(node.name)
            out.append(before)
            stack.append(_Close(after, is_preformatted))
            stack.extend(reversed(node.contents))
    return _join(out)


class _Close:
    """Marks on the stack that an element ends here."""

    def __init__(self, text: str, preformatted: bool) -> None:
        self.text = text
        self.preformatted = preformatted


def _breaks(name: str) -> tuple[str, str]:
    """Return what stands before and after the content of a tag."""
    if name in _HEADINGS:
        return "\n\n" + _HEADINGS[name], "\n\n"
    if name in _PARAGRAPH_TAGS:
        return "\n\n", "\n\n"
    if name == "li":
        return "\n- ", "\n"
    if name in _LINE_TAGS:
        return "\n", "\n" if name != "br" else ""
    if name in {"td", "th"}:
        return " ", " "
    return "", ""


def _join(parts: list[str]) -> str:
    """Join pieces; a space never follows a space or begins a line, as on a screen."""
    out: list[str] = []
    for part in parts:
        if part.startswith(" ") and (not out or out[-1][-1] in " \n"):
            part = part[1:]
        if part:
            out.append(part)
    lines = [line.rstrip() for line in "".join(out).split("\n")]
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()
