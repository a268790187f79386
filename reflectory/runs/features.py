"""The columns of ``trajectories.jsonl`` for ``datasets.load_dataset``.

Left to itself, a reader of JSON tells the types from the first 10 MB. A field
that is empty there (an error, evidence, drafts) has no type then, and the first
loop that has one ends the reading. So the types are told from the records.
"""

from __future__ import annotations

import types
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from reflectory.errors import UserError
from reflectory.types import Trajectory

if TYPE_CHECKING:
    from datasets import Features

_KINDS = {str: "string", bool: "bool", int: "int64", float: "float64"}


def trajectory_features() -> Features:
    """Return what ``load_dataset("json", data_files=..., features=...)`` needs for trajectories.

    Parts of a record are nested columns. What holds names that differ from loop to
    loop (passages, models, signals, metadata) is ``Json``, so a row gives the
    dictionary that was written. Lines of older schema versions are read as well,
    with ``None`` in what they lack.

    Raises:
        UserError: The installed ``datasets`` has no such column.
    """
    import datasets

    if not hasattr(datasets, "Json"):
        raise UserError(
            f"datasets {datasets.__version__} has no columns of JSON objects",
            hint="pip install --upgrade datasets, or read lines with Trajectory.from_json",
        )
    return datasets.Features(_columns(Trajectory))


def _columns(record: type[BaseModel]) -> dict[str, Any]:
    return {name: _column(field.annotation) for name, field in record.model_fields.items()}


def _column(kind: Any) -> Any:
    """Return the column for a type of the records."""
    from datasets import Json, List, Value

    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):  # X | None: every column may be empty
        (kind,) = (a for a in arguments if a is not type(None))
        return _column(kind)
    if origin is tuple:
        return List(_column(arguments[0]))
    if origin is dict:
        return Json()
    if origin is Literal:
        return Value("string")
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _columns(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Value("string")
    return Value(_KINDS[kind])
