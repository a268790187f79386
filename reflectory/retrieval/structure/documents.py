"""The structure of one document: what it is about, its sections, what was extracted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reflectory.retrieval.sentences import Block, Span, blocks, sentences
from reflectory.retrieval.structure.aliases import stated_aliases
from reflectory.retrieval.structure.definitions import defined_names
from reflectory.retrieval.structure.keys import bare_title, name_key
from reflectory.retrieval.structure.records import (
    DocumentStructure,
    Extraction,
    Mention,
    Section,
)
from reflectory.types import Document

_OPENING = re.compile(r"[\s\"'“”‘«„(*_]*(?:(?:The|A|An)\s+[\"'“‘«„]*)?")  # noqa: RUF001


def structure_of(document: Document, extraction: Extraction) -> DocumentStructure:
    """Return what is known about a document.

    Args:
        document: The document, preprocessed.
        extraction: What an extractor found in its text.
    """
    parts = list(blocks(document.text))
    return DocumentStructure(
        document_id=document.id,
        subjects=_subjects(document, parts, extraction.mentions),
        sections=_sections(document.text, parts),
        mentions=extraction.mentions,
        phrases=extraction.phrases,
        relations=extraction.relations,
    )


def first_sentence(text: str, parts: Sequence[Block]) -> Span | None:
    """Return where the first sentence stands that is no heading.

    Args:
        text: Of a document.
        parts: Its blocks, in order.
    """
    for block in parts:
        if not block.section and (not block.lead or len(parts) == 1):
            return next(sentences(text, block.start, block.end), None)
    return None


def _subjects(
    document: Document, parts: Sequence[Block], mentions: Sequence[Mention]
) -> tuple[str, ...]:
    title = document.title
    found = [title, bare_title(title)] if name_key(title) else []
    span = first_sentence(document.text, parts)
    if span is not None:
        start, end = span
        opening = _OPENING.match(document.text, start, end)
        head = opening.end() if opening else start
        inside = [m for m in mentions if start <= m.start and m.end <= end]
        subject = next((m for m in inside if m.kind not in {"date", "number", "group"}), None)
        if subject is not None and subject.start <= head:
            found.append(subject.name)
        found += defined_names(document.text[start:end])
        about = {name_key(name) for name in found}
        for name, alias in stated_aliases(document.text, inside, start, end):
            if name_key(name) in about:
                found.append(alias)
    unique: dict[str, None] = {}
    keys: set[str] = set()
    for number, name in enumerate(found):
        # A title that differs from the bare one in punctuation alone is kept once.
        if number < 1 or name_key(name) not in keys:
            unique[name] = None
        keys.add(name_key(name))
    return tuple(unique)


def _sections(text: str, parts: Sequence[Block]) -> tuple[Section, ...]:
    heads = [(block, *_heading(text[block.start : block.end])) for block in parts if block.section]
    heads += [
        (block, 1, text[block.start : block.end])
        for block in parts
        if block.lead and not block.section and _is_capitals(text[block.start : block.end])
    ]
    heads.sort(key=lambda head: head[0].start)
    return tuple(_closed(heads, len(text)))


def _closed(heads: Sequence[tuple[Block, int, str]], length: int) -> Iterator[Section]:
    ends = [length] * len(heads)
    open_heads: list[int] = []
    for at, (block, level, _) in enumerate(heads):
        while open_heads and heads[open_heads[-1]][1] >= level:
            ends[open_heads.pop()] = block.start
        open_heads.append(at)
    for (block, level, title), end in zip(heads, ends, strict=True):
        yield Section(title=title, level=level, start=block.start, end=end)


def _heading(line: str) -> tuple[int, str]:
    """Return level and title of a heading that is marked or underlined."""
    if line.startswith("#"):
        title = line.lstrip("#")
        return len(line) - len(title), title.strip().rstrip("#").strip()
    title, _, rule = line.rpartition("\n")
    return (1 if rule.strip().startswith("=") else 2), title.strip()


def _is_capitals(line: str) -> bool:
    return line.isupper() and len(line.split()) > 1 and len(line) <= 80
