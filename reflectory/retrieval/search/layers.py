"""Retrieval in layers: first hits, a walk over the graph, pairs, a spread over documents.

Every layer can be switched off (:class:`~reflectory.config.RetrievalConfig`), so that
what each of them adds can be measured (``bench/retrieval.py``). Constants are round
numbers from the middle of wide ranges in which they make no difference; they and what
was tried are in docs/experiments.md.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reflectory.config import Layer
from reflectory.errors import UserError
from reflectory.retrieval.search.candidates import (
    Candidates,
    DenseScores,
    FirstHits,
    best_rows,
)
from reflectory.retrieval.search.pairs import CANDIDATES, pair_scores
from reflectory.retrieval.search.paths import Explainer
from reflectory.retrieval.search.walk import GOES_ON, Walk
from reflectory.retrieval.structure import Extractor, NameFinder
from reflectory.types import ScoredPassage

if TYPE_CHECKING:
    from reflectory.retrieval.index import PassageIndex

DEPTH = 100
"""How many passages the dense, the lexical and the graph layer name, at least."""

NAMED = 1.0
"""What a passage gains, in standard scores, when its document is about what is asked about."""

SEEDS = 10
"""From how many of the first hits the walk starts."""

SEED_TEMPERATURE = 0.5
"""Of the softmax over their scores: the walk starts from the best ones mostly."""

WALKED = 1.0
"""Weight of log(1 + share of the walk / WALK_UNIT) against standard scores."""

WALK_UNIT = 1e-4

REPEATED = 0.8
"""What the spread leaves of a passage's score for each better one of its document."""

_MOST_NAMED = 200
"""Documents about one name beyond which it is taken for an ordinary word."""

_DIGITS = 6
_LOWEST = -700.0


class _Ranking(NamedTuple):
    """What the layers found for one question, before the spread.

    Attributes:
        found: The passages, with what the first layers say of them.
        walked: Share of the walk at each of them.
        scores: Score of each, of all layers.
        origins: Rows of the first hits, best first.
        direct: Those of them that need no other to be found.
    """

    found: Candidates
    walked: NDArray[np.float32]
    scores: NDArray[np.float32]
    origins: NDArray[np.int64]
    direct: NDArray[np.int64]


class LayeredSearch:
    """Searches an index with some layers.

    Args:
        index: The index.
        layers: Those that are on.
        extractor: Finds the names in a question, for the graph layer; that of the index.

    Raises:
        UserError: No layer would find anything, or the index was built without a layer.
    """

    def __init__(
        self, index: PassageIndex, layers: Collection[Layer], extractor: Extractor | None = None
    ) -> None:
        self._index = index
        self._preparing = threading.Lock()
        self._layers = frozenset(layers)
        if not self._layers & {"dense", "lexical"}:
            raise UserError(
                "neither the dense nor the lexical layer is on, so nothing would be found",
                hint="add `dense` or `lexical` to `layers`",
            )
        needed = (("lexical", index.lexical), ("rerank", index.lexical), ("graph", index.graph))
        for layer, part in needed:
            if layer in self._layers and part is None:
                raise UserError(
                    f"the index was built without the {layer} layer",
                    hint=f"build it with that layer, or leave `{layer}` out of `layers`",
                )
        self._lexical = index.lexical if "lexical" in self._layers else None
        self._graph = index.graph if "graph" in self._layers else None
        self._dense = DenseScores(index.vectors) if "dense" in self._layers else None
        self._walk = Walk(self._graph) if self._graph is not None else None
        self._extractor = extractor
        self._names: NameFinder | None = None

    def prepare(self) -> None:
        """Do what can be done before a query, once, however many ask."""
        with self._preparing:
            if self._dense is not None:
                self._dense.prepare()
            if self._walk is not None:
                self._walk.prepare()
            if self._names is None and self._graph is not None and self._extractor is not None:
                keys = self._graph.keys
                about = {keys[entity] for entity in np.unique(self._graph.about.indices)}
                self._names = NameFinder(keys, about, self._extractor, self._graph.aliases)

    def search(
        self, text: str, vector: NDArray[np.float32], per_document: int, limit: int
    ) -> list[ScoredPassage]:
        """Return the best passages for a question.

        Args:
            text: The question.
            vector: Its embedding, shape (d,).
            per_document: Most passages of one document, at least 1.
            limit: Most passages in all, at least 1.

        Returns:
            Best first, with scores in (0, 1], the best 1; equal ones are ordered by id.

        Raises:
            UserError: The vector has another shape or is not finite, or a number is below 1.
        """
        for name, value in (("per_document", per_document), ("limit", limit)):
            if value < 1:
                raise UserError(f"{name} is {value}", hint="ask for at least one passage")
        if np.shape(vector) != (self._index.dimension,) or not np.isfinite(vector).all():
            raise UserError(
                f"the query vector has shape {np.shape(vector)} or is not finite, "
                f"the index has dimension {self._index.dimension}",
                hint="embed the query with the embedder of the index",
            )
        self.prepare()
        words = self._words(text)
        named = self._names.find(text) if self._names is not None else []
        depth = min(len(self._index), max(DEPTH, 4 * limit))
        while True:
            hits = FirstHits(self._index.vectors, self._dense, self._lexical, vector, words, depth)
            ranking = self._ranked(hits, self._about(named), words, depth)
            if ranking is None:
                return []
            rows = ranking.found.rows
            chosen = self._spread(rows, ranking.scores, per_document, limit)
            if len(chosen) == limit or len(rows) < depth or depth == len(self._index):
                break
            # The best ones are of few documents, whose quota is used up.
            depth = min(len(self._index), 8 * depth)
        explainer = Explainer(
            self._index, self._graph, named, ranking.found, ranking.origins, ranking.direct
        )
        return [
            ScoredPassage(
                passage=self._index.passages[int(rows[i])],
                score=score,
                signals=self._signals(ranking.found, ranking.walked, i),
                path=explainer.path(int(rows[i])),
            )
            for i, score in chosen
        ]

    def _ranked(
        self, hits: FirstHits, about: NDArray[np.int64], words: NDArray[np.int32], depth: int
    ) -> _Ranking | None:
        """Return what the layers find, scored; ``None`` when that is nothing."""
        rows = np.union1d(hits.rows, about)
        if len(rows) == 0:
            return None
        scores = _with_named(hits.of(rows).fused, rows, about)
        seeds = _best(scores, SEEDS)
        walked = np.zeros(len(rows), dtype=np.float32)
        origins = direct = rows[seeds]
        if self._walk is not None:
            weights = _softmax(scores[seeds])
            everywhere = self._walk.from_passages(origins, weights)
            direct = origins[2 * (1 - GOES_ON) * weights >= everywhere[origins]]
            rows = np.union1d(rows, best_rows(everywhere, depth))
            walked = everywhere[rows]
        found = hits.of(rows)
        scores = _with_named(found.fused, rows, about)
        scores += WALKED * np.log1p(walked / WALK_UNIT)
        if "rerank" in self._layers:
            scores = self._reranked(rows, scores, words)
        return _Ranking(found, walked, scores, origins, direct)

    def _words(self, text: str) -> NDArray[np.int32]:
        lexical = self._index.lexical
        return lexical.query(text) if lexical is not None else np.zeros(0, dtype=np.int32)

    def _about(self, named: Sequence[int]) -> NDArray[np.int64]:
        """Return the passages of documents that are about an entity of the question."""
        if self._graph is None or not named:
            return np.zeros(0, dtype=np.int64)
        documents = np.unique(self._graph.about[:, list(named)].nonzero()[0])
        if not 0 < len(documents) <= _MOST_NAMED:  # more: a name that tells nothing
            return np.zeros(0, dtype=np.int64)
        return np.concatenate([self._index.rows_of_document(int(d)) for d in documents])

    def _reranked(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], words: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Return new scores: those of the best candidates by pairs, above all others."""
        lexical = self._index.lexical
        top = _best(scores, CANDIDATES)
        if lexical is None or len(top) < 2:
            return scores
        graph = self._graph
        shared = np.zeros((len(top), len(top)), dtype=np.float32)
        paired = pair_scores(
            scores[top],
            lexical.holds(words, rows[top].tolist()),
            lexical.weights(words),
            shared if graph is None else graph.shared(rows[top].tolist()),
            self._index.document_of[rows[top]],
        )
        lowest = scores[top].min()
        result = scores + (paired.min() - lowest)
        result[top] = paired
        return np.asarray(result, dtype=np.float32)

    def _spread(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], per_document: int, limit: int
    ) -> list[tuple[int, float]]:
        """Choose by score under the quota; further passages of a document count for less."""
        share = math.log(REPEATED) if "spread" in self._layers else 0.0
        below = scores.astype(np.float64) - float(scores.max())
        taken: Counter[int] = Counter()
        found: list[tuple[int, float]] = []
        for i in _best(scores, len(scores)).tolist():
            document = int(self._index.document_of[rows[i]])
            if taken[document] < per_document:
                found.append((i, _relative(below[i] + share * taken[document])))
                taken[document] += 1
        found.sort(key=lambda item: -item[1])
        last = found[min(limit, len(found)) - 1][1]
        # Only the ids of those that may be returned are read.
        shown = [(i, score) for i, score in found if score >= last]
        shown.sort(key=lambda item: (-item[1], self._index.passages[int(rows[item[0]])].id))
        return shown[:limit]

    def _signals(self, found: Candidates, walked: NDArray[np.float32], i: int) -> dict[str, float]:
        values = {"dense": found.cosines[i], "lexical": found.bm25[i], "graph": walked[i]}
        return {
            name: round(float(value), _DIGITS)
            for name, value in values.items()
            if name in self._layers
        }


def _with_named(
    fused: NDArray[np.float32], rows: NDArray[np.int64], about: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return scores with what passages gain whose document is about what is asked about."""
    return np.asarray(fused + NAMED * np.isin(rows, about), dtype=np.float32)


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the positions of the highest scores, best first."""
    return np.argsort(-np.round(scores, _DIGITS), kind="stable")[:count].astype(np.int64)


def _relative(below: float) -> float:
    """Return exp(below), above zero, without digits that differ from machine to machine."""
    return float(f"{math.exp(max(below, _LOWEST)):.{_DIGITS}g}")


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    weights = np.exp((scores - scores.max()) / SEED_TEMPERATURE)
    return np.asarray(weights / weights.sum(), dtype=np.float32)
