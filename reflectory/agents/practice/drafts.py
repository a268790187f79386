"""Drafts of questions: what could be asked about the documents, each with its answer."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

from reflectory.agents.practice.gaps import class_of, gaps_in
from reflectory.agents.practice.wording import Gap
from reflectory.retrieval.structure import name_key
from reflectory.types import Passage

Kind = Literal["fact", "bridge", "comparison"]

_MOST_RIVALS = 6
_MOST_WORDS = 36
_YEAR = re.compile(r"\b(\d{4})\b")
_T = TypeVar("_T")
_QUALIFIER = re.compile(r"(?<!\s)\s*+\([^()]*\)\s*$")
_BORN = re.compile(r"When was (.+) born\?")
_PLURALS = {"human": "humans", "person": "people", "child": "children"}


@dataclass(frozen=True)
class Draft:
    """What could be asked, and what the answer is.

    Attributes:
        kind: ``fact``, ``bridge`` or ``comparison``.
        answer: A stretch of a passage, or ``yes`` or ``no``.
        questions: Ways to ask for it.
        passages: What has to be read for it.
        rivals: What else of these passages could be taken for the answer.
    """

    kind: Kind
    answer: str
    questions: tuple[str, ...]
    passages: tuple[Passage, ...]
    rivals: tuple[str, ...] = ()

    @property
    def documents(self) -> frozenset[str]:
        """Ids of the documents of the passages."""
        return frozenset(p.document_id for p in self.passages)


class Drafter:
    """Reads passages once and drafts questions from them.

    Args:
        passages: In any order; those of one document belong together by ``document_id``.
        seed: Which pairs of documents are compared, where there are many.
    """

    def __init__(self, passages: Sequence[Passage], seed: int = 0) -> None:
        self.passages = tuple(passages)
        self._random = random.Random(seed)
        self._gaps = {p.id: tuple(gaps_in(p.text, subject_of(p))) for p in self.passages}

    def facts(self, passage: Passage) -> list[Draft]:
        """Return what a passage answers by itself, in its order."""
        return [
            Draft("fact", gap.answer, gap.questions, (passage,), self._rivals(gap, passage))
            for gap in self._gaps[passage.id]
        ]

    def bridges(self) -> list[Draft]:
        """Return what one document says about something that only another one describes.

        A passage says something of a name, and a document is about that name: the
        question puts what the first one says in the place of the name.
        """
        found: list[Draft] = []
        for passage in self.passages:
            for gap in self._gaps[passage.id]:
                key = name_key(gap.answer)
                if gap.kind != "name" or not gap.clause or key not in self._about:
                    continue
                for other in self._about[key]:
                    if other.document_id != passage.document_id:
                        found += self._joined(passage, gap, other)
        return found

    def comparisons(self, most: int) -> list[Draft]:
        """Return questions about two documents, half of them with the answer yes or no.

        Args:
            most: How many at most; pairs are drawn.
        """
        if most < 1:
            return []
        drafts = [*self._earlier(most), *self._alike(most)]
        self._random.shuffle(drafts)
        return drafts[:most]

    def _joined(self, passage: Passage, gap: Gap, other: Passage) -> Iterator[Draft]:
        subject, kind = subject_of(other), class_of(other.text)
        if not kind:
            return
        described = f"the {kind} {gap.clause}"
        # As a whole word, and not as "Lake Roe's bottom": what is described takes no 's.
        named = re.compile(rf"(?<!\w){re.escape(subject)}(?!\w|['’]s)", re.IGNORECASE)  # noqa: RUF001
        if named.search(described):
            return  # it would be called by name all the same
        for question in self._gaps[other.id]:
            ways = tuple(
                q[: at.start()] + described + q[at.end() :]
                for q in question.questions
                if (at := named.search(q))
                and len(q.split()) + len(described.split()) <= _MOST_WORDS
                and question.answer.casefold() not in described.casefold()
            )
            if ways and name_key(question.answer) != name_key(gap.answer):
                rivals = (gap.answer, *self._rivals(question, other))[:_MOST_RIVALS]
                yield Draft("bridge", question.answer, ways, (passage, other), rivals)

    def _earlier(self, most: int) -> Iterator[Draft]:
        """Yield who of two was born first, by dates that their first passages state."""
        born = [(year, p) for p in self._first if (year := self._birth_year(p)) is not None]
        for (year, one), (other_year, other) in self._pairs(born, most):
            a, b = subject_of(one), subject_of(other)
            if year != other_year and a.casefold() != b.casefold():
                first, second = (one, other) if year < other_year else (other, one)
                yield Draft(
                    "comparison",
                    subject_of(first),
                    (f"Who was born first, {a} or {b}?",),
                    (one, other),
                    (subject_of(second),),
                )

    def _birth_year(self, passage: Passage) -> int | None:
        """Return when the subject of a document was born, and not when its children were."""
        said = " ".join(passage.text.split())
        for gap in self._gaps[passage.id]:
            found = _YEAR.search(gap.answer)
            asked = _BORN.fullmatch(gap.questions[0])
            if gap.kind == "date" and found and asked:
                who = asked[1]
                if who == subject_of(passage) or said.startswith(who):
                    return int(found[1])
        return None

    def _alike(self, most: int) -> Iterator[Draft]:
        """Yield whether two are both of a kind, as their first sentences say it.

        Not of a kind is only what says nothing of it: an actor may be a director too.
        """
        kinds = [(class_of(p.text), p) for p in self._first]
        known = [(kind, p) for kind, p in kinds if kind and subject_of(p)]
        by_head: dict[str, list[tuple[str, Passage]]] = defaultdict(list)
        for kind, passage in known:
            by_head[kind.split()[-1].casefold()].append((kind, passage))
        same = [pair for group in by_head.values() for pair in self._pairs(group, most)]
        self._random.shuffle(same)
        other = self._pairs(known, 2 * most)
        for pairs, wanted in ((same, True), (other, False)):
            made = 0
            for (kind, one), (second_kind, two) in pairs:
                head = kind.split()[-1]
                if (head.casefold() == second_kind.split()[-1].casefold()) is not wanted:
                    continue
                a, b = subject_of(one), subject_of(two)
                if a.casefold() == b.casefold() or (
                    not wanted and head.casefold() in two.text.casefold()
                ):
                    continue
                yield Draft(
                    "comparison",
                    "yes" if wanted else "no",
                    (f"Are {a} and {b} both {_plural(head)}?",),
                    (one, two),
                    ("no" if wanted else "yes",),
                )
                made += 1
                if made >= most // 4 + 1:
                    break

    def _pairs(self, items: Sequence[_T], most: int) -> list[tuple[_T, _T]]:
        """Return pairs of different items, drawn; each item in few of them, no pair twice."""
        order = list(range(len(items)))
        found: dict[frozenset[int], tuple[_T, _T]] = {}
        for _ in range(3):
            self._random.shuffle(order)
            for one, other in zip(order[::2], order[1::2], strict=False):
                found.setdefault(frozenset({one, other}), (items[one], items[other]))
            if len(found) >= most:
                break
        return list(found.values())[:most]

    def _rivals(self, gap: Gap, passage: Passage) -> tuple[str, ...]:
        own = gap.answer.casefold()
        others = [g for g in self._gaps[passage.id] if g.answer.casefold() != own]
        others.sort(key=lambda g: g.kind != gap.kind)
        return tuple(dict.fromkeys(g.answer for g in others))[:_MOST_RIVALS]

    @cached_property
    def _first(self) -> list[Passage]:
        """The first passages of the documents that have a title, one of each."""
        first = {p.document_id: p for p in reversed(self.passages) if p.start == 0}
        return [p for p in reversed(first.values()) if subject_of(p)]

    @cached_property
    def _about(self) -> dict[str, list[Passage]]:
        """The passages of documents by what these are about."""
        found: dict[str, list[Passage]] = defaultdict(list)
        for passage in self._first:
            found[name_key(subject_of(passage))].append(passage)
        return dict(found)


def subject_of(passage: Passage) -> str:
    """Return what a passage's document is about: its title without ``(...)``."""
    return _QUALIFIER.sub("", passage.title).strip()


def _plural(noun: str) -> str:
    if noun.lower() in _PLURALS:
        return _PLURALS[noun.lower()]
    if noun.endswith("s"):
        return noun
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    if noun.endswith(("x", "z", "ch", "sh")):
        return noun + "es"
    return noun[:-3] + "men" if noun.endswith("man") else noun + "s"
