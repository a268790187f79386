"""The passages of a set of documents, searchable by vector.

FAISS compares the query with every passage (a flat index over unit vectors, so
the inner product is the cosine): exact, without anything to train, and fast
enough for a million passages. ``faiss`` is imported when an index is built or read.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import BackendError, DocumentError, UserError
from reflectory.models.protocol import Embedder
from reflectory.retrieval.index_files import (
    fingerprint_of,
    is_index,
    read_index_folder,
    write_index_folder,
)
from reflectory.retrieval.passages import estimate_tokens, split_passages
from reflectory.retrieval.preprocess import preprocess
from reflectory.types import Document, Passage, ScoredPassage

_BATCH = 256
_DIGITS = 6
_TOLERANCE = 1e-2

__all__ = ["PassageIndex", "embedded_text", "is_index"]


def embedded_text(passage: Passage) -> str:
    """Return what is embedded for a passage: its text, after its title where it lacks that.

    A passage from the middle of a document often does not say what it is about,
    which the title does.
    """
    if passage.title.casefold() in passage.text.casefold():
        return passage.text
    return f"{passage.title}\n{passage.text}"


class PassageIndex:
    """Documents, their passages, and one unit vector per passage.

    Made by :meth:`build` or :meth:`load`; immutable.

    Args:
        documents: The documents, preprocessed.
        passages: Their passages; row i of the vectors belongs to passage i.
        vectors: A FAISS flat inner-product index.
        embedder_fingerprint: Identity of the embedder that made the vectors.
        passage_tokens: The limit that the passages were cut with.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        passages: Sequence[Passage],
        vectors: Any,
        *,
        embedder_fingerprint: str,
        passage_tokens: int,
    ) -> None:
        self.documents = tuple(documents)
        self.passages = tuple(passages)
        self.embedder_fingerprint = embedder_fingerprint
        self.passage_tokens = passage_tokens
        self.fingerprint = fingerprint_of(self.documents, self.passages, embedder_fingerprint)
        self._vectors = vectors

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._vectors.d)

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self.passages)

    @classmethod
    async def build(
        cls,
        documents: Iterable[Document],
        embedder: Embedder,
        *,
        passage_tokens: int,
        count_tokens: Callable[[str], int] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Preprocess, cut and embed documents.

        Args:
            documents: The documents; ids must differ. One without text has no passages.
            embedder: Makes the vectors.
            passage_tokens: Most tokens of a passage.
            count_tokens: Counts them; an estimate from the bytes when ``None``.
            progress: Called with (passages embedded, passages in all) after each batch.

        Raises:
            DocumentError: There is no document, none has text, or two share an id.
            BackendError: The embedder returned something that is no vector.
        """
        prepared, passages = await asyncio.to_thread(
            _cut, list(documents), passage_tokens, count_tokens or estimate_tokens
        )
        vectors = await asyncio.to_thread(_empty_flat_index, embedder)
        for start in range(0, len(passages), _BATCH):
            batch = passages[start : start + _BATCH]
            rows = await embedder.embed([embedded_text(passage) for passage in batch])
            vectors.add(_checked_rows(rows, len(batch), embedder))
            if progress is not None:
                progress(start + len(batch), len(passages))
        return cls(
            prepared,
            passages,
            vectors,
            embedder_fingerprint=embedder.fingerprint,
            passage_tokens=passage_tokens,
        )

    def search(self, vector: NDArray[np.float32], k: int) -> list[ScoredPassage]:
        """Return the ``k`` nearest passages (fewer if there are fewer), best first.

        Args:
            vector: Shape (dimension,), finite.
            k: At least 1.

        Returns:
            Passages with their cosine, rounded to six digits so that other
            hardware orders them alike; equal ones are ordered by id.

        Raises:
            UserError: The vector has another shape or is not finite, or k < 1.
        """
        return self.search_per_document(vector, per_document=len(self), limit=k)

    def search_per_document(
        self, vector: NDArray[np.float32], per_document: int, limit: int
    ) -> list[ScoredPassage]:
        """Return S_i of all documents: the nearest passages under a quota for each.

        Args:
            vector: Shape (dimension,), finite.
            per_document: Most passages of one document, at least 1.
            limit: Most passages in all, at least 1.

        Returns:
            As :meth:`search`.

        Raises:
            UserError: The vector has another shape or is not finite, or a number is below 1.
        """
        for name, value in (("per_document", per_document), ("limit", limit)):
            if value < 1:
                raise UserError(f"{name} is {value}", hint="ask for at least one passage")
        query = np.ascontiguousarray(vector, dtype=np.float32)
        if query.shape != (self.dimension,) or not np.isfinite(query).all():
            raise UserError(
                f"the query vector has shape {query.shape} or is not finite, "
                f"the index has dimension {self.dimension}",
                hint="embed the query with the embedder of the index",
            )
        # A few more than asked for, then four times as many until the quota is
        # met. The worst that FAISS returned may tie with one that it left out, so
        # only what scores above it is certain.
        depth = min(len(self), max(64, 4 * limit))
        while True:
            ranked = self._nearest(query, depth)
            chosen = _within_quota(ranked, per_document, limit)
            complete = len(chosen) == limit and chosen[-1].score > ranked[-1].score
            if complete or depth == len(self):
                return chosen
            depth = min(len(self), 4 * depth)

    def _nearest(self, query: NDArray[np.float32], depth: int) -> list[ScoredPassage]:
        scores, rows = self._vectors.search(query[None, :], depth)
        found = [
            ScoredPassage(passage=self.passages[row], score=round(float(score), _DIGITS) + 0.0)
            for score, row in zip(scores[0], rows[0], strict=True)
        ]
        return sorted(found, key=lambda scored: (-scored.score, scored.passage.id))

    def save(self, folder: str | Path) -> Path:
        """Write the index to a folder: all of it or nothing, the same bytes for the same input.

        An index that is there already is replaced.

        Returns:
            The folder.

        Raises:
            UserError: The folder holds something that is no index.
            StorageError: It cannot be written.
        """
        return write_index_folder(
            Path(folder),
            self.documents,
            self.passages,
            self._vectors,
            embedder_fingerprint=self.embedder_fingerprint,
            passage_tokens=self.passage_tokens,
        )

    @classmethod
    def load(cls, folder: str | Path, embedder: Embedder) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            folder: The folder.
            embedder: What will embed the queries; it must be the one of the index.

        Raises:
            UserError: It is no index, one of a newer schema, or of another embedder.
            IntegrityError: A file is missing or damaged.
        """
        contents = read_index_folder(Path(folder), embedder)
        return cls(
            contents.documents,
            contents.passages,
            contents.vectors,
            embedder_fingerprint=embedder.fingerprint,
            passage_tokens=contents.passage_tokens,
        )


def _cut(
    documents: list[Document], passage_tokens: int, count_tokens: Callable[[str], int]
) -> tuple[list[Document], list[Passage]]:
    if not documents:
        raise DocumentError("no documents were given", hint="give at least one")
    repeated = [name for name, n in Counter(d.id for d in documents).items() if n > 1]
    if repeated:
        raise DocumentError(
            f"{len(repeated)} document ids occur more than once, such as {repeated[0]!r}",
            hint="ids must differ",
        )
    prepared = [preprocess(document) for document in documents]
    passages = [
        passage
        for document in prepared
        for passage in split_passages(
            document, max_tokens=passage_tokens, count_tokens=count_tokens
        )
    ]
    if not passages:
        raise DocumentError(
            f"none of the {len(documents)} documents has text", hint="give documents with text"
        )
    return prepared, passages


def _empty_flat_index(embedder: Embedder) -> Any:
    """Return an index of the embedder's dimension (asking for it may load a model)."""
    import faiss

    return faiss.IndexFlatIP(embedder.dimension)


def _checked_rows(rows: NDArray[np.float32], count: int, embedder: Embedder) -> NDArray[np.float32]:
    array = np.ascontiguousarray(rows, dtype=np.float32)
    if array.shape != (count, embedder.dimension) or not np.isfinite(array).all():
        raise BackendError(
            f"the embedder {embedder.fingerprint} returned an array of shape {array.shape} for "
            f"{count} texts, or one that is not finite",
            hint=f"expected ({count}, {embedder.dimension}) finite numbers",
            retryable=False,
        )
    lengths = np.linalg.norm(array, axis=1)
    if np.any((np.abs(lengths - 1) > _TOLERANCE) & (lengths > 0)):
        raise BackendError(
            f"the embedder {embedder.fingerprint} returned vectors that are not of length 1",
            hint="normalise them; the index takes the inner product for the cosine",
            retryable=False,
        )
    return array


def _within_quota(
    ranked: list[ScoredPassage], per_document: int, limit: int
) -> list[ScoredPassage]:
    taken: Counter[str] = Counter()
    chosen: list[ScoredPassage] = []
    for scored in ranked:
        document = scored.passage.document_id
        if taken[document] < per_document:
            taken[document] += 1
            chosen.append(scored)
            if len(chosen) == limit:
                break
    return chosen
