"""What an export holds: the record beside its files, and the check against it.

Nothing heavy is imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from reflectory.errors import IntegrityError
from reflectory.training.lineage import file_sha256, read_manifest_file
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
    return read_manifest_file(
        Path(folder) / MANIFEST_FILE,
        ExportManifest,
        version=SCHEMA_VERSION,
        missing="is no exported student",
        writer="reflectory export",
        again="export the student again",
    )


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
