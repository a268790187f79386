"""A student as files that other programs run: merged safetensors, GGUF, or a folder for Ollama.

Importing this package loads no torch: :func:`export_student` imports it when called.
"""

from reflectory.training.export.manifest import (
    ExportFormat,
    ExportManifest,
    NumberFormat,
    check_export,
    read_export_manifest,
)
from reflectory.training.export.student import export_student

__all__ = [
    "ExportFormat",
    "ExportManifest",
    "NumberFormat",
    "check_export",
    "export_student",
    "read_export_manifest",
]
