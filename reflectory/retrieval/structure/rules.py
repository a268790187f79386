"""The default extractor: rules on capitals, function words and the forms of verbs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reflectory.retrieval.sentences import blocks
from reflectory.retrieval.sentences import sentences as split_sentences
from reflectory.retrieval.structure.chunks import DATE, NAME, chunks_of, items_of
from reflectory.retrieval.structure.names import Sentence, find_names
from reflectory.retrieval.structure.records import Extraction, Mention, Relation
from reflectory.retrieval.structure.relations import phrases_in, relations_in
from reflectory.retrieval.structure.tokens import date_spans, tokens_of


class RuleExtractor:
    """Names, noun phrases and relations without a model: needs no download, 1 ms per page."""

    VERSION = 1
    """Goes up when the same text gives something else, so that an index knows."""

    @property
    def fingerprint(self) -> str:
        """``rules-VERSION``."""
        return f"rules-{self.VERSION}"

    def extract(self, texts: Sequence[str]) -> list[Extraction]:
        """Return names, phrases and relations of each text."""
        return [_extract(text) for text in texts]


def _extract(text: str) -> Extraction:
    sentences = list(_sentences(text))
    mentions = find_names(text, sentences, date_spans(text))
    names = {
        mention.start: (mention.end, DATE if mention.kind == "date" else NAME)
        for mention in mentions
        if mention.kind != "group"  # an adjective for the grammar
    }
    phrases: list[Mention] = []
    relations: list[Relation] = []
    for sentence in sentences:
        items = items_of(text, sentence.tokens, names)
        chunks = chunks_of(items)
        phrases += phrases_in(text, items, chunks)
        if not sentence.heading:
            relations += relations_in(text, items, chunks, sentence.start, sentence.end)
    return Extraction(mentions=mentions, phrases=tuple(phrases), relations=tuple(relations))


def _sentences(text: str) -> Iterator[Sentence]:
    """Yield the sentences that say something in their case; a line of capitals does not."""
    for block in blocks(text):
        for start, end in split_sentences(text, block.start, block.end):
            tokens = tokens_of(text, start, end)
            if len(tokens) > 1 and text[start:end].isupper():
                continue
            yield Sentence(start, end, tokens, block.lead)
