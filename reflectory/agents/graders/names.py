"""Names of the documents that are not the answer: what an answer is held against.

What speaks for every name of the documents speaks for none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from reflectory.agents.citations import content_words
from reflectory.agents.condensing import BRIEF_WORDS
from reflectory.retrieval.structure import RuleExtractor
from reflectory.types import Passage

_MOST = 8
"""Most names of one question, spread evenly over the passages."""


def other_names(passages: Sequence[Passage], taken: Sequence[str]) -> list[str]:
    """Return names, dates and numbers of the passages that share no word with some texts.

    Args:
        passages: Where the names stand.
        taken: Texts such as the question, or answers.
    """
    known = {word for text in taken for word in content_words(text)}
    found: dict[str, None] = {}
    for name in _brief_names(tuple(p.text for p in passages)):
        words = content_words(name)
        if words and not known.intersection(words):
            found.setdefault(name)
    names = list(found)
    step = max(1.0, len(names) / _MOST)
    return [names[int(place * step)] for place in range(min(len(names), _MOST))]


@lru_cache(maxsize=512)
def _brief_names(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the short names in some texts; all answers to a question are graded by the same."""
    mentions = (m for found in RuleExtractor().extract(list(texts)) for m in found.mentions)
    return tuple(m.name for m in mentions if len(content_words(m.name)) <= BRIEF_WORDS)
