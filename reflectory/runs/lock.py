"""One writer per folder: a lock that the operating system drops when its holder dies."""

from __future__ import annotations

import errno
import os
import sys
import weakref
from contextlib import suppress
from pathlib import Path

from reflectory.errors import RunDirectoryError, StorageError
from reflectory.runs.files import storage_errors

_PLACE = 1 << 20
"""Where Windows locks a byte: behind the text, which others may then still read."""

_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


class FolderLock:
    """Held by one process at a time, for as long as it lives or until released.

    The lock belongs to an open file and not to the existence of one, so a killed
    process leaves nothing behind that would block. The file stays; it says who
    holds or held the lock. A child made by fork does not hold it.

    Args:
        path: The lock file; its folder exists.

    Raises:
        RunDirectoryError: Another process (or this one) holds the lock.
        StorageError: The file cannot be written, or the file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path):
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _acquire(self._descriptor)
            except BlockingIOError as error:
                self._close()
                raise self._refusal() from error
            except OSError as error:
                self._close()
                raise StorageError(
                    f"cannot lock {path}: {error.strerror or error}",
                    hint="put the folder on a local disk; this file system has no locks",
                ) from error
            with suppress(OSError):  # a full disk: the lock counts, not the name in it
                os.ftruncate(self._descriptor, 0)
                os.write(self._descriptor, str(os.getpid()).encode("ascii"))
        _HELD.add(self)

    def _refusal(self) -> RunDirectoryError:
        holder = ""
        with suppress(OSError, UnicodeDecodeError):
            holder = self.path.read_text(encoding="ascii").strip()
        if holder == str(os.getpid()):
            who, hint = "this process", "close it there first"
        else:
            who = f"process {holder}" if holder else "another process"
            hint = "wait for it, end it, or choose another folder"
        return RunDirectoryError(f"{self.path.parent} is in use by {who}", hint=hint)

    def release(self) -> None:
        """Let others have it; releasing twice is fine."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            _release(self._descriptor)
            self._close()
        _HELD.discard(self)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _close_in_child() -> None:
    """Close what a fork copied, or the lock would live as long as the last child."""
    for lock in list(_HELD):
        lock._close()
    _HELD.clear()


if sys.platform == "win32":
    import msvcrt

    def _acquire(descriptor: int) -> None:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EDEADLK}:
                raise BlockingIOError(error.errno, str(error)) from error
            raise
        os.lseek(descriptor, 0, os.SEEK_SET)

    def _release(descriptor: int) -> None:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(descriptor: int) -> None:
        # flock and not lockf: the latter is lost as soon as anything in this
        # process closes the file, and does not keep this process out of itself.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    os.register_at_fork(after_in_child=_close_in_child)
