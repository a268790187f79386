"""What else the documents name: other names, dates and numbers, and of what type they are.

The types are as broad as rules can tell from the words alone. A person, a place and a
company are all a ``name``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from reflectory.agents.citations import content_words
from reflectory.evaluation.metrics import normalise_answer
from reflectory.retrieval.structure import Extraction
from reflectory.retrieval.structure.lexicon import FUNCTION_WORDS, GROUPS, MONTHS, NUMERALS
from reflectory.retrieval.structure.tokens import date_spans
from reflectory.types import Passage

_WORD_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
_DIGITS = {word: str(number) for number, word in enumerate(_WORD_NUMBERS.split())}
_AMOUNTS = (NUMERALS | set(_DIGITS)) - {"last", "next", "half", "second", "third", "fourth"}
_YEAR = re.compile(r"(?<![\w.,])(?:1\d{3}|20\d{2})(?!\w)(?![.,]\d)")
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?%?(?![\w%])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PARENTHESIS = re.compile(r"\s*\([^)]*\)\s*$")
_SAME_STEM = 5
"""Letters that two words have in common at their head to count as one: German, Germany."""
_LONGEST_SHORT_FORM = 8


class Span(NamedTuple):
    """A stretch of the documents that could be an answer.

    Attributes:
        text: As it is written.
        type: ``year``, ``date``, ``number``, ``amount`` (a number with what is counted),
            ``group`` (a nationality), ``name`` or ``phrase``.
    """

    text: str
    type: str


def type_of(text: str) -> str:
    """Return the broad type of an answer (see :class:`Span`)."""
    bare = text.strip().rstrip(".")
    words = re.findall(r"[^\W_]+", bare)
    if _YEAR.fullmatch(bare):
        return "year"
    if date_spans(bare) and not _names_in(words):
        return "date"
    if words and (words[0][0].isdigit() or words[0].lower() in _AMOUNTS):
        if len(words) == 1 or _NUMBER.fullmatch(bare):
            return "number"
        if not _names_in(words):
            return "amount"
    if len(words) == 1 and words[0].lower() in GROUPS:
        return "group"
    return "name" if _names_in(words) else "phrase"


def _names_in(words: Sequence[str]) -> bool:
    """Return whether a word is capitalised that is no month and no function word."""
    return any(
        word[0].isupper() and word.lower() not in FUNCTION_WORDS and word.lower() not in MONTHS
        for word in words
    )


def spans_of(
    passages: Sequence[Passage], extract: Callable[[str], Extraction]
) -> tuple[list[Span], list[Span]]:
    """Return what the passages name, and their noun phrases.

    Args:
        passages: The documents of one question.
        extract: Finds names, dates and phrases of one text.

    Returns:
        Names, nationalities, dates, years (also those inside a date), numbers and amounts,
        in their order and without repeats; and the noun phrases that are none of these.
    """
    named: list[str] = []
    phrases: list[str] = []
    for passage in passages:
        if passage.title.strip():
            named.append(_PARENTHESIS.sub("", passage.title).strip())
        found = extract(passage.text)
        named += [mention.name for mention in found.mentions]
        named += _YEAR.findall(passage.text)
        dated = [(m.start, m.end) for m in found.mentions]
        named += [
            match[0]
            for match in _NUMBER.finditer(passage.text)
            if not any(start <= match.start() < end for start, end in dated)
        ]
        for phrase in found.phrases:
            amount = type_of(phrase.name) in {"number", "amount"}
            (named if amount else phrases).append(phrase.name)
    known = {normalise_answer(text) for text in named}
    return _distinct(named), [
        span
        for span in _distinct(phrases)
        if span.type == "phrase" and normalise_answer(span.text) not in known
    ]


def _distinct(texts: Iterable[str]) -> list[Span]:
    found: dict[str, str] = {}
    for text in texts:
        key = normalise_answer(text)
        if key and content_words(text):
            found.setdefault(key, text.strip())
    return [Span(text, type_of(text)) for text in found.values()]


def overlap(one: str, two: str) -> bool:
    """Return whether two texts may mean the same thing, or one a part of the other.

    They do when they share a word that is not one of the commonest, words of one stem, a
    number in words and digits, or when one is a short form of the other (*GmbH*). A wrong
    answer that might be right after all would be counted against a judge that knows it.
    """
    first, second = _words(one), _words(two)
    if first & second or _is_short_form(one, two) or _is_short_form(two, one):
        return True
    stems = {word[:_SAME_STEM] for word in first if len(word) >= _SAME_STEM and word.isalpha()}
    return any(word[:_SAME_STEM] in stems for word in second if word.isalpha())


def _words(text: str) -> set[str]:
    joined = _THOUSANDS.sub("", text)
    return {_DIGITS.get(word, word) for word in content_words(joined)}


def _is_short_form(short: str, full: str) -> bool:
    """Return whether one word with several capitals takes its letters from the other text."""
    bare = short.replace(".", "").strip()
    if not (1 < len(bare) <= _LONGEST_SHORT_FORM) or not bare.isalpha():
        return False
    letters = [letter.casefold() for letter in full if letter.isalpha()]
    if sum(letter.isupper() for letter in bare) < 2 or len(full.split()) < 2 or not letters:
        return False
    rest = iter(letters)
    return bare[0].casefold() == letters[0] and all(letter.casefold() in rest for letter in bare)
