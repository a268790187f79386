"""A compiled LangGraph graph as a picture or as Mermaid text.

Conditional edges are dashed, an edge that leads back to an earlier node runs
around the right-hand side, and the nodes of a subgraph (ids such as
``examine:ask``) share a frame. Nothing is asked of a server or of Graphviz.

matplotlib is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reflectory.errors import UserError
from reflectory.report.graph_layout import (
    BOX_HEIGHT,
    BOX_WIDTH,
    GAP_X,
    Edge,
    Layout,
    Point,
    lay_out,
)
from reflectory.report.heatmap import save_figure, suffix_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEAD = 0.12  # length of an arrow's head, in inches
_LANE = 0.28  # distance between two edges that lead back, in inches
_INK, _PALE, _ACCENT = "#333333", "#fff5eb", "#d94801"
_ENDS = {"__start__": "start", "__end__": "end"}


class Drawable(Protocol):
    """What can be drawn: a compiled LangGraph graph."""

    def get_graph(self, *, xray: int | bool = False) -> Any:
        """Return the topology, with ``nodes`` by id and ``edges``."""
        ...


def mermaid(graph: Drawable) -> str:
    """Return the graph with its subgraphs as Mermaid text; nothing is downloaded."""
    return str(graph.get_graph(xray=True).draw_mermaid())


def draw_graph(graph: Drawable, path: str | Path) -> Path:
    """Draw the graph with its subgraphs and save it as PNG, SVG or PDF.

    Args:
        graph: Compiled; what LangGraph's ``get_graph`` gives.
        path: Its suffix decides the format.

    Raises:
        UserError: The suffix of ``path`` is another one, or the graph has no nodes.
        StorageError: The file cannot be written.
    """
    suffix_of(path)
    topology = graph.get_graph(xray=True)
    nodes = [str(name) for name in topology.nodes]
    if not nodes:
        raise UserError("the graph has no nodes", hint="add nodes before drawing it")
    edges = list(edges_of(topology))
    return save_figure(_figure(lay_out(nodes, edges), edges), path)


def edges_of(topology: Any) -> Iterator[Edge]:
    """Yield the edges of a LangGraph topology, one from one node to another."""
    seen = set()
    for edge in topology.edges:
        if (edge.source, edge.target) not in seen:
            seen.add((edge.source, edge.target))
            name = "" if edge.data is None else str(edge.data)
            # A branch that is called like the node it leads to needs no label.
            label = "" if name in edge.target.split(":") else name
            yield Edge(edge.source, edge.target, bool(edge.conditional), label)


def _figure(layout: Layout, edges: Sequence[Edge]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [*layout.place.values(), *(p for passed in layout.passes.values() for p in passed)]
    left = min(x for x, _ in points) - GAP_X / 2 - 0.1
    lanes = max(x for x, _ in points) + GAP_X / 2 + 0.2
    right, bottom = lanes + _LANE * len(layout.back), max(y for _, y in points) + 0.45
    figure = Figure(figsize=(right - left, bottom + 0.45))
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set(xlim=(left, right), ylim=(bottom, -0.45))
    ax.set_axis_off()
    for name, frame in layout.frames.items():
        _draw_frame(ax, name, frame)
    for edge, passed in layout.passes.items():
        _draw_forward(ax, edge, [layout.place[edge.source], *passed, layout.place[edge.target]])
    for number, edge in enumerate(layout.back):
        _draw_back(ax, edge, layout, number=number, lane=lanes + _LANE * number)
    for node, middle in layout.place.items():
        _draw_box(ax, node, middle)
    return figure


def _draw_box(ax: Axes, node: str, middle: Point) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = middle
    short = node.rsplit(":", 1)[-1]
    lines = [_ENDS[short]] if short in _ENDS else _folded(short)
    width = 0.8 if short in _ENDS else BOX_WIDTH
    box = FancyBboxPatch(
        (x - width / 2, y - BOX_HEIGHT / 2),
        width,
        BOX_HEIGHT,
        boxstyle=f"round,pad=0,rounding_size={BOX_HEIGHT / 2 if short in _ENDS else 0.08}",
        facecolor="#eeeeee" if short in _ENDS else "white",
        edgecolor=_INK,
        linewidth=1.1,
        zorder=3,
    )
    ax.add_patch(box)
    # About 0.0085 inches per point and character in the default font.
    size = min(10.0, (width - 0.12) / (0.0085 * max(map(len, lines))))
    text = ax.text(x, y, "\n".join(lines), fontsize=size, color=_INK, zorder=4, parse_math=False)
    text.set(horizontalalignment="center", verticalalignment="center_baseline", linespacing=1.1)


def _folded(name: str) -> list[str]:
    """Return a long name in two lines, parted at the underscore nearest to its middle."""
    parts = [i + 1 for i, letter in enumerate(name) if letter in "_ -"]
    if len(name) <= 18 or not parts:
        return [name]
    at = min(parts, key=lambda i: abs(i - len(name) / 2))
    return [name[:at], name[at:]]


def _draw_frame(ax: Axes, name: str, frame: tuple[float, float, float, float]) -> None:
    from matplotlib.patches import FancyBboxPatch

    left, top, right, bottom = frame
    box = FancyBboxPatch(
        (left, top),
        right - left,
        bottom - top,
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor=_PALE,
        edgecolor=_ACCENT,
        linewidth=1.0,
        zorder=0.5,
    )
    ax.add_patch(box)
    label = ax.text(left + 0.08, top + 0.06, name.rsplit(":", 1)[-1], fontsize=8, parse_math=False)
    label.set(color=_ACCENT, verticalalignment="top", zorder=2.5)


def _draw_forward(ax: Axes, edge: Edge, points: Sequence[Point]) -> None:
    """Draw an edge from layer to layer, vertical where it leaves, passes and arrives."""
    half = BOX_HEIGHT / 2
    vertices, codes = [(points[0][0], points[0][1] + half)], [_MOVE]
    for (x, y), (to_x, to_y) in pairwise(points):
        middle = (y + to_y) / 2
        arrived = to_y - half - _HEAD
        beyond = to_y - half if (to_x, to_y) == points[-1] else to_y + half
        vertices += [(x, middle), (to_x, middle), (to_x, arrived), (to_x, beyond)]
        codes += [_CURVE, _CURVE, _CURVE, _LINE]
    _arrow(ax, vertices, codes, conditional=edge.conditional)
    # Beside the arrow's head, where edges that leave one node have parted.
    x, y = points[-1]
    shift = 0.06 if x >= points[0][0] else -0.06
    _label(ax, edge, x + shift, y - half - 0.16, right=shift > 0)


def _draw_back(ax: Axes, edge: Edge, layout: Layout, *, number: int, lane: float) -> None:
    """Draw an edge to an earlier node: to the right, up its lane, and in from above."""
    half = BOX_HEIGHT / 2
    x, y = layout.place[edge.source]
    if edge.source == edge.target:
        side, out = x + BOX_WIDTH / 2, x + BOX_WIDTH / 2 + 0.12
        corners = [(side, y + 0.1), (out, y + 0.1), (out, y - 0.33), (x + 0.5, y - 0.33)]
        _arrow(ax, *_rounded([*corners, (x + 0.5, y - half)], 0.06), conditional=edge.conditional)
        _label(ax, edge, out + 0.05, y - 0.3, right=True)
        return
    to_x, to_y = layout.place[edge.target]
    same = [e for e in layout.back if e.source == edge.source]
    out_y = y + 0.16 * (same.index(edge) - (len(same) - 1) / 2)
    vertices = [(x + BOX_WIDTH / 2, out_y)]
    if _is_blocked(layout, edge.source):
        below = y + half + 0.12 + 0.05 * number
        vertices = [(x + 0.3, y + half), (x + 0.3, below)]
        out_y = below
    channel = to_y - half - 0.31 - 0.06 * number
    enter = to_x + 0.14 * (number + 1)
    vertices += [(lane, out_y), (lane, channel), (enter, channel), (enter, to_y - half)]
    _arrow(ax, *_rounded(vertices), conditional=edge.conditional)
    _label(ax, edge, vertices[0][0] + 0.08, out_y - 0.07, right=True)


def _is_blocked(layout: Layout, node: str) -> bool:
    """Return whether something stands to the right of a node."""
    x, y = layout.place[node]
    passed = (point for points in layout.passes.values() for point in points)
    return any(px > x and py == y for px, py in (*layout.place.values(), *passed))


_MOVE, _LINE, _QUADRATIC, _CURVE = 1, 2, 3, 4  # the codes of matplotlib.path.Path


def _rounded(corners: Sequence[Point], radius: float = 0.1) -> tuple[list[Point], list[int]]:
    """Return a path along ``corners``, which it cuts with small curves."""
    vertices, codes = [corners[0]], [_MOVE]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [_LINE, _QUADRATIC, _QUADRATIC]
    return [*vertices, corners[-1]], [*codes, _LINE]


def _towards(point: Point, other: Point, distance: float) -> Point:
    dx, dy = other[0] - point[0], other[1] - point[1]
    share = min(0.5, distance / (abs(dx) + abs(dy) or 1.0))  # the pieces are axis-parallel
    return point[0] + share * dx, point[1] + share * dy


def _arrow(ax: Axes, vertices: Sequence[Point], codes: Sequence[int], *, conditional: bool) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Curve

    line = PathPatch(Curve(vertices, codes), facecolor="none", edgecolor=_INK, linewidth=1.1)
    line.set(linestyle=(0, (4, 2.5)) if conditional else "solid", zorder=2, capstyle="butt")
    ax.add_patch(line)
    # The head is drawn by itself, so that the dashes of the line do not tear it.
    x, y = vertices[-1]
    head = Polygon([(x, y), (x - 0.05, y - _HEAD), (x + 0.05, y - _HEAD)], facecolor=_INK)
    head.set(linewidth=0.0, zorder=2.2)
    ax.add_patch(head)


def _label(ax: Axes, edge: Edge, x: float, y: float, *, right: bool) -> None:
    if edge.label:
        text = ax.text(x, y, edge.label, fontsize=7.5, color=_INK, zorder=2.4, parse_math=False)
        text.set(horizontalalignment="left" if right else "right", verticalalignment="center")
