"""The words of a text as a verifier compares them: stems, numbers, names, what is negated.

Rules and no model, because they run for every statement of every answer. They
know English endings; in other languages a word still equals itself, and scripts
without spaces are compared letter by letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)*"
    # Scripts without spaces between words.
    r"|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]"
    r"|[^\W\d_\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+"
    r"(?:['\u2019][^\W\d_\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+)*"
)


_BREAK = re.compile(r"[,;:.!?()\u2013\u2014]")


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STOP_WORDS = _set_of(
    "a an and are as at be been being but by did do does for from had has have having he her hers "
    "him his how i in into is it its me my of on or our ours shall she so than that the their "
    "theirs them then there these they this those to us was we were what when where which who "
    "whom whose why will with would you your yours am can could may might must should such also "
    "st nd rd th s t d ll m re ve very about if because while"
)
_NEGATIONS = _set_of("not no never none neither nor nobody nothing nowhere without cannot")
_NEGATION_SCOPE = 4
ROOT_LETTERS = 6
"""Two stems of one root begin with the same letters, at least so many."""

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_IRREGULAR = {
    form: base
    for base, forms in {
        "become": "became",
        "begin": "began begun",
        "break": "broke broken",
        "bring": "brought",
        "build": "built",
        "buy": "bought",
        "choose": "chose chosen",
        "die": "died dying dies",
        "draw": "drew drawn",
        "fall": "fell fallen",
        "find": "found",
        "fly": "flew flown",
        "give": "gave given",
        "grow": "grew grown",
        "hold": "held",
        "keep": "kept",
        "know": "knew known",
        "lead": "led",
        "leave": "left",
        "lose": "lost",
        "make": "made",
        "man": "men",
        "meet": "met",
        "rise": "rose risen",
        "say": "said",
        "see": "saw seen",
        "sell": "sold",
        "send": "sent",
        "sing": "sang sung",
        "speak": "spoke spoken",
        "take": "took taken",
        "teach": "taught",
        "tell": "told",
        "think": "thought",
        "use": "used using uses",
        "win": "won winning",
        "woman": "women",
        "write": "wrote written",
    }.items()
    for form in forms.split()
}


class Word(NamedTuple):
    """A word that carries content.

    Attributes:
        stem: What it is compared by.
        number: Whether it is a number or part of a date.
        name: Whether it is written like a name.
        negated: Whether a negation stands shortly before it.
    """

    stem: str
    number: bool
    name: bool
    negated: bool


@lru_cache(maxsize=8192)
def content_of(sentence: str) -> tuple[Word, ...]:
    """Return the content words of one sentence, in order.

    A word is written like a name when it has a capital letter inside or at its
    beginning; that of the first word of a sentence counts only when the next word
    has one too or there is no other word.
    """
    matches = list(_TOKEN.finditer(sentence))
    words: list[Word] = []
    scope = 0
    for place, match in enumerate(matches):
        token = match[0]
        if place and _BREAK.search(sentence, matches[place - 1].end(), match.start()):
            scope = 0
        lowered = token.lower().replace("\u2019", "'")
        following = matches[place + 1][0] if place + 1 < len(matches) else ""
        if lowered in _NEGATIONS or lowered.endswith("n't"):
            # "not only" affirms, and "No. 5" numbers.
            if following.lower() not in {"only", "just", "merely"} and not following[:1].isdigit():
                scope = _NEGATION_SCOPE
            continue
        if lowered in _STOP_WORDS:
            continue
        is_number = token[0].isdigit()
        first = place == 0 and not any(c.isupper() for c in token[1:])
        capital = any(c.isupper() for c in token)
        is_name = capital and (not first or not following or following[:1].isupper())
        words.append(Word(stem(token), is_number, is_name and not is_number, scope > 0))
        scope -= 1
    return tuple(words)


def has_negation(text: str) -> bool:
    """Return whether a text denies something, as ``No.`` and ``They are not.`` do."""
    tokens = (match[0].lower().replace("\u2019", "'") for match in _TOKEN.finditer(text))
    return any(token in _NEGATIONS or token.endswith("n't") for token in tokens)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return a word without case, accents and the commonest English endings.

    ``founded``, ``Founding`` and ``founds`` become one, and so do ``two`` and ``2``.
    """
    if word[0].isdigit():
        return word.replace(",", "")
    plain = unicodedata.normalize("NFKD", word.casefold().replace("\u2019", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c)).removesuffix("'s")
    plain = plain.strip("'")
    if plain in _NUMBER_WORDS:
        return _NUMBER_WORDS[plain]
    plain = _IRREGULAR.get(plain, plain)
    if len(plain) > 4 and plain.endswith("ies"):
        return plain[:-3] + "y"
    if len(plain) > 3 and plain.endswith("s") and plain[-2] not in "sui":
        plain = plain[:-1]
    for ending in ("ing", "ed", "ly"):
        if plain.endswith(ending) and len(plain) - len(ending) >= 3:
            plain = plain[: -len(ending)]
            if len(plain) > 3 and plain[-1] == plain[-2] and plain[-1] not in "lsz":
                plain = plain[:-1]
            break
    return plain[:-1] if len(plain) > 3 and plain[-1] == "e" else plain


def same_root(one: str, other: str) -> bool:
    """Return whether two stems begin alike enough to be of one root.

    At least six letters and three quarters of the longer one: ``mesophilic`` and
    ``mesophil``, not ``interior`` and ``internal``.
    """
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) < ROOT_LETTERS or one[:ROOT_LETTERS] != other[:ROOT_LETTERS]:
        return False
    shared = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    common = len(shorter) if shared is None else shared
    return common >= 0.75 * len(longer)


def stems_of(words: Sequence[Word]) -> frozenset[str]:
    """Return the different stems of words."""
    return frozenset(word.stem for word in words)
