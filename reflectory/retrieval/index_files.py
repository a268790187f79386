"""The folder of a saved index: JSON Lines, vectors, and a description with checksums.

No file of it is a pickle, and nothing is parsed before its checksum was compared.
``faiss`` is imported when it is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from reflectory.errors import IntegrityError, StorageError, UserError
from reflectory.models.protocol import Embedder
from reflectory.types import Document, Passage, Record

SCHEMA_VERSION = 1
"""Version of the folder's layout."""

_DESCRIPTION = "index.json"
_DOCUMENTS = "documents.jsonl"
_PASSAGES = "passages.jsonl"
_VECTORS = "vectors.faiss"
_FILES = (_DOCUMENTS, _PASSAGES, _VECTORS)


class Description(Record):
    """Content of ``index.json``.

    Attributes:
        schema_version: Version of the folder's layout.
        embedder: Fingerprint of the embedder.
        dimension: Length of the vectors.
        documents: How many there are.
        passages: How many there are, and so how many vectors.
        passage_tokens: The limit that the passages were cut with.
        sha256: Checksum of each other file.
    """

    schema_version: int = Field(ge=1)
    embedder: str
    dimension: int = Field(ge=1)
    documents: int = Field(ge=1)
    passages: int = Field(ge=1)
    passage_tokens: int = Field(ge=1)
    sha256: dict[str, str]


class IndexContents(NamedTuple):
    """What a folder holds, checked."""

    documents: list[Document]
    passages: list[Passage]
    vectors: Any
    passage_tokens: int


def is_index(path: str | Path) -> bool:
    """Return whether a folder holds a saved index."""
    return (Path(path) / _DESCRIPTION).is_file()


def fingerprint_of(
    documents: Iterable[Document], passages: Iterable[Passage], embedder_fingerprint: str
) -> str:
    """Return the identity of an index: equal content and embedder, equal fingerprint."""
    digest = hashlib.sha256(embedder_fingerprint.encode("utf-8"))
    for record in (*documents, *passages):
        digest.update(_line(record))
    return f"index:{digest.hexdigest()[:32]}"


def _line(record: Record) -> bytes:
    data = record.model_dump(mode="json")
    return json.dumps(data, sort_keys=True, ensure_ascii=False).encode("utf-8") + b"\n"


def write_index_folder(
    folder: Path,
    documents: Sequence[Document],
    passages: Sequence[Passage],
    vectors: Any,
    *,
    embedder_fingerprint: str,
    passage_tokens: int,
) -> Path:
    """Write an index beside its place and then move it there.

    Raises:
        UserError: The folder holds something that is no index.
        StorageError: It cannot be written; an index that was there is still there.
    """
    folder = folder.expanduser()
    if folder.exists() and not is_index(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists and is not an index", hint="choose a new folder, or remove this one"
        )
    staging: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        content = staging / "new"
        content.mkdir()
        _write_files(content, documents, passages, vectors, embedder_fingerprint, passage_tokens)
        _swap(content, folder, staging / "old")
    except OSError as error:
        raise StorageError(
            f"the index cannot be written to {folder}: {error.strerror or error}",
            hint="check the free space and the permissions",
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def _write_files(
    content: Path,
    documents: Sequence[Document],
    passages: Sequence[Passage],
    vectors: Any,
    embedder_fingerprint: str,
    passage_tokens: int,
) -> None:
    import faiss

    with (content / _DOCUMENTS).open("wb") as stream:
        stream.writelines(_line(document) for document in documents)
    with (content / _PASSAGES).open("wb") as stream:
        stream.writelines(_line(passage) for passage in passages)
    with (content / _VECTORS).open("wb") as stream:
        # Through Python's file, whose failures are OSErrors with a reason.
        stream.write(faiss.serialize_index(vectors).tobytes())
    description = Description(
        schema_version=SCHEMA_VERSION,
        embedder=embedder_fingerprint,
        dimension=int(vectors.d),
        documents=len(documents),
        passages=len(passages),
        passage_tokens=passage_tokens,
        sha256={name: _sha256(content / name) for name in _FILES},
    )
    text = json.dumps(description.model_dump(), indent=2, sort_keys=True, ensure_ascii=False)
    (content / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    for name in (*_FILES, _DESCRIPTION):
        with (content / name).open("rb+") as stream:
            os.fsync(stream.fileno())


def _swap(content: Path, folder: Path, old: Path) -> None:
    """Put ``content`` at ``folder``; if that fails, what was there comes back."""
    if not folder.exists():
        content.rename(folder)
        return
    folder.rename(old)
    try:
        content.rename(folder)
    except OSError:
        old.rename(folder)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_index_folder(folder: Path, embedder: Embedder) -> IndexContents:
    """Read and check an index.

    Raises:
        UserError: It is no index, one of a newer schema, or of another embedder.
        IntegrityError: A file is missing or damaged.
    """
    folder = folder.expanduser()
    if not is_index(folder):
        raise UserError(
            f"{folder} is not a saved index (it has no {_DESCRIPTION})",
            hint="make one with `reflectory index DOCUMENTS -o INDEX`",
        )
    try:
        description = _read_description(folder)
        _check_embedder(folder, description, embedder)
        for name in _FILES:
            if _sha256(folder / name) != description.sha256.get(name):
                raise IntegrityError(
                    f"{folder / name} is damaged: its checksum is not the one in {_DESCRIPTION}",
                    hint="build the index again",
                )
        return _read_files(folder, description)
    except OSError as error:
        raise IntegrityError(
            f"the index {folder} is incomplete: {error.filename}: {error.strerror or error}",
            hint="build the index again",
        ) from error


def _read_description(folder: Path) -> Description:
    path = folder / _DESCRIPTION
    try:
        data = json.loads(path.read_bytes())
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UserError(
                f"the index {folder} has schema version {version}, known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory, or build the index again",
            )
        return Description.model_validate(data)
    except (ValueError, ValidationError) as error:
        raise IntegrityError(
            f"{path} is damaged: {str(error).splitlines()[0]}", hint="build the index again"
        ) from error


def _check_embedder(folder: Path, description: Description, embedder: Embedder) -> None:
    if description.embedder != embedder.fingerprint:
        raise UserError(
            f"the index {folder} was made with the embedder {description.embedder}, "
            f"not with {embedder.fingerprint}",
            hint="use that embedder, or build the index again with this one",
        )
    if description.dimension != embedder.dimension:
        raise UserError(
            f"the vectors of the index {folder} have {description.dimension} dimensions, "
            f"those of the embedder {embedder.dimension}",
            hint="build the index again",
        )


def _read_files(folder: Path, description: Description) -> IndexContents:
    import faiss

    try:
        with (folder / _DOCUMENTS).open("rb") as lines:
            documents = [Document.model_validate_json(line) for line in lines]
        with (folder / _PASSAGES).open("rb") as lines:
            passages = [Passage.model_validate_json(line) for line in lines]
        vectors = faiss.read_index(str(folder / _VECTORS))
    except (ValidationError, RuntimeError) as error:  # FAISS raises RuntimeErrors
        raise IntegrityError(
            f"the index {folder} is damaged: {str(error).splitlines()[0]}",
            hint="build the index again",
        ) from error
    found = (len(documents), len(passages), vectors.ntotal, vectors.d)
    expected = (
        description.documents,
        description.passages,
        description.passages,
        description.dimension,
    )
    if found != expected or not isinstance(vectors, faiss.IndexFlatIP):
        raise IntegrityError(
            f"the index {folder} is damaged: documents, passages, vectors and dimension are "
            f"{found}, {_DESCRIPTION} says {expected}",
            hint="build the index again",
        )
    return IndexContents(documents, passages, vectors, description.passage_tokens)
