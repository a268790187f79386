"""Trajectories as one file of JSON lines that survives being killed.

One trajectory is one line, on the disk before ``append`` returns. The file is
derived from the call cache, so a line that was half written is no loss: the
loop runs again on recorded calls.
"""

from __future__ import annotations

import logging
import os
import threading
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from reflectory.errors import IntegrityError, RunDirectoryError, UserError
from reflectory.runs.files import append_line, storage_errors
from reflectory.types import SCHEMA_VERSION, Trajectory

_LOG = logging.getLogger(__name__)


class TrajectoryStore:
    """The trajectories of a run, in the order in which they were finished.

    Trajectories are read one at a time; what stays in memory is the id and the
    place of each, some 200 bytes together. May be used from several threads; one
    process at a time may write (the run directory's lock sees to that), and others
    may read.

    A line that was being written when the process died is moved to
    ``NAME.damaged`` beside the file, and not thrown away, because a line that
    cannot be read may also be the work of an editor. A trajectory that only
    lacks its line end is complete and kept.

    Args:
        path: The file; made by the first ``append``.
        readonly: Change nothing, not even a half-written line, because another
            process may be writing it.

    Raises:
        IntegrityError: A line before the last one cannot be read; it is named.
        RunDirectoryError: A line is of a newer schema.
        StorageError: The file cannot be read or repaired.
    """

    def __init__(self, path: str | Path, *, readonly: bool = False) -> None:
        self.path = Path(path)
        self.readonly = readonly
        self._lock = threading.Lock()
        # The offset of each line, doubled, and one more where the loop failed: a
        # number takes a third of the room of a record, and there may be millions.
        self._places: dict[str, int] = {}
        self._failed = 0
        self._stops: Counter[str] = Counter()
        self._load()

    def append(self, trajectory: Trajectory) -> bool:
        """Add a trajectory; it is on the disk when this returns.

        Where there is one with this id already, it is replaced if it failed. If
        it is done nothing is written, so that recording twice is harmless.

        Returns:
            Whether the trajectory was written.

        Raises:
            StorageError: The disk is full or the file cannot be written; what was
                written before stays valid.
            UserError: The store was opened to read only.
        """
        if self.readonly:
            raise UserError(
                f"{self.path} was opened to read only", hint="open the run directory to write"
            )
        with self._lock:
            if not self._is_open(trajectory.id):
                return False
            offset = append_line(self.path, trajectory.to_json())
            stop = trajectory.stop.rule if trajectory.stop is not None else ""
            self._remember(trajectory.id, offset, trajectory.error is not None, stop)
            return True

    def _is_open(self, trajectory_id: str) -> bool:
        """Return whether there is no such trajectory, or one that failed."""
        place = self._places.get(trajectory_id)
        return place is None or bool(place % 2)

    def _remember(self, trajectory_id: str, offset: int, failed: bool, stop: str) -> None:
        """Let a line be the one of its id, in place of one that failed."""
        self._failed += failed - (self._places.get(trajectory_id, 0) % 2)
        self._places[trajectory_id] = 2 * offset + failed
        if stop and not failed:
            self._stops[stop] += 1

    @property
    def done(self) -> int:
        """How many loops are done."""
        with self._lock:
            return len(self._places) - self._failed

    @property
    def failed(self) -> int:
        """How many loops failed as a whole."""
        with self._lock:
            return self._failed

    def ids(self) -> frozenset[str]:
        """Return the ids of the trajectories that are done; these need not run again."""
        with self._lock:
            return frozenset(i for i, place in self._places.items() if not place % 2)

    def failed_ids(self) -> frozenset[str]:
        """Return the ids of the loops that failed as a whole."""
        with self._lock:
            return frozenset(i for i, place in self._places.items() if place % 2)

    def stops(self) -> dict[str, int]:
        """Return how many finished loops each rule stopped, by the rule's name."""
        with self._lock:
            return dict(sorted(self._stops.items()))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, trajectory_id: object) -> bool:
        return trajectory_id in self._places

    def __iter__(self) -> Iterator[Trajectory]:
        """Yield the trajectories in the order of the file, failed ones included.

        Of those with one id the one that counts is yielded. What is appended
        meanwhile is not.
        """
        with self._lock:
            offsets = array("q", sorted(place // 2 for place in self._places.values()))
        if not offsets:
            return
        with storage_errors(self.path, "read"), self.path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                yield self._whole(file.readline())

    def get(self, trajectory_id: str) -> Trajectory | None:
        """Return the trajectory with this id, or ``None`` when there is none."""
        with self._lock:
            place = self._places.get(trajectory_id)
        if place is None:
            return None
        with storage_errors(self.path, "read"), self.path.open("rb") as file:
            file.seek(place // 2)
            return self._whole(file.readline())

    def _whole(self, line: bytes) -> Trajectory:
        """Return the trajectory of a line, with all that it refers to."""
        found = Trajectory.from_json(line)
        lacking = _lacking(found)
        if lacking:
            raise IntegrityError(
                f"the trajectory {found.id!r} in {self.path} lacks {lacking}",
                hint="delete its line; its loop runs again on recorded calls",
            )
        return found

    def _load(self) -> None:
        """Find every trajectory in the file and see to a half-written end."""
        if not self.path.exists():
            return
        damaged: tuple[int, int] | None = None  # number and offset of the line
        offset, line = 0, b"\n"
        with storage_errors(self.path, "read"), self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if damaged is not None and line.strip():
                    raise IntegrityError(
                        f"line {damaged[0]} of {self.path} is damaged, with whole lines after it",
                        hint="delete that line; its loop runs again on recorded calls",
                    )
                if line.strip() and not self._index(line, offset, number):
                    damaged = (number, offset)
                offset += len(line)
        if self.readonly:
            return
        if damaged is not None:
            self._move_aside(damaged[1])
        elif not line.endswith(b"\n"):
            self._end_line()

    def _index(self, line: bytes, offset: int, number: int) -> bool:
        """Remember where a trajectory is; return whether the line is one."""
        try:
            data: Any = from_json(line)
        except ValueError:
            return False
        if not isinstance(data, dict) or not isinstance(data.get("id"), str):
            return False
        version = data.get("schema_version")
        if not isinstance(version, int):
            return False
        if version > SCHEMA_VERSION:
            raise RunDirectoryError(
                f"line {number} of {self.path} has schema version {version}, "
                f"known up to {SCHEMA_VERSION}",
                hint="upgrade reflectory to read it",
            )
        if self._is_open(data["id"]):
            stop = data.get("stop")
            rule = str(stop.get("rule", "")) if isinstance(stop, dict) else ""
            self._remember(data["id"], offset, data.get("error") is not None, rule)
        return True

    def _move_aside(self, offset: int) -> None:
        """Take the half-written last line out of the file, into one of its own."""
        aside = self.path.with_name(self.path.name + ".damaged")
        with storage_errors(self.path), self.path.open("r+b") as file:
            file.seek(offset)
            rest = file.read()
            # First saved and then cut: killed in between, it is there twice.
            with aside.open("ab") as other:
                other.write(rest.rstrip(b"\n") + b"\n")
                other.flush()
                os.fsync(other.fileno())
            file.truncate(offset)
            os.fsync(file.fileno())
        _LOG.warning(
            "the last line of %s was half written and is now in %s; its loop runs again",
            self.path,
            aside.name,
        )

    def _end_line(self) -> None:
        """Give a complete last line the line end that it lacks."""
        with storage_errors(self.path), self.path.open("ab") as file:
            file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())


def _lacking(found: Trajectory) -> str:
    """Return what a trajectory refers to and does not hold; empty when it is whole."""
    if not 0 <= found.chosen < max(1, len(found.responses)):
        return f"the response R_{found.chosen}"
    for response in found.responses:
        for passage in response.answer.context:
            if passage not in found.passages:
                return f"the passage {passage!r}"
    for cell in found.examinations:
        if cell.level not in found.levels:
            return f"the level {cell.level!r}"
        if cell.iteration >= len(found.examinations):  # each iteration has a cell, or several
            return f"the iterations before t = {cell.iteration}"
    return ""
