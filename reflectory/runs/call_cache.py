"""What models said, kept in one SQLite file: the one truth about it.

A call that was recorded is never made again, in this process or a later one.
The text of prompts repeats from call to call (every role reads the same
documents), so each segment is stored once and calls refer to it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from reflectory.errors import IntegrityError, StorageError
from reflectory.runs.call_reading import CALL_COLUMNS, check_call, check_stored_segments
from reflectory.runs.call_records import CacheStats, CallTotals, RecordedCall
from reflectory.runs.call_tables import ADDITIONS, MADE, SCHEMA_VERSION, SCRIPT
from reflectory.runs.database import database_errors, open_database, synchronise, transaction

_APPLICATION = 0x52464C43  # the letters RFLC
_REMEDY = (
    "move the file aside and start again; finished trajectories are kept, "
    "and only the calls of unfinished loops are made again"
)
_PAGE = 100
"""Calls that :meth:`CallCache.iterate` holds in memory at a time."""


class CallCache:
    """Recorded calls, by the hash of what decides them.

    May be used from several threads at once, and several processes may have the
    same file open; after a fork, the child opens its own. A call that was put is
    there after the process was killed; :meth:`sync` makes it safe from a power
    cut, too (see :mod:`reflectory.runs.database`). Looking up takes some 25
    microseconds and putting some 60 (every few hundred times some 10
    milliseconds, when SQLite empties its log), so both may run on an event loop.

    Args:
        path: The file; made when it is not there. Its folder exists.
        shared: Another cache, which several runs have in common
            (:mod:`reflectory.runs.shared_cache`); closed with this one.

    Raises:
        RunDirectoryError: The file is of a newer schema or some other database.
        IntegrityError: The file is damaged.
        StorageError: The file cannot be written.
    """

    def __init__(self, path: str | Path, *, shared: CallCache | None = None) -> None:
        self.path = Path(path)
        self._shared = shared
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = open_database(
            self.path,
            application=_APPLICATION,
            version=SCHEMA_VERSION,
            script=SCRIPT,
            remedy=_REMEDY,
        )
        with self._use() as connection:
            for statement in ADDITIONS:
                connection.execute(statement)

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for this thread, with SQLite's errors translated."""
        with self._lock, database_errors(self.path, remedy=_REMEDY):
            if self._connection is None:
                raise StorageError(
                    f"the call cache {self.path} is closed", hint="open the run directory again"
                )
            yield self._connection

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the recorded response as JSON values, or ``None`` when there is none.

        Raises:
            IntegrityError: The file is damaged.
        """
        with self._use() as connection:
            row = connection.execute("SELECT response FROM calls WHERE key = ?", (key,)).fetchone()
        return None if row is None else self._read(row[0])

    def recall(
        self, key: str, *, kind: str, role: str, model: str, request: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the recorded response, also where only the shared cache has it.

        What another run made is kept here from then on, so that this run can be
        read and resumed without the shared cache; it counts as none of its calls.

        Args:
            key: Content hash of model, kind and request.
            kind: ``complete`` or ``score``.
            role: Who asks and what for.
            model: Fingerprint of the model that is asked.
            request: What it is given, as for :meth:`put`.

        Raises:
            StorageError: The file cannot be written.
            IntegrityError: A file is damaged.
        """
        found = self.get(key)
        if found is not None or self._shared is None:
            return found
        found = self._shared.get(key)
        if found is not None:
            call = RecordedCall(key, kind, role, model, request, found, 0.0, time.time())
            self._keep(call, lent=True)
        return found

    def put(
        self,
        key: str,
        *,
        kind: str,
        role: str,
        model: str,
        request: Mapping[str, Any],
        response: Mapping[str, Any],
        seconds: float,
    ) -> bool:
        """Record a finished call, unless one with this key is there.

        The first one stays: whoever read it has gone on from there.

        Args:
            key: Content hash of model, kind and request.
            kind: ``complete`` or ``score``.
            role: Who asked and what for.
            model: Fingerprint of the model that answered.
            request: What it was given, as JSON values with ``segments`` that have a ``text``.
            response: What it said, as JSON values with a ``usage``.
            seconds: How long the call took.

        Returns:
            Whether the call was recorded now.

        Raises:
            StorageError: The disk is full or the file cannot be written; what was
                recorded before stays valid.
            IntegrityError: The file is damaged.
        """
        call = RecordedCall(key, kind, role, model, request, response, seconds, time.time())
        is_new = self._keep(call)
        if is_new and self._shared is not None:
            self._shared._keep(call)
        return is_new

    def _keep(self, call: RecordedCall, *, lent: bool = False) -> bool:
        """Write a call into this file, unless it is there; ``lent`` when another run made it."""
        usage = call.response.get("usage", {})
        with self._use() as connection, transaction(connection):
            if connection.execute("SELECT 1 FROM calls WHERE key = ?", (call.key,)).fetchone():
                return False
            segments = [
                {**part, "text": self._segment_id(connection, part["text"])}
                for part in call.request["segments"]
            ]
            connection.execute(
                "INSERT INTO calls (key, kind, role, model, request, response, prompt_tokens,"
                " reused_tokens, completion_tokens, seconds, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    call.key,
                    call.kind,
                    call.role,
                    call.model,
                    json.dumps({**call.request, "segments": segments}, ensure_ascii=False),
                    json.dumps(call.response, ensure_ascii=False),
                    usage.get("prompt_tokens", 0),
                    usage.get("reused_tokens", 0),
                    usage.get("completion_tokens", 0),
                    call.seconds,
                    call.created,
                ),
            )
            if lent:
                connection.execute("INSERT OR IGNORE INTO lent (key) VALUES (?)", (call.key,))
        return True

    @staticmethod
    def _segment_id(connection: sqlite3.Connection, text: str) -> int:
        """Return the number under which a prompt segment is stored; store it if need be."""
        digest = sha256(text.encode("utf-8")).digest()
        query = "SELECT id FROM segments WHERE hash = ?"
        row = connection.execute(query, (digest,)).fetchone()
        if row is None:
            cursor = connection.execute(
                "INSERT INTO segments (hash, text) VALUES (?, ?)", (digest, text)
            )
            return int(cursor.lastrowid or 0)
        return int(row[0])

    def _read(self, text: str) -> dict[str, Any]:
        try:
            value: Any = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._damaged("a recorded call is not JSON") from error
        if not isinstance(value, dict):
            raise self._damaged("a recorded call has no fields")
        return value

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self.path} is damaged: {what}", hint=_REMEDY)

    def stats(self) -> CacheStats:
        """Return how many calls were made and what they used, per role; pruned ones count."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT role, sum(calls), sum(prompt_tokens), sum(reused_tokens),"
                f" sum(completion_tokens), sum(seconds) FROM ({MADE}) GROUP BY role ORDER BY role"
            ).fetchall()
            segments = connection.execute("SELECT count(*) FROM segments").fetchone()[0]
        roles = {role: CallTotals(*sums) for role, *sums in rows}
        columns = zip(*(sums for _, *sums in rows), strict=True)
        return CacheStats(CallTotals(*map(sum, columns)), roles, int(segments))

    def by_model(self) -> dict[str, CallTotals]:
        """Return what the calls of each model used, by its fingerprint; pruned ones count."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT model, sum(calls), sum(prompt_tokens), sum(reused_tokens),"
                f" sum(completion_tokens), sum(seconds) FROM ({MADE})"
                " GROUP BY model ORDER BY model"
            ).fetchall()
        return {model: CallTotals(*sums) for model, *sums in rows}

    def last_created(self, before: float) -> float | None:
        """Return when the last call before a moment was recorded, in seconds since 1970."""
        with self._use() as connection:
            query = "SELECT CAST(max(created) AS REAL) FROM calls WHERE created < ?"
            row = connection.execute(query, (before,)).fetchone()
        return None if row[0] is None else float(row[0])

    def iterate(self) -> Iterator[RecordedCall]:
        """Yield all calls in the order in which they were recorded.

        Calls that are put meanwhile are yielded too. Memory does not grow with
        the number of calls.

        Raises:
            IntegrityError: The file is damaged.
        """
        last = 0
        while True:
            with self._use() as connection:
                rows = connection.execute(
                    f"SELECT id, {CALL_COLUMNS} FROM calls WHERE id > ? ORDER BY id LIMIT ?",
                    (last, _PAGE),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            for _, *row in rows:
                yield self._recorded(*row)

    def _recorded(
        self,
        key: str,
        kind: str,
        role: str,
        model: str,
        request: str,
        response: str,
        seconds: float,
        created: float,
    ) -> RecordedCall:
        """Return a row of the table as what it was."""
        try:
            stored = self._read(request)
            check_stored_segments(stored)
            content, answer = self._with_texts(stored), self._read(response)
            call = RecordedCall(key, kind, role, model, content, answer, seconds, created)
            check_call(call)
        except ValueError as error:
            raise self._damaged("a recorded call is none") from error
        return call

    def _with_texts(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a stored request with its segments' texts in place of their numbers."""
        segments = []
        for part in request["segments"]:
            with self._use() as connection:
                query = "SELECT CAST(text AS TEXT) FROM segments WHERE id = ?"
                row = connection.execute(query, (part["text"],)).fetchone()
            if row is None:
                raise self._damaged("a prompt segment is missing")
            segments.append({**part, "text": row[0]})
        return {**request, "segments": segments}

    def sync(self) -> None:
        """Put all recorded calls on the disk, so that a power cut keeps them.

        Takes two waits for the disk; better called from a thread.

        Raises:
            StorageError: The disk is full or the file cannot be written.
        """
        synchronise(self.path, remedy=_REMEDY)

    def close(self) -> None:
        """Put everything on the disk and close the file; closing twice is fine."""
        if self._shared is not None:
            self._shared.close()
        with self._lock, database_errors(self.path, remedy=_REMEDY):
            if self._connection is not None:
                connection, self._connection = self._connection, None
                connection.close()
