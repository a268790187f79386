"""AGGREGATE of Algorithm 1: from S_i to C_0, from C_t to C_{t+1}, and into a prompt.

A budget here is one of the rendered text: the numbers and titles that the
student reads are paid for like everything else.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache

from reflectory.retrieval.passages import longest_prefix
from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.sentences import sentences
from reflectory.types import Passage, ScoredPassage

_TITLE_LENGTH = 120
_KEPT = 2048
"""Passages whose text stays prepared: every call of a loop reads the same few again."""
_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"\w+")

_HEADER = re.compile(r"^([^\S\n]*+)\[(\s*\d+\s*)\]", re.MULTILINE)
# What is written like a special token: <|name|>, <name>, </name>, <<NAME>>, [NAME],
# and the full-width bars (U+FF5C) of some model families.
_TOKEN_LIKE = re.compile(
    "<(?=[/|\uff5c<]?[A-Za-z_|\uff5c][^<>\n]{0,60}>)|<(?=[|\uff5c])|\\[(?=/?[A-Z_]{3,}\\])"
)
_TOKEN_END = re.compile("(?<=[|\uff5c])>")


def aggregate(
    scored: Sequence[ScoredPassage],
    *,
    limit: int,
    token_budget: int,
    count_tokens: Callable[[str], int],
) -> list[Passage]:
    """Return C_0 = AGGREGATE(all S_i).

    Passages are chosen by score. They are then ordered for reading: the document
    with the best passage first, and the passages of one document as they stand in
    it, because a second paragraph explains little before the first. Best first,
    because a context only ever grows at its end (what was computed for its
    beginning stays valid), so the end belongs to what a question adds.

    A passage is left out when it repeats one that was chosen: the same id, or the
    same words in the same order (letter case, accents, punctuation and articles
    aside), or a stretch of its words; one that says more is kept. Nothing fuzzier:
    two passages that differ by a number or a "not" may be the very disagreement
    that was asked about.

    Args:
        scored: The S_i of all documents, in any order.
        limit: Most passages.
        token_budget: Most tokens of the rendered context. What does not fit is
            skipped for something shorter; only when nothing at all would fit is the
            best passage shortened (at a sentence, else a word).
        count_tokens: Counts the tokens of a text.

    Returns:
        At most ``limit`` passages. A shortened one keeps its id and start; its end
        moves. Empty only when there are no passages or the budget is too small for
        a single character.
    """
    ranked = sorted(scored, key=lambda item: (-item.score, item.passage.id))
    chosen: list[Passage] = []
    ids: set[str] = set()
    words: list[str] = []
    for item in ranked:
        if len(chosen) >= limit:
            break
        content = _words(item.passage.text)
        if item.passage.id in ids or _repeats(content, words):
            continue
        candidate = _reading_order([*chosen, item.passage])
        if count_tokens(render_passages(candidate)) <= token_budget:
            chosen.append(item.passage)
            ids.add(item.passage.id)
            words.append(content)
    if not chosen and ranked and limit > 0:
        shortened = _shortened(ranked[0].passage, token_budget, count_tokens)
        return [shortened] if shortened is not None else []
    return _reading_order(chosen)


def extend(
    context: Sequence[Passage],
    new: Sequence[Passage],
    *,
    token_budget: int,
    count_tokens: Callable[[str], int],
) -> list[Passage]:
    """Return C_{t+1}: the context as it is, with new passages appended in their order.

    Args:
        context: C_t; comes out unchanged at the beginning, also when it is already
            over the budget.
        new: Passages to append, best first. Repeats (see :func:`aggregate`) and
            what does not fit are left out, and nothing is shortened.
        token_budget: Most tokens of the rendered context.
        count_tokens: Counts the tokens of a text.
    """
    result = list(context)
    ids = {passage.id for passage in result}
    words = [_words(passage.text) for passage in result]
    for passage in new:
        content = _words(passage.text)
        if passage.id in ids or _repeats(content, words):
            continue
        if count_tokens(render_passages([*result, passage])) <= token_budget:
            result.append(passage)
            ids.add(passage.id)
            words.append(content)
    return result


def render_passages(passages: Sequence[Passage], first_number: int = 1) -> str:
    """Return passages as the agents read them: ``[1] Title``, the text, a blank line.

    The text is data. It keeps its words, but no line of it can pass for the
    header of another passage (``[2]`` becomes ``(2)``), no blank line for the end
    of one, and no special token of a chat template survives (``<|im_end|>``
    becomes ``< |im_end| >``).

    Args:
        passages: What to show, in order.
        first_number: Number of the first one.
    """
    return "\n\n".join(
        f"[{number}] {_title(passage.title)}".rstrip() + "\n" + _neutral(passage.text)
        for number, passage in enumerate(passages, start=first_number)
    )


@lru_cache(maxsize=_KEPT)
def _title(text: str) -> str:
    title = _neutral(clean_line(text))
    return title if len(title) <= _TITLE_LENGTH else title[: _TITLE_LENGTH - 1].rstrip() + "…"


@lru_cache(maxsize=_KEPT)
def _neutral(text: str) -> str:
    """Return text that no agent can take for something else than text."""
    # splitlines knows every line end, also of passages that nobody preprocessed.
    text = "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
    text = _HEADER.sub(r"\1(\2)", text)
    return _TOKEN_END.sub(" >", _TOKEN_LIKE.sub(lambda found: found[0] + " ", text))


def _reading_order(best_first: list[Passage]) -> list[Passage]:
    documents: dict[str, list[Passage]] = {}
    for passage in best_first:
        documents.setdefault(passage.document_id, []).append(passage)
    # The sort keeps the order of equal starts (retrievers that know no offsets).
    return [
        passage
        for group in documents.values()
        for passage in sorted(group, key=lambda passage: passage.start)
    ]


@lru_cache(maxsize=_KEPT)
def _words(text: str) -> str:
    """Return the words that matter for whether two texts say the same."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(word for word in _WORD.findall(plain) if word not in _ARTICLES)


def _repeats(words: str, earlier: Sequence[str]) -> bool:
    return any(f" {words} " in f" {other} " for other in earlier)


def _shortened(
    passage: Passage, token_budget: int, count_tokens: Callable[[str], int]
) -> Passage | None:
    """Cut a passage so that it fits alone, giving up its title when it must."""
    for base in (passage, passage.model_copy(update={"title": ""})):
        if (cut := _longest_that_fits(base, token_budget, count_tokens)) is not None:
            return cut
    return None


def _longest_that_fits(
    passage: Passage, token_budget: int, count_tokens: Callable[[str], int]
) -> Passage | None:
    def cut(size: int) -> Passage:
        update = {"text": passage.text[:size], "end": passage.start + size}
        return passage.model_copy(update=update)

    def fits(text: str) -> bool:
        return count_tokens(render_passages([cut(len(text))])) <= token_budget

    ends = [end for _, end in sentences(passage.text)]
    count = bisect_left(ends, True, key=lambda end: not fits(passage.text[:end]))
    size = ends[count - 1] if count else longest_prefix(passage.text, 0, len(passage.text), fits)
    text = passage.text[:size].rstrip()
    return cut(len(text)) if fits(text) else None
