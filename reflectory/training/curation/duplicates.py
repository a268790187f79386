"""Steps that keep one of several rows that say nearly the same.

Rows are taken in the order of their quality, and one stays unless it is near to one that
stays already. So the better one of two stays, whatever order they came in, and of what stays
no two are near.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reflectory.models.protocol import Embedder
from reflectory.training.curation.making import ROUNDING
from reflectory.training.curation.reading import completions_of, question_of, rank_of
from reflectory.training.curation.steps import AnyRow, Outcome, R, sorted_out
from reflectory.training.curation.words import runs_of, words_of

Shingles = NDArray[np.uint64]

SHINGLE_WORDS = 3
"""Words of a run; one changed word of a text of 20 then leaves 0.71 of the runs."""
PERMUTATIONS = 128
"""Hash functions of a signature."""
RECALL = 0.95
"""How likely a pair just at the threshold is proposed; nearer pairs are proposed likelier."""
MOST_ESTIMATED = 4096
"""Most proposals of a row that are looked at, best rows first; some ten are usual."""
MOST_COMPARED = 64
"""Most of those that are compared run by run, by signature the nearest ones.

Both are reached only among thousands of rows that are all just not near enough."""

_DUPLICATE = "near_duplicate"
_BATCH_SHINGLES = 1 << 14  # times 128 permutations of four bytes: 8 MiB
_BATCH_TEXTS = 1024


def compared_text(row: AnyRow) -> str:
    """Return what rows are compared by: question and completions, without the documents."""
    return "\n".join((question_of(row), *completions_of(row)))


def shingles_of(text: str) -> Shingles:
    """Return the runs of words of a text as sorted hashes, each once.

    Beginning and end count as words, so that a text of one word has a run, too, and short
    texts differ by where their words stand.
    """
    words = ["\n", *words_of(text), "\n"]
    runs = runs_of(words, SHINGLE_WORDS) or [" ".join(words)]
    digests = b"".join(
        hashlib.blake2b(run.encode("utf-8", "replace"), digest_size=8).digest() for run in set(runs)
    )
    return np.unique(np.frombuffer(digests, dtype="<u8").astype(np.uint64))


def overlap(one: Shingles, other: Shingles) -> float:
    """Return the Jaccard similarity of two sets of runs, in [0, 1]."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def bands_for(threshold: float) -> tuple[int, int]:
    """Return how many bands of how many rows a signature is cut into.

    Two texts share all rows of a band with probability s**rows, s being their similarity.
    The longest bands that still propose a pair at the threshold with ``RECALL`` propose the
    fewest others.
    """
    for rows in range(PERMUTATIONS // 2, 1, -1):
        bands = PERMUTATIONS // rows
        if 1.0 - (1.0 - threshold**rows) ** bands >= RECALL:
            return bands, rows
    return PERMUTATIONS, 1


@dataclass(frozen=True)
class MinHashDuplicates:
    """Refuses near-duplicates by shared runs of words.

    MinHash with locality-sensitive hashing (Broder 1997) proposes pairs and the runs
    themselves decide, so nothing is refused by mistake and about one pair in twenty just at
    the threshold is overlooked. The time grows with the rows and not with their square.

    Args:
        threshold: Jaccard similarity from which two rows are near-duplicates, in (0, 1].
    """

    threshold: float
    name: ClassVar[str] = "near-duplicates"

    @property
    def explanation(self) -> str:
        """The threshold."""
        return (
            "Of rows whose questions and completions together share at least "
            f"{self.threshold:g} of their runs of {SHINGLE_WORDS} words, the best graded stays."
        )

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows of which no two are near."""
        return await asyncio.to_thread(self._apply, rows)

    def _apply(self, rows: Sequence[R]) -> Outcome[R]:
        from datasketch import MinHashLSH

        reasons = [""] * len(rows)
        order = sorted(range(len(rows)), key=lambda number: rank_of(rows[number]))
        index = MinHashLSH(num_perm=PERMUTATIONS, params=bands_for(self.threshold))
        kept: list[Shingles] = []
        signatures = np.empty((len(rows), PERMUTATIONS), dtype=np.uint32)
        whole: set[bytes] = set()
        empty = _signature()
        for number in order:
            shingles = shingles_of(compared_text(rows[number]))
            digest = hashlib.blake2b(shingles.tobytes(), digest_size=16).digest()
            if digest in whole:
                reasons[number] = _DUPLICATE
                continue
            signature = empty.copy()
            for start in range(0, len(shingles), _BATCH_SHINGLES):
                signature.update_batch(shingles[start : start + _BATCH_SHINGLES])
            proposed = _nearest(signature.hashvalues, sorted(index.query(signature)), signatures)
            if any(self._is_near(shingles, kept[other]) for other in proposed):
                reasons[number] = _DUPLICATE
                continue
            whole.add(digest)
            signatures[len(kept)] = signature.hashvalues
            index.insert(len(kept), signature)
            kept.append(shingles)
        return sorted_out(rows, reasons)

    def _is_near(self, shingles: Shingles, other: Shingles) -> bool:
        smaller, larger = sorted((len(shingles), len(other)))
        if smaller < self.threshold * larger - ROUNDING:
            return False  # even all of the smaller set would not be enough
        return overlap(shingles, other) >= self.threshold - ROUNDING


def _nearest(
    signature: NDArray[np.uint32], proposed: list[int], signatures: NDArray[np.uint32]
) -> list[int]:
    """Return the proposals with the most equal hashes, nearest first; of equals, the better."""
    if len(proposed) <= MOST_COMPARED:
        return proposed
    looked_at = np.asarray(proposed[:MOST_ESTIMATED])
    equal = np.count_nonzero(signatures[looked_at] == signature, axis=1)
    return [int(n) for n in looked_at[np.argsort(-equal, kind="stable")[:MOST_COMPARED]]]


def _signature() -> Any:
    from datasketch import MinHash

    # The runs are hashed already; the upper half of a hash is as good as the lower.
    return MinHash(
        num_perm=PERMUTATIONS, scheme="affine32", hashfunc=lambda run: int(run) & 0xFFFFFFFF
    )


@dataclass(frozen=True)
class EmbeddingDuplicates:
    """Refuses near-duplicates by meaning.

    Every row is compared with every row that stays, by products of matrices: 100,000 rows
    need a minute for it and half an hour or more for being embedded, so nothing would be
    gained by an approximate search.

    Args:
        embedder: Makes the vectors.
        threshold: Cosine from which two rows are near-duplicates.
    """

    embedder: Embedder
    threshold: float
    name: ClassVar[str] = "near-duplicates"

    @property
    def explanation(self) -> str:
        """The threshold and the embedder."""
        return (
            "Of rows whose questions and completions together have a cosine of at least "
            f"{self.threshold:g} as embedded by {self.embedder.fingerprint}, the best graded "
            "stays."
        )

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows of which no two are near.

        Raises:
            BackendError: The embedder failed.
        """
        order = sorted(range(len(rows)), key=lambda number: rank_of(rows[number]))
        texts = [compared_text(rows[number]) for number in order]
        if not texts:
            return Outcome(())
        vectors = np.concatenate([await self.embedder.embed(part) for part in _parts(texts)])
        stays = await asyncio.to_thread(_far_from_all_before, vectors, self.threshold)
        reasons = [""] * len(rows)
        for place, number in enumerate(order):
            if not stays[place]:
                reasons[number] = _DUPLICATE
        return sorted_out(rows, reasons)


def _parts(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), _BATCH_TEXTS):
        yield texts[start : start + _BATCH_TEXTS]


def _far_from_all_before(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Return which rows are near to none of the rows that stay before them.

    Args:
        vectors: Unit vectors, shape (n, d).
        threshold: Cosine from which two are near.
    """
    near = threshold - 1e-6  # what a product in single precision can be wrong
    stays = np.zeros(len(vectors), dtype=bool)
    kept = np.empty_like(vectors)
    count = 0
    for start in range(0, len(vectors), _BATCH_TEXTS):
        block = vectors[start : start + _BATCH_TEXTS]
        candidates = np.flatnonzero(_highest_product(block, kept[:count]) < near)
        for place in candidates:
            vector = block[place]
            fresh = kept[_first_of(start, stays) : count]
            if not len(fresh) or float(np.max(fresh @ vector)) < near:
                stays[start + place] = True
                kept[count] = vector
                count += 1
    return stays


def _first_of(start: int, stays: NDArray[np.bool_]) -> int:
    """Return how many rows stay before the block that begins at ``start``."""
    return int(np.count_nonzero(stays[:start]))


def _highest_product(block: NDArray[np.float32], kept: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the highest cosine of each row of a block with what stays, -1 with nothing."""
    highest = np.full(len(block), -1.0, dtype=np.float32)
    for start in range(0, len(kept), 1 << 14):
        products = block @ kept[start : start + (1 << 14)].T
        np.maximum(highest, products.max(axis=1), out=highest)
    return highest
