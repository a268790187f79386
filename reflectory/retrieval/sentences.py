"""Where blocks (paragraphs, headings, list items) and sentences begin and end.

A splitter of its own, because the well-kept libraries for it download a model
(nltk, spaCy), are heavy (stanza) or unmaintained (pysbd), and retrieval needs no
more than this: a boundary that is missed makes a passage a little longer, and a
false one is repaired by packing neighbouring sentences together again.
"""

# ruff: noqa: RUF001  (the marks of all scripts are what this module is about)
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

Span = tuple[int, int]
"""Offsets of the first character and behind the last one."""


def words(text: str) -> frozenset[str]:
    """Return a set of words that is written as one string."""
    return frozenset(text.split())


class Block(NamedTuple):
    """A paragraph, heading or list item.

    Attributes:
        start: Offset of its first character, which is not white.
        end: Offset behind its last character, which is not white.
        section: Whether it is a heading that begins a section.
        lead: Whether it belongs to what follows: a heading, or a single short
            line without a full stop.
    """

    start: int
    end: int
    section: bool = False
    lead: bool = False


_LINE = re.compile(r"[^\n]+")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+\S")
_UNDERLINE = re.compile(r"\s{0,3}(={3,}|-{3,}|~{3,})\s*$")
_BULLET = re.compile(r"\s*(?:[-*+•‣◦▪–]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s+\S")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_LEAD_LENGTH = 80
_STOPS = ".!?…。！？｡।॥؟۔;,"


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a text in order; together they hold all that is not white."""
    start, end, lines = -1, -1, 0
    fence = ""

    def closed(*, section: bool = False) -> Block:
        single = lines == 1 and not fence and end - start <= _LEAD_LENGTH
        lead = section or (
            single and text[end - 1] not in _STOPS and not _BULLET.match(text, start, end)
        )
        return Block(start, end, section, lead)

    for match in _LINE.finditer(text):
        line = match[0]
        if not line or line.isspace():
            continue
        left = match.start() + len(line) - len(line.lstrip())
        right = match.end() - (len(line) - len(line.rstrip()))
        # A blank line lies between when more than one line end does.
        parted = lines > 0 and _is_parted(text, end, left)
        mark = line[left - match.start()]
        special = mark in "#=-~`*+•‣◦▪–(0123456789" or mark.isalpha()
        if parted:
            yield closed()
            lines = 0
        if fence:
            if line.strip().startswith(fence):
                fence = ""
                yield Block(start if lines else left, right)
                lines = 0
                continue
        elif special and _HEADING.match(line):
            if lines:
                yield closed()
            start, end, lines = left, right, 1
            yield closed(section=True)
            lines = 0
            continue
        elif special and lines == 1 and _UNDERLINE.match(line):
            end = right
            yield closed(section=True)
            lines = 0
            continue
        elif special and (opening := _FENCE.match(line)):
            fence = opening[1]
        elif special and lines and _BULLET.match(line):
            yield closed()
            lines = 0
        if not lines:
            start = left
        end, lines = right, lines + 1
    if lines:
        yield closed()


def _is_parted(text: str, end: int, left: int) -> bool:
    first = text.find("\n", end, left)
    return first >= 0 and text.find("\n", first + 1, left) >= 0


# A full stop, question mark or exclamation mark with the quotes and brackets that
# close behind it. Western marks need white space after them; the marks of
# scripts without spaces do not. Nothing is given back and no run of marks is
# entered in its middle, so that a line of a million dots takes linear time.
_END = re.compile(
    r"(?<![.!?…])(?P<mark>[.!?…]++)(?P<close>[\"'”’»)\]*_]*+)(?=\s)"
    r"|(?P<wide>[。！？｡।॥؟۔]++[\"'”’»)\]」』）】]*+)"
)
_OPENERS = "\"'“‘«„([*_¿¡"
_WORD_BEFORE = re.compile(r"[^\s\"'“‘«„(\[]*$")

_NEVER_LAST = words(
    "mr mrs ms messrs mme mlle dr prof rev fr hon gen col lt capt sgt maj cmdr adm gov sen rep "
    "pres st mt ft vs v cf e.g i.e eg ie viz al fig figs eq eqs sec ch vol no nos nr p pp ca c "
    "approx est b d r art bd bzw z.b d.h u.a s.o vgl hrsg bl z d u tel op"
)
"""Abbreviations after which a sentence goes on (in lower case, without the last stop)."""

_MAYBE_LAST = words(
    "etc inc ltd co corp jr sr bros jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed "
    "thu fri sat sun ave blvd rd dept univ ed eds assn intl ph.d m.d b.a m.a b.sc m.sc a.m p.m "
    "u.s u.k u.n d.c usw"
)
"""Abbreviations that end a sentence when the next word is one that begins sentences."""

_STARTERS = words(
    "the a an this that these those it its he she they we i you his her their our my in on at by "
    "for from with after before during while when where as if since although though but and so "
    "however there here what who why how which according both each many most some all one two "
    "another other also then later today since because under over between through until"
)
_MONTHS = words(
    "januar februar märz april mai juni juli august september oktober november dezember"
)


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """Yield the sentences of ``text[start:end]`` in order, without white space around them."""
    end = len(text) if end is None else end
    begin = start
    for match in _END.finditer(text, start, end):
        if match["wide"] is None and not _ends_sentence(text, match, begin, end):
            continue
        span = _stripped(text, begin, match.end())
        if span is not None:
            yield span
        begin = match.end()
    span = _stripped(text, begin, end)
    if span is not None:
        yield span


def _stripped(text: str, start: int, end: int) -> Span | None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    if left == len(piece):
        return None
    return start + left, end - (len(piece) - len(piece.rstrip()))


def _ends_sentence(text: str, match: re.Match[str], begin: int, end: int) -> bool:
    following = text[match.end() : min(end, match.end() + 60)].lstrip().lstrip(_OPENERS)
    if not following:
        return True
    first = following[0]
    if first.islower():
        return False  # an abbreviation, or '"Why?" he asked'
    if match["mark"] != ".":
        return True
    tail = text[max(begin, match.start() - 30) : match.start()]
    before = _WORD_BEFORE.search(tail)
    word = before[0] if before else ""
    if not word:
        return bool(match["close"])
    lowered = word.lower()
    if lowered in _NEVER_LAST and not (lowered == "no" and not first.isdigit()):
        return False
    next_word = re.split(r"\W", following, maxsplit=1)[0].lower()
    if len(word) == 1 and word.isupper() and word != "I":
        return next_word in _STARTERS  # an initial
    if lowered in _MAYBE_LAST or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
        return next_word in _STARTERS
    if word.isdigit() and len(word) <= 3:
        before_word = text[max(begin, match.start() - 12) : match.start() - len(word)]
        return bool(before_word.strip()) and next_word not in _MONTHS  # "1. First", "3. Oktober"
    return True
