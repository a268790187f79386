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
    """One of two that a closed question names. "Who is older, her father or his?" does not: it
    may describe people whose names it asks for."""
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
    AnswerType.CHOICE: {form: 1.0 for form in AnswerForm if form is not AnswerForm.YES_NO},
    AnswerType.YES_NO: {AnswerForm.YES_NO: 1.0},
    AnswerType.EXPLANATION: {AnswerForm.PHRASE: 1.0},
}

# What a question asks for.
_WH = r"(?:what|which|who|whom|whose|where|when|why|how)"
_BE = r"(?:is|are|was|were)"
_DO = rf"(?:{_BE}|do|does|did|has|have|had|can|could|will|would|should|may|might|must|shall)"
# A noun belongs to "what" when only its own adjectives stand between: "what did the king
# sign" asks for no king.
_ADJECTIVES = (
    rf"(?:(?!(?:{_DO}|the|an?|of|in|on|at|by|to|for|with|from|as|and|or|that|{_WH})\b)"
    r"[\w'\u2019.-]+\s+){0,3}?"
)


def _what(nouns: str) -> str:
    """Return a pattern of "which NOUN" and of "what is the NOUN", but not "which NOUN's"."""
    noun = rf"{_ADJECTIVES}(?:{nouns})\b(?!['\u2019-])"
    return (
        rf"\b(?:what|which)\s+(?:(?:one\s+)?of\s+(?:the|these|those)\s+)?{noun}"
        rf"|\b(?:what|which)\s+{_BE}\s+(?:(?:the|an?|his|her|its|their)\s+)?"
        rf"(?:names?\s+of\s+the\s+)?{noun}"
        r"(?=\s+(?:of|in|on|at|for|from|to|with|that|who|whose|which|where|when)\b|[^\w\s]|\s*$)"
    )


_OPENING = re.compile(
    r"^(?:(?:and|but|so|please|(?:can|could|would|will) you|do you know|tell me|i (?:want|would "
    rf"like) to know)[, ]+)+(?=(?:{_WH}|{_DO}|explain|describe|list|give|name|tell)\b)"
)
_NAME_IT = re.compile(
    r"^(?:name|identify|state)\s+(?=(?:the|an?)\b)|^give(?: me)?\s+(?=the (?:\w+ )?"
    r"(?:name|year|date|number|capital|title)\b)"
)
_CLAUSE = re.compile(
    rf"^(?:when|where|if|while|as|because|although|once|since)\s+(?!{_DO}\b)[^,]*,\s*"
    rf"(?=.*\b{_WH}\b|{_DO}\b)"
    r"|^(?:in|on|at|after|before|during|by|from|for|of|among|under|with|according|to)\s+"
    rf"(?!{_WH}\b).*,\s*(?=(?:\w+\s+)?{_WH}\b[^,]*$|{_DO}\b)"
)
_SHORT = re.compile(r"\b(what|who|where|when|why|how)['\u2019]s\b")
_YES_NO = re.compile(rf"(?!was (?:ist|sind|war)\b)(?:{_DO}(?:n['\u2019]t)?|won['\u2019]t)\b")
_OR = re.compile(r"\bor\b(?!\s+(?:not|more|less|so)\b)")
_NUMBER = re.compile(
    r"\bhow (?:many|much|old|long|far|tall|high|large|big|deep|fast|often|heavy|wide|hot|cold|"
    r"thick|short|small)\b|\bwhat is the (?:\w+ )?area of\b|"
    + _what(
        r"numbers?(?!\s+(?:one|two|three|\d))|percentage|percent|population|age|distance|length|"
        r"height|weight|amount|speed|temperature|(?:boiling|melting|freezing) point"
    )
)
_DATE = re.compile(
    r"^when\b|\band when\b|\bwhen\W*$|\bwhen (?:is|was|were|did|does|do|has|had|will)\b|"
    + _what(r"(?:year|date|month|day|decade|season|time)s?|centur(?:y|ies)")
)
_PERSON = re.compile(
    r"^(?:\w+ )?(?:who|whom|whose)\b|"
    + _what(
        r"(?:actor|actress|director|author|writer|singer|musician|politician|president|player|"
        r"footballer|artist|scientist|king|queen|emperor|person|composer|poet|coach|manager|"
        r"founder|character|minister|senator|governor|lawyer|judge|philosopher|rapper|comedian|"
        r"producer|designer|architect|explorer|inventor|biologist|chemist|physicist|engineer|"
        r"painter|wife|husband)s?|actresses|m[ae]n|wom[ae]n|people"
    )
)
_WHO = re.compile(
    r"\bwho (?:is|was|are|were|did|has|had|wrote|directed|won|played|made)\b"
    r"|\b(?:by|to|with|from|of|for) whom?\b|\bwhom?\W*$"
)
_OTHER_WH = re.compile(r"\b(?:what|which|where|when|how)\b")
_PLACE = re.compile(
    r"^(?:\w+ )?where\b|\bwhere\W*$|\b(?:in|from|is|was) where\b|"
    + _what(
        r"(?:state|town|village|place|location|region|province|island|continent|river|mountain|"
        r"street|district|area|nation|capital|borough|suburb|stadium|airport)s?|"
        r"(?:cit|countr|count)(?:y|ies)"
    )
)
_EXPLANATION = re.compile(
    r"^(?:why|how|explain|describe|compare|summari[sz]e|discuss|list|tell|write|show|give|"
    r"outline|analy[sz]e)\b|\bwhy\b|\bin what (?:way|sense)\b|\bhow (?:is|are|was|were|do|does|"
    r"did|can|could|has|have)\b"
)
_ALSO = re.compile(
    r"(?:[?.!;]|,? (?:and|but))\s+(?:also\s+)?(?:please\s+)?(?:why\b|explain|describe|compare|"
    r"discuss|in what (?:way|sense)|how (?:is|are|was|were|do|does|did|can|could|has|have)\b)"
)
"""A second question, whose answer is no few words: "when did it sink, and why?"."""
_ASKS = re.compile(rf"\b{_WH}\b")

# What an answer looks like.
_QUOTES = " \t\n\"'\u201c\u201d\u2018\u2019()*_`"
_NAMES_OF_DAYS = (
    "january february march april may june july august september october november december "
    "monday tuesday wednesday thursday friday saturday sunday spring summer autumn fall winter "
    "century ad bc bce ce am pm clock noon midnight"
)
_DAYS = frozenset(_NAMES_OF_DAYS.split())
_YEAR = re.compile(r"(?:1\d{3}|20\d{2})s?")
_NEAR_DAYS = re.compile(
    r"\d+(?:st|nd|rd|th|s)?|first|second|third|\w+th|in|on|at|the|of|about|around|circa|c|ca|o|late|"
    r"early|mid|end|beginning|since|until|from|to|and|between|before|after|by|during|year"
)
_HEDGE = re.compile(
    r"^(?:(?:about|around|over|under|nearly|almost|approximately|roughly|some|at least|at most|"
    r"up to|more than|less than|fewer than|only|just|exactly|an?)\s+)+",
    re.IGNORECASE,
)
_FIGURE = re.compile(r"[.~$\u20ac\u00a3\u2212 -]*\d\S*(?: [\w\u00b0/%.,\u2013-]+){0,3}")
# "12 Angry Men" is a film and "12 MB" is not.
_TITLED = re.compile(r"[^\sa-z]\S* (?:\w )?(?!Celsius|Fahrenheit|Kelvin)[A-Z][a-z]{2}")
_COUNT_NAMES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty "
    "ninety hundred thousand million billion dozen both none once twice half"
)
_COUNT = frozenset(_COUNT_NAMES.split())
_AGREES = re.compile(r"(?:yes|no)(?:$|[,;:.!]|\s+(?:it|they|he|she|both|neither|not)\b)")
_REFUSES = re.compile(r"(?:sorry,? )?(?:i|we) (?:do not|don.t|cannot|can.t) (?:know|say|tell)\b")
_VERB = re.compile(r"\b(?:is|are|was|were|has|had)\b")
_FEW_WORDS, _COUNT_WORDS = 4, 3


def names_choices(question: str) -> bool:
    """Return whether a question may hold its answer: it names things with "or" between them."""
    return _OR.search(question.lower()) is not None


def expected_type(question: str) -> AnswerType:
    """Return what a question or instruction asks for."""
    asked = _SHORT.sub(r"\1 is", " ".join(question.lower().split()).strip(_QUOTES + "\u00bf"))
    asked = _CLAUSE.sub("", _NAME_IT.sub("what is ", _OPENING.sub("", asked)))
    if _ALSO.search(asked):
        return AnswerType.EXPLANATION
    if _YES_NO.match(asked):
        return AnswerType.CHOICE if _OR.search(asked) else AnswerType.YES_NO
    number = _NUMBER.search(asked)
    if number and not _ASKS.search(asked[: number.start()]):  # "what tells you how much"
        return AnswerType.NUMBER
    open_ended = not (_ASKS.search(asked) or asked.endswith(("?", "\uff1f", "\u061f")))
    if open_ended or _EXPLANATION.search(asked):
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
    text = answer.strip(_QUOTES).rstrip(".")
    if _AGREES.match(text.lower()):
        return AnswerForm.YES_NO
    parts = re.findall(r"[^\W_]+", text.lower().replace(".m", "m"))  # "a.m" and "p.m"
    dated = any(part in _DAYS or _YEAR.fullmatch(part) for part in parts)
    if dated and all(part in _DAYS or _NEAR_DAYS.fullmatch(part) for part in parts):
        return AnswerForm.NUMBER if re.search(r"[$%\u20ac\u00a3]", text) else AnswerForm.DATE
    text = _HEDGE.sub("", text)
    words = text.split()
    counted = len(words) <= _COUNT_WORDS and bool(words) and _counts(words[0])
    if (counted or _FIGURE.fullmatch(text)) and not _TITLED.match(text):
        return AnswerForm.NUMBER
    long = [word for word in words if len(word) > 3] or words
    capital = sum(word.lstrip(_QUOTES)[:1].isupper() for word in long)
    return AnswerForm.NAME if capital > len(long) / 2 else AnswerForm.PHRASE


def type_fit(question: str, answer: str) -> float:
    """Return how well the form of an answer fits what the question asks for, in [0, 1].

    A longer answer fits when any of its stretches could: its form says nothing then, and it
    gets the half; so do a short sentence that holds what was asked for, and one of what the
    question names with words around it. That something is not known fits nothing.
    """
    wanted = expected_type(question)
    words = answer.split()
    if not words or _REFUSES.match(answer.strip(_QUOTES).lower()):
        return 0.0
    if wanted is AnswerType.EXPLANATION:
        return 1.0 if len(words) > _FEW_WORDS else 0.5
    if len(words) > 2 * _FEW_WORDS:
        return 0.5
    said, asked = set(content_words(answer)), set(content_words(question))
    if wanted is AnswerType.CHOICE and not said <= asked:
        return 0.5 if said & asked else 0.0
    fitting = _FITTING[wanted].get(form_of(answer), 0.0)
    return max(fitting, 0.5) if _holds(words, wanted) else fitting


def _counts(word: str) -> bool:
    return word.lower().split("-")[0] in _COUNT


def _holds(words: list[str], wanted: AnswerType) -> bool:
    """Return whether some words of an answer are of the kind that is wanted."""
    bare = [word.strip(_QUOTES + ".,;:!?") for word in words]
    if wanted is AnswerType.NUMBER:
        return any(word[:1].isdigit() or (word != "one" and _counts(word)) for word in bare)
    if wanted is AnswerType.DATE:
        return any(word.lower() in _DAYS - {"may"} or _YEAR.fullmatch(word) for word in bare)
    sentence = words[-1].endswith((".", "!")) or bool(_VERB.search(" ".join(bare)))
    if sentence and len(words) > _COUNT_WORDS and wanted in (AnswerType.PERSON, AnswerType.PLACE):
        return any(word[:1].isupper() and len(word) > 1 for word in bare[1:])
    return False
