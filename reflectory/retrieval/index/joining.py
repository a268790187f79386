"""What is kept of an index and what is new, put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.graph.building import build_graph, similar_passages
from reflectory.retrieval.graph.extending import extend_graph
from reflectory.retrieval.graph.knowledge_graph import KnowledgeGraph
from reflectory.retrieval.index.lines import Joined
from reflectory.retrieval.index.parts import IndexParts, Layer
from reflectory.retrieval.search.lexical import LexicalIndex
from reflectory.retrieval.structure import (
    DocumentStructure,
    Extractor,
    Gazetteer,
    link_entities,
    name_key,
    structure_of,
)
from reflectory.retrieval.vectors import VectorIndex
from reflectory.types import Document, Passage

FEW = 1 / 16
"""Up to this share of new documents, the others are not linked again."""

_MOST_HOLDERS = 4096
"""Old passages with all words of a new subject beyond which it is an ordinary phrase."""


def embedded_text(passage: Passage) -> str:
    """Return what is embedded for a passage: its text, after its title where it lacks that.

    A passage from the middle of a document often does not say what it is about,
    which the title does.
    """
    if passage.title.casefold() in passage.text.casefold():
        return passage.text
    return f"{passage.title}\n{passage.text}"


@dataclass(frozen=True)
class Cut:
    """What is kept of an index, and what is new.

    Attributes:
        kept: Documents of the old index that stay, by their number there.
        kept_rows: Their passages, by row.
        documents: New documents.
        passages: Their passages.
        document_of: Document of each new passage, counted from the first new one.
    """

    kept: list[int]
    kept_rows: NDArray[np.int64]
    documents: list[Document]
    passages: list[Passage]
    document_of: NDArray[np.int32]


def join_parts(
    old: IndexParts | None,
    cut: Cut,
    rows: NDArray[np.float32],
    layers: frozenset[Layer],
    extractor: Extractor | None,
) -> IndexParts:
    """Return the parts of an index of what was kept and what is new.

    Args:
        old: The index that was there.
        cut: What is kept of it, and the new documents and passages.
        rows: Vectors of the new passages.
        layers: What is built besides the vectors.
        extractor: For the graph layer.
    """
    whole = old is not None and len(cut.kept) == len(old.documents)
    documents: Sequence[Document] = cut.documents
    passages: Sequence[Passage] = cut.passages
    document_of = cut.document_of + np.int32(len(cut.kept))
    lexical = None
    if old is not None:
        if whole:  # as they are, most of them unread
            documents = Joined(old.documents, documents)
            passages = Joined(old.passages, passages)
        else:
            documents = [*(old.documents[i] for i in cut.kept), *documents]
            passages = [*(old.passages[i] for i in cut.kept_rows), *passages]
        place = np.full(len(old.documents), -1, dtype=np.int32)
        place[cut.kept] = np.arange(len(cut.kept), dtype=np.int32)
        document_of = np.concatenate([place[old.document_of[cut.kept_rows]], document_of])
    if "lexical" in layers:
        lexical = LexicalIndex.build(
            (embedded_text(p) for p in cut.passages),
            before=None if old is None else old.lexical,
            kept=cut.kept_rows.tolist(),
        )
    vectors = _vectors(old, cut, rows, whole=whole)
    parts = IndexParts(documents, passages, document_of, vectors, lexical=lexical)
    if extractor is None or "graph" not in layers:
        return parts
    extracted = extractor.extract([document.text for document in cut.documents])
    new = [structure_of(d, e) for d, e in zip(cut.documents, extracted, strict=True)]
    parts = replace(parts, extractor_fingerprint=extractor.fingerprint)
    if old is not None and whole:
        parts = replace(parts, grown=(*old.grown, len(old.documents)))
    if old is not None and whole and len(new) <= FEW * len(old.documents):
        return _with_few_more(parts, old, cut, new)
    kept = [] if old is None else [old.structures[i] for i in cut.kept]
    return _linked_anew(parts, [*kept, *new], old if whole else None)


def _vectors(
    old: IndexParts | None, cut: Cut, rows: NDArray[np.float32], *, whole: bool
) -> VectorIndex:
    if old is None:
        return VectorIndex.build(rows)
    if whole:
        return old.vectors.extended(rows) if len(rows) else old.vectors
    kept = old.vectors.rows(cut.kept_rows)
    return VectorIndex.build(np.concatenate([kept, rows]) if len(rows) else kept)


def _linked_anew(
    parts: IndexParts, structures: Sequence[DocumentStructure], old: IndexParts | None
) -> IndexParts:
    """Link the names of all documents."""
    known, first = None, 0
    if old is not None and old.graph is not None:
        known, first = old.graph.similarity, len(old.passages)
    graph = build_graph(
        parts.document_of,
        [passage.start for passage in parts.passages],
        structures,
        link_entities(parts.documents, structures),
        similar_passages(parts.vectors, parts.document_of, known=known, first=first),
    )
    return replace(parts, structures=structures, graph=graph)


def _with_few_more(
    parts: IndexParts, old: IndexParts, cut: Cut, new: Sequence[DocumentStructure]
) -> IndexParts:
    """Link the names of new documents with those that the graph knows."""
    if old.graph is None:
        raise RuntimeError("an index without a graph was extended with one")
    first = len(old.passages)
    similar = similar_passages(
        parts.vectors, parts.document_of, known=old.graph.similarity, first=first
    )
    added = build_graph(
        cut.document_of,
        [passage.start for passage in cut.passages],
        new,
        link_entities(cut.documents, new),
        similar[first:, first:],
    )
    found = _new_subjects(old, old.graph, new)
    graph = extend_graph(old.graph, added, found, similar)
    return replace(parts, structures=Joined(old.structures, new), graph=graph)


def _new_subjects(
    old: IndexParts, graph: KnowledgeGraph, new: Sequence[DocumentStructure]
) -> Iterator[tuple[int, str]]:
    """Yield where old passages name what only new documents are about, as (passage, key).

    The words of a subject tell which passages can name it; only those are read.
    """
    if old.lexical is None:
        return
    known = {graph.keys[entity] for entity in np.unique(graph.about.indices).tolist()}
    subjects = {name_key(name): name for structure in new for name in structure.subjects}
    rows: set[int] = set()
    for key, name in subjects.items():
        if key and key not in known:
            holders = old.lexical.holders(name)
            if len(holders) <= _MOST_HOLDERS:
                rows.update(holders.tolist())
    gazetteer = Gazetteer(key for key in subjects if key)
    for row in sorted(rows):
        for hit in gazetteer.find(old.passages[row].text):
            if hit.certain and hit.key not in known:
                yield row, hit.key
