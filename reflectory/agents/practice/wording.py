"""How questions are written down, and which of them are fit to be asked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from reflectory.agents.practice.lexicon import BROKEN, LINKING, NOT_A_NAME, SPACE_BEFORE
from reflectory.retrieval.structure.lexicon import FUNCTION_WORDS

MOST_WORDS = 32
"""Words of a question."""

_LEAST_WORDS = 4
_LONGEST_TITLE = 80


@dataclass(frozen=True)
class Gap:
    """A stretch of a sentence, and the ways to ask for it.

    Attributes:
        answer: The stretch, without articles.
        kind: ``date``, ``number``, ``name`` or ``phrase``.
        questions: Ways to ask for it, none of which holds it.
        clause: The rest of the sentence as a relative clause, as in *that Anna wrote*;
            empty where there is none.
        sentence: The sentence, as the passage has it but without brackets.
    """

    answer: str
    kind: str
    questions: tuple[str, ...]
    clause: str
    sentence: str


def question_of(text: str) -> str:
    """Return words as a question: one space between two, a capital, and one question mark."""
    text = SPACE_BEFORE.sub(r"\1", " ".join(text.split())).rstrip(" .,;:!")
    return text[:1].upper() + text[1:] + "?"


def gap_of(
    answer: str, kind: str, questions: Iterable[str], clause: str, sentence: str
) -> Gap | None:
    """Return a gap with those of its questions that can be asked; ``None`` without one.

    A question has to be of some length, may hold neither its answer nor the end of another
    sentence, and loses what ties it to the sentence before.
    """
    kept = tuple(
        q
        for q in (LINKING.sub("", question) for question in questions)
        if _LEAST_WORDS <= len(q.split()) <= MOST_WORDS
        and answer.casefold() not in q.casefold()
        and not BROKEN.search(q)
        and q.count('"') % 2 == 0
        and q.count("?") == 1
    )
    if not kept:
        return None
    clause = LINKING.sub("", " ".join(clause.split()))
    return Gap(answer, kind, kept, clause, " ".join(sentence.split()))


def is_nameable(title: str, text: str) -> bool:
    """Return whether *it* can be read as a title: the title is a name, or the text calls it so.

    Args:
        title: What a document is about, as in *Lake Cheko* or *Beer stein*.
        text: A passage of it.
    """
    first, *others = title.split() or [""]
    if not first or first.lower() in NOT_A_NAME or len(title) > _LONGEST_TITLE:
        return False
    small = [w for w in others if w[:1].islower() and w.lower() not in FUNCTION_WORDS]
    if not small and " and " not in title:
        return True
    return re.search(rf"(?<!# ){re.escape(title)}(?= \w)", text, re.IGNORECASE) is not None
