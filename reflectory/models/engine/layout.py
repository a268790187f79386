"""What stands where in a pass, and what lies before it.

Tokens lie in one run: first one per decoding row, then the pieces. Both are sorted
by adapter and by their way through the prefix tree, so that whatever shares a node
is one neighbourhood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reflectory.models.engine.projection import Slice
from reflectory.models.engine.tree import Node

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


Served = tuple[Sequence[Node], int, int]
"""The runs before some tokens, the nearest first; their first place and the one behind the last."""

Level = list[tuple[Node, int, int]]
"""Which node serves which places, from the first to behind the last; in order, without overlap."""


@dataclass(eq=False)
class Layout:
    """What stands where in the packed run.

    Attributes:
        slots: Slots of the decoding rows, in packed order.
        pieces: In packed order, with their first place and the one behind their last.
        levels: For the furthest run before each token, the second furthest and so on.
        neighbourhoods: First place and the one behind the last of tokens that have the furthest
            run in common, or none at all.
    """

    slots: list[int]
    pieces: list[tuple[Piece, int, int]] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    neighbourhoods: list[tuple[int, int]] = field(default_factory=list)

    def copy(self) -> Layout:
        """Return the same in lists of its own."""
        return Layout(self.slots, list(self.pieces), list(self.levels), list(self.neighbourhoods))

    def serve(self, served: Sequence[Served]) -> None:
        """Add what lies before some tokens to the levels and neighbourhoods."""
        self.levels.extend(levels_of(served))
        top: Node | None = None
        for number, (runs, begin, end) in enumerate(served):
            furthest = runs[-1] if runs else None
            if number and furthest is top:
                self.neighbourhoods[-1] = (self.neighbourhoods[-1][0], end)
            else:
                self.neighbourhoods.append((begin, end))
            top = furthest


def order_of(adapter: str, node: Node | None) -> Order:
    """Return the place of what stands on a node."""
    return adapter, () if node is None else tuple(n.serial for n in node.ancestry())


def choose_cover(piece: Piece, most: int) -> None:
    """Let the node of a piece hold a copy of what lies before it, if that is ``most`` tokens."""
    node, parent = piece.node, piece.parent
    if node is not None:
        short = parent is not None and parent.cover == 0 and 0 < parent.end <= most
        node.cover = 0 if short else node.start


def slices_of(owners: Sequence[str]) -> list[Slice]:
    """Return the runs of tokens of each adapter."""
    found: list[Slice] = []
    begin = 0
    for at in range(1, len(owners) + 1):
        if at == len(owners) or owners[at] != owners[begin]:
            if owners[begin]:
                found.append(Slice(owners[begin], begin, at))
            begin = at
    return found


def levels_of(
    served: Sequence[Served],
) -> list[Level]:
    """Return, per distance from the root, which node serves which neighbouring places."""
    levels: list[Level] = []
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
