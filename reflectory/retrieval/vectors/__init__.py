"""Unit vectors, searchable by their inner products; exact for few, by short codes for many."""

from reflectory.retrieval.vectors.files import VectorDescription
from reflectory.retrieval.vectors.vector_index import TARGET_RECALL, VectorIndex

__all__ = ["TARGET_RECALL", "VectorDescription", "VectorIndex"]
