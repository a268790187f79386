"""The index of passages: built, extended, saved and loaded."""

from reflectory.retrieval.index.folder import IndexDescription, is_index, read_description
from reflectory.retrieval.index.parts import built_for
from reflectory.retrieval.index.passage_index import (
    PassageIndex,
    check_embedder,
    check_extractor,
)

__all__ = [
    "IndexDescription",
    "PassageIndex",
    "built_for",
    "check_embedder",
    "check_extractor",
    "is_index",
    "read_description",
]
