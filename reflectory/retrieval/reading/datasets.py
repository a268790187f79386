"""Data sets of the ``datasets`` library: as objects, as folders, and by name.

By name is ``dataset:NAME``, and what should be known besides follows as in an
address: ``dataset:OWNER/NAME?config=en&split=train&text=context&title=name``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from reflectory.errors import DocumentError
from reflectory.retrieval.preprocess import clean_line
from reflectory.retrieval.reading.records import MALFORMED, Found, damaged
from reflectory.retrieval.reading.rows import Columns, Row, documents_of

_log = logging.getLogger(__name__)

PREFIX = "dataset:"
"""What the name of a data set begins with, to tell it from a path."""

_OPTIONS = ("config", "split", "revision", *Columns._fields)
_BATCH_ROWS = 256
_FOLDER_MARKS = ({"dataset_info.json", "state.json"}, {"dataset_dict.json"})


class DatasetName(NamedTuple):
    """The parts of ``dataset:NAME?...``.

    Attributes:
        name: On the hub, or a folder that ``save_to_disk`` made.
        config: Which of its configurations.
        split: Which split, or a slice such as ``train[:100]``; all when empty.
        revision: Which version: a commit, tag or branch.
        columns: Which columns are what.
    """

    name: str
    config: str
    split: str
    revision: str
    columns: Columns


def is_dataset_name(value: Any) -> bool:
    """Return whether ``value`` names a data set rather than a path."""
    return isinstance(value, str) and value.startswith(PREFIX)


def parse_dataset_name(spelling: str) -> DatasetName:
    """Return the parts of ``dataset:NAME?option=value&...``.

    Raises:
        DocumentError: There is no name, or an option is unknown.
    """
    name, _, query = spelling.removeprefix(PREFIX).partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    wrong = [key for key, value in pairs if key not in _OPTIONS or not value]
    if not name.strip() or wrong or (query and not pairs):
        what = f"the option {wrong[0]!r} is unknown or empty" if wrong else "it names nothing"
        raise DocumentError(
            f"{spelling}: {what}",
            hint=f"write {PREFIX}NAME?split=train&text=COLUMN; options: {', '.join(_OPTIONS)}",
        )
    chosen = {field: options[field] for field in Columns._fields if field in options}
    return DatasetName(
        name.strip(),
        options.get("config", ""),
        options.get("split", ""),
        options.get("revision", ""),
        Columns(**chosen),
    )


def is_dataset(value: Any) -> bool:
    """Return whether ``value`` is a data set object, without importing the library for it."""
    library = sys.modules.get("datasets")
    if library is None:
        return False
    kinds = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return isinstance(value, tuple(getattr(library, kind) for kind in kinds))


def is_dataset_folder(path: str | Path) -> bool:
    """Return whether ``save_to_disk`` of a data set made this folder."""
    folder = Path(path)
    return any(all((folder / mark).is_file() for mark in marks) for marks in _FOLDER_MARKS)


def read_dataset(
    dataset: Any, name: str, *, columns: Columns | None = None, licence: str = ""
) -> Found:
    """Make a document of each row of a data set, of all its splits.

    Args:
        dataset: A ``Dataset``, a ``DatasetDict``, or one of their streamed kinds.
        name: What it is called; ids are ``NAME:ROW`` or ``NAME/SPLIT:ROW`` where
            the rows have none.
        columns: Which columns are what; by their names when ``None``.
        licence: Its licence, where the data set itself does not state one.

    Raises:
        DocumentError: There is no column of that name, or a row cannot be used.
    """
    if not isinstance(dataset, dict):
        return _documents_of_split(dataset, name, columns, licence)
    found: Found = []
    for split, part in dataset.items():
        found += _documents_of_split(part, f"{name}/{split}", columns, licence)
    return found


def _documents_of_split(dataset: Any, name: str, columns: Columns | None, licence: str) -> Found:
    from datasets import Value
    from pyarrow import ArrowException

    names = list(dataset.column_names or ())
    # What is streamed may not know its columns before the first row comes.
    chosen = columns or (Columns.of(names) if names else Columns())
    if chosen is None or (names and chosen.text not in names):
        wanted, known = (chosen or Columns()).text, ", ".join(names) or "none"
        raise DocumentError(
            f"{name}: the data set has no column `{wanted}` (columns: {known})",
            hint=f"rename_column(..., 'text'), or write {PREFIX}NAME?text=COLUMN",
        )
    licence = clean_line(getattr(dataset.info, "license", "") or "") or licence
    try:
        if names:
            # Pictures and sounds would be decoded, with libraries that may not be there.
            features = dataset.features or {}
            plain = [key for key in names if isinstance(features.get(key), Value)]
            dataset = dataset.with_format(None).select_columns(plain or names)
        return documents_of(_rows(dataset, name), chosen, licence=licence, bounded=False)
    except (ArrowException, *MALFORMED) as error:
        raise damaged(name, "the data set", error) from error


def _rows(dataset: Any, name: str) -> Iterator[Row]:
    number = 0
    for batch in dataset.iter(batch_size=_BATCH_ROWS):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield Row(f"{name}:{number}", dict(zip(batch, values, strict=True)))


def read_dataset_folder(
    path: Path, name: str, *, columns: Columns | None = None, split: str = ""
) -> Found:
    """Read a folder that ``save_to_disk`` made.

    Args:
        path: The folder.
        name: What it is called.
        columns: Which columns are what; by their names when ``None``.
        split: The one split to read; all when empty.

    Raises:
        DocumentError: It is damaged, has no such split, or see :func:`read_dataset`.
    """
    from datasets import load_from_disk
    from pyarrow import ArrowException

    try:
        dataset = load_from_disk(str(path))
    except (ArrowException, *MALFORMED) as error:
        raise damaged(name, "the data set", error) from error
    if split:
        splits = list(dataset) if isinstance(dataset, dict) else []
        if split not in splits:
            raise DocumentError(
                f"{name}: the data set has no split {split!r}",
                hint=f"its splits: {', '.join(map(str, splits)) or 'none, so leave it out'}",
            )
        return read_dataset(dataset[split], f"{name}/{split}", columns=columns)
    return read_dataset(dataset, name, columns=columns)


def read_named_dataset(spelling: str) -> Found:
    """Load ``dataset:NAME?...`` from a folder, the cache or the hub, and read it.

    Raises:
        DocumentError: It cannot be loaded, or see :func:`read_dataset`.
    """
    wanted = parse_dataset_name(spelling)
    columns = wanted.columns if wanted.columns != Columns() else None
    folder = Path(wanted.name).expanduser()
    if is_dataset_folder(folder):
        return read_dataset_folder(
            folder, folder.resolve().name, columns=columns, split=wanted.split
        )
    from datasets import load_dataset

    try:
        dataset = load_dataset(
            wanted.name,
            wanted.config or None,
            split=wanted.split or None,
            revision=wanted.revision or None,
        )
    except MALFORMED as error:
        detail = str(error).strip().split("\n", 1)[0][:300]
        raise DocumentError(
            f"{PREFIX}{wanted.name}: the data set cannot be loaded "
            f"({type(error).__name__}: {detail})",
            hint="check its name, config and split, and that the hub can be reached; "
            "or save it with save_to_disk elsewhere and give the folder",
        ) from error
    return read_dataset(dataset, wanted.name, columns=columns, licence=_licence_of_card(wanted))


def _licence_of_card(wanted: DatasetName) -> str:
    """Return the licence of a data set's card; rows of data sets seldom state one."""
    from huggingface_hub import DatasetCard

    try:
        data = DatasetCard.load(wanted.name).data.to_dict()
    except MALFORMED as error:  # a folder of files has no card, and the cache has none either
        _log.info("%s: its card cannot be read (%s)", wanted.name, type(error).__name__)
        return ""
    licence = data.get("license", "")
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence or "")
