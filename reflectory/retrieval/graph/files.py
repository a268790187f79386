"""The knowledge graph as files: arrays of numbers and lines of JSON, no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from reflectory.errors import IntegrityError
from reflectory.retrieval.graph.knowledge_graph import EntityRelation, KnowledgeGraph

_MATRICES = ("mentions", "about", "similarity")
_PARTS = ("data", "indices", "indptr")
_DOCUMENTS = "document_of.npy"
_STRENGTH = "strength.npy"
_ENTITIES = "entities.jsonl"
_ALIASES = "aliases.jsonl"
_RELATIONS = "relations.jsonl"


def write_graph(folder: Path, graph: KnowledgeGraph) -> None:
    """Write a graph to an existing folder."""
    np.save(folder / _DOCUMENTS, graph.document_of, allow_pickle=False)
    np.save(folder / _STRENGTH, graph.strength, allow_pickle=False)
    for name in _MATRICES:
        matrix = getattr(graph, name)
        for part in _PARTS:
            np.save(folder / f"{name}.{part}.npy", getattr(matrix, part), allow_pickle=False)
    _write_rows(folder / _ENTITIES, zip(graph.keys, graph.entities, strict=True))
    _write_rows(folder / _ALIASES, sorted(graph.aliases.items()))
    _write_rows(folder / _RELATIONS, graph.relations)


def _write_rows(path: Path, rows: Any) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_graph(folder: Path) -> KnowledgeGraph:
    """Read what :func:`write_graph` wrote; compare checksums first.

    Raises:
        IntegrityError: The files do not belong together.
        OSError: A file is missing.
    """
    import scipy.sparse as sp

    try:
        document_of = np.load(folder / _DOCUMENTS, allow_pickle=False)
        strength = np.load(folder / _STRENGTH, allow_pickle=False)
        entities = _rows(folder / _ENTITIES)
        documents = len(np.load(folder / "about.indptr.npy", allow_pickle=False)) - 1
        passages, count = len(document_of), len(entities)
        shapes = {
            "mentions": (passages, count),
            "about": (documents, count),
            "similarity": (passages, passages),
        }
        matrices = {}
        for name, shape in shapes.items():
            parts = [np.load(folder / f"{name}.{p}.npy", allow_pickle=False) for p in _PARTS]
            matrices[name] = sp.csr_matrix(tuple(parts), shape=shape)
            matrices[name].check_format(full_check=True)  # numbers out of range would crash later
        aliases = {str(key): int(entity) for key, entity in _rows(folder / _ALIASES)}
        relations = tuple(EntityRelation(*row) for row in _rows(folder / _RELATIONS))
        _check_numbers((n for r in relations for n in (r.subject, r.object)), count)
        _check_numbers((r.passage for r in relations), passages)
        _check_numbers(aliases.values(), count)
    except (ValueError, TypeError, EOFError) as error:
        raise IntegrityError(
            f"the graph in {folder} is damaged: {str(error).splitlines()[0]}",
            hint="build the index again",
        ) from error
    return KnowledgeGraph(
        document_of=document_of,
        strength=strength,
        aliases=aliases,
        keys=tuple(key for key, _ in entities),
        entities=tuple(name for _, name in entities),
        relations=relations,
        **matrices,
    )


def _check_numbers(numbers: Iterable[int], count: int) -> None:
    for number in numbers:
        if not 0 <= number < count:
            raise ValueError(f"the number {number} is not one of {count}")


def _rows(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
