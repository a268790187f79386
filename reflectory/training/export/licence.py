"""The licence of a base model, which everything made from it keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from reflectory.models.store import RECORD_NAME

UNKNOWN = "unknown"

_TEXTS = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*")
_DEFAULT_MODELS = {"SmolLM2-135M-Instruct": "apache-2.0"}
"""Neither the package's file nor a copy in the cache carries the model's card."""


def licence_of(folder: Path) -> str:
    """Return the licence of a model folder as its card names it, else ``unknown``.

    Args:
        folder: A model folder; its ``README.md`` begins with YAML where it came from
            the hub.
    """
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        if text.startswith("---"):
            try:
                facts = yaml.safe_load(text.split("---")[1])
            except yaml.YAMLError:
                facts = None
            if isinstance(facts, dict) and facts.get("license"):
                named = facts["license"]
                name = facts.get("license_name")
                return str(name if named == "other" and name else named)
    if (folder / RECORD_NAME).is_file():
        return _DEFAULT_MODELS.get(folder.name, UNKNOWN)
    return UNKNOWN


def copy_licence_texts(folder: Path, target: Path) -> None:
    """Copy the texts of licence and notice of a base model, where it has any."""
    for pattern in _TEXTS:
        for file in sorted(folder.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, target / file.name)
