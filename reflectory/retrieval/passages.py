"""Documents become passages: whole sentences, as many as a budget of tokens holds."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from reflectory.errors import UserError
from reflectory.retrieval.sentences import blocks, sentences
from reflectory.types import Document, Passage

_LONGEST_TOKEN = 16
"""Characters per token above which a text is taken to be too long without counting it."""

_LONGEST_CHARACTER = 16
"""Code points of what a reader sees as one character; a longer run of accents is cut."""


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text whose tokenizer is not known: four bytes each, at least 1."""
    return max(1, -(-len(text.encode("utf-8", errors="replace")) // 4))


class _Unit(NamedTuple):
    """Something that is kept whole: a block, a sentence, or a piece of a long one."""

    start: int
    end: int
    tokens: int
    section: bool = False
    lead: bool = False


def split_passages(
    document: Document, *, max_tokens: int, count_tokens: Callable[[str], int]
) -> list[Passage]:
    """Cut a document into passages.

    A passage ends at the end of a paragraph where that does not leave it less
    than half full, and otherwise at the end of a sentence. A heading begins a new
    passage and is never the end of one. A sentence that is too long by itself is
    cut between lines, else words, else characters.

    Args:
        document: The document, preprocessed.
        max_tokens: Most tokens of a passage. Only a single character that has
            more tokens than this by itself exceeds it.
        count_tokens: Returns the tokens of a text. It is called about twice for
            every stretch of text, so a slow tokenizer is affordable.

    Returns:
        Passages in the order of the text. They do not overlap, each is exactly
        ``document.text[start:end]`` without white space around it, and together
        they hold every character that is not white. Ids are ``DOCUMENT#n``,
        with n from 0.

    Raises:
        UserError: ``max_tokens`` is below 1.
    """
    if max_tokens < 1:
        raise UserError(f"max_tokens is {max_tokens}", hint="a passage needs at least one token")
    packer = _Packer(document.text, max_tokens, count_tokens)
    for block in blocks(document.text):
        packer.add_block(_Unit(block.start, block.end, 0, block.section, block.lead))
    packer.finish()
    return [
        Passage(
            id=f"{document.id}#{number}",
            document_id=document.id,
            title=document.title,
            text=document.text[start:end],
            start=start,
            end=end,
            source=document.source,
            page=max(1, bisect_right(document.pages, start)) if document.pages else None,
            licence=document.metadata.get("licence", ""),
        )
        for number, (start, end) in enumerate(packer.spans)
    ]


class _Packer:
    """Packs units into spans of at most ``limit`` tokens, in order."""

    def __init__(self, text: str, limit: int, count: Callable[[str], int]) -> None:
        self.text, self.limit, self.count = text, limit, count
        self.spans: list[tuple[int, int]] = []
        self.open: list[_Unit] = []
        self.tokens = 0

    def _measured(self, unit: _Unit) -> _Unit:
        """Count the tokens of a unit, unless it is plainly too long for one passage."""
        if unit.end - unit.start > self.limit * _LONGEST_TOKEN:
            return unit._replace(tokens=self.limit + 1)
        return unit._replace(tokens=self.count(self.text[unit.start : unit.end]))

    def add_block(self, unit: _Unit) -> None:
        """Add a paragraph whole where possible, and sentence by sentence where not."""
        if unit.section and not all(earlier.lead for earlier in self.open):
            self.finish()
        unit = self._measured(unit)
        fits = unit.tokens <= self.limit
        if fits and (self.tokens + unit.tokens <= self.limit or self.tokens * 2 >= self.limit):
            self._add(unit)
            return
        for start, end in sentences(self.text, unit.start, unit.end):
            sentence = self._measured(_Unit(start, end, 0, lead=unit.lead))
            if sentence.tokens <= self.limit:
                self._add(sentence)
            else:
                for piece in self._pieces(start, end):
                    self._add(piece)

    def _add(self, unit: _Unit) -> None:
        while self.open and self.tokens + unit.tokens > self.limit:
            self._emit()
        self.open.append(unit)
        self.tokens += unit.tokens

    def finish(self) -> None:
        """Make passages of everything that is still open."""
        while self.open:
            self._emit(last=True)

    def _emit(self, *, last: bool = False) -> None:
        """Make a passage of the open units; headings at its end wait for what follows them."""
        size = len(self.open)
        if not last:
            while size > 0 and self.open[size - 1].lead:
                size -= 1
            size = size or len(self.open)
        # The sum of the parts is an estimate of the whole: a tokenizer may also
        # count the white space between them. One unit alone was counted as it is.
        start = self.open[0].start
        while size > 1 and self.count(self.text[start : self.open[size - 1].end]) > self.limit:
            size -= 1
        self.spans.append((start, self.open[size - 1].end))
        self.open = self.open[size:]
        self.tokens = sum(unit.tokens for unit in self.open)

    def _pieces(self, start: int, end: int) -> list[_Unit]:
        """Cut a sentence that is longer than a whole passage."""
        pieces: list[_Unit] = []
        while start < end:
            cut = longest_prefix(self.text, start, end, self._fits, guess=4 * self.limit)
            piece = self.text[start:cut].rstrip()
            pieces.append(_Unit(start, start + len(piece), self.count(piece)))
            start = cut
            while start < end and self.text[start].isspace():
                start += 1
        return pieces

    def _fits(self, text: str) -> bool:
        return self.count(text) <= self.limit


def longest_prefix(
    text: str, start: int, end: int, fits: Callable[[str], bool], *, guess: int = 400
) -> int:
    """Return where to cut ``text[start:end]`` so that the first part fits.

    The cut lies behind a line where one ends in the second half of what fits,
    else behind a word, else between characters (not within one that is made of
    several code points). It is the longest that a search by halving finds, in
    about ten calls of ``fits``.

    Args:
        text: The whole text.
        start: Where the part begins; not white.
        end: Where it ends at the latest.
        fits: Whether a text is short enough.
        guess: Characters that probably fit.

    Returns:
        An offset in (start, end]: at least one character, whether it fits or not.
    """
    span = end - start
    low, high, width = 0, span + 1, min(max(1, guess), span)  # low fits, high does not
    while high > span or high - low > max(
        1, low // 50
    ):  # within two percent of the longest is enough
        if fits(text[start : start + width]):
            low = width
        else:
            high = width
        width = min(2 * width, span) if high > span else (low + high) // 2
        if low == span:
            return end
    for cut in _good_cuts(text, start, start + low):
        if fits(text[start:cut].rstrip()):
            return cut
    return start + 1


def _good_cuts(text: str, start: int, cut: int) -> list[int]:
    """Return places to cut at or before ``cut``, best first."""
    line = text.rfind("\n", start + (cut - start) // 2, cut) + 1
    word = next((at for at in range(cut, start, -1) if text[at].isspace()), 0)
    nearest = range(cut, max(start, cut - _LONGEST_CHARACTER), -1)
    whole = next((at for at in nearest if not _continues_character(text, at)), cut)
    # A shorter text can have more tokens than a longer one; then go down by halves.
    halves = (start + (cut - start) // 2**step for step in range(1, 12))
    return [place for place in (line, word, whole, cut, *halves) if start < place <= cut]


def _continues_character(text: str, at: int) -> bool:
    """Return whether a cut before ``text[at]`` would part an accent or emoji from its base."""
    return (
        unicodedata.category(text[at]) in {"Mn", "Mc", "Me"}
        or "\U0001f3fb" <= text[at] <= "\U0001f3ff"  # skin tones
        or text[at] in "\u200c\u200d"
        or text[at - 1] == "\u200d"
    )
