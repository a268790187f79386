"""An embedder that embeds a text once: vectors are kept in a file, by content.

Embedding is what building an index spends its time with, and most of a changed corpus
is as it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import BackendError, UnsupportedCapability
from reflectory.models.embedding_store import EmbeddingStore
from reflectory.models.protocol import Embedder
from reflectory.models.store import cache_folder
from reflectory.models.token_vectors import TokenEmbedder, TokenVectors

DEFAULT_LIMIT = 4 << 30
"""Bytes that a cache may use: some two million vectors of 384 numbers."""

_NAME_LENGTH = 60


def default_cache_path(embedder: Embedder) -> Path:
    """Return where an embedder's vectors are kept: a file in the cache folder for each.

    See :func:`reflectory.models.store.cache_folder` for the folder.
    """
    readable = re.sub(r"[^\w.-]+", "-", embedder.fingerprint)[:_NAME_LENGTH].strip("-.")
    digest = hashlib.sha256(embedder.fingerprint.encode("utf-8", "surrogatepass")).hexdigest()
    return cache_folder() / "embeddings" / f"{readable}-{digest[:16]}.sqlite"


class CachedEmbedder:
    """Embeds what was not embedded before, and remembers it.

    Meets :class:`~reflectory.models.protocol.Embedder` with the fingerprint of the
    embedder that it asks, so an index does not tell the two apart. A vector is
    remembered bit by bit. It may be used from several threads, event loops and
    processes at once; a text that two of them lack at the same time is embedded by both.
    A hit takes some 10 microseconds in a batch, and 80 alone.

    Args:
        embedder: What is asked for the vectors that are missing.
        path: The file; :func:`default_cache_path` by default.
        limit_bytes: Most bytes that the vectors may use; beyond, those that were not
            used for longest are forgotten.
    """

    def __init__(
        self,
        embedder: Embedder,
        path: str | Path | None = None,
        *,
        limit_bytes: int = DEFAULT_LIMIT,
    ) -> None:
        self.path = default_cache_path(embedder) if path is None else Path(path).expanduser()
        self.hits = 0
        """Texts whose vector was there, or was asked for before in the same call."""
        self.misses = 0
        """Texts that were embedded."""
        self._embedder = embedder
        self._store = EmbeddingStore(self.path, limit_bytes)
        self._salt = hashlib.sha256(_bytes(embedder.fingerprint) + b"\0")
        self._dimension: int | None = None

    @property
    def fingerprint(self) -> str:
        """That of the embedder that is asked."""
        return self._embedder.fingerprint

    @property
    def dimension(self) -> int:
        """Length of the vectors; asks the embedder, and so loads it, only the first time.

        Raises:
            StorageError: The file cannot be used.
        """
        if self._dimension is None:
            self._dimension = self._store.dimension(self.fingerprint)
        if self._dimension is None:
            self._remember(self._embedder.dimension)
        assert self._dimension is not None
        return self._dimension

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, shape (len(texts), dimension); zeros for a blank text.

        What is missing is asked for in one call, each text once.

        Raises:
            StorageError: The file cannot be used.
            BackendError: The embedder failed, or returned something that is no vectors.
        """
        keys, found = await asyncio.to_thread(self._look_up, texts)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            asked = list(missing.values())
            vectors = self._checked(await self._embedder.embed(asked), len(asked))
            new = {key: row.tobytes() for key, row in zip(missing, vectors, strict=True)}
            await asyncio.to_thread(self._keep, new, vectors.shape[1])
            found.update(new)
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        joined = b"".join([found[key] for key in keys])
        if not keys:
            return np.zeros((0, await asyncio.to_thread(lambda: self.dimension)), dtype=np.float32)
        return np.frombuffer(joined, dtype="<f4").astype(np.float32).reshape(len(keys), -1)

    async def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Return the vectors of each text's tokens; nothing of it is kept.

        Raises:
            UnsupportedCapability: The embedder that is asked gives none.
        """
        if not isinstance(self._embedder, TokenEmbedder):
            raise UnsupportedCapability(
                f"{self.fingerprint} gives no vectors of single tokens",
                hint="use a sentence-transformers model",
            )
        return await self._embedder.embed_tokens(texts)

    def close(self) -> None:
        """Close the file; embedding again opens it again."""
        self._store.close()

    def _look_up(self, texts: Sequence[str]) -> tuple[list[bytes], dict[bytes, bytes]]:
        keys = []
        for text in texts:
            digest = self._salt.copy()
            digest.update(_bytes(text))
            keys.append(digest.digest())
        found = self._store.get(list(dict.fromkeys(keys)))
        if found and self._dimension is None:
            self._dimension = self._store.dimension(self.fingerprint)
        if self._dimension is not None:
            size = 4 * self._dimension
            found = {key: data for key, data in found.items() if len(data) == size}
        return keys, found

    def _keep(self, vectors: dict[bytes, bytes], dimension: int) -> None:
        self._remember(dimension)
        self._store.put(vectors)

    def _remember(self, dimension: int) -> None:
        if self._dimension != dimension:
            self._dimension = dimension
            self._store.note_dimension(self.fingerprint, dimension)

    def _checked(self, vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        array = np.ascontiguousarray(vectors, dtype="<f4")
        if array.ndim != 2 or len(array) != count or not np.isfinite(array).all():
            raise BackendError(
                f"the embedder {self.fingerprint} returned an array of shape {array.shape} for "
                f"{count} texts, or one that is not finite",
                hint="nothing of it was kept; the embedder breaks its contract",
                retryable=False,
            )
        return array


def _bytes(text: str) -> bytes:
    # A lone surrogate is no Unicode text, but it can stand in a string.
    return text.encode("utf-8", "surrogatepass")
