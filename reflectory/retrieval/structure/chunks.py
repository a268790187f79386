"""Shallow parsing: the words of a sentence become noun phrases, verb groups and the rest.

Every word gets a tag of one letter from closed lists, its ending and its
neighbours; chunks are then regular expressions over the string of tags.
"""

# ruff: noqa: RUF001  (dashes and quotes)
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reflectory.retrieval.sentences import words
from reflectory.retrieval.structure.lexicon import (
    ADVERBS,
    AUXILIARIES,
    BE,
    CONJUNCTIONS,
    DETERMINERS,
    NUMERALS,
    PREPOSITIONS,
    PRONOUNS,
    RELATIVE,
    SUBORDINATE,
)
from reflectory.retrieval.structure.tokens import Token
from reflectory.retrieval.structure.verbs import BASES, PRESENT, is_gerund, is_past

NAME, DATE, WORD, NUMBER = "N", "Y", "W", "U"
_NOT_ADVERBS = words("family italy assembly supply july early reply ally butterfly fly daily only")
_MODALS = AUXILIARIES - BE - words("has have had having")


class Item(NamedTuple):
    """A word, a whole name, or a mark that parts clauses.

    Attributes:
        tag: N a name, Y a date, W a noun or adjective, U a number, D a determiner, P a
            preposition, C a conjunction, R a relative pronoun, S a subordinating
            word, A an auxiliary, V a verb, G a form in -ing, T *to* before a verb, B
            an adverb, O a pronoun; ``,`` ``(`` ``)`` and ``;`` as they are.
        lower: Its text in lower case.
        start: Offset of its first character.
        end: Offset behind its last character.
        possessive: Whether 's stands behind it.
    """

    tag: str
    lower: str
    start: int
    end: int
    possessive: bool = False


class Chunk(NamedTuple):
    """A run of items.

    Attributes:
        kind: n a noun phrase, v a verb group, or the tag of a single item.
        first: Place of its first item.
        last: Place of its last item.
    """

    kind: str
    first: int
    last: int


def items_of(
    text: str, tokens: Sequence[Token], names: Mapping[int, tuple[int, str]]
) -> list[Item]:
    """Return the tagged items of a sentence.

    Args:
        text: The text.
        tokens: The words of the sentence.
        names: Where each name and date starts: its end and its tag.
    """
    items: list[Item] = []
    done = -1
    for at, token in enumerate(tokens):
        if token.start < done:
            if items[-1].end <= token.end:  # the last word of a name tells of its possessive
                items[-1] = items[-1]._replace(possessive=token.possessive)
            continue
        items += [Item(mark, mark, token.start, token.start) for mark in _marks(token.gap)]
        if token.start in names:
            done, tag = names[token.start]
            lower = text[token.start : done].lower()
            items.append(Item(tag, lower, token.start, done, token.possessive))
            continue
        following = tokens[at + 1] if at + 1 < len(tokens) else None
        if following is not None and (following.start in names or following.gap.strip()):
            ahead = NAME if following.start in names else ","
        else:
            ahead = following.lower if following is not None else ""
        tag = _tag(token, items[-1] if items else None, ahead)
        items.append(Item(tag, token.lower, token.start, token.end, token.possessive))
    return items


def _marks(gap: str) -> str:
    """Return the marks of a gap that part clauses, dashes as commas."""
    if gap.isspace() or not gap:
        return ""
    found = ""
    for mark in gap:
        if mark in ",–—":
            found += ","
        elif mark in "()[]":
            found += "(" if mark in "([" else ")"
        elif mark in ";:":
            found += ";"
    return found


def _tag(token: Token, before: Item | None, ahead: str) -> str:
    lower = token.lower
    closed = _CLOSED.get(lower)
    previous = before.tag if before is not None else ""
    if closed is not None:
        return _in_context(lower, closed, previous, ahead)
    if lower[0].isdigit():
        return NUMBER
    if lower.endswith("ly") and lower not in _NOT_ADVERBS:
        return "B"
    return _open_class(token, before, previous, ahead)


def _in_context(lower: str, tag: str, previous: str, ahead: str) -> str:
    """Return the tag of a function word, which may depend on its neighbours."""
    if lower == "to":
        return "T" if ahead in BASES or ahead in {"be", "have", "become", "do"} else "P"
    if lower == "that":
        return "R" if previous in {"N", "W", ","} else "D" if previous != "V" else "S"
    if lower in {"this", "these", "those"}:
        return "O" if ahead in AUXILIARIES or ahead in {"", ","} else "D"
    if tag == "B" and previous in {"D", "U"}:
        return WORD  # "a long report", "the first queen", "the only two"
    return tag


def _open_class(token: Token, before: Item | None, previous: str, ahead: str) -> str:
    """Tell verbs from nouns and adjectives."""
    lower = token.lower
    noun_place = previous in {"D", "P", "U"} or (before is not None and before.possessive)
    if is_past(lower) or lower in {"born", "based"}:
        return WORD if noun_place and ahead not in {"by"} else "V"
    if is_gerund(lower):
        return WORD if previous in {"D", "U"} else "G"
    if noun_place:
        return WORD
    opens = ahead == NAME or _CLOSED.get(ahead, "") in {"D", "P", "O", "B", "U"}
    if lower in PRESENT:
        if is_past(ahead) or ahead in AUXILIARIES:
            return WORD
        if previous in {"N", "R", "O", "B"} or (previous == WORD and opens):
            return "V"
        # "The bank, which owns ...", "who writes and sings"
        return "V" if previous in {"C", ",", ")"} and opens else WORD
    if lower in BASES:
        if previous in {"T", "O"} or (before is not None and before.lower in _MODALS):
            return "V"
        plural = before is not None and before.tag in {WORD, NAME, "R"} and opens
        return "V" if plural and ahead not in {"of", "in"} else WORD
    return WORD


_CLOSED: dict[str, str] = {}
for _list, _letter in (
    (NUMERALS, NUMBER),
    (ADVERBS, "B"),
    (SUBORDINATE, "S"),
    (PRONOUNS, "O"),
    (PREPOSITIONS, "P"),
    (DETERMINERS, "D"),
    (CONJUNCTIONS, "C"),
    (RELATIVE, "R"),
    (AUXILIARIES, "A"),
):
    for _word in _list:
        _CLOSED[_word] = _letter
_CLOSED["as"] = "P"

_CHUNK = re.compile(
    r"(?P<v>[AB]*+[VG]B?(?:T[AVW]V?)*|B*+A[AB]*+(?:T[AVW]V?)*)"
    r"|(?P<n>D*+(?:Y(?=W))?+[WUN]++|Y)"
    r"|(?P<x>.)"
)


def chunks_of(items: Sequence[Item]) -> list[Chunk]:
    """Return the chunks of a sentence in order; together they hold every item."""
    tags = "".join(item.tag for item in items)
    return [
        Chunk(m.lastgroup if m.lastgroup != "x" else m[0], m.start(), m.end() - 1)  # type: ignore[arg-type]
        for m in _CHUNK.finditer(tags)
    ]
