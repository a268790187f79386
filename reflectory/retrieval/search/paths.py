"""Why a passage was chosen: a way from the question to it that a person can follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reflectory.retrieval.graph.knowledge_graph import KnowledgeGraph
from reflectory.retrieval.search.candidates import Candidates
from reflectory.retrieval.sentences import sentences
from reflectory.types import PathStep

if TYPE_CHECKING:
    from reflectory.retrieval.index import PassageIndex

_LONGEST = 200
_QUESTION = PathStep(kind="question", name="question")


class Explainer:
    """Finds the ways of one question.

    The first of these that there is:

    1. the question names an entity that the passage's document is about;
    2. the passage is one of the first hits, and the walk comes there from others less often
       than it starts there;
    3. it shares an entity with a first hit, the rarest one;
    4. an entity of it is in a relation with an entity of a first hit;
    5. it is similar to a first hit;
    6. it mentions an entity of the question;
    7. a first layer found it further down, or the walk came there over more steps.

    Args:
        index: The index.
        graph: Its graph; ``None`` without that layer.
        named: Entities of the question.
        found: What the first layers say of the candidates.
        origins: The first hits, best first.
        direct: Those of them that need no other to be found.
    """

    def __init__(
        self,
        index: PassageIndex,
        graph: KnowledgeGraph | None,
        named: Sequence[int],
        found: Candidates,
        origins: NDArray[np.int64],
        direct: NDArray[np.int64],
    ) -> None:
        self._index = index
        self._graph = graph
        self._named = list(named)
        self._origins = [int(row) for row in origins]
        self._direct = set(direct.tolist())
        self._found = found
        self._held: dict[int, set[int]] = {}

    def path(self, row: int) -> tuple[PathStep, ...]:
        """Return the steps from the question to a passage, both included."""
        graph = self._graph
        if graph is not None and (entity := self._first_about(graph, row)) is not None:
            return (_QUESTION, self._entity(entity, "mention"), self._passage(row, "title"))
        if row in self._direct or graph is None:
            return (_QUESTION, self._hit(row))
        ways = (self._over_entity, self._over_relation, self._over_similarity)
        for way in ways:
            if (steps := way(graph, row)) is not None:
                return (_QUESTION, *steps)
        held = set(graph.held_by(row).tolist())
        for entity in self._named:
            if entity in held:
                return (
                    _QUESTION,
                    self._entity(entity, "mention"),
                    self._passage(row, "mention", self._sentence(row, entity)),
                )
        return (_QUESTION, self._hit(row))

    def _first_about(self, graph: KnowledgeGraph, row: int) -> int | None:
        about = set(graph.subjects_of(row).tolist())
        return next((entity for entity in self._named if entity in about), None)

    def _over_entity(self, graph: KnowledgeGraph, row: int) -> tuple[PathStep, ...] | None:
        held = set(graph.held_by(row).tolist())
        best: tuple[float, int, int] | None = None
        for rank, origin in enumerate(self._origins):
            if graph.document_of[origin] == graph.document_of[row]:
                continue
            for entity in self._held_by_origin(graph, rank) & held:
                # Earlier hits count for more, as the walk starts there more often.
                worth = (float(graph.rarity[entity]) / (1 + rank), -entity)
                if worth[0] > 0 and (best is None or worth > best[:2]):
                    best = (*worth, origin)
        if best is None:
            return None
        entity, origin = -best[1], best[2]
        about = set(graph.subjects_of(row).tolist())
        last = (
            self._passage(row, "title")
            if entity in about
            else self._passage(row, "mention", self._sentence(row, entity))
        )
        step = self._entity(entity, "mention", self._sentence(origin, entity))
        return (self._hit(origin), step, last)

    def _over_relation(self, graph: KnowledgeGraph, row: int) -> tuple[PathStep, ...] | None:
        held = set(graph.held_by(row).tolist())
        related = graph.related
        for rank, origin in enumerate(self._origins):
            if origin == row:
                continue
            ends = (
                (first, int(second))
                for first in sorted(self._held_by_origin(graph, rank))
                for second in related.indices[related.indptr[first] : related.indptr[first + 1]]
                if int(second) in held
            )
            if (pair := next(ends, None)) is None:
                continue
            first, second = pair
            verb = graph.verbs[min(first, second), max(first, second)]
            return (
                self._hit(origin),
                self._entity(first, "mention", self._sentence(origin, first)),
                self._entity(second, "relation", verb),
                self._passage(row, "mention", self._sentence(row, second)),
            )
        return None

    def _over_similarity(self, graph: KnowledgeGraph, row: int) -> tuple[PathStep, ...] | None:
        begin, end = graph.similarity.indptr[row : row + 2]
        alike = set(graph.similarity.indices[begin:end].tolist())
        origin = next((origin for origin in self._origins if origin in alike), None)
        return None if origin is None else (self._hit(origin), self._passage(row, "similarity"))

    def _held_by_origin(self, graph: KnowledgeGraph, rank: int) -> set[int]:
        if rank not in self._held:
            self._held[rank] = set(graph.held_by(self._origins[rank]).tolist())
        return self._held[rank]

    def _hit(self, row: int) -> PathStep:
        """Return the step from the question to a passage by the layer that found it."""
        place = int(np.searchsorted(self._found.rows, row))
        found = self._found
        if found.bm25[place] > 0 and not found.cosines[place] > 0:
            by = "lexical"
        else:
            by = "dense" if found.dense else "graph"
        return self._passage(row, by)

    def _passage(self, row: int, by: str, detail: str = "") -> PathStep:
        return PathStep(kind="passage", name=self._index.passages[row].id, by=by, detail=detail)

    def _entity(self, entity: int, by: str, detail: str = "") -> PathStep:
        assert self._graph is not None
        return PathStep(kind="entity", name=self._graph.entities[entity], by=by, detail=detail)

    def _sentence(self, row: int, entity: int) -> str:
        """Return the sentence of a passage that names an entity as it is displayed."""
        assert self._graph is not None
        text, name = self._index.passages[row].text, self._graph.entities[entity]
        # Not by folding both, which moves the offsets of what follows an "ß".
        at = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
        if at is None:
            return ""
        for start, end in sentences(text):
            if start <= at.start() < end:
                return text[start:end][:_LONGEST]
        return ""
