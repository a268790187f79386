"""Reading instructions from a file or a list.

The reference answer of an instruction, where there is one, is kept beside it
and not in its metadata: what a loop works on is text and id, and the answer is
put to the trajectory when the loop is over (:meth:`Instruction.annotations`).
So no prompt can quote it by mistake, and an evaluation still finds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reflectory.errors import UserError
from reflectory.models.protocol import content_hash

_TEXT_FIELDS = ("instruction", "question")
_REFERENCE_FIELDS = ("reference", "answer")


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


def read_instructions(source: str | Path | Iterable[str]) -> Iterator[Instruction]:
    """Read instructions one at a time.

    A file has one instruction per line (blank lines and lines that begin with
    ``#`` are skipped), or one JSON object per line with ``instruction`` (or
    ``question``) and, if there are, ``id`` and ``reference`` (or ``answer``);
    the other fields become metadata. It is JSON Lines when its name ends in
    ``.jsonl`` or its first line begins with ``{``.

    Files and lists are checked to the end before the first one is returned, so
    that a mistake in the last line shows now and not after a night's work; an
    iterator is checked as it goes. Only ids stay in memory.

    Args:
        source: Path of a file, or texts. A text itself is a path: for one
            instruction pass a list of one.

    Returns:
        The instructions in the order of the source. An id is the place, from 0,
        and the beginning of the text's hash, as in ``000012-1f3a5b7c``.

    Raises:
        UserError: The source is missing or unreadable, has nothing in it, or one of
            its lines is empty, broken or repeats an id; the line is named.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        for _ in _checked(_from_file(path), str(path)):
            pass
        return _checked(_from_file(path), str(path))
    if not isinstance(source, Iterator):
        for _ in _checked(_from_texts(source), "the list"):
            pass
    return _checked(_from_texts(source), "the list")


Found = tuple[str, str, Any, dict[str, Any], Any]
"""Where it was found, text, id or ``None``, metadata, reference or ``None``."""


def _checked(found: Iterator[Found], name: str) -> Iterator[Instruction]:
    """Give ids to what was found and refuse what cannot be worked on."""
    places: dict[str, str] = {}
    for index, (place, text, given, metadata, reference) in enumerate(found):
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
        own = f"{index:06d}-{content_hash(text)[:8]}" if given is None else str(given)
        if own in places:
            raise UserError(
                f"{place}: the id {own!r} was used before, by {places[own]}",
                hint="give every instruction an id of its own, or none",
            )
        places[own] = place
        yield Instruction(own, text, metadata, None if reference is None else str(reference))
    if not places:
        raise UserError(f"{name} has no instructions", hint="write one per line")


def _from_texts(texts: Iterable[str]) -> Iterator[Found]:
    for index, text in enumerate(texts):
        yield f"instruction {index}", text, None, {}, None


def _from_file(path: Path) -> Iterator[Found]:
    if path.suffix.lower() == ".json":
        raise UserError(
            f"{path} is a JSON file; instructions are read from text or JSON Lines",
            hint="write one JSON object per line and name the file .jsonl",
        )
    is_json = path.suffix.lower() in {".jsonl", ".ndjson"}
    is_first = True
    for number, line in _lines(path):
        place, text = f"{path}, line {number}", line.strip()
        if not text:
            continue
        if is_first:
            is_json, is_first = is_json or text.startswith("{"), False
        if is_json:
            yield _from_json(text, place)
        elif not text.startswith("#"):
            yield place, text, None, {}, None


def _from_json(line: str, place: str) -> Found:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON: {error}", hint="one JSON object per line") from error
    if not isinstance(data, dict):
        raise UserError(f"{place}: not a JSON object", hint='as in {"instruction": "Explain ..."}')
    text_field = next((name for name in _TEXT_FIELDS if name in data), None)
    if text_field is None:
        raise UserError(
            f"{place}: there is no field 'instruction'", hint='as in {"instruction": "Explain ..."}'
        )
    reference_field = next((name for name in _REFERENCE_FIELDS if name in data), None)
    text, given = data.pop(text_field), data.pop("id", None)
    reference = None if reference_field is None else data.pop(reference_field)
    # What is left of an answer must not travel with the loop either.
    leaked = {name: data.pop(name) for name in _REFERENCE_FIELDS if name in data}
    if leaked:
        raise UserError(
            f"{place}: both 'reference' and 'answer' are given", hint="keep one of them"
        )
    return place, text, given, data, reference


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers, from 1."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if "\0" in line:
                    raise UserError(
                        f"{path}, line {number}: this is no text file",
                        hint="pass text or JSON Lines in UTF-8",
                    )
                yield number, line
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is no text file in UTF-8: {error.reason} at byte {error.start}",
            hint="pass text or JSON Lines in UTF-8",
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot read the instructions {path}: {error.strerror or error}",
            hint="pass the path of a file; for a single instruction pass a list of one",
        ) from error
