"""What a verifier is: a question, an answer and passages in; statements with evidence out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from reflectory.retrieval.sentences import sentences
from reflectory.types import Answer, Passage, Statement

_LETTERS = re.compile(r"\w")
_QUESTION = re.compile("[?\uff1f\u061f][\"'\u201d\u2019)\\]]*$")
# What says that nothing is known states nothing about the documents' subject.
_ABSTENTION = re.compile(
    r"\b(?:i|we) (?:do not|don['\u2019]?t|cannot|can['\u2019]?t) (?:know|tell|say|answer|find)\b"
    r"|\b(?:documents?|passages?|texts?|context|sources?) (?:do|does) not "
    r"(?:say|state|mention|tell|provide|contain|give)\b"
    r"|^(?:not (?:stated|mentioned|known|given)|unknown|no answer)\W*$",
    re.IGNORECASE,
)


@runtime_checkable
class Verifier(Protocol):
    """Says which statements of an answer the passages in use support, and where.

    The default compares words (:class:`~reflectory.agents.verification.LexicalVerifier`);
    a model of entailment or a language model can take its place.

    Contract: ``verify`` may be called many times at once, returns the same for the
    same arguments, gives the statements in their order without overlap, and names
    only passages that it was given. Where what a model said cannot be read it gives
    no statements: what was not measured is not unsupported, and no reason to lose
    the answer.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of what decides, for records."""
        ...

    async def verify(
        self, question: str, answer: str, passages: Sequence[Passage]
    ) -> tuple[Statement, ...]:
        """Return the statements of an answer with their evidence.

        Args:
            question: What the answer answers; short answers mean nothing without it.
            answer: The text; offsets of the statements count its characters.
            passages: The passages in use, C_t and what the question added.
        """
        ...


def statements_in(answer: str) -> list[tuple[int, int]]:
    """Return the spans of an answer that state something, as (start, end).

    These are its sentences without questions, without "I do not know" and its
    like, and without what holds no letter and no digit.
    """
    return [
        (start, end)
        for start, end in sentences(answer)
        if _LETTERS.search(answer, start, end)
        and not _QUESTION.search(answer[start:end])
        and not _ABSTENTION.search(answer[start:end])
    ]


def groundedness(statements: Sequence[Statement]) -> float | None:
    """Return the share of statements that are supported, in [0, 1]; ``None`` without any."""
    if not statements:
        return None
    return sum(statement.supported for statement in statements) / len(statements)


def with_evidence(answer: Answer, statements: Sequence[Statement]) -> Answer:
    """Return an answer that carries its statements and their groundedness.

    Args:
        answer: What was answered.
        statements: Of its text, in order.
    """
    return answer.model_copy(
        update={"statements": tuple(statements), "groundedness": groundedness(statements)}
    )
