"""The knowledge graph as a file or a picture: suffixes, sizes, and what is refused."""

import asyncio

import networkx as nx
import numpy as np
import pytest
from indexes import BRIDGE, BRIDGE_QUESTION, EMBEDDER, build

from reflectory.errors import StorageError, UserError
from reflectory.report.knowledge_graph import draw_knowledge_graph, write_knowledge_graph
from reflectory.retrieval import IndexRetriever
from reflectory.retrieval.graph.view import networkx_view
from reflectory.types import Document

HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(scope="module")
def index():
    return build(BRIDGE, passage_tokens=40)


@pytest.fixture(scope="module")
def found(index):
    retriever = IndexRetriever(index, EMBEDDER)
    return asyncio.run(retriever.retrieve(BRIDGE_QUESTION, per_document=1, limit=4))


def view_of(index, rows=None):
    return networkx_view(index.graph, index.documents, index.passages, rows=rows)


@pytest.mark.parametrize("suffix", HEADS)
def test_a_picture_is_written(tmp_path, index, found, suffix):
    path = write_knowledge_graph(index, tmp_path / f"graph{suffix}", found)
    assert path == tmp_path / f"graph{suffix}"
    assert path.read_bytes().startswith(HEADS[suffix])


@pytest.mark.parametrize("suffix", [".graphml", ".json"])
def test_data_of_the_whole_graph_reads_back(tmp_path, index, suffix):
    path = write_knowledge_graph(index, tmp_path / f"graph{suffix}")
    if suffix == ".graphml":
        again = nx.read_graphml(path, force_multigraph=True)
    else:
        import json

        data = json.loads(path.read_text("utf-8"))
        again = nx.node_link_graph(data, edges="edges", multigraph=True)
    whole = view_of(index)
    assert set(again) == set(whole) and again.number_of_edges() == whole.number_of_edges()


def test_what_was_found_brings_the_passages_of_its_paths(tmp_path, index, found):
    path = write_knowledge_graph(index, tmp_path / "graph.graphml", found)
    part = nx.read_graphml(path)
    passages = {step.name for s in found for step in s.path if step.kind == "passage"}
    assert {n.removeprefix("passage:") for n in part if n.startswith("passage:")} == passages
    assert "entity:ilse varga" in part and len(part) < len(view_of(index))


def test_the_same_graph_gives_the_same_bytes(tmp_path, index, found):
    for suffix in (".graphml", ".json", ".png"):
        one = write_knowledge_graph(index, tmp_path / f"one{suffix}", found)
        two = write_knowledge_graph(index, tmp_path / f"two{suffix}", found)
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", ["graph.gif", "graph", "graph.txt"])
def test_another_suffix_is_refused_with_those_there_are(tmp_path, index, name):
    with pytest.raises(UserError, match="graphs are not written as") as caught:
        write_knowledge_graph(index, tmp_path / name)
    assert ".graphml" in caught.value.hint and ".png" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".graphml", ".json", ".png"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, index, found, suffix):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot (be written|write the picture)"):
        write_knowledge_graph(index, tmp_path / "file" / f"graph{suffix}", found)


def test_an_index_without_a_graph_is_refused(tmp_path):
    with pytest.raises(UserError, match="no knowledge graph") as caught:
        write_knowledge_graph(build(layers=()), tmp_path / "graph.png")
    assert "graph layer" in caught.value.hint


def test_a_picture_of_too_many_nodes_is_refused_and_data_is_not(tmp_path):
    index = build([Document(id=f"d{n}", text=f"word{n}") for n in range(250)])
    with pytest.raises(UserError, match="picture of 500 nodes") as caught:
        write_knowledge_graph(index, tmp_path / "graph.png")
    assert "--query" in caught.value.hint and ".graphml" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert write_knowledge_graph(index, tmp_path / "graph.json").exists()


def test_a_picture_of_nothing_is_refused(tmp_path, index):
    with pytest.raises(UserError, match="picture of 0 nodes"):
        write_knowledge_graph(index, tmp_path / "graph.png", [])


def test_the_passages_found_are_numbered_in_their_order(index, found):
    names = [scored.passage.id for scored in found]
    axes = draw_knowledge_graph(view_of(index), best=names)
    assert axes.figure is not None
    numbers = {text.get_text() for text in axes.texts if text.get_text().isdigit()}
    assert {"1", "2", "3", "4"} <= numbers
    told = {text.get_text() for text in axes.texts}
    assert {"Ilse Varga", "The Glass Harbour"} <= told
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    assert {"document", "passage", "entity", "part", "mention"} <= legend


def test_a_long_name_is_cut():
    index = build([Document(id="a", title="A" * 80, text="dough rests")])
    axes = draw_knowledge_graph(view_of(index))
    names = [text.get_text() for text in axes.texts]
    assert any(name.endswith("…") for name in names) and all(len(name) <= 32 for name in names)


def test_islands_are_drawn_beside_one_another(index):
    """What no edge joins is further apart than what one joins, and all is on one scale."""
    view = view_of(index)
    axes = draw_knowledge_graph(view)
    kinds = ("document", "passage", "entity")
    ordered = [n for kind in kinds for n, of in view.nodes(data="kind") if of == kind]
    drawn = np.concatenate([points.get_offsets() for points in axes.collections])
    places = dict(zip(ordered, np.asarray(drawn), strict=True))
    islands = list(nx.connected_components(view.to_undirected()))
    assert len(islands) > 5

    def distances(pairs):
        return [float(np.linalg.norm(places[a] - places[b])) for a, b in pairs]

    within = distances((a, b) for island in islands for a in island for b in island if a < b)
    between = distances(
        (a, b) for one in islands for other in islands if one != other for a in one for b in other
    )
    assert np.mean(within) < np.mean(between) / 2
    assert min(between) > np.ptp(drawn, axis=0).max() / 100


def test_one_node_is_drawn(index):
    view = nx.MultiDiGraph()
    view.add_node("document:a", kind="document", name="a")
    axes = draw_knowledge_graph(view)
    assert [text.get_text() for text in axes.texts] == ["a"]


def test_it_is_drawn_where_it_is_told_to(index):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    assert draw_knowledge_graph(view_of(index), axes=axes) is axes
