"""Linear layers as the engine multiplies them: fused, packed, and with adapters.

Layers that read the same input become one product. On a processor the weights are
laid out once as oneDNN wants them, which saves that work in every call and makes
the result of a row independent of how many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

PACKED_ROWS = 32
"""Number of rows for which oneDNN is asked to lay the weights out."""

MANY_ROWS, ROW_STEP = 128, 32
"""More rows than the first are filled up to a multiple of the second."""


@dataclass(frozen=True)
class Slice:
    """A run of packed tokens that an adapter reads.

    Attributes:
        adapter: Its name.
        begin: First token.
        end: Behind the last token.
    """

    adapter: str
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class LowRank:
    """The two matrices of a LoRA layer, the scale already in the second.

    Attributes:
        down: A, shape (rank, inputs).
        up: B times alpha over rank, shape (outputs, rank).
    """

    down: torch.Tensor
    up: torch.Tensor


class Product:
    """x @ weight.T + bias, in the format of the weights.

    Args:
        weight: Shape (outputs, inputs).
        bias: Shape (outputs,), or ``None``.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._bias = bias
        self._packed = can_pack(weight)
        self._weight = pack(weight) if self._packed else weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product for ``x`` of shape (tokens, inputs)."""
        if self._packed:
            # oneDNN compiles for every number of rows, and keeps a thousand of what it compiled.
            more = -len(x) % ROW_STEP if len(x) > MANY_ROWS else 0
            full = functional.pad(x, (0, 0, 0, more)) if more else x
            done: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                full, self._weight, self._bias, "none", [], ""
            )
            return done[: len(x)]
        return functional.linear(x, self._weight, self._bias)


def can_pack(weight: torch.Tensor) -> bool:
    """Return whether oneDNN can lay out a weight for this processor."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(weight.dtype == torch.float32)


def pack(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight in oneDNN's layout."""
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(
        weight.detach().contiguous(), PACKED_ROWS
    )
    return packed


class Projection:
    """Linear layers with the same input as one product, plus the adapters of the moment.

    Args:
        product: Computes the base layers, their outputs one behind the other.
        names: Name of each layer in the model, in order of the outputs.
        sizes: Outputs of each layer.
        norm: Part of the product, which adapters need for themselves; ``None`` if
            the product takes its input as it is.
    """

    def __init__(
        self,
        product: Callable[[torch.Tensor], torch.Tensor],
        names: Sequence[str],
        sizes: Sequence[int],
        norm: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.product = product
        self._norm = norm
        self.names = tuple(names)
        self.sizes = tuple(sizes)
        self._adapters: dict[str, LowRank] = {}

    @property
    def outputs(self) -> int:
        """Outputs of all layers together."""
        return sum(self.sizes)

    def __call__(self, x: torch.Tensor, slices: Sequence[Slice] = ()) -> torch.Tensor:
        """Return the outputs for ``x`` of shape (tokens, inputs); slices name adapters."""
        y = self.product(x)
        self.adapt(y, x, slices)
        return y

    def adapt(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        slices: Sequence[Slice],
        scales: torch.Tensor | None = None,
    ) -> None:
        """Add to outputs what the adapters make of the inputs.

        Args:
            y: Shape (tokens, outputs) or with further rows below, changed.
            x: Shape (tokens, inputs).
            slices: Name adapters.
            scales: What the outputs will be multiplied with, shape (tokens, 1); ``None`` for 1.
        """
        for part in slices:
            low = self._adapters.get(part.adapter)
            if low is None:
                continue
            rows = x[part.begin : part.end]
            rows = rows if self._norm is None else self._norm(rows)
            more = (rows.to(low.down.dtype) @ low.down.T @ low.up.T).to(y.dtype)
            if scales is not None:
                more /= scales[part.begin : part.end]
            y[part.begin : part.end] += more

    def add_adapter(self, adapter: str, layers: Mapping[str, LowRank]) -> None:
        """Take over the adapter's matrices for these layers, if it has any.

        Args:
            adapter: Its name.
            layers: By layer name.
        """
        present = [name for name in self.names if name in layers]
        if not present:
            return
        down = torch.cat([layers[name].down for name in present])
        up = down.new_zeros((self.outputs, len(down)))
        row = column = 0
        for name, size in zip(self.names, self.sizes, strict=True):
            if name in layers:
                rank = layers[name].up.shape[1]
                up[row : row + size, column : column + rank] = layers[name].up
                column += rank
            row += size
        self._adapters[adapter] = LowRank(down, up)

    def drop_adapter(self, adapter: str) -> None:
        """Forget an adapter."""
        self._adapters.pop(adapter, None)
