"""Cases with known answers, made from questions with references and their documents.

Right are the references; wrong are answers of several kinds that a judge is known to fall
for. All is drawn by the seed and the question's id alone, so that the cases of a question
do not depend on how many others there are (answers of other rows excepted).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from reflectory.agents.citations import content_words
from reflectory.errors import UserError
from reflectory.evaluation.held_out import HeldOutItem
from reflectory.evaluation.judge.spans import Span, overlap, spans_of, type_of
from reflectory.evaluation.metrics import normalise_answer
from reflectory.retrieval.sentences import sentences
from reflectory.retrieval.structure import Extraction, Extractor, RuleExtractor

RIGHT, PADDED, PADDED_WRONG, WORDING = "right", "padded", "padded wrong", "wording"
OTHER_ROWS, SAME_DOCUMENTS, SAME_TYPE = "other rows", "same documents", "same type"
OTHER_OPTION, OPPOSITE = "other option", "opposite"
ECHO, COPY, EMPTY = "echo", "copy", "empty"

WRONG_KINDS = (
    SAME_DOCUMENTS,
    SAME_TYPE,
    OTHER_ROWS,
    OTHER_OPTION,
    OPPOSITE,
    ECHO,
    COPY,
    EMPTY,
)
"""What right answers are told from, in the order of the report."""

EMPTY_PHRASES = (
    "I do not know.",
    "The documents do not say.",
    "The answer can be found in the documents.",
)
_CLOSED = {"yes": "no", "no": "yes"}
_ARTICLES = ("the ", "a ", "an ")
_FEWEST_WORDS = 4
_TRIES = 20


@dataclass(frozen=True)
class TrialCase:
    """One answer to judge, with the truth about it.

    Attributes:
        item: Place of its question in the trial, from 0.
        text: The answer.
        right: Whether it is right.
        kinds: What it is a case of; an answer can be of several kinds.
        of: The answer that this one is a version of, where it is one (padded, or in other
            words).
    """

    item: int
    text: str
    right: bool
    kinds: tuple[str, ...]
    of: str | None = None


def padded(answer: str) -> str:
    """Return the answer among words that say nothing."""
    return (
        f"According to the documents that were given, the answer to this question is "
        f"{_without_stop(answer)}. This is what is written there, and it answers the question "
        "that was asked."
    )


def wordings(answer: str) -> tuple[str, ...]:
    """Return the answer with and without what changes nothing: a final stop, an article."""
    bare = _without_stop(answer)
    found = [bare if answer.strip() != bare else f"{bare}."]
    found += [
        bare[len(article) :]
        for article in _ARTICLES
        if bare.lower().startswith(article) and len(bare) > len(article)
    ]
    return tuple(text for text in dict.fromkeys(found) if text != answer.strip())


def make_cases(
    items: Sequence[HeldOutItem],
    *,
    seed: int = 0,
    wrong_per_kind: int = 4,
    known_right: Mapping[str, Sequence[str]] | None = None,
    extractor: Extractor | None = None,
) -> list[TrialCase]:
    """Make right and wrong answers to questions.

    A question whose answer is yes or no gets the opposite as its only wrong answer, and its
    answer is nobody else's. What overlaps with a reference is no wrong answer.

    Args:
        items: Questions with references and documents.
        seed: Of what is drawn.
        wrong_per_kind: Most wrong answers of a kind, and most right ones, per question.
        known_right: Texts that are known to be right besides the references, by question.
        extractor: Finds names and dates in the documents; rules when ``None``.

    Returns:
        The cases in the order of the questions, without repeats.

    Raises:
        UserError: There are no questions, an id repeats, or ``wrong_per_kind`` is below 1.
    """
    if not items or len({item.id for item in items}) != len(items):
        raise UserError(
            "a trial needs questions, each with an id of its own", hint="give at least one"
        )
    if wrong_per_kind < 1:
        raise UserError(f"{wrong_per_kind} wrong answers are none", hint="ask for 1 or more")
    rules = extractor or RuleExtractor()

    @cache
    def extract(text: str) -> Extraction:
        return rules.extract([text])[0]

    pool = _open_answers(items)
    known = known_right or {}
    return [
        case
        for place, item in enumerate(items)
        for case in _Maker(item, place, seed, wrong_per_kind, extract).cases(
            pool, known.get(item.id, ())
        )
    ]


def _open_answers(items: Iterable[HeldOutItem]) -> list[tuple[str, str]]:
    """Return (id, first reference) of the questions that are not answered by yes or no."""
    return [
        (item.id, item.references[0])
        for item in items
        if normalise_answer(item.references[0]) not in _CLOSED
    ]


class _Maker:
    """Makes the cases of one question."""

    def __init__(
        self,
        item: HeldOutItem,
        place: int,
        seed: int,
        most: int,
        extract: Callable[[str], Extraction],
    ) -> None:
        self._item = item
        self._place = place
        self._seed = seed
        self._most = most
        self._extract = extract
        self._closed = normalise_answer(item.references[0]) in _CLOSED

    def cases(self, pool: Sequence[tuple[str, str]], known: Sequence[str]) -> list[TrialCase]:
        right = _distinct([*self._item.references, *known])[: self._most]
        wrong = self._opposite() if self._closed else self._wrong(pool)
        truths = {normalise_answer(text) for text in (*self._item.references, *known)}
        kinds: dict[str, list[str]] = {}
        for kind, text in wrong:
            if text.strip() and normalise_answer(text) not in truths:
                kinds.setdefault(text, []).append(kind)
        made = [self._case(text, (RIGHT,), True) for text in right]
        made += [self._case(text, tuple(dict.fromkeys(of)), False) for text, of in kinds.items()]
        return made + self._versions(right[0], next(iter(kinds), None))

    def _case(
        self, text: str, kinds: tuple[str, ...], right: bool, of: str | None = None
    ) -> TrialCase:
        return TrialCase(self._place, text, right, kinds, of)

    def _versions(self, right: str, wrong: str | None) -> list[TrialCase]:
        """Return the first right and the first wrong answer padded and in other words."""
        made = []
        for text, kind in ((right, PADDED), (wrong, PADDED_WRONG)):
            if text is not None:
                truth = text == right
                made.append(self._case(padded(text), (kind,), truth, text))
                made += [self._case(w, (WORDING,), truth, text) for w in wordings(text)]
        return made

    def _opposite(self) -> list[tuple[str, str]]:
        given = self._item.references[0].strip()
        other = _CLOSED[normalise_answer(given)]
        return [(OPPOSITE, other.capitalize() if given[0].isupper() else other)]

    def _wrong(self, pool: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        named, phrases = spans_of(self._item.context, self._extract)
        wanted = type_of(self._item.references[0])
        free = [span for span in named if self._is_wrong(span.text, asked=True)]
        alike = [span for span in free if span.type == wanted]
        # Two kinds: whatever else the documents name, and what only reading can tell apart.
        found = [(SAME_DOCUMENTS, span.text) for span in self._drawn(SAME_DOCUMENTS, free)]
        found += [(SAME_TYPE, span.text) for span in self._drawn(SAME_TYPE, alike)]
        if wanted == "phrase":
            free = [span for span in phrases if self._is_wrong(span.text, asked=True)]
            found += [(SAME_TYPE, span.text) for span in self._drawn("phrase", free)]
        found += [(OTHER_ROWS, text) for text in self._of_other_rows(pool)]
        found += [(OTHER_OPTION, span.text) for span in self._other_options(named)]
        found.append((ECHO, self._item.question))
        found += [(COPY, text) for text in self._copied()]
        found.append((EMPTY, EMPTY_PHRASES[self._place % len(EMPTY_PHRASES)]))
        return found

    def _is_wrong(self, text: str, *, asked: bool) -> bool:
        """Return whether a text overlaps with no reference (and not with the question)."""
        if asked and overlap(text, self._item.question):
            return False
        return not any(overlap(text, reference) for reference in self._item.references)

    def _drawn(self, name: str, spans: Sequence[Span]) -> list[Span]:
        """Return some of the spans, none of which is a part of another one."""
        shuffled = list(spans)
        self._random(name).shuffle(shuffled)
        chosen: list[Span] = []
        for span in shuffled:
            if len(chosen) == self._most:
                break
            if not any(overlap(span.text, other.text) for other in chosen):
                chosen.append(span)
        return chosen

    def _random(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}|{self._item.id}|{name}")

    def _of_other_rows(self, pool: Sequence[tuple[str, str]]) -> list[str]:
        found: dict[str, str] = {}
        tried = min(len(pool), _TRIES * self._most)  # of ten thousand rows not all
        for place in self._random(OTHER_ROWS).sample(range(len(pool)), tried):
            owner, text = pool[place]
            if owner != self._item.id and self._is_wrong(text, asked=False):
                found.setdefault(normalise_answer(text), text)
            if len(found) == self._most:
                break
        return list(found.values())

    def _other_options(self, named: Sequence[Span]) -> list[Span]:
        """Return the names of a question that names its answer, without the answer."""
        asked = f" {normalise_answer(self._item.question)} "

        def stands_there(text: str) -> bool:
            return f" {normalise_answer(text)} " in asked

        if not any(map(stands_there, self._item.references)):
            return []
        options = [
            span
            for span in named
            if stands_there(span.text) and self._is_wrong(span.text, asked=False)
        ]
        return self._drawn(OTHER_OPTION, options)

    def _copied(self) -> list[str]:
        """Return the sentence nearest to the question that holds nothing of a reference."""
        asked = set(content_words(self._item.question))
        best: tuple[float, str] | None = None
        for passage in self._item.context:
            for start, end in sentences(passage.text):
                text = " ".join(passage.text[start:end].split())
                words = content_words(text)
                if len(words) < _FEWEST_WORDS or not self._is_wrong(text, asked=False):
                    continue
                near = len(asked & set(words)) / len(words) ** 0.5
                if best is None or near > best[0]:
                    best = (near, text)
        return [] if best is None else [best[1]]


def _without_stop(text: str) -> str:
    bare = text.strip()
    return bare[:-1].rstrip() if bare.endswith(".") and len(bare) > 1 else bare


def _distinct(texts: Iterable[str]) -> list[str]:
    found: dict[str, str] = {}
    for text in texts:
        if text.strip():
            found.setdefault(normalise_answer(text), text.strip())
    return list(found.values())
