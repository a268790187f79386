"""RETRIEVE of Algorithm 1: the protocol, and its implementation over a passage index."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from reflectory.config import RetrievalConfig
from reflectory.errors import StorageError
from reflectory.models.protocol import Embedder, content_hash
from reflectory.retrieval.index import PassageIndex, built_for, check_embedder, check_extractor
from reflectory.retrieval.passages import estimate_tokens
from reflectory.retrieval.reading import SkippedFile
from reflectory.retrieval.search.layers import LayeredSearch
from reflectory.retrieval.structure import Extractor, resolve_extractor
from reflectory.types import Document, ScoredPassage

_log = logging.getLogger(__name__)

_VERSION = 2
"""Raised when the same index and configuration begin to find something else."""

_PROBE = (
    "Ice on Mars? In 1976, Viking-2 measured -120 °C; naïve models said otherwise (see Fig. 3)."
)


@runtime_checkable
class Retriever(Protocol):
    """Where the loop gets its passages from.

    Contract:
        - ``fingerprint`` never changes, and names everything that decides what is
          found: two retrievers with one fingerprint find the same for the same query.
        - ``prepare`` does all the work that can be done before a query; calling it
          again, or many times at once, is harmless. ``retrieve`` prepares by itself
          when nobody did.
        - ``retrieve`` may be called many times at once; cancelling one call harms
          no other. It returns records that the caller may keep, with unique ids.
        - Errors are those of :mod:`reflectory.errors`.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of what is searched and how."""
        ...

    async def prepare(self) -> int:
        """Preprocess and index; return the number of documents, 0 when it is unknown."""
        ...

    async def retrieve(self, query: str, *, per_document: int, limit: int) -> list[ScoredPassage]:
        """Return the S_i of all documents in one list.

        Args:
            query: The instruction, or a question.
            per_document: Most passages of one document, at least 1.
            limit: Most passages in all, at least 1.

        Returns:
            Passages with scores that do not rise; equal ones are ordered by id.
            Fewer than ``limit``, or none, when there are no more.
        """
        ...


class IndexRetriever:
    """Searches an index that exists already, with the layers of a configuration.

    Args:
        index: The index.
        embedder: Embeds the queries.
        config: Which layers are on, and what finds the names in a question; the
            defaults when ``None``, without layers that the index was not built for.
        extractor: Finds names; the one that the configuration names when ``None``.

    Raises:
        UserError: The index was made with another embedder or extractor, or without a
            layer that the configuration names.
    """

    def __init__(
        self,
        index: PassageIndex,
        embedder: Embedder,
        config: RetrievalConfig | None = None,
        *,
        extractor: Extractor | None = None,
    ) -> None:
        check_embedder(index, embedder)
        self.index = index
        self._embedder = embedder
        self._layers = (config or RetrievalConfig()).layers
        if config is None:
            self._layers = tuple(layer for layer in self._layers if _possible(layer, index))
        if "graph" in self._layers and index.graph is not None:
            extractor = extractor or resolve_extractor((config or RetrievalConfig()).extractor)
            check_extractor(index, extractor)
        self._search = LayeredSearch(index, self._layers, extractor)

    @property
    def fingerprint(self) -> str:
        """Identity of the index, its embedder included, and of the layers."""
        return f"{self.index.fingerprint}/{_VERSION}:{','.join(self._layers)}"

    async def prepare(self) -> int:
        """Make what the layers need; return the number of documents."""
        await asyncio.to_thread(self._search.prepare)
        return len(self.index.documents)

    async def retrieve(self, query: str, *, per_document: int, limit: int) -> list[ScoredPassage]:
        """Embed the query and search; see :class:`Retriever`.

        Args:
            query: What is looked for.
            per_document: Most passages of one document, at least 1.
            limit: Most passages in all, at least 1.

        Raises:
            UserError: A number is below 1.
        """
        if "dense" in self._layers:
            (vector,) = await self._embedder.embed([query])
        else:
            vector = np.zeros(self.index.dimension, dtype=np.float32)
        return await asyncio.to_thread(self._search.search, query, vector, per_document, limit)


def _possible(layer: str, index: PassageIndex) -> bool:
    if layer in ("lexical", "rerank"):
        return index.lexical is not None
    return layer != "graph" or index.graph is not None


class DocumentRetriever:
    """Indexes documents when they are first needed, once, and searches them.

    Args:
        documents: The documents.
        embedder: Embeds passages and queries.
        config: How long a passage may be, and which layers are on.
        count_tokens: Counts the tokens of a passage, best as the student does; an
            estimate from the bytes when ``None``.
        skipped: What was not read, for whoever reports it.
        progress: Called with (passages embedded, passages in all) while indexing.
        passage_embedder: What embeds passages: ``embedder`` itself, or a cache in front
            of it. Where the cache cannot be used, ``embedder`` takes its place.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        embedder: Embedder,
        config: RetrievalConfig,
        *,
        count_tokens: Callable[[str], int] | None = None,
        skipped: Sequence[SkippedFile] = (),
        progress: Callable[[int, int], None] | None = None,
        passage_embedder: Embedder | None = None,
    ) -> None:
        self.documents = tuple(documents)
        self.skipped = tuple(skipped)
        self._embedder = embedder
        self._passage_embedder = passage_embedder or embedder
        self._config = config
        self._extractor = resolve_extractor(config.extractor) if "graph" in config.layers else None
        self._count_tokens = count_tokens or estimate_tokens
        self._progress = progress
        self._ready: IndexRetriever | None = None
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Identity of documents, embedder, passage length and layers, known before indexing."""
        if not self._fingerprint:
            # A function has no identity of its own; what it counts for one text
            # of many kinds of token tells one tokenizer from another.
            digest = content_hash(
                [content_hash(document.model_dump(mode="json")) for document in self.documents],
                self._embedder.fingerprint,
                self._config.passage_tokens,
                self._count_tokens(_PROBE),
                _VERSION,
                list(self._config.layers),
                self._extractor.fingerprint if self._extractor is not None else "",
            )
            self._fingerprint = f"documents:{digest[:32]}"
        return self._fingerprint

    async def prepare(self) -> int:
        """Build the index unless it is there; return the number of documents.

        Raises:
            DocumentError: See :meth:`PassageIndex.build`; a later call tries again.
        """
        return await (await self._prepared()).prepare()

    async def retrieve(self, query: str, *, per_document: int, limit: int) -> list[ScoredPassage]:
        """Search, after indexing where needed; see :class:`Retriever`.

        Args:
            query: What is looked for.
            per_document: Most passages of one document, at least 1.
            limit: Most passages in all, at least 1.
        """
        retriever = await self._prepared()
        return await retriever.retrieve(query, per_document=per_document, limit=limit)

    async def index(self) -> PassageIndex:
        """Return the index, built where needed; save it to spare the next run the work."""
        return (await self._prepared()).index

    async def _prepared(self) -> IndexRetriever:
        if self._ready is not None:
            return self._ready
        async with self._lock_of_this_loop():
            if self._ready is None:
                try:
                    index = await self._built(self._passage_embedder)
                except StorageError as error:
                    if self._passage_embedder is self._embedder:
                        raise
                    _log.warning("passages are embedded without the cache: %s", error)
                    index = await self._built(self._embedder)
                self._ready = IndexRetriever(
                    index, self._embedder, self._config, extractor=self._extractor
                )
        return self._ready

    async def _built(self, embedder: Embedder) -> PassageIndex:
        return await PassageIndex.build(
            self.documents,
            embedder,
            passage_tokens=self._config.passage_tokens,
            count_tokens=self._count_tokens,
            layers=built_for(self._config.layers),
            extractor=self._extractor,
            progress=self._progress,
        )

    def _lock_of_this_loop(self) -> asyncio.Lock:
        # An asyncio lock belongs to one event loop, a retriever may outlive it. Two
        # loops at once would build twice, with the same result.
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = (loop, asyncio.Lock())
        return self._lock[1]
