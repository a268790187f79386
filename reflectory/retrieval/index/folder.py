"""The folder of a saved index: lines of JSON, arrays of numbers, and a description.

No file of it is a pickle, and nothing is parsed before its checksum was compared. The
vectors have a description and checks of their own (:mod:`reflectory.retrieval.vectors`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, ValidationError

from reflectory.errors import IntegrityError, StorageError, UserError
from reflectory.models.protocol import content_hash
from reflectory.types import Record

SCHEMA_VERSION = 2
"""Version of the folder's layout."""

DESCRIPTION = "index.json"
VECTORS = "vectors"


class IndexDescription(Record):
    """Content of ``index.json``.

    Attributes:
        schema_version: Version of the folder's layout.
        fingerprint: Identity of the content.
        embedder: Fingerprint of the embedder.
        extractor: Fingerprint of what found names and relations; empty without a graph.
        grown: How many documents there were each time that some were added.
        dimension: Length of the vectors.
        documents: How many there are.
        passages: How many there are, and so how many vectors.
        entities: How many the graph has.
        passage_tokens: The limit that the passages were cut with.
        layers: What it was built for besides the vectors: ``lexical``, ``graph``.
        sha256: Checksum of each file, by its path in the folder, but for the vectors.
        checksum: That of the other fields.
    """

    schema_version: int = Field(ge=1)
    fingerprint: str
    embedder: str
    extractor: str = ""
    grown: tuple[int, ...] = ()
    dimension: int = Field(ge=1)
    documents: int = Field(ge=1)
    passages: int = Field(ge=1)
    entities: int = Field(default=0, ge=0)
    passage_tokens: int = Field(ge=1)
    layers: tuple[str, ...] = ()
    sha256: dict[str, str] = Field(default_factory=dict)
    checksum: str = ""

    def expected_checksum(self) -> str:
        """Return what ``checksum`` must be."""
        return content_hash(self.model_dump(mode="json", exclude={"checksum"}))


def is_index(path: str | Path) -> bool:
    """Return whether a folder holds a saved index."""
    return (Path(path) / DESCRIPTION).is_file()


def write_index_folder(
    folder: Path, description: IndexDescription, write: Callable[[Path], None]
) -> Path:
    """Write an index beside its place and then move it there.

    Args:
        folder: Where it shall be.
        description: Its description; the checksums are added here.
        write: Writes everything else into the folder that it is given.

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
        write(content)
        sums = {name: _sha256(content / name) for name in _files(content)}
        described = description.model_copy(update={"sha256": sums})
        described = described.model_copy(update={"checksum": described.expected_checksum()})
        text = json.dumps(described.model_dump(), indent=2, sort_keys=True, ensure_ascii=False)
        (content / DESCRIPTION).write_text(text + "\n", encoding="utf-8", newline="\n")
        for path in sorted(content.rglob("*")):
            if path.is_file():
                with path.open("rb+") as stream:
                    os.fsync(stream.fileno())
        _swap(content, folder, staging / "old")
    except OSError as error:
        raise StorageError(
            f"the index cannot be written to {folder}: {error.strerror or error}",
            hint="check the free space and the permissions",
        ) from error
    finally:
        # An old index that could not come back to its place is not thrown away.
        if staging is not None and (folder.exists() or not (staging / "old").exists()):
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def _files(content: Path) -> list[str]:
    found = (path.relative_to(content) for path in sorted(content.rglob("*")) if path.is_file())
    return [path.as_posix() for path in found if path.parts[0] != VECTORS]


def _swap(content: Path, folder: Path, old: Path) -> None:
    """Put ``content`` at ``folder``; if that fails, what was there comes back."""
    if not folder.exists():
        content.rename(folder)
        return
    folder.rename(old)
    try:
        content.rename(folder)
    except BaseException:  # an interrupt too
        old.rename(folder)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_description(folder: Path) -> IndexDescription:
    """Read the description of an index, without checking its files.

    Raises:
        UserError: It is no index, or one of another schema.
        IntegrityError: The description is damaged.
    """
    if not is_index(folder):
        raise UserError(
            f"{folder} is not a saved index (it has no {DESCRIPTION})",
            hint="make one with `reflectory index DOCUMENTS -o INDEX`",
        )
    path = folder / DESCRIPTION
    try:
        data = json.loads(path.read_bytes())
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version != SCHEMA_VERSION:
            newer = version > SCHEMA_VERSION
            raise UserError(
                f"the index {folder} has schema version {version}, this version reads "
                f"{SCHEMA_VERSION}",
                hint=("upgrade reflectory, or " if newer else "") + "build the index again",
            )
        description = IndexDescription.model_validate(data)
    except (ValueError, ValidationError, RecursionError) as error:
        raise IntegrityError(
            f"{path} is damaged: {str(error).splitlines()[0]}", hint="build the index again"
        ) from error
    if description.checksum != description.expected_checksum():
        raise IntegrityError(
            f"{path} is damaged: it does not match its checksum", hint="build the index again"
        )
    return description


def check_files(folder: Path, description: IndexDescription) -> None:
    """Compare the files of an index, but for its vectors, with their checksums.

    Args:
        folder: Of the index.
        description: What its files should be.

    Raises:
        IntegrityError: A file is missing or damaged.
    """
    try:
        for name, expected in description.sha256.items():
            if _sha256(folder / name) != expected:
                raise IntegrityError(
                    f"{folder / name} is damaged: its checksum is not the one in {DESCRIPTION}",
                    hint="build the index again",
                )
    except OSError as error:
        raise IntegrityError(
            f"the index {folder} is incomplete: {error.filename}: {error.strerror or error}",
            hint="build the index again",
        ) from error
