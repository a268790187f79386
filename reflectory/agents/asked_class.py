"""The class of thing that a question asks for: the noun behind *what* and *which*; English.

"What award was it a finalist for?" asks for an award, and a model knows which names are
those of awards without reading any document.
"""

from __future__ import annotations

import re
from itertools import pairwise

from reflectory.agents.answer_types import AnswerType, expected_type
from reflectory.retrieval.sentences import words
from reflectory.retrieval.structure.lexicon import DETERMINERS, FUNCTION_WORDS, PRONOUNS
from reflectory.retrieval.structure.verbs import BASES, IRREGULAR_PAST, PRESENT

_OF = (
    r"(?:(?:\w+\s+)?(?:kind|type|sort|form|name|term|one|part|example|group|piece)s?\s+"
    r"(?:of|for)\s+(?:(?:the|an?|these|those)\s+)?)?"
)
_BE = r"(?:(?:are|is|was|were)\s+(?:the|an?|its|their|his|her)\s+)?"
_WHAT = re.compile(rf"\bwhat\s+{_BE}{_OF}")
_WHICH = re.compile(rf"(?:^|\b(?:in|on|at|by|to|of|from|for|with)\s+)which\s+{_BE}{_OF}")
_WHO_WHEN = re.compile(r"^(?:who|whom|whose|when|where|how)\b")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*")
_BARE = {
    AnswerType.PERSON: "person",
    AnswerType.PLACE: "place",
    AnswerType.DATE: "date",
    AnswerType.NUMBER: "number",
}
_EMPTY = words("kind type sort form name term thing one part example group piece")


def asked_class(question: str) -> str:
    """Return what a question asks for in one word, such as ``award``; empty when unsaid.

    It is the noun that belongs to *what* or *which*, without what stands before it; of *who*
    and *where* it is ``person`` and ``place``.
    """
    wanted = expected_type(question)
    if wanted in (AnswerType.YES_NO, AnswerType.CHOICE, AnswerType.EXPLANATION):
        return ""
    asked = " ".join(question.lower().split())
    if not _WHO_WHEN.match(asked):
        for place in (*_WHAT.finditer(asked), *_WHICH.finditer(asked)):
            noun = _noun_at(asked, place.end())
            if noun and noun[-1] not in _EMPTY:
                return noun[-1]
    return _BARE.get(wanted, "")


def _noun_at(text: str, start: int) -> list[str]:
    """Return the words of a noun phrase that begins at a place, up to a verb or a small word."""
    found: list[str] = []
    end = start
    for match in _WORD.finditer(text, start):
        if text[end : match.start()].strip(" \"'\u201c\u201d"):
            break  # a comma, a number, the end of the sentence
        found.append(match.group())
        end = match.end()
    noun: list[str] = []
    for word, following in pairwise([*found, ""]):
        if word.endswith(("'s", "\u2019s")):
            return []  # "what country's team" asks for a team
        if word in FUNCTION_WORDS or word.endswith("ly"):
            break
        goes_on = following in DETERMINERS or following in PRONOUNS
        is_verb = word in PRESENT and (noun or goes_on or following in FUNCTION_WORDS)
        is_bare = word in BASES and (goes_on or (noun and noun[-1].endswith("s")))
        if is_verb or is_bare or (noun and word in IRREGULAR_PAST):
            break
        noun.append(word)
    return noun
