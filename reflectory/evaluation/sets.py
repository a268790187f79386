"""Sets of questions with references or constraints: read from files, data sets and objects.

Every kind ends as the same records. What is known of a row's shape stands in
:mod:`reflectory.evaluation.set_rows`; here is where rows come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reflectory.errors import DatasetError, UserError
from reflectory.evaluation.held_out import HeldOutQuestion
from reflectory.evaluation.set_rows import EvaluationQuestion, Shape, question_of
from reflectory.models.protocol import content_hash
from reflectory.retrieval.reading.datasets import (
    PREFIX,
    is_dataset,
    is_dataset_folder,
    is_dataset_name,
    parse_dataset_name,
)
from reflectory.types import Document

Placed = tuple[str, Any]
"""Where a row stands, for messages, and the row."""

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class EvaluationSet:
    """Questions with references or constraints, and the documents that some of them share.

    Attributes:
        name: Names of the files or data sets, for people.
        questions: Those of the chosen rows, in order; ids are unique.
        pool: Paragraphs that rows brought with them and all questions are answered
            from, of all rows and not only of the chosen ones; empty when there are none.
    """

    name: str
    questions: tuple[EvaluationQuestion, ...]
    pool: tuple[Document, ...] = ()

    @property
    def hash(self) -> str:
        """Sha256 of questions, references, constraints and documents."""
        return content_hash(
            # Without constraints the hash is what it was before there were any.
            [
                q.model_dump(mode="json", exclude=None if q.constraints else {"constraints"})
                for q in self.questions
            ],
            [document.model_dump(mode="json") for document in self.pool],
        )


def read_sets(sources: Any, *, rows: str = "", shape: Shape = "auto") -> EvaluationSet:
    """Read a set from one source or several.

    Args:
        sources: A path, ``dataset:NAME?split=...``, a data set object, a list of rows, or
            several paths and names. Files are JSON Lines or one JSON list.
        rows: Which rows of each source, from 1: ``61-100``, ``1-25,40``; all when empty.
        shape: What rows are read as (see :func:`~reflectory.evaluation.set_rows.question_of`).

    Raises:
        UserError: A source cannot be read, a row is no question with an answer or with
            constraints (file and line are named), an id repeats, or the chosen rows are not
            there.
    """
    several = _sources(sources)
    chosen = parse_rows(rows)
    questions: dict[str, EvaluationQuestion] = {}
    places: dict[str, str] = {}
    pool: dict[str, Document] = {}
    names = []
    for number, source in enumerate(several):
        name = _name_of(source)
        names.append(name)
        prefix = "" if len(several) == 1 else f"{number}-"
        last = 0
        for last, (place, row) in enumerate(rows_of(source), start=1):
            question, paragraph = question_of(row, place, last, prefix=prefix, shape=shape)
            if paragraph is not None:
                pool.setdefault(content_hash(paragraph.title, paragraph.text), paragraph)
            if chosen is not None and not any(low <= last <= high for low, high in chosen):
                continue
            if question.id in questions:
                raise UserError(
                    f"{place}: the id {question.id!r} was used in {places[question.id]}",
                    hint="give every question an id of its own, or none",
                )
            questions[question.id] = question
            places[question.id] = place
        if last == 0:
            raise UserError(f"{name} holds no questions", hint="one JSON object per line")
        if chosen is not None and (beyond := [high for _, high in chosen if high > last]):
            raise UserError(
                f"{name} has {last} rows, and row {beyond[0]} was asked for",
                hint="rows are counted from 1, as in 61-100",
            )
    return EvaluationSet(", ".join(names), tuple(questions.values()), tuple(pool.values()))


def parse_rows(spelling: str) -> list[tuple[int, int]] | None:
    """Return the ranges that ``61-100`` or ``1-25,40`` names, first and last row each.

    Raises:
        UserError: It is spelt otherwise, or a range is empty.
    """
    if not spelling.strip():
        return None
    ranges = []
    for part in spelling.split(","):
        found = _RANGE.fullmatch(part.strip())
        low = int(found[1]) if found else 0
        high = int(found[2] or low) if found else 0
        if low < 1 or high < low:
            raise UserError(
                f"{spelling!r} names no rows: {part.strip()!r} is no range",
                hint="write the first and the last row, counted from 1, as in 61-100 or 1-25,40",
            )
        ranges.append((low, high))
    return ranges


def _sources(given: Any) -> list[Any]:
    if isinstance(given, str | Path) or is_dataset(given):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise UserError(
            f"{type(given).__name__} is no set of questions",
            hint="give a file, dataset:NAME, a data set, or a list of rows",
        )
    items = list(given)
    if not items:
        raise UserError("no set of questions was named", hint="give --set FILE, or evaluation.sets")
    if all(isinstance(item, Mapping | HeldOutQuestion) for item in items):
        return [items]
    return items


def _name_of(source: Any) -> str:
    if is_dataset_name(source):
        return str(source)
    if isinstance(source, str | Path):
        return Path(source).name
    return "data set" if is_dataset(source) else "rows"


def rows_of(source: Any) -> Iterator[Placed]:
    """Yield the rows of one source and where each stands.

    Raises:
        UserError: The source cannot be read; a line that is no JSON is named.
    """
    if is_dataset_name(source):
        yield from _dataset_rows(_loaded(str(source)), str(source))
    elif isinstance(source, str | Path):
        path = Path(source)
        if is_dataset_folder(path):
            from datasets import load_from_disk

            yield from _dataset_rows(load_from_disk(str(path)), str(path))
        else:
            yield from _file_rows(path)
    elif is_dataset(source):
        yield from _dataset_rows(source, "data set")
    elif isinstance(source, Sequence):
        yield from ((f"row {number}", row) for number, row in enumerate(source, start=1))
    else:
        raise UserError(
            f"{type(source).__name__} is no set of questions",
            hint="give a file, dataset:NAME, a data set, or a list of rows",
        )


def _file_rows(path: Path) -> Iterator[Placed]:
    try:
        # Not splitlines(): it breaks at separators that JSON leaves inside a text.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot read the set {path}: {reason}",
            hint="pass JSON Lines, a JSON list, a saved data set, or dataset:NAME",
        ) from error
    if path.suffix.lower() == ".json" or text.lstrip().startswith("["):
        yield from _listed(text, path)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{place}: not JSON: {error}", hint="one JSON object per line"
            ) from error


def _listed(text: str, path: Path) -> Iterator[Placed]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}", hint="pass JSON Lines or a list") from error
    if not isinstance(data, list):
        raise UserError(
            f"{path} holds a JSON {type(data).__name__} and no list of questions",
            hint="pass JSON Lines, or a list of objects",
        )
    for number, row in enumerate(data, start=1):
        yield f"{path}, entry {number}", row


def _loaded(spelling: str) -> Any:
    wanted = parse_dataset_name(spelling)
    folder = Path(wanted.name).expanduser()
    if is_dataset_folder(folder):
        from datasets import load_from_disk

        data = load_from_disk(str(folder))
        return data[wanted.split] if wanted.split and isinstance(data, dict) else data
    from datasets import load_dataset

    try:
        return load_dataset(
            wanted.name,
            wanted.config or None,
            split=wanted.split or None,
            revision=wanted.revision or None,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        detail = str(error).strip().split("\n", 1)[0][:300]
        raise DatasetError(
            f"{PREFIX}{wanted.name}: the data set cannot be loaded "
            f"({type(error).__name__}: {detail})",
            hint="check its name, config and split, and that the hub can be reached; "
            "or save it with save_to_disk elsewhere and give the folder",
        ) from error


def _dataset_rows(data: Any, name: str) -> Iterator[Placed]:
    if isinstance(data, dict):
        if len(data) != 1:
            raise DatasetError(
                f"{name} has the splits {', '.join(map(str, data))}",
                hint=f"choose one, as in {PREFIX}NAME?split=validation",
            )
        (data,) = data.values()
    for number, row in enumerate(data.with_format(None), start=1):
        yield f"{name}, row {number}", row
