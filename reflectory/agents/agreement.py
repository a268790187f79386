"""How much of what a student said agrees on an answer.

A student that is asked several times says what it knows more often than what it makes up
(self-consistency, Wang et al. 2023, arXiv:2203.11171). Its answers are sentences, so a
short answer has the votes of all that hold it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")
_ARTICLES = frozenset({"a", "an", "the"})


def agreement(answer: str, said: Sequence[str]) -> float:
    """Return the share of texts that hold the words of an answer, in order, in [0, 1].

    Capitals, punctuation and articles do not count.

    Args:
        answer: What might be the answer.
        said: What was said to the same question; 0 where nothing was.
    """
    words = spoken_words(answer)
    if not said or not words.strip():
        return 0.0
    return sum(words in spoken_words(text) for text in said) / len(said)


def spoken_words(text: str) -> str:
    """Return the words of a text in lower case without articles, a blank around each."""
    words = (word for word in _WORD.findall(text.lower()) if word not in _ARTICLES)
    return f" {' '.join(words)} "
