"""The trajectories of a page: a short entry of each for the list, and the rest compressed.

Both go into temporary files while the trajectories go by, so that memory does not grow with
their number. The details of :data:`CHUNK` neighbours are compressed together, because they
share their markup and often their passages; a browser unpacks them when one is opened.
"""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from reflectory.alignment import AlignmentMatrix, CellStatus
from reflectory.report.reading import trajectory_html
from reflectory.runs.files import storage_errors
from reflectory.types import Flag, Trajectory

CHUNK = 20
"""Trajectories whose details are compressed together."""
SHOWN = 400
"""Most characters of an instruction and of a response in the list; these are searched."""
FLAGS = tuple(flag.value for flag in Flag)
_BLOCK = 1 << 20
_HEADING = 3  # of the details; the list stands below a heading of level 2


class Details:
    """Entries and compressed details of trajectories that go by; closed as a context manager.

    Attributes:
        count: Trajectories so far.
        html_bytes: Size of their details before compression.
        packed_bytes: Their size in the page.
        rules: Stop rules that occur, in the order in which they came.
        levels: Sets of levels that occur, likewise.

    Args:
        folder: Where the temporary files go: the page's own, which has the room.

    Raises:
        StorageError: No file can be made there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors(folder), ExitStack() as files:
            self._entries: IO[bytes] = files.enter_context(tempfile.TemporaryFile(dir=folder))
            self._chunks: IO[bytes] = files.enter_context(tempfile.TemporaryFile(dir=folder))
            self._files = files.pop_all()
        self._waiting: list[str] = []
        self.count = self.html_bytes = self.packed_bytes = 0
        self.rules: list[str] = []
        self.levels: list[tuple[str, ...]] = []

    def add(self, found: Trajectory, part: int = 0) -> None:
        """Take in one trajectory.

        Args:
            found: The trajectory.
            part: Which of the run's parts it belongs to.

        Raises:
            StorageError: The disk is full.
        """
        entry = _json(self._entry(found, part))
        self._waiting.append(trajectory_html(found, heading=_HEADING))
        with storage_errors(self._folder):
            self._entries.write((b",\n" if self.count else b"") + entry)
            self.count += 1
            if len(self._waiting) == CHUNK:
                self._pack()

    def entries(self) -> Iterator[bytes]:
        """Yield the entries as one JSON array; it can stand inside a script element."""
        yield b"["
        yield from self._read(self._entries)
        yield b"]"

    def chunks(self) -> Iterator[bytes]:
        """Yield the compressed details as script elements with data in them."""
        with storage_errors(self._folder):
            self._pack()
        yield from self._read(self._chunks)

    def _entry(self, found: Trajectory, part: int) -> list[Any]:
        """Return what the list shows of a trajectory; run.js reads it by these places."""
        rule = -1
        if found.stop is not None:
            rule = _place(self.rules, found.stop.rule)
        matrix = found.alignment
        said = found.error.message if found.error is not None else found.response
        grounded = found.groundedness[found.chosen] if found.responses else None
        return [
            found.id,
            found.instruction[:SHOWN],
            said[:SHOWN],
            int(found.error is not None),
            rule,
            found.stop.iterations if found.stop is not None else matrix.iterations,
            [None if g is None else round(g, 3) for g in found.grades],
            found.chosen,
            None if grounded is None else round(grounded, 2),
            sum(1 << FLAGS.index(flag.value) for flag in set(found.flags)),
            _place(self.levels, found.levels),
            matrix.iterations,
            cells_of(matrix),
            part,
        ]

    def _pack(self) -> None:
        if not self._waiting:
            return
        text = _json(self._waiting)
        self._waiting.clear()
        number = (self.count - 1) // CHUNK
        packed = base64.b64encode(gzip.compress(text, compresslevel=6, mtime=0))
        self.html_bytes += len(text)
        self.packed_bytes += len(packed)
        self._chunks.write(b'<script type="application/gzip" id="chunk-%d">' % number)
        self._chunks.write(packed + b"</script>\n")

    def _read(self, file: IO[bytes]) -> Iterator[bytes]:
        with storage_errors(self._folder, "read"):
            file.seek(0)
            while block := file.read(_BLOCK):
                yield block

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()


def cells_of(matrix: AlignmentMatrix) -> list[int | None]:
    """Return the cells of a matrix row by row: A in hundredths, -1 failed, ``None`` pending."""
    found: list[int | None] = []
    for row, states in zip(matrix.values, matrix.status, strict=True):
        for value, state in zip(row, states, strict=True):
            if value == value:  # NaN is not itself
                found.append(round(float(value) * 100))
            else:
                found.append(-1 if state is CellStatus.FAILED else None)
    return found


def _place(known: list[Any], value: Any) -> int:
    if value not in known:
        known.append(value)
    return known.index(value)


def _json(value: Any) -> bytes:
    """Return JSON that can stand inside a script element, whatever the texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A model's output may hold halves of characters, which no file can.
    return text.replace("<", "\\u003c").encode("utf-8", "replace")
