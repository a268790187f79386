"""Shorter forms of names inside one document: surnames, companies without their form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from reflectory.retrieval.structure.keys import bare_title, name_key
from reflectory.retrieval.structure.lexicon import (
    COMPANY_FORMS,
    FUNCTION_WORDS,
    INSTITUTIONS,
    NOT_SURNAME_FIRST,
    PARTICLES,
)

_SUFFIXES = frozenset({"jr", "sr", "ii", "iii", "iv"})
_LONGEST_PERSON = 5


def short_forms(names: Iterable[str]) -> dict[str, str]:
    """Return which key of a document is a shorter form of which other one.

    A form that could be short for two different names is left alone.

    Args:
        names: All names of the document, subjects first; repeats do no harm.
    """
    keys = {key for name in names for key in (name_key(name), name_key(bare_title(name))) if key}
    fuller: defaultdict[str, set[str]] = defaultdict(set)
    for key in keys:
        for short in _forms_of(key):
            if short in keys and short != key:
                fuller[short].add(key)
    found: dict[str, str] = {}
    for short, fulls in fuller.items():
        # "Curie" is short for "Marie Curie" where "Marie Skłodowska Curie" is the same.
        longest = max(fulls, key=lambda key: (len(key), key))
        if all(key == longest or _is_within(key, longest) for key in fulls):
            found[short] = longest
    return {short: _last(found, full) for short, full in found.items()}


def without_suffix(words: list[str]) -> list[str]:
    """Return the words of a person's name without a *Jr* or number behind them."""
    return words[:-1] if len(words) > 2 and words[-1] in _SUFFIXES else words


def _last(found: dict[str, str], key: str) -> str:
    while key in found:  # every step is to a longer key, so it ends
        key = found[key]
    return key


def _is_within(short: str, full: str) -> bool:
    """Return whether the words of one key are words of the other, with the same last one."""
    one, two = short.split(), full.split()
    rest = iter(two)
    return one[-1] == two[-1] and all(word in rest for word in one)


def _forms_of(key: str) -> Iterable[str]:
    """Yield the forms that a name may be shortened to in the same document."""
    words = key.split()
    if len(words) < 2:
        return
    bare = list(words)
    while len(bare) > 1 and bare[-1] in COMPANY_FORMS:
        bare.pop()
    if len(bare) < len(words):
        yield " ".join(bare)
        return
    if not _is_like_person(words):
        return
    surname = len(without_suffix(words)) - 1
    for start in range(1, surname + 1):
        yield " ".join(words[start:])
        yield " ".join(words[start : surname + 1])
    if surname > 1:
        yield f"{words[0]} {words[surname]}"  # without middle names


def _is_like_person(words: list[str]) -> bool:
    small = [word for word in words if word in FUNCTION_WORDS and word not in PARTICLES]
    return (
        len(words) <= _LONGEST_PERSON
        and not small
        and words[0] not in NOT_SURNAME_FIRST
        and INSTITUTIONS.isdisjoint(words)
        and not any(word[0].isdigit() for word in words)
        and words[-1] not in PARTICLES
    )
