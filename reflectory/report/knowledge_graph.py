"""The knowledge graph as a file for other programs, or as a picture.

networkx and matplotlib are imported inside the functions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from reflectory.errors import StorageError, UserError
from reflectory.report.heatmap import SUFFIXES, save_figure
from reflectory.retrieval.graph.view import networkx_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reflectory.retrieval import PassageIndex
    from reflectory.types import ScoredPassage

_DATA = (".graphml", ".json")
_MOST_DRAWN = 400
"""Nodes above which a picture shows nothing any more."""

_KINDS: dict[str, tuple[str, Any, float]] = {
    "document": ("#7f2704", "s", 220.0),
    "passage": ("#fd8d3c", "o", 120.0),
    "entity": ("#6baed6", "D", 60.0),
}
"""Colour, marker and size of each kind of node."""

_EDGES: dict[str, tuple[str, Any]] = {
    "part": ("#7f2704", "-"),
    "about": ("#7f2704", ":"),
    "mention": ("#9ecae1", "-"),
    "relation": ("#08519c", "-"),
    "similarity": ("#fdae6b", "--"),
}
"""Colours that also people see apart who do not see red and green apart; with styles of line."""


def write_knowledge_graph(
    index: PassageIndex, path: str | Path, found: Sequence[ScoredPassage] | None = None
) -> Path:
    """Write the knowledge graph of an index, or what surrounds the passages found.

    Args:
        index: The index.
        path: ``.graphml`` or ``.json`` (node-link) for other programs, ``.png``,
            ``.svg`` or ``.pdf`` for a picture.
        found: Passages of the index; the whole graph when ``None``.

    Raises:
        UserError: The index has no graph, the suffix is another one, or the picture
            would have too many nodes.
        StorageError: The file cannot be written.
    """
    file = Path(path)
    if index.graph is None:
        raise UserError("the index has no knowledge graph", hint="build it with the graph layer")
    if file.suffix not in (*_DATA, *SUFFIXES):
        raise UserError(
            f"{file.name}: graphs are not written as {file.suffix or 'files without a suffix'}",
            hint=f"use one of {', '.join((*_DATA, *SUFFIXES))}",
        )
    rows = None if found is None else _rows(index, found)
    view = networkx_view(index.graph, index.documents, index.passages, rows=rows)
    if file.suffix in SUFFIXES:
        axes = draw_knowledge_graph(view, best=[s.passage.id for s in found or ()])
        return save_figure(cast("Figure", axes.figure), file)
    try:
        _write_data(view, file)
    except OSError as error:
        raise StorageError(
            f"{file} cannot be written: {error.strerror or error}",
            hint="check the free space and the permissions",
        ) from error
    return file


def _rows(index: PassageIndex, found: Sequence[ScoredPassage]) -> list[int]:
    """Return the passages found and those that their paths lead over."""
    names = {s.passage.id for s in found}
    names |= {step.name for s in found for step in s.path if step.kind == "passage"}
    return [row for row, passage in enumerate(index.passages) if passage.id in names]


def _write_data(view: Any, file: Path) -> None:
    import networkx as nx

    if file.suffix == ".graphml":
        nx.write_graphml(view, file)
        return
    data = nx.node_link_data(view, edges="edges")
    file.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def draw_knowledge_graph(view: Any, *, best: Sequence[str] = (), axes: Axes | None = None) -> Axes:
    """Draw a view of the knowledge graph.

    Documents are squares, passages circles (those found are numbered), entities
    diamonds; co-occurrence is left out, for the mentions show it.

    Args:
        view: What :func:`reflectory.retrieval.graph.view.networkx_view` returns.
        best: Ids of passages to number, best first.
        axes: Where to draw; a new figure without them, to be had as ``axes.figure``.

    Raises:
        UserError: There are too many nodes, or none.
    """
    import networkx as nx
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not 0 < len(view) <= _MOST_DRAWN:
        raise UserError(
            f"a picture of {len(view)} nodes would show nothing",
            hint="give --query, to draw what surrounds the passages found; or write .graphml",
        )
    if axes is None:
        size = max(7.0, len(view) ** 0.5 * 1.3)
        figure = Figure(figsize=(size * 1.25, size), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    plain = nx.Graph(
        (a, b) for a, b, kind in view.edges(data="kind") if kind != "co-occurrence" and a != b
    )
    plain.add_nodes_from(view)
    places = _places(plain)
    for kind, (colour, style) in _EDGES.items():
        edges = [(a, b) for a, b, k in view.edges(data="kind") if k == kind]
        for left, right in edges:
            line = Line2D(*zip(places[left], places[right], strict=True), color=colour)
            line.set(linestyle=style, linewidth=1.6 if kind == "relation" else 0.9, zorder=1)
            axes.add_line(line)
    for kind, (colour, marker, size) in _KINDS.items():
        nodes = [node for node, k in view.nodes(data="kind") if k == kind]
        xs, ys = [places[n][0] for n in nodes], [places[n][1] for n in nodes]
        axes.scatter(xs, ys, s=size, c=colour, marker=marker, label=kind, zorder=2)
    _label(axes, view, places, best)
    axes.set_axis_off()
    axes.margins(0.12)
    _legend(axes, {k for _, _, k in view.edges(data="kind")})
    return axes


def _places(plain: Any) -> Any:
    import networkx as nx

    if len(plain) < 2:
        return dict.fromkeys(plain, (0.0, 0.0))
    steps = dict(nx.all_pairs_shortest_path_length(plain))
    # Nodes without a way between them are a little further apart than any with one.
    apart = 1 + max(max(row.values()) for row in steps.values())
    distances = {a: {b: steps[a].get(b, apart) for b in plain} for a in plain}
    return nx.kamada_kawai_layout(plain, dist=distances)


def _label(axes: Axes, view: Any, places: Any, best: Sequence[str]) -> None:
    rank = {f"passage:{name}": number for number, name in enumerate(best, start=1)}
    for node, data in view.nodes(data=True):
        x, y = places[node]
        if node in rank:
            axes.annotate(
                str(rank[node]),
                (x, y),
                ha="center",
                va="center",
                fontsize=8,
                weight="bold",
                zorder=4,
            )
        if data["kind"] == "passage":
            continue
        weight = "bold" if data["kind"] == "document" else "normal"
        text = data["name"] if len(data["name"]) <= 32 else data["name"][:31] + "…"
        axes.annotate(
            text,
            (x, y),
            xytext=(0, 12 if data["kind"] == "document" else 8),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            weight=weight,
            zorder=3,
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
        )


def _legend(axes: Axes, kinds: set[str]) -> None:
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    for kind, (colour, style) in _EDGES.items():
        if kind in kinds:
            handles.append(Line2D([], [], color=colour, linestyle=style))
            labels.append(kind)
    axes.legend(handles, labels, fontsize=8, loc="best", frameon=False)
