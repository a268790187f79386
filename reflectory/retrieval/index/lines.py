"""Records of a file with one line each, parsed when they are asked for.

A hundred thousand passages are opened at once this way; those that a question finds
are read from the mapped file.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from reflectory.errors import IntegrityError
from reflectory.types import Record

R = TypeVar("R", bound=Record)


def line_of(record: Record) -> bytes:
    """Return a record as one line of JSON: equal records, equal bytes."""
    data = record.model_dump(mode="json")
    return json.dumps(data, sort_keys=True, ensure_ascii=False).encode("utf-8") + b"\n"


def lines_of(records: Sequence[Record]) -> Iterator[bytes]:
    """Yield records as lines; those of a file as they are, without being parsed."""
    if isinstance(records, RecordLines):
        yield from records.lines()
    elif isinstance(records, Joined):
        for part in records.parts:
            yield from lines_of(part)
    else:
        yield from map(line_of, records)


def write_lines(path: Path, records: Sequence[Record]) -> None:
    """Write records, and beside them (``.offsets.npy``) where each line begins."""
    offsets = [0]
    with path.open("wb") as stream:
        for line in lines_of(records):
            offsets.append(offsets[-1] + stream.write(line))
    np.save(_offsets_of(path), np.asarray(offsets, dtype=np.int64), allow_pickle=False)


def _offsets_of(path: Path) -> Path:
    return path.with_suffix(".offsets.npy")


class RecordLines(Sequence[R], Generic[R]):
    """The records of a file that :func:`write_lines` wrote, parsed one by one.

    The file must not change while it is used.

    Args:
        path: The file.
        kind: Class of the records.

    Raises:
        IntegrityError: The two files do not belong together.
        OSError: A file is missing.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        self._path = path
        self._kind = kind
        try:
            offsets: NDArray[np.int64] = np.load(_offsets_of(path), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise IntegrityError(
                f"{_offsets_of(path)} is damaged: {error}", hint="build the index again"
            ) from error
        size = path.stat().st_size
        rises = (
            offsets.ndim == 1
            and offsets.dtype == np.dtype(np.int64)
            and len(offsets) > 0
            and bool((np.diff(offsets) > 0).all())
        )
        if not rises or offsets[0] != 0 or offsets[-1] != size:
            raise IntegrityError(
                f"{path} is damaged: it has {size} bytes, its offsets say otherwise",
                hint="build the index again",
            )
        self._offsets = offsets
        with path.open("rb") as stream:
            # An empty file cannot be mapped.
            self._bytes: mmap.mmap | bytes = (
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            )

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> R: ...

    @overload
    def __getitem__(self, index: slice) -> list[R]: ...

    def __getitem__(self, index: int | slice) -> R | list[R]:
        """Return a record, or several.

        Raises:
            IntegrityError: Its line is damaged.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        line = self._bytes[self._offsets[place] : self._offsets[place + 1]]
        try:
            return self._kind.model_validate_json(line)
        except ValidationError as error:
            raise IntegrityError(
                f"{self._path}, line {place + 1} is damaged: {str(error).splitlines()[0]}",
                hint="build the index again",
            ) from error

    def lines(self) -> Iterator[bytes]:
        """Yield the lines as they stand in the file."""
        for place in range(len(self)):
            yield self._bytes[self._offsets[place] : self._offsets[place + 1]]


class Joined(Sequence[R], Generic[R]):
    """Two sequences of records as one, neither of them copied.

    Args:
        first: What comes first.
        second: What comes behind it.
    """

    def __init__(self, first: Sequence[R], second: Sequence[R]) -> None:
        self.parts: tuple[Sequence[R], Sequence[R]] = (first, second)
        if isinstance(first, Joined):  # many small additions would make a deep tree
            self.parts = (first.parts[0], [*first.parts[1], *second])

    def __len__(self) -> int:
        """Return the number of records."""
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> R: ...

    @overload
    def __getitem__(self, index: slice) -> list[R]: ...

    def __getitem__(self, index: int | slice) -> R | list[R]:
        """Return a record, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        first, second = self.parts
        return first[place] if place < len(first) else second[place - len(first)]
