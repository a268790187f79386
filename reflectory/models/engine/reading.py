"""What the nodes of the prefix tree get from a pass, and what they hold already."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reflectory.models.engine.layout import Piece
from reflectory.models.engine.tree import Node, copied


class Reading:
    """Keys and values of the pieces of one pass, until the pass went well.

    Args:
        pieces: With their first place and the one behind their last.
    """

    def __init__(self, pieces: Sequence[tuple[Piece, int, int]]) -> None:
        self._pieces = pieces
        self._fresh: dict[Node, list[torch.Tensor]] = {
            piece.node: [] for piece, _, _ in pieces if piece.node is not None
        }

    def __contains__(self, node: Node) -> bool:
        """Return whether a node is read in this pass."""
        return node in self._fresh

    def keep(self, layer: int, kv: torch.Tensor) -> None:
        """Copy what nodes are to hold of a layer.

        Args:
            layer: Its number.
            kv: Of all tokens of the pass, shape (tokens, 2, key-value heads, width).
        """
        for piece, begin, end in self._pieces:
            node, new = piece.node, kv[begin:end].permute(1, 2, 0, 3)
            if node is None:
                continue
            if node.cover < node.start and piece.parent is not None:
                new = torch.cat((self.run(layer, piece.parent), new), dim=2)
            else:
                new = copied(new)
            self._fresh[node].append(new)

    def run(self, layer: int, node: Node) -> torch.Tensor:
        """Return one layer's keys and values of a node that is read now or was before.

        Raises:
            ValueError: The node was never read.
        """
        kv = self._fresh.get(node) or node.kv
        if kv is None:
            raise ValueError("a piece stands on a node that was never read")
        return kv[layer]

    def finish(self) -> None:
        """Hand the nodes what was kept for them."""
        for node, layers in self._fresh.items():
            node.kv = layers
