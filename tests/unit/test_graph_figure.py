"""The picture of a graph, on LangGraph graphs of the loop's shape."""

import operator
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from reflectory.errors import StorageError, UserError
from reflectory.report.graph_figure import draw_graph, edges_of, mermaid
from reflectory.report.graph_layout import BOX_HEIGHT, BOX_WIDTH, Edge, Layout, back_edges, lay_out


class State(TypedDict):
    log: Annotated[list[str], operator.add]


def node(name: str) -> Callable[[State], State]:
    return lambda state: {"log": [name]}


def to(*targets: str) -> Callable[[State], Any]:
    return lambda state: [Send(target, state) for target in targets]


def chain(*names: str) -> Any:
    graph = StateGraph(State)
    for name in names:
        graph.add_node(name, node(name))
    for source, target in pairwise([START, *names, END]):
        graph.add_edge(source, target)
    return graph


def loop() -> Any:
    """Algorithm 1: levels are examined and the response is graded side by side."""
    graph = StateGraph(State)
    for name in ("preprocess", "retrieve", "aggregate", "respond", "grade", "reflect", "check"):
        graph.add_node(name, node(name))
    graph.add_node("examine", chain("ask", "answer", "evaluate", "align").compile())
    graph.add_node("conclude", node("conclude"))
    for source, target in pairwise([START, "preprocess", "retrieve", "aggregate", "respond"]):
        graph.add_edge(source, target)
    graph.add_conditional_edges("respond", to("examine", "grade"), ["examine", "grade"])
    graph.add_edge(["examine", "grade"], "reflect")
    graph.add_edge("reflect", "check")
    routes = {"go on": "examine", "grade": "grade", "done": "conclude"}
    graph.add_conditional_edges("check", lambda state: "done", routes)
    graph.add_edge("conclude", END)
    return graph.compile()


def topology_of(graph: Any) -> tuple[list[str], list[Edge]]:
    drawn = graph.get_graph(xray=True)
    return list(drawn.nodes), list(edges_of(drawn))


@pytest.fixture(scope="module")
def laid_out() -> Layout:
    return lay_out(*topology_of(loop()))


# Edges


def test_conditional_edges_and_their_labels_are_known() -> None:
    edges = {(e.source, e.target): e for e in topology_of(loop())[1]}
    assert edges["respond", "examine:ask"].conditional
    assert not edges["reflect", "check"].conditional
    assert edges["check", "examine:ask"].label == "go on"
    assert edges["check", "conclude"].label == "done"
    assert edges["check", "grade"].label == ""  # the box says it


def test_only_the_edges_that_repeat_the_loop_lead_back(laid_out: Layout) -> None:
    back = {(edge.source, edge.target) for edge in laid_out.back}
    assert back == {("check", "examine:ask"), ("check", "grade")}


names = st.sampled_from("abcdefgh")
arrows = st.lists(st.tuples(names, names), unique=True, max_size=20)


@settings(deadline=None)
@given(arrows)
def test_without_the_edges_back_there_is_no_cycle_and_none_is_needless(
    pairs: list[tuple[str, str]],
) -> None:
    edges = [Edge(source, target) for source, target in pairs]
    back = back_edges("abcdefgh", edges)
    rest = nx.DiGraph([(e.source, e.target) for e in edges if e not in back])
    rest.add_nodes_from("abcdefgh")
    assert nx.is_directed_acyclic_graph(rest)
    for edge in back:
        assert nx.has_path(rest, edge.target, edge.source)


# Places


@settings(deadline=None)
@given(arrows, st.integers(0, 4))
def test_boxes_never_overlap_and_edges_run_down(pairs: list[tuple[str, str]], inner: int) -> None:
    renamed = {n: f"sub:{n}" if i < inner else n for i, n in enumerate("abcdefgh")}
    edges = [Edge(renamed[source], renamed[target]) for source, target in pairs]
    layout = lay_out(list(renamed.values()), edges)
    places = list(layout.place.values())
    for i, (x, y) in enumerate(places):
        for other_x, other_y in places[i + 1 :]:
            assert abs(x - other_x) >= BOX_WIDTH or abs(y - other_y) >= BOX_HEIGHT
    for edge, passed in layout.passes.items():
        ys = [layout.place[edge.source][1], *(y for _, y in passed), layout.place[edge.target][1]]
        assert all(upper < lower for upper, lower in pairwise(ys))
        for x, y in passed:
            assert all(abs(x - bx) > BOX_WIDTH / 2 for bx, by in places if by == y)
    for name, (left, top, right, bottom) in layout.frames.items():
        for other, (x, y) in layout.place.items():
            assert (left < x < right and top < y < bottom) == other.startswith(f"{name}:")


def test_frame_holds_the_subgraph_and_nothing_else(laid_out: Layout) -> None:
    assert list(laid_out.frames) == ["examine"]
    left, top, right, bottom = laid_out.frames["examine"]
    inside = {n for n, (x, y) in laid_out.place.items() if left < x < right and top < y < bottom}
    assert inside == {f"examine:{name}" for name in ("ask", "answer", "evaluate", "align")}


def test_algorithm_reads_from_top_to_bottom(laid_out: Layout) -> None:
    order = ["__start__", "preprocess", "retrieve", "aggregate", "respond", "examine:ask"]
    order += ["examine:answer", "examine:evaluate", "examine:align", "reflect", "check", "conclude"]
    ys = [laid_out.place[name][1] for name in order]
    assert ys == sorted(ys)
    assert len(set(ys)) == len(ys)
    assert laid_out.place["grade"][1] == laid_out.place["examine:ask"][1]


def test_layout_does_not_depend_on_chance() -> None:
    assert lay_out(*topology_of(loop())) == lay_out(*topology_of(loop()))


def test_nested_subgraphs_have_frames_in_frames() -> None:
    outer = chain("first", "last")
    outer.add_node("inner", chain("x", "y").compile())
    outer.add_edge("first", "inner")
    graph = chain("begin")
    graph.add_node("outer", outer.compile())
    graph.add_edge("begin", "outer")
    layout = lay_out(*topology_of(graph.compile()))
    assert list(layout.frames) == ["outer", "outer:inner"]
    big, small = layout.frames.values()
    assert big[0] < small[0]
    assert big[1] < small[1]
    assert big[2] > small[2]
    assert big[3] > small[3]


# Files


@pytest.mark.parametrize(
    ("name", "start"), [("g.png", b"\x89PNG"), ("g.svg", b"<?xml"), ("g.pdf", b"%PDF")]
)
def test_format_follows_the_suffix(tmp_path: Path, name: str, start: bytes) -> None:
    path = draw_graph(loop(), tmp_path / name)
    assert path.read_bytes().startswith(start)


def test_picture_is_the_same_every_time_and_large_enough(tmp_path: Path) -> None:
    first = draw_graph(loop(), tmp_path / "a.png").read_bytes()
    second = draw_graph(loop(), tmp_path / "b.png").read_bytes()
    assert first == second
    width, height = struct.unpack(">II", first[16:24])
    assert 500 < width < 1500
    assert 1000 < height < 3000


def test_every_node_and_label_is_written(tmp_path: Path) -> None:
    svg = draw_graph(loop(), tmp_path / "g.svg").read_text()
    words = ["start", "end", "examine", "ask", "grade", "conclude", "go on", "done"]
    # Letters are outlines there; each text stands in a comment before them.
    assert [word for word in words if f"<!-- {word} -->" not in svg] == []


def test_odd_graphs_are_drawn(tmp_path: Path) -> None:
    """A loop onto itself, a loop inside a subgraph, long names and formula characters."""
    inner = chain("ask", "a_name_that_goes_on_and_on_for_ever")
    inner.add_conditional_edges("ask", lambda state: "ask", {"$again$": "ask", "stop": END})
    graph = chain("begin")
    graph.add_node("examine", inner.compile())
    graph.add_conditional_edges("begin", to("examine"), ["examine", END, "begin"])
    graph.add_conditional_edges("examine", to("begin"), {"$x^": "begin"})
    path = draw_graph(graph.compile(), tmp_path / "g.png")
    assert path.stat().st_size > 5000


def test_other_suffix_and_missing_folder(tmp_path: Path) -> None:
    graph = chain("only").compile()
    with pytest.raises(UserError, match=r"g\.gif"):
        draw_graph(graph, tmp_path / "g.gif")
    with pytest.raises(StorageError, match="none"):
        draw_graph(graph, tmp_path / "none" / "g.png")


def test_graph_without_nodes_is_refused(tmp_path: Path) -> None:
    class Empty:
        def get_graph(self, *, xray: int | bool = False) -> Any:
            from langchain_core.runnables.graph import Graph

            return Graph()

    with pytest.raises(UserError, match="no nodes"):
        draw_graph(Empty(), tmp_path / "g.png")


def test_mermaid_names_subgraph_and_routes() -> None:
    text = mermaid(loop())
    assert text == mermaid(loop())
    assert "subgraph examine" in text
    assert "reflect --> check;" in text
    assert "respond -.-> grade;" in text
