"""The folder of a saved vector index: the rows, FAISS's structure, and a description.

No file is a pickle. FAISS trusts the sizes that it reads, so its file is always compared
with its checksum before FAISS sees it (96 MB for a million rows of 384 numbers, 0.1 s). The
rows are the big file (1.5 GB), and a wrong number in it makes a score wrong and nothing
else; so it is compared by size, header and samples, unless all of it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from reflectory.errors import IntegrityError, StorageError, UserError
from reflectory.models.protocol import content_hash
from reflectory.types import Record

SCHEMA_VERSION = 1
"""Version of the folder's layout."""

DESCRIPTION = "vectors.json"
ROWS = "rows.npy"
STRUCTURE = "structure.faiss"

_BLOCK = 1 << 16
_SAMPLES = 64
_HINT = "build the index again"


class VectorDescription(Record):
    """What a vector index is, and how well it was measured to search.

    Attributes:
        kind: ``flat`` compares a query with every row; ``pq`` with the codes of a product
            quantizer, and the nearest of those exactly.
        size: Number of rows.
        dimension: Length of a row.
        indexed: Rows that were there when it was built; those behind were added.
        seed: Seed of the training and of the sample.
        target_recall: What recall@10 had to be on the sample.
        recall: Share of the true 10 nearest rows that were found for the worse half of
            the sample, in [0, 1]; 1 for ``flat``.
        recall_sample: How many queries that was measured with; 0 for ``flat``.
        parameters: Of ``pq``: ``subquantizers`` (codes of four bits per row) and
            ``candidates`` (rows compared exactly per ten asked for).
        note: Why it is of this kind, for people.
    """

    kind: Literal["flat", "pq"]
    size: int = Field(ge=1)
    dimension: int = Field(ge=1)
    indexed: int = Field(ge=0)
    seed: int = 0
    target_recall: float = Field(gt=0, le=1)
    recall: float = Field(ge=0, le=1)
    recall_sample: int = Field(default=0, ge=0)
    parameters: dict[str, int] = Field(default_factory=dict)
    note: str = ""


class FileMark(Record):
    """What tells a file from a damaged one.

    Attributes:
        size: Bytes.
        sampled: sha256 of the beginning, the end and blocks between them.
        sha256: sha256 of all of it.
    """

    size: int = Field(ge=0)
    sampled: str
    sha256: str


class _Contents(Record):
    """Content of ``vectors.json``; ``checksum`` is that of the other fields."""

    schema_version: int = SCHEMA_VERSION
    description: VectorDescription
    files: dict[str, FileMark]
    checksum: str = ""

    def expected_checksum(self) -> str:
        return content_hash(self.model_dump(mode="json", exclude={"checksum"}))


def is_vector_folder(folder: str | Path) -> bool:
    """Return whether a folder holds a saved vector index."""
    return (Path(folder) / DESCRIPTION).is_file()


def write_vector_folder(
    folder: Path,
    description: VectorDescription,
    parts: Iterable[NDArray[np.float32]],
    structure: Any = None,
) -> Path:
    """Write a vector index into a folder, replacing one that is there.

    Each file is written beside its place and moved there, the description last; who
    reads in between, or after a crash in between, gets an ``IntegrityError``.

    Args:
        folder: The folder; made when it is not there. Its other files are left alone.
        description: What is written; its size is that of the parts together.
        parts: The rows, in blocks.
        structure: FAISS's index, ``None`` for a flat one.

    Returns:
        The folder.

    Raises:
        StorageError: It cannot be written.
    """
    folder = folder.expanduser()
    written = [ROWS] if structure is None else [ROWS, STRUCTURE]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_rows(_new(folder, ROWS), description, parts)
        if structure is not None:
            _write_structure(_new(folder, STRUCTURE), structure)
        marks = {name: mark_of(_new(folder, name)) for name in written}
        contents = _Contents(description=description, files=marks)
        contents = contents.model_copy(update={"checksum": contents.expected_checksum()})
        _new(folder, DESCRIPTION).write_text(
            contents.model_dump_json(indent=2) + "\n", encoding="utf-8"
        )
        for name in (*written, DESCRIPTION):
            with _new(folder, name).open("rb+") as stream:
                os.fsync(stream.fileno())
            _new(folder, name).replace(folder / name)
        if structure is None:
            (folder / STRUCTURE).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"the vectors cannot be written to {folder}: {error.strerror or error}",
            hint="check the free space and the permissions",
        ) from error
    finally:
        for name in (ROWS, STRUCTURE, DESCRIPTION):
            with suppress(OSError):  # The error that matters is the one that brought us here.
                _new(folder, name).unlink()
    return folder


def _new(folder: Path, name: str) -> Path:
    return folder / f".{name}.new"


def _write_rows(
    path: Path, description: VectorDescription, parts: Iterable[NDArray[np.float32]]
) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
        "fortran_order": False,
        "shape": (description.size, description.dimension),
    }
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(np.ascontiguousarray(part, dtype=np.float32).data)


def _write_structure(path: Path, structure: Any) -> None:
    import faiss

    with path.open("wb") as stream:
        # Through Python's file, whose failures are OSErrors with a reason.
        stream.write(faiss.serialize_index(structure).data)


def mark_of(path: Path) -> FileMark:
    """Return what tells a file from a damaged one."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileMark(size=path.stat().st_size, sampled=sampled_hash(path), sha256=sha256)


def sampled_hash(path: Path) -> str:
    """Return the sha256 of 64 blocks of 64 KiB at equal distances, first and last included.

    A file of up to 4 MiB is hashed whole.
    """
    gaps = max(0, path.stat().st_size - _BLOCK)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        if gaps < _BLOCK * (_SAMPLES - 1):
            return hashlib.file_digest(stream, "sha256").hexdigest()
        for number in range(_SAMPLES):
            stream.seek(gaps * number // (_SAMPLES - 1))
            digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def read_vector_folder(
    folder: Path, *, mmap: bool, verify: bool
) -> tuple[VectorDescription, NDArray[np.float32], Any]:
    """Read and check a vector index.

    Args:
        folder: The folder.
        mmap: Whether the rows stay on the disk until they are used; codes are always read.
        verify: Whether all of the rows' file is hashed.

    Returns:
        The description, the rows (read-only where mapped) and FAISS's index or ``None``.

    Raises:
        UserError: It is no vector index, or one of a newer schema.
        IntegrityError: A file is missing or damaged.
    """
    folder = folder.expanduser()
    if not is_vector_folder(folder):
        raise UserError(f"{folder} holds no vectors (it has no {DESCRIPTION})", hint=_HINT)
    try:
        contents = _read_contents(folder / DESCRIPTION)
        description = contents.description
        names = [ROWS] if description.kind == "flat" else [ROWS, STRUCTURE]
        for name in names:
            whole = verify or name == STRUCTURE
            _check_file(folder / name, contents.files.get(name), whole=whole)
        rows = _read_rows(folder / ROWS, description, mmap)
        structure = _read_structure(folder / STRUCTURE, description) if STRUCTURE in names else None
    except OSError as error:
        raise IntegrityError(
            f"the vectors in {folder} are incomplete: {error.filename}: {error.strerror or error}",
            hint=_HINT,
        ) from error
    return description, rows, structure


def _read_contents(path: Path) -> _Contents:
    try:
        data = json.loads(path.read_bytes())
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema version {version}, known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory, or build the index again",
            )
        contents = _Contents.model_validate(data)
    except (ValueError, ValidationError, RecursionError) as error:
        raise IntegrityError(
            f"{path} is damaged: {str(error).splitlines()[0]}", hint=_HINT
        ) from error
    if contents.checksum != contents.expected_checksum():
        raise IntegrityError(f"{path} is damaged: it does not match its checksum", hint=_HINT)
    return contents


def _check_file(path: Path, mark: FileMark | None, *, whole: bool) -> None:
    if mark is None:
        raise IntegrityError(f"{DESCRIPTION} says nothing of {path}", hint=_HINT)
    size = path.stat().st_size
    if size != mark.size:
        raise IntegrityError(f"{path} is damaged: it has {size} bytes, not {mark.size}", hint=_HINT)
    if sampled_hash(path) != mark.sampled or (whole and mark_of(path).sha256 != mark.sha256):
        raise IntegrityError(
            f"{path} is damaged: its checksum is not the one in {DESCRIPTION}", hint=_HINT
        )


def _read_rows(path: Path, description: VectorDescription, mmap: bool) -> NDArray[np.float32]:
    try:
        rows = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise IntegrityError(
            f"{path} is damaged: {str(error).splitlines()[0]}", hint=_HINT
        ) from error
    expected = (description.size, description.dimension)
    if rows.dtype != np.float32 or rows.shape != expected or not rows.flags.c_contiguous:
        raise IntegrityError(
            f"{path} is damaged: it holds {rows.dtype} of shape {rows.shape}, "
            f"not float32 of shape {expected}",
            hint=_HINT,
        )
    return np.asarray(rows)


def _read_structure(path: Path, description: VectorDescription) -> Any:
    """Return FAISS's index; the file's checksum was compared before."""
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:  # what FAISS raises
        reason = str(error).splitlines()[0]
        raise IntegrityError(f"{path} is damaged: {reason}", hint=_HINT) from error
    if (index.ntotal, index.d) != (description.indexed, description.dimension):
        raise IntegrityError(
            f"{path} is damaged: it holds {index.ntotal} codes of {index.d} numbers", hint=_HINT
        )
    return index
