"""The words of a sentence with what parts them, and spans that are found by their form."""

# ruff: noqa: RUF001  (curly quotes and dashes are what this module is about)
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from reflectory.retrieval.sentences import Span
from reflectory.retrieval.structure.keys import MARKS
from reflectory.retrieval.structure.lexicon import FUNCTION_WORDS


class Token(NamedTuple):
    """A word of a sentence.

    Attributes:
        text: The word, without a possessive 's.
        lower: The same in lower case.
        start: Offset of its first character.
        end: Offset behind its last character.
        gap: What stands between the word before it and this one.
        possessive: Whether 's stands behind it.
    """

    text: str
    lower: str
    start: int
    end: int
    gap: str
    possessive: bool = False

    @property
    def capital(self) -> bool:
        """Whether it is written as a name: an upper case letter at its head or inside."""
        return self.text[0].isupper() or not (self.text.islower() or self.text == self.lower)


_PART = rf"[^\W_]++(?:[{MARKS}]++[^\W_]*+)*+"
_TOKEN = re.compile(
    r"(?:[^\W\d_]\.){2,}+(?:[^\W\d_](?![^\W_]))?"  # U.S., J.R.R.
    r"|\d++(?:[.,]\d++)++(?!\w)"
    rf"|{_PART}(?:['’&\-‐‑]{_PART})*+"
)
_POSSESSIVE = ("'s", "’s", "'S", "’S")


def tokens_of(text: str, start: int, end: int) -> list[Token]:
    """Return the words of ``text[start:end]`` in order."""
    found: list[Token] = []
    before = start
    for match in _TOKEN.finditer(text, start, end):
        word, first, last = match[0], match.start(), match.end()
        possessive = word.endswith(_POSSESSIVE) and len(word) > 2
        if possessive:
            word, last = word[:-2], last - 2
        found.append(Token(word, word.lower(), first, last, text[before:first], possessive))
        before = last
    return found


_MONTH = (
    "(?:January|February|March|April|May|June|July|August|September|October|November|December"
    "|Jan\\.?|Feb\\.?|Mar\\.|Apr\\.?|Jun\\.|Jul\\.|Aug\\.?|Sept?\\.?|Oct\\.?|Nov\\.?|Dec\\.?"
    "|Januar|Februar|März|Mai|Juni|Juli|Oktober|Dezember)"
)
_YEAR = r"(?:1\d{3}|20\d{2})"
_DAY = r"\d{1,2}(?:st|nd|rd|th|\.)?"
_DATE = re.compile(
    # Not inside a word: a combining mark goes on with one and is not in \w.
    rf"(?<![\w{MARKS}$€£#.,&'’‐‑-])(?:"
    rf"{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?"
    rf"|{_MONTH} {_DAY}(?:,? {_YEAR})?(?![\w:])"
    rf"|{_MONTH},? {_YEAR}"
    rf"|{_YEAR}-\d{{2}}-\d{{2}}"
    rf"|{_YEAR}s?(?![%°])"
    rf")(?!\w)(?![.,]\d)"
)


def date_spans(text: str) -> list[Span]:
    """Return where full dates, months with a year, years and decades stand."""
    return [match.span() for match in _DATE.finditer(text)]


_QUOTED = re.compile(
    rf"(?<![\w{MARKS}])"
    r"(?:\"(?P<a>[^\"\n]{2,80})\"|“(?P<b>[^“”\n]{2,80})”|„(?P<c>[^„“”\n]{2,80})[“”]"
    r"|«\s?(?P<d>[^«»\n]{2,80}?)\s?»|‘(?P<e>[^‘’\n]{2,80})’|'(?P<f>[^'\n]{2,80})')(?!\w)"
)


def quoted_titles(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield where quotes hold what is written as a title, without the stop before the quote.

    A title has capitals at its head and in all words that are not function words;
    a single word in quotes is more often a word that is talked about than a work,
    so it has to begin with a capital that no sentence explains.
    """
    for match in _QUOTED.finditer(text, start, end):
        inner = match[match.lastgroup or 0]
        first = match.start(match.lastgroup or 0)
        kept = inner.rstrip(" ,.;")
        if inner[:1].isspace() or not kept:
            continue
        tokens = tokens_of(kept, 0, len(kept))
        content = [t for t in tokens if t.lower not in FUNCTION_WORDS]
        if (
            tokens
            and (content or len(tokens) > 1)
            and tokens[0].capital
            and all(t.capital or t.text[0].isdigit() for t in content)
            and not kept.endswith(("?", "!"))
        ):
            yield first, first + len(kept)
