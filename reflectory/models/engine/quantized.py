"""A Llama network in 8-bit integers, for processors with integer dot products.

Weights get one scale per output, activations one per token, measured when they
come. Two things keep that accurate. Hidden states and values are turned by random
orthogonal matrices, which the weights before and behind undo: outliers of single
channels, which would take all of the 8 bits, are spread over all of them (Ashkboos et
al. 2024, "QuaRot"). And the input of the layer that comes behind the gate, which
cannot be turned for free, is written in two digits.

Sums of integers do not depend on their order, so a token's result does not depend on
how many tokens are multiplied together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from reflectory.models.engine.llama import FloatParts, Norm, shape_of, stacked
from reflectory.models.engine.projection import PACKED_ROWS, LowRank, Projection

_SEED = 0
"""Of the orthogonal matrices."""

_NO_NORM = torch.tensor(-1.0, dtype=torch.float32)

_TOP = 127.0
_ZERO = 128


class QuantizedProduct:
    """norm(x) @ weight.T + bias in 8-bit integers.

    Args:
        weight: Shape (outputs, inputs), any float format.
        bias: Shape (outputs,), or ``None``.
        epsilon: Bring ``x`` to unit root mean square first, with this added to its
            mean square; ``None`` takes it as it is.
        digits: 2 also multiplies what the first rounding left of ``x``.

    Attributes:
        bias: What is added to the outputs, shape (outputs,), float32; zeros where nothing is.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        epsilon: float | None = None,
        digits: int = 1,
    ) -> None:
        scales = (weight.abs().amax(dim=1) / _TOP).clamp_min(torch.finfo(torch.float32).tiny)
        rounded = (weight / scales[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(
            rounded.contiguous(), [PACKED_ROWS, weight.shape[1]]
        )
        self._scales = (scales / _TOP).float()
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._biased = bias is not None
        self.bias = torch.zeros(len(weight)) if bias is None else bias
        self.bias = self.bias.float()
        self._epsilon = None if epsilon is None else torch.tensor(epsilon, dtype=torch.float32)
        self.digits = digits

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product for ``x`` of shape (tokens, inputs), float32."""
        largest = x.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-30)
        # Unsigned, with zero at 128, since oneDNN is fast with those only; conversion
        # cuts off, so the half rounds.
        raised = torch.mul(x, _TOP / largest).add_(_ZERO + 0.5)
        if self.digits == 1:
            y = self.multiply(raised.to(torch.uint8))
        else:
            # What is cut off, from 0 to 1, is what rounding leaves plus one half. Both
            # digits are rows of one product: the weights are read once.
            both = raised.new_empty((2, *raised.shape), dtype=torch.uint8)
            both[0] = raised
            both[1] = raised.frac_().mul_(2 * _TOP).add_(_ZERO + 0.5 - _TOP)
            first, rest = self.multiply(both.view(-1, both.shape[-1])).chunk(2)
            y = first.add_(rest, alpha=0.5 / _TOP)
        y.mul_(self._token_scales(x, largest))
        return y.add_(self.bias) if self._biased else y

    @property
    def epsilon(self) -> torch.Tensor:
        """What is added to the mean square of a row; negative where there is no norm."""
        return self._epsilon if self._epsilon is not None else _NO_NORM

    def _token_scales(self, x: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """Return the scale of each token times 127, which is divided out in the weights'."""
        if self._epsilon is None:
            return largest
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        mean_square = torch.addcmul(self._epsilon, length, length, value=1 / x.shape[-1])
        return mean_square.rsqrt_().mul_(largest)

    def multiply(self, digits: torch.Tensor) -> torch.Tensor:
        """Return the sums for rows of 8-bit digits, to be multiplied with the rows' scales."""
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            digits,
            1.0,
            _ZERO,
            self._weight,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return product


class QuantizedParts(FloatParts):
    """Takes the weights of a model over as integers, in turned coordinates.

    Args:
        model: A transformers model of the Llama family, in float32 on the processor.
    """

    def __init__(self, model: Any) -> None:
        shape = shape_of(model)
        generator = torch.Generator().manual_seed(_SEED)
        self._stream = orthogonal(model.model.embed_tokens.weight.shape[1], generator)
        self._value = orthogonal(shape.width, generator)
        self._norms: dict[str, torch.Tensor] = {}
        self.changed = self._change
        self.turned = (self._stream, self._value)

    def embedding(self, model: Any) -> torch.Tensor:
        """Return the vectors of the tokens, turned."""
        turned: torch.Tensor = model.model.embed_tokens.weight.detach() @ self._stream
        return turned

    def after_norm(
        self, norm: Any, parent: Any, path: str, names: Sequence[str]
    ) -> tuple[Norm | None, Projection]:
        """Return no norm, and the layers with the norm inside the product."""
        weight, bias, sizes = stacked([getattr(parent, name) for name in names])
        gain, epsilon = norm.weight.detach(), float(norm.variance_epsilon)
        for name in names:
            self._norms[f"{path}.{name}"] = gain
        weight = (weight * gain) @ self._stream
        if names[-1] == "v_proj":
            at = sum(sizes[:-1])
            weight[at:] = self._turn_heads(weight[at:])
            if bias is not None:
                bias[at:] = self._turn_heads(bias[at:, None])[:, 0]
        return None, Projection(
            QuantizedProduct(weight, bias, epsilon=epsilon),
            [f"{path}.{name}" for name in names],
            sizes,
            Norm(None, epsilon),
        )

    def into_stream(self, parent: Any, path: str, name: str) -> Projection:
        """Return a layer whose output is added to the turned hidden states."""
        weight, bias, sizes = stacked([getattr(parent, name)])
        weight = self._stream.T @ weight
        if bias is not None:
            bias = self._stream.T @ bias
        digits = 2
        if name == "o_proj":
            weight, digits = self._turn_heads(weight.T.contiguous()).T, 1
        return Projection(QuantizedProduct(weight, bias, digits=digits), [f"{path}.{name}"], sizes)

    def head(self, model: Any) -> tuple[Norm | None, Callable[[torch.Tensor], torch.Tensor]]:
        """Return no norm, and the head with the norm inside the product."""
        norm = model.model.norm
        weight = (model.lm_head.weight.detach() * norm.weight.detach()) @ self._stream
        bias = model.lm_head.bias
        return None, QuantizedProduct(
            weight,
            None if bias is None else bias.detach(),
            epsilon=float(norm.variance_epsilon),
        )

    def _change(self, layer: str, low: LowRank) -> LowRank:
        """Return an adapter's matrices in the coordinates of the weights."""
        down, up, name = low.down, low.up, layer.rpartition(".")[2]
        if layer in self._norms:
            down = (down * self._norms[layer]) @ self._stream
            up = self._turn_heads(up) if name == "v_proj" else up
        else:
            up = self._stream.T @ up
            down = self._turn_heads(down.T.contiguous()).T if name == "o_proj" else down
        return LowRank(down.contiguous(), up.contiguous())

    def _turn_heads(self, rows: torch.Tensor) -> torch.Tensor:
        """Turn every head among the rows of a matrix."""
        heads = rows.view(-1, len(self._value), rows.shape[1])
        return (self._value.T @ heads).reshape(rows.shape)


def orthogonal(size: int, generator: torch.Generator) -> torch.Tensor:
    """Return a random orthogonal matrix, shape (size, size), float32."""
    drawn = torch.randn(size, size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    return (q * r.diagonal().sign()).float()
