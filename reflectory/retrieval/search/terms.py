"""Words of a text as the lexical layers count them: folded, without stop words, stemmed."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from reflectory.retrieval.sentences import words

_WORD = re.compile(r"\w+")
# Scripts that are written without spaces: a run of them is cut into pairs of letters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")

STOP_WORDS = words(
    "a an and are as at be but by for from had has have he her his in into is it its no not of on "
    "or s she such that the their then there these they this to was were what when where which "
    "who whom whose will with"
)
"""English words that say nothing about what a text is about; ``s`` is left of "Fleming's"."""


def terms(text: str) -> list[str]:
    """Return the terms of a text in their order, with repeats.

    English words are stemmed (Snowball); other languages lose an English ending now
    and then, which the query loses too. Scripts without spaces become bigrams.
    """
    folded = unicodedata.normalize("NFKD", text).casefold()
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    found: list[str] = []
    for word in _WORD.findall(folded):
        if word.isascii():
            if word not in STOP_WORDS:
                found.append(word)
        else:
            found += _pieces(word)
    return [str(word) for word in _stemmer().stemWords(found)]


def _pieces(word: str) -> list[str]:
    """Cut what is written without spaces into bigrams; other words stay whole."""
    found: list[str] = []
    begin = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > begin:
            found.append(word[begin : run.start()])
        letters = run.group()
        found += [letters[i : i + 2] for i in range(max(1, len(letters) - 1))]
        begin = run.end()
    if begin < len(word):
        found.append(word[begin:])
    return found


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    import Stemmer

    # Its own cache is not safe under threads.
    return Stemmer.Stemmer("english", 0)
