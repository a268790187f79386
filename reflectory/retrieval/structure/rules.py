"""The default extractor: rules on capitals, function words and the forms of verbs."""

from __future__ import annotations

from collections.abc import Sequence

from reflectory.retrieval.structure.parsing import parse
from reflectory.retrieval.structure.records import Extraction, Mention, Relation
from reflectory.retrieval.structure.relations import phrases_in, relations_in


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
    mentions, sentences = parse(text)
    phrases: list[Mention] = []
    relations: list[Relation] = []
    for sentence in sentences:
        phrases += phrases_in(text, sentence.items, sentence.chunks)
        if not sentence.heading:
            relations += relations_in(
                text, sentence.items, sentence.chunks, sentence.start, sentence.end
            )
    return Extraction(mentions=mentions, phrases=tuple(phrases), relations=tuple(relations))
