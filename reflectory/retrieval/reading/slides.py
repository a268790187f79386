"""The reader of presentations (PPTX), with python-pptx, loaded when first needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from reflectory.errors import DocumentError
from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.reading.package import open_package, properties_of
from reflectory.retrieval.reading.records import MALFORMED, Found, check_size, damaged
from reflectory.retrieval.reading.text import pages_of, stem_of
from reflectory.types import Document

_KIND = "the presentation"
_INDENT = "  "
_DEEPEST = 8
_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
# What stands on every slide says nothing about this one.
_REPEATED = frozenset({"DATE", "FOOTER", "HEADER", "SLIDE_NUMBER"})


def read_pptx(data: bytes, name: str) -> Found:
    """Read a presentation; every slide is a page.

    A slide's title is a heading, the paragraphs of its placeholders are list
    items, the cells of a table's row and of a chart's category stand in one line,
    and the speaker's notes follow behind ``Notes:``. The order is that of the
    slide's shapes, which is the order in which a screen reader reads them.
    Hidden slides are read as well, so that page numbers stay those of the slides.

    Raises:
        DocumentError: It is encrypted, damaged, a bomb, or has no text.
    """
    package = open_package(data, name, _KIND)
    from pptx import Presentation
    from pptx.exc import PythonPptxError

    try:
        deck = Presentation(package)
        title, metadata = properties_of(deck.part.package)
        texts: list[str] = []
        heading = ""
        size = 0
        for slide in deck.slides:  # a list that may name the same slide a million times
            texts.append("\n\n".join(_blocks(slide)))
            heading = heading or _title(slide)
            size += len(texts[-1])
            check_size(size, name)
    except (*MALFORMED, PythonPptxError) as error:
        raise damaged(name, _KIND, error) from error
    if not any(texts):
        raise DocumentError(
            f"{name}: no slide has text",
            hint="its slides are probably pictures; run character recognition (OCR) on them first",
        )
    title = title or heading or stem_of(name)
    text, pages = pages_of(texts)
    return [Document(id=name, title=title, text=text, source=name, pages=pages, metadata=metadata)]


def _title(slide: Any) -> str:
    shape = slide.shapes.title
    return "" if shape is None else clean_line(shape.text_frame.text)


def _blocks(slide: Any) -> Iterator[str]:
    """Yield the texts of a slide that are separated by blank lines."""
    title = _title(slide)
    if title:
        yield f"# {title}"
    own = slide.shapes.title
    for shape in slide.shapes:
        if own is None or shape.shape_id != own.shape_id:
            yield from filter(None, _texts(shape))
    if slide.has_notes_slide:
        frame = slide.notes_slide.notes_text_frame
        notes = "\n".join(_lines(frame.paragraphs)) if frame is not None else ""
        if notes:
            yield f"Notes: {notes}"


def _texts(shape: Any) -> Iterator[str]:
    """Yield the texts of one shape; libxml2 bounds how deep groups nest."""
    from pptx.shapes.group import GroupShape

    if isinstance(shape, GroupShape):
        for inner in shape.shapes:
            yield from _texts(inner)
    elif shape.is_placeholder and shape.placeholder_format.type.name in _REPEATED:
        return
    elif shape.has_text_frame:
        is_list = shape.is_placeholder and len(shape.text_frame.paragraphs) > 1
        yield "\n".join(_lines(shape.text_frame.paragraphs, is_list=is_list))
    elif getattr(shape, "has_table", False):
        yield "\n".join(_table(shape.table))
    elif getattr(shape, "has_chart", False):
        yield "\n".join(_chart(shape.chart))


def _lines(paragraphs: Iterable[Any], *, is_list: bool = False) -> Iterator[str]:
    for paragraph in paragraphs:
        line = clean_line(paragraph.text)
        if line:
            yield f"{_INDENT * min(paragraph.level, _DEEPEST)}- {line}" if is_list else line


def _table(table: Any) -> Iterator[str]:
    # Not by table.rows, which counts all rows for each one.
    texts = [
        "" if cell.is_spanned else clean_line(cell.text_frame.text) for cell in table.iter_cells()
    ]
    width = max(1, len(table.columns))
    for start in range(0, len(texts), width):
        cells = texts[start : start + width]
        if any(cells):
            yield " | ".join(cells)


def _chart(chart: Any) -> Iterator[str]:
    """Yield a chart's title and, for each category, the values of all series.

    From the points that are there: the library's own ``values`` are as many as
    the file says, which may be a billion.
    """
    if chart.has_title and chart.chart_title.has_text_frame:
        yield clean_line(chart.chart_title.text_frame.text)
    series = list(chart.element.iter(f"{_C}ser"))
    labels: dict[str, str] = {}
    for one in series:
        for kind in ("cat", "xVal"):
            labels = _points(one, kind) | labels
    values = [_points(one, "val") | _points(one, "yVal") for one in series]
    names = [clean_line(" ".join(one.xpath("./c:tx//c:v/text()"))) for one in series]
    yield " | ".join(["", *names])
    for place in dict.fromkeys([*labels, *(place for points in values for place in points)]):
        yield " | ".join([labels.get(place, ""), *(points.get(place, "") for points in values)])


def _points(series: Any, kind: str) -> dict[str, str]:
    """Return the points of one axis of a series by their places."""
    source = series.find(f"{_C}{kind}")
    points = () if source is None else source.iter(f"{_C}pt")
    return {
        point.get("idx", ""): clean_line(point.findtext(f"{_C}v", default="")) for point in points
    }
