"""A few more documents in a knowledge graph, without reading the others again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.graph.building import Similar
from reflectory.retrieval.graph.knowledge_graph import EntityRelation, KnowledgeGraph

Ids = NDArray[np.int32]


def extend_graph(
    old: KnowledgeGraph,
    added: KnowledgeGraph,
    found: Iterable[tuple[int, str]],
    similarity: Similar,
) -> KnowledgeGraph:
    """Return the graph of an index to which some documents were added.

    A name of the new documents is the entity that the old graph knows by that key or
    alias, else a new one. What the new documents state about old names (aliases, relations
    in old sentences) is not read into the old ones; building anew does that.

    Args:
        old: The graph of the documents that were there.
        added: The graph of the new documents by themselves.
        found: Mentions of new subjects in old passages, as (passage, key).
        similarity: Of all passages, old ones first.
    """
    known = {key: number for number, key in enumerate(old.keys)}
    targets = [_target(key, known, old) for key in added.keys]
    keys = sorted({*old.keys, *targets})
    place = {key: number for number, key in enumerate(keys)}
    of_old = np.asarray([place[key] for key in old.keys], dtype=np.int32)
    of_added = np.asarray([place[key] for key in targets], dtype=np.int32)
    names, strength = _described(old, added, of_old, of_added, len(keys))
    first = len(old.document_of)
    pairs = sorted({(row, place[key]) for row, key in found if key in place})
    return KnowledgeGraph(
        document_of=np.concatenate([old.document_of, added.document_of + _documents(old)]),
        entities=names,
        keys=tuple(keys),
        strength=strength,
        mentions=_stacked(old.mentions, added.mentions, of_old, of_added, len(keys), pairs),
        about=_once(_stacked(old.about, added.about, of_old, of_added, len(keys), ())),
        similarity=similarity,
        relations=(
            *(_moved(relation, of_old, 0) for relation in old.relations),
            *(_moved(relation, of_added, first) for relation in added.relations),
        ),
        aliases=_aliases(old, added, of_old, of_added, place),
    )


def _target(key: str, known: dict[str, int], old: KnowledgeGraph) -> str:
    entity = known.get(key, old.aliases.get(key))
    return key if entity is None else old.keys[entity]


def _documents(graph: KnowledgeGraph) -> np.int32:
    return np.int32(graph.about.shape[0])


def _described(
    old: KnowledgeGraph, added: KnowledgeGraph, of_old: Ids, of_added: Ids, count: int
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Return name and strength of each entity: a new document about it has the say."""
    names = [""] * count
    strength = np.ones(count, dtype=np.float32)
    for entity, name in zip(of_added.tolist(), added.entities, strict=True):
        names[entity] = name
    strength[of_added] = added.strength
    for entity, name in zip(of_old.tolist(), old.entities, strict=True):
        names[entity] = name
    strength[of_old] = old.strength
    subjects = np.unique(added.about.indices)
    titled = set(of_old[np.unique(old.about.indices)].tolist())
    for entity in subjects.tolist():
        if int(of_added[entity]) not in titled:
            names[int(of_added[entity])] = added.entities[entity]
    return tuple(names), strength


def _stacked(
    old: Any,
    added: Any,
    of_old: Ids,
    of_added: Ids,
    count: int,
    more: Iterable[tuple[int, int]],
) -> Any:
    """Return two sparse matrices one under the other, with the columns of the joined graph."""
    import scipy.sparse as sp

    upper = _with_columns(old, of_old, count)
    pairs = list(more)
    if pairs:
        rows, columns = (np.asarray(side, dtype=np.int32) for side in zip(*pairs, strict=True))
        extra = sp.csr_matrix(
            (np.ones(len(pairs), dtype=np.float32), (rows, columns)), shape=upper.shape
        )
        # What is known to be mentioned there is not mentioned twice.
        extra.data[np.asarray(upper[rows, columns]).ravel() > 0] = 0.0
        extra.eliminate_zeros()
        upper = upper + extra
    return sp.vstack([upper, _with_columns(added, of_added, count)], format="csr")


def _with_columns(matrix: Any, place: Ids, count: int) -> Any:
    import scipy.sparse as sp

    parts = (matrix.data.copy(), place[matrix.indices], matrix.indptr.copy())
    moved = sp.csr_matrix(parts, shape=(matrix.shape[0], count))
    moved.sum_duplicates()  # two names of the new documents may be one old entity
    return moved


def _once(matrix: Any) -> Any:
    matrix.data = np.ones_like(matrix.data)
    return matrix


def _moved(relation: EntityRelation, place: Ids, first: int) -> EntityRelation:
    return EntityRelation(
        int(place[relation.subject]),
        relation.verb,
        int(place[relation.object]),
        relation.passage + first,
    )


def _aliases(
    old: KnowledgeGraph,
    added: KnowledgeGraph,
    of_old: Ids,
    of_added: Ids,
    place: dict[str, int],
) -> dict[str, int]:
    """Return the aliases of both; of two meanings the old one stays."""
    joined = {key: int(of_added[entity]) for key, entity in added.aliases.items()}
    joined |= {key: int(of_old[entity]) for key, entity in old.aliases.items()}
    return {key: entity for key, entity in sorted(joined.items()) if key not in place}
