"""Settings by their dotted names, and which of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from reflectory.types import Record


class ChangedField(Record):
    """A setting that is not the same in both evaluations.

    Attributes:
        field: Its name, with dots between the levels.
        before: Its earlier value as JSON would show it; ``None`` where it was not there.
        after: Its later value.
    """

    field: str
    before: str | None
    after: str | None


def flatten(data: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Return nested plain data as text by its dotted names.

    Args:
        data: Mappings in mappings, with plain values.
        prefix: Stands before every name.
    """
    return dict(_flat(data, prefix))


def _flat(data: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(data, Sequence) and not isinstance(data, str) and any(map(_nests, data)):
        for place, value in enumerate(data):
            yield from _flat(value, f"{name}[{place}]")
    elif isinstance(data, str):
        yield name, data
    else:
        yield name, _shown(data)


def _nests(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def changed_fields(
    before: Mapping[str, object], after: Mapping[str, object]
) -> tuple[ChangedField, ...]:
    """Return the settings that differ, in the order of the later ones.

    Args:
        before: Settings of the earlier report.
        after: Those of the later one.
    """
    old, new = flatten(before), flatten(after)
    return tuple(
        ChangedField(field=name, before=old.get(name), after=new.get(name))
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name)
    )
