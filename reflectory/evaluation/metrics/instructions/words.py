"""IFEval's checks of words, letters, lengths, case and language.

Every check takes a response that is not blank and the parameters of the instruction, and
returns whether it was followed. What counts is what the published checks count (Zhou et al.
2023, arXiv:2311.07911), written anew from their description.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from reflectory.errors import UserError
from reflectory.evaluation.metrics.instructions.text import (
    capital_words,
    count_sentences,
    count_words,
    detect_language,
)

Relation = Literal["at least", "less than"]
"""How a number is compared with the one that was asked for."""

_END_OF_WORD = ".,?!'\""


def holds(count: int, relation: str, wanted: int) -> bool:
    """Return whether a count is as it was asked for.

    Raises:
        UserError: There is no such relation.
    """
    if relation == "at least":
        return count >= wanted
    if relation == "less than":
        return count < wanted
    raise UserError(
        f"{relation!r} is no relation of an instruction", hint='use "at least" or "less than"'
    )


def occurrences(text: str, keyword: str) -> int:
    """Return how often a keyword occurs in any case, also inside words."""
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def existence(response: str, keywords: Sequence[str]) -> bool:
    """``keywords:existence``: all keywords occur, in any case and also inside words."""
    return all(occurrences(response, keyword) for keyword in keywords)


def frequency(response: str, keyword: str, frequency: int, relation: Relation) -> bool:
    """``keywords:frequency``: a keyword occurs so often, in any case and also inside words."""
    return holds(occurrences(response, keyword), relation, frequency)


def forbidden_words(response: str, forbidden_words: Sequence[str]) -> bool:
    """``keywords:forbidden_words``: none of the words occurs as a whole word in any case."""
    return not any(
        re.search(rf"\b{re.escape(word)}\b", response, re.IGNORECASE) for word in forbidden_words
    )


def letter_frequency(
    response: str, letter: str, let_frequency: int, let_relation: Relation
) -> bool:
    """``keywords:letter_frequency``: a letter occurs so often, in either case."""
    return holds(response.lower().count(letter.lower()), let_relation, let_frequency)


def response_language(response: str, language: str) -> bool:
    """``language:response_language``: the response is in a language.

    A text without letters is in no other one, and counts as followed.
    """
    return detect_language(response) in (language, None)


def number_sentences(response: str, num_sentences: int, relation: Relation) -> bool:
    """``length_constraints:number_sentences``."""
    return holds(count_sentences(response), relation, num_sentences)


def number_words(response: str, num_words: int, relation: Relation) -> bool:
    """``length_constraints:number_words``."""
    return holds(count_words(response), relation, num_words)


def number_paragraphs(response: str, num_paragraphs: int) -> bool:
    """``length_constraints:number_paragraphs``: so many, separated by ``***``.

    A divider may stand at the beginning and at the end, but no two in a row.
    """
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", response)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == num_paragraphs


def nth_paragraph_first_word(
    response: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """``length_constraints:nth_paragraph_first_word``.

    There are so many paragraphs, separated by an empty line, and the n-th one begins with the
    word, in any case; quotation marks before it and punctuation behind it do not count.
    """
    parts = response.split("\n\n")
    count = sum(bool(part.strip()) for part in parts)
    # The place is counted among all parts, empty ones as well, and may not exceed the count.
    if nth_paragraph > count or not parts[nth_paragraph - 1].strip():
        return False
    begin = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    word = re.split(f"[{re.escape(_END_OF_WORD)}]", begin, maxsplit=1)[0]
    return count == num_paragraphs and word.lower() == first_word.lower()


def capital_word_frequency(
    response: str, capital_frequency: int, capital_relation: Relation
) -> bool:
    """``change_case:capital_word_frequency``: so many words are written in capitals."""
    return holds(len(capital_words(response)), capital_relation, capital_frequency)


def english_capital(response: str) -> bool:
    """``change_case:english_capital``: English, and no small letter."""
    return response.isupper() and detect_language(response) in ("en", None)


def english_lowercase(response: str) -> bool:
    """``change_case:english_lowercase``: English, and no capital letter."""
    return response.islower() and detect_language(response) in ("en", None)


def no_comma(response: str) -> bool:
    """``punctuation:no_comma``."""
    return "," not in response
