"""Documents, their passages, and what each layer of retrieval searches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import UserError
from reflectory.models.protocol import Embedder
from reflectory.retrieval.graph.knowledge_graph import KnowledgeGraph
from reflectory.retrieval.index.building import CountTokens, Progress, extend_parts
from reflectory.retrieval.index.folder import (
    SCHEMA_VERSION,
    IndexDescription,
    read_description,
    write_index_folder,
)
from reflectory.retrieval.index.part_files import read_parts, write_parts
from reflectory.retrieval.index.parts import IndexParts, Layer, fingerprint_of
from reflectory.retrieval.search.lexical import LexicalIndex
from reflectory.retrieval.structure import DocumentStructure, Extractor
from reflectory.retrieval.vectors import VectorIndex
from reflectory.types import Document, Passage


class PassageIndex:
    """Documents, their passages, and what each layer of retrieval searches.

    Made by :meth:`build` or :meth:`load`; immutable: :meth:`extended` returns another.

    Args:
        parts: What it is made of.
        embedder_fingerprint: Identity of the embedder that made the vectors.
        passage_tokens: The limit that the passages were cut with.
        fingerprint: Identity of the content; computed when it is not given.
    """

    def __init__(
        self,
        parts: IndexParts,
        *,
        embedder_fingerprint: str,
        passage_tokens: int,
        fingerprint: str = "",
    ) -> None:
        self._parts = parts
        self._fingerprint = fingerprint
        self.embedder_fingerprint = embedder_fingerprint
        self.passage_tokens = passage_tokens

    @property
    def documents(self) -> Sequence[Document]:
        """The documents, preprocessed."""
        return self._parts.documents

    @property
    def passages(self) -> Sequence[Passage]:
        """Their passages; row i of the vectors belongs to passage i."""
        return self._parts.passages

    @property
    def structures(self) -> Sequence[DocumentStructure]:
        """What is known of each document; empty without the graph layer."""
        return self._parts.structures

    @property
    def vectors(self) -> VectorIndex:
        """One unit vector per passage."""
        return self._parts.vectors

    @property
    def lexical(self) -> LexicalIndex | None:
        """Terms of the passages; ``None`` when it was built without that layer."""
        return self._parts.lexical

    @property
    def graph(self) -> KnowledgeGraph | None:
        """Entities and what joins them; ``None`` when it was built without that layer."""
        return self._parts.graph

    @property
    def extractor_fingerprint(self) -> str:
        """Identity of what found names and relations; empty without the graph layer."""
        return self._parts.extractor_fingerprint

    @property
    def document_of(self) -> NDArray[np.int32]:
        """Document of each passage, shape (passages,), not falling."""
        return self._parts.document_of

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.vectors.dimension

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the content: equal documents, passages, embedder and layers."""
        return self._fingerprint or fingerprint_of(self._parts, self.embedder_fingerprint)

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self.passages)

    def rows_of_document(self, document: int) -> NDArray[np.int64]:
        """Return the rows of a document's passages, in the order of its text."""
        first, last = np.searchsorted(self.document_of, [document, document + 1])
        return np.arange(first, last, dtype=np.int64)

    @classmethod
    async def build(
        cls,
        documents: Iterable[Document],
        embedder: Embedder,
        *,
        passage_tokens: int,
        count_tokens: CountTokens | None = None,
        layers: Iterable[Layer] = ("lexical", "graph"),
        extractor: Extractor | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Preprocess, cut, embed and understand documents.

        Args:
            documents: The documents; ids must differ. One without text has no passages.
            embedder: Makes the vectors.
            passage_tokens: Most tokens of a passage.
            count_tokens: Counts them; an estimate from the bytes when ``None``.
            layers: What is built besides the vectors.
            extractor: Finds names and relations; the one by rules when ``None``.
            progress: Called with (passages embedded, passages in all) after each batch.

        Raises:
            DocumentError: There is no document, none has text, or two share an id.
            BackendError: The embedder returned something that is no vector.
        """
        parts = await extend_parts(
            None,
            list(documents),
            embedder,
            passage_tokens=passage_tokens,
            count_tokens=count_tokens,
            layers=frozenset(layers),
            extractor=extractor,
            progress=progress,
        )
        return cls(parts, embedder_fingerprint=embedder.fingerprint, passage_tokens=passage_tokens)

    async def extended(
        self,
        documents: Iterable[Document],
        embedder: Embedder,
        *,
        count_tokens: CountTokens | None = None,
        extractor: Extractor | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Return an index with more documents; only what is new is embedded.

        A document whose id is known replaces the one of that id, and costs nothing when
        it is the same.

        Args:
            documents: What is added; ids must differ.
            embedder: That of the index.
            count_tokens: As when the index was built.
            extractor: As when the index was built.
            progress: Called with (passages embedded, passages to embed).

        Raises:
            UserError: The embedder or the extractor is another one.
            DocumentError: Two documents share an id.
            BackendError: The embedder returned something that is no vector.
        """
        check_embedder(self, embedder)
        parts = await extend_parts(
            self._parts,
            list(documents),
            embedder,
            passage_tokens=self.passage_tokens,
            count_tokens=count_tokens,
            layers=self._parts.layers,
            extractor=extractor,
            progress=progress,
        )
        if parts is self._parts:
            return self
        return type(self)(
            parts,
            embedder_fingerprint=self.embedder_fingerprint,
            passage_tokens=self.passage_tokens,
        )

    def save(self, folder: str | Path) -> Path:
        """Write the index to a folder: all of it or nothing, the same bytes for the same input.

        An index that is there already is replaced.

        Returns:
            The folder.

        Raises:
            UserError: The folder holds something that is no index.
            StorageError: It cannot be written.
        """
        description = IndexDescription(
            schema_version=SCHEMA_VERSION,
            fingerprint=self.fingerprint,
            embedder=self.embedder_fingerprint,
            extractor=self.extractor_fingerprint,
            grown=self._parts.grown,
            dimension=self.dimension,
            documents=len(self.documents),
            passages=len(self.passages),
            entities=len(self.graph.keys) if self.graph is not None else 0,
            passage_tokens=self.passage_tokens,
            layers=tuple(sorted(self._parts.layers)),
        )
        return write_index_folder(
            Path(folder), description, lambda content: write_parts(content, self._parts)
        )

    @classmethod
    def load(cls, folder: str | Path, embedder: Embedder, *, verify: bool = False) -> Self:
        """Read what :meth:`save` wrote. Files are mapped and read as they are needed.

        Args:
            folder: The folder.
            embedder: What will embed the queries; it must be the one of the index.
            verify: Whether the vectors are compared with their checksum byte by byte.

        Raises:
            UserError: It is no index, one of another schema, or of another embedder.
            IntegrityError: A file is missing or damaged.
        """
        path = Path(folder).expanduser()
        description = read_description(path)
        index = cls(
            read_parts(path, description, verify=verify),
            embedder_fingerprint=description.embedder,
            passage_tokens=description.passage_tokens,
            fingerprint=description.fingerprint,
        )
        check_embedder(index, embedder, path)
        if index.dimension != embedder.dimension:
            raise UserError(
                f"the vectors of the index {path} have {index.dimension} dimensions, those of "
                f"the embedder {embedder.dimension}",
                hint="build the index again",
            )
        return index


def check_embedder(index: PassageIndex, embedder: Embedder, folder: Path | None = None) -> None:
    """Raise unless an embedder is the one that made an index.

    Args:
        index: With the fingerprint of its own.
        embedder: What is to be used with it.
        folder: Where the index lies, for the message.

    Raises:
        UserError: It is another one.
    """
    name = "the index" if folder is None else f"the index {folder}"
    if index.embedder_fingerprint != embedder.fingerprint:
        raise UserError(
            f"{name} was made with the embedder {index.embedder_fingerprint}, "
            f"not with {embedder.fingerprint}",
            hint="use that embedder, or build the index again with this one",
        )


def check_extractor(index: PassageIndex, extractor: Extractor) -> None:
    """Raise unless an extractor is the one that found the names of an index.

    Args:
        index: With the fingerprint of its own.
        extractor: What is to be used with it.

    Raises:
        UserError: It is another one.
    """
    if index.extractor_fingerprint != extractor.fingerprint:
        raise UserError(
            f"the index was made with the extractor {index.extractor_fingerprint}, "
            f"not with {extractor.fingerprint}",
            hint="use that extractor (`retrieval.extractor`), or build the index again",
        )
