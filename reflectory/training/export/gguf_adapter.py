"""A LoRA adapter alone as a GGUF file, which llama.cpp adds to the base when it runs.

Importing this module imports torch, transformers and gguf.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import torch
from safetensors.torch import load_file

from reflectory.errors import ModelError, UnsupportedCapability
from reflectory.models.adapter_files import AdapterFiles
from reflectory.training.export.gguf_file import check_whole
from reflectory.training.export.gguf_layout import (
    QUANTIZATIONS,
    Family,
    Tensor,
    family_of,
    gguf_name,
    reordered,
)
from reflectory.training.export.manifest import NumberFormat
from reflectory.training.export.merging import Student, checked_student

_REPLACES = ("use_dora", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern")
"""Settings of PEFT's LoRA that llama.cpp's sum W + (alpha / rank) B A cannot express."""


def checked_adapter(base: str | Path, adapter: str | Path) -> Student:
    """Return a base with its adapter beside it, as one that can be written.

    Raises:
        ModelError: The two cannot be loaded or do not belong together.
        UnsupportedCapability: The adapter is not plain LoRA on linear layers.
    """
    student = checked_student(base, adapter)
    if student.adapter is not None:
        _check_plain(student.adapter)
    family_of(student.model.config)
    return student


def write_gguf_adapter(student: Student, file: Path, stored: NumberFormat, *, name: str) -> int:
    """Write the adapter.

    Args:
        student: From :func:`checked_adapter`.
        file: Where to write.
        stored: ``f32`` or ``f16``.
        name: What the file calls the adapter.

    Returns:
        Number of parameters written.

    Raises:
        ModelError: Its weights are not numbers, or too large for float16.
        UnsupportedCapability: It changes a layer that the file has no name for.
        OSError: The disk is full.
    """
    files, config = student.adapter, student.model.config
    if files is None:
        raise ModelError("there is no adapter to write", hint="name the adapter's folder")
    family = family_of(config)
    tensors = _tensors(student, files, load_file(files.weights), family, stored)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[family.architecture])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(files.config["lora_alpha"]))
    writer.add_name(name)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, student.base_name)
    for tensor in tensors:
        writer.add_tensor(tensor.name, tensor.stored())
    try:
        writer.write_header_to_file(file)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    check_whole(file)
    return sum(tensor.weights.numel() for tensor in tensors)


def _check_plain(files: AdapterFiles) -> None:
    settings = files.config
    kind = settings.get("peft_type")
    special = [name for name in _REPLACES if settings.get(name)]
    bias = settings.get("bias", "none") != "none" or settings.get("modules_to_save")
    if kind != "LORA" or special or bias:
        what = kind if kind != "LORA" else ", ".join(special) or "biases or whole modules"
        raise UnsupportedCapability(
            f"llama.cpp adds plain LoRA adapters only, {files.folder} has {what}",
            hint="export the student as gguf: there the adapter is inside the weights",
        )


def _tensors(
    student: Student,
    files: AdapterFiles,
    weights: Mapping[str, torch.Tensor],
    family: Family,
    stored: NumberFormat,
) -> list[Tensor]:
    names = gguf.get_tensor_name_map(family.architecture, student.model.config.num_hidden_layers)
    tensors = []
    for key in sorted(weights):
        if not bool(torch.isfinite(weights[key]).all()):
            raise ModelError(
                f"the adapter {files.folder} has weights that are not numbers, in {key}",
                hint="train it again with a lower learning rate",
            )
        layer, kind, _ = key.removeprefix("base_model.model.").partition(".lora_")
        side = {"lora_A": "lora_a", "lora_B": "lora_b"}.get(key.split(".")[-2])
        if not kind or side is None:
            raise UnsupportedCapability(
                f"llama.cpp has no place for {key} of the adapter {files.folder}",
                hint="export the student as gguf: there the adapter is inside the weights",
            )
        value = weights[key].to(torch.float32)
        # Only B writes rows, so only B follows the order of the file's rows.
        if side == "lora_b":
            value = reordered(value, f"{layer}.", family, student.model.config)
        name = f"{gguf_name(names, f'{layer}.weight', family)}.{side}"
        tensors.append(Tensor(name, value, QUANTIZATIONS[stored]))
    return tensors
