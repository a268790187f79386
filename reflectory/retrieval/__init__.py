"""Documents -> passages -> index -> S_i for each document -> the context C_t.

Importing this package is light: faiss, langchain_core and the libraries that read
documents are loaded when they are first needed.
"""

from reflectory.retrieval.context import aggregate, extend, render_passages
from reflectory.retrieval.index import PassageIndex, is_index
from reflectory.retrieval.langchain import LangChainRetriever
from reflectory.retrieval.passages import estimate_tokens, split_passages
from reflectory.retrieval.preprocess import preprocess
from reflectory.retrieval.reading import (
    ReadResult,
    SkippedFile,
    iter_documents,
    read_documents,
)
from reflectory.retrieval.resolve import resolve_retriever
from reflectory.retrieval.retriever import DocumentRetriever, IndexRetriever, Retriever
from reflectory.retrieval.structure import resolve_extractor

__all__ = [
    "DocumentRetriever",
    "IndexRetriever",
    "LangChainRetriever",
    "PassageIndex",
    "ReadResult",
    "Retriever",
    "SkippedFile",
    "aggregate",
    "estimate_tokens",
    "extend",
    "is_index",
    "iter_documents",
    "preprocess",
    "read_documents",
    "render_passages",
    "resolve_extractor",
    "resolve_retriever",
    "split_passages",
]
