"""Which network can run a model: tried on a few tokens, not looked up in a list."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch

from reflectory.models.engine.fused import compiled
from reflectory.models.engine.fused_bfloat16 import compiled_bfloat16
from reflectory.models.engine.generic import GenericNetwork
from reflectory.models.engine.layout import Piece, Seat
from reflectory.models.engine.llama import LlamaNetwork, is_llama, llama_network
from reflectory.models.engine.network import Network
from reflectory.models.engine.passes import Pass
from reflectory.models.engine.quantized import QuantizedParts
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import PrefixTree

QUANTIZED_TOLERANCE = 0.25
"""Largest mean difference of quantised logits, in their standard deviations. It finds what
is wrong, not what is inexact: the accuracy is measured on texts (docs/performance.md)."""

_PROMPT, _MORE = 20, 4
"""Tokens of the trial: a prefix, enough of them for several threads, and what stands on it."""

_OTHERWISE = "compiled loops say something else here, torch's operations serve"

_LOG = logging.getLogger(__name__)


def network_for(model: Any, *, quantized: bool = False) -> Network | None:
    """Return a network that computes what ``model`` computes.

    Args:
        model: A transformers causal language model without adapters.
        quantized: In 8-bit integers; the model is in float32 then.

    Returns:
        ``None`` if neither the fused nor the general network gives the same logits,
        or if the model looks at less than all tokens before each one.
    """
    if not _sees_everything(model.config.get_text_config()):
        return None
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return None
    with torch.inference_mode():
        wanted = _logits_of(model)
        if quantized:
            if not is_llama(model):
                return None
            plain = llama_network(model, QuantizedParts(model))
            loops = compiled(plain)
            if loops is not None:
                if _tried(loops, wanted, QUANTIZED_TOLERANCE):
                    return loops
                _LOG.warning(_OTHERWISE)
            return plain if agrees(plain, wanted, QUANTIZED_TOLERANCE) else None
        if is_llama(model):
            fused = _fused(model)
            faster = None if fused is None else compiled_bfloat16(fused)
            if faster is not None:
                if _tried(faster, wanted):
                    return faster
                _LOG.warning(_OTHERWISE)
            if fused is not None and _tried(fused, wanted):
                return fused
        return _generic(model, wanted)


def _fused(model: Any) -> LlamaNetwork | None:
    try:
        return llama_network(model)
    except (RuntimeError, ValueError, AttributeError, TypeError):
        return None  # Weights in a format of their own, for example of four bits.


def _tried(network: Network, wanted: torch.Tensor, tolerance: float | None = None) -> bool:
    try:
        return agrees(network, wanted, tolerance)
    except (ValueError, RuntimeError, AttributeError, TypeError, IndexError, KeyError):
        return False  # Something in it is not as it is here: run it its own way.


def _generic(model: Any, wanted: torch.Tensor) -> Network | None:
    try:
        general = GenericNetwork(model)
    except (ValueError, AttributeError, KeyError, TypeError):
        return None  # An architecture whose attention cannot be exchanged.
    if _tried(general, wanted):
        return general
    general.release()
    return None


def agrees(network: Network, wanted: torch.Tensor, tolerance: float | None = None) -> bool:
    """Return whether a network gives these logits for the tokens of the trial.

    It reads a prefix, reads on, and decodes on a seat, as the engine does.

    Args:
        network: What is tried.
        wanted: Logits of the last tokens, shape (tokens, vocabulary).
        tolerance: Largest mean difference, in standard deviations of ``wanted``.
    """
    ids = _trial_tokens(wanted.shape[-1])
    tree, store = PrefixTree(limit_bytes=2**40), RowStore(network.shape)
    passes = Pass(network, store)
    node = tree.insert(ids[:_PROMPT])
    piece = Piece(ids[_PROMPT:], _PROMPT, node, keep=True)
    _, (read,) = passes.run((), (), [Piece(ids[:_PROMPT], 0, None, node), piece])
    passes.seat([Seat(store.add(_MORE), node)])
    written = torch.cat([passes.run([ids[at]], [at])[0] for at in range(_PROMPT, len(ids))])
    if tolerance is None:
        tolerance = 1e-3 if network.shape.dtype == torch.float32 else 0.1
    most = tolerance * float(wanted.std())
    return all(float((got - wanted).abs().mean()) < most for got in (read, written))


def _logits_of(model: Any) -> torch.Tensor:
    """Return what the model itself says, shape (tokens, vocabulary), float32."""
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.tensor([_trial_tokens(vocabulary)], device=next(model.parameters()).device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0, _PROMPT:]
    return logits.float()


def _trial_tokens(vocabulary: int) -> list[int]:
    """Return tokens spread over the vocabulary."""
    return [(7 + 31 * i) % vocabulary for i in range(_PROMPT + _MORE)]


def _sees_everything(config: Any) -> bool:
    """Return whether every layer attends to all tokens before, each on its own terms."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds_of_rope = {rope.get("rope_type")} | {
        part.get("rope_type") for part in rope.values() if isinstance(part, dict)
    }
    if kinds_of_rope & {"dynamic", "longrope"}:
        return False  # Their frequencies depend on the longest sequence of a pass.
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds) == {"full_attention"}
    return not getattr(config, "sliding_window", None)
