"""From base and adapter to a folder that other programs run.

torch, transformers, peft and gguf are imported when :func:`export_student` is called.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.errors import StorageError, UserError
from reflectory.training.export.card import export_card
from reflectory.training.export.licence import UNKNOWN, copy_licence_texts, licence_of
from reflectory.training.export.manifest import (
    CARD_FILE,
    MANIFEST_FILE,
    NUMBER_FORMATS,
    ExportFormat,
    ExportManifest,
    NumberFormat,
)
from reflectory.training.lineage import MANIFEST_FILE as LINEAGE_FILE
from reflectory.training.lineage import file_sha256, library_versions, read_adapter_manifest
from reflectory.training.staging import staged_folder

if TYPE_CHECKING:
    from reflectory.models.adapter_files import AdapterFiles
    from reflectory.training.export.merging import Student

_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}
"""Bytes per weight; q8_0 has a scale of two bytes for every 32."""


def export_student(
    base: str | Path,
    adapter: str | Path | None,
    output: str | Path,
    *,
    format: ExportFormat = "merged",
    number_format: NumberFormat | None = None,
    name: str | None = None,
    licence: str | None = None,
) -> ExportManifest:
    """Write a student as files; ``output`` appears whole or not at all.

    ``merged`` is a model folder for transformers and for ``local:FOLDER``. ``gguf`` is
    one file for llama.cpp, ``ollama`` the same with a Modelfile, ``adapter-gguf`` the
    LoRA adapter alone, which llama.cpp adds to a GGUF file of the base. The merge takes
    about eight bytes of memory per parameter at its peak (measured: 1.1 GB for 135 million).

    Args:
        base: Folder or hub id of the base model; it is read and never changed.
        adapter: Folder of its adapter; ``None`` exports the base itself.
        output: Folder for the result; an earlier export there is replaced.
        format: ``merged``, ``gguf``, ``ollama`` or ``adapter-gguf``.
        number_format: ``f32``, ``f16``, ``bf16`` or, in GGUF files of models, ``q8_0``;
            by default bf16 for ``merged``, f32 for ``adapter-gguf``, else f16.
        name: What to call the student; made from base and adapter when not given.
        licence: Licence of the base, where its card does not say it.

    Returns:
        What was written, with the sha256 of every file.

    Raises:
        UserError: Format and number format do not go together, or ``output`` holds
            something else.
        ModelError: Base or adapter cannot be loaded, do not belong together (the message
            names both fingerprints), or have weights that are not numbers.
        UnsupportedCapability: The adapter cannot be merged, or the format does not know
            this architecture, its vocabulary or its chat template.
        StorageError: The disk is full or the folder cannot be written.
    """
    stored = _checked(format, number_format)
    if format == "adapter-gguf" and adapter is None:
        raise UserError("there is no adapter to export", hint="name the adapter's folder")
    from reflectory.training.export.merging import merged_student

    # Refused before minutes of merging: a folder that must not be replaced, a full disk.
    with staged_folder(output, marker=MANIFEST_FILE) as staging:
        if format == "adapter-gguf" and adapter is not None:
            from reflectory.training.export.gguf_adapter import checked_adapter, write_gguf_adapter

            student = checked_adapter(base, adapter)
            called = name or _name_of(student)
            agreement = licence or licence_of(student.folder)
            parameters = write_gguf_adapter(
                student, staging / f"{_slug(called)}-lora.{stored}.gguf", stored, name=called
            )
        else:
            student = merged_student(base, adapter)
            called = name or _name_of(student)
            agreement = licence or licence_of(student.folder)
            parameters = sum(p.numel() for p in student.model.parameters())
            _require_space(staging, int(parameters * _BYTES[stored]))
            if format == "merged":
                _write_merged(student, staging, stored)
            else:
                _write_gguf(student, staging, format, stored, called, agreement)
        copy_licence_texts(student.folder, staging)
        return _finish(student, staging, format, stored, called, agreement, parameters)


def _checked(format: ExportFormat, number_format: NumberFormat | None) -> NumberFormat:
    known = NUMBER_FORMATS.get(format)
    if known is None:
        raise UserError(
            f"unknown export format {format!r}", hint=f"choose one of {', '.join(NUMBER_FORMATS)}"
        )
    if number_format is not None and number_format not in known:
        raise UserError(
            f"{format} cannot store {number_format}", hint=f"choose one of {', '.join(known)}"
        )
    return number_format or known[0]


def _name_of(student: Student) -> str:
    if student.adapter is None:
        return student.base_name
    return f"{student.base_name}-{student.adapter.folder.name}"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "student"


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the export needs {needed / 1e6:.0f} MB in {folder.parent}, {free / 1e6:.0f} MB "
            "are free",
            hint="free some space, choose another disk, or a smaller number format",
        )


def _write_merged(student: Student, folder: Path, stored: NumberFormat) -> None:
    """Write a model folder as transformers does, with tokenizer and chat template."""
    import torch
    from safetensors import SafetensorError

    from reflectory.models.quiet import no_progress_bars
    from reflectory.training.export.merging import check_finite

    formats = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    model = student.model.to(formats[stored])
    # float16 ends at 65504: a larger weight became infinite just now.
    check_finite(model, f"the student in {stored}")
    try:
        with no_progress_bars():
            model.save_pretrained(folder)
    except SafetensorError as error:
        raise StorageError(
            f"cannot write the merged weights: {error}", hint="free some space on the disk"
        ) from error
    try:
        student.tokenizer.save_pretrained(folder)
    except Exception as error:  # the class that the library tokenizers raises
        if "os error" not in str(error):
            raise
        raise StorageError(
            f"cannot write the tokenizer: {error}", hint="free some space on the disk"
        ) from error


def _write_gguf(
    student: Student,
    folder: Path,
    format: ExportFormat,
    stored: NumberFormat,
    name: str,
    licence: str,
) -> None:
    from reflectory.training.export.gguf_file import write_gguf
    from reflectory.training.export.modelfile import modelfile

    file = f"{_slug(name)}.{stored}.gguf"
    known = "" if licence == UNKNOWN else licence
    if format == "ollama":  # before the large file: it may refuse the chat template
        context = int(student.model.config.max_position_embeddings)
        text = modelfile(student.tokenizer, file, context_window=context, licence=known)
        (folder / "Modelfile").write_text(text, encoding="utf-8")
    write_gguf(student, folder / file, stored, name=name, licence=known)


def _finish(
    student: Student,
    folder: Path,
    format: ExportFormat,
    stored: NumberFormat,
    name: str,
    licence: str,
    parameters: int,
) -> ExportManifest:
    """Write card and manifest beside what is there already."""
    facts: dict[str, Any] = {
        "name": name,
        "format": format,
        "number_format": stored,
        "base_name": student.base_name,
        "base_fingerprint": student.fingerprint,
        "licence": licence,
        "parameters": parameters,
        "versions": library_versions(),
    }
    if student.adapter is not None:
        facts["adapter_digest"] = student.adapter.digest
        facts["adapter_sha256"] = file_sha256(student.adapter.weights)
        facts["lineage"] = _lineage(student.adapter)
    manifest = ExportManifest(**facts, files=_hashes(folder))
    (folder / CARD_FILE).write_text(export_card(manifest), encoding="utf-8")
    manifest = ExportManifest(**facts, files=_hashes(folder))
    text = manifest.model_dump_json(indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes files that nobody else can read
    return manifest


def _lineage(adapter: AdapterFiles) -> dict[str, Any] | None:
    if not (adapter.folder / LINEAGE_FILE).is_file():
        return None
    return read_adapter_manifest(adapter.folder).model_dump(mode="json")


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
