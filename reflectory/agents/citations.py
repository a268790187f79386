"""Which passages an answer rests on: named by the student, or found by overlap."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from reflectory.types import Passage

_MARK = re.compile(r"\s*\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_WORD = re.compile(r"\w+")
# The "s" is what is left of "Fleming's".
_COMMON_WORDS = (
    "a an and are as at be been but by did do does for from had has have he her his how i in is it "
    "its not of on or s she so than that the their them they this to was were what when where "
    "which who whom whose why will with would you your"
)
_STOP_WORDS = frozenset(_COMMON_WORDS.split())


def content_words(text: str) -> list[str]:
    """Return the lower-cased words of a text without the commonest English ones."""
    return [w for w in (m.group().lower() for m in _WORD.finditer(text)) if w not in _STOP_WORDS]


@lru_cache(maxsize=2048)
def _vocabulary(passage: str) -> frozenset[str]:
    """Return the content words of a passage; every answer of a loop is held against the same."""
    return frozenset(content_words(passage))


def split_citations(text: str, context: Sequence[Passage]) -> tuple[str, tuple[str, ...]]:
    """Take the marks ``[n]`` out of a text.

    Args:
        text: What the student wrote.
        context: The passages it saw; the mark ``[n]`` names the n-th, from 1.

    Returns:
        The text without marks that name a passage, and the ids of those
        passages in the order they were named, without repeats. A number that
        names no passage is left in the text: it may be part of the answer.
    """
    cited: dict[str, None] = {}

    def take(match: re.Match[str]) -> str:
        numbers = [int(n) for n in re.split(r"\s*[,;]\s*", match.group(1))]
        if not all(1 <= n <= len(context) for n in numbers):
            return match.group()
        cited.update(dict.fromkeys(context[n - 1].id for n in numbers))
        return ""

    return _MARK.sub(take, text).strip(), tuple(cited)


def attribute(text: str, context: Sequence[Passage], *, most: int = 2) -> tuple[str, ...]:
    """Return the passages whose rarer words an answer repeats, best first.

    A word counts by how few of the passages hold it, so that what they all say
    hardly tells them apart. An answer that repeats nothing is attributed to none.

    Args:
        text: The answer.
        context: The passages that the student saw.
        most: Most passages to name.
    """
    wanted = set(content_words(text))
    words = [_vocabulary(f"{p.title} {p.text}") for p in context]
    holders = {w: sum(w in have for have in words) for w in wanted}
    # The order of a set changes from process to process, and with it an ordinary
    # sum in its last bits; fsum has no order.
    scores = [
        math.fsum(math.log1p(len(words) / holders[w]) for w in wanted & have) for have in words
    ]
    if not scores or max(scores) <= 0.0:
        return ()
    order = sorted(range(len(context)), key=lambda i: (-scores[i], i))
    return tuple(context[i].id for i in order[:most] if scores[i] >= 0.5 * scores[order[0]] > 0)
