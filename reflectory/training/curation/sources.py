"""A step that looks at the licences of the documents that a row quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from reflectory.training.curation.steps import AnyRow, Outcome, R, decided
from reflectory.types import Document

UNKNOWN = "unknown"
"""What a licence is called that nobody stated."""

_BETWEEN = re.compile(r"[\s_-]+")


def licence_name(text: str) -> str:
    """Return a licence as it is compared: ``CC BY-SA 4.0`` and ``cc-by-sa-4.0`` are one."""
    return _BETWEEN.sub("-", text.strip().casefold()) or UNKNOWN


def licences_of(documents: Iterable[Document]) -> dict[str, frozenset[str]]:
    """Return the licences that documents state, by their ids; several stand between commas."""
    return {
        document.id: frozenset(
            licence_name(part) for part in document.metadata.get("licence", "").split(",")
        )
        for document in documents
    }


@dataclass(frozen=True)
class Licences:
    """Refuses rows with a passage of a document whose licence is not allowed.

    A document that states several needs all of them allowed. Rows without passages quote
    nobody and are kept.

    Args:
        allowed: Names of licences, ``unknown`` for documents that state none.
        stated: Licences by id of the document, from :func:`licences_of`.
    """

    allowed: tuple[str, ...]
    stated: Mapping[str, frozenset[str]]
    name: ClassVar[str] = "licences"

    @property
    def explanation(self) -> str:
        """The allowed ones."""
        return (
            f"Refused when a passage comes from a document whose licence is none of: "
            f"{', '.join(self.allowed)}."
        )

    async def apply(self, rows: Sequence[R], /) -> Outcome[R]:
        """Return the rows whose documents allow it."""
        allowed = {licence_name(name) for name in self.allowed}

        def reason(row: AnyRow) -> str:
            found = {n for p in row.provenance.passages for n in self._licences(p)} - allowed
            if not found:
                return ""
            return "licence_unknown" if found == {UNKNOWN} else "licence_not_allowed"

        return await decided(rows, reason)

    def _licences(self, passage: str) -> frozenset[str]:
        # Passages are numbered within their document: DOCUMENT#n.
        known = self.stated.get(passage) or self.stated.get(passage.rpartition("#")[0])
        return known or frozenset({UNKNOWN})
