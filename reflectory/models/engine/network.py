"""What the engine asks of a model: one pass over packed tokens with its own attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from reflectory.models.engine.projection import LowRank, Slice

Attend = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
"""Attention of one layer: its number, queries (tokens, heads, width), and keys and values
(tokens, 2, key-value heads, width), positions already in them; returns (tokens, heads * width)."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network.

    Attributes:
        layers: Number of layers.
        heads: Query heads.
        kv_heads: Key-value heads; each serves as many query heads.
        width: Of one head.
        scale: Factor on attention scores.
        dtype: Of activations, keys and values.
        device: Where it is.
        hidden: Width of the hidden states.
    """

    layers: int
    heads: int
    kv_heads: int
    width: int
    scale: float
    dtype: torch.dtype
    device: torch.device
    hidden: int

    @property
    def groups(self) -> int:
        """Query heads per key-value head."""
        return self.heads // self.kv_heads

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values over all layers."""
        return int(2 * self.layers * self.kv_heads * self.width * self.dtype.itemsize)


@dataclass(frozen=True, eq=False)
class VirtualTokens:
    """What an adapter puts before the first token: either of the two, in number ``count``.

    Attributes:
        count: How many positions.
        kv: Per layer, keys and values, shape (count, 2, key-value heads, width).
        vectors: In the place of embedded tokens, shape (count, hidden size).
    """

    count: int
    kv: tuple[torch.Tensor, ...] | None = None
    vectors: torch.Tensor | None = None


class Network(Protocol):
    """A causal language model without a cache of its own.

    Contract: the result of a token depends on its id, its position, what ``attend``
    returns for it and the adapter of its slice, and on no other token.
    """

    @property
    def shape(self) -> Shape:
        """Its sizes."""
        ...

    @property
    def layer_names(self) -> frozenset[str]:
        """Names of the layers that can have an adapter."""
        ...

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        attend: Attend,
        keep: torch.Tensor,
        slices: Sequence[Slice],
    ) -> torch.Tensor:
        """Return logits, shape (kept tokens, vocabulary), in any number format.

        Args:
            ids: Packed tokens of any number of sequences, shape (tokens,); or vectors in
                their place, shape (tokens, hidden size).
            positions: Position of each in its own sequence, shape (tokens,).
            attend: Called once per layer.
            keep: Numbers of the tokens whose logits are wanted; may be empty.
            slices: Runs of tokens that an adapter reads.
        """
        ...

    def add_adapter(self, name: str, layers: Mapping[str, LowRank]) -> None:
        """Make an adapter known by its matrices, by layer name."""
        ...

    def drop_adapter(self, name: str) -> None:
        """Forget an adapter."""
        ...

    def virtual_kv(self, tokens: VirtualTokens) -> list[torch.Tensor]:
        """Return keys and values of virtual tokens as ``attend`` gets them, per layer."""
        ...
