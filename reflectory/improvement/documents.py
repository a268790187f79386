"""Which documents are practised on, and which are kept for the check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reflectory.assembly import Sources
from reflectory.config import RunConfig
from reflectory.errors import UserError
from reflectory.models.embedders import resolve_embedder
from reflectory.models.protocol import content_hash
from reflectory.retrieval import resolve_retriever
from reflectory.types import Document


@dataclass(frozen=True)
class Split:
    """The documents of a run.

    Attributes:
        practice: What the loops read, in any form that a retriever takes.
        documents: The documents of it one by one; ``None`` where only an index or a
            retriever is there.
        check: What is kept out of training; empty where held-out questions were given.
    """

    practice: Any
    documents: tuple[Document, ...] | None
    check: tuple[Document, ...]


def split_documents(sources: Sources, settings: RunConfig) -> Split:
    """Read the documents, and keep some out of training where no held-out set was given.

    Which ones depends on their content and ``improvement.seed``, not on their order.

    Raises:
        UserError: There is no held-out set, and documents cannot be kept out: there is
            only one, or an index or retriever was given.
        DocumentError: Nothing can be read.
    """
    embedder = resolve_embedder(sources.embedder, device=sources.device)
    retriever = resolve_retriever(sources.documents, embedder, settings.loop.retrieval)
    documents: tuple[Document, ...] | None = getattr(retriever, "documents", None)
    if settings.improvement.held_out:
        given = sources.documents if documents is None else list(documents)
        return Split(given, documents, ())
    remedy = "give improvement.held_out: a file of questions with answers"
    if documents is None:
        raise UserError(
            f"no documents can be kept out of training where a {type(retriever).__name__} "
            "is given, so there is nothing to check a student on",
            hint=f"{remedy}; or give the documents themselves",
        )
    if len(documents) < 2:
        raise UserError(
            "one document cannot be kept out of training and be practised on as well",
            hint=f"{remedy}; or give more documents",
        )
    config = settings.improvement
    count = min(len(documents) - 1, max(1, round(config.check_share * len(documents))))

    def rank(document: Document) -> str:
        return content_hash(config.seed, "check", document.title, document.text)

    kept = {document.id for document in sorted(documents, key=rank)[:count]}
    practice = tuple(d for d in documents if d.id not in kept)
    check = tuple(d for d in documents if d.id in kept)
    return Split(list(practice), practice, check)
