"""Errors as plain data, so that what one process raises arrives in another as it was.

Ray wraps what a task raises into a class of its own, and an exception whose
constructor wants more than a message cannot be pickled at all. So workers and the
keeper of calls answer with a description, and the run raises the error again.
"""

from __future__ import annotations

from typing import Any

from reflectory import errors
from reflectory.errors import BackendError, ReflectoryError

_KINDS: dict[str, type[ReflectoryError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ReflectoryError)
}


def describe_error(error: ReflectoryError) -> dict[str, Any]:
    """Return an error as JSON values.

    A class of another module (``BudgetSpent``) is named by its nearest base in
    :mod:`reflectory.errors`: what it means for the run is the same.
    """
    kind = next(c.__name__ for c in type(error).__mro__ if c.__name__ in _KINDS)
    return {"kind": kind, "message": error.message, "hint": error.hint}


def error_from(described: dict[str, Any]) -> ReflectoryError:
    """Return the error that :func:`describe_error` described."""
    kind = _KINDS.get(described["kind"], BackendError)
    message, hint = described["message"], described["hint"]
    try:
        return kind(message, hint=hint)
    except TypeError:  # one that is made of more than a message
        general = errors.UserError if issubclass(kind, errors.UserError) else BackendError
        return general(message, hint=hint)
