"""What all parts of the configuration share: frozen, strict, every problem at once."""

from __future__ import annotations

from difflib import get_close_matches
from reprlib import Repr
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reflectory.config.checkpoints import without_passwords
from reflectory.errors import ConfigError

Unit = Annotated[float, Field(ge=0.0, le=1.0)]

_SHOWN = 400
_REPR = Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _SHOWN
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 12
_REPR.maxlevel = 3


def problems_of(error: ValidationError, model: type[BaseModel] | None = None) -> list[str]:
    """Return one readable line per problem of a pydantic error.

    Args:
        error: What pydantic raised.
        model: What was validated; for a field that there is not, the one like it is named.
    """
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in item["loc"]) or "configuration"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            like = _like(model, item["loc"])
            fields = "docs/configuration.md for those there are"
            message = f"there is no such field; see {fields}"
            if like is not None:
                message = f"there is no such field; did you mean {like}? See {fields}"
        given = (
            ""
            if item["type"] in {"missing", "extra_forbidden"}
            else f" (got {_shown(item['input'])})"
        )
        lines.append(without_passwords(f"{field}: {message}{given}")[:_SHOWN])
    return lines


def _like(model: type[BaseModel] | None, place: tuple[int | str, ...]) -> str | None:
    """Return the field that is spelled most like one that there is not, if one is."""
    *parents, name = place
    for parent in parents:
        field = model.model_fields.get(str(parent)) if model is not None else None
        inner = None if field is None else field.annotation
        # Within lists and unions it would have to be guessed which model was meant.
        model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    fields = list(model.model_fields) if model is not None else []
    whole = [field for field in fields if str(name) in field.split("_", 1)[1:]]
    return next(iter(whole or get_close_matches(str(name), fields, n=1, cutoff=0.8)), None)


def _shown(value: Any) -> str:
    """Return a value as it is written, cut short: ten lines of YAML can name a billion texts."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number with thousands of digits"


class Settings(BaseModel):
    """Base of all parts of the configuration: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ConfigError(problems_of(error, type(self)), source=type(self).__name__) from error

    # Nested parts are validated by pydantic's core and not through this
    # constructor, so that the problems of all parts arrive in one error.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _numbers_that_files_hold(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(f"{name} must be below 2 to the power of 63")
        return self
