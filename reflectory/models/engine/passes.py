"""One pass of the network: decoding rows and pieces of prompts, packed together.

Tokens lie in one run: first one per decoding row, then the pieces. Both are sorted
by adapter and by their way through the prefix tree, so that whatever shares a node
is one neighbourhood, and meets the node's keys in one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from reflectory.models.engine.attention import Part, attend, merge
from reflectory.models.engine.network import Network, Shape
from reflectory.models.engine.projection import Slice
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import COVER, Node, copied

_SHORT = 1024
"""Rows times the longest row's own tokens, up to which compiled loops attend to them."""

Order = tuple[str, tuple[int, ...]]
"""Where something stands in a pass: its adapter and its way through the tree."""


@dataclass(eq=False)
class Piece:
    """Tokens to read that follow one another in one sequence.

    Attributes:
        tokens: At least one.
        start: Position of the first.
        parent: What lies before them; ``None`` for nothing.
        node: Gets their keys and values; ``None`` throws them away.
        keep: Whether the logits of all of them are wanted.
        adapter: Who reads; "" for the base model.
    """

    tokens: Sequence[int]
    start: int
    parent: Node | None
    node: Node | None = None
    keep: bool = False
    adapter: str = ""

    @property
    def order(self) -> Order:
        """Behind its parent and before what follows it."""
        return order_of(self.adapter, self.node if self.node is not None else self.parent)


@dataclass(eq=False)
class Seat:
    """The place of a decoding row between passes.

    Attributes:
        slot: Of the row in the store.
        anchor: The node before its own tokens; ``None`` for nothing. It keeps its end
            when it is split, so what lies before the row is asked of it anew.
        adapter: Who reads; "" for the base model.
    """

    slot: int
    anchor: Node | None
    adapter: str = ""

    @property
    def order(self) -> Order:
        """Its place in a pass."""
        return order_of(self.adapter, self.anchor)

    @property
    def runs(self) -> list[Node]:
        """The nodes before its own tokens, the nearest first."""
        return [] if self.anchor is None else self.anchor.runs()


@dataclass(eq=False)
class _Layout:
    """What stands where in the packed run.

    Attributes:
        slots: Slots of the decoding rows, in packed order.
        pieces: In packed order, with their first and last place.
        levels: For the nearest run of each token, the second nearest and so on:
            which node serves which places, in order and without overlap.
    """

    slots: list[int]
    pieces: list[tuple[Piece, int, int]]
    levels: list[list[tuple[Node, int, int]]] = field(default_factory=list)


def order_of(adapter: str, node: Node | None) -> Order:
    """Return the place of what stands on a node."""
    return adapter, () if node is None else tuple(n.serial for n in node.ancestry())


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
        self._seat_layout: list[list[tuple[Node, int, int]]] = []
        self._shuffle: tuple[torch.Tensor, torch.Tensor] | None = None

    def seat(self, seats: Sequence[Seat]) -> None:
        """Take the decoding rows of the next passes; they must fill the store's slots.

        To be called again when a row comes or goes, and when the tree was written to.
        """
        self._seats = sorted(seats, key=lambda seat: seat.order)
        slots = [seat.slot for seat in self._seats]
        self._seat_layout = _levels([(s.runs, i, i + 1) for i, s in enumerate(self._seats)])
        self._shuffle = None
        if slots != list(range(len(slots))):
            packed = torch.tensor(slots, device=self._shape.device)
            self._shuffle = (packed, packed.argsort())

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
            (tokens, vocabulary); float32.
        """
        seats = self._seats if tokens else []
        layout, ids, places, slices = self._arrange(seats, tokens, positions, pieces)
        device = self._shape.device
        kept = list(range(len(seats)))
        for piece, begin, end in layout.pieces:
            kept.extend(range(begin, end) if piece.keep else ())
        kernels = getattr(self._network, "kernels", None)
        worker = _Attention(
            self._shape, self._store, layout, self._shuffle if seats else None, kernels
        )
        logits = self._network.forward(
            torch.tensor(ids, device=device),
            torch.tensor(places, device=device),
            worker,
            torch.tensor(kept, dtype=torch.long, device=device),
            slices,
        )
        worker.finish()
        by_piece: dict[int, torch.Tensor] = {}
        at = len(seats)
        for piece, begin, end in layout.pieces:
            if piece.keep:
                by_piece[id(piece)] = logits[at : at + end - begin]
                at += end - begin
        rows = logits[: len(seats)]
        if seats and self._shuffle is not None:
            rows = rows[self._shuffle[1]]
        return rows, [by_piece[id(piece)] for piece in pieces if piece.keep]

    def _arrange(
        self,
        seats: Sequence[Seat],
        tokens: Sequence[int],
        positions: Sequence[int],
        pieces: Sequence[Piece],
    ) -> tuple[_Layout, list[int], list[int], list[Slice]]:
        ids = [tokens[seat.slot] for seat in seats]
        places = [positions[seat.slot] for seat in seats]
        owners = [seat.adapter for seat in seats]
        layout = _Layout([seat.slot for seat in seats], [])
        served: list[tuple[list[Node], int, int]] = []
        for piece in sorted(pieces, key=lambda piece: piece.order):
            _choose_cover(piece)
            begin = len(ids)
            ids.extend(int(token) for token in piece.tokens)
            places.extend(range(piece.start, piece.start + len(piece.tokens)))
            owners.extend([piece.adapter] * len(piece.tokens))
            layout.pieces.append((piece, begin, len(ids)))
            if piece.parent is not None:
                served.append((piece.parent.runs(), begin, len(ids)))
        layout.levels = [*(self._seat_layout if seats else ()), *_levels(served)]
        return layout, ids, places, _slices(owners)


def _choose_cover(piece: Piece) -> None:
    """Let the node of a piece hold a copy of what lies before it where that is short."""
    node, parent = piece.node, piece.parent
    if node is not None:
        short = parent is not None and parent.cover == 0 and 0 < parent.end <= COVER
        node.cover = 0 if short else node.start


def _slices(owners: Sequence[str]) -> list[Slice]:
    """Return the runs of tokens of each adapter."""
    found: list[Slice] = []
    begin = 0
    for at in range(1, len(owners) + 1):
        if at == len(owners) or owners[at] != owners[begin]:
            if owners[begin]:
                found.append(Slice(owners[begin], begin, at))
            begin = at
    return found


def _levels(
    served: Sequence[tuple[Sequence[Node], int, int]],
) -> list[list[tuple[Node, int, int]]]:
    """Return, per distance from the tokens, which node serves which neighbouring places."""
    levels: list[list[tuple[Node, int, int]]] = []
    for runs, begin, end in served:
        # From the far end: neighbours share what lies furthest away.
        for number, node in enumerate(reversed(runs)):
            if number == len(levels):
                levels.append([])
            level = levels[number]
            if level and level[-1][0] is node and level[-1][2] == begin:
                level[-1] = (node, level[-1][1], end)
            else:
                level.append((node, begin, end))
    return levels


class _Attention:
    """Attention of one pass, called once per layer; also keeps what nodes are to hold."""

    def __init__(
        self,
        shape: Shape,
        store: RowStore,
        layout: _Layout,
        shuffle: tuple[torch.Tensor, torch.Tensor] | None,
        kernels: Any,
    ) -> None:
        self._shape = shape
        self._kernels = kernels
        self._store = store
        self._layout = layout
        self._shuffle = shuffle
        self._rows = len(layout.slots)
        self._fresh: dict[Node, list[torch.Tensor]] = {}
        self._places = store.places(layout.slots) if layout.slots else None
        self._bias = self._in_use = None
        if layout.slots:
            # For many tokens in float32 torch's kernel is better, which looks at them in blocks.
            short = shape.dtype == torch.bfloat16 or self._rows * max(store.lengths) <= _SHORT
            if kernels is not None and short:
                lengths = [store.lengths[slot] for slot in layout.slots]
                self._in_use = torch.tensor([layout.slots, lengths])
            else:
                self._bias = store.bias()
        # The default format of others in this process is none of the kernels' business.
        self._scale = torch.tensor(shape.scale, dtype=torch.float32)
        for piece, _, _ in layout.pieces:
            if piece.node is not None:
                self._fresh[piece.node] = []

    def __call__(self, layer: int, query: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        """Return the attention of one layer (see :data:`Attend`)."""
        self._keep(layer, kv)
        shape, count = self._shape, len(query)
        parts = []
        if self._rows:
            parts.append(self._own(layer, query[: self._rows], kv[: self._rows]))
        for _, begin, end in self._layout.pieces:
            parts.append(self._within(query[begin:end], kv[begin:end]))
        whole = _joined(parts)
        if self._layout.levels:
            if self._kernels is not None:
                whole = (whole[0].contiguous(), whole[1].contiguous())
            by_head = query.view(count, shape.kv_heads, shape.groups, shape.width)
            by_head = by_head.transpose(0, 1).reshape(1, shape.kv_heads, -1, shape.width)
            for level in self._layout.levels:
                whole = self._before(layer, by_head, level, whole)
        out = whole[0].view(shape.kv_heads, count, shape.groups, shape.width)
        return out.transpose(0, 1).reshape(count, -1)

    def finish(self) -> None:
        """Hand the nodes what they were read for; not before the pass went well."""
        for node, layers in self._fresh.items():
            node.kv = layers

    def _keep(self, layer: int, kv: torch.Tensor) -> None:
        """Write new keys and values to where the attention of this pass reads them."""
        if self._places is not None and self._in_use is None:
            self._store.write(layer, self._places, kv[: self._rows])
        for piece, begin, end in self._layout.pieces:
            node, new = piece.node, kv[begin:end].permute(1, 2, 0, 3)
            if node is None:
                continue
            if node.cover < node.start and piece.parent is not None:
                new = torch.cat((self._run(layer, piece.parent), new), dim=2)
            else:
                new = copied(new)
            self._fresh[node].append(new)

    def _run(self, layer: int, node: Node) -> torch.Tensor:
        """Return one layer's keys and values of a node that is read now or was before."""
        kv = self._fresh.get(node) or node.kv
        if kv is None:
            raise ValueError("a piece stands on a node that was never read")
        return kv[layer]

    def _own(self, layer: int, query: torch.Tensor, kv: torch.Tensor) -> Part:
        """Attend to what belongs to each decoding row alone."""
        shape, rows = self._shape, self._rows
        if self._in_use is not None:
            buffer = self._store.buffer(layer)
            found: Part = self._kernels.attend_rows(query, kv, buffer, self._in_use, self._scale)
            return found
        grouped = query.reshape(rows, shape.kv_heads, shape.groups, shape.width)
        if self._shuffle is not None:
            grouped = grouped[self._shuffle[1]]
        keys, values = self._store.read(layer)
        out, total = attend(grouped, keys, values, shape.scale, bias=self._bias)
        if self._shuffle is not None:
            out, total = out[self._shuffle[0]], total[self._shuffle[0]]
        flat = (shape.kv_heads, rows * shape.groups)
        return (
            out.transpose(0, 1).reshape(*flat, shape.width),
            total.transpose(0, 1).reshape(flat),
        )

    def _within(self, query: torch.Tensor, kv: torch.Tensor) -> Part:
        """Attend from the tokens of one piece to those before them in it."""
        shape, count = self._shape, len(query)
        keys, values = kv.permute(1, 2, 0, 3).repeat_interleave(shape.groups, dim=1)[:, None]
        out, total = attend(query.transpose(0, 1)[None], keys, values, shape.scale, causal=True)
        by_head = (shape.kv_heads, shape.groups, count)
        flat = (shape.kv_heads, count * shape.groups)
        return (
            out.view(*by_head, shape.width).transpose(1, 2).reshape(*flat, shape.width),
            total.view(by_head).transpose(1, 2).reshape(flat),
        )

    def _before(
        self, layer: int, query: torch.Tensor, level: list[tuple[Node, int, int]], whole: Part
    ) -> Part:
        """Merge the attention to shared nodes into ``whole``."""
        groups = self._shape.groups
        if self._kernels is not None:
            for shared, *places in level:
                part = self._to_node(layer, query, shared, *places)
                self._kernels.merge(whole, part, places[0] * groups)
            return whole
        found: list[Part] = []
        first = last = level[0][1]
        done = whole
        for node, begin, end in [*level, (None, -1, -1)]:
            if begin != last and found:
                done = _merged(done, _joined(found), first * groups, last * groups)
                found, first = [], begin
            if node is None:
                break
            found.append(self._to_node(layer, query, node, begin, end))
            last = end
        return done

    def _to_node(self, layer: int, query: torch.Tensor, node: Node, begin: int, end: int) -> Part:
        """Return the attention of some neighbours to a node that they share."""
        groups = self._shape.groups
        keys, values = self._run(layer, node)[:, None]
        asked = query[:, :, begin * groups : end * groups]
        out, total = attend(asked, keys, values, self._shape.scale)
        return out[0], total[0]


def _joined(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([p[0] for p in parts], dim=1), torch.cat([p[1] for p in parts], dim=1)


def _merged(whole: Part, part: Part, begin: int, end: int) -> Part:
    """Return ``whole`` with the queries from ``begin`` to ``end`` attending to ``part`` too."""
    if begin == 0 and end == whole[1].shape[1]:
        return merge(whole, part)
    out, total = merge((whole[0][:, begin:end], whole[1][:, begin:end]), part)
    whole[0][:, begin:end] = out
    whole[1][:, begin:end] = total
    return whole
