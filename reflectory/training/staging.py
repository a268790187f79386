"""Folders that are there completely or not at all.

A folder is filled under another name beside its place and moved there when it
is whole, so that a crash, a full disk or an interrupt leaves nothing half done.
What a killed process leaves beside the place is cleared up by the next one that
writes there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reflectory.errors import StorageError, UserError
from reflectory.runs.files import sync_folder


@contextlib.contextmanager
def staged_folder(target: str | Path, *, marker: str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``target`` on success.

    What is in it is on the disk before it is moved there, so that a power cut, too,
    leaves the old folder or the new one.

    Args:
        target: Where the folder shall be. A folder that holds ``marker`` (an
            earlier one of the same kind) or nothing is replaced.
        marker: Name of a file that every finished folder of this kind holds.

    Raises:
        UserError: ``target`` holds something else; nothing is deleted for it.
        StorageError: The folder cannot be written; ``target`` is as it was.
    """
    place = Path(target)
    try:
        _clear_up(place)
    except OSError as error:
        raise _storage_error(place, error) from error
    check_place(place, marker=marker)
    try:
        staging = _beside(place, "new")
    except OSError as error:
        raise _storage_error(place, error) from error
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp makes folders that nobody else can read
        _sync(staging)
        _swap(staging, place)
        sync_folder(place.parent)
    except OSError as error:
        raise _storage_error(place, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_place(target: str | Path, *, marker: str) -> None:
    """Refuse a place that :func:`staged_folder` could not fill, before work is done for it.

    Args:
        target: Where a folder shall be.
        marker: Name of a file that every finished folder of this kind holds.

    Raises:
        UserError: It holds something else.
        StorageError: Its parent folder cannot be made or written.
    """
    place = Path(target)
    if place.exists() and not _replaceable(place, marker):
        raise UserError(
            f"{place} exists and holds something else",
            hint=f"choose another place; only a folder with a {marker} would be replaced",
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(place.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _storage_error(place, error) from error


def _replaceable(place: Path, marker: str) -> bool:
    return place.is_dir() and ((place / marker).is_file() or not any(place.iterdir()))


def _swap(staging: Path, place: Path) -> None:
    """Move the new folder to its place; the old one comes back when that fails."""
    if not place.exists():
        staging.rename(place)
        return
    old = _beside(place, "old")
    place.rename(old / "folder")
    try:
        staging.rename(place)
    except OSError:
        (old / "folder").rename(place)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _beside(place: Path, what: str) -> Path:
    """Make a folder whose name says which process works in it."""
    prefix = f".{place.name}.{what}-{_host()}-{os.getpid()}-"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=place.parent))


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _clear_up(place: Path) -> None:
    """Undo what a process left that was killed while it wrote to a place.

    Killed between its two renames, the place is empty and the folder before it lies
    aside: that one comes back. Of another machine's processes nothing is known, so what
    they left stays.
    """
    import psutil

    if not place.parent.is_dir():
        return
    name = re.compile(rf"\.{re.escape(place.name)}\.(new|old)-{_host()}-(\d+)-\w+")
    for leftover in list(place.parent.iterdir()):
        found = name.fullmatch(leftover.name)
        if found is None or psutil.pid_exists(int(found[2])):
            continue
        if found[1] == "old" and not place.exists() and (leftover / "folder").is_dir():
            (leftover / "folder").rename(place)
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            # Windows only puts files on the disk that are open for writing.
            access = os.O_RDWR if os.name == "nt" else os.O_RDONLY
            descriptor = os.open(Path(parent) / name, access)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def _storage_error(place: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {place}: {error.strerror or error}",
        hint="free some space or choose another place; what was there before is unchanged",
    )
