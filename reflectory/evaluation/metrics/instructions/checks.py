"""Every kind of IFEval's instructions by its id, and the check of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from reflectory.errors import UserError
from reflectory.evaluation.metrics.instructions import formats, words

CHECKS: Mapping[str, Callable[..., bool]] = {
    "change_case:capital_word_frequency": words.capital_word_frequency,
    "change_case:english_capital": words.english_capital,
    "change_case:english_lowercase": words.english_lowercase,
    "combination:repeat_prompt": formats.repeat_prompt,
    "combination:two_responses": formats.two_responses,
    "detectable_content:number_placeholders": formats.number_placeholders,
    "detectable_content:postscript": formats.postscript,
    "detectable_format:constrained_response": formats.constrained_response,
    "detectable_format:json_format": formats.json_format,
    "detectable_format:multiple_sections": formats.multiple_sections,
    "detectable_format:number_bullet_lists": formats.number_bullet_lists,
    "detectable_format:number_highlighted_sections": formats.number_highlighted_sections,
    "detectable_format:title": formats.title,
    "keywords:existence": words.existence,
    "keywords:forbidden_words": words.forbidden_words,
    "keywords:frequency": words.frequency,
    "keywords:letter_frequency": words.letter_frequency,
    "language:response_language": words.response_language,
    "length_constraints:nth_paragraph_first_word": words.nth_paragraph_first_word,
    "length_constraints:number_paragraphs": words.number_paragraphs,
    "length_constraints:number_sentences": words.number_sentences,
    "length_constraints:number_words": words.number_words,
    "punctuation:no_comma": words.no_comma,
    "startend:end_checker": formats.end_checker,
    "startend:quotation": formats.quotation,
}
"""The 25 kinds; each check takes the response and the parameters of its instruction."""

_LISTS = ("keywords", "forbidden_words")
_RELATIONS = ("relation", "let_relation", "capital_relation")
_TEXTS = (
    "keyword",
    "letter",
    "language",
    "first_word",
    "postscript_marker",
    "section_spliter",
    "prompt_to_repeat",
    "end_phrase",
)


def check_instruction(id: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an instruction, those that are ``None`` left out.

    Args:
        id: The kind of instruction, as IFEval names it.
        parameters: Its parameters; those that are not needed may be ``None``.

    Raises:
        UserError: There is no such kind, or a parameter is missing, unknown or of a wrong type.
    """
    if id not in CHECKS:
        raise UserError(
            f"unknown kind of instruction {id!r}", hint=f"known kinds: {', '.join(CHECKS)}"
        )
    given = {name: value for name, value in parameters.items() if value is not None}
    wanted = set(inspect.signature(CHECKS[id]).parameters) - {"response"}
    if set(given) != wanted:
        raise UserError(
            f"{id} has the parameters {', '.join(sorted(given)) or 'none'}",
            hint=f"it takes {', '.join(sorted(wanted)) or 'none'}",
        )
    for name, value in given.items():
        if not _fits(name, value):
            raise UserError(
                f"{id}: {name} is {value!r}",
                hint="texts are not empty, numbers are whole and at least 0, lists hold texts, "
                'relations are "at least" or "less than"',
            )
    # JSON written by a table of numbers has 3.0 for 3.
    return {name: int(v) if isinstance(v, float) else v for name, v in given.items()}


def _fits(name: str, value: Any) -> bool:
    if name in _LISTS:
        return (
            isinstance(value, list | tuple)
            and bool(value)
            and all(isinstance(entry, str) and entry for entry in value)
        )
    if name in _RELATIONS:
        return value in ("at least", "less than")
    if name in _TEXTS:
        return isinstance(value, str) and bool(value)
    smallest = 1 if name == "nth_paragraph" else 0
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and float(value).is_integer() and value >= smallest
