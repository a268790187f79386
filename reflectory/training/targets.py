"""The network's logits where a token is to be predicted, and nowhere else.

Prompts are ten times as long as completions here, and a vocabulary is a hundred
times as wide as a layer of a small model, so projecting every position onto it
would cost more time and memory than anything else. Importing this module imports torch.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from reflectory.training.tokens import IGNORED

SAME_PER_TOKEN = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Largest difference in nats per token by which two ways to compute one thing may differ."""


def base_of(model: Any) -> Any:
    """Return the transformers model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def selects_positions(model: Any) -> bool:
    """Return whether the network can be asked for the logits of some positions only."""
    return "logits_to_keep" in inspect.signature(type(base_of(model)).forward).parameters


def logits_at(
    model: Any, inputs: dict[str, Any], columns: torch.Tensor, *, selects: bool, offset: int = 0
) -> torch.Tensor:
    """Return float32 logits at some positions.

    Args:
        model: The network, perhaps wrapped for several processes.
        inputs: What it reads: ``input_ids`` of shape (rows, length), ``attention_mask``
            and perhaps ``position_ids``.
        columns: Positions among the tokens, of shape (positions,), ascending.
        selects: What :func:`selects_positions` said.
        offset: What ``vectors_before`` of the methods said, 0 with the adapter switched off.

    Returns:
        Of shape (rows, positions, vocabulary).
    """
    where = columns + offset
    if selects:
        return model(**inputs, logits_to_keep=where, use_cache=False).logits.float()
    return model(**inputs, use_cache=False).logits[:, where].float()


def predicted(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which positions predict a learnt token, and what they shall predict.

    Args:
        labels: Of shape (rows, length), IGNORED where nothing is learnt.

    Returns:
        Positions of shape (positions,), and their targets of shape (rows, positions),
        IGNORED where a position counts in another row only.
    """
    targets = labels[:, 1:]  # position i predicts token i + 1
    columns = (targets != IGNORED).any(dim=0).nonzero().flatten()
    return columns, targets[:, columns]
