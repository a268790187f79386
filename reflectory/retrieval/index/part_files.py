"""The parts of an index as files of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reflectory.errors import IntegrityError
from reflectory.retrieval.graph.files import read_graph, write_graph
from reflectory.retrieval.index.folder import VECTORS, IndexDescription, check_files
from reflectory.retrieval.index.lines import RecordLines, write_lines
from reflectory.retrieval.index.parts import IndexParts
from reflectory.retrieval.search.lexical import LexicalIndex
from reflectory.retrieval.structure import DocumentStructure
from reflectory.retrieval.vectors import VectorIndex
from reflectory.retrieval.vectors.files import DESCRIPTION as VECTOR_DESCRIPTION
from reflectory.retrieval.vectors.files import is_vector_folder
from reflectory.types import Document, Passage

_DOCUMENTS = "documents.jsonl"
_PASSAGES = "passages.jsonl"
_OWNERS = "document_of.npy"
_STRUCTURES = "structures.jsonl"
_LEXICAL = "lexical"
_GRAPH = "graph"


def write_parts(folder: Path, parts: IndexParts) -> None:
    """Write the parts of an index to an existing, empty folder."""
    write_lines(folder / _DOCUMENTS, parts.documents)
    write_lines(folder / _PASSAGES, parts.passages)
    np.save(folder / _OWNERS, parts.document_of, allow_pickle=False)
    parts.vectors.save(folder / VECTORS)
    if parts.lexical is not None:
        (folder / _LEXICAL).mkdir()
        parts.lexical.save(folder / _LEXICAL)
    if parts.graph is not None:
        (folder / _GRAPH).mkdir()
        write_lines(folder / _STRUCTURES, parts.structures)
        write_graph(folder / _GRAPH, parts.graph)


def read_parts(folder: Path, description: IndexDescription, *, verify: bool) -> IndexParts:
    """Read all files of an index, and compare their numbers with its description.

    Args:
        folder: The folder of the index.
        description: Its description.
        verify: Whether the vectors are compared with their checksum byte by byte.

    Raises:
        IntegrityError: A file is missing or damaged.
    """
    check_files(folder, description)
    try:
        documents = RecordLines(folder / _DOCUMENTS, Document)
        passages = RecordLines(folder / _PASSAGES, Passage)
        document_of: NDArray[np.int32] = np.load(folder / _OWNERS, allow_pickle=False)
        lexical, graph = None, None
        structures: Sequence[DocumentStructure] = ()
        if "lexical" in description.layers:
            lexical = LexicalIndex.load(folder / _LEXICAL)
        if "graph" in description.layers:
            graph = read_graph(folder / _GRAPH)
            structures = RecordLines(folder / _STRUCTURES, DocumentStructure)
    except OSError as error:
        raise IntegrityError(
            f"the index {folder} is incomplete: {error.filename}: {error.strerror or error}",
            hint="build the index again",
        ) from error
    except (ValueError, TypeError, KeyError, EOFError) as error:  # of another version of bm25s
        raise IntegrityError(
            f"the index {folder} cannot be read: {type(error).__name__}: {error}",
            hint="build the index again",
        ) from error
    if not is_vector_folder(folder / VECTORS):
        raise IntegrityError(
            f"the index {folder} is incomplete: there is no {VECTORS}/{VECTOR_DESCRIPTION}",
            hint="build the index again",
        )
    vectors = VectorIndex.load(folder / VECTORS, verify=verify)
    found = {
        "documents": len(documents),
        "passages": len(passages),
        "dimension": vectors.dimension,
        "entities": len(graph.keys) if graph is not None else 0,
    }
    expected = {name: getattr(description, name) for name in found}
    rows = {len(passages), len(vectors), len(document_of)}
    rows |= {len(lexical)} if lexical is not None else set()
    if found != expected or len(rows) > 1:
        raise IntegrityError(
            f"the index {folder} is damaged: it has {found}, its description says {expected}",
            hint="build the index again",
        )
    return IndexParts(
        documents=documents,
        passages=passages,
        document_of=document_of,
        vectors=vectors,
        structures=structures,
        lexical=lexical,
        graph=graph,
        extractor_fingerprint=description.extractor,
        grown=description.grown,
    )
