"""Looking into a call cache, and taking out of it what is not needed any more.

Pruning leaves the sums of what it takes away, because a budget counts what was
spent and not what is still stored.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from reflectory.errors import UserError
from reflectory.runs.call_cache import CallCache
from reflectory.runs.call_reading import CALL_COLUMNS
from reflectory.runs.call_records import CallTotals, RecordedCall
from reflectory.runs.database import transaction
from reflectory.runs.places import FILE_NAME, CallPlaces


@dataclass(frozen=True)
class CallGroup:
    """What is stored of one role and one model.

    Attributes:
        role: Who asked first and what for.
        model: Fingerprint of the model that answered.
        totals: Sums over these calls.
        bytes: Size of what was said and of requests without their segments' texts.
        oldest: When the first was recorded, in seconds since 1970.
        newest: When the last was recorded.
    """

    role: str
    model: str
    totals: CallTotals
    bytes: int
    oldest: float
    newest: float


@dataclass(frozen=True)
class CallFilter:
    """Which calls are meant; those that meet all that is given.

    Attributes:
        role: Who asked; a name that ends in ``.`` is all its roles (``teacher.``).
        model: Fingerprint of the model.
        older_than_s: Recorded at least so many seconds ago.
    """

    role: str | None = None
    model: str | None = None
    older_than_s: float | None = None

    def where(self, now: float) -> tuple[str, list[Any]]:
        """Return the condition in SQL, and its values."""
        conditions: dict[str, Any] = {}
        if self.role is not None and self.role.endswith("."):
            conditions["substr(role, 1, ?) = ?"] = [len(self.role), self.role]
        elif self.role is not None:
            conditions["role = ?"] = [self.role]
        if self.model is not None:
            conditions["model = ?"] = [self.model]
        if self.older_than_s is not None:
            conditions["created <= ?"] = [now - self.older_than_s]
        values = [value for part in conditions.values() for value in part]
        return " AND ".join(conditions) or "1", values


@dataclass(frozen=True)
class Pruned:
    """What pruning took away.

    Attributes:
        calls: Number of calls.
        segments: Number of prompt segments that no other call has.
        bytes: By how much the file became smaller.
    """

    calls: int = 0
    segments: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class CacheView:
    """A call cache to look at.

    Attributes:
        groups: What is stored, by role and model.
        segments: Number of different prompt segments.
        segment_bytes: Size of their texts.
        pruned: Sums over calls that were pruned.
    """

    groups: tuple[CallGroup, ...] = ()
    segments: int = 0
    segment_bytes: int = 0
    pruned: CallTotals = field(default_factory=CallTotals)


_OF_KEYS = "key IN (SELECT value FROM json_each(?))"
_SUMS = "sum(prompt_tokens), sum(reused_tokens), sum(completion_tokens), sum(seconds)"


def look_into(cache: CallCache, which: CallFilter | None = None) -> CacheView:
    """Return what a call cache holds, by role and model.

    Args:
        cache: The cache.
        which: Only these calls; all when ``None``.
    """
    condition, values = (which or CallFilter()).where(time.time())
    with cache._use() as connection:
        rows = connection.execute(
            f"SELECT CAST(role AS TEXT), CAST(model AS TEXT), count(*), {_SUMS},"
            " sum(length(CAST(request AS BLOB)) + length(CAST(response AS BLOB))),"
            " CAST(min(created) AS REAL), CAST(max(created) AS REAL) FROM calls"
            f" WHERE {condition} GROUP BY role, model ORDER BY role, model",
            values,
        ).fetchall()
        segments = connection.execute(
            "SELECT count(*), coalesce(sum(length(CAST(text AS BLOB))), 0) FROM segments"
        ).fetchone()
        gone = connection.execute(f"SELECT sum(calls), {_SUMS} FROM pruned").fetchone()
    groups = tuple(
        CallGroup(role, model, CallTotals(*sums), size, oldest, newest)
        for role, model, *sums, size, oldest, newest in rows
    )
    number, size = segments
    return CacheView(groups, number, size, CallTotals(*(part or 0 for part in gone)))


def find_call(cache: CallCache, key: str) -> RecordedCall:
    """Return the one call whose key begins with ``key``.

    Raises:
        UserError: There is none, or there are several.
    """
    if not key or not key.isalnum():
        raise UserError(f"{key!r} is no key of a call", hint="keys are shown by --trajectory")
    found = list(_calls(cache, "key >= ? AND key < ?", [key, key + "~"], limit=2))
    if len(found) != 1:
        what = "several calls have keys that begin" if found else "no call has a key that begins"
        raise UserError(f"{what} with {key!r} in {cache.path}", hint="give more of the key")
    return found[0]


def calls_of(cache: CallCache, loop: str) -> Iterator[RecordedCall]:
    """Yield the calls that served a loop, in the order in which they were recorded.

    They are named by the file of places beside the cache; without it none are found.

    Args:
        cache: The cache.
        loop: Id of the trajectory.
    """
    yield from _calls(cache, _OF_KEYS, [_keys_of(cache, loop)])


def totals_of(cache: CallCache, loop: str) -> CallTotals:
    """Return what the calls that served a loop used; calls of several loops count in each."""
    keys = _keys_of(cache, loop)
    with cache._use() as connection:
        row = connection.execute(
            f"SELECT count(*), {_SUMS} FROM calls WHERE {_OF_KEYS}", (keys,)
        ).fetchone()
    return CallTotals(*(part or 0 for part in row))


def _keys_of(cache: CallCache, loop: str) -> str:
    """Return the keys of the calls that served a loop, as a JSON list."""
    file = cache.path.with_name(FILE_NAME)
    if not file.is_file():
        return "[]"
    with closing(CallPlaces(file)) as places:
        return json.dumps(sorted({place.key for place in places.of(loop)}))


def _calls(
    cache: CallCache, condition: str, values: list[Any], *, limit: int = -1
) -> Iterator[RecordedCall]:
    with cache._use() as connection:
        keys = connection.execute(
            f"SELECT id FROM calls WHERE {condition} ORDER BY id LIMIT ?", [*values, limit]
        ).fetchall()
    for (number,) in keys:
        with cache._use() as connection:
            row = connection.execute(
                f"SELECT {CALL_COLUMNS} FROM calls WHERE id = ?", (number,)
            ).fetchone()
        if row is not None:  # pruned by another process meanwhile
            yield cache._recorded(*row)


def prune_calls(cache: CallCache, which: CallFilter) -> Pruned:
    """Take calls out of a cache, and the prompt segments that only they had.

    A loop that is not finished makes its pruned calls again when it is resumed.
    Finished trajectories need none of them.

    Args:
        cache: The cache of a run directory whose lock the caller holds, or a shared one.
        which: The calls to take out.

    Raises:
        StorageError: The disk is full (making a file smaller takes room for a copy).
    """
    condition, values = which.where(time.time())
    with cache._use() as connection:
        before = _size(connection)
        with transaction(connection):
            connection.execute(
                "INSERT INTO pruned SELECT role, model, count(*), "
                f"{_SUMS} FROM calls WHERE {condition} AND key NOT IN (SELECT key FROM lent)"
                " GROUP BY role, model"
                " ON CONFLICT (role, model) DO UPDATE SET calls = calls + excluded.calls,"
                " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
                " reused_tokens = reused_tokens + excluded.reused_tokens,"
                " completion_tokens = completion_tokens + excluded.completion_tokens,"
                " seconds = seconds + excluded.seconds",
                values,
            )
            calls = connection.execute(f"DELETE FROM calls WHERE {condition}", values).rowcount
            connection.execute("DELETE FROM lent WHERE key NOT IN (SELECT key FROM calls)")
            segments = connection.execute(
                "DELETE FROM segments WHERE id NOT IN (SELECT json_extract(part.value, '$.text')"
                " FROM calls, json_each(calls.request, '$.segments') AS part)"
            ).rowcount
        if calls:
            connection.execute("VACUUM")
        return Pruned(calls, segments, before - _size(connection))


def _size(connection: sqlite3.Connection) -> int:
    """Return the size of the file in bytes, once everything in the log is in it."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    return int(pages) * int(connection.execute("PRAGMA page_size").fetchone()[0])
