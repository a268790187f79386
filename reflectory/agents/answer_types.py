"""What kind of answer a question asks for, and what kind an answer is; English, by rules.

*Who* asks for a name, *when* for a date, *how many* for a number, *is it* for yes or no;
*why* and *how* ask for an explanation. A small model answers a question for a year with a
name, so whether the kinds fit tells right from wrong where likelihoods do not.
"""

from __future__ import annotations

import re
from enum import StrEnum

from reflectory.agents.citations import content_words


class AnswerType(StrEnum):
    """What a question asks for."""

    DATE = "date"
    NUMBER = "number"
    PERSON = "person"
    PLACE = "place"
    THING = "thing"
    """A name or a phrase; what most questions with *what* and *which* ask for."""
    CHOICE = "choice"
    """One of what the question itself names."""
    YES_NO = "yes or no"
    EXPLANATION = "explanation"
    """More than a few words: *why*, *how*, *explain*, or no question at all."""


class AnswerForm(StrEnum):
    """What a short answer looks like."""

    DATE = "date"
    NUMBER = "number"
    NAME = "name"
    PHRASE = "phrase"
    YES_NO = "yes or no"


_FITTING: dict[AnswerType, dict[AnswerForm, float]] = {
    AnswerType.DATE: {AnswerForm.DATE: 1.0, AnswerForm.NUMBER: 0.5},
    AnswerType.NUMBER: {AnswerForm.NUMBER: 1.0, AnswerForm.DATE: 0.5},
    AnswerType.PERSON: {AnswerForm.NAME: 1.0},
    # "Where are seeds made?": places of science have no capital.
    AnswerType.PLACE: {AnswerForm.NAME: 1.0, AnswerForm.PHRASE: 0.3},
    AnswerType.THING: {AnswerForm.NAME: 1.0, AnswerForm.PHRASE: 1.0},
    AnswerType.CHOICE: {
        AnswerForm.NAME: 1.0,
        AnswerForm.PHRASE: 1.0,
        AnswerForm.DATE: 1.0,
        AnswerForm.NUMBER: 1.0,
    },
    AnswerType.YES_NO: {AnswerForm.YES_NO: 1.0},
    AnswerType.EXPLANATION: {AnswerForm.PHRASE: 1.0},
}

_WH = r"\b(?:what|which)\s+(?:[\w'\u2019-]+\s+){0,3}?"
_AUXILIARY = re.compile(
    r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|may|might|must)\b"
)
_DATE = re.compile(
    _WH + r"(?:year|date|month|day|decade|century|season)s?\b"
    r"|^when\b|\b(?:and|in|on|,) when\b|\bwhen (?:is|was|were|did|does|do|has|had|will)\b"
)
_NUMBER = re.compile(
    r"\bhow (?:many|much|old|long|far|tall|high|large|big|deep|fast|often|heavy|wide)\b"
    r"|\b(?:what|which)\s+(?:(?:is|was|are|were)\s+the\s+)?(?:\w+\s+)?"
    r"(?:number|percentage|percent|population|age|distance|length|height|weight|amount|speed|"
    r"temperature)\b"
)
_PERSON = re.compile(
    r"^(?:who|whom|whose)\b|\b(?:by|to|with|from|of) whom\b|" + _WH + r"(?:actor|actress|director|"
    r"author|writer|singer|musician|politician|president|player|footballer|artist|scientist|king|"
    r"queen|person|man|woman|composer|poet|coach|manager|founder|character|minister|senator|"
    r"governor|lawyer|judge|philosopher|rapper|comedian|producer|designer|architect|explorer|"
    r"inventor|biologist|chemist|physicist|engineer)s?\b"
)
_WHO = re.compile(r"\bwho (?:is|was|are|were|did|has|had|wrote|directed|won|played|made)\b")
_OTHER_WH = re.compile(r"\b(?:what|which|where|when|how)\b")
_PLACE = re.compile(
    r"^(?:where|from where)\b|\b(?:in|from|is|was) where\b|"
    + _WH
    + r"(?:city|country|state|county|"
    r"town|village|place|location|region|province|island|continent|river|mountain|street|"
    r"district|area|nation|capital|borough|suburb|stadium|airport)\b"
)
_EXPLANATION = re.compile(
    r"^(?:please\s+)?(?:why|how|explain|describe|compare|summari[sz]e|discuss|list|tell|write|show|"
    r"give|outline|analy[sz]e)\b|\bwhy\b|\bin what (?:way|sense)\b|\bhow (?:is|are|was|were|do|"
    r"does|did|can|could|has|have)\b"
)
_CLAUSE = re.compile(
    r"^(?:when|where|if|while|as|because|although)\b[^,]*,\s*(?=.*\b(?:what|who|which|how))"
)
_ASKS = re.compile(r"\b(?:what|which|who|whom|whose|where|when|how)\b")
_YEAR = re.compile(r"\b(?:1\d{3}|20\d{2})s?\b")
_MONTH = re.compile(
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
)
_FIGURE = re.compile(r"[\d.,%$\u20ac\u00a3 -]*\d[\d.,%$\u20ac\u00a3 -]*\w*(?: \w+){0,2}")
_COUNT_NAMES = (
    "one two three four five six seven eight nine ten eleven twelve hundred thousand million "
    "billion dozen both none"
)
_COUNT = frozenset(_COUNT_NAMES.split())
_DATE_WORDS, _COUNT_WORDS = 4, 3


def expected_type(question: str) -> AnswerType:
    """Return what a question or instruction asks for."""
    asked = _CLAUSE.sub("", " ".join(question.lower().split()))
    if _AUXILIARY.match(asked):
        return AnswerType.CHOICE if re.search(r"\bor\b", asked) else AnswerType.YES_NO
    number = _NUMBER.search(asked)
    if number and not _ASKS.search(asked[: number.start()]):  # "what tells you how much"
        return AnswerType.NUMBER
    if _EXPLANATION.search(asked) or not (_ASKS.search(asked) or asked.endswith("?")):
        return AnswerType.EXPLANATION
    if _DATE.search(asked):
        return AnswerType.DATE
    if _PERSON.search(asked):
        return AnswerType.PERSON
    if _PLACE.search(asked):
        return AnswerType.PLACE
    if _WHO.search(asked) and not _OTHER_WH.search(asked):
        return AnswerType.PERSON
    return AnswerType.THING


def form_of(answer: str) -> AnswerForm:
    """Return what an answer looks like; a sentence is a phrase."""
    text = answer.strip().rstrip(".")
    words = text.split()
    if text.lower() in {"yes", "no"}:
        return AnswerForm.YES_NO
    if len(words) <= _DATE_WORDS and (_YEAR.search(text) or _MONTH.search(text)):
        return AnswerForm.DATE
    if _FIGURE.fullmatch(text):
        return AnswerForm.NUMBER
    if words and len(words) <= _COUNT_WORDS and words[0].lower() in _COUNT:
        return AnswerForm.NUMBER
    long = [word for word in words if len(word) > 3] or words
    capital = sum(word[:1].isupper() for word in long)
    return AnswerForm.NAME if capital > len(long) / 2 else AnswerForm.PHRASE


def type_fit(question: str, answer: str) -> float:
    """Return how well the form of an answer fits what the question asks for, in [0, 1].

    A longer answer fits when any of its stretches could: its form says nothing then, and it
    gets the half. A choice has to be one of what the question names.
    """
    wanted = expected_type(question)
    words = answer.split()
    if wanted is AnswerType.EXPLANATION:
        return 1.0 if len(words) > _DATE_WORDS else 0.5
    if len(words) > 2 * _DATE_WORDS:
        return 0.5
    if wanted is AnswerType.CHOICE and not set(content_words(answer)) <= set(
        content_words(question)
    ):
        return 0.0
    return _FITTING[wanted].get(form_of(answer), 0.0)
