"""What an export holds: the record beside its files, and the check against it.

Nothing heavy is imported here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from reflectory.config import problems_of
from reflectory.errors import IntegrityError, ModelError
from reflectory.training.lineage import file_sha256
from reflectory.types import Record

SCHEMA_VERSION = 1
MANIFEST_FILE = "reflectory-export.json"
CARD_FILE = "README.md"

ExportFormat = Literal["merged", "gguf", "ollama", "adapter-gguf"]
NumberFormat = Literal["f32", "f16", "bf16", "q8_0"]

NUMBER_FORMATS: dict[ExportFormat, tuple[NumberFormat, ...]] = {
    "merged": ("bf16", "f16", "f32"),
    "gguf": ("f16", "bf16", "f32", "q8_0"),
    "ollama": ("f16", "bf16", "f32", "q8_0"),
    "adapter-gguf": ("f32", "f16"),
}
"""What each format can store; the first one is its default."""


class ExportManifest(Record):
    """What was exported and where it came from; the content of ``reflectory-export.json``.

    It holds no clock reading and no path, so the same student gives the same bytes.

    Attributes:
        schema_version: Version of this layout.
        name: What the exported student is called.
        format: ``merged``, ``gguf``, ``ollama`` or ``adapter-gguf``.
        number_format: How the weights are stored.
        base_name: Name of the base model.
        base_fingerprint: Its fingerprint as the merge read it (in float32).
        adapter_digest: Hash of the adapter's weights and settings; empty for a base
            that was exported without one.
        adapter_sha256: Of the adapter's weights; empty likewise.
        lineage: What stood in the adapter's ``reflectory.json``; ``None`` for an
            adapter that something else trained.
        licence: Licence of the base model, ``unknown`` where nothing says it.
        parameters: Parameters that were written.
        files: sha256 of every other file of the folder, by its name.
        versions: Of the libraries that wrote it.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    format: ExportFormat
    number_format: NumberFormat
    base_name: str
    base_fingerprint: str
    adapter_digest: str = ""
    adapter_sha256: str = ""
    lineage: dict[str, Any] | None = None
    licence: str = "unknown"
    parameters: int
    files: dict[str, str]
    versions: dict[str, str]


def read_export_manifest(folder: str | Path) -> ExportManifest:
    """Read what an export says of itself; its files are not looked at.

    Raises:
        ModelError: The folder holds no export, or one that cannot be read.
    """
    file = Path(folder) / MANIFEST_FILE
    hint = "export the student again"
    try:
        data: Any = json.loads(file.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{folder} is no exported student: {error.strerror or error}",
            hint="pass the folder that `reflectory export` wrote",
        ) from error
    except ValueError as error:
        raise ModelError(f"{file} is damaged: {error}", hint=hint) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ModelError(
            f"{file} has schema version {version}, known up to {SCHEMA_VERSION}",
            hint="upgrade reflectory to read it",
        )
    try:
        return ExportManifest.model_validate(data)
    except ValidationError as error:
        raise ModelError(
            f"{file} is damaged: {'; '.join(problems_of(error))}", hint=hint
        ) from error


def check_export(folder: str | Path) -> ExportManifest:
    """Read an export's record and compare every file with its sha256.

    Raises:
        ModelError: The folder holds no export, or one that cannot be read.
        IntegrityError: A file is missing or is another one.
    """
    manifest = read_export_manifest(folder)
    for name, expected in manifest.files.items():
        file = Path(folder) / name
        if not file.is_file():
            raise IntegrityError(
                f"the export {folder} lacks its file {name}", hint="export the student again"
            )
        if file_sha256(file) != expected:
            raise IntegrityError(
                f"{file} was changed or damaged after the export",
                hint="export the student again",
            )
    return manifest
