"""A text as sentences of chunks: what the rules read, before they look for relations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reflectory.retrieval.sentences import blocks
from reflectory.retrieval.sentences import sentences as split_sentences
from reflectory.retrieval.structure.chunks import DATE, NAME, Chunk, Item, chunks_of, items_of
from reflectory.retrieval.structure.names import Sentence, find_names
from reflectory.retrieval.structure.records import Mention
from reflectory.retrieval.structure.tokens import date_spans, tokens_of


class ParsedSentence(NamedTuple):
    """A sentence as items and chunks.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last character.
        items: Its words, names and marks.
        chunks: Noun phrases, verb groups and the rest; together they hold every item.
        heading: Whether it is a heading, which has no grammar to read.
    """

    start: int
    end: int
    items: list[Item]
    chunks: list[Chunk]
    heading: bool = False


def parse(text: str) -> tuple[tuple[Mention, ...], list[ParsedSentence]]:
    """Return the names of a text, and its sentences with their chunks in order."""
    sentences = list(_sentences(text))
    mentions = find_names(text, sentences, date_spans(text))
    names = {
        mention.start: (mention.end, DATE if mention.kind == "date" else NAME)
        for mention in mentions
        if mention.kind != "group"  # an adjective for the grammar
    }
    parsed = []
    for sentence in sentences:
        items = items_of(text, sentence.tokens, names)
        parsed.append(
            ParsedSentence(sentence.start, sentence.end, items, chunks_of(items), sentence.heading)
        )
    return tuple(mentions), parsed


def _sentences(text: str) -> Iterator[Sentence]:
    """Yield the sentences that say something in their case; a line of capitals does not."""
    for block in blocks(text):
        for start, end in split_sentences(text, block.start, block.end):
            tokens = tokens_of(text, start, end)
            if len(tokens) > 1 and text[start:end].isupper():
                continue
            yield Sentence(start, end, tokens, block.lead)
