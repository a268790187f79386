"""SQLite as the run directory uses it: one way to open, one meaning per error.

What survives what: every commit goes to the operating system before it
returns, so nothing that was acknowledged is lost when the process is killed
(SIGKILL included). ``synchronous=NORMAL`` leaves it to the operating system
when the bytes reach the disk: after a power cut the file is whole, but the
last commits may be missing. :func:`synchronise` puts everything on the disk at
the moments that matter, which costs two waits for the disk instead of one per
commit (measured on a virtual disk: 0.02 ms per commit, against 8 ms with FULL).
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from reflectory.errors import IntegrityError, RunDirectoryError, StorageError

BUSY_SECONDS = 20.0
"""How long to wait for another process that is writing; its writes take milliseconds."""

_FULL = {sqlite3.SQLITE_FULL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# The statements of this package are fixed and tested: where one does not fit, the tables are
# not those that it made, or hold what it never wrote.
_NOT_OURS = re.compile(
    r"no such (?:table|column)|has no column|has \d+ columns but|datatype mismatch"
    r"|Could not decode to UTF-8|malformed JSON|integer overflow"
)
_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
}


@contextmanager
def database_errors(path: Path, *, remedy: str) -> Iterator[None]:
    """Turn SQLite's errors about the file into errors of this package.

    Errors about the statement (a mistake in this package) pass through, unless they say
    that the file has other tables or values than this package gives it.

    Args:
        path: The file, for the message.
        remedy: What a person does about a damaged file.

    Raises:
        StorageError: The disk is full, the file cannot be written, or another
            process has been writing for longer than ``BUSY_SECONDS``.
        IntegrityError: The file is damaged or no database.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        # The lowest byte is the kind of error, the others say more about it.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _FULL:
            hint = "free some disk space and start the same command again; it goes on from here"
            raise StorageError(f"cannot write {path}: {error}", hint=hint) from error
        if code in _BUSY:
            hint = "another process is writing to it; wait for that or end it"
            raise StorageError(f"cannot write {path}: {error}", hint=hint) from error
        if code in _UNWRITABLE:
            hint = "check that the folder exists, is on a local disk, and may be written"
            raise StorageError(f"cannot use {path}: {error}", hint=hint) from error
        if code in _DAMAGED or _NOT_OURS.search(str(error)):
            raise IntegrityError(f"{path} is damaged: {error}", hint=remedy) from error
        raise


def open_database(
    path: Path, *, application: int, version: int, script: str, remedy: str
) -> sqlite3.Connection:
    """Open or create a database of this package.

    The connection commits each statement by itself unless it is told ``BEGIN``,
    and may be used from any thread by one thread at a time. It must not be
    carried over a fork: a process opens its own.

    Args:
        path: The file; its folder exists.
        application: Number that marks the file as one of this kind.
        version: Newest schema version that the caller knows, from 1.
        script: Statements that create the tables.
        remedy: What a person does about a damaged file.

    Raises:
        RunDirectoryError: The file is of a newer schema or some other database.
        IntegrityError: The file is damaged or no database.
        StorageError: The file cannot be written.
    """
    with database_errors(path, remedy=remedy):
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            # Two processes may create the file at once: the second one waits here.
            connection.execute("BEGIN IMMEDIATE")
            found, marked, tables = _identity(connection)
            if (marked != application or found < 1) and (marked or found or tables):
                raise RunDirectoryError(
                    f"{path} is a database of another kind",
                    hint="choose another folder for this run",
                )
            if found > version:
                raise RunDirectoryError(
                    f"{path} has schema version {found}, known up to {version}",
                    hint="upgrade reflectory, or choose another folder for this run",
                )
            if found == 0:
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={application:d}")
                connection.execute(f"PRAGMA user_version={version:d}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.close()
            raise
        return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all of the block or nothing of it; the lock for writing is taken at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After a full disk SQLite may have rolled back already and says so; the
        # error that matters is the one that brought us here.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def synchronise(path: Path, *, remedy: str) -> None:
    """Put every commit of a database on the disk, without stopping its readers and writers.

    Raises:
        StorageError: The disk is full or the file cannot be written.
        IntegrityError: The file is damaged.
    """
    with (
        database_errors(path, remedy=remedy),
        closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection,
    ):
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Put the file in WAL mode, where readers and a writer do not wait for one another.

    SQLite does not wait its timeout here when two processes do this to a new
    file at once (it would be a deadlock), so the waiting is done by hand.
    """
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > give_up:
                raise
        time.sleep(0.005)


def _identity(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return the schema version, the mark of the application and the number of tables."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return int(version), int(application), int(tables)
