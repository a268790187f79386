"""Evidence by words: no model, a fraction of a millisecond per statement and passage.

A statement is supported when one stretch of one passage (a sentence, or two or
three neighbouring ones) carries its content words, the rarer ones weighing more,
and its names and numbers, with the same words negated. A short answer is read
together with its question: the stretch has to hold the answer and to speak of what
was asked. The constants below and the threshold were chosen on one half of the
pairs that ``bench/evidence.py`` makes; docs/experiments.md has the figures of the
other half, and what this cannot see.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import mul

from reflectory.agents.verification.protocol import statements_in
from reflectory.agents.verification.words import (
    ROOT_LETTERS,
    Word,
    content_of,
    has_negation,
    same_root,
    stems_of,
)
from reflectory.retrieval.sentences import sentences
from reflectory.types import Evidence, Passage, Statement

THRESHOLD = 0.8
"""A stretch that scores at least this supports a statement."""

_MOST_SENTENCES = 3
_MOST_EVIDENCE = 3
_WIDTH_FACTOR = 0.8
"""For every sentence more than one: in a wide stretch many words meet by chance."""
_SAME_ROOT = 0.9
_EMPHASIS = 2.0
"""Of names and numbers: most of what can be wrong with a statement is in them."""
_MISSING = 0.4
"""For every name and number that the stretch lacks."""
_DENIED = 0.4
_ORDER_SHARE = 0.35
_NEAR = 6
"""Content words between two that were neighbours in the statement."""
_SHORT, _LONG = 2, 4
"""Content words up to which a statement needs its question, and from which it does not."""
_ENOUGH_OF_QUESTION = 0.2
"""Share of the question, by weight; the rest may stand in the documents it leads over."""
_REPEATED = 0.2
"""Of words that a statement takes from its question: they may be the question's own."""
_YES, _FALSE = frozenset({"yes", "tru", "fals"}), "fals"  # stems


@dataclass(frozen=True)
class _Sentence:
    start: int
    end: int
    words: tuple[Word, ...]
    stems: frozenset[str]


@dataclass(frozen=True)
class _Content:
    """A passage, ready to be compared."""

    sentences: tuple[_Sentence, ...]
    title: frozenset[str]
    stems: frozenset[str]
    roots: dict[str, list[str]]
    """The stems by how they begin, for most begin differently from any given one."""
    holders: Counter[str]
    """How many sentences hold a stem."""


@lru_cache(maxsize=4096)
def _content(title: str, text: str) -> _Content:
    found = []
    for start, end in sentences(text):
        words = content_of(text[start:end])
        found.append(_Sentence(start, end, words, stems_of(words)))
    of_title = stems_of(content_of(title))
    stems = of_title.union(*(s.stems for s in found))
    roots: dict[str, list[str]] = {}
    for stem in stems:
        roots.setdefault(stem[:ROOT_LETTERS], []).append(stem)
    holders = Counter(stem for sentence in found for stem in sentence.stems)
    return _Content(tuple(found), of_title, stems, roots, holders)


@dataclass(frozen=True)
class _Claim:
    """What a stretch has to carry.

    Attributes:
        words: Content words of the statement, without repeats.
        asked: Stems of the question that the statement does not repeat.
        need: How much the statement needs its question, in [0, 1].
        weights: Weight by stem, of statement and question.
    """

    words: tuple[Word, ...]
    asked: frozenset[str]
    need: float
    weights: dict[str, float]


class LexicalVerifier:
    """Finds evidence by the words that statement and passage share.

    Args:
        threshold: Score from which a stretch supports a statement, in [0, 1].
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold

    @property
    def fingerprint(self) -> str:
        """The method and its threshold."""
        return f"lexical-1:{self.threshold:g}"

    async def verify(
        self, question: str, answer: str, passages: Sequence[Passage]
    ) -> tuple[Statement, ...]:
        """Return the statements of an answer with the stretches that support them.

        Args:
            question: What was asked; a short answer is read with it.
            answer: What was answered.
            passages: Where support is looked for.
        """
        found = []
        for start, end in statements_in(answer):
            best = evidence_for(answer[start:end], question, passages)
            enough = tuple(e for e in best if e.score >= self.threshold)[:_MOST_EVIDENCE]
            found.append(Statement(start=start, end=end, supported=bool(enough), evidence=enough))
        return tuple(found)


def evidence_for(statement: str, question: str, passages: Sequence[Passage]) -> list[Evidence]:
    """Return the best stretch of every passage for one statement, best first.

    Args:
        statement: One sentence, or a short answer.
        question: What it answers; may be empty.
        passages: Where to look.

    Returns:
        At most one entry per passage, with scores in (0, 1]; whether a score is
        enough is the caller's decision. Equal ones stay in the order of the passages.
    """
    contents = [_content(p.title, p.text) for p in passages]
    claim = _claim(statement, question, contents)
    found = []
    for passage, content in zip(passages, contents, strict=True):
        best = _best_stretch(claim, content)
        if best is not None:
            score, start, end = best
            found.append(Evidence(passage=passage.id, start=start, end=end, score=score))
    return sorted(found, key=lambda evidence: -evidence.score)


def _claim(statement: str, question: str, contents: Sequence[_Content]) -> _Claim:
    words = tuple({w.stem: w for w in content_of(statement)}.values())
    asked = tuple({w.stem: w for w in content_of(question)}.values())
    own = stems_of(words)
    if own <= _YES:  # "Yes" says what was asked, and "no" denies it.
        denied = has_negation(statement) or _FALSE in own
        words, asked = tuple(w._replace(negated=denied) for w in asked), ()
        own = stems_of(words)
    held = sum(len(content.sentences) for content in contents)
    repeated = own & stems_of(asked)
    weights = {}
    for word in (*words, *asked):
        # A word that no sentence holds may be another word for something, so it
        # weighs no more than one that a single sentence holds.
        holders = max(1, sum(content.holders[word.stem] for content in contents))
        emphasis = _EMPHASIS if word.name or word.number else 1.0
        weights[word.stem] = emphasis * math.log1p(held / holders)
        if word.stem in repeated:
            weights[word.stem] *= _REPEATED
    need = min(1.0, max(0.0, (_LONG - len(own)) / (_LONG - _SHORT))) if asked else 0.0
    return _Claim(words, stems_of(asked) - own, need, weights)


def _best_stretch(claim: _Claim, content: _Content) -> tuple[float, int, int] | None:
    """Return score, start and end of the best stretch; of equals the shortest, then the first."""
    given = columns = _credits(claim, content)
    if not any(map(any, columns)):
        return None
    coverage = _Coverage(claim, content.title)
    best: tuple[float, int, int] | None = None
    for width in range(1, min(_MOST_SENTENCES, len(content.sentences)) + 1):
        factor = _WIDTH_FACTOR ** (width - 1)
        if best is not None and factor <= best[0]:
            break  # nothing so wide can be better
        if width > 1:
            given = [
                tuple(map(max, a, b)) for a, b in zip(given, columns[width - 1 :], strict=False)
            ]
        for first, credits in enumerate(given):
            if not any(credits):
                continue
            score = coverage(credits) * factor
            # What follows only lowers a score, and is the dearer part.
            if best is not None and score <= best[0]:
                continue
            stretch = content.sentences[first : first + width]
            score *= _order(claim, stretch) * _polarity(claim, stretch)
            score *= _relevance(claim, content.title, stretch)
            if score > 0.0 and (best is None or score > best[0]):
                best = (min(1.0, score), stretch[0].start, stretch[-1].end)
    return best


def _credits(claim: _Claim, content: _Content) -> list[tuple[float, ...]]:
    """Return, for each sentence, how far it holds each word: 1, less for one root, or 0.

    An entry per sentence, and in it one per word of the claim.
    """
    rows = []
    for word in claim.words:
        stem = word.stem
        near = [] if word.number else content.roots.get(stem[:ROOT_LETTERS], [])
        alike = [s for s in near if same_root(stem, s)]
        if not alike:
            rows.append([1.0 if stem in s.stems else 0.0 for s in content.sentences])
            continue
        rows.append(
            [
                1.0 if stem in s.stems else 0.0 if s.stems.isdisjoint(alike) else _SAME_ROOT
                for s in content.sentences
            ]
        )
    return list(zip(*rows, strict=True))


class _Coverage:
    """The share of a claim by weight, lower for every name and number that is missing.

    Args:
        claim: The claim.
        title: Stems of the passage's title, which says who "it" is.
    """

    def __init__(self, claim: _Claim, title: frozenset[str]) -> None:
        self._weights = [claim.weights[word.stem] for word in claim.words]
        self._total = sum(self._weights)
        self._title = tuple(float(word.stem in title) for word in claim.words)
        self._needed = [i for i, word in enumerate(claim.words) if word.name or word.number]

    def __call__(self, credits: Sequence[float]) -> float:
        """Return the share in [0, 1] that a stretch covers, from what it holds of each word."""
        if not self._total:
            return 0.0
        credits = tuple(map(max, credits, self._title))
        missing = sum(not credits[i] for i in self._needed)
        return float(sum(map(mul, self._weights, credits)) / self._total * _MISSING**missing)


def _order(claim: _Claim, stretch: Sequence[_Sentence]) -> float:
    """Return a factor that falls where neighbours of the claim stand far apart in the stretch."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(word for sentence in stretch for word in sentence.words):
        places.setdefault(word.stem, []).append(place)
    pairs = near = 0
    for one, other in zip(claim.words, claim.words[1:], strict=False):
        if one.stem in places and other.stem in places:
            pairs += 1
            left, right = places[one.stem], places[other.stem]
            near += any(abs(a - b) <= _NEAR for a in left for b in right)
    return 1.0 - _ORDER_SHARE * (1.0 - near / pairs) if pairs else 1.0


def _polarity(claim: _Claim, stretch: Sequence[_Sentence]) -> float:
    """Return 1, or less where a word is negated on one side alone."""
    said: dict[str, set[bool]] = {}
    for sentence in stretch:
        for word in sentence.words:
            said.setdefault(word.stem, set()).add(word.negated)
    denied = any(w.stem in said and w.negated not in said[w.stem] for w in claim.words)
    return _DENIED if denied else 1.0


def _relevance(claim: _Claim, title: frozenset[str], stretch: Sequence[_Sentence]) -> float:
    """Return a factor that falls where a short answer's stretch says little of the question."""
    if not claim.need or not claim.asked:
        return 1.0
    held = title.union(*(sentence.stems for sentence in stretch))
    asked = math.fsum(claim.weights[stem] for stem in claim.asked)
    spoken = math.fsum(claim.weights[stem] for stem in claim.asked & held)
    share = min(1.0, spoken / asked / _ENOUGH_OF_QUESTION)
    return 1.0 - claim.need * (1.0 - share)
