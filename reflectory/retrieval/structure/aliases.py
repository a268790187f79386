"""Where a text says that two names are one thing."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

from reflectory.retrieval.structure.keys import is_acronym_of, name_key
from reflectory.retrieval.structure.lexicon import FUNCTION_WORDS, PARTICLES
from reflectory.retrieval.structure.records import Mention

_CUE = re.compile(
    r"\b(?:also|better|best|commonly|otherwise|generally|popularly|formerly|previously|now|"
    r"sometimes|professionally)\s+(?:known|called|referred\s+to|spelled|written|abbreviated|named)"
    r"(?:\s+(?:simply|just|professionally|mononymously))?(?:\s+(?:as|to\s+as|by))?\s+"
    r"|\b(?:known\s+(?:(?:professionally|mononymously|simply|commonly)\s+)?as|abbreviated(?:\s+as)?"
    r"|stylised\s+as|stylized\s+as|nicknamed|a\.k\.a\.|aka|née|born)\s+"
)
_LEAD_IN = re.compile(r"(?:(?:the|The)\s+)?[\"'“‘«„(]*\s*")  # noqa: RUF001
_REACH = 200
"""Characters between a name and the words that give it another one."""

_NEXT_SENTENCE = re.compile(r"[.!?]\s+[A-Z]|\n\n")
_SMALL = FUNCTION_WORDS | PARTICLES


def stated_aliases(
    text: str, mentions: Sequence[Mention], start: int = 0, end: int | None = None
) -> Iterator[tuple[str, str]]:
    """Yield pairs (name, alias) that ``text[start:end]`` states.

    Two forms are read: an acronym in brackets behind the name it abbreviates or the
    other way round, and a name behind words such as *also known as*.

    Args:
        text: The text.
        mentions: Its names in the order of the text.
        start: Where to begin.
        end: Where to stop; ``None`` for the end of the text.
    """
    end = len(text) if end is None else end
    names = [m for m in mentions if m.kind not in {"date", "number", "group", "phrase"}]
    names = [m for m in names if start <= m.start and m.end <= end]
    yield from _in_brackets(text, names)
    starts = [m.start for m in names]
    for cue in _CUE.finditer(text, start, end):
        lead = _LEAD_IN.match(text, cue.end(), end)
        after = bisect_left(starts, cue.end())
        if after == len(names) or lead is None or names[after].start > lead.end():
            continue
        # "born" gives another name inside brackets only, else a place or a date.
        if cue[0].startswith("born") and text[max(0, cue.start() - 1) : cue.start()] != "(":
            continue
        before = _named_before(text, names, after, cue.start())
        if before is not None:
            yield before.name, names[after].name


def _named_before(text: str, names: Sequence[Mention], after: int, cue: int) -> Mention | None:
    """Return the first name of the sentence that the cue stands in."""
    found = None
    for at in range(after - 1, max(-1, after - 6), -1):
        near = cue - names[at].end <= _REACH
        if not near or _NEXT_SENTENCE.search(text, names[at].end, cue):
            break
        found = names[at]
    return found


def _in_brackets(text: str, names: Sequence[Mention]) -> Iterator[tuple[str, str]]:
    for before, inside in pairwise(names):
        if text[before.end : inside.start].strip(' "“”') != "(":
            continue
        if text[inside.end : inside.end + 1] not in {")", ",", ";"}:
            continue
        long, short = before.name, inside.name
        if len(name_key(long)) < len(name_key(short)):
            long, short = short, long
        if is_acronym_of(name_key(short), name_key(long).split(), small=_SMALL):
            yield long, short
