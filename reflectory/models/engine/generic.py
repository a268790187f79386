"""Any transformers model with full attention, through its own forward pass.

The model hands queries, keys and values of packed tokens to an attention function
that is registered here, and that passes them on to the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from reflectory.models.engine.llama import fused, shape_of
from reflectory.models.engine.network import Attend, Shape, VirtualTokens
from reflectory.models.engine.projection import LowRank, Projection, Slice
from reflectory.models.engine.virtual import read_vectors

NAME = "reflectory_packed"
"""Name of this attention among those of transformers."""


class _Current:
    """The adapters of the pass that is running, for the layers."""

    slices: Sequence[Slice] = ()


class _AdaptedLinear(torch.nn.Module):  # type: ignore[misc]
    """Stands in for a linear layer of the model."""

    def __init__(self, projection: Projection, current: _Current) -> None:
        super().__init__()
        self.projection = projection
        self._current = current

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for (1, tokens, inputs) or (tokens, inputs)."""
        flat = x.reshape(-1, x.shape[-1])
        return self.projection(flat, self._current.slices).view(*x.shape[:-1], -1)


class GenericNetwork:
    """A transformers model; it is changed in place and belongs to the engine from then on.

    Args:
        model: A causal language model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._current = _Current()
        self._projections: list[Projection] = []
        self._before = model.config._attn_implementation
        self.shape: Shape = replace(shape_of(model), dtype=model.dtype)
        self._places: list[tuple[Any, str, Any, Any]] = []
        self.take()

    def take(self) -> None:
        """Put the engine's attention and layers into the model."""
        self._model.set_attn_implementation(NAME)
        for parent, name, _, adapted in self._places:
            setattr(parent, name, adapted)

    def release(self) -> None:
        """Give the model its own attention and layers back."""
        self._model.set_attn_implementation(self._before)
        for parent, name, linear, _ in self._places:
            setattr(parent, name, linear)

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        attend: Attend,
        keep: torch.Tensor,
        slices: Sequence[Slice],
    ) -> torch.Tensor:
        """Return logits of the kept tokens, as :class:`Network` asks."""
        self._current.slices = slices
        # A model cannot keep no logits at all; the first token's are thrown away.
        wanted = keep if len(keep) else keep.new_zeros(1)
        given = "inputs_embeds" if ids.is_floating_point() else "input_ids"
        output = self._model(
            **{given: ids[None]},
            position_ids=positions[None],
            use_cache=False,
            logits_to_keep=wanted,
            packed_attend=attend,
        )
        logits: torch.Tensor = output.logits[0, : len(keep)]
        return logits

    @property
    def layer_names(self) -> frozenset[str]:
        """Names of the layers that can have an adapter."""
        self._open()
        return frozenset(name for p in self._projections for name in p.names)

    def add_adapter(self, name: str, layers: Mapping[str, LowRank]) -> None:
        """Make an adapter known by its matrices, by layer name."""
        self._open()
        for projection in self._projections:
            projection.add_adapter(name, layers)

    def drop_adapter(self, name: str) -> None:
        """Forget an adapter."""
        for projection in self._projections:
            projection.drop_adapter(name)

    def virtual_kv(self, tokens: VirtualTokens) -> list[torch.Tensor]:
        """Return keys and values of virtual tokens, per layer."""
        if tokens.vectors is not None:
            return read_vectors(self, tokens.vectors)
        return list(tokens.kv or ())

    def _open(self) -> None:
        """Put a layer that knows adapters in the place of each linear one, once."""
        if self._projections:
            return
        found = [
            (parent, path, name)
            for path, parent in self._model.named_modules()
            for name, child in parent.named_children()
            if isinstance(child, torch.nn.Linear) and name != "lm_head"
        ]
        for parent, path, name in found:
            projection = fused(parent, path, (name,))
            self._projections.append(projection)
            adapted = _AdaptedLinear(projection, self._current)
            self._places.append((parent, name, getattr(parent, name), adapted))
            setattr(parent, name, adapted)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packed_attend: Attend | None = None,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Hand one layer's packed tokens to the engine.

    Args:
        module: The attention layer; its ``layer_idx`` says which.
        query: Shape (1, heads, tokens, width).
        key: Shape (1, key-value heads, tokens, width).
        value: The same shape.
        attention_mask: Not used: the engine knows what each token sees.
        packed_attend: The engine's attention.
        scaling: Factor on the scores, which must be the usual one.
        rest: Must not name a window, a cap or sinks.

    Returns:
        Shape (1, tokens, heads, width), and no weights.

    Raises:
        ValueError: The layer's attention is not the plain one.
    """
    del attention_mask
    special = [k for k in ("sliding_window", "softcap", "s_aux") if rest.get(k) is not None]
    if packed_attend is None or special:
        raise ValueError(f"not plain attention over packed tokens: {', '.join(special)}")
    usual = query.shape[-1] ** -0.5
    if scaling is not None and scaling != usual:
        query = query * (scaling / usual)
    kv = torch.stack((key[0].transpose(0, 1), value[0].transpose(0, 1)), dim=1)
    out = packed_attend(int(getattr(module, "layer_idx")), query[0].transpose(0, 1), kv)  # noqa: B009
    return out.view(1, len(kv), query.shape[1], -1), None


def _no_mask(*args: Any, **given: Any) -> None:
    return None


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, _no_mask)
