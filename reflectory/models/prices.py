"""What models cost: prices as data, from the package and from a file of the user's own.

A price that nobody named is unknown, which is not the same as zero. Models that run in this
process cost nothing, because nobody is paid for a call of theirs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator

from reflectory.errors import UserError
from reflectory.models.protocol import Model, Usage
from reflectory.types import Record

_MILLION = 1_000_000
_ADAPTER = re.compile(r"\+adapter@\w+$")
_SETTINGS = re.compile(r"@\w+$")
_DATED = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2})$")
_IN_THIS_PROCESS = ("reflectory.models.local", "reflectory.models.vllm", "reflectory.testing.")
_ADDRESSES = {
    "openai": ("OPENAI_API_BASE", "OPENAI_BASE_URL"),
    "anthropic": ("ANTHROPIC_BASE_URL",),
}
"""Variables that lead a provider's package to another server, by provider."""


class Price(Record):
    """What a model asks, in US dollars per million tokens.

    Attributes:
        input: For tokens that it reads.
        output: For tokens that it writes, thinking included.
        cached_input: For tokens read that the provider had kept; ``None`` for ``input``.
        source: Where the price was read.
        date: When, as an ISO 8601 date.
    """

    input: float = Field(ge=0.0, allow_inf_nan=False)
    output: float = Field(ge=0.0, allow_inf_nan=False)
    cached_input: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    source: str = ""
    date: str = ""

    @field_validator("date", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, date) else value  # as YAML reads it

    def of(self, usage: Usage) -> float:
        """Return what a call cost, in US dollars."""
        cached = self.input if self.cached_input is None else self.cached_input
        reused = min(usage.reused_tokens, usage.prompt_tokens)
        read = (usage.prompt_tokens - reused) * self.input + reused * cached
        return (read + usage.completion_tokens * self.output) / _MILLION


FREE = Price(input=0.0, output=0.0, source="runs in this process")


class PriceList:
    """Prices by model.

    Names are those of the configuration (``openai:gpt-4o-mini``), with or without the date
    that providers put behind them, or the fingerprint of a model that was handed over.

    Args:
        own: Prices that go before the packaged ones.
    """

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        self._own = dict(own or {})
        self._packaged = _read((files("reflectory.models") / "prices.yaml").read_text("utf-8"), "")
        self._known: dict[str, Price | None] = {}

    @classmethod
    def load(cls, path: str | Path | None = None) -> PriceList:
        """Read a file of the user's own; ``None`` for the packaged prices alone.

        Raises:
            UserError: The file cannot be read, or an entry in it is no price.
        """
        if path is None:
            return cls()
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"cannot read the prices {file}: {error}", hint="see docs/budget.md for an example"
            ) from error
        return cls(_read(text, str(file)))

    def know(self, model: Model, named: Any) -> None:
        """Remember what a model was called, so that its calls can be priced later.

        Args:
            model: The live model.
            named: A name of the configuration, or the object that was handed over.
        """
        self._known[_bare(model.fingerprint)] = self._find(model, named)

    def tell(self, fingerprint: str, price: Price | None) -> None:
        """Take over what another process found out about a model's price."""
        self._known[_bare(fingerprint)] = price

    def of(self, fingerprint: str) -> Price | None:
        """Return the price of a model by its fingerprint, or ``None`` when it is unknown.

        An adapter does not change it.
        """
        bare = _bare(fingerprint)
        if bare in self._known:
            return self._known[bare]
        return self._listed(self._own, _SETTINGS.sub("", bare), bare)

    def named(self, name: str) -> Price | None:
        """Return the price of a name of the configuration, or ``None`` when it is unknown."""
        if name in self._own or _DATED.sub("", name) in self._own:
            return self._listed(self._own, name)
        kind = name.partition(":")[0]
        if kind in {"local", "vllm"}:
            return FREE
        # What stands under a provider's name on another server is another model.
        return None if _is_elsewhere(kind) else self._listed(self._packaged, name)

    def _find(self, model: Model, named: Any) -> Price | None:
        if isinstance(named, str):
            return self.named(named)
        bare = _bare(model.fingerprint)
        own = self._listed(self._own, bare, _SETTINGS.sub("", bare))
        if own is not None:
            return own
        while isinstance(inner := getattr(model, "inner", None), Model):
            model = inner
        return FREE if type(model).__module__.startswith(_IN_THIS_PROCESS) else None

    @staticmethod
    def _listed(prices: Mapping[str, Price], *names: str) -> Price | None:
        for name in names:
            for tried in (name, _DATED.sub("", name)):
                if tried in prices:
                    return prices[tried]
        return None


def _bare(fingerprint: str) -> str:
    return _ADAPTER.sub("", fingerprint)


def _is_elsewhere(provider: str) -> bool:
    addresses = (os.environ.get(name) for name in _ADDRESSES.get(provider, ()))
    hosts = [urlsplit(address).hostname or "" for address in addresses if address]
    return any(not host.endswith(f"{provider}.com") for host in hosts)


def _read(text: str, source: str) -> dict[str, Price]:
    """Return the prices of a YAML text.

    Raises:
        UserError: It is none, or an entry is no price; all of these are named.
    """
    hint = "an entry has `input` and `output`, in US dollars per million tokens; see docs/budget.md"
    try:
        data = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"the prices {source} are not YAML: {error}", hint=hint) from error
    models = data.get("models") if isinstance(data, dict) else None
    if not isinstance(models, dict):
        raise UserError(f"the prices {source} have no `models`", hint=hint)
    found: dict[str, Price] = {}
    problems: list[str] = []
    for name, entry in models.items():
        try:
            found[str(name)] = Price.model_validate(entry)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            problems.append(f"{name}: {field + ': ' if field else ''}{first['msg']}")
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UserError(f"the prices {source} have problems\n{lines}", hint=hint)
    return found
