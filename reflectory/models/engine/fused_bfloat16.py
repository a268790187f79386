"""The Llama network in bfloat16 with compiled loops between its products.

The same network as :class:`LlamaNetwork`, which is the plain twin it is tested against.
torch makes ten passes over memory of a norm, a gate or a rotation in bfloat16; here each
is one, in float32. Hidden states stay in float32 from the first layer to the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn import functional

from reflectory.models.engine.fused import load_kernels
from reflectory.models.engine.llama import Layer, LlamaNetwork, Norm
from reflectory.models.engine.network import Attend
from reflectory.models.engine.projection import Slice


def compiled_bfloat16(network: LlamaNetwork) -> FusedBfloat16 | None:
    """Return a network in bfloat16 with compiled loops; ``None`` where they do not fit.

    They are for processors, a gate with SiLU, rotations over whole heads, norms with weights,
    and layers that are all as wide.
    """
    shape = network.shape
    if shape.dtype != torch.bfloat16 or shape.device.type != "cpu":
        return None
    points = torch.linspace(-9, 9, 64)
    if not torch.allclose(network.activation(points), functional.silu(points), atol=1e-6):
        return None
    norms = [network.norm, *(n for x in network.layers for n in (x.before_attention, x.before_mlp))]
    weights = [None if norm is None else norm.weight for norm in norms]
    # The kernels are told addresses: what they read and write has to have these sizes.
    if any(weight is None or len(weight) != shape.hidden for weight in weights):
        return None
    cosine, _ = network.angles(torch.zeros(1, shape.hidden), torch.zeros(1, dtype=torch.long))
    every = (shape.heads + 2 * shape.kv_heads) * shape.width
    wanted = (every, shape.hidden, network.layers[0].gate_up.outputs, shape.hidden)
    for x in network.layers:
        if wanted != tuple(part.outputs for part in (x.qkv, x.output, x.gate_up, x.down)):
            return None
    if cosine.shape[-1] != shape.width:
        return None
    kernels = load_kernels()
    return None if kernels is None else FusedBfloat16(network, kernels)


@dataclass(frozen=True, eq=False)
class _Factors:
    """A norm as the kernels take it: weight, shape (width,), and epsilon, one number; float32."""

    weight: torch.Tensor
    epsilon: torch.Tensor

    @classmethod
    def of(cls, norm: Norm | None) -> _Factors:
        """Return those of a norm with a weight."""
        norm = cast(Norm, norm)
        weight = cast(torch.Tensor, norm.weight).float().contiguous()
        return cls(weight, torch.tensor([norm.epsilon], dtype=torch.float32))


@dataclass(eq=False)
class _Scratch:
    """What the kernels of one pass write into, in every layer anew.

    Attributes:
        x: Hidden states, shape (tokens, hidden size), float32.
        angles: Cosine and sine of the positions, float32.
        normed: Input of the next product, shape (tokens, hidden size).
        gated: The same behind the gate, shape (tokens, width there).
        query: Shape (tokens, heads, width).
        kv: Shape (tokens, 2, key-value heads, width).
    """

    x: torch.Tensor
    angles: tuple[torch.Tensor, torch.Tensor]
    normed: torch.Tensor
    gated: torch.Tensor
    query: torch.Tensor
    kv: torch.Tensor


class FusedBfloat16(LlamaNetwork):
    """See the module.

    Attributes:
        kernels: For the attention of a pass, too.

    Args:
        network: Whose layers are taken over.
        kernels: What ``fused.load_kernels`` gave.
    """

    def __init__(self, network: LlamaNetwork, kernels: Any) -> None:
        vars(self).update(vars(network))
        self.kernels = kernels
        self._norms = [
            (_Factors.of(x.before_attention), _Factors.of(x.before_mlp)) for x in network.layers
        ]
        self._last = _Factors.of(network.norm)

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        attend: Attend,
        keep: torch.Tensor,
        slices: Sequence[Slice],
    ) -> torch.Tensor:
        """Return logits of the kept tokens, as :class:`Network` asks."""
        x = ids if ids.is_floating_point() else functional.embedding(ids, self._embedding)
        scratch = self._scratch(x.to(torch.float32, copy=True), positions)
        added = None
        for number, (layer, norms) in enumerate(zip(self.layers, self._norms, strict=True)):
            self._normalise(scratch, added, norms[0])
            query, kv = self._positioned(layer, scratch, slices)
            added = layer.output(attend(number, query, kv), slices)
            self._normalise(scratch, added, norms[1])
            both = layer.gate_up(scratch.normed, slices)
            self.kernels.gate_halves(both, scratch.gated)
            added = layer.down(scratch.gated, slices)
        self._normalise(scratch, added, self._last)
        return self._head(scratch.normed[keep])

    def _scratch(self, x: torch.Tensor, positions: torch.Tensor) -> _Scratch:
        shape, count = self.shape, len(x)
        cosine, sine = self.angles(x, positions)

        def empty(*size: int) -> torch.Tensor:
            return torch.empty((count, *size), dtype=torch.bfloat16)

        return _Scratch(
            x,
            (cosine.contiguous(), sine.contiguous()),
            normed=empty(x.shape[1]),
            gated=empty(self.layers[0].gate_up.outputs // 2),
            query=empty(shape.heads, shape.width),
            kv=empty(2, shape.kv_heads, shape.width),
        )

    def _normalise(self, scratch: _Scratch, added: torch.Tensor | None, norm: _Factors) -> None:
        """Add a product's output to the hidden states, and normalise them for the next one."""
        self.kernels.norm_halves(scratch.x, added, norm.weight, scratch.normed, norm.epsilon)

    def _positioned(
        self, layer: Layer, scratch: _Scratch, slices: Sequence[Slice]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries, and keys and values, with their positions in them."""
        heads = layer.qkv(scratch.normed, slices).view(len(scratch.x), -1, self.shape.width)
        if layer.query_norm is None:
            self.kernels.turn_halves(heads, *scratch.angles, scratch.query, scratch.kv)
            return scratch.query, scratch.kv
        cosine, sine = (part.to(heads.dtype) for part in scratch.angles)
        return self._rotated(layer, heads, cosine, sine)
