"""Where instructions come from: text, JSON Lines, Parquet and data sets, row by row.

Nothing here holds more than a few hundred rows at a time. The libraries for
Parquet files and data sets are loaded when such a source is named.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from reflectory.errors import UserError
from reflectory.retrieval.reading.datasets import PREFIX, is_dataset_folder, is_dataset_name

Found = tuple[str, Any, Any, dict[str, Any], Any]
"""Where it was found, text, id or ``None``, metadata, reference or ``None``."""

TEXT_FIELDS = ("instruction", "question")
REFERENCE_FIELDS = ("reference", "answer")
_OPTIONS = ("config", "split", "revision", "field", "id", "reference")
_SLICE = re.compile(r"(?P<split>[^\[\]]+)\[(?P<low>\d*):(?P<high>\d*)\]")
_BATCH_ROWS = 256


def is_remote(source: str) -> bool:
    """Return whether a source is streamed from the hub, where reading twice costs twice."""
    return is_dataset_name(source) and not _is_saved(_parse(source)[0])


def rows_of(source: str) -> Iterator[Found]:
    """Yield the rows of a file, a folder or a data set.

    Args:
        source: A path, or ``dataset:NAME?option=value&...``.

    Raises:
        UserError: It cannot be read, or a row has no instruction; the row is named.
    """
    if is_dataset_name(source):
        name, options = _parse(source)
        yield from _from_dataset(source, name, options)
        return
    path = Path(source)
    if _is_saved(path):
        yield from _from_dataset(source, source, {})
    elif path.suffix.lower() in {".parquet", ".pq"}:
        yield from _from_parquet(path)
    else:
        yield from _from_file(path)


def _is_saved(path: str | Path) -> bool:
    """Return whether a data set was saved there; a text that is no path is none either."""
    try:
        return is_dataset_folder(Path(path).expanduser())
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a home of nobody
        return False


def _from_file(path: Path) -> Iterator[Found]:
    kind = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    if kind.lower() == ".json":
        raise UserError(
            f"{path} is a JSON file; instructions are read from text or JSON Lines",
            hint="write one JSON object per line and name the file .jsonl",
        )
    is_json = kind.lower() in {".jsonl", ".ndjson"}
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
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON: {error}", hint="one JSON object per line") from error
    if not isinstance(data, dict):
        raise UserError(f"{place}: not a JSON object", hint='as in {"instruction": "Explain ..."}')
    return _found(place, data, {})


def _found(place: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> Found:
    """Tell the parts of a row from one another by the names of its fields.

    Args:
        place: Where the row stands.
        row: Its values.
        columns: Names of the fields ``field``, ``id`` and ``reference``, where they
            are not the usual ones.
    """
    data = dict(row)
    texts = (columns["field"],) if "field" in columns else TEXT_FIELDS
    references = (columns["reference"],) if "reference" in columns else REFERENCE_FIELDS
    text_field = next((name for name in texts if name in data), None)
    if text_field is None:
        raise UserError(
            f"{place}: there is no field {texts[0]!r}", hint='as in {"instruction": "Explain ..."}'
        )
    text, given = data.pop(text_field), data.pop(columns.get("id", "id"), None)
    reference_field = next((name for name in references if name in data), None)
    reference = None if reference_field is None else data.pop(reference_field)
    # What is left of an answer must not travel with the loop either.
    leaked = {name: data.pop(name) for name in REFERENCE_FIELDS if name in data}
    if leaked and "reference" not in columns:
        raise UserError(
            f"{place}: both 'reference' and 'answer' are given", hint="keep one of them"
        )
    return place, text, given, data, reference


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers, from 1."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as file:
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
    except (EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is damaged: {error}", hint="pack the file again, or pass it unpacked"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot read the instructions {path}: {error.strerror or error}",
            hint="pass the path of a file; a single instruction is a list of one, "
            "or `--instruction TEXT` of the command line",
        ) from error


def _from_parquet(path: Path) -> Iterator[Found]:
    """Yield the rows of a Parquet file; one batch of one row group is in memory."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            plain = [field.name for field in file.schema_arrow if not _is_binary(field.type)]
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=plain):
                for row in batch.to_pylist():
                    number += 1
                    yield _found(f"{path}, row {number}", _plain(row), {})
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n", 1)[0]
        raise UserError(
            f"cannot read the instructions {path}: {reason}",
            hint="pass a Parquet file with a column `instruction` or `question`",
        ) from error


def _is_binary(kind: Any) -> bool:
    """Return whether a column holds bytes (pictures, sounds), also inside of structures."""
    from pyarrow import types

    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_is_binary(kind.field(i).type) for i in range(kind.num_fields))


def _parse(spelling: str) -> tuple[str, dict[str, str]]:
    """Return the name and the options of ``dataset:NAME?option=value&...``."""
    name, _, query = spelling.removeprefix(PREFIX).partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    wrong = [key for key, value in pairs if key not in _OPTIONS or not value]
    if not name.strip() or wrong or (query and not pairs):
        what = f"the option {wrong[0]!r} is unknown or empty" if wrong else "it names nothing"
        raise UserError(
            f"{spelling}: {what}",
            hint=f"write {PREFIX}NAME?split=train&field=COLUMN; options: {', '.join(_OPTIONS)}",
        )
    return name.strip(), dict(pairs)


def _from_dataset(spelling: str, name: str, options: Mapping[str, str]) -> Iterator[Found]:
    """Yield the rows of a data set, from a folder or streamed from the hub."""
    from pyarrow import ArrowException

    split, low, high = _split_of(options.get("split", ""))
    columns = {key: options[key] for key in ("field", "id", "reference") if key in options}
    try:
        data = _without_media(_chosen(_loaded(name, options), split, spelling))
        for number, row in enumerate(data, start=1):
            if high is not None and number > high:
                return
            if number > low:
                yield _found(f"{spelling}, row {number}", _plain(row), columns)
    except (ArrowException, OSError, ValueError, KeyError, RuntimeError) as error:
        detail = str(error).strip().split("\n", 1)[0][:300]
        raise UserError(
            f"{spelling}: the data set cannot be read ({type(error).__name__}: {detail})",
            hint="check its name, config and split, and that the hub can be reached; "
            "or save it with save_to_disk elsewhere and give the folder",
        ) from error


def _split_of(spelling: str) -> tuple[str, int, int | None]:
    """Return the name of a split and the rows of it; ``train[10:20]`` skips 10 and ends at 20."""
    found = _SLICE.fullmatch(spelling)
    if found is None:
        return spelling, 0, None
    high = found["high"]
    return found["split"], int(found["low"] or 0), int(high) if high else None


def _loaded(name: str, options: Mapping[str, str]) -> Any:
    folder = Path(name).expanduser()
    if _is_saved(folder):
        from datasets import load_from_disk

        return load_from_disk(str(folder))
    from datasets import load_dataset

    return load_dataset(
        name, options.get("config"), revision=options.get("revision"), streaming=True
    )


def _chosen(data: Any, split: str, name: str) -> Any:
    """Return the one split that was asked for, or the only one."""
    if not isinstance(data, dict):
        return data
    if split in data:
        return data[split]
    if split or len(data) != 1:
        raise UserError(
            f"{name}: the data set has the splits {', '.join(map(str, data))}",
            hint=f"choose one, as in {PREFIX}NAME?split=train",
        )
    return next(iter(data.values()))


def _without_media(data: Any) -> Any:
    """Leave out pictures and sounds, which would be decoded with libraries that may be missing."""
    features = data.features
    if not features:
        return data.with_format(None)
    plain = [name for name, kind in features.items() if not hasattr(kind, "decode_example")]
    return data.with_format(None).select_columns(plain)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold of a row: times and exact numbers as text, no bytes."""

    def plain(value: Any) -> Any:
        if isinstance(value, date | time | Decimal):
            return str(value)
        if isinstance(value, Mapping):
            return {str(key): plain(part) for key, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, list | tuple) else value

    return {key: plain(value) for key, value in row.items() if not isinstance(value, bytes)}
