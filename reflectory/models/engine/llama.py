"""The Llama family (Llama, Mistral, Qwen 2 and 3, SmolLM 2, ...) in few operations.

transformers' forward pass is made for every use; on a processor, at a few dozen
tokens a pass, most of its time goes into Python and small operations. Here the
weights of such a model are taken over, layers with one input are fused, and the
pass holds only what inference needs. Whether the result is the same is not assumed
but tried (:func:`reflectory.models.engine.trial.network_for`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from reflectory.models.engine.network import Attend, Shape, VirtualTokens
from reflectory.models.engine.projection import LowRank, Product, Projection, Slice
from reflectory.models.engine.virtual import read_vectors

_LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION_PARTS = {"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"}
_MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}


@dataclass(frozen=True, eq=False)
class Norm:
    """RMS normalisation; without a weight when that was folded into the next product."""

    weight: torch.Tensor | None
    epsilon: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` of shape (..., width) at unit root mean square, times the weight."""
        size = x.shape[-1:]
        return functional.rms_norm(x, size, self.weight, self.epsilon)


@dataclass(frozen=True, eq=False)
class Layer:
    """One decoder layer; the norms of queries and keys are of Qwen 3.

    A norm that is ``None`` is part of the product behind it.
    """

    before_attention: Norm | None
    qkv: Projection
    query_norm: Norm | None
    key_norm: Norm | None
    output: Projection
    before_mlp: Norm | None
    gate_up: Projection
    down: Projection


class LlamaNetwork:
    """A model of the Llama family (see the module).

    Args:
        shape: Its sizes.
        embedding: Shape (vocabulary, hidden size).
        layers: In order.
        norm: Before the head, or ``None``.
        head: From hidden states to logits.
        rotary: From hidden states and positions (1, tokens) to cosine and sine,
            each (1, tokens, width).
        activation: Of the gate.
        changed: Carries an adapter's matrices over where the weights lie in other
            coordinates than the model's.
        turned: The matrices from the model's hidden states and values to those here,
            where they differ.
    """

    def __init__(
        self,
        shape: Shape,
        embedding: torch.Tensor,
        layers: Sequence[Layer],
        norm: Norm | None,
        head: Callable[[torch.Tensor], torch.Tensor],
        rotary: Any,
        activation: Callable[[torch.Tensor], torch.Tensor],
        changed: Callable[[str, LowRank], LowRank] | None = None,
        turned: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        self.shape = shape
        self._embedding = embedding
        self.layers = tuple(layers)
        self.norm = norm
        self._head = head
        self._rotary = rotary
        self.activation = activation
        self._changed = changed
        self._turned = turned

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
        cosine, sine = self.angles(x, positions)
        for number, layer in enumerate(self.layers):
            x = x + self._attention(number, layer, x, cosine, sine, attend, slices)
            both = layer.gate_up(_normed(layer.before_mlp, x), slices)
            middle = both.shape[-1] // 2
            gated = self.activation(both[:, :middle]).mul_(both[:, middle:])
            x = x + layer.down(gated, slices)
        return self._head(_normed(self.norm, x[keep]))

    def angles(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosine and sine of the positions, each (tokens, 1, width).

        Args:
            x: Of whose format they are, shape (tokens, hidden size).
            positions: Shape (tokens,).
        """
        cosine, sine = self._rotary(x[None], positions[None])
        # Rotating half: (a, b) -> (-b, a). The sign goes into the sine once.
        half = cosine.shape[-1] // 2
        sine = torch.cat((-sine[..., :half], sine[..., half:]), dim=-1)
        return cosine[0][:, None], sine[0][:, None]

    def _attention(
        self,
        number: int,
        layer: Layer,
        x: torch.Tensor,
        cosine: torch.Tensor,
        sine: torch.Tensor,
        attend: Attend,
        slices: Sequence[Slice],
    ) -> torch.Tensor:
        shape = self.shape
        qkv = layer.qkv(_normed(layer.before_attention, x), slices).view(len(x), -1, shape.width)
        query, kv = self._rotated(layer, qkv, cosine, sine)
        return layer.output(attend(number, query, kv), slices)

    def _rotated(
        self, layer: Layer, qkv: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries, and keys and values, as :data:`Attend` takes them.

        Args:
            layer: Has the norms.
            qkv: Shape (tokens, heads + 2 key-value heads, width).
            cosine: Shape (tokens, 1, width).
            sine: The same, negative in the first half.
        """
        shape = self.shape
        turning = qkv[:, : shape.heads + shape.kv_heads]
        if layer.query_norm is not None and layer.key_norm is not None:
            parts = turning.split((shape.heads, shape.kv_heads), dim=1)
            turning = torch.cat((layer.query_norm(parts[0]), layer.key_norm(parts[1])), dim=1)
        rolled = torch.roll(turning, shape.width // 2, dims=-1)
        turned = (turning * cosine).addcmul_(rolled, sine)
        kv = torch.stack((turned[:, shape.heads :], qkv[:, shape.heads + shape.kv_heads :]), dim=1)
        return turned[:, : shape.heads], kv

    @property
    def layer_names(self) -> frozenset[str]:
        """Names of the layers that can have an adapter."""
        return frozenset(name for p in self._projections() for name in p.names)

    def add_adapter(self, name: str, layers: Mapping[str, LowRank]) -> None:
        """Make an adapter known by its matrices, by layer name."""
        if self._changed is not None:
            layers = {layer: self._changed(layer, low) for layer, low in layers.items()}
        for projection in self._projections():
            projection.add_adapter(name, layers)

    def drop_adapter(self, name: str) -> None:
        """Forget an adapter."""
        for projection in self._projections():
            projection.drop_adapter(name)

    def virtual_kv(self, tokens: VirtualTokens) -> list[torch.Tensor]:
        """Return keys and values of virtual tokens, per layer."""
        if tokens.vectors is not None:
            stands = tokens.vectors if self._turned is None else tokens.vectors @ self._turned[0]
            return read_vectors(self, stands)
        layers = list(tokens.kv or ())
        if self._turned is None:
            return layers
        value = self._turned[1]
        return [torch.stack((kv[:, 0], kv[:, 1] @ value), dim=1) for kv in layers]

    def _projections(self) -> list[Projection]:
        return [
            projection
            for layer in self.layers
            for projection in (layer.qkv, layer.output, layer.gate_up, layer.down)
        ]


def _normed(norm: Norm | None, x: torch.Tensor) -> torch.Tensor:
    return x if norm is None else norm(x)


def is_llama(model: Any) -> bool:
    """Return whether a transformers model is built of the parts that are known here."""
    inner: Any = getattr(model, "model", None)
    layers = getattr(inner, "layers", None)
    if not layers or not hasattr(inner, "rotary_emb") or not hasattr(model, "lm_head"):
        return False
    if {name for name, _ in inner.named_children()} != {
        "embed_tokens",
        "layers",
        "norm",
        "rotary_emb",
    }:
        return False
    return all(
        {n for n, _ in layer.named_children()} == _LAYER_PARTS
        and {n for n, _ in layer.self_attn.named_children()} <= _ATTENTION_PARTS
        and hasattr(layer.self_attn, "o_proj")
        and hasattr(layer.input_layernorm, "variance_epsilon")
        and {n for n, _ in layer.mlp.named_children()} <= _MLP_PARTS
        and hasattr(layer.mlp, "gate_proj")
        for layer in layers
    )


def shape_of(model: Any) -> Shape:
    """Return the sizes of a transformers model."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    weight = next(model.parameters())
    return Shape(
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        width=width,
        scale=width**-0.5,
        dtype=weight.dtype,
        device=weight.device,
        hidden=config.hidden_size,
    )


class FloatParts:
    """Takes the weights over as they are; what :func:`llama_network` is made of."""

    def embedding(self, model: Any) -> torch.Tensor:
        """Return the vectors of the tokens."""
        weight: torch.Tensor = model.model.embed_tokens.weight.detach()
        return weight

    def after_norm(
        self, norm: Any, parent: Any, path: str, names: Sequence[str]
    ) -> tuple[Norm | None, Projection]:
        """Return the norm of some layers' input, and the layers as one product."""
        return norm_of(norm), fused(parent, path, names)

    def into_stream(self, parent: Any, path: str, name: str) -> Projection:
        """Return a layer whose output is added to the hidden states."""
        return fused(parent, path, (name,))

    def head(self, model: Any) -> tuple[Norm | None, Callable[[torch.Tensor], torch.Tensor]]:
        """Return the last norm and the head."""
        bias = model.lm_head.bias
        head = Product(model.lm_head.weight.detach(), None if bias is None else bias.detach())
        return norm_of(model.model.norm), head

    changed: Callable[[str, LowRank], LowRank] | None = None
    """Carries an adapter's matrices over to other coordinates, by layer name."""

    turned: tuple[torch.Tensor, torch.Tensor] | None = None
    """The matrices from the model's hidden states and values to those of the parts."""


def llama_network(model: Any, parts: FloatParts | None = None) -> LlamaNetwork:
    """Return the network of a transformers model that :func:`is_llama`.

    Args:
        model: A transformers causal language model.
        parts: How its weights are taken over; as they are by default.
    """
    inner = model.model
    parts = parts or FloatParts()
    shape = shape_of(model)
    layers = []
    for number, layer in enumerate(inner.layers):
        attention, mlp, at = layer.self_attn, layer.mlp, f"model.layers.{number}"
        before_attention, qkv = parts.after_norm(
            layer.input_layernorm, attention, f"{at}.self_attn", ("q_proj", "k_proj", "v_proj")
        )
        before_mlp, gate_up = parts.after_norm(
            layer.post_attention_layernorm, mlp, f"{at}.mlp", ("gate_proj", "up_proj")
        )
        layers.append(
            Layer(
                before_attention=before_attention,
                qkv=qkv,
                query_norm=norm_of(getattr(attention, "q_norm", None)),
                key_norm=norm_of(getattr(attention, "k_norm", None)),
                output=parts.into_stream(attention, f"{at}.self_attn", "o_proj"),
                before_mlp=before_mlp,
                gate_up=gate_up,
                down=parts.into_stream(mlp, f"{at}.mlp", "down_proj"),
            )
        )
    scale = float(getattr(inner.layers[0].self_attn, "scaling", shape.scale))
    norm, head = parts.head(model)
    return LlamaNetwork(
        replace(shape, scale=scale),
        parts.embedding(model),
        layers,
        norm,
        head,
        inner.rotary_emb,
        inner.layers[0].mlp.act_fn,
        parts.changed,
        parts.turned,
    )


def norm_of(module: Any) -> Norm | None:
    """Return the norm of a transformers module; ``None`` for ``None``."""
    if module is None:
        return None
    return Norm(module.weight.detach(), float(module.variance_epsilon))


def fused(parent: Any, path: str, names: Sequence[str]) -> Projection:
    """Return some linear layers of a module as one product."""
    weight, bias, sizes = stacked([getattr(parent, name) for name in names])
    return Projection(Product(weight, bias), [f"{path}.{name}" for name in names], sizes)


def stacked(linears: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor | None, list[int]]:
    """Return weights and biases of linear layers, one below the other, and their outputs."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    bias = None
    if any(linear.bias is not None for linear in linears):
        bias = torch.cat(
            [
                weight.new_zeros(len(one.weight)) if one.bias is None else one.bias.detach()
                for one in linears
            ]
        )
    return weight, bias, [len(linear.weight) for linear in linears]
