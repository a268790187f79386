"""What prefix tuning, prompt tuning and p-tuning put before a prompt, for the engine.

To the engine all three are the same: keys and values of a few positions before the
first token. Prefix tuning learns them (Equations 20 to 22); the vectors of the other two
stand before everything else, so that what the model makes of them never changes either
and is computed once. In the prefix tree they are tokens with numbers below zero, in the
tree of their adapter, and no other adapter's prompts ever meet them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from reflectory.models.engine.attention import attend
from reflectory.models.engine.network import Network, Shape, VirtualTokens

_VECTORS = {"PROMPT_TUNING", "P_TUNING"}
_TYPES = {"PREFIX_TUNING", *_VECTORS}


def virtual_ids(count: int) -> tuple[int, ...]:
    """Return the numbers of virtual tokens: below zero, where no real token is."""
    return tuple(range(-count, 0))


def read_virtual(weights: Path, config: dict[str, Any], shape: Shape) -> VirtualTokens | None:
    """Return the virtual tokens of an adapter.

    Args:
        weights: The safetensors file.
        config: What adapter_config.json holds.
        shape: Of the network.

    Returns:
        ``None`` when the adapter is of another kind, or not of this network's sizes.
    """
    kind = config.get("peft_type")
    if kind not in _TYPES or config.get("num_transformer_submodules") not in (None, 1):
        return None
    tensors = load_file(weights)
    if set(tensors) != {"prompt_embeddings"}:
        return None
    found = tensors["prompt_embeddings"].to(device=shape.device, dtype=shape.dtype)
    if found.ndim != 2 or len(found) != config.get("num_virtual_tokens"):
        return None
    if kind in _VECTORS:
        if found.shape[1] != shape.hidden:
            return None
        return VirtualTokens(count=len(found), vectors=found)
    if found.shape[1] != 2 * shape.layers * shape.kv_heads * shape.width:
        return None
    # PEFT lays layer after layer side by side, in each the keys of all heads, then the values.
    by_layer = found.view(len(found), shape.layers, 2, shape.kv_heads, shape.width)
    return VirtualTokens(count=len(found), kv=tuple(by_layer.unbind(dim=1)))


def read_vectors(network: Network, vectors: torch.Tensor) -> list[torch.Tensor]:
    """Return keys and values of vectors that stand at the first positions, per layer.

    Args:
        network: Whose layers read them.
        vectors: Shape (tokens, hidden size), in the network's coordinates.

    Returns:
        Shape (tokens, 2, key-value heads, width) for each layer.
    """
    shape, found = network.shape, []

    def alone(layer: int, query: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        found.append(kv.clone())
        keys, values = kv.permute(1, 2, 0, 3).repeat_interleave(shape.groups, dim=1)[:, None]
        out, _ = attend(query.transpose(0, 1)[None], keys, values, shape.scale, causal=True)
        return out[0].transpose(0, 1).reshape(len(kv), -1)

    places = torch.arange(len(vectors), device=vectors.device)
    network.forward(vectors, places, alone, places[:0], ())
    return found
