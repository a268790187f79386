"""The SQLite file of the embedding cache: vectors by key, the oldest-used pruned.

The file is a cache: whatever it holds can be made again. A damaged one is therefore
moved aside, with a warning, and a new one begun. A full disk, or a file that cannot be
written or belongs to something else, is an error, since a cache that never works should
not go unnoticed.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from reflectory.errors import StorageError

_log = logging.getLogger(__name__)
T = TypeVar("T")

SCHEMA_VERSION = 1
BUSY_SECONDS = 20.0
"""How long to wait for another process that is writing; its writes take milliseconds."""
USE_SECONDS = 3600.0
"""A use is noted once in this time, so that most hits write nothing."""

_APPLICATION = 0x52464C45  # the letters RFLE
# The keys lie by themselves: noting a use then writes few bytes, and not the vectors.
_SCRIPT = """
CREATE TABLE vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE keys (
    key BLOB PRIMARY KEY, id INTEGER NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE dimensions (fingerprint TEXT PRIMARY KEY, dimension INTEGER NOT NULL)
"""
_LOOKED_UP = 500  # keys in one statement; SQLite allows 999 everywhere
_KEPT = 0.9  # of the limit, after pruning
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REMEDY = "make room or grant write access, or set REFLECTORY_CACHE to a folder on another disk"


class EmbeddingStore:
    """Vectors as bytes, by key.

    May be used from several threads, several processes may have the same file open,
    and a process that was forked opens it again by itself.

    Args:
        path: The file; it and its folder are made when they are first needed.
        limit_bytes: Most bytes in use; beyond, the vectors that were not used for
            longest are deleted. The file itself does not shrink.
        clock: Seconds since 1970.
    """

    def __init__(
        self, path: Path, limit_bytes: int, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._limit = limit_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the vectors that are there, by key; one that is damaged is not there.

        Raises:
            StorageError: The file cannot be used.
        """
        return self._do(lambda connection: self._read(connection, keys), {})

    def put(self, vectors: Mapping[bytes, bytes]) -> None:
        """Keep vectors, replacing those with the same keys, and prune what is too much.

        Raises:
            StorageError: The file cannot be written.
        """
        self._do(lambda connection: self._write(connection, vectors), None)

    def dimension(self, fingerprint: str) -> int | None:
        """Return the length of an embedder's vectors, if it was noted.

        Raises:
            StorageError: The file cannot be used.
        """
        query = "SELECT dimension FROM dimensions WHERE fingerprint = ?"
        row = self._do(lambda used: used.execute(query, (fingerprint,)).fetchone(), None)
        return None if row is None else int(row[0])

    def note_dimension(self, fingerprint: str, dimension: int) -> None:
        """Note the length of an embedder's vectors.

        Raises:
            StorageError: The file cannot be written.
        """
        query = "INSERT OR REPLACE INTO dimensions VALUES (?, ?)"
        self._do(lambda used: used.execute(query, (fingerprint, dimension)), None)

    def close(self) -> None:
        """Close the file; using the store again opens it again."""
        with self._lock:
            self._close()

    def _do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Do something with the connection; a damaged file is moved aside and gives nothing."""
        with self._lock, _translated(self.path):
            try:
                return work(self._opened())
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
                self._move_aside(error)
                return otherwise

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._process != os.getpid():
            self._connection = None  # it is the parent's
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(self.path)
            self._process = os.getpid()
        return self._connection

    def _read(self, connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        used_long_ago: list[tuple[int, bytes]] = []
        now = int(self._clock())
        for start in range(0, len(keys), _LOOKED_UP):
            part = keys[start : start + _LOOKED_UP]
            rows = connection.execute(
                "SELECT key, used, vector FROM keys JOIN vectors USING (id)"
                f" WHERE key IN ({','.join('?' * len(part))})",
                part,
            )
            for key, used, vector in rows:
                data = vector[:-4]
                if zlib.crc32(data) == int.from_bytes(vector[-4:], "little"):
                    found[key] = data
                    if abs(now - used) >= USE_SECONDS:
                        used_long_ago.append((now, key))
        if used_long_ago:
            with _transaction(connection):
                connection.executemany("UPDATE keys SET used = ? WHERE key = ?", used_long_ago)
        return found

    def _write(self, connection: sqlite3.Connection, vectors: Mapping[bytes, bytes]) -> None:
        now = int(self._clock())
        with _transaction(connection):
            for key, data in vectors.items():
                blob = data + zlib.crc32(data).to_bytes(4, "little")
                there = connection.execute("SELECT id FROM keys WHERE key = ?", (key,)).fetchone()
                cursor = connection.execute(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                    (there[0] if there else None, blob),
                )
                connection.execute(
                    "INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", (key, cursor.lastrowid, now)
                )
            self._prune(connection)

    def _prune(self, connection: sqlite3.Connection) -> None:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        used = (pages - free) * size
        if used <= self._limit:
            return
        count = connection.execute("SELECT count(*) FROM keys").fetchone()[0]
        surplus = math.ceil(count * (1 - _KEPT * self._limit / used))
        oldest = connection.execute(
            "SELECT id, key FROM keys ORDER BY used, id LIMIT ?", (surplus,)
        ).fetchall()
        connection.executemany("DELETE FROM vectors WHERE id = ?", [(row[0],) for row in oldest])
        connection.executemany("DELETE FROM keys WHERE key = ?", [(row[1],) for row in oldest])

    def _move_aside(self, error: sqlite3.DatabaseError) -> None:
        """Put the damaged file aside, unless another process has done that already."""
        from filelock import FileLock

        self._close()
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            try:
                _check(self.path)
            except sqlite3.DatabaseError as again:
                if _code(again) not in _DAMAGED:
                    raise
                aside = self.path.with_name(f"{self.path.name}.damaged")
                self.path.replace(aside)
                for end in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + end).unlink(missing_ok=True)
                message = "the embedding cache %s is damaged (%s); it was moved to %s"
                _log.warning(message, self.path, error, aside.name)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._process == os.getpid():
            with suppress(sqlite3.Error):  # of a damaged file; what was committed is committed
                connection.close()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _switch_to_wal(connection)
        # After a power cut the last vectors may be missing, and are made again.
        connection.execute("PRAGMA synchronous=NORMAL")
        with _transaction(connection):  # two processes may create the file at once
            version, mark, tables = (
                connection.execute(query).fetchone()[0]
                for query in (
                    "PRAGMA user_version",
                    "PRAGMA application_id",
                    "SELECT count(*) FROM sqlite_master",
                )
            )
            if not (version or mark or tables):
                for statement in _SCRIPT.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={_APPLICATION:d}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION:d}")
            elif mark != _APPLICATION or version != SCHEMA_VERSION:
                raise StorageError(
                    f"{path} is no embedding cache that this version knows (schema {version})",
                    hint="give another path, or remove the file if it is an old cache",
                )
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Put the file in WAL mode; SQLite itself does not wait for another that does the same."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > give_up:
                raise
        time.sleep(0.005)


def _check(path: Path) -> None:
    """Read all of a file, or raise what SQLite says of it."""
    connection = _open(path)
    try:
        said = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    finally:
        connection.close()
    if said != "ok":
        error = sqlite3.DatabaseError(said)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # after a full disk SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        if isinstance(error, sqlite3.OperationalError) and _code(error) == sqlite3.SQLITE_ERROR:
            raise  # a mistake in a statement
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"cannot use the embedding cache {path}: {reason}", hint=_REMEDY
        ) from error


def _code(error: Any) -> int:
    """Return the kind of a SQLite error; the higher bytes say more about it."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
