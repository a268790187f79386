"""Unit vectors, searchable by their inner products.

Few are compared with a query one and all, which is exact. Many are found by short codes
and then compared, if on a sample that finds what it should; otherwise it stays exact.

``faiss`` is imported when something is built or searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import UserError
from reflectory.retrieval.vectors.approximate import NEIGHBOURS, build_codes, search_codes, tune
from reflectory.retrieval.vectors.exact import Matrix, exact_search, merged
from reflectory.retrieval.vectors.files import (
    VectorDescription,
    read_vector_folder,
    write_vector_folder,
)

TARGET_RECALL = 0.97
"""Recall@10 on the sample, by default; on other queries 0.95 then holds."""

FLAT_NUMBERS = 1 << 24
"""Up to so many numbers (43,690 rows of 384) a query is compared with every row: some 5 ms."""
FLAT_ROWS = 1000
"""Fewer rows than this are always compared one and all, whatever their dimension."""

_ADDED_SHARE = 1 / 16
_TOLERANCE = 1e-2
_BLOCK_ROWS = 1 << 14

__all__ = ["TARGET_RECALL", "VectorDescription", "VectorIndex"]


class VectorIndex:
    """Unit vectors as rows, and what finds the nearest of them.

    Made by :meth:`build`, :meth:`extended` or :meth:`load`; immutable, so it may be
    searched from many threads at once. The same rows and seed give the same results.

    Args:
        description: What it is.
        rows: The rows that the structure holds, shape (description.indexed, dimension).
        added: The rows behind them, shape (size - indexed, dimension).
        structure: FAISS's index of their codes, ``None`` for a flat one.
    """

    def __init__(
        self,
        description: VectorDescription,
        rows: Matrix,
        added: Matrix | None = None,
        structure: Any = None,
    ) -> None:
        self.description = description
        self._base = rows
        self._added = rows[:0] if added is None else added
        self._structure = structure

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._base) + len(self._added)

    @property
    def dimension(self) -> int:
        """Length of a row."""
        return int(self._base.shape[1])

    @classmethod
    def build(cls, vectors: Matrix, *, seed: int = 0, target_recall: float = TARGET_RECALL) -> Self:
        """Make an index.

        Args:
            vectors: Shape (n, d), n and d at least 1, each row of length 1 or 0. A
                C-contiguous float32 array, memory-mapped or not, is kept and not
                copied: do not change it afterwards.
            seed: Decides the training and the sample that recall is measured on.
            target_recall: Recall@10 that an approximate search must reach, in (0, 1].

        Raises:
            UserError: The vectors are not of that kind.
        """
        if not 0 < target_recall <= 1:
            raise UserError(
                f"target_recall is {target_recall}", hint="it is a share, above 0 and up to 1"
            )
        rows = _checked(vectors)
        if len(rows) == 0:
            raise UserError("no vectors were given", hint="give at least one")
        description = VectorDescription(
            kind="flat",
            size=len(rows),
            dimension=rows.shape[1],
            indexed=len(rows),
            seed=seed,
            target_recall=target_recall,
            recall=1.0,
            note="few enough to compare a query with every row",
        )
        if rows.size <= FLAT_NUMBERS or len(rows) < FLAT_ROWS:
            return cls(description, rows)
        structure = build_codes(rows, seed)
        tuning = tune(structure, rows, seed, target_recall)
        says = (
            f"{tuning.recall:.1%} of the {NEIGHBOURS} nearest rows are among "
            f"{tuning.candidates} with the nearest codes"
        )
        if tuning.recall < target_recall:
            note = f"only {says}, so a query is compared with every row"
            return cls(description.model_copy(update={"note": note}), rows)
        changes = {
            "kind": "pq",
            "recall": tuning.recall,
            "recall_sample": tuning.sample,
            "parameters": {"subquantizers": structure.pq.M, "candidates": tuning.candidates},
            "note": says,
        }
        return cls(description.model_copy(update=changes), rows, structure=structure)

    def extended(self, vectors: Matrix) -> Self:
        """Return an index with more rows behind those of this one, which stays as it is.

        Added rows are kept beside the others, and every query is compared with all of
        them; the recall that was measured holds for the others. As soon as they are more
        than a sixteenth of those, everything is built again, in memory.

        Args:
            vectors: Shape (n, d) with the dimension of the index, as in :meth:`build`.

        Raises:
            UserError: The vectors are not of that kind.
        """
        added = np.concatenate((self._added, _checked(vectors, self.dimension)))
        size = len(self._base) + len(added)
        description = self.description.model_copy(update={"size": size})
        if len(added) <= _ADDED_SHARE * len(self._base):
            return type(self)(description, self._base, added, self._structure)
        return self.build(
            np.concatenate((self._base, added)),
            seed=description.seed,
            target_recall=description.target_recall,
        )

    def search(self, queries: Matrix, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return the nearest rows of each query.

        Args:
            queries: Shape (m, d), or (d,) for one; finite.
            k: How many, at least 1; very many are searched exactly.

        Returns:
            Inner products and row numbers, both of shape (m, min(k, len(self))), best
            first; equal scores are ordered by row.

        Raises:
            UserError: The queries have another dimension or are not finite, or k < 1.
        """
        if k < 1:
            raise UserError(f"k is {k}", hint="ask for at least one row")
        asked = np.atleast_2d(np.ascontiguousarray(queries, dtype=np.float32))
        if asked.ndim != 2 or asked.shape[1] != self.dimension or not np.isfinite(asked).all():
            raise UserError(
                f"the queries have shape {np.shape(queries)} or are not finite, "
                f"the index has dimension {self.dimension}",
                hint="embed the queries with the embedder of the index",
            )
        if self._structure is None:
            found = exact_search(self._base, asked, k)
        else:
            candidates = self.description.parameters["candidates"]
            found = search_codes(self._structure, self._base, asked, k, candidates)
        if len(self._added):
            later = exact_search(self._added, asked, k, first=len(self._base))
            found = merged(found, later, k)
        return found

    def rows(self, ids: NDArray[np.int64]) -> Matrix:
        """Return rows as they were given, bit by bit.

        Args:
            ids: Row numbers, shape (m,), each in [0, len(self)).

        Returns:
            Shape (m, d); a copy.

        Raises:
            UserError: There is no such row.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        if wanted.ndim != 1 or (len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self)):
            raise UserError(
                f"the row numbers have shape {wanted.shape} or leave [0, {len(self)})",
                hint="give a list of numbers that a search returned",
            )
        result = np.empty((len(wanted), self.dimension), dtype=np.float32)
        late = wanted >= len(self._base)
        result[~late] = self._base[wanted[~late]]
        result[late] = self._added[wanted[late] - len(self._base)]
        return result

    def blocks(self, rows: int = _BLOCK_ROWS) -> Iterator[Matrix]:
        """Yield all rows in order, ``rows`` at a time (fewer at an end)."""
        for part in (self._base, self._added):
            for start in range(0, len(part), rows):
                yield part[start : start + rows]

    def knn_graph(self, k: int) -> tuple[Matrix, NDArray[np.int64]]:
        """Return the nearest other rows of every row.

        Memory beyond the result does not grow with the number of rows.

        Args:
            k: How many, at least 1.

        Returns:
            As :meth:`search`, for the rows in order and without themselves: both of
            shape (n, min(k, n - 1)).

        Raises:
            UserError: k < 1.
        """
        if k < 1:
            raise UserError(f"k is {k}", hint="ask for at least one row")
        count = min(k, len(self) - 1)
        scores = np.empty((len(self), count), dtype=np.float32)
        neighbours = np.empty((len(self), count), dtype=np.int64)
        start = 0
        for block in self.blocks() if count else ():
            near, found = self.search(block, count + 1)
            own = found == np.arange(start, start + len(block))[:, None]
            # Of many equal rows a row may not be among its own nearest; then the last goes.
            own[~own.any(axis=1), -1] = True
            here = slice(start, start + len(block))
            scores[here] = near[~own].reshape(len(block), count)
            neighbours[here] = found[~own].reshape(len(block), count)
            start += len(block)
        return scores, neighbours

    def save(self, folder: str | Path) -> Path:
        """Write the index into a folder, replacing one that is there.

        Returns:
            The folder.

        Raises:
            StorageError: It cannot be written.
        """
        return write_vector_folder(Path(folder), self.description, self.blocks(), self._structure)

    @classmethod
    def load(cls, folder: str | Path, *, mmap: bool = True, verify: bool = False) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            folder: The folder.
            mmap: Whether rows stay on the disk until they are used; the file must then
                not be changed in place while the index is used.
            verify: Whether the rows are compared with their checksum byte by byte (a
                second or more per GB), and not by size, header and samples.

        Raises:
            UserError: It is no vector index, or one of a newer schema.
            IntegrityError: A file is missing or damaged.
        """
        description, rows, structure = read_vector_folder(Path(folder), mmap=mmap, verify=verify)
        indexed = description.indexed
        return cls(description, rows[:indexed], rows[indexed:], structure)


def _checked(vectors: Matrix, dimension: int | None = None) -> Matrix:
    """Return vectors as contiguous float32, or say what is wrong with them."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if np.ndim(vectors) != 2 or rows.shape[1] < 1 or rows.shape[1] != (dimension or rows.shape[1]):
        raise UserError(
            f"the vectors have shape {np.shape(vectors)}",
            hint=f"expected (number, {dimension or 'dimension'})",
        )
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        # Written so that a length that is not a number is wrong, too.
        wrong = ~((np.abs(lengths - 1) <= _TOLERANCE) | (lengths == 0))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(
                f"row {start + row} of the vectors has length {lengths[row]:.4g}",
                hint="normalise the vectors; the inner product is taken for the cosine",
            )
    return rows
