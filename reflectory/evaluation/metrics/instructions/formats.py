"""IFEval's checks of form: lists, sections, titles, JSON, beginnings and ends.

Every check takes a response that is not blank and the parameters of the instruction, and
returns whether it was followed. What counts is what the published checks count (Zhou et al.
2023, arXiv:2311.07911), written anew from their description.
"""

from __future__ import annotations

import json
import re

CONSTRAINED_RESPONSES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""What a constrained response holds one of."""

_STAR_BULLET = re.compile(r"^\s*\*[^*].*$", re.MULTILINE)
_DASH_BULLET = re.compile(r"^\s*-.*$", re.MULTILINE)
_SINGLE_STARS = re.compile(r"\*([^\n*]*)\*")
_DOUBLE_STARS = re.compile(r"\*\*([^\n*]*)\*\*")
_TITLE = re.compile(r"<<[^\n]+>>")
_PLACEHOLDER = re.compile(r"\[.*?\]")
_POSTSCRIPTS = {"P.S.": re.compile(r"p\.\s?s\."), "P.P.S": re.compile(r"p\.\s?p\.\s?s")}
_FENCES = ("```json", "```Json", "```JSON", "```")


def number_placeholders(response: str, num_placeholders: int) -> bool:
    """``detectable_content:number_placeholders``: at least so many ``[...]`` within lines."""
    return len(_PLACEHOLDER.findall(response)) >= num_placeholders


def postscript(response: str, postscript_marker: str) -> bool:
    """``detectable_content:postscript``: the marker occurs, in any case, with or without spaces."""
    text = response.lower()
    pattern = _POSTSCRIPTS.get(postscript_marker)
    return bool(pattern.search(text)) if pattern else postscript_marker.lower() in text


def number_bullet_lists(response: str, num_bullets: int) -> bool:
    """``detectable_format:number_bullet_lists``: exactly so many lines begin with ``*`` or ``-``.

    Two stars at the beginning are bold type and no bullet.
    """
    found = _STAR_BULLET.findall(response) + _DASH_BULLET.findall(response)
    return len(found) == num_bullets


def constrained_response(response: str) -> bool:
    """``detectable_format:constrained_response``: holds one of the three answers."""
    return any(answer in response for answer in CONSTRAINED_RESPONSES)


def number_highlighted_sections(response: str, num_highlights: int) -> bool:
    """``detectable_format:number_highlighted_sections``: at least so many stretches in stars."""
    marked = _SINGLE_STARS.findall(response) + _DOUBLE_STARS.findall(response)
    return sum(bool(text.strip()) for text in marked) >= num_highlights


def multiple_sections(response: str, section_spliter: str, num_sections: int) -> bool:
    """``detectable_format:multiple_sections``: at least so many times the word and a number."""
    marks = re.findall(rf"{re.escape(section_spliter)}\s?\d+", response)
    return len(marks) >= num_sections


def json_format(response: str) -> bool:
    """``detectable_format:json_format``: all of it is JSON, a fence around it left out."""
    text = response.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(response: str) -> bool:
    """``detectable_format:title``: there is a ``<<title>>`` that is not blank."""
    return any(found.lstrip("<").rstrip(">").strip() for found in _TITLE.findall(response))


def two_responses(response: str) -> bool:
    """``combination:two_responses``: two that differ, separated by six stars."""
    parts = [part.strip() for part in response.split("******")]
    given = [part for part in parts if part]
    return all(parts[1:-1]) and len(given) == 2 and given[0] != given[1]


def repeat_prompt(response: str, prompt_to_repeat: str) -> bool:
    """``combination:repeat_prompt``: begins with the request, in any case."""
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(response: str, end_phrase: str) -> bool:
    """``startend:end_checker``: ends with the phrase, in any case, quotation marks left out."""
    return response.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(response: str) -> bool:
    """``startend:quotation``: all of it stands in double quotation marks."""
    text = response.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'
