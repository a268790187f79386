"""``--override FIELD=VALUE``: any field of the configuration, from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from reflectory.errors import UserError

_HINT = "write it as in the YAML file, such as --override loop.revision.fresh=18"


def override(data: dict[str, Any], texts: Iterable[str]) -> None:
    """Put values into a configuration, the last word for a field that is named twice.

    A value is read as YAML reads it: ``3`` is a number, ``[a, b]`` a list, ``null`` nothing.
    Whether there is such a field, and whether the value fits, is for the configuration to say.

    Args:
        data: Fields by name, changed.
        texts: ``FIELD=VALUE``, the field with dots between its parts.

    Raises:
        UserError: A text has no ``=`` or no field, its value is no YAML, or what it names lies
            in no group of fields.
    """
    for text in texts:
        name, equals, written = text.partition("=")
        parts = [part.strip() for part in name.split(".")]
        if not equals or not all(parts):
            raise UserError(f"--override {text!r} is not FIELD=VALUE", hint=_HINT)
        try:
            value = yaml.safe_load(written)
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"the value of --override {text!r} is not YAML: {error}") from error
        place = data
        for depth, part in enumerate(parts[:-1], 1):
            if place.get(part) is None:
                place[part] = {}  # a group that is not there; the configuration says so
            if not isinstance(place[part], dict):
                within = ".".join(parts[:depth])
                raise UserError(
                    f"--override {text!r}: {within} is one value and has no fields",
                    hint=f"give {within} as a whole",
                )
            place = place[part]
        place[parts[-1]] = value
