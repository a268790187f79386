"""The knowledge graph as networkx shows it, whole or around some passages.

``networkx`` is imported when a view is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reflectory.retrieval.graph.knowledge_graph import KnowledgeGraph

if TYPE_CHECKING:
    from reflectory.types import Document, Passage


def networkx_view(
    graph: KnowledgeGraph,
    documents: Sequence[Document],
    passages: Sequence[Passage],
    *,
    rows: Iterable[int] | None = None,
) -> Any:
    """Return the graph, or what surrounds some passages, as ``networkx.MultiDiGraph``.

    Nodes are named ``document:ID``, ``passage:ID`` and ``entity:KEY`` and have the
    attributes ``kind`` and ``name``. Edges have ``kind`` and ``weight``:

    - ``part``, from a document to its passages;
    - ``about``, from a document to its entities;
    - ``mention``, from a passage to an entity, weighted by how often;
    - ``relation``, from subject to object, with ``verb`` and the passage that says so;
    - ``co-occurrence``, between entities that passages mention together;
    - ``similarity``, between passages, weighted by the cosine.

    The last two have no direction and are there once, from the lower number to the
    higher one. What a neighbourhood leaves out are the edges that lead out of it, and
    entities that only one of its passages holds.

    Args:
        graph: The graph.
        documents: Those of the index.
        passages: Those of the index.
        rows: The passages to show; all of them when ``None``.
    """
    import networkx as nx

    shown = np.arange(len(passages)) if rows is None else np.unique(np.fromiter(rows, int))
    entities = _entities(graph, shown, everything=rows is None)
    view: Any = nx.MultiDiGraph()
    for document in np.unique(graph.document_of[shown]).tolist():
        record = documents[document]
        view.add_node(f"document:{record.id}", kind="document", name=record.title or record.id)
        for entity in graph.about[document].indices.tolist():
            if entity in entities:
                _add(view, f"document:{record.id}", _entity(graph, entity), "about", 1.0)
    for entity in sorted(entities):
        view.add_node(_entity(graph, entity), kind="entity", name=graph.entities[entity])
    for row in shown.tolist():
        passage = passages[row]
        name = f"passage:{passage.id}"
        view.add_node(name, kind="passage", name=passage.id, title=passage.title)
        _add(view, f"document:{passage.document_id}", name, "part", 1.0)
        begin, end = graph.mentions.indptr[row : row + 2]
        held = zip(graph.mentions.indices[begin:end], graph.mentions.data[begin:end], strict=True)
        for entity, count in held:
            if int(entity) in entities:
                _add(view, name, _entity(graph, int(entity)), "mention", float(count))
    inside = set(shown.tolist())
    for relation in graph.relations:
        ends = {relation.subject, relation.object}
        if ends <= entities and relation.passage in inside:
            view.add_edge(
                _entity(graph, relation.subject),
                _entity(graph, relation.object),
                kind="relation",
                weight=1.0,
                verb=relation.verb,
                passage=passages[relation.passage].id,
            )
    chosen = np.asarray(sorted(entities), dtype=np.int64)
    for left, right, weight in _pairs(graph.cooccurrence, chosen):
        _add(view, _entity(graph, left), _entity(graph, right), "co-occurrence", weight)
    for left, right, weight in _pairs(graph.similarity, shown):
        first, second = f"passage:{passages[left].id}", f"passage:{passages[right].id}"
        _add(view, first, second, "similarity", weight)
    return view


def _entities(graph: KnowledgeGraph, rows: Any, *, everything: bool) -> set[int]:
    """Return all entities, or those that at least two of the passages hold."""
    if everything:
        return set(range(len(graph.keys)))
    counted = np.bincount(graph.holds[rows].indices, minlength=len(graph.keys))
    return set(np.flatnonzero(counted > 1).tolist())


def _pairs(matrix: Any, chosen: Any) -> list[tuple[int, int, float]]:
    """Return the entries of a symmetric matrix between some numbers, each pair once."""
    import scipy.sparse as sp

    part = sp.triu(matrix[chosen][:, chosen], k=1).tocoo()
    ends = (chosen[part.row].tolist(), chosen[part.col].tolist(), part.data.tolist())
    return [(left, right, float(weight)) for left, right, weight in zip(*ends, strict=True)]


def _entity(graph: KnowledgeGraph, entity: int) -> str:
    return f"entity:{graph.keys[entity]}"


def _add(view: Any, left: str, right: str, kind: str, weight: float) -> None:
    view.add_edge(left, right, kind=kind, weight=weight)
