"""What a Word document's styles and lists say of its paragraphs."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
"""The namespace of everything in a Word document."""

LEVELS = 9
"""Levels of headings and of lists; a heading of level 9 is body text."""

# Whatever the language of Word, the file has the English names of built-in styles.
_HEADING_STYLE = re.compile(r"heading ([1-9])|title", re.IGNORECASE)
_LONGEST_CHAIN = 64
_CONTENTS_STYLE = re.compile(r"toc [1-9]", re.IGNORECASE)


class Style(NamedTuple):
    """What a paragraph style says of headings and lists.

    Attributes:
        level: Outline level, from 0; ``None`` where it says nothing.
        numbering: (list, level in it); ``None`` where it says nothing.
        contents: Whether it is for lines of a table of contents, which repeat headings.
    """

    level: int | None = None
    numbering: tuple[str, int] | None = None
    contents: bool = False


def value_of(element: Any, default: str = "") -> str:
    """Return the attribute ``val`` of an element that may not be there."""
    return default if element is None else str(element.get(f"{W}val", default))


def numbering_of(properties: Any) -> tuple[str, int] | None:
    """Return (list, level) of a paragraph's or a style's properties."""
    if properties is None or properties.find(f"{W}numPr") is None:
        return None
    level = value_of(properties.find(f"{W}numPr/{W}ilvl"), "0")
    identity = value_of(properties.find(f"{W}numPr/{W}numId"))
    if not identity:
        return None
    return identity, min(int(level), LEVELS - 1) if level.isdigit() else 0


def styles_of(source: Any) -> dict[str, Style]:
    """Return what each paragraph style says, by its id; the default style also under ''."""
    elements = {
        style.get(f"{W}styleId", ""): style for style in source.styles.element.iter(f"{W}style")
    }
    found: dict[str, Style] = {}
    for key, element in elements.items():
        level: int | None = None
        numbering: tuple[str, int] | None = None
        seen: set[str] = set()
        at, current = key, element
        # A style may be based on itself, and a chain is never as long as this by honest work.
        while current is not None and at not in seen and len(seen) < _LONGEST_CHAIN:
            seen.add(at)
            outline = value_of(current.find(f"{W}pPr/{W}outlineLvl"))
            heading = _HEADING_STYLE.fullmatch(value_of(current.find(f"{W}name")))
            if level is None and outline.isdigit():
                level = int(outline)
            elif level is None and heading:  # a built-in style whose level is not written down
                level = int(heading[1] or 1) - 1
            numbering = numbering or numbering_of(current.find(f"{W}pPr"))
            at = value_of(current.find(f"{W}basedOn"))
            current = elements.get(at)
        contents = _CONTENTS_STYLE.fullmatch(value_of(element.find(f"{W}name")))
        found[key] = Style(level, numbering, bool(contents))
        if element.get(f"{W}default") in {"1", "true"} and element.get(f"{W}type") == "paragraph":
            found[""] = found[key]
    return found


def number_formats(numbering: Any) -> dict[tuple[str, int], tuple[str, int]]:
    """Return (format, first number) of each level of each list."""
    if numbering is None:
        return {}
    abstract: dict[str, dict[int, tuple[str, int]]] = {}
    for entry in numbering.iterfind(f"{W}abstractNum"):
        levels: dict[int, tuple[str, int]] = {}
        for level in entry.iterfind(f"{W}lvl"):
            place, start = level.get(f"{W}ilvl", ""), value_of(level.find(f"{W}start"), "1")
            if place.isdigit() and start.isdigit() and int(place) < LEVELS:
                levels[int(place)] = (value_of(level.find(f"{W}numFmt"), "decimal"), int(start))
        abstract[entry.get(f"{W}abstractNumId", "")] = levels
    return {
        (entry.get(f"{W}numId", ""), level): form
        for entry in numbering.iterfind(f"{W}num")
        for level, form in abstract.get(value_of(entry.find(f"{W}abstractNumId")), {}).items()
    }
