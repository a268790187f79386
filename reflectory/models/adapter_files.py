"""A LoRA adapter as files: what must be there, and a hash of what it does.

Imports nothing heavy, for backends that hand the folder to somebody else.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class AdapterFiles:
    """A folder that PEFT saved an adapter into.

    Attributes:
        folder: Its absolute path.
        digest: Hash of weights and settings, 12 hexadecimal digits; the same as in the
            fingerprint of a local model with this adapter.
        rank: Rank of the adapter's matrices, the largest where they differ.
    """

    folder: Path
    digest: str
    rank: int

    @property
    def name(self) -> str:
        """What a server calls it: the folder's name and the hash, so never another content."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.folder.name).strip("-.") or "adapter"
        return f"{plain}-{self.digest}"


def read_adapter(folder: str | Path) -> AdapterFiles:
    """Look at an adapter without loading it.

    Raises:
        ModelError: It is no LoRA adapter, or its weights are not safetensors.
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
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        if config["peft_type"] != "LORA":
            raise ValueError(f"its type is {config['peft_type']!r}, not LORA")
        ranks = [int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())]
        with (path / WEIGHTS).open("rb") as stream:
            weights = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the adapter {folder} cannot be read: {type(error).__name__}: {error}",
            hint="train the adapter again",
        ) from error
    return AdapterFiles(path, _digest(config, weights), max(ranks))


def _digest(config: dict[str, Any], weights: str) -> str:
    settings = {
        key: sorted(value) if key == "target_modules" and isinstance(value, list) else value
        for key, value in config.items()
        if key not in _PLACES
    }
    text = json.dumps(settings, sort_keys=True) + weights
    return hashlib.sha256(text.encode()).hexdigest()[:12]
