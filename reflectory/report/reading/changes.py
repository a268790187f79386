"""What changed from one text to the next, word by word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

Kind = Literal["same", "removed", "added"]

_MOST_WORDS = 5_000  # of the part of a text that differs
_MOST_PAIRS = 300_000  # equal words of both sides; difflib's time grows with them
# Scripts without spaces: each of their characters counts as a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Vowel signs and accents are no letters to Python's \w, and still belong to their word.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0eff"
_LETTER = rf"(?:[^\W{_UNSPACED}]|[{_MARKS}])"
# The marks in the middle join the parts of don't, 3.5 and well-known.
_WORD = re.compile(rf"(?:[{_UNSPACED}]|{_LETTER}+(?:['\u2019.,-]{_LETTER}+)*|\S)\s*|\s+")


@dataclass(frozen=True)
class WordChange:
    """A stretch of words that two texts share, or that one of them lacks.

    Attributes:
        kind: ``same``, ``removed`` (only before) or ``added`` (only after).
        text: The words with the white space that follows them.
    """

    kind: Kind
    text: str


def word_changes(before: str, after: str) -> list[WordChange]:
    """Return what turns one text into another, in reading order.

    White space alone is no change. Where the texts differ in so many words that comparing
    them would take seconds, sentences and lines are compared instead of words, and where
    there are too many of those as well, all that lies between the common beginning and the
    common end counts as replaced.

    Args:
        before: The earlier text.
        after: The later text.

    Returns:
        Stretches, neighbours of different kinds. ``same`` and ``added`` together are
        ``after``, character by character; ``same`` and ``removed`` are ``before`` up to
        white space.
    """
    old, new = _words(before), _words(after)
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    middle = _compared(old[: len(old) - end], new[: len(new) - end], start)
    changes = [
        WordChange("same", "".join(new[:start])),
        *middle,
        WordChange("same", "".join(new[len(new) - end :])),
    ]
    return list(_joined(change for change in changes if change.text))


def _compared(old: Sequence[str], new: Sequence[str], start: int) -> list[WordChange]:
    """Return the changes behind ``start`` words that are the same."""
    gap = _gap(old, new, start, start)
    old, new = old[start:], new[start:]
    if not _comparable(old, new):
        old, new = _lines(old), _lines(new)
        if not _comparable(old, new):
            return [WordChange("removed", gap + "".join(old)), WordChange("added", "".join(new))]
    matcher = SequenceMatcher(None, _keys(old), _keys(new), autojunk=False)
    found = []
    for tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            found.append(WordChange("same", "".join(new[new_start:new_end])))
            continue
        if old_start:
            gap = _gap(old, new, old_start, new_start)
        if removed := "".join(old[old_start:old_end]):
            found.append(WordChange("removed", gap + removed))
        found.append(WordChange("added", "".join(new[new_start:new_end])))
    return _without_islands([change for change in found if change.text])


def _gap(old: Sequence[str], new: Sequence[str], old_place: int, new_place: int) -> str:
    """Return the white space before a word that is gone, where what is left has none there."""
    if not old_place or not new_place:
        return ""
    before, left = old[old_place - 1], new[new_place - 1]
    return before[len(before.rstrip()) :] if left == left.rstrip() else ""


def _comparable(old: Sequence[str], new: Sequence[str]) -> bool:
    if max(len(old), len(new)) > _MOST_WORDS:
        return False
    counts = Counter(_keys(new))
    return sum(counts[word] for word in _keys(old)) <= _MOST_PAIRS


def _without_islands(changes: list[WordChange]) -> list[WordChange]:
    """Give up words that two texts share by chance, amid many that differ.

    A lone "the" between two changes says nothing and breaks both of them up.
    """
    kept: list[WordChange] = []
    for place, change in enumerate(changes):
        beside = (changes[place - 1 : place], changes[place + 1 : place + 2])
        island = (
            change.kind == "same"
            and all(beside)
            and all(len(side[0].text) > 3 * len(change.text) for side in beside)
            and len(_words(change.text)) <= 2
        )
        if island:
            kept += [replace(change, kind="removed"), replace(change, kind="added")]
        else:
            kept.append(change)
    return kept


def _joined(changes: Iterator[WordChange]) -> Iterator[WordChange]:
    """Yield neighbours of one kind as one; between two "same", what is removed comes first."""
    for same, group in groupby(changes, key=lambda change: change.kind == "same"):
        stretch = list(group)
        kinds: tuple[Kind, ...] = ("same",) if same else ("removed", "added")
        for kind in kinds:
            if text := "".join(change.text for change in stretch if change.kind == kind):
                yield WordChange(kind, text)


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """Return how many words both begin with."""
    count = 0
    for one, other in zip(old, new, strict=False):
        if one.rstrip() != other.rstrip():
            break
        count += 1
    return count


def _keys(words: Sequence[str]) -> list[str]:
    return [word.rstrip() for word in words]


def _words(text: str) -> list[str]:
    """Return words and marks, each with the white space behind it; joined they are the text."""
    return _WORD.findall(text)


def _lines(words: Sequence[str]) -> list[str]:
    """Return sentences and lines that the words make up."""
    lines, current = [], ""
    for word in words:
        current += word
        if "\n" in word or word.rstrip() in {".", "!", "?", "。"}:
            lines.append(current)
            current = ""
    return [*lines, current] if current else lines
