"""One pass of the network: decoding rows and pieces of prompts, packed together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reflectory.models.engine.compiled_attention import CompiledAttention
from reflectory.models.engine.layout import (
    Layout,
    Piece,
    Seat,
    Served,
    choose_cover,
    slices_of,
)
from reflectory.models.engine.network import Attend, Network, Shape
from reflectory.models.engine.plain_attention import PlainAttention
from reflectory.models.engine.projection import Slice
from reflectory.models.engine.reading import Reading
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import COVER


class Pass:
    """Runs seats and pieces through the network once.

    Args:
        network: The model.
        store: Own keys and values of the decoding rows.
    """

    def __init__(self, network: Network, store: RowStore) -> None:
        self._network = network
        self._store = store
        self._shape: Shape = network.shape
        self._seats: list[Seat] = []
        self._seated = Layout([])
        self._by_slot = torch.empty(0, dtype=torch.long)
        kernels = getattr(network, "kernels", None)
        self._kernel = None if kernels is None else kernels.shared_attention(network.shape)

    def seat(self, seats: Sequence[Seat]) -> None:
        """Take the decoding rows of the next passes; they must fill the store's slots.

        To be called again when a row comes or goes, and when the tree was written to.
        """
        self._seats = sorted(seats, key=lambda seat: seat.order)
        self._seated = Layout([seat.slot for seat in self._seats])
        self._seated.serve([(seat.runs, i, i + 1) for i, seat in enumerate(self._seats)])
        self._by_slot = torch.tensor(self._seated.slots, device=self._shape.device).argsort()

    def run(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        pieces: Sequence[Piece] = (),
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the logits of the decoding rows by slot, and those of pieces that keep them.

        Args:
            tokens: The next token of each slot that was seated; empty to read pieces only.
            positions: Its position, by slot.
            pieces: What to read besides, in any order; a piece may stand on another.

        Returns:
            Shape (slots, vocabulary), and per keeping piece, in the order given,
            (tokens, vocabulary); in the network's number format.
        """
        seats = self._seats if tokens else []
        layout, ids, places, slices = self._arrange(seats, tokens, positions, pieces)
        device = self._shape.device
        kept = list(range(len(seats)))
        for piece, begin, end in layout.pieces:
            kept.extend(range(begin, end) if piece.keep else ())
        reading = Reading(layout.pieces)
        worker: Attend
        if self._kernel is None:
            worker = PlainAttention(self._shape, self._store, layout, reading)
        else:
            worker = CompiledAttention(self._shape, self._store, layout, reading, self._kernel)
        logits = self._network.forward(
            torch.tensor(ids, device=device),
            torch.tensor(places, device=device),
            worker,
            torch.tensor(kept, dtype=torch.long, device=device),
            slices,
        )
        reading.finish()  # Not before the pass went well.
        by_piece: dict[int, torch.Tensor] = {}
        at = len(seats)
        for piece, begin, end in layout.pieces:
            if piece.keep:
                by_piece[id(piece)] = logits[at : at + end - begin]
                at += end - begin
        rows = logits[: len(seats)]
        if seats:
            rows = rows[self._by_slot]
        return rows, [by_piece[id(piece)] for piece in pieces if piece.keep]

    def _arrange(
        self,
        seats: Sequence[Seat],
        tokens: Sequence[int],
        positions: Sequence[int],
        pieces: Sequence[Piece],
    ) -> tuple[Layout, list[int], list[int], list[Slice]]:
        ids = [tokens[seat.slot] for seat in seats]
        places = [positions[seat.slot] for seat in seats]
        owners = [seat.adapter for seat in seats]
        layout = self._seated.copy() if seats else Layout([])
        served: list[Served] = []
        for piece in sorted(pieces, key=lambda piece: piece.order):
            # Compiled loops gain nothing from a copy of what lies before a piece.
            choose_cover(piece, COVER if self._kernel is None else 0)
            begin = len(ids)
            ids.extend(int(token) for token in piece.tokens)
            places.extend(range(piece.start, piece.start + len(piece.tokens)))
            owners.extend([piece.adapter] * len(piece.tokens))
            layout.pieces.append((piece, begin, len(ids)))
            runs = [] if piece.parent is None else piece.parent.runs()
            served.append((runs, begin, len(ids)))
        layout.serve(served)
        return layout, ids, places, slices_of(owners)
