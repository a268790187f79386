"""What documents are about, whom they name, and which of them name the same.

Importing this package is light: spaCy is loaded when an extractor asks for it.
"""

from reflectory.retrieval.structure.documents import structure_of
from reflectory.retrieval.structure.gazetteer import Gazetteer, NameFinder
from reflectory.retrieval.structure.keys import name_key
from reflectory.retrieval.structure.links import EntityLinks, link_entities
from reflectory.retrieval.structure.records import (
    DocumentStructure,
    Extraction,
    Extractor,
    Mention,
    Relation,
    Section,
)
from reflectory.retrieval.structure.resolve import resolve_extractor
from reflectory.retrieval.structure.rules import RuleExtractor

__all__ = [
    "DocumentStructure",
    "EntityLinks",
    "Extraction",
    "Extractor",
    "Gazetteer",
    "Mention",
    "NameFinder",
    "Relation",
    "RuleExtractor",
    "Section",
    "link_entities",
    "name_key",
    "resolve_extractor",
    "structure_of",
]
