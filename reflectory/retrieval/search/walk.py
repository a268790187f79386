"""Personalised PageRank over passages and entities (Haveliwala 2002; HippoRAG uses it so).

A walker starts at one of the first hits, and at each step goes on along an edge or
starts anew. Where it is often found is what the hits lead to: the second document of
a question shares with the first one the entity that the question does not name.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.graph.knowledge_graph import KnowledgeGraph

GOES_ON = 0.5
"""Probability of a step along an edge; a high one ends at hubs, whatever was asked."""

STEPS = 6
"""Steps of the power iteration; what is left out is below GOES_ON ** STEPS."""

RELATED = 0.1
"""Share of the steps from an entity that go to an entity it has a relation with."""

SIMILAR = 0.1
"""Share of the steps from a passage that go to a similar passage of another document."""


class Walk:
    """The transitions between the passages and entities of a graph, ready to be walked.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: KnowledgeGraph) -> None:
        self._graph = graph
        self._passages = len(graph.document_of)

    @cached_property
    def _transitions(self) -> Any:
        """Probability of each step, sparse and row-stochastic, passages before entities.

        Transposed, so that a step is a product of rows with the vector.
        """
        import scipy.sparse as sp

        graph = self._graph
        held = graph.holds.copy()
        held.data = np.log1p(held.data)
        held = held.multiply(graph.rarity).tocsr()
        similar = _rows_to_one(graph.similarity) * SIMILAR
        related = _rows_to_one(graph.related.multiply(graph.rarity > 0)) * RELATED
        out_of_passages = _rows_to_one(held) * (1 - SIMILAR)
        out_of_entities = _rows_to_one(held.T) * (1 - RELATED)
        # Where there is nothing similar, all steps lead to entities, and so on.
        joined = sp.bmat([[similar, out_of_passages], [out_of_entities, related]], format="csr")
        return _rows_to_one(joined).T.tocsr().astype(np.float32)

    def prepare(self) -> None:
        """Make the transitions now, rather than with the first walk."""
        _ = self._transitions

    def from_passages(
        self, rows: NDArray[np.int64], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return how often a walker that starts at some passages is found at each.

        Args:
            rows: Where it starts, each row once.
            weights: How often it starts there, not negative, with a sum of 1.

        Returns:
            Shape (passages,), not negative, with a sum of at most 1 (the rest of the
            time it is at an entity).
        """
        transitions = self._transitions
        start = np.zeros(transitions.shape[0], dtype=np.float32)
        start[rows] = weights
        found = start.copy()
        for _ in range(STEPS):
            found = (1 - GOES_ON) * start + GOES_ON * (transitions @ found)
        return np.asarray(found[: self._passages], dtype=np.float32)


def _rows_to_one(matrix: Any) -> Any:
    """Return a matrix whose rows sum to 1, or to 0 where there was nothing."""
    import scipy.sparse as sp

    rows = sp.csr_matrix(matrix, dtype=np.float32)
    sums = np.asarray(rows.sum(axis=1)).ravel()
    scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
    return (sp.diags(scale) @ rows).tocsr()
