"""From documents to the parts of an index, from nothing or from an index that is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import BackendError, DocumentError, UserError
from reflectory.models.protocol import Embedder
from reflectory.retrieval.index.joining import Cut, embedded_text, join_parts
from reflectory.retrieval.index.parts import IndexParts, Layer
from reflectory.retrieval.passages import estimate_tokens, split_passages
from reflectory.retrieval.preprocess import preprocess
from reflectory.retrieval.structure import (
    Extractor,
    resolve_extractor,
)
from reflectory.types import Document, Passage

CountTokens = Callable[[str], int]
Progress = Callable[[int, int], None]

EMBEDDED_AT_ONCE = 1024
"""Passages that go to the embedder together: many enough that it finds some of one length."""

_TOLERANCE = 1e-2


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
    """Return the parts of an index with more documents; see :class:`PassageIndex`.

    Raises:
        UserError: The index was made with another extractor.
    """
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
    return await asyncio.to_thread(join_parts, old, cut, rows, layers, reader)


def _cut(
    old: IndexParts | None,
    documents: Sequence[Document],
    passage_tokens: int,
    count_tokens: CountTokens,
) -> Cut:
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
    return Cut(kept, kept_rows, new, passages, np.asarray(owners, dtype=np.int32))


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
