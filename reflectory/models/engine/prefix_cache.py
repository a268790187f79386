"""Prefixes that were computed once, kept for the calls that share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from reflectory.models.engine.kv import Prefix

MIN_REUSE = 16
"""Fewer common tokens are not worth the bookkeeping."""

Compute = Callable[[NDArray[np.int64], Prefix | None], Prefix]
"""Computes the prefix for tokens, given one for the first of them or ``None``."""


class PrefixCache:
    """Keys and values of token prefixes, the least recently used dropped first.

    Args:
        compute: Called for what is not there.
        limit_bytes: Most bytes of keys and values to keep.
        extend: Whether to build on the longest known common beginning. Faster,
            but the numbers then depend on what was asked before (in their last
            bits); without it each prefix comes from one pass over its tokens.
    """

    def __init__(self, compute: Compute, *, limit_bytes: int, extend: bool) -> None:
        self._compute = compute
        self._limit = limit_bytes
        self._extend = extend
        self._entries: OrderedDict[bytes, Prefix] = OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values that are kept now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def fetch(self, token_ids: Sequence[int]) -> tuple[Prefix, int]:
        """Return the prefix for some tokens and how many of them were known."""
        tokens = np.asarray(token_ids, dtype=np.int64)
        key = tokens.tobytes()
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key], len(tokens)
        base = self._longest_common(tokens) if self._extend else None
        if base is not None and len(base) == len(tokens):
            return base, len(tokens)
        prefix = self._compute(tokens, base)
        self._store(key, prefix)
        return prefix, 0 if base is None else len(base)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0

    def _longest_common(self, tokens: NDArray[np.int64]) -> Prefix | None:
        best, best_key, best_length = None, b"", MIN_REUSE - 1
        for key, entry in self._entries.items():
            length = common_length(entry.tokens, tokens)
            if length > best_length:
                best, best_key, best_length = entry, key, length
        if best is None:
            return None
        self._entries.move_to_end(best_key)
        return best.first(best_length)

    def _store(self, key: bytes, prefix: Prefix) -> None:
        if prefix.nbytes > self._limit:
            return
        self._entries[key] = prefix
        self._bytes += prefix.nbytes
        while self._bytes > self._limit:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.nbytes


def common_length(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Return how many first elements two arrays have in common."""
    limit = min(len(left), len(right))
    different = np.flatnonzero(left[:limit] != right[:limit])
    return int(different[0]) if len(different) else limit
