"""From whatever a user calls documents to a retriever."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from reflectory.config import RetrievalConfig
from reflectory.errors import DocumentError, UserError
from reflectory.models.protocol import Embedder
from reflectory.retrieval.index import PassageIndex, is_index
from reflectory.retrieval.langchain import (
    LangChainRetriever,
    document_of,
    is_langchain_document,
    is_langchain_retriever,
)
from reflectory.retrieval.reading import SkippedFile, read_documents
from reflectory.retrieval.reading.datasets import is_dataset, read_dataset
from reflectory.retrieval.reading.records import Found
from reflectory.retrieval.retriever import DocumentRetriever, IndexRetriever, Retriever
from reflectory.types import Document

_log = logging.getLogger(__name__)

ACCEPTED = (
    "a file, a folder, dataset:NAME or a list of them, the folder of a saved index, a "
    "PassageIndex, a datasets.Dataset, Documents of reflectory or LangChain, a LangChain "
    "retriever, or an object with "
    "fingerprint, prepare and retrieve"
)
"""What :func:`resolve_retriever` takes, for error messages."""


def resolve_retriever(
    documents: Any,
    embedder: Embedder,
    config: RetrievalConfig,
    *,
    count_tokens: Callable[[str], int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    passage_embedder: Embedder | None = None,
) -> Retriever:
    """Return a retriever for documents of any accepted kind.

    Files are read here, so that what is wrong with them is known at once;
    embedding waits for :meth:`Retriever.prepare`. Files of a folder that cannot
    be read are logged as warnings and kept in ``DocumentRetriever.skipped``.

    Args:
        documents: A file, a folder, ``dataset:NAME`` or several; the folder of a
            saved index; a :class:`PassageIndex`; a ``datasets.Dataset`` or
            ``DatasetDict``; documents of this package or of LangChain; a LangChain
            retriever; or an object that meets :class:`Retriever`.
        embedder: Embeds queries, and passages where they are not embedded yet.
        config: How documents become passages.
        count_tokens: Counts the tokens of a passage; estimated when ``None``.
        progress: Called with (passages embedded, passages in all) while indexing.
        passage_embedder: As ``embedder``, for passages only: one that remembers them.

    Raises:
        UserError: It is none of these, or an index of another embedder.
        DocumentError: Nothing can be read.
        IntegrityError: The saved index is damaged.
    """
    if isinstance(documents, PassageIndex):
        return IndexRetriever(documents, embedder, config)
    if isinstance(documents, Retriever) and not isinstance(documents, type):
        return documents
    items = _items(documents)
    if not items:
        raise DocumentError("no documents were given", hint=f"give {ACCEPTED}")
    skipped: tuple[SkippedFile, ...] = ()
    if all(isinstance(item, str | Path) for item in items):
        if any(is_index(item) for item in items):
            return _saved_index(items, embedder, config)
        result = read_documents(items)
        found, skipped = list(result.documents), result.skipped
    elif len(items) == 1 and is_langchain_retriever(items[0]):
        return LangChainRetriever(items[0])
    else:
        found, skipped = _as_documents(items)
    for skip in skipped:
        _log.warning("not read: %s: %s", skip.path, skip.reason)
    return DocumentRetriever(
        found,
        embedder,
        config,
        count_tokens=count_tokens,
        skipped=skipped,
        progress=progress,
        passage_embedder=passage_embedder,
    )


def _items(documents: Any) -> list[Any]:
    """Return what was given as a list; a single thing as a list of one."""
    # Pydantic's objects (documents, LangChain's retrievers) iterate over their fields.
    single = isinstance(documents, str | Path | bytes | dict | BaseModel)
    if single or is_dataset(documents) or not isinstance(documents, Iterable):
        return [documents]
    return list(documents)


def _saved_index(items: list[str | Path], embedder: Embedder, config: RetrievalConfig) -> Retriever:
    if len(items) > 1:
        raise UserError(
            "a saved index was given together with other documents",
            hint="give the index alone, or build one index of everything",
        )
    return IndexRetriever(PassageIndex.load(items[0], embedder), embedder, config)


def _as_documents(items: list[Any]) -> tuple[list[Document], tuple[SkippedFile, ...]]:
    found: dict[str, Document] = {}
    skipped: list[SkippedFile] = []
    for number, item in enumerate(items):
        for document in _documents_in(item, number if len(items) > 1 else None):
            if isinstance(document, SkippedFile):
                skipped.append(document)
                continue
            known = found.setdefault(document.id, document)
            if known != document:  # an exact repeat adds nothing and is left out
                raise DocumentError(
                    f"two different documents have the id {document.id!r}", hint="ids must differ"
                )
    if not found:
        raise DocumentError("no row of the data set has text", hint="give one that has")
    return list(found.values()), tuple(skipped)


def _documents_in(item: Any, number: int | None) -> Found:
    """Return the documents of one item; ``number`` is its place where there are several."""
    if isinstance(item, Document):
        return [item]
    if is_dataset(item):
        # The name that the library knows it by may be a file's or missing.
        return read_dataset(item, "dataset" if number is None else f"dataset-{number}")
    if is_langchain_document(item):
        return [document_of(item)]
    place = "" if number is None else f" (item {number})"
    raise UserError(
        f"{type(item).__name__}{place} is not a kind of documents that is known",
        hint=f"give {ACCEPTED}",
    )
