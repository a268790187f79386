"""The knowledge graph of an index: documents, passages, entities and what joins them.

The arrays here are what the walk needs, for hundreds of thousands of passages;
:mod:`reflectory.retrieval.graph.view` shows them as a networkx graph. ``scipy`` is
imported when a matrix is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class EntityRelation(NamedTuple):
    """Who did what, as a sentence of a passage says it.

    Attributes:
        subject: Entity that does or is.
        verb: The words between, such as "was directed by".
        object: Entity that it is done to, or that it is.
        passage: Row of the passage that says so.
    """

    subject: int
    verb: str
    object: int
    passage: int


@dataclass(frozen=True)
class KnowledgeGraph:
    """Documents, passages and entities by number, and the edges between them.

    Attributes:
        document_of: Document of each passage, shape (passages,).
        entities: Display name of each entity.
        keys: Canonical key of each entity, rising.
        strength: How much each tells by its kind, in [0, 1]: dates and peoples are shared
            by documents that have nothing else in common; shape (entities,).
        mentions: How often a passage mentions an entity, sparse (passages, entities).
        about: 1 where a document is about an entity, sparse (documents, entities).
        similarity: Cosine of similar passages of different documents, sparse and
            symmetric (passages, passages).
        relations: Who did what, in the order of the passages.
        aliases: Entity of further keys that name one wherever they stand.
    """

    document_of: NDArray[np.int32]
    entities: Sequence[str]
    keys: Sequence[str]
    strength: NDArray[np.float32]
    mentions: Any
    about: Any
    similarity: Any
    relations: Sequence[EntityRelation]
    aliases: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def holds(self) -> Any:
        """How strongly a passage holds an entity, sparse (passages, entities).

        Its own mentions, and twice what its document is about: a passage from the
        middle of a document seldom names its subject, which everybody reads into it.
        """
        spread = self.about[self.document_of]
        return (self.mentions + 2.0 * spread).tocsr().astype(np.float32)

    @cached_property
    def frequency(self) -> NDArray[np.int32]:
        """In how many passages each entity occurs, shape (entities,)."""
        counted = np.bincount(self.holds.indices, minlength=len(self.entities))
        return counted.astype(np.int32)

    @cached_property
    def rarity(self) -> NDArray[np.float32]:
        """How much it tells that two passages share an entity, shape (entities,).

        log(1 + passages / passages that hold it) times its strength, and 0 for what only
        one passage holds, which joins nothing.
        """
        weight = np.log1p(len(self.document_of) / np.maximum(self.frequency, 1)) * self.strength
        return np.where(self.frequency > 1, weight, 0.0).astype(np.float32)

    @cached_property
    def cooccurrence(self) -> Any:
        """In how many passages two entities are mentioned together, sparse (entities, entities)."""
        import scipy.sparse as sp

        once = self.mentions.copy()
        once.data = np.ones_like(once.data)
        pairs = sp.csr_matrix(once.T @ once)
        pairs.setdiag(0)
        pairs.eliminate_zeros()
        return pairs

    @cached_property
    def related(self) -> Any:
        """How many relations join two entities, sparse and symmetric (entities, entities)."""
        import scipy.sparse as sp

        size = len(self.entities)
        rows = [r.subject for r in self.relations]
        columns = [r.object for r in self.relations]
        ones = np.ones(len(rows), dtype=np.float32)
        one_way = sp.csr_matrix((ones, (rows, columns)), shape=(size, size))
        return (one_way + one_way.T).tocsr()

    @cached_property
    def verbs(self) -> Mapping[tuple[int, int], str]:
        """The first verb between two entities, by their numbers, the lower one first."""
        found: dict[tuple[int, int], str] = {}
        for r in self.relations:
            found.setdefault((min(r.subject, r.object), max(r.subject, r.object)), r.verb)
        return found

    def held_by(self, row: int) -> NDArray[np.int32]:
        """Return the entities that a passage holds, in no order."""
        begin, end = self.holds.indptr[row : row + 2]
        return np.asarray(self.holds.indices[begin:end])

    def subjects_of(self, row: int) -> NDArray[np.int32]:
        """Return the entities that a passage's document is about, in no order."""
        document = self.document_of[row]
        begin, end = self.about.indptr[document : document + 2]
        return np.asarray(self.about.indices[begin:end])

    def shared(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return how much passages share, by the rarity of the entities that both hold.

        Args:
            rows: n passages.

        Returns:
            Shape (n, n), symmetric, at least 0.
        """
        held = self.holds[np.asarray(rows, dtype=np.int64)]
        weighted = held.multiply(self.rarity).tocsr()
        return np.asarray((weighted @ held.T).todense(), dtype=np.float32)
