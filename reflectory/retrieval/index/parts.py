"""What an index is made of, and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.graph.knowledge_graph import KnowledgeGraph
from reflectory.retrieval.index.lines import lines_of
from reflectory.retrieval.search.lexical import LexicalIndex
from reflectory.retrieval.structure import DocumentStructure
from reflectory.retrieval.vectors import VectorIndex
from reflectory.types import Document, Passage

Layer = Literal["lexical", "graph"]
"""What an index can hold besides its vectors."""


def built_for(layers: Iterable[str]) -> frozenset[Layer]:
    """Return what an index must hold for the layers of a configuration.

    Re-ranking needs the terms of the passages, whether or not they are searched.
    """
    names = set(layers)
    found: set[Layer] = set()
    if names & {"lexical", "rerank"}:
        found.add("lexical")
    if "graph" in names:
        found.add("graph")
    return frozenset(found)


@dataclass(frozen=True)
class IndexParts:
    """Documents, passages and what is searched.

    Attributes:
        documents: The documents, preprocessed.
        passages: Their passages, those of one document together.
        document_of: Document of each passage, shape (passages,).
        vectors: One unit vector per passage.
        structures: One per document with the graph layer, else empty.
        lexical: With the lexical layer.
        graph: With the graph layer.
        extractor_fingerprint: What found names and relations; empty without a graph.
        grown: How many documents there were each time that some were added. Edges of the
            graph depend on it: what was known of old passages was kept.
    """

    documents: Sequence[Document]
    passages: Sequence[Passage]
    document_of: NDArray[np.int32]
    vectors: VectorIndex
    structures: Sequence[DocumentStructure] = ()
    lexical: LexicalIndex | None = None
    graph: KnowledgeGraph | None = None
    extractor_fingerprint: str = ""
    grown: tuple[int, ...] = ()

    @property
    def layers(self) -> frozenset[Layer]:
        """What there is besides the vectors."""
        found: set[Layer] = set()
        if self.lexical is not None:
            found.add("lexical")
        if self.graph is not None:
            found.add("graph")
        return frozenset(found)


def fingerprint_of(parts: IndexParts, embedder_fingerprint: str) -> str:
    """Return the identity of an index: equal content and history of it, and equal embedder.

    Args:
        parts: Of the index, in the order in which they were added.
        embedder_fingerprint: Of what made the vectors.
    """
    digest = hashlib.sha256(embedder_fingerprint.encode("utf-8"))
    digest.update(parts.extractor_fingerprint.encode("utf-8"))
    digest.update(",".join(sorted(parts.layers)).encode("utf-8"))
    digest.update(repr(parts.grown).encode("utf-8"))
    for records in (parts.documents, parts.passages):
        for line in lines_of(records):
            digest.update(line)
    return f"index:{digest.hexdigest()[:32]}"
