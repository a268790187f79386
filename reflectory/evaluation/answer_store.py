"""All contenders' answers as one file of JSON lines that survives being killed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from reflectory.errors import IntegrityError
from reflectory.evaluation.records import ContenderAnswer
from reflectory.runs.files import append_line, storage_errors

_log = logging.getLogger(__name__)


class AnswerStore:
    """The answers of an evaluation, in the order in which they were finished.

    One answer is one line, on the disk before ``append`` returns. A half-written last line
    is cut off: the file is derived from the call cache, and the answer is given again from
    recorded calls. A later line takes the place of an earlier one of the same contender
    and question. One process at a time may write; the run directory's lock sees to that.

    Args:
        path: The file; made by the first ``append``.

    Raises:
        IntegrityError: A line before the last one is no answer; it is named.
        StorageError: The file cannot be read or repaired.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._answers: dict[tuple[str, str], ContenderAnswer] = {}
        self._load()

    def get(self, contender: str, question: str, key: str) -> ContenderAnswer | None:
        """Return a contender's answer to a question if it has this key."""
        found = self._answers.get((contender, question))
        return found if found is not None and found.key == key else None

    def append(self, answer: ContenderAnswer) -> None:
        """Add an answer; it is on the disk when this returns.

        Raises:
            StorageError: The disk is full; what was written before stays valid.
        """
        append_line(self.path, answer.model_dump_json())
        self._answers[answer.contender, answer.id] = answer

    def __iter__(self) -> Iterator[ContenderAnswer]:
        """Yield the answers that count, in the order of their first line."""
        yield from self._answers.values()

    def __len__(self) -> int:
        return len(self._answers)

    def _load(self) -> None:
        if not self.path.exists():
            return
        with storage_errors(self.path, "read"):
            data = self.path.read_bytes()
        whole, _, rest = data.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
            if not line.strip():
                continue
            try:
                answer = ContenderAnswer.model_validate_json(line)
            except ValidationError as error:
                raise IntegrityError(
                    f"line {number} of {self.path} is no answer of an evaluation",
                    hint="delete that line; the answer is given again from recorded calls",
                ) from error
            self._answers[answer.contender, answer.id] = answer
        if rest:
            self._cut(len(data) - len(rest))

    def _cut(self, size: int) -> None:
        with storage_errors(self.path), self.path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())
        _log.warning("the last line of %s was half written; it is made again", self.path)
