"""Which calls made a trajectory, and where in it: one row for each use of a recorded call.

The call cache knows what was said and not what for: two loops may share a call, and
a prompt does not name its iteration. This file is an index over it. Deleting it
loses nothing but the traces of the loops before.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reflectory.errors import StorageError
from reflectory.runs.database import database_errors, open_database

FILE_NAME = "places.sqlite"
_SCHEMA_VERSION = 1
_APPLICATION = 0x52464C50  # the letters RFLP
_REMEDY = "delete the file; only the traces of the loops so far are lost"
_SCRIPT = """
CREATE TABLE places (
    id INTEGER PRIMARY KEY,
    loop TEXT NOT NULL,
    key BLOB NOT NULL,
    role TEXT NOT NULL,
    step TEXT NOT NULL,
    iteration INTEGER NOT NULL,
    level TEXT NOT NULL
);
CREATE UNIQUE INDEX place ON places (loop, key, role, step, iteration, level)
"""


@dataclass(frozen=True)
class CallPlace:
    """One use of a recorded call.

    Attributes:
        key: Content hash of the call.
        role: Who asked and what for (``teacher.ask``).
        step: The node that made the call.
        iteration: t, ``None`` where the node belongs to none.
        level: Name of the level, ``None`` where the node belongs to none.
    """

    key: str
    role: str
    step: str
    iteration: int | None = None
    level: str | None = None


class CallPlaces:
    """The places of a run's calls; may be used from several threads and processes at once.

    A row is there after the process was killed. A node that runs again, because it was
    cut short, adds no second row.

    Args:
        path: The file; made when it is not there. Its folder exists.

    Raises:
        RunDirectoryError: The file is of a newer schema or some other database.
        IntegrityError: The file is damaged.
        StorageError: The file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = open_database(
            self.path,
            application=_APPLICATION,
            version=_SCHEMA_VERSION,
            script=_SCRIPT,
            remedy=_REMEDY,
        )

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        with self._lock, database_errors(self.path, remedy=_REMEDY):
            if self._connection is None:
                raise StorageError(f"{self.path} is closed", hint="open the run directory again")
            yield self._connection

    def add(self, loop: str, place: CallPlace) -> None:
        """Note that a loop used a call; noting it twice is fine.

        Args:
            loop: Id of the trajectory.
            place: Which call, and where.

        Raises:
            StorageError: The disk is full or the file cannot be written.
        """
        iteration = -1 if place.iteration is None else place.iteration
        row = (loop, bytes.fromhex(place.key), place.role, place.step, iteration, place.level or "")
        with self._use() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO places (loop, key, role, step, iteration, level)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )

    def of(self, loop: str) -> list[CallPlace]:
        """Return the calls of a loop, in the order in which they were first answered.

        Args:
            loop: Id of the trajectory.
        """
        with self._use() as connection:
            rows = connection.execute(
                "SELECT lower(hex(key)), CAST(role AS TEXT), CAST(step AS TEXT),"
                " CAST(iteration AS INTEGER), CAST(level AS TEXT)"
                " FROM places WHERE loop = ? ORDER BY id",
                (loop,),
            ).fetchall()
        return [
            CallPlace(key, role, step, None if t < 0 else t, level or None)
            for key, role, step, t, level in rows
        ]

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        with self._lock, database_errors(self.path, remedy=_REMEDY):
            if self._connection is not None:
                connection, self._connection = self._connection, None
                connection.close()
