"""Names in one canonical form, so that two spellings of one name are equal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

# Marks that a script spells words with and that ``\w`` leaves out.
MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
    "\u0e31-\u0e4e\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff"
)
"""Combining marks, for a character class of a regular expression."""

_PART = rf"[^\W_]++(?:[{MARKS}]++[^\W_]*+)*+"
_WORD = re.compile(rf"{_PART}(?:['’]{_PART})*+")  # noqa: RUF001
_POSSESSIVE = re.compile(r"['’]s$", re.I)  # noqa: RUF001
_BRACKET_AT_END = re.compile(r"\s*\([^()]*\)\s*$")
_ARTICLES = frozenset({"the", "a", "an"})
_INITIAL_GAPS = frozenset({".", ". "})


class _Folded(dict[str, str]):
    """The canonical form of every word that was asked for, made once.

    Texts repeat their words, and folding takes ten times as long as looking up.
    """

    _LIMIT = 65_536

    def __missing__(self, word: str) -> str:
        if len(self) >= self._LIMIT:  # a text of nothing but new words
            self.clear()
        folded = self[word] = _fold(word)
        return folded


def _fold(word: str) -> str:
    word = _POSSESSIVE.sub("", word)
    for _ in range(2):  # folding the case of a decomposed letter can compose a new one
        word = unicodedata.normalize("NFKD", word.casefold())
    return "".join(c for c in word if c.isalnum())


_folded = _Folded()


def words_with_spans(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the folded words of a text and where they stand.

    Initials that only full stops part are one word (``U.S.``, ``J. R. R.``), so that
    they are equal however they are spaced.
    """
    found = [_folded[word] for word in _WORD.findall(text)]
    spans = [match.span() for match in _WORD.finditer(text)]
    if "" in found:
        kept = [at for at, word in enumerate(found) if word]
        found, spans = [found[at] for at in kept], [spans[at] for at in kept]
    return _with_initials(text, found, spans)


def _with_initials(
    text: str, found: list[str], spans: list[tuple[int, int]]
) -> tuple[list[str], list[tuple[int, int]]]:
    single = [at for at, word in enumerate(found) if len(word) == 1]
    if len(single) < 2:
        return found, spans
    starts = {
        at
        for at in single
        if at + 1 < len(found)
        and len(found[at + 1]) == 1
        and text[spans[at][1] : spans[at + 1][0]] in _INITIAL_GAPS
    }
    if not starts:
        return found, spans
    words: list[str] = []
    places: list[tuple[int, int]] = []
    letters: list[str] = []
    begin = 0
    for at, word in enumerate(found):
        if not letters:
            begin = spans[at][0]
        letters.append(word)
        if at not in starts:
            words.append("".join(letters))
            places.append((begin, spans[at][1]))
            letters = []
    return words, places


@lru_cache(maxsize=1 << 18)  # documents repeat the names that they are about
def name_key(name: str) -> str:
    """Return the canonical key of a name.

    Case, accents, punctuation, a possessive and leading articles do not count:
    ``name_key("The Café's") == "cafe"``. Empty when the name holds no letter or digit.
    """
    return " ".join(without_article(words_with_spans(name)[0]))


def without_article(words: Sequence[str]) -> Sequence[str]:
    """Return the words of a key without leading articles, unless nothing else is there."""
    start = 0
    while start + 1 < len(words) and words[start] in _ARTICLES:
        start += 1
    return words[start:]


def bare_title(title: str) -> str:
    """Return a title without what is put in brackets behind it to tell it from others."""
    return _BRACKET_AT_END.sub("", title).strip() or title.strip()


def initials(words: Sequence[str], *, small: frozenset[str]) -> tuple[str, str]:
    """Return the first letters of the words, with and without the ``small`` ones.

    Args:
        words: In order.
        small: Words such as *of* that an acronym may leave out.
    """
    every = "".join(word[:1] for word in words)
    return every, "".join(word[:1] for word in words if word not in small)


def is_acronym_of(acronym: str, words: Sequence[str], *, small: frozenset[str]) -> bool:
    """Return whether a key is made of the first letters of the words of another.

    Args:
        acronym: A key.
        words: Those of the other key.
        small: Words such as *of* that an acronym may leave out.
    """
    return len(acronym) > 1 and acronym in initials(words, small=small)
