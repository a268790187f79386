"""How an architecture lies in a GGUF file: names, order of rows, number formats.

The reverse of what transformers does when it reads such a file. Importing this
module imports torch, transformers and gguf.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Quantization

from reflectory.errors import ModelError, UnsupportedCapability
from reflectory.training.export.manifest import NumberFormat

CONVERTER = "llama.cpp's convert_hf_to_gguf.py"

QUANTIZATIONS: dict[NumberFormat, Quantization] = {
    "f32": Quantization.F32,
    "f16": Quantization.F16,
    "bf16": Quantization.BF16,
    "q8_0": Quantization.Q8_0,
}
FILE_TYPES: dict[NumberFormat, gguf.LlamaFileType] = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


@dataclass(frozen=True)
class Family:
    """Models that llama.cpp computes alike.

    Attributes:
        architecture: llama.cpp's name for them.
        interleaved: Whether llama.cpp turns neighbouring pairs of a head's rows (as the
            first Llama did) where transformers turns the first half against the second,
            so that the rows of queries and keys change their order.
        biases: Whether the projections of attention may have biases.
    """

    architecture: gguf.MODEL_ARCH
    interleaved: bool
    biases: bool


FAMILIES = {
    "llama": Family(gguf.MODEL_ARCH.LLAMA, interleaved=True, biases=False),
    "qwen2": Family(gguf.MODEL_ARCH.QWEN2, interleaved=False, biases=True),
    "qwen3": Family(gguf.MODEL_ARCH.QWEN3, interleaved=False, biases=False),
}
"""By ``model_type`` of transformers."""


def family_of(config: Any) -> Family:
    """Return the family of a model.

    Args:
        config: The transformers configuration.

    Raises:
        UnsupportedCapability: It is none of those that are written here.
    """
    kind = str(config.model_type)
    if kind not in FAMILIES:
        raise UnsupportedCapability(
            f"GGUF files are written here for {', '.join(FAMILIES)}, this model is a {kind}",
            hint=f"export it as merged and convert that folder with {CONVERTER}",
        )
    if getattr(config, "use_sliding_window", False):
        raise UnsupportedCapability(
            f"this {kind} uses a sliding window, which the GGUF file would not say",
            hint=f"export it as merged and convert that folder with {CONVERTER}",
        )
    return FAMILIES[kind]


@dataclass(frozen=True)
class Tensor:
    """One tensor on its way into the file.

    Attributes:
        name: Its name in the file.
        weights: Float32, rows as the file has them; shape (out, in) or (out,).
        quantization: How it is stored.
    """

    name: str
    weights: torch.Tensor
    quantization: Quantization

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of what :meth:`stored` returns; bytes for formats without a numpy type."""
        shape = tuple(self.weights.shape)
        if self.quantization in (Quantization.F32, Quantization.F16):
            return shape
        return tuple(gguf.quant_shape_to_byte_shape(shape, self.quantization))

    @property
    def stored_type(self) -> np.dtype[Any]:
        """Numpy type of what :meth:`stored` returns."""
        plain = {Quantization.F32: np.float32, Quantization.F16: np.float16}
        return np.dtype(plain.get(self.quantization, np.uint8))

    def stored(self) -> np.ndarray:
        """Return the weights as they are written.

        Raises:
            ModelError: A weight is too large for float16.
        """
        array = self.weights.detach().to(torch.float32).contiguous().numpy()
        with np.errstate(over="ignore"):
            result: np.ndarray = gguf.quants.quantize(array, self.quantization)
        if self.quantization == Quantization.F16 and not np.isfinite(result).all():
            raise ModelError(
                f"{self.name} has weights beyond 65504, the largest number of float16",
                hint="export with the number format f32 or bf16",
            )
        return result


def tensors_of(model: Any, stored: NumberFormat, *, tied: bool) -> Iterator[Tensor]:
    """Yield the tensors of a model as the file has them, one at a time.

    Args:
        model: A causal language model of a known family, in float32.
        stored: Number format of the matrices; vectors stay float32, as llama.cpp wants.
        tied: Whether the output projection is the embedding, which is written once.

    Raises:
        UnsupportedCapability: The model has a tensor that the file has no name for.
    """
    family = family_of(model.config)
    names = gguf.get_tensor_name_map(family.architecture, model.config.num_hidden_layers)
    for key, weights in model.state_dict().items():
        if key == "lm_head.weight" and tied:
            continue
        name = gguf_name(names, key, family)
        yield Tensor(
            name, reordered(weights, key, family, model.config), _quantization(weights, stored)
        )


def gguf_name(names: gguf.TensorNameMap, key: str, family: Family) -> str:
    """Return the name that a tensor of transformers has in the file.

    Raises:
        UnsupportedCapability: It has none.
    """
    name = names.get_name(key, try_suffixes=(".weight", ".bias"))
    if name is None or (key.endswith(".bias") and not family.biases):
        raise UnsupportedCapability(
            f"the model has the tensor {key}, for which GGUF files of this family have no place",
            hint=f"export it as merged and convert that folder with {CONVERTER}",
        )
    return str(name)


def reordered(weights: torch.Tensor, key: str, family: Family, config: Any) -> torch.Tensor:
    """Return a tensor with its rows in the order of the file.

    Args:
        weights: Shape (out, ...) of any tensor.
        key: Its name in transformers, or one that contains the layer's.
        family: Of the model.
        config: The model's configuration.
    """
    heads = {
        ".q_proj.": config.num_attention_heads,
        ".k_proj.": config.num_key_value_heads,
    }
    count = next((number for part, number in heads.items() if part in key), None)
    if count is None or not family.interleaved:
        return weights
    rest = weights.shape[1:]
    halves = weights.reshape(count, 2, weights.shape[0] // count // 2, *rest)
    return halves.swapaxes(1, 2).reshape(weights.shape)


def rope_factors(config: Any) -> np.ndarray | None:
    """Return by how much Llama 3 slows each frequency down, as llama.cpp reads it.

    Args:
        config: The model's configuration.

    Returns:
        Float32 of shape (head width / 2,); ``None`` for plain rotary embeddings.

    Raises:
        UnsupportedCapability: The rotary embeddings are stretched in another way.
    """
    settings = config.rope_parameters or {}
    kind = settings.get("rope_type", "default")
    if kind == "default":
        return None
    if kind != "llama3":
        raise UnsupportedCapability(
            f"rotary embeddings of the type {kind} are not written to GGUF files here",
            hint=f"export it as merged and convert that folder with {CONVERTER}",
        )
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    slowed, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    width = head_width(config)
    plain = 1.0 / settings["rope_theta"] ** (torch.arange(0, width, 2).float() / width)
    factors: np.ndarray = (plain / slowed).to(torch.float32).numpy()
    return factors


def head_width(config: Any) -> int:
    """Return the width of one attention head."""
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def _quantization(weights: torch.Tensor, stored: NumberFormat) -> Quantization:
    if weights.dim() < 2:
        return Quantization.F32
    # A block of q8_0 has 32 weights of one row; llama.cpp falls back likewise.
    if stored == "q8_0" and weights.shape[-1] % 32:
        return Quantization.F16
    return QUANTIZATIONS[stored]
