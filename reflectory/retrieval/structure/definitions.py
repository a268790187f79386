"""What the first sentence of a document defines, as in *Marktown is a community*.

An article begins by saying what it is about. The stretch before the verb is the subject's
name, whatever it looks like: with lower-case words (*Beer stein*), ordinary words alone
(*Relativity*), an ampersand, or a year.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reflectory.retrieval.sentences import words
from reflectory.retrieval.structure.keys import name_key

_LONGEST = 10
"""Words of a name; a longer stretch is a sentence that defines nothing."""

_OPENING = re.compile(r"[\s\"'“‘«„(*_#]*")  # noqa: RUF001
_ARTICLE = re.compile(r"(?:The|A|An)\s+(?=\S)")
_QUOTES = "\"'“”‘’«»„ \t"  # noqa: RUF001

# The verb stands in lower case: "Life Is Ruff" goes on.
_VERB = re.compile(
    r"\s(?:is|are|was|were|has|had|represent(?:s|ed)?|refers?|denotes?|means|describes?|"
    r"consists?|became|took|served|began)\s"
)
_BRACKET = re.compile(r"\s*[(\[]")
_BORN = re.compile(r"[(;,]\s*(?:born|né|née)\b|\((?:[^()]*\D)?\d{3,4}\D*[-–—]\D*[^()]*\d{3,4}")  # noqa: RUF001
_NICKNAME = re.compile(r"\s+[\"“]([^\"”]+)[\"”]\s+")
_POSTNOMINAL = re.compile(r"[A-Z]{2,}[a-z]?[A-Z]*")
_SUFFIXES = frozenset({"Jr.", "Jr", "Sr.", "Sr", "II", "III", "IV"})
_OR = re.compile(r",?\s+or\s+")
_NEVER_FIRST = words(
    "In On At During After Before By For From With Under When While As If Since Until Although "
    "Because Once Here There Then Now Today Later Also So And But Or This These That Those It He "
    "She They We You I His Her Its Their My Our Your What Who How Why Where Which Some Many Most "
    "All Both Each Every No Not"
)
"""Words that begin a sentence and seldom a name; what follows them is left alone."""


def defined_names(sentence: str) -> Iterator[str]:
    """Yield the names under which a first sentence introduces what it defines.

    Args:
        sentence: The first sentence of a document.

    Yields:
        The whole stretch before the verb first, without an article and without what stands
        in brackets; then its shorter forms: before a comma (*Amelia Cary, Viscountess
        Falkland*), each side of *or*, and, of a person, first and last name alone or the
        nickname with the last name.
    """
    begin = _OPENING.match(sentence)
    text = sentence[begin.end() :] if begin else sentence
    if text.partition(" ")[0] in _NEVER_FIRST:
        return
    article = _ARTICLE.match(text)
    text = text[article.end() :] if article else text
    verb = _VERB.search(text)
    if verb is None or not text[:1].strip() or text[:1].islower():
        return
    whole = _without_brackets(text[: verb.start()])
    if not whole or len(whole.split()) > _LONGEST:
        return
    seen: set[str] = set()
    for name in _forms(whole, person=bool(_BORN.search(text[: verb.start() + 1]))):
        key = name_key(name)
        if key and key not in seen:
            seen.add(key)
            yield name


def _without_brackets(text: str) -> str:
    """Return text up to where brackets begin that go on until the verb, and without others."""
    depth, kept = 0, []
    for letter in text:
        if letter in "([":
            depth += 1
        if depth == 0:
            kept.append(letter)
        if letter in ")]" and depth:
            depth -= 1
    return " ".join("".join(kept).split()).strip(_QUOTES + ",;:")


def _forms(whole: str, *, person: bool) -> Iterator[str]:
    sides = _OR.split(whole)
    if len(sides) == 1:
        yield _unquoted(whole)
    for side in sides:
        first = side.split(",")[0].strip(_QUOTES)
        if not first[:1].isupper() and side is not sides[0]:
            continue
        yield _unquoted(first)
        if person:
            yield from _forms_of_person(first)


def _forms_of_person(name: str) -> Iterator[str]:
    """Yield a person's name without nickname, and first name or nickname with the last name."""
    nickname = _NICKNAME.search(name)
    parts = _NICKNAME.sub(" ", name).split()
    while len(parts) > 2 and (_POSTNOMINAL.fullmatch(parts[-1]) or parts[-1] in _SUFFIXES):
        parts.pop()
    if len(parts) < 2 or not all(part[:1].isupper() for part in parts):
        return
    yield " ".join(parts)
    yield f"{parts[0]} {parts[-1]}"
    if nickname is not None:
        yield f"{nickname[1]} {parts[-1]}"


def _unquoted(name: str) -> str:
    return name.replace('"', "").replace("“", "").replace("”", "")
