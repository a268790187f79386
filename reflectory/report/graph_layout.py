"""Where the nodes and edges of a graph stand when it is drawn from top to bottom.

Nodes are put in layers by their longest path. A subgraph keeps columns of its
own, and an edge over several layers runs down one line that no box stands on.
Crossings are not minimised: the graphs drawn here have few to begin with. The
layout depends on the topology only, so equal graphs give equal pictures.

networkx is imported inside the functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

GAP_X, GAP_Y = 1.75, 0.95
"""Distance between the middles of neighbouring boxes, in inches."""
BOX_WIDTH, BOX_HEIGHT = 1.4, 0.42
"""Size of a box, in inches."""
_PASS = 0.18  # distance between two edges that pass a box, in inches

Point = tuple[float, float]


@dataclass(frozen=True)
class Edge:
    """An arrow from one node to another.

    Attributes:
        source: Id of the node it leaves.
        target: Id of the node it enters.
        conditional: Whether the graph decides at run time to follow it.
        label: What the decision is called; empty when it has no name.
    """

    source: str
    target: str
    conditional: bool = False
    label: str = ""


@dataclass
class Layout:
    """Where everything stands, in inches, with y growing downwards.

    Attributes:
        place: Middle of every node's box.
        passes: Points that a forward edge passes, one per layer that it skips.
        frames: (left, top, right, bottom) of every subgraph by its name, outer first.
        back: Edges that lead back to an earlier node.
    """

    place: dict[str, Point] = field(default_factory=dict)
    passes: dict[Edge, list[Point]] = field(default_factory=dict)
    frames: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    back: list[Edge] = field(default_factory=list)


def lay_out(nodes: Sequence[str], edges: Sequence[Edge]) -> Layout:
    """Place nodes whose ids name their subgraphs (``outer:inner:node``).

    Args:
        nodes: Ids, the start first; every edge joins two of them.
        edges: The arrows, at most one from one node to another.
    """
    import networkx as nx

    back = back_edges(nodes, edges)
    forward = [edge for edge in edges if edge not in back]
    generations = nx.topological_generations(_digraph(nodes, forward))
    layer = {node: y for y, row in enumerate(generations) for node in row}
    long = [edge for edge in forward if layer[edge.target] - layer[edge.source] > 1]
    column = _columns(nodes, forward, layer, long)
    layout = Layout(back=back)
    layout.place = {node: (column[node] * GAP_X, layer[node] * GAP_Y) for node in nodes}
    layout.frames = _frames(layout)
    layout.passes = {edge: [] for edge in forward}
    # Short edges first: they get the lines nearest to the boxes.
    for edge in sorted(long, key=lambda e: layer[e.target] - layer[e.source]):
        ys = [y * GAP_Y for y in range(layer[edge.source] + 1, layer[edge.target])]
        x = _free_line(layout, edge, ys)
        layout.passes[edge] = [(x, y) for y in ys]
    layout.frames = _frames(layout)
    return layout


def back_edges(nodes: Sequence[str], edges: Sequence[Edge]) -> list[Edge]:
    """Return edges without which the graph has no cycle: those that re-enter a loop.

    A loop's entries are its nodes that can be reached from outside of it. The
    edges inside the loop that lead to an entry are taken out; those of them
    that close no cycle after all are put back. A plain depth-first search would
    depend on which of two parallel branches it happens to take first.
    """
    import networkx as nx

    whole = _digraph(nodes, edges)
    rest = whole.copy()
    while loops := [c for c in nx.strongly_connected_components(rest) if _is_loop(rest, c)]:
        for loop in loops:
            entries = [n for n in nodes if n in loop and set(whole.pred[n]) - loop]
            first = [n for n in nodes if n in loop][:1]  # of a loop that nothing leads into
            for entry in entries or first:
                rest.remove_edges_from([(n, entry) for n in list(rest.pred[entry]) if n in loop])
    back = []
    for edge in edges:
        if rest.has_edge(edge.source, edge.target):
            continue
        if nx.has_path(rest, edge.target, edge.source):
            back.append(edge)
        else:
            rest.add_edge(edge.source, edge.target)
    return back


def _digraph(nodes: Sequence[str], edges: Sequence[Edge]) -> nx.DiGraph[str]:
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((edge.source, edge.target) for edge in edges)
    return graph


def _is_loop(graph: Any, component: set[str]) -> bool:
    return len(component) > 1 or any(graph.has_edge(n, n) for n in component)


def _columns(
    nodes: Sequence[str], forward: Sequence[Edge], layer: dict[str, int], long: Sequence[Edge]
) -> dict[str, float]:
    """Return a column for every node; a subgraph shares its columns with nobody."""
    rows: dict[int, list[str]] = defaultdict(list)
    above: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        rows[layer[node]].append(node)
    for edge in forward:
        above[edge.target].append(edge.source)
    span: dict[str, set[int]] = defaultdict(set)
    widest: dict[str, int] = defaultdict(int)
    for y, row in rows.items():
        for name in filter(None, map(_outermost, row)):
            span[name].add(y)
            widest[name] = max(widest[name], sum(_outermost(n) == name for n in row))
    column: dict[str, float] = {}
    for y in sorted(rows):
        right: float | None = None  # where the room that subgraphs take ends, if they take any
        for name, ys in span.items():
            if min(ys) <= y <= max(ys):
                left = -widest[name] / 2 if right is None else right
                inside = [n for n in rows[y] if _outermost(n) == name]
                _spread(inside, left + widest[name] / 2, column)
                passing = sum(_outermost(e.source) == name == _outermost(e.target) for e in long)
                right = left + widest[name] + passing * _PASS / GAP_X
        free = [n for n in rows[y] if not _outermost(n)]
        free.sort(key=lambda n: _mean([column[m] for m in above[n]]))
        _spread(free, 0.0 if right is None else right + len(free) / 2, column)
    return column


def _free_line(layout: Layout, edge: Edge, ys: Sequence[float]) -> float:
    """Return where an edge can run down the layers ``ys`` without touching anything."""
    ends = [layout.place[edge.source][0], layout.place[edge.target][0]]
    beside = (max(ends) + BOX_WIDTH / 2 + 0.14 + i * _PASS for i in count())
    boxes = [x for x, y in layout.place.values() if y in ys]
    lines = [x for points in layout.passes.values() for x, y in points if y in ys]
    foreign = [
        (left, right)
        for name, (left, top, right, bottom) in layout.frames.items()
        if not edge.source.startswith(f"{name}:") or not edge.target.startswith(f"{name}:")
        if any(top < y < bottom for y in ys)
    ]
    return next(
        x
        for x in chain(ends, beside)
        if all(abs(x - box) > BOX_WIDTH / 2 + 0.1 for box in boxes)
        and all(abs(x - line) > 0.6 * _PASS for line in lines)
        and not any(left < x < right for left, right in foreign)
    )


def _outermost(node: str) -> str:
    return node.split(":", 1)[0] if ":" in node else ""


def _spread(names: Sequence[str], middle: float, column: dict[str, float]) -> None:
    for i, name in enumerate(names):
        column[name] = middle + i - (len(names) - 1) / 2


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _frames(layout: Layout) -> dict[str, tuple[float, float, float, float]]:
    """Return a frame around the nodes of every subgraph and the edges between them."""
    nodes = layout.place
    names = {":".join(n.split(":")[:i]) for n in nodes for i in range(1, n.count(":") + 1)}
    frames = {}
    for name in sorted(names, key=lambda n: (n.count(":"), n)):
        points = [p for n, p in nodes.items() if n.startswith(f"{name}:")]
        inner = (e for e in layout.passes if e.source.startswith(f"{name}:"))
        ends = [p for e in inner if e.target.startswith(f"{name}:") for p in layout.passes[e]]
        inset = 0.05 * (name.count(":") + 1)  # an inner frame stays inside the outer one
        side = GAP_X / 2 - inset
        xs, ys = [x for x, _ in points], [y for _, y in points]
        right = max([max(xs) + side, *(x + 0.1 for x, _ in ends)])
        frames[name] = (min(xs) - side, min(ys) - 0.5 + inset, right, max(ys) + 0.37 - inset)
    return frames
