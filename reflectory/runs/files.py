"""Writing files so that a kill at any moment leaves the old content or the new one.

Two ways are enough for a run directory: a small file is replaced as a whole, and
a log grows by whole lines. Every failure of the disk becomes a
:class:`~reflectory.errors.StorageError` that names the file.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reflectory.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: "free some disk space and start the same command again; it goes on from here",
    errno.EDQUOT: "free some of your disk quota and start the same command again",
    errno.EROFS: "the file system is read-only; choose a folder on another one",
    errno.EACCES: "you may not write there; choose another folder or change its permissions",
    errno.EPERM: "you may not write there; choose another folder or change its permissions",
    errno.ENOTDIR: "a part of the path is a file; choose another folder",
    errno.EFBIG: "the file system takes no larger file; choose a folder on another one",
}


@contextmanager
def storage_errors(path: Path, action: str = "write") -> Iterator[None]:
    """Turn an :class:`OSError` of the block into one that names ``path`` and the remedy.

    Args:
        path: What the block works on.
        action: What it does with it, for the message.

    Raises:
        StorageError: The block raised an :class:`OSError`.
    """
    try:
        yield
    except OSError as error:
        hint = _REMEDIES.get(error.errno or 0, "check the disk and its permissions")
        reason = error.strerror or str(error)
        raise StorageError(f"cannot {action} {path}: {reason}", hint=hint) from error


def write_atomic(path: Path, content: str | bytes | Iterable[bytes]) -> None:
    """Replace a file as a whole: it has the old content or the new one, never a part.

    The content is on the disk when this returns (a power cut keeps it, too).

    Args:
        path: The file; its folder exists.
        content: Text is written as UTF-8 with the line ends that it has; what is too much
            for the memory can come in parts.

    Raises:
        StorageError: The disk is full or the folder cannot be written; the old
            content is still there.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    # Beside the target, because a rename is atomic within one file system only.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace a file with ``value`` as indented JSON, see :func:`write_atomic`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def append_line(path: Path, line: str) -> int:
    """Add one line to a file; it is on the disk when this returns.

    The line goes out in one write, so a kill leaves all of it, nothing, or a
    beginning without a line end, which a reader can tell from a whole line.
    After a full disk the beginning is taken back, so that the next line does
    not grow onto it.

    Args:
        path: The file; it is made when it is not there.
        line: One line of text without its line end.

    Returns:
        The offset in bytes at which the line begins.

    Raises:
        StorageError: The disk is full or the file cannot be written.
        ValueError: The line has a line end in it.
    """
    if "\n" in line:
        raise ValueError("one line is appended at a time, this one has a line end in it")
    data = line.encode("utf-8") + b"\n"
    with storage_errors(path):
        is_new = not path.exists()
        with path.open("ab", buffering=0) as file:
            start = file.seek(0, os.SEEK_END)
            try:
                written = 0
                while written < len(data):  # one turn, except where the disk fills up
                    written += file.write(data[written:]) or 0
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(start)
                raise
        if is_new:
            sync_folder(path.parent)
    return start


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk; a new file is only safe after that.

    Windows cannot open folders and orders such changes itself.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what a kill in the middle of :func:`write_atomic` left in a folder.

    Only for the process that holds the folder's lock: another one may be writing.
    """
    for leftover in folder.glob(".*.tmp"):
        with suppress(OSError):
            leftover.unlink()
