"""From the structures of documents to the knowledge graph."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.graph.knowledge_graph import EntityRelation, KnowledgeGraph
from reflectory.retrieval.structure import DocumentStructure, EntityLinks
from reflectory.retrieval.vectors import VectorIndex

SIMILAR = 0.6
"""Cosine from which two passages of different documents are joined as similar."""

NEIGHBOURS = 3
"""Most similar passages that a passage is joined with by itself."""

WEAK = {"date": 0.3, "group": 0.3}
"""Strength of entities by kind, where it is not 1."""

_BLOCK = 4096


Similar = Any
"""Cosines of similar passages, sparse and symmetric (passages, passages)."""


def build_graph(
    document_of: NDArray[np.int32],
    starts: Sequence[int],
    structures: Sequence[DocumentStructure],
    links: EntityLinks,
    similarity: Similar,
) -> KnowledgeGraph:
    """Return the graph of an index.

    Args:
        document_of: Document of each passage, not falling, shape (passages,).
        starts: Offset of each passage in its document, rising within it.
        structures: Structure of each document.
        links: Which mention is which entity.
        similarity: As :func:`similar_passages` returns it.
    """
    places = _Places(document_of, starts)
    size = (len(starts), len(links.keys))
    held: list[tuple[int, int]] = []
    relations: list[EntityRelation] = []
    for document, structure in enumerate(structures):
        for entity, start, _ in links.mentions[document]:
            if (row := places.row(document, start)) is not None:
                held.append((row, entity))
        for subject, object_, number in links.relations[document]:
            relation = structure.relations[number]
            if (row := places.row(document, relation.start)) is not None:
                relations.append(EntityRelation(subject, relation.verb, object_, row))
    about = [(d, e) for d, entities in enumerate(links.about) for e in entities]
    return KnowledgeGraph(
        document_of=document_of,
        entities=tuple(links.names),
        keys=tuple(links.keys),
        strength=np.asarray([WEAK.get(kind, 1.0) for kind in links.kinds], dtype=np.float32),
        aliases=dict(links.aliases),
        mentions=_counted(held, size),
        about=_once(about, (len(structures), size[1])),
        similarity=similarity,
        relations=tuple(relations),
    )


def similar_passages(
    vectors: VectorIndex,
    document_of: NDArray[np.int32],
    *,
    known: Similar | None = None,
    first: int = 0,
) -> Similar:
    """Join each passage with the nearest ones of other documents.

    Args:
        vectors: The rows of the passages.
        document_of: Document of each passage, shape (passages,).
        known: What is known of the passages before ``first``; they are not searched
            again, so a new passage is joined with an old one when the old one is among
            its own nearest.
        first: The first passage that is new.
    """
    import scipy.sparse as sp

    size = len(document_of)
    rows, columns, data = [], [], []
    # One more than wanted, for the passage itself, and some of its own document.
    depth = min(size, 2 * NEIGHBOURS + 1)
    for start in range(first, size, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, size))
        cosines, found = vectors.search(vectors.rows(block), depth)
        apart = document_of[found] != document_of[block][:, None]
        kept = apart & (apart.cumsum(axis=1) <= NEIGHBOURS) & (cosines >= SIMILAR)
        here, place = kept.nonzero()
        rows.append(block[here])
        columns.append(found[here, place])
        data.append(cosines[here, place])
    pairs = (np.concatenate(rows), np.concatenate(columns)) if rows else ([], [])
    weights = np.concatenate(data).astype(np.float32) if data else np.zeros(0, np.float32)
    one_way = sp.csr_matrix((weights, pairs), shape=(size, size))
    both = one_way.maximum(one_way.T).tocsr()
    if known is not None:
        before = known.copy()
        before.resize((size, size))
        both = both.maximum(before).tocsr()
    return both


class _Places:
    """Finds the passage that holds a character of a document."""

    def __init__(self, document_of: NDArray[np.int32], starts: Sequence[int]) -> None:
        count = int(document_of.max(initial=-1)) + 2
        self._first = np.searchsorted(document_of, np.arange(count)).tolist()
        self._starts = list(starts)

    def row(self, document: int, offset: int) -> int | None:
        """Return the row, or ``None`` for a document without passages."""
        if document + 1 >= len(self._first):  # documents without passages at the end
            return None
        first, last = self._first[document], self._first[document + 1]
        if first == last:
            return None
        return max(int(first), bisect_right(self._starts, offset, first, last) - 1)


def _counted(pairs: Sequence[tuple[int, int]], shape: tuple[int, int]) -> Any:
    """Return a sparse matrix of how often each pair occurs."""
    import scipy.sparse as sp

    rows = np.asarray([row for row, _ in pairs], dtype=np.int32)
    columns = np.asarray([column for _, column in pairs], dtype=np.int32)
    ones = np.ones(len(pairs), dtype=np.float32)
    # Made from pairs, equal ones are added up.
    return sp.csr_matrix((ones, (rows, columns)), shape=shape)


def _once(pairs: Sequence[tuple[int, int]], shape: tuple[int, int]) -> Any:
    found = _counted(pairs, shape)
    found.data = np.ones_like(found.data)
    return found
