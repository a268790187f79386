"""An embedder without a model: similar words, similar vectors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reflectory.models.token_vectors import TokenVectors

_WORD = re.compile(r"\w+")


class HashingEmbedder:
    """Counts words into the slots that their hashes name.

    Meets :class:`~reflectory.models.protocol.Embedder`. No number is ever
    negative, so the cosine of two texts lies in [0, 1] and grows with the words
    that they share. It is the same on every machine and in every process.

    Args:
        dimension: Number of slots; two words may fall into one.
    """

    def __init__(self, dimension: int = 256) -> None:
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1, got {dimension}")
        self._dimension = dimension

    @property
    def fingerprint(self) -> str:
        """``hashing:`` and the dimension."""
        return f"hashing:{self._dimension}"

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self._dimension

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per text, shape (len(texts), dimension); zeros without words."""
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.casefold()):
                vectors[row, self._slot(word)] += 1.0
            length = np.linalg.norm(vectors[row])
            if length > 0:
                vectors[row] /= length
        return vectors

    async def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Return a unit vector per word, which is 1 in the slot of its hash."""
        found = []
        for text in texts:
            slots = [self._slot(word) for word in _WORD.findall(text.casefold())]
            vectors = np.zeros((len(slots), self._dimension), dtype=np.float32)
            vectors[np.arange(len(slots)), slots] = 1.0
            found.append(TokenVectors(vectors, np.ones(len(slots), dtype=np.bool_)))
        return found

    def _slot(self, word: str) -> int:
        digest = hashlib.sha256(word.encode("utf-8")).digest()
        return int.from_bytes(digest[:8], "big") % self._dimension
