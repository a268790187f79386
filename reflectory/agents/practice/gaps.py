"""Sentences with one stretch taken out: what can be asked about a passage, and how.

A small model cannot write a question for a given answer, but a sentence that states
the answer nearly is one. So every question that is written this way has an answer that
a document states, word for word.
"""

from __future__ import annotations

import re

from reflectory.agents.practice.clauses import SentenceReader
from reflectory.agents.practice.lexicon import EMPTY
from reflectory.agents.practice.wording import Gap
from reflectory.retrieval.structure.chunks import Item
from reflectory.retrieval.structure.lexicon import ADVERBS, BE
from reflectory.retrieval.structure.parsing import ParsedSentence, parse
from reflectory.retrieval.structure.tokens import date_spans

_CLASS_WORDS = 5
_YEAR = re.compile(r"\d{4}")
# No run of white space is entered in its middle, so that a line of blanks takes linear time.
_BRACKETS = re.compile(r"(?<!\s)\s*+[(\[][^()\[\]]*[)\]]|[(\[][^()\[\]]*[)\]]")
_BORN = re.compile(r"(?P<who>[^\W\d_][^()?!\n]{1,60})\((?:[^()]*?;\s*)?born\b(?P<rest>[^()]{4,60})")


def gaps_in(text: str, subject: str = "") -> list[Gap]:
    """Return what can be asked about a text, in its order.

    Args:
        text: A passage.
        subject: What its document is about, which *it*, *he*, *she* or *its* at the head of
            a sentence stands for. Sentences that begin so are left out without it, and
            where it is no name (*The case for a comet*).
    """
    found: list[Gap] = []
    if birth := _birth(text):
        found.append(birth)
    plain = _BRACKETS.sub("", text)
    _, sentences = parse(plain)
    nouns = _nouns_of(sentences) if subject else frozenset()
    for sentence in sentences:
        if not sentence.heading and not plain[sentence.start : sentence.end].endswith("?"):
            found += SentenceReader(plain, sentence, subject, nouns).gaps()
    said = " ".join(text.split())  # a name that went round a bracket is no stretch of it
    return [gap for gap in found if gap.answer in said]


def _birth(text: str) -> Gap | None:
    """Return the date in *Anna Smith (born 3 May 1950)*, which an article begins with."""
    born = _BORN.match(text)
    if born is None:
        return None
    who = " ".join(born["who"].split()).strip(" ,")
    dates = date_spans(born["rest"])
    when = " ".join(born["rest"][slice(*dates[0])].split()) if dates else ""
    if not _YEAR.search(when) or when in who or len(who) < 2:
        return None
    return Gap(when, "date", (f"When was {who} born?",), "", f"{who} was born {when}.")


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
            noun = found[-1].tag == "W" and found[-1].lower not in ADVERBS | EMPTY
            return found if noun and found[0].tag == "D" else None
    return None
