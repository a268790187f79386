"""Folders that are there completely or not at all.

A folder is filled under another name beside its place and moved there when it
is whole, so that a crash, a full disk or an interrupt leaves nothing half done.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reflectory.errors import StorageError, UserError


@contextlib.contextmanager
def staged_folder(target: str | Path, *, marker: str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``target`` on success.

    Args:
        target: Where the folder shall be. A folder that holds ``marker`` (an
            earlier one of the same kind) or nothing is replaced.
        marker: Name of a file that every finished folder of this kind holds.

    Raises:
        UserError: ``target`` holds something else; nothing is deleted for it.
        StorageError: The folder cannot be written; ``target`` is as it was.
    """
    place = Path(target)
    if place.exists() and not _replaceable(place, marker):
        raise UserError(
            f"{place} exists and holds something else",
            hint=f"choose another place; only a folder with a {marker} would be replaced",
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise _storage_error(place, error) from error
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp makes folders that nobody else can read
        _swap(staging, place)
    except OSError as error:
        raise _storage_error(place, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replaceable(place: Path, marker: str) -> bool:
    return place.is_dir() and ((place / marker).is_file() or not any(place.iterdir()))


def _swap(staging: Path, place: Path) -> None:
    """Move the new folder to its place; the old one comes back when that fails."""
    if not place.exists():
        staging.rename(place)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{place.name}.old.", dir=place.parent))
    place.rename(old / "folder")
    try:
        staging.rename(place)
    except OSError:
        (old / "folder").rename(place)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _storage_error(place: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {place}: {error.strerror or error}",
        hint="free some space or choose another place; what was there before is unchanged",
    )
