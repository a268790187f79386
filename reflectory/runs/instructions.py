"""Reading instructions from a file, a data set or a list, one at a time.

The reference answer of an instruction, where there is one, is kept beside it
and not in its metadata: what a loop works on is text and id, and the answer is
put to the trajectory when the loop is over (:meth:`Instruction.annotations`).
So no prompt can quote it by mistake, and an evaluation still finds it. Where
rows come from stands in :mod:`reflectory.runs.instruction_sources`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reflectory.errors import UserError
from reflectory.models.protocol import content_hash
from reflectory.runs.instruction_sources import Found, is_remote, rows_of


@dataclass(frozen=True)
class Instruction:
    """One instruction I.

    Attributes:
        id: Unique in its source; derived from place and text unless it was given.
        text: What the student is asked.
        metadata: What else the source says about it; a loop carries it along.
        reference: The right answer, where it is known; never shown to a loop.
    """

    id: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    reference: str | None = None

    def annotations(self) -> dict[str, Any]:
        """Return the metadata for the finished trajectory, the reference included."""
        if self.reference is None:
            return dict(self.metadata)
        return {**self.metadata, "reference": self.reference}


class Instructions(Iterator[Instruction]):
    """Instructions that are read while they are worked on.

    Attributes:
        total: How many there are, or ``None`` where that shows at the end only
            (an iterator, a data set that is streamed from the hub).
    """

    def __init__(self, items: Iterator[Instruction], total: int | None) -> None:
        self.total = total
        self._items = items

    def __next__(self) -> Instruction:
        return next(self._items)


def read_instructions(source: str | Path | Iterable[str]) -> Instructions:
    """Read instructions one at a time.

    A text file has one instruction per line (blank lines and lines that begin with
    ``#`` are skipped), or one JSON object per line with ``instruction`` (or
    ``question``) and, if there are, ``id`` and ``reference`` (or ``answer``);
    the other fields become metadata. It is JSON Lines when its name ends in
    ``.jsonl`` or its first line begins with ``{``; either may be packed (``.gz``).
    Parquet files (``.parquet``), folders that ``save_to_disk`` of a data set made
    and ``dataset:NAME?split=train&field=COLUMN`` have columns of these names; the
    options of a data set are ``config``, ``split``, ``revision``, and ``field``,
    ``id`` and ``reference`` for columns with other names.

    Files and lists are checked to the end before the first one is returned, so
    that a mistake in the last line shows now and not after a night's work; an
    iterator and a data set that is streamed from the hub are checked as they go.
    What is kept for comparing ids is one number per instruction, while it is checked.

    Args:
        source: Path of a file, name of a data set, or texts. A text itself is a
            path: for one instruction pass a list of one.

    Returns:
        The instructions in the order of the source. An id is the place, from 0,
        and the beginning of the text's hash, as in ``000012-1f3a5b7c``.

    Raises:
        UserError: The source is missing or unreadable, has nothing in it, or one of
            its lines is empty, broken or repeats an id; the line is named.
    """
    if isinstance(source, str | Path):
        name = str(source)

        def begin() -> Iterator[Found]:
            return rows_of(name)

        if is_remote(name):
            return Instructions(_checked(begin, name), None)
    else:
        name, texts = "the list", source

        def begin() -> Iterator[Found]:
            return _from_texts(texts)

        if isinstance(source, Iterator):
            return Instructions(_checked(begin, name), None)
    total = sum(1 for _ in _checked(begin, name))
    return Instructions(_checked(begin, name, is_unique=True), total)


def _checked(
    begin: Callable[[], Iterator[Found]], name: str, *, is_unique: bool = False
) -> Iterator[Instruction]:
    """Give ids to what is found and refuse what cannot be worked on.

    Args:
        begin: Reads the rows from the first one.
        name: What the source is called.
        is_unique: Whether ids were compared before, and need not be kept again.
    """
    seen: set[int] = set()
    index = -1
    for index, (place, text, given, metadata, reference) in enumerate(begin()):
        if not isinstance(text, str) or not text.strip():
            what = "is empty" if isinstance(text, str) else f"is {json.dumps(text, default=repr)}"
            raise UserError(
                f"{place}: the instruction {what}", hint="give it a text, or take the line out"
            )
        text = text.strip()
        if given is not None and (not isinstance(given, str | int) or not str(given).strip()):
            raise UserError(
                f"{place}: the id is no name or number", hint="leave it out, or mend it"
            )
        if reference is not None and not isinstance(reference, str | int | float):
            raise UserError(
                f"{place}: the reference answer is neither text nor number",
                hint="give one answer as text; lists belong into another field",
            )
        own = _id_of(index, text, given)
        # A number per id is a tenth of the id and its place; two ids may share
        # one, so what looks like a repetition is looked up in the source.
        if not is_unique and hash(own) in seen and (earlier := _place_of(own, index, begin)):
            raise UserError(
                f"{place}: the id {own!r} was used before, by {earlier}",
                hint="give every instruction an id of its own, or none",
            )
        if not is_unique:
            seen.add(hash(own))
        yield Instruction(own, text, metadata, None if reference is None else str(reference))
    if index < 0:
        raise UserError(f"{name} has no instructions", hint="write one per line")


def _id_of(index: int, text: str, given: Any) -> str:
    return f"{index:06d}-{content_hash(text)[:8]}" if given is None else str(given)


def _place_of(wanted: str, before: int, begin: Callable[[], Iterator[Found]]) -> str | None:
    """Return where an id stands in the rows before a row, or ``None``.

    An iterator has no rows a second time; its texts have no ids of their own
    that could repeat.
    """
    for index, (place, text, given, *_) in enumerate(begin()):
        if index >= before:
            return None
        if _id_of(index, str(text).strip(), given) == wanted:
            return place
    return None


def _from_texts(texts: Iterable[str]) -> Iterator[Found]:
    for index, text in enumerate(texts):
        yield f"instruction {index}", text, None, {}, None
