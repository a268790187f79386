"""Where an adapter comes from: fingerprints, versions and the manifest beside it.

Nothing heavy is imported here, so that an adapter can be checked before a model
is loaded.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from reflectory.config import TrainingConfig, problems_of
from reflectory.errors import ModelError
from reflectory.types import Record

SCHEMA_VERSION = 2
MANIFEST_FILE = "reflectory.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_Manifest = TypeVar("_Manifest", bound=Record)
_LIBRARIES = ("reflectory", "torch", "transformers", "trl", "peft")


class StageRecord(Record):
    """What one objective did.

    Attributes:
        objective: ``sft`` (Equation 6) or ``dpo`` (Equation 12).
        steps: Optimiser steps.
        gradient_norms: Length of the gradient of every step, before it was cut.
        checks: Step and loss of every measurement on what was held back.
        best_step: Step whose weights were kept.
    """

    objective: Literal["sft", "dpo"]
    steps: int
    gradient_norms: tuple[float, ...] = ()
    checks: tuple[tuple[int, float], ...] = ()
    best_step: int


class AdapterManifest(Record):
    """What an adapter is and came from; the content of ``reflectory.json``.

    It holds no clock reading and no path, so equal training gives equal bytes.

    Attributes:
        schema_version: Version of this layout.
        base_name: Name of the base model.
        base_fingerprint: Fingerprint of the base model (NAME@HASH/DTYPE), which the local
            engine compares before it loads the adapter.
        weights_sha256: Of the adapter's weights.
        rows_sha256: Of the data set that holds exactly these rows.
        rows: Rows that were trained on.
        rows_shortened: Of them, those whose prompt lost its beginning.
        rows_too_long: Rows left out because they exceed the length.
        trajectories: Number of trajectories behind the rows.
        kinds: Rows by what they come from.
        config: Hyperparameters, the seed among them.
        steps: Optimiser steps.
        losses: Loss of every step, before its update: by Equation 6, then by Equation 12
            where both objectives were trained.
        target_tokens: Tokens that were learnt in one pass.
        tokens: All tokens of one pass.
        trainable_parameters: Parameters of the adapter.
        total_parameters: Those of base and adapter together.
        device: Kind of device.
        dtype: Number format of the base weights; the adapter's are float32.
        versions: Of the libraries that decide the outcome.
        preferences: Pairs that were trained on.
        preferences_sha256: Of the data set that holds exactly these pairs; empty for none.
        held_back: Rows and pairs that were measured and not learnt.
        stages: What each objective did, in order.
        parent_sha256: Of the weights of the adapter that training started from; ``None``
            for a fresh one.
        teacher: Fingerprint of the model whose distributions were learnt besides.
        commit: Commit of the working copy that the code lies in, with ``-dirty`` on
            changes; ``None`` for an installed package.
        processes: How many processes trained together.
    """

    schema_version: int = SCHEMA_VERSION
    base_name: str
    base_fingerprint: str
    weights_sha256: str
    rows_sha256: str
    rows: int
    rows_shortened: int
    rows_too_long: int
    trajectories: int
    kinds: dict[str, int]
    config: TrainingConfig
    steps: int
    losses: tuple[float, ...]
    target_tokens: int
    tokens: int
    trainable_parameters: int
    total_parameters: int
    device: str
    dtype: str
    versions: dict[str, str]
    preferences: int = 0
    preferences_sha256: str = ""
    held_back: int = 0
    stages: tuple[StageRecord, ...] = ()
    parent_sha256: str | None = None
    teacher: str | None = None
    commit: str | None = None
    processes: int = 1

    @property
    def seed(self) -> int:
        """Seed of initialisation and order."""
        return self.config.seed

    @property
    def trainable_fraction(self) -> float:
        """Share of parameters that is trained (Equation 8), in (0, 1)."""
        return self.trainable_parameters / self.total_parameters


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide how training comes out."""
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def read_adapter_manifest(folder: str | Path) -> AdapterManifest:
    """Read the manifest of an adapter that reflectory trained.

    Raises:
        ModelError: The folder has none, or one that cannot be read.
    """
    return read_manifest_file(
        Path(folder) / MANIFEST_FILE,
        AdapterManifest,
        version=SCHEMA_VERSION,
        missing="is no adapter that reflectory trained",
        writer="reflectory train",
        again="train the adapter again",
    )


def read_manifest_file(
    file: Path, kind: type[_Manifest], *, version: int, missing: str, writer: str, again: str
) -> _Manifest:
    """Read the record beside a model's files.

    Args:
        file: The JSON file.
        kind: What it holds.
        version: The newest ``schema_version`` that is known.
        missing: What a folder without it is not, for the error.
        writer: The command that writes such folders.
        again: What helps when it is damaged.

    Raises:
        ModelError: It is missing, damaged, or of a newer version.
    """
    try:
        data: Any = json.loads(file.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{file.parent} {missing}: {error.strerror or error}",
            hint=f"pass the folder that `{writer}` wrote",
        ) from error
    except ValueError as error:
        raise ModelError(f"{file} is damaged: {error}", hint=again) from error
    found = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(found, int) and found > version:
        raise ModelError(
            f"{file} has schema version {found}, known up to {version}",
            hint="upgrade reflectory to read it",
        )
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise ModelError(
            f"{file} is damaged: {'; '.join(problems_of(error))}", hint=again
        ) from error
