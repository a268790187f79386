"""An adapter as files: what must be there, and a hash of what it does.

Imports nothing heavy, for backends that hand the folder to somebody else.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reflectory.errors import ModelError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

_PLACES = {"base_model_name_or_path", "revision", "inference_mode", "auto_mapping"}
"""Settings that say where the base lay, not what the adapter does."""

_CODE = ("trust_remote_code", "megatron_config")
"""Settings with which PEFT or transformers import modules that the settings name."""


@dataclass(frozen=True)
class AdapterFiles:
    """A folder that PEFT saved an adapter into.

    Attributes:
        folder: Its absolute path.
        config: What adapter_config.json holds.
        digest: Hash of weights and settings, 12 hexadecimal digits, wherever the base lay.
    """

    folder: Path
    config: dict[str, Any]
    digest: str

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    @property
    def rank(self) -> int:
        """Rank of a LoRA adapter's matrices, the largest where they differ."""
        patterns = self.config.get("rank_pattern") or {}
        return max(int(self.config["r"]), *map(int, patterns.values()), 0)

    @property
    def name(self) -> str:
        """What a server calls it: the folder's name and the hash, so never another content."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.folder.name).strip("-.") or "adapter"
        return f"{plain}-{self.digest}"


def read_adapter(folder: str | Path, *, lora_only: bool = False) -> AdapterFiles:
    """Look at an adapter without loading it.

    Args:
        folder: Where PEFT saved it.
        lora_only: Refuse every other kind.

    Raises:
        ModelError: There is none, it is not LoRA, its weights are not safetensors, or its
            settings name code to be run.
    """
    path = Path(folder).expanduser().resolve()
    if not (path / CONFIG).is_file():
        raise ModelError(
            f"there is no adapter in {folder}: {CONFIG} is missing",
            hint="give the folder that `reflectory train` or PEFT's save_pretrained wrote",
        )
    if not (path / WEIGHTS).is_file():
        raise ModelError(
            f"the adapter {folder} has no {WEIGHTS}",
            hint="save it as safetensors; pickled weights are not loaded, they can run code",
        )
    hint = "train the adapter again"
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            f"the adapter {folder} cannot be read: {CONFIG} is not JSON: {error}", hint=hint
        ) from error
    if not isinstance(config, dict):
        raise ModelError(
            f"the adapter {folder} cannot be read: {CONFIG} holds no settings", hint=hint
        )
    _refuse_code(config, path)
    try:
        files = AdapterFiles(path, config, _digest(config, file_hash(path / WEIGHTS)))
        if lora_only and config["peft_type"] != "LORA":
            raise ValueError(f"its type is {config['peft_type']!r}, not LORA")
        if lora_only and files.rank < 1:
            raise ValueError("its rank is below 1")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the adapter {folder} cannot be read: {type(error).__name__}: {error}", hint=hint
        ) from error
    return files


def _refuse_code(settings: Any, folder: Path) -> None:
    """Refuse settings that make PEFT or transformers import what an adapter names.

    ``auto_mapping`` also names a module; nothing here reads it.
    """
    if isinstance(settings, list):
        for one in settings:
            _refuse_code(one, folder)
    if not isinstance(settings, dict):
        return
    for name in _CODE:
        if settings.get(name):
            raise ModelError(
                f"the adapter {folder} names code to be run ({name} in {CONFIG}), which is "
                "never done",
                hint="remove the setting if you know the adapter works without it",
            )
    for one in settings.values():
        _refuse_code(one, folder)


def file_hash(file: Path) -> str:
    """Return the sha256 of a file, computed again when its size or time changed."""
    stat = file.stat()
    return _file_hash(file, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _file_hash(file: Path, size: int, changed: int) -> str:
    del size, changed  # Part of the cache's key only.
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(config: dict[str, Any], weights: str) -> str:
    settings = {
        key: sorted(value) if key == "target_modules" and isinstance(value, list) else value
        for key, value in config.items()
        if key not in _PLACES
    }
    text = json.dumps(settings, sort_keys=True) + weights
    return hashlib.sha256(text.encode()).hexdigest()[:12]
