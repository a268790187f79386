"""LoRA adapters as matrices for the engine, read from the folders that PEFT writes."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from reflectory.errors import ModelError
from reflectory.models.engine.projection import LowRank

_KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")

_PLAIN_SETTINGS = {
    "use_dora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "lora_bias": False,
    "bias": "none",
    "layer_replication": None,
    "target_parameters": None,
}
"""Settings of PEFT, and the values with which LoRA is the two matrices and nothing else."""


_HARMLESS_BEGINNINGS = {"gaussian", "eva", "orthogonal"}

_HARMLESS = {
    # Where it comes from, and where its matrices lie, which the file says itself.
    "peft_type",
    "peft_version",
    "task_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    # What the scale is made of, and how training began and went.
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "lora_dropout",
    "init_lora_weights",
    "eva_config",
    # Defaults of variants that are switched on by another setting.
    "megatron_core",
    "qalora_group_size",
}
"""Settings that leave LoRA what it is; any other that is set may be one of its variants."""


def is_plain_lora(config: dict[str, Any]) -> bool:
    """Return whether an adapter is nothing but a pair of matrices per linear layer.

    Args:
        config: What adapter_config.json holds.
    """
    special = any(config.get(k, plain) not in (plain, []) for k, plain in _PLAIN_SETTINGS.items())
    begun = config.get("init_lora_weights")
    # Other ways to begin change the weights of the base as well.
    special = special or (isinstance(begun, str) and begun not in _HARMLESS_BEGINNINGS)
    special = special or any(
        value and name not in _HARMLESS and name not in _PLAIN_SETTINGS
        for name, value in config.items()
    )
    return config.get("peft_type") == "LORA" and not special


def read_lora(
    weights: Path, config: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> dict[str, LowRank] | None:
    """Return the matrices of an adapter by layer, the scale multiplied in.

    Args:
        weights: The safetensors file.
        config: What adapter_config.json holds; :func:`is_plain_lora` is true of it.
        dtype: Wanted number format.
        device: Wanted place.

    Returns:
        ``None`` when the file holds something besides matrices of linear layers.

    Raises:
        ModelError: The two matrices of a layer do not belong together, or their scale
            cannot be read.
    """
    tensors = load_file(weights)
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            return None
        found.setdefault(match["layer"], {})[match["side"]] = tensor
    layers = {}
    for layer, sides in found.items():
        if len(sides) < 2 or sides["A"].ndim != 2 or len(sides["A"]) != sides["B"].shape[-1]:
            raise ModelError(
                f"the adapter {weights.parent} lacks its pair of matrices for {layer}",
                hint="train the adapter again, or copy its files again",
            )
        down, up = sides["A"].float(), sides["B"].float()
        try:
            scale = _scale(layer, len(down), config)
        except (TypeError, ValueError, AttributeError, re.error) as error:
            raise ModelError(
                f"the scale of the adapter {weights.parent} cannot be read: {error}",
                hint="correct lora_alpha and alpha_pattern in adapter_config.json",
            ) from error
        layers[layer] = LowRank(
            down.to(device=device, dtype=dtype), (up * scale).to(device=device, dtype=dtype)
        )
    return layers


def _scale(layer: str, rank: int, config: dict[str, Any]) -> float:
    """Return alpha over rank, or over its root with rank-stabilised LoRA."""
    alpha = float(config.get("lora_alpha", 8))
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        # As PEFT reads its patterns: the end of the layer's name.
        if re.match(rf"(.*\.)?({pattern})$", layer):
            alpha = float(value)
            break
    if not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
