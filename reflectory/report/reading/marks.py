"""Which stretches of an answer are supported, and which of a passage support something."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reflectory.types import Answer

_NUMBER = re.compile(r"\[(\d{1,4})\]")


@dataclass(frozen=True)
class Source:
    """A passage that an answer was written from.

    Attributes:
        number: Its place in the answer's context, from 1: what ``[1]`` means there.
        passage: Its id.
        title: What it is called.
        anchor: Id of the element that holds its text; empty when the text is not known.
        cited: Whether the answer rests on it.
        extra: Whether it was retrieved for this question alone.
    """

    number: int
    passage: str
    title: str
    anchor: str
    cited: bool = False
    extra: bool = False


@dataclass(frozen=True)
class Piece:
    """A stretch of a text.

    Attributes:
        text: Its words.
        supported: Whether a passage supports it; ``None`` where it states nothing.
        sources: The passages that support it, best first, or that it points to.
    """

    text: str
    supported: bool | None = None
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A stretch of a passage.

    Attributes:
        text: Its words.
        users: Whose statements rest on it: names with the anchors of their elements; empty
            for what nobody rests on.
    """

    text: str
    users: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Use:
    """A stretch of a passage that a statement rests on.

    Attributes:
        start: Offset of its first character in the passage's text.
        end: Offset behind its last character.
        name: Whose statement.
        anchor: Id of the element that holds the statement.
    """

    start: int
    end: int
    name: str
    anchor: str


def pieces_of(answer: Answer, sources: Sequence[Source]) -> tuple[Piece, ...]:
    """Return an answer cut at its statements, each with what supports it."""
    by_passage = {source.passage: source for source in sources}
    pieces, place = [], 0
    for statement in sorted(answer.statements, key=lambda s: s.start):
        end = min(statement.end, len(answer.text))
        if statement.start < place or end <= statement.start:
            continue  # a record of somebody else's making, that overlaps or ends nowhere
        if between := answer.text[place : statement.start]:
            pieces.append(Piece(between))
        named = dict.fromkeys(e.passage for e in statement.evidence)
        found = tuple(by_passage[name] for name in named if name in by_passage)
        said = answer.text[statement.start : end]
        pieces.append(Piece(said, statement.supported, found if statement.supported else ()))
        place = end
    if rest := answer.text[place:]:
        pieces.append(Piece(rest))
    return tuple(pieces)


def references_in(text: str, sources: Sequence[Source]) -> tuple[Piece, ...]:
    """Return a text cut at its ``[1]``, each with the passage of that number."""
    by_number = {source.number: source for source in sources}
    pieces, place = [], 0
    for found in _NUMBER.finditer(text):
        source = by_number.get(int(found[1]))
        if source is None:
            continue
        pieces += [Piece(text[place : found.start()]), Piece(found[0], sources=(source,))]
        place = found.end()
    pieces.append(Piece(text[place:]))
    return tuple(piece for piece in pieces if piece.text)


def marks_of(text: str, uses: Iterable[Use]) -> tuple[Mark, ...]:
    """Return a passage cut into what statements rest on and what lies between.

    Stretches that overlap are one mark.
    """
    merged: list[tuple[int, int, dict[tuple[str, str], None]]] = []
    for use in sorted(uses, key=lambda u: (u.start, u.end)):
        end = min(use.end, len(text))
        if end <= use.start:
            continue
        user = {(use.name, use.anchor): None}
        if merged and use.start < merged[-1][1]:
            start, before, users = merged[-1]
            merged[-1] = (start, max(before, end), users | user)
        else:
            merged.append((use.start, end, user))
    marks, place = [], 0
    for start, end, users in merged:
        marks += [Mark(text[place:start]), Mark(text[start:end], tuple(users))]
        place = end
    marks.append(Mark(text[place:]))
    return tuple(mark for mark in marks if mark.text)


def uses_of(answers: Iterable[tuple[str, str, Answer]]) -> Mapping[str, list[Use]]:
    """Return what rests on each passage, by its id.

    Args:
        answers: Name, anchor and answer of each response and cell.
    """
    found: dict[str, list[Use]] = {}
    for name, anchor, answer in answers:
        for statement in answer.statements:
            if statement.supported:
                for evidence in statement.evidence:
                    use = Use(evidence.start, evidence.end, name, anchor)
                    found.setdefault(evidence.passage, []).append(use)
    return found
