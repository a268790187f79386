"""Where each loop stands, kept by LangGraph in SQLite or PostgreSQL and read with care.

LangGraph's serialiser writes the module and name of a class beside its data and,
as it comes, imports and calls on reading whatever is named there. Here it gets a
list of the records of this package and constructs nothing else. Imports LangGraph
when it is used, not when it is imported.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager, closing, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.alignment import CellStatus
from reflectory.errors import IntegrityError, RunDirectoryError
from reflectory.runs.database import BUSY_SECONDS, database_errors
from reflectory.types import SCHEMA_VERSION, Flag, Record

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

_REMEDY = (
    "delete the file (and those beside it that end in -wal and -shm); unfinished loops "
    "begin again on recorded calls, so no model is asked twice"
)
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""What decoders raise on bytes that this package did not write."""
_ENUMS: tuple[type[Enum], ...] = (CellStatus, Flag)


def damaged_checkpoint(error: Exception) -> IntegrityError:
    """Return what a decoder's error means here."""
    return IntegrityError(f"a checkpoint cannot be read: {repr(error)[:200]}", hint=_REMEDY)


def check_versions(checkpoint: Checkpoint) -> None:
    """Check that LangGraph can count on from a checkpoint; it looks only in the next step.

    Raises:
        ValueError: A version of a channel does not begin with a number.
        TypeError: A version is no text, so it cannot be compared with those to come.
    """
    for versions in (checkpoint["channel_versions"], *checkpoint["versions_seen"].values()):
        for version in versions.values():
            if not isinstance(version, str):
                raise TypeError(f"the version of a channel is {version!r}")
            int(version.partition(".")[0])


def allowed_types() -> tuple[tuple[str, str], ...]:
    """Return module and name of every class that a checkpoint may construct.

    These are the records of this package that are imported by now, and the
    enumerations in them. A subclass that somebody else made of a record is not
    among them. (Dates, UUIDs, sets, LangChain messages and LangGraph's own
    classes are always allowed by LangGraph; none of them does anything.)
    """
    classes: set[type[Any]] = set(_ENUMS)
    queue: list[type[Record]] = [Record]
    while queue:
        parent = queue.pop()
        queue.extend(parent.__subclasses__())
        if parent.__module__.partition(".")[0] == "reflectory":
            classes.add(parent)
    return tuple(sorted((c.__module__, c.__name__) for c in classes))


def make_serializer() -> JsonPlusSerializer:
    """Return a serialiser that reads only what :func:`allowed_types` names.

    LangGraph leaves out what is not allowed and goes on with its bare data, which
    would break a loop somewhere else; this one says so at once.

    Its ``loads_typed`` raises :class:`~reflectory.errors.IntegrityError` when a
    checkpoint names another class, calls a method, or is of an older encoding
    (JSON, pickle) that this package never wrote.
    """
    from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    class GuardedSerializer(JsonPlusSerializer):
        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            if data[0] not in {"null", "bytes", "bytearray", "msgpack"}:
                raise IntegrityError(
                    f"a checkpoint is encoded as {data[0]!r}, which this package never writes",
                    hint=_REMEDY,
                )
            blocked: list[str] = []
            thread = threading.get_ident()

            def listen(event: SerdeEvent) -> None:
                # Events of all threads arrive here; reading is done in one.
                if event["kind"].endswith("_blocked") and threading.get_ident() == thread:
                    blocked.append(f"{event['module']}.{event['name']}")

            unregister = register_serde_event_listener(listen)
            try:
                value = super().loads_typed(data)
            except UNREADABLE as error:
                raise damaged_checkpoint(error) from error
            finally:
                unregister()
            if blocked:
                raise IntegrityError(
                    f"a checkpoint names {blocked[0]}, which is no record of this package",
                    hint=_REMEDY,
                )
            return value

    return GuardedSerializer(pickle_fallback=False, allowed_msgpack_modules=allowed_types())


@asynccontextmanager
async def open_checkpointer(
    path: str | Path, database: str = "", *, within_s: float = 0.0
) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Open the checkpoints of a run for the length of an ``async with``.

    The file is in WAL mode and commits without waiting for the disk: a killed
    process loses nothing, and after a power cut a loop goes on from an earlier
    step, with recorded calls. It holds records, so its schema version is theirs.

    Args:
        path: The file; made when it is not there. Its folder exists.
        database: The setting ``checkpoints`` of the run: empty for the file, or a
            PostgreSQL database (:mod:`reflectory.runs.postgres`), and then no file is made.
        within_s: How long a checkpoint may wait to be written into the file, in seconds;
            what is superseded meanwhile never is (:mod:`reflectory.runs.sqlite_saver`).

    Yields:
        A saver to compile a graph with.

    Raises:
        RunDirectoryError: The file is of another schema version.
        UserError: The database's address or libraries are missing.
        IntegrityError: The file is damaged.
        StorageError: The file cannot be written, or the database not be reached.
    """
    file = Path(path)
    if database:
        from reflectory.runs.postgres import open_postgres, thread_prefix

        async with open_postgres(database, thread_prefix(file.parent)) as shared:
            yield shared
        return
    from reflectory.runs.sqlite_saver import PromptSqliteSaver

    with database_errors(file, remedy=_REMEDY):
        _refuse_other_schema(file)
        connect = sqlite3.connect(file, timeout=BUSY_SECONDS, check_same_thread=False)
        with closing(connect) as connection:
            connection.execute("PRAGMA synchronous=NORMAL")
            saver = PromptSqliteSaver(connection, serde=make_serializer(), within_s=within_s)
            saver.setup()  # makes the tables and switches to WAL
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION:d}")
            connection.commit()
            try:
                yield saver
            except BaseException:
                with suppress(sqlite3.Error):  # what ended the run matters more
                    saver.flush()
                raise
            saver.flush()


def _refuse_other_schema(file: Path) -> None:
    """Raise when the file has records of another schema, newer or older.

    An older one is refused as well, because LangGraph builds a record without
    validation where the fields do not fit.
    """
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in {0, SCHEMA_VERSION}:
        raise RunDirectoryError(
            f"{file} has records of schema version {version}, this is {SCHEMA_VERSION}",
            hint=_REMEDY,
        )


async def prune(saver: BaseCheckpointSaver[str], thread_id: str) -> None:
    """Delete the checkpoints of a loop that is done; deleting twice is fine.

    A file keeps its size and uses the room for the loops to come.

    Args:
        saver: What :func:`open_checkpointer` gave.
        thread_id: The thread of the loop.

    Raises:
        sqlite3.OperationalError: The file cannot be written.
        StorageError: The database cannot be reached.
    """
    await saver.adelete_thread(thread_id)


async def prune_finished(saver: BaseCheckpointSaver[str], done: Container[str]) -> None:
    """Delete the checkpoints of loops that were done when a process was killed before pruning.

    Only of a file: a shared database has the checkpoints of other runs, too.

    Args:
        saver: What :func:`open_checkpointer` gave.
        done: The ids of the loops that are over.
    """
    threads = getattr(saver, "threads", None)
    for thread in threads() if threads is not None else ():
        if thread in done:
            await prune(saver, thread)


def memory_checkpointer() -> InMemorySaver:
    """Return a checkpointer for one process, with the same guarded serialiser."""
    from langgraph.checkpoint.memory import InMemorySaver

    return InMemorySaver(serde=make_serializer())
