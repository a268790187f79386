"""The Llama network in integers with compiled loops between its products.

The same network as :class:`LlamaNetwork` on :class:`QuantizedParts`, which is the
plain twin it is tested against. What a product gives stays as it is until the kernel
behind it scales it, so every number is touched once instead of five to ten times.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn import functional

from reflectory.models.engine.llama import Layer, LlamaNetwork
from reflectory.models.engine.network import Attend
from reflectory.models.engine.projection import Projection, Slice
from reflectory.models.engine.quantized import QuantizedProduct

_LOG = logging.getLogger(__name__)


def load_kernels() -> Any:
    """Return the module of compiled loops; ``None`` where it cannot be had.

    It takes numba (the extra ``fast``) and a torch whose threads are OpenMP's. What is
    installed and does not work is told as a warning.
    """
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        from reflectory.models.engine import kernels
    except Exception as error:  # noqa: BLE001 - whatever stops a compiler, torch still serves
        _LOG.warning("compiled loops cannot be used, torch's operations are: %s", error)
        return None
    return kernels


def compiled(network: LlamaNetwork) -> FusedLlama | None:
    """Return a network of integers with compiled loops; ``None`` where they do not fit.

    They are for a gate with SiLU, rotations over whole heads, and layers that are all as wide.
    """
    points = torch.linspace(-9, 9, 64)
    if not torch.allclose(network.activation(points), functional.silu(points), atol=1e-6):
        return None
    if not all(_digits(layer) == (1, 1, 1, 2) for layer in network.layers):
        return None
    # The kernels are told addresses: what they read and write has to have these sizes.
    shape, wide = network.shape, network.layers[0].gate_up.outputs
    cosine, _ = network.angles(torch.zeros(1, shape.hidden), torch.zeros(1, dtype=torch.long))
    if cosine.shape[-1] != shape.width:
        return None
    every = (shape.heads + 2 * shape.kv_heads) * shape.width
    if any((x.qkv.outputs, x.gate_up.outputs) != (every, wide) for x in network.layers):
        return None
    kernels = load_kernels()
    return None if kernels is None else FusedLlama(network, kernels)


def _digits(layer: Layer) -> tuple[int, ...]:
    """Return in how many digits the inputs of a layer's products are written; 0 for floats."""
    parts = (layer.qkv, layer.output, layer.gate_up, layer.down)
    return tuple(getattr(part.product, "digits", 0) for part in parts)


def _product(projection: Projection) -> QuantizedProduct:
    return cast(QuantizedProduct, projection.product)


@dataclass(eq=False)
class _Scratch:
    """What the kernels of one pass write into, in every layer anew.

    Attributes:
        x: Hidden states, shape (tokens, hidden size).
        angles: Cosine and sine of the positions.
        digits: Input of the next product, shape (tokens, hidden size).
        joined: The same for attention's output, shape (tokens, heads * width).
        wide: The same with two digits, shape (2 tokens, width behind the gate).
        scales: Of the rows of the last product, shape (tokens, 1).
        query: Shape (tokens, heads, width).
        kv: Shape (tokens, 2, key-value heads, width).
    """

    x: torch.Tensor
    angles: tuple[torch.Tensor, torch.Tensor]
    digits: torch.Tensor
    joined: torch.Tensor
    wide: torch.Tensor
    scales: torch.Tensor
    query: torch.Tensor
    kv: torch.Tensor


class FusedLlama(LlamaNetwork):
    """See the module.

    Attributes:
        kernels: For the attention of a pass, too.

    Args:
        network: Whose layers, all of :class:`QuantizedProduct`, are taken over.
        kernels: What :func:`load_kernels` gave.
    """

    def __init__(self, network: LlamaNetwork, kernels: Any) -> None:
        vars(self).update(vars(network))
        self.kernels = kernels

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        attend: Attend,
        keep: torch.Tensor,
        slices: Sequence[Slice],
    ) -> torch.Tensor:
        """Return logits of the kept tokens, as :class:`Network` asks."""
        x = ids.clone() if ids.is_floating_point() else functional.embedding(ids, self._embedding)
        cosine, sine = self.angles(x, positions)
        scratch = self._scratch(x, (cosine.contiguous(), sine.contiguous()))
        sums, before = None, _product(self.layers[0].down)
        for number, layer in enumerate(self.layers):
            self._absorb(sums, before, layer.qkv, scratch)
            joined = attend(number, *self._positioned(layer, scratch, slices))
            sums, before = self._behind_attention(layer, joined, scratch, slices)
        self._absorb(sums, before, self.layers[-1].gate_up, scratch)
        return self._head(x[keep])

    def _scratch(self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> _Scratch:
        shape, count = self.shape, len(x)
        inner = self.layers[0].gate_up.outputs // 2
        return _Scratch(
            x,
            angles,
            digits=x.new_empty((count, x.shape[1]), dtype=torch.uint8),
            joined=x.new_empty((count, shape.heads * shape.width), dtype=torch.uint8),
            wide=x.new_empty((2 * count, inner), dtype=torch.uint8),
            scales=x.new_empty((count, 1)),
            query=x.new_empty((count, shape.heads, shape.width)),
            kv=x.new_empty((count, 2, shape.kv_heads, shape.width)),
        )

    def _absorb(
        self,
        sums: torch.Tensor | None,
        before: QuantizedProduct,
        behind: Projection,
        scratch: _Scratch,
    ) -> None:
        """Add a product's sums to the hidden states, and round them for the next product."""
        self.kernels.absorb(
            scratch.x,
            sums,
            scratch.scales,
            before.bias,
            scratch.digits,
            scratch.scales,
            _product(behind).epsilon,
        )

    def _positioned(
        self, layer: Layer, scratch: _Scratch, slices: Sequence[Slice]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries, and keys and values, with their positions in them."""
        product, scales = _product(layer.qkv), scratch.scales
        sums = product.multiply(scratch.digits)
        layer.qkv.adapt(sums, scratch.x, slices, scales)
        heads = sums.view(len(sums), -1, self.shape.width)
        if layer.query_norm is None:
            query, kv = scratch.query, scratch.kv
            self.kernels.turn(heads, scales, product.bias, *scratch.angles, query, kv)
            return query, kv
        sums.mul_(scales).add_(product.bias)
        query, kv = self._rotated(layer, heads, *scratch.angles)
        return query.contiguous(), kv

    def _behind_attention(
        self, layer: Layer, joined: torch.Tensor, scratch: _Scratch, slices: Sequence[Slice]
    ) -> tuple[torch.Tensor, QuantizedProduct]:
        """Go on from attention's output; return the last sums of the layer and their product."""
        output, product, down = map(_product, (layer.output, layer.gate_up, layer.down))
        x, scales = scratch.x, scratch.scales
        self.kernels.absorb(
            joined, None, scales, output.bias, scratch.joined, scales, output.epsilon
        )
        sums = output.multiply(scratch.joined)
        layer.output.adapt(sums, joined, slices, scales)
        self._absorb(sums, output, layer.gate_up, scratch)
        both = product.multiply(scratch.digits)
        layer.gate_up.adapt(both, x, slices, scales)
        self.kernels.gate(both, scales, product.bias, scratch.wide, scales)
        sums = down.multiply(scratch.wide)
        layer.down.adapt(sums, both[:, : both.shape[1] // 2], slices, scales)
        return sums, down
