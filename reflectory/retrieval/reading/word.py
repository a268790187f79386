"""The reader of Word documents (DOCX), with python-docx, loaded when first needed.

python-docx opens the package and knows the styles. Its own ``paragraph.text``
leaves out what was inserted with changes tracked, content controls and text
boxes, so the tree is walked here: everything that a reader of the document
sees once all changes are accepted, in the order of the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from reflectory.errors import DocumentError
from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.reading.package import open_package, properties_of
from reflectory.retrieval.reading.records import MALFORMED, Found, damaged
from reflectory.retrieval.reading.text import stem_of
from reflectory.retrieval.reading.word_styles import (
    LEVELS,
    Style,
    W,
    number_formats,
    numbering_of,
    styles_of,
    value_of,
)
from reflectory.retrieval.sentences import words
from reflectory.types import Document

_KIND = "the Word document"
_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"

# Elements by their local names; what is in none of these sets has no text to show.
_BLOCK_WRAPPERS = words("sdt sdtContent ins moveTo customXml smartTag")
_INLINE_WRAPPERS = _BLOCK_WRAPPERS | words("r hyperlink fldSimple dir bdo ruby rubyBase")
_CHARACTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_MARK_SPACE = re.compile(r"[ \t]*\n[ \t\n]*")


def read_docx(data: bytes, name: str) -> Found:
    """Read a Word document as Markdown would have it.

    Headings get ``#`` by their outline level, list items ``-`` or their number,
    the cells of a table's row stand in one line, and notes at the end. Headers,
    footers, comments, hidden text and what was deleted are left out.

    Raises:
        DocumentError: It is encrypted, damaged, a bomb, or has no text.
    """
    package = open_package(data, name, _KIND)
    import docx

    try:
        source = docx.Document(package)
        title, metadata = properties_of(source.part.package)
        walk = _Walk(source)
        text = walk.text()
    except DocumentError:
        raise
    except (*MALFORMED, *_own_errors()) as error:
        raise damaged(name, _KIND, error) from error
    title = title or walk.title or stem_of(name)
    return [Document(id=name, title=title, text=text, source=name, metadata=metadata)]


def _own_errors() -> tuple[type[Exception], ...]:
    from docx.exceptions import PythonDocxError
    from docx.opc.exceptions import OpcError

    return PythonDocxError, OpcError


class _Line(NamedTuple):
    """A paragraph or a row, and the list or table that it is in; empty for neither."""

    group: str
    text: str


class _Walk:
    """Walks the tree of one document; libxml2 bounds its depth, so recursion is safe."""

    def __init__(self, source: Any) -> None:
        self._part = source.part
        self._body = source.element.body
        self._styles = styles_of(source)
        self._formats = number_formats(self._related("numbering"))
        self._counts: Counter[tuple[str, int]] = Counter()
        self._noted: dict[tuple[str, str], int] = {}  # (kind of note, id) -> number
        self._order: list[tuple[str, str]] = []
        self._tables = 0
        self._boxes: list[Any] = []
        self.title = ""

    def text(self) -> str:
        """Return the whole text, blocks separated by blank lines."""
        out = _joined(self._blocks(self._body))
        notes: dict[tuple[str, str], Any] = {}
        for kind in sorted(set(_NOTES.values())):
            root = self._related(kind)
            for note in () if root is None else root:
                notes[kind, note.get(f"{W}id") or ""] = note
        told: list[str] = []
        for reference in self._order:  # grows meanwhile: a note may refer to another one
            lines = (line for _, line in self._blocks(notes.get(reference, ())))
            told.append(f"[^{len(told) + 1}]: {clean_line(' '.join(lines))}")
        return "\n\n".join([out, *told])

    def _related(self, kind: str) -> Any:
        """Return the root of the part that belongs to the document, or ``None``."""
        from docx.oxml.parser import parse_xml

        try:
            return parse_xml(self._part.part_related_by(_RELATION + kind).blob)
        except KeyError:
            return None

    def _blocks(self, parent: Any) -> Iterator[_Line]:
        """Yield what lies below ``parent``, in order."""
        before = ""
        for child in parent:
            kind = _local(child)
            if kind == "p":
                group, text = self._paragraph(child)
                text = before + text
                before = ""
                if child.find(f"{W}pPr/{W}rPr/{W}del") is not None:
                    before = text  # the end of this paragraph was deleted, so the next goes on
                elif text.strip():
                    yield _Line(group, text if group else text.strip())
                boxes, self._boxes = self._boxes, []
                for box in boxes:
                    yield from self._blocks(box)
            elif kind == "tbl":
                yield from self._table(child)
            elif kind in _BLOCK_WRAPPERS:
                yield from self._blocks(child)
            elif kind == "AlternateContent":
                yield from self._blocks(_alternative(child))
        if before.strip():
            yield _Line("", before.strip())

    def _paragraph(self, paragraph: Any) -> _Line:
        shown = self._inline(paragraph)
        text = shown.strip()
        name = value_of(paragraph.find(f"{W}pPr/{W}pStyle"))
        style = self._styles.get(name) or self._styles.get("") or Style()
        direct = value_of(paragraph.find(f"{W}pPr/{W}outlineLvl"))
        level = int(direct) if direct.isdigit() else style.level
        if not text or style.contents:
            return _Line("", "")
        if level is not None and level < LEVELS:
            line = clean_line(text)
            self.title = self.title or line
            return _Line("", f"{'#' * min(level + 1, 6)} {line}")
        numbering = numbering_of(paragraph.find(f"{W}pPr")) or style.numbering
        if numbering is None or numbering[0] == "0":
            return _Line("", shown)
        return _Line("list", self._mark(numbering) + _MARK_SPACE.sub(" ", text))

    def _mark(self, numbering: tuple[str, int]) -> str:
        """Return the mark of a list item and count it."""
        identity, level = numbering
        form, start = self._formats.get(numbering, ("decimal", 1))
        indent = "  " * level
        if form in {"bullet", "none"}:
            return f"{indent}- "
        for deeper in range(level + 1, LEVELS):
            self._counts.pop((identity, deeper), None)
        self._counts[numbering] += 1
        return f"{indent}{start + self._counts[numbering] - 1}. "

    def _inline(self, parent: Any) -> str:
        """Return the text of what lies within a paragraph."""
        out: list[str] = []
        for child in parent:
            kind = _local(child)
            if kind == "t":
                out.append(child.text or "")
            elif kind in _CHARACTERS:
                out.append(_CHARACTERS[kind])
            elif kind in _NOTES:
                out.append(f"[^{self._number((_NOTES[kind], child.get(f'{W}id') or ''))}]")
            elif kind == "AlternateContent":  # a text box in the new form and in the old one
                out.append(self._inline(_alternative(child)))
            elif kind in {"drawing", "pict", "object"}:
                self._boxes.extend(_boxes_in(child))
            elif kind in {"oMath", "oMathPara"}:
                out.append("".join(e.text or "" for e in child.iter() if _local(e) == "t"))
            elif kind in _INLINE_WRAPPERS and not (kind == "r" and _is_hidden(child)):
                out.append(self._inline(child))
        return "".join(out)

    def _number(self, note: tuple[str, str]) -> int:
        """Return the number of a note, by the order of the text."""
        if note not in self._noted:
            self._order.append(note)
            self._noted[note] = len(self._order)
        return self._noted[note]

    def _table(self, table: Any) -> Iterator[_Line]:
        self._tables += 1
        group = f"table {self._tables}"
        for row in _below(table, "tr"):
            if row.find(f"{W}trPr/{W}del") is not None:
                continue
            cells = []
            for cell in _below(row, "tc"):
                merged = cell.find(f"{W}tcPr/{W}vMerge")
                goes_on = merged is not None and value_of(merged, "continue") == "continue"
                lines = () if goes_on else (line for _, line in self._blocks(cell))
                cells.append(clean_line(" ".join(lines)))
            if any(cells):
                yield _Line(group, " | ".join(cells))


def _joined(lines: Iterator[_Line]) -> str:
    """Join lines of one list or table by line ends, and everything else by blank lines."""
    out: list[str] = []
    before = ""
    for line in lines:
        if out:
            out.append("\n" if line.group and line.group == before else "\n\n")
        out.append(line.text)
        before = line.group
    return "".join(out)


def _local(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""  # comments have no name


def _below(parent: Any, kind: str) -> Iterator[Any]:
    """Yield the children of a kind, also those within content controls and insertions."""
    for child in parent:
        local = _local(child)
        if local == kind:
            yield child
        elif local in _BLOCK_WRAPPERS:
            yield from _below(child, kind)


def _boxes_in(drawing: Any) -> Iterator[Any]:
    """Yield the text boxes of a drawing; those within a box come with its paragraphs."""
    for child in drawing:
        kind = _local(child)
        if kind == "txbxContent":
            yield child
        elif kind == "AlternateContent":
            yield from _boxes_in(_alternative(child))
        else:
            yield from _boxes_in(child)


def _alternative(element: Any) -> Any:
    """Return the one of several forms of the same content that is shown."""
    return next(iter(element), ())


def _is_hidden(run: Any) -> bool:
    mark = run.find(f"{W}rPr/{W}vanish")
    return mark is not None and value_of(mark, "true") not in {"0", "false", "off"}
