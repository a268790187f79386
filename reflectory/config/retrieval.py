"""How documents become the context C_t."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from reflectory.config.base import Settings

Layer = Literal["dense", "lexical", "graph", "rerank", "spread"]
"""A layer of retrieval; see :class:`RetrievalConfig`."""


class RetrievalConfig(Settings):
    """How documents become the context C_t.

    Attributes:
        layers: What passages are found by. ``dense`` and ``lexical`` find first hits
            by vectors and by words, and are fused when both are on; ``graph`` walks from
            them over shared entities to what they lead to; ``rerank`` judges passages by
            pairs that together say what was asked; ``spread`` lets further passages of
            one document count for less. The last three are for documents; any other
            retriever has its own ways.
        extractor: What finds names and relations for the graph: ``rules``, or
            ``spacy:PACKAGE_OR_PATH``.
        cache_embeddings: Keep the vectors of passages in the cache folder, so that no
            passage is ever embedded twice.
        passage_tokens: Most tokens of a passage; sentences are kept whole.
        per_document: Most passages of one document in S_i (its quota).
        passages: Most passages of C_0 over all documents.
        per_question: Most passages that a question adds to its own context C[j,t].
        context_tokens: Budget of C_t in tokens, the additions included.
        useful_score: A question's new passage joins C_{t+1} when the answer that rests
            on it was graded at least this high. The best new passage of a question whose
            answer was graded lower, or said what nothing supports, joins behind them.
    """

    layers: tuple[Layer, ...] = ("dense", "lexical", "graph", "rerank", "spread")
    extractor: str = Field(default="rules", min_length=1)
    cache_embeddings: bool = True
    passage_tokens: int = Field(default=120, ge=16, le=2000)
    per_document: int = Field(default=2, ge=1)
    passages: int = Field(default=4, ge=1)
    per_question: int = Field(default=1, ge=0)
    context_tokens: int = Field(default=700, ge=32)
    useful_score: float = Field(default=0.5, ge=0.0, le=1.0)

    @field_validator("layers")
    @classmethod
    def _finds_something(cls, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        if not {"dense", "lexical"} & set(layers):
            raise ValueError("neither dense nor lexical is on, so nothing would be found")
        return tuple(dict.fromkeys(layers))
