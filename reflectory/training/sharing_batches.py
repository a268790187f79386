"""Rows that are read together, as the tensors of one forward pass.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from reflectory.training.sharing import SharedRows


class SharedCollator:
    """Makes the inputs of one pass from the number of a pack.

    Args:
        packs: All packs; an item of the data set names one by its place.
    """

    def __init__(self, packs: Sequence[SharedRows]) -> None:
        self.packs = tuple(packs)

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the inputs of the only item; more than one would need padding."""
        (item,) = items
        return shared_inputs(self.packs[int(item["pack"])])


def shared_inputs(pack: SharedRows) -> dict[str, torch.Tensor]:
    """Return one pack as tensors.

    Returns:
        ``input_ids`` and ``position_ids`` of shape (1, length); ``attention_mask`` of shape
        (1, 1, length, length), true where a token sees another, or (1, length) for a single
        row; for every learnt token the place that predicts it (``source``) and itself
        (``target``); the number of ``tokens``.
    """
    branches = torch.tensor(pack.branches)
    length = len(branches)
    if pack.rows == 1:
        mask = torch.ones(1, length, dtype=torch.long)
    else:
        seen = (branches[None, :] == 0) | (branches[None, :] == branches[:, None])
        mask = (torch.ones(length, length, dtype=torch.bool).tril() & seen)[None, None]
    return {
        "input_ids": torch.tensor([pack.input_ids]),
        "position_ids": torch.tensor([pack.positions]),
        "attention_mask": mask,
        "source": torch.tensor(pack.sources),
        "target": torch.tensor(pack.targets),
        "tokens": torch.tensor(length),
    }
