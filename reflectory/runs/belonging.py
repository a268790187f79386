"""What a run directory refuses: strangers, other configurations, and secrets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reflectory.config import RunConfig
from reflectory.errors import ConfigError, RunDirectoryError
from reflectory.runs.files import storage_errors
from reflectory.runs.manifest import Manifest

NEUTRAL_FIELDS = frozenset(
    {
        "budget",
        "cache",
        "candidates",
        "checkpoints",
        "cluster",
        "concurrency",
        "curation",
        "device",
        "documents",
        "evaluation",
        "improvement",
        "instructions",
        "practice",
        "remote",
        "teacher_adapter",
        "training",
        "student_adapter",
    }
)
"""Fields that may differ when a run is resumed; every other one, also one of the
future, may not. What the paths among them lead to is in the identity, by content,
so that a folder may be moved; practice, candidates, curation, training, rounds and evaluations lie
before or behind the trajectories and record what they used themselves; a budget decides how
far a run gets and not what is said in it; more instructions may join a run, because the id of
each is derived from its text and place."""

_BEFORE_MANIFEST = frozenset(
    {"config.yaml", "plan.json", "calls.sqlite", "calls.sqlite-wal", "calls.sqlite-shm"}
)
_SECRET_NAME = re.compile(r"(API_?KEY|TOKEN|SECRET|SECRET_KEY|ACCESS_KEY|PASSWORD)$")
_PASSWORD_IN_ADDRESS = re.compile(r"://[^/\s:@]+:[^/\s@]+@")


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder unless it is new, empty, or a run directory, maybe half made.

    Raises:
        RunDirectoryError: It is a file, or has files and no manifest.
        StorageError: It cannot be read.
    """
    with storage_errors(folder, "read"):
        if folder.exists() and not folder.is_dir():
            raise RunDirectoryError(f"{folder} is a file", hint="pass a folder for the run")
        if not folder.exists() or (folder / "manifest.json").exists():
            return
        names = {entry.name for entry in folder.iterdir()}
    # Hidden files are the desktop's or ours; calls are found by their content
    # only, so those of a run that was killed while it was made do no harm.
    foreign = sorted(n for n in names - _BEFORE_MANIFEST if not n.startswith("."))
    if foreign:
        raise RunDirectoryError(
            f"{folder} is not empty and no run directory: it has {', '.join(foreign[:3])} "
            "and no manifest.json",
            hint="choose a new or empty folder",
        )


def refuse_unfit(folder: Path, config: RunConfig) -> None:
    """Refuse what can be known to be wrong with a folder before documents and models are there.

    Args:
        folder: The run directory that is to be made or gone on with.
        config: The configuration now.

    Raises:
        RunDirectoryError: It is no run directory, or that of another configuration.
        StorageError: It cannot be read.
        IntegrityError: Its manifest is damaged.
    """
    refuse_foreign(folder)
    file = folder / "manifest.json"
    if file.exists():
        previous = Manifest.load(file)
        refuse_other(folder, previous, config.anchored(Path.cwd()), previous.identity)


def refuse_other(
    folder: Path, previous: Manifest, config: RunConfig, identity: Mapping[str, Any]
) -> None:
    """Refuse a run that differs from the one in the folder.

    Args:
        folder: The run directory, for the message.
        previous: Its manifest.
        config: The configuration now, with absolute paths.
        identity: What else decides the results now.

    Raises:
        RunDirectoryError: With every field that differs, and both its values.
    """
    try:
        # Fields that are newer than the run get their defaults.
        recorded = RunConfig.from_dict(previous.config).model_dump(mode="json")
    except ConfigError:
        recorded = previous.config
    old = _flat({k: v for k, v in recorded.items() if k not in NEUTRAL_FIELDS})
    asked = config.model_dump(mode="json", exclude=set(NEUTRAL_FIELDS))
    new = _flat(asked)
    old |= _flat(previous.identity, "identity.")
    new |= _flat(json.loads(json.dumps(identity)), "identity.")
    differing = [key for key in old | new if old.get(key) != new.get(key)]
    if differing:
        lines = "\n".join(
            f"  - {key}: {_shown(old, key)} there, {_shown(new, key)} now" for key in differing
        )
        raise RunDirectoryError(
            f"{folder} belongs to a run with another configuration\n{lines}",
            hint="choose another folder for this run, or make these fields the same",
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested JSON values as one level with dotted names; an empty part leaves no trace."""
    if isinstance(value, Mapping):
        items = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        items = [(str(index), part) for index, part in enumerate(value)]
    else:
        return {prefix.removesuffix("."): value}
    flat: dict[str, Any] = {}
    for name, part in items:
        flat |= _flat(part, f"{prefix}{name}.")
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "nothing"
    text = json.dumps(values[key], ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def refuse_secrets(config: RunConfig, identity: Mapping[str, Any]) -> None:
    """Refuse to write down a key of the environment, or an address with a password.

    Raises:
        RunDirectoryError: With the field that holds it, and without the secret.
    """
    fields = _flat(config.model_dump(mode="json")) | _flat(dict(identity), "identity.")
    secrets = {
        name: value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name.upper()) and len(value) >= 8
    }
    for key, value in fields.items():
        if not isinstance(value, str):
            continue
        found = next((name for name, secret in secrets.items() if secret in value), None)
        if found is None and not _PASSWORD_IN_ADDRESS.search(value):
            continue
        what = f"the value of {found}" if found else "an address with a password"
        raise RunDirectoryError(
            f"the field {key} holds {what}, which would be written into config.yaml",
            hint="take it out; providers read their keys from the environment",
        )
