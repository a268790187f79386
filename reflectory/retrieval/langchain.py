"""Retrievers and documents of LangChain, as this package sees them.

``langchain_core`` is imported only when one of its objects was given.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from reflectory.errors import UserError
from reflectory.models.protocol import content_hash
from reflectory.retrieval.preprocess import clean_line, clean_text
from reflectory.retrieval.reading.records import metadata_of
from reflectory.types import Document, Passage, ScoredPassage

if TYPE_CHECKING:
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.retrievers import BaseRetriever

_ID_LENGTH = 16


class LangChainRetriever:
    """Any LangChain retriever as a :class:`~reflectory.retrieval.Retriever`.

    What it returns is taken as passages, in its order. LangChain gives no scores,
    so the score is 1 / rank. Ids are hashes of the content, and offsets count
    from the beginning of the passage, because the document is not known.

    Args:
        retriever: The LangChain retriever. How many passages it fetches is its
            own affair (usually ``k``); give it at least ``passages`` of the
            retrieval configuration.
        fingerprint: Identity of what it searches, such as the name and version
            of a collection; its class when empty, which does not tell a changed
            collection from the one before.
    """

    def __init__(self, retriever: BaseRetriever, *, fingerprint: str = "") -> None:
        self._retriever = retriever
        kind = type(retriever)
        self._fingerprint = f"langchain:{fingerprint or f'{kind.__module__}.{kind.__qualname__}'}"

    @property
    def fingerprint(self) -> str:
        """Identity as it was given, or the class."""
        return self._fingerprint

    async def prepare(self) -> int:
        """Return 0: how many documents there are is not known."""
        return 0

    async def retrieve(self, query: str, *, per_document: int, limit: int) -> list[ScoredPassage]:
        """Ask the retriever; see :class:`~reflectory.retrieval.Retriever`.

        Args:
            query: What is looked for.
            per_document: Most passages of one document, at least 1.
            limit: Most passages in all, at least 1.

        Raises:
            UserError: It returned something else than LangChain documents.
        """
        found = await self._retriever.ainvoke(query)
        taken: Counter[str] = Counter()
        passages: dict[str, Passage] = {}
        for document in found:
            passage = passage_of(document)
            if passage is None or passage.id in passages:
                continue
            if taken[passage.document_id] < per_document:
                taken[passage.document_id] += 1
                passages[passage.id] = passage
        ranked = list(passages.values())[:limit]
        return [
            ScoredPassage(passage=passage, score=1 / rank)
            for rank, passage in enumerate(ranked, start=1)
        ]


def passage_of(document: LangChainDocument) -> Passage | None:
    """Return a LangChain document as a passage; ``None`` when it has no text.

    Pieces with the same source (or else title) count as one document.
    """
    _check(document)
    text = clean_text(document.page_content).strip()
    if not text:
        return None
    title, source = _title_of(document), _source_of(document)
    origin = document.metadata.get("source") or title
    own_id = content_hash(title, source, text)[:_ID_LENGTH]
    return Passage(
        id=own_id,
        document_id=content_hash(str(origin))[:_ID_LENGTH] if origin else own_id,
        title=title,
        text=text,
        start=0,
        end=len(text),
        source=source,
        licence=clean_line(metadata_of(document.metadata).get("licence", "")),
    )


def document_of(document: LangChainDocument) -> Document:
    """Return a LangChain document as a :class:`~reflectory.types.Document`.

    The id is its own, or else a hash of its content.

    Raises:
        UserError: It is no LangChain document.
    """
    _check(document)
    title, source = _title_of(document), _source_of(document)
    own = {k: v for k, v in document.metadata.items() if k not in {"title", "source"}}
    return Document(
        id=document.id or content_hash(title, source, document.page_content)[:_ID_LENGTH],
        title=title,
        text=document.page_content,
        source=source,
        metadata=metadata_of(own),
    )


def is_langchain_retriever(value: Any) -> bool:
    """Return whether ``value`` is a LangChain retriever."""
    from langchain_core.retrievers import BaseRetriever

    return isinstance(value, BaseRetriever)


def is_langchain_document(value: Any) -> bool:
    """Return whether ``value`` is a LangChain document."""
    from langchain_core.documents import Document as LangChainDocument

    return isinstance(value, LangChainDocument)


def _check(document: Any) -> None:
    if not is_langchain_document(document):
        raise UserError(
            f"expected a LangChain document, got {type(document).__name__}",
            hint="a retriever returns a list of langchain_core.documents.Document",
        )


def _title_of(document: LangChainDocument) -> str:
    title = document.metadata.get("title")
    return clean_line(title) if isinstance(title, str) else ""


def _source_of(document: LangChainDocument) -> str:
    """Return the source; of a path on a machine only the file's name."""
    source = document.metadata.get("source")
    if not isinstance(source, str):
        return ""
    if PurePosixPath(source).is_absolute() or PureWindowsPath(source).is_absolute():
        return clean_line(PureWindowsPath(source).name)
    return clean_line(source)
