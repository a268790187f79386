"""Rows that a person wrote (D_manual of Equation 5), read from their own files.

JSON Lines, Parquet, CSV and TSV, with one of these sets of columns:

- ``prompt`` and ``completion``: texts, or lists of chat messages;
- ``messages``: a chat that ends with the assistant's message;
- ``question`` and ``answer``: the question goes through the student's prompt.

For preference pairs ``chosen`` and ``rejected`` stand in the place of the completion,
for judged examples ``label`` (true or false) beside it. A column ``system`` goes
before a prompt that is a text. Other columns are passed over.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reflectory.errors import DatasetError
from reflectory.training.curation.making import prompt_messages
from reflectory.training.dataset import RowSet
from reflectory.training.dataset_columns import row_of
from reflectory.training.dataset_files import file_format_of, read_rows
from reflectory.training.rows import Format, Prompter, Provenance, Row, Source

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_REPLIES: dict[Format, tuple[str, ...]] = {
    "sft": ("completion",),
    "dpo": ("chosen", "rejected"),
    "kto": ("completion",),
}
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

Values = Mapping[str, Any]


def read_manual(
    path: str | Path,
    *,
    format: Format = "sft",
    prompter: Prompter | None = None,
    source: Source = "manual",
) -> RowSet:
    """Read rows that were written elsewhere; every row remembers its file and line.

    Args:
        path: The file; its name ends in .jsonl, .json (lines, too), .parquet, .csv or
            .tsv. A folder of ``save_to_disk`` will do.
        format: ``sft``, ``dpo`` or ``kto``.
        prompter: Makes the student's prompt of a question; without it the question
            alone is the prompt.
        source: ``manual``, or ``distilled`` where another model wrote the rows.

    Raises:
        DatasetError: The file cannot be read, holds no rows, or a line is no row; the
            line is named.
    """
    if format not in _REPLIES:
        raise DatasetError(
            f"there are no manual rows of the format {format}",
            hint=f"choose one of {', '.join(_REPLIES)}",
        )
    place = Path(path)
    rows = [_row(values, where, format, prompter, source) for where, values in _lines(place)]
    if not rows:
        raise DatasetError(f"{place} holds no rows", hint="give it at least one")
    return RowSet.of(format, rows)


def _lines(place: Path) -> Iterator[tuple[str, Values]]:
    delimiter = _DELIMITERS.get(place.suffix.lower())
    if delimiter is None or place.is_dir():
        return read_rows(place, file_format_of(place))
    return _read_csv(place, delimiter)


def _read_csv(file: Path, delimiter: str) -> Iterator[tuple[str, Values]]:
    try:
        # utf-8-sig: spreadsheets put a mark before the first name.
        with file.open(encoding="utf-8-sig", newline="") as text:
            # A limit of the whole process, 128 KiB a cell until somebody raises it.
            csv.field_size_limit(max(csv.field_size_limit(), file.stat().st_size + 1))
            reader = csv.DictReader(text, delimiter=delimiter, strict=True)
            number = 1
            try:
                for values in reader:
                    where = f"{file}, line {number + 1}"
                    number = reader.line_num
                    if None in values:
                        raise DatasetError(
                            f"{where}, has more cells than the first line has names",
                            hint="put quotation marks around cells that hold the delimiter",
                        )
                    yield where, {k: v for k, v in values.items() if v is not None}
            except (csv.Error, UnicodeDecodeError) as error:
                raise DatasetError(
                    f"{file}, line {number + 1}, cannot be read: {error}",
                    hint="save the table as UTF-8, with quotation marks in cells doubled",
                ) from error
    except OSError as error:
        raise DatasetError(
            f"cannot read {file}: {error.strerror or error}", hint="pass a file that is there"
        ) from error


def _row(
    values: Values, where: str, format: Format, prompter: Prompter | None, source: Source
) -> Row:
    def wrong(problem: str) -> DatasetError:
        return DatasetError(
            f"{where}, is no {format} row: {problem}", hint="mend or remove the line"
        )

    given = {name: _decoded(value) for name, value in values.items() if value is not None}
    columns: dict[str, Any]
    question = ""
    if "messages" in given and format != "dpo":
        *before, last = _chat(given["messages"], wrong)
        columns = {"prompt": before, "completion": [last]}
    else:
        if "question" in given and "prompt" not in given:
            question = _text(given["question"], "question", wrong)
            columns = {"prompt": _asked(question, prompter)}
        else:
            columns = {"prompt": _prompt(given, wrong)}
        for name in _REPLIES[format]:
            value = given.get(name, given.get("answer") if name == "completion" else None)
            if value is None:
                raise wrong(f"there is no {name}; there are {', '.join(given) or 'no columns'}")
            columns[name] = value
    if format == "kto":
        columns["label"] = _label(given.get("label"), wrong)
    if format == "dpo":
        columns["margin"] = given.get("margin", 1.0)  # a person who wrote both was sure
    name = Path(where.rpartition(", ")[0]).name
    provenance = Provenance(
        source=source, question=question, place=f"{name}, {where.rpartition(', ')[2]}"
    )
    row = row_of({**columns, "provenance": provenance}, format, where)
    if question:
        return row
    asked = provenance.model_copy(update={"question": row.prompt[-1].content})
    return row.model_copy(update={"provenance": asked})


Wrong = Callable[[str], DatasetError]


def _decoded(value: Any) -> Any:
    """Return the messages that a cell of a table holds as JSON, and anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _chat(value: Any, wrong: Wrong) -> list[Any]:
    if not isinstance(value, list) or len(value) < 2:
        raise wrong("messages must be a list of a prompt and the assistant's message")
    return value


def _text(value: Any, name: str, wrong: Wrong) -> str:
    if not isinstance(value, str) or not value.strip():
        raise wrong(f"{name} must be a text that is not blank")
    return value


def _asked(question: str, prompter: Prompter | None) -> list[dict[str, str]]:
    if prompter is None:
        return [{"role": "user", "content": question}]
    return [message.model_dump() for message in prompt_messages(prompter, question, ())]


def _prompt(given: Values, wrong: Wrong) -> Any:
    if "prompt" not in given:
        raise wrong(f"there is no prompt; there are {', '.join(given) or 'no columns'}")
    prompt = given["prompt"]
    if not isinstance(prompt, str):
        return prompt
    messages = [{"role": "user", "content": _text(prompt, "prompt", wrong)}]
    if given.get("system"):
        messages.insert(0, {"role": "system", "content": _text(given["system"], "system", wrong)})
    return messages


def _label(value: Any, wrong: Wrong) -> bool:
    label = value if isinstance(value, bool) else _TRUTH.get(str(value).strip().lower())
    if label is None:
        raise wrong(f"label must be true or false (got {value!r})")
    return label
