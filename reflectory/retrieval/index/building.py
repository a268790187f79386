"""From documents to the parts of an index, from nothing or from an index that is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import BackendError, DocumentError, UserError
from reflectory.models.protocol import Embedder
from reflectory.retrieval.graph.building import Similar, build_graph, similar_passages
from reflectory.retrieval.index.parts import IndexParts, Layer
from reflectory.retrieval.passages import estimate_tokens, split_passages
from reflectory.retrieval.preprocess import preprocess
from reflectory.retrieval.search.lexical import LexicalIndex
from reflectory.retrieval.structure import (
    DocumentStructure,
    Extractor,
    link_entities,
    resolve_extractor,
    structure_of,
)
from reflectory.retrieval.vectors import VectorIndex
from reflectory.types import Document, Passage

CountTokens = Callable[[str], int]
Progress = Callable[[int, int], None]

EMBEDDED_AT_ONCE = 1024
"""Passages that go to the embedder together: many enough that it finds some of one length."""

_TOLERANCE = 1e-2


def embedded_text(passage: Passage) -> str:
    """Return what is embedded for a passage: its text, after its title where it lacks that.

    A passage from the middle of a document often does not say what it is about,
    which the title does.
    """
    if passage.title.casefold() in passage.text.casefold():
        return passage.text
    return f"{passage.title}\n{passage.text}"


@dataclass(frozen=True)
class _Cut:
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


async def extend_parts(
    old: IndexParts | None,
    documents: Sequence[Document],
    embedder: Embedder,
    *,
    passage_tokens: int,
    count_tokens: CountTokens | None,
    layers: frozenset[Layer],
    extractor: Extractor | None,
    progress: Progress | None,
) -> IndexParts:
    """Return the parts of an index with more documents; see :class:`PassageIndex`."""
    reader: Extractor | None = None
    if "graph" in layers:
        reader = extractor or resolve_extractor("rules")
        if old is not None and reader.fingerprint != old.extractor_fingerprint:
            raise UserError(
                f"the index was made with the extractor {old.extractor_fingerprint}, "
                f"not with {reader.fingerprint}",
                hint="use that extractor, or build the index again",
            )
    count = count_tokens or estimate_tokens
    cut = await asyncio.to_thread(_cut, old, documents, passage_tokens, count)
    if old is not None and not cut.documents:
        return old
    rows = await _embedded(cut.passages, embedder, progress)
    return await asyncio.to_thread(_joined, old, cut, rows, layers, reader)


def _cut(
    old: IndexParts | None,
    documents: Sequence[Document],
    passage_tokens: int,
    count_tokens: CountTokens,
) -> _Cut:
    """Sort documents into known and new ones, and cut the new ones into passages."""
    if not documents:
        raise DocumentError("no documents were given", hint="give at least one")
    repeated = [name for name, n in Counter(d.id for d in documents).items() if n > 1]
    if repeated:
        raise DocumentError(
            f"{len(repeated)} document ids occur more than once, such as {repeated[0]!r}",
            hint="ids must differ",
        )
    prepared = [preprocess(document) for document in documents]
    known = {} if old is None else {document.id: document for document in old.documents}
    new = [document for document in prepared if known.get(document.id) != document]
    replaced = {document.id for document in new}
    kept = [] if old is None else [i for i, d in enumerate(old.documents) if d.id not in replaced]
    passages: list[Passage] = []
    owners: list[int] = []
    for number, document in enumerate(new):
        cut = split_passages(document, max_tokens=passage_tokens, count_tokens=count_tokens)
        passages += cut
        owners += [number] * len(cut)
    kept_rows = np.zeros(0, dtype=np.int64)
    if old is not None:
        kept_rows = np.flatnonzero(np.isin(old.document_of, kept)).astype(np.int64)
    if not passages and len(kept_rows) == 0:
        raise DocumentError(
            f"none of the {len(documents)} documents has text", hint="give documents with text"
        )
    return _Cut(kept, kept_rows, new, passages, np.asarray(owners, dtype=np.int32))


async def _embedded(
    passages: Sequence[Passage], embedder: Embedder, progress: Progress | None
) -> NDArray[np.float32]:
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(passages), EMBEDDED_AT_ONCE):
        batch = passages[start : start + EMBEDDED_AT_ONCE]
        rows = await embedder.embed([embedded_text(passage) for passage in batch])
        # Asking for the dimension may load a model.
        dimension = await asyncio.to_thread(lambda: embedder.dimension)
        found.append(_checked_rows(rows, len(batch), dimension, embedder.fingerprint))
        if progress is not None:
            progress(start + len(batch), len(passages))
    return np.concatenate(found) if found else np.zeros((0, 1), dtype=np.float32)


def _checked_rows(
    rows: NDArray[np.float32], count: int, dimension: int, embedder: str
) -> NDArray[np.float32]:
    array = np.ascontiguousarray(rows, dtype=np.float32)
    if array.shape != (count, dimension) or not np.isfinite(array).all():
        raise BackendError(
            f"the embedder {embedder} returned an array of shape {array.shape} for "
            f"{count} texts, or one that is not finite",
            hint=f"expected ({count}, {dimension}) finite numbers",
            retryable=False,
        )
    lengths = np.linalg.norm(array, axis=1)
    if np.any((np.abs(lengths - 1) > _TOLERANCE) & (lengths > 0)):
        raise BackendError(
            f"the embedder {embedder} returned vectors that are not of length 1",
            hint="normalise them; the index takes the inner product for the cosine",
            retryable=False,
        )
    return array


def _joined(
    old: IndexParts | None,
    cut: _Cut,
    rows: NDArray[np.float32],
    layers: frozenset[Layer],
    extractor: Extractor | None,
) -> IndexParts:
    """Put what was kept and what is new together, and build the layers over all of it."""
    kept_documents = [] if old is None else [old.documents[i] for i in cut.kept]
    kept_passages = [] if old is None else [old.passages[i] for i in cut.kept_rows]
    documents = [*kept_documents, *cut.documents]
    passages = [*kept_passages, *cut.passages]
    document_of = cut.document_of + np.int32(len(kept_documents))
    if old is not None:
        place = np.full(len(old.documents), -1, dtype=np.int32)
        place[cut.kept] = np.arange(len(cut.kept), dtype=np.int32)
        document_of = np.concatenate([place[old.document_of[cut.kept_rows]], document_of])
    whole = old is not None and len(cut.kept) == len(old.documents)
    vectors = _vectors(old, cut, rows, whole=whole)
    lexical = None
    if "lexical" in layers:
        lexical = LexicalIndex.build(
            (embedded_text(p) for p in cut.passages),
            before=None if old is None else old.lexical,
            kept=cut.kept_rows.tolist(),
        )
    parts = IndexParts(documents, passages, document_of, vectors, lexical=lexical)
    if extractor is None or "graph" not in layers:
        return parts
    kept_structures = [] if old is None else [old.structures[i] for i in cut.kept]
    return _with_graph(parts, kept_structures, cut, extractor, old if whole else None)


def _vectors(
    old: IndexParts | None, cut: _Cut, rows: NDArray[np.float32], *, whole: bool
) -> VectorIndex:
    if old is None:
        return VectorIndex.build(rows)
    if whole:
        return old.vectors.extended(rows) if len(rows) else old.vectors
    kept = old.vectors.rows(cut.kept_rows)
    return VectorIndex.build(np.concatenate([kept, rows]) if len(rows) else kept)


def _with_graph(
    parts: IndexParts,
    kept_structures: Sequence[DocumentStructure],
    cut: _Cut,
    extractor: Extractor,
    old: IndexParts | None,
) -> IndexParts:
    extracted = extractor.extract([document.text for document in cut.documents])
    structures = [
        *kept_structures,
        *(structure_of(d, e) for d, e in zip(cut.documents, extracted, strict=True)),
    ]
    links = link_entities(parts.documents, structures)
    starts = [passage.start for passage in parts.passages]
    known: Similar | None = None
    first = 0
    if old is not None and old.graph is not None:
        known, first = old.graph.similarity, len(old.passages)
    graph = build_graph(
        parts.document_of,
        starts,
        structures,
        links,
        similar_passages(parts.vectors, parts.document_of, known=known, first=first),
    )
    return IndexParts(
        documents=parts.documents,
        passages=parts.passages,
        document_of=parts.document_of,
        vectors=parts.vectors,
        structures=structures,
        lexical=parts.lexical,
        graph=graph,
        extractor_fingerprint=extractor.fingerprint,
    )
