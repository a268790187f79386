"""BM25 over passages (bm25s), and the terms of each passage.

``bm25s`` is imported when something is built, read or searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.search.terms import terms

_TERMS = "terms.npy"
_OFFSETS = "offsets.npy"


class LexicalIndex:
    """Texts, searchable by their words.

    Made by :meth:`build` or :meth:`load`; immutable.

    Args:
        bm25: The index of bm25s.
        rows: Ids of the terms of all texts, one text behind the other, repeats included.
        offsets: Where each text begins in ``rows``, and the end; shape (n + 1,).
    """

    def __init__(self, bm25: Any, rows: NDArray[np.int32], offsets: NDArray[np.int64]) -> None:
        self._bm25 = bm25
        self._rows = rows
        self._offsets = offsets
        self._vocabulary: dict[str, int] = bm25.vocab_dict
        holders = np.diff(np.asarray(bm25.scores["indptr"]))
        self._weights = np.log1p(len(self) / np.maximum(holders, 1)).astype(np.float32)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self._offsets) - 1

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        *,
        before: Self | None = None,
        kept: Sequence[int] | None = None,
    ) -> Self:
        """Index texts.

        Args:
            texts: The texts; one without words is never found.
            before: An index whose texts come first, with the terms that it knows of them.
            kept: Which of its texts, in their order; all of them when ``None``.
        """
        vocabulary: dict[str, int] = {}
        lists: list[NDArray[np.int32]] = []
        if before is not None:
            rows = range(len(before)) if kept is None else kept
            vocabulary, lists = before._renumbered([before._of(row) for row in rows])
        for text in texts:
            ids = [vocabulary.setdefault(term, len(vocabulary)) for term in terms(text)]
            lists.append(np.asarray(ids, dtype=np.int32))
        offsets = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids in lists], out=offsets[1:])
        joined = np.concatenate(lists) if lists else np.zeros(0, dtype=np.int32)
        return cls(_index(lists, vocabulary), joined, offsets)

    def _of(self, row: int) -> NDArray[np.int32]:
        return self._rows[self._offsets[row] : self._offsets[row + 1]]

    def _renumbered(
        self, lists: Sequence[NDArray[np.int32]]
    ) -> tuple[dict[str, int], list[NDArray[np.int32]]]:
        """Return terms in the order of their first use, as if these texts were indexed anew."""
        used, first = np.unique(
            np.concatenate(lists) if lists else np.zeros(0, dtype=np.int32), return_index=True
        )
        used = used[np.argsort(first)]
        names = list(self._vocabulary)
        place = np.zeros(len(names), dtype=np.int32)
        place[used] = np.arange(len(used), dtype=np.int32)
        vocabulary = {names[old]: new for new, old in enumerate(used.tolist())}
        return vocabulary, [place[ids] for ids in lists]

    def query(self, text: str) -> NDArray[np.int32]:
        """Return the ids of the terms of a question that some text has, each once, sorted."""
        known = {self._vocabulary[t] for t in terms(text) if t in self._vocabulary}
        return np.asarray(sorted(known), dtype=np.int32)

    def scores(self, query: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the BM25 score of every text, shape (n,); 0 where no term occurs.

        Args:
            query: As :meth:`query` returns it.
        """
        if len(query) == 0:
            return np.zeros(len(self), dtype=np.float32)
        found = self._bm25.get_scores_from_ids(query)
        return np.asarray(found, dtype=np.float32)

    def holders(self, text: str) -> NDArray[np.int64]:
        """Return the rows of the texts that have all terms of another one, rising.

        None when a term is known nowhere, or there is no term.
        """
        ids = {self._vocabulary.get(term, -1) for term in terms(text)}
        if not ids or -1 in ids:
            return np.zeros(0, dtype=np.int64)
        begins, rows = self._bm25.scores["indptr"], self._bm25.scores["indices"]
        lists = sorted((rows[begins[i] : begins[i + 1]] for i in ids), key=len)
        found = np.sort(np.asarray(lists[0], dtype=np.int64))
        for more in lists[1:]:
            found = found[np.isin(found, more)]
        return found

    def weights(self, query: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return how much each term tells, log(1 + n / texts that hold it), shape (len(query),)."""
        return self._weights[query]

    def holds(self, query: NDArray[np.int32], rows: Sequence[int]) -> NDArray[np.bool_]:
        """Return which text holds which term, shape (len(rows), len(query))."""
        found = np.zeros((len(rows), len(query)), dtype=np.bool_)
        for i, row in enumerate(rows):
            found[i] = np.isin(query, self._of(int(row)))
        return found

    def save(self, folder: Path) -> None:
        """Write it to an existing folder; no file is a pickle."""
        self._bm25.save(str(folder), show_progress=False)
        np.save(folder / _TERMS, self._rows, allow_pickle=False)
        np.save(folder / _OFFSETS, self._offsets, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote, memory-mapped.

        Raises:
            ValueError: A file is not what it should be.
            OSError: A file is missing.
        """
        import bm25s

        bm25 = bm25s.BM25.load(str(folder), mmap=True, show_progress=False)
        rows = np.load(folder / _TERMS, mmap_mode="r", allow_pickle=False)
        offsets = np.load(folder / _OFFSETS, mmap_mode="r", allow_pickle=False)
        return cls(bm25, rows, offsets)


def _index(lists: Sequence[NDArray[np.int32]], vocabulary: dict[str, int]) -> Any:
    import bm25s

    bm25 = bm25s.BM25()
    # bm25s takes no index without a term.
    names = vocabulary or {"\0": 0}
    with np.errstate(invalid="ignore"):  # texts without a word have the mean length 0
        bm25.index((list(lists), names), show_progress=False)
    return bm25
