"""Sentences with one stretch taken out: what can be asked about a passage, and how.

A small model cannot write a question for a given answer, but a sentence that states
the answer nearly is one. So every question that is written this way has an answer that
a document states, word for word.
"""

from __future__ import annotations

import re

from reflectory.agents.practice.clauses import Gap, SentenceReader
from reflectory.retrieval.structure.chunks import Item
from reflectory.retrieval.structure.lexicon import BE
from reflectory.retrieval.structure.parsing import ParsedSentence, parse

_CLASS_WORDS = 5
_BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")
_BORN = re.compile(
    r"^(?P<who>[^()]{2,60}?)\s*\((?:[^()]*?;\s*)?born\s+(?P<when>[^();,]{4,30}\d{4})"
)


def gaps_in(text: str, subject: str = "") -> list[Gap]:
    """Return what can be asked about a text, in its order.

    Args:
        text: A passage.
        subject: What its document is about, which *it*, *he* or *she* at the head of a
            sentence stands for; sentences that begin so are left out without it.
    """
    found: list[Gap] = []
    if born := _BORN.match(text):
        who, when = born["who"].strip(" ,"), born["when"].strip()
        found.append(Gap(when, "date", (f"When was {who} born?",), "", f"{who} was born {when}."))
    plain = _BRACKETS.sub("", text)
    _, sentences = parse(plain)
    nouns = _nouns_of(sentences) if subject else frozenset()
    for sentence in sentences:
        if not sentence.heading and not plain[sentence.start : sentence.end].endswith("?"):
            found += SentenceReader(plain, sentence, subject, nouns).gaps()
    return found


def class_of(text: str) -> str:
    """Return what the first sentence of a text says that its subject is.

    As in *English film director*: the first noun phrase behind *is* or *was*, without its
    article; empty where there is none.
    """
    plain = _BRACKETS.sub("", text)
    _, sentences = parse(plain)
    found = _complement(sentences)
    if found is None:
        return ""
    items = [i for i in found if i.tag != "D"]
    return plain[items[0].start : items[-1].end] if 0 < len(items) <= _CLASS_WORDS else ""


def _nouns_of(sentences: list[ParsedSentence]) -> frozenset[str]:
    """Return *the film* and the like, where the first sentence says what its subject is."""
    found = _complement(sentences)
    return frozenset() if found is None else frozenset({f"the {found[-1].lower}"})


def _complement(sentences: list[ParsedSentence]) -> list[Item] | None:
    """Return the noun phrase behind the first form of *be*, where the sentence begins with it."""
    if not sentences:
        return None
    items, chunks = sentences[0].items, sentences[0].chunks
    for at, chunk in enumerate(chunks[:-1]):
        if chunk.kind == "v":
            following = chunks[at + 1]
            if items[chunk.last].lower not in BE or following.kind != "n":
                return None
            found = items[following.first : following.last + 1]
            return found if found[0].tag == "D" and found[-1].tag == "W" else None
    return None
