"""From a line of a configuration to an extractor."""

from __future__ import annotations

from reflectory.errors import UserError
from reflectory.retrieval.structure.records import Extractor
from reflectory.retrieval.structure.rules import RuleExtractor


def resolve_extractor(spec: str) -> Extractor:
    """Return the extractor that a configuration names.

    Args:
        spec: ``rules``, or ``spacy:PACKAGE_OR_PATH`` for a pipeline of spaCy that is
            installed as a package or lies in a folder. Nothing is downloaded.

    Raises:
        UserError: It is neither, or spaCy or the pipeline is not there.
    """
    kind, _, name = spec.partition(":")
    if spec == "rules":
        return RuleExtractor()
    if kind == "spacy" and name:
        from reflectory.retrieval.structure.spacy_extractor import SpacyExtractor

        return SpacyExtractor.load(name)
    raise UserError(
        f"{spec!r} is not an extractor that is known",
        hint="give rules, spacy:PACKAGE_OR_PATH, or an object that meets Extractor",
    )
