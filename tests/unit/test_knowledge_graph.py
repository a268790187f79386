"""The knowledge graph: from documents to edges, and the same from its files and in networkx."""

import json

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexes import BRIDGE, build

from reflectory.errors import IntegrityError
from reflectory.retrieval.graph.building import NEIGHBOURS, SIMILAR, similar_passages
from reflectory.retrieval.graph.files import read_graph, write_graph
from reflectory.retrieval.graph.view import networkx_view
from reflectory.retrieval.vectors import VectorIndex
from reflectory.types import Document

TOLD = [
    Document(
        id="wedding",
        title="Anna Lind",
        text="Anna Lind married Otto Berg in May.\n\nThen she sang for all of us there."
        "\n\nOtto Berg listened to Anna Lind.",
    ),
    Document(id="ship", title="Otto Berg", text="A ship was built. Otto Berg paid for it."),
    Document(id="blank", title="Blank", text=""),
    Document(id="moon", title="Moon", text="The moon is grey."),
    Document(id="same", title="Moon", text="The moon is grey."),
    Document(id="empty", title="", text=" "),
]


@pytest.fixture(scope="module")
def index():
    return build(TOLD, passage_tokens=9)


@pytest.fixture(scope="module")
def graph(index):
    return index.graph


def edges_of(view, kind):
    return {(a, b): data for a, b, data in view.edges(data=True) if data["kind"] == kind}


# --- what it says ----------------------------------------------------------------------


def test_passages_mention_what_stands_in_them(index, graph):
    for row, passage in enumerate(index.passages):
        for entity, name in enumerate(graph.entities):
            assert graph.mentions[row, entity] == passage.text.count(name), (passage.text, name)


def test_a_passage_holds_what_its_document_is_about(index, graph):
    lind = graph.entities.index("Anna Lind")
    rows = index.rows_of_document(0)
    assert [graph.mentions[row, lind] for row in rows] == [1, 0, 1]
    assert [graph.holds[row, lind] for row in rows] == [3, 2, 3]
    assert all(lind in graph.held_by(int(row)) for row in rows)
    assert graph.subjects_of(int(rows[1])).tolist() == [lind]
    assert graph.holds.T.tocsr()[lind].indices.tolist() == rows.tolist()


def test_numbers_of_the_graph_follow_from_what_is_held(graph):
    held = graph.holds.toarray() > 0
    assert graph.frequency.tolist() == held.sum(axis=0).tolist()
    for entity, count in enumerate(graph.frequency):
        expected = np.log1p(len(held) / count) * graph.strength[entity] if count > 1 else 0
        assert graph.rarity[entity] == pytest.approx(expected, rel=1e-5)
    rows = [0, 3, 2]
    shared = graph.shared(rows)
    assert shared.shape == (3, 3) and np.allclose(shared, shared.T, rtol=1e-5)
    assert (shared >= 0).all()
    assert shared[0, 2] > 0 == graph.shared([0, 4])[0, 1]


def test_relations_say_who_did_what_and_where(index, graph):
    told = [(r.verb, graph.entities[r.subject], graph.entities[r.object]) for r in graph.relations]
    place = told.index(("married", "Anna Lind", "Otto Berg"))
    assert index.passages[graph.relations[place].passage].id == "wedding#0"
    lind, berg = graph.entities.index("Anna Lind"), graph.entities.index("Otto Berg")
    assert graph.related[lind, berg] == graph.related[berg, lind] > 0
    assert graph.verbs[min(lind, berg), max(lind, berg)] == "married"  # listened to, later


def test_entities_are_mentioned_together_in_passages(graph):
    lind, berg = graph.entities.index("Anna Lind"), graph.entities.index("Otto Berg")
    assert graph.cooccurrence[lind, berg] == graph.cooccurrence[berg, lind] == 2
    assert not graph.cooccurrence.diagonal().any()


def test_dates_tell_less_than_names():
    graph = build(BRIDGE, passage_tokens=40).graph
    strength = dict(zip(graph.entities, graph.strength.tolist(), strict=True))
    assert strength["1962"] == pytest.approx(0.3) and strength["Ilse Varga"] == 1


def test_documents_without_passages_have_no_edges(index, graph):
    assert graph.about.shape[0] == len(TOLD)
    assert len(index.rows_of_document(2)) == len(index.rows_of_document(5)) == 0


def test_texts_without_names_make_a_graph_without_entities(tmp_path):
    index = build([Document(id="a", text="dough must rest"), Document(id="b", text="stones lie")])
    graph = index.graph
    assert graph.entities == () and graph.holds.shape == (2, 0)
    assert graph.shared([0, 1]).tolist() == [[0, 0], [0, 0]]
    assert graph.cooccurrence.shape == graph.related.shape == (0, 0)
    write_graph(tmp_path, graph)
    assert read_graph(tmp_path).mentions.shape == (2, 0)
    assert len(networkx_view(graph, index.documents, index.passages)) == 4


# --- similar passages ------------------------------------------------------------------


def brute_similar(rows, documents):
    size = len(rows)
    cosines = rows @ rows.T
    found = np.zeros((size, size), dtype=np.float32)
    for row in range(size):
        order = sorted(range(size), key=lambda other: (-cosines[row, other], other))
        order = order[: 2 * NEIGHBOURS + 1]
        apart = [other for other in order if documents[other] != documents[row]][:NEIGHBOURS]
        for other in apart:
            if cosines[row, other] >= SIMILAR:
                found[row, other] = found[other, row] = cosines[row, other]
    return found


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=25), st.integers(0, 2**32 - 1))
def test_similar_passages_are_the_nearest_of_other_documents(owners, seed):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((len(owners), 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    documents = np.sort(np.asarray(owners, dtype=np.int32))
    found = similar_passages(VectorIndex.build(rows), documents)
    assert found.toarray() == pytest.approx(brute_similar(rows, documents), abs=1e-6)
    assert (found != found.T).nnz == 0
    for first in range(len(owners)):
        known = similar_passages(VectorIndex.build(rows[: first + 1]), documents[: first + 1])
        grown = similar_passages(
            VectorIndex.build(rows), documents, known=known, first=first + 1
        ).toarray()
        # What was joined stays, each new one has its nearest, and all are truly similar.
        assert (grown[: first + 1, : first + 1] >= known.toarray()).all()
        assert (np.abs(grown - rows @ rows.T)[grown > 0] < 1e-5).all()
        fresh = found.toarray()
        nearest = brute_similar(rows, documents)[first + 1 :].max(axis=1, initial=0)
        assert grown[first + 1 :].max(axis=1, initial=0) == pytest.approx(
            np.maximum(nearest, 0), abs=1e-5
        )
        assert fresh.shape == grown.shape


# --- files -----------------------------------------------------------------------------


def test_a_graph_comes_back_from_its_files(tmp_path, graph):
    write_graph(tmp_path, graph)
    again = read_graph(tmp_path)
    for name in ("entities", "keys", "relations", "aliases"):
        assert getattr(again, name) == getattr(graph, name)
    for name in ("mentions", "about", "similarity", "holds", "cooccurrence", "related"):
        mine, theirs = getattr(again, name), getattr(graph, name)
        assert mine.shape == theirs.shape and (mine != theirs).nnz == 0
    assert np.array_equal(again.rarity, graph.rarity)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("entities.jsonl", '["a"]\n'),
        ("entities.jsonl", "{\n"),
        ("entities.jsonl", '["moon", "Moon"]\n'),
        ("relations.jsonl", "[1, 2]\n"),
        ("relations.jsonl", '[99, "is", 0, 0]\n'),
        ("relations.jsonl", '[0, "is", 0, -5]\n'),
        ("mentions.data.npy", ""),
        ("mentions.indptr.npy", "x"),
        ("document_of.npy", "no array"),
    ],
)
def test_files_that_say_something_else_are_damaged(tmp_path, graph, name, content):
    """Where their checksums were right: written by something else."""
    write_graph(tmp_path, graph)
    (tmp_path / name).write_text(content)
    with pytest.raises(IntegrityError, match=r"graph in .* is damaged"):
        read_graph(tmp_path)


def test_numbers_out_of_range_are_damaged(tmp_path, graph):
    write_graph(tmp_path, graph)
    indices = np.load(tmp_path / "mentions.indices.npy")
    np.save(tmp_path / "mentions.indices.npy", indices + len(graph.keys))
    with pytest.raises(IntegrityError, match="is damaged"):
        read_graph(tmp_path)


# --- networkx --------------------------------------------------------------------------


def test_the_whole_graph_is_shown_with_names_and_kinds(index, graph):
    view = networkx_view(graph, index.documents, index.passages)
    kinds = dict(view.nodes(data="kind"))
    assert set(kinds.values()) == {"document", "passage", "entity"}
    assert sum(kind == "passage" for kind in kinds.values()) == len(index)
    assert sum(kind == "entity" for kind in kinds.values()) == len(graph.keys)
    assert view.nodes["document:ship"] == {"kind": "document", "name": "Otto Berg"}
    assert view.nodes["passage:ship#0"]["title"] == "Otto Berg"
    assert all(data["kind"] and data["name"] for _, data in view.nodes(data=True))
    assert all(data["weight"] > 0 for *_, data in view.edges(data=True))


def test_each_kind_of_edge_is_there(index, graph):
    view = networkx_view(graph, index.documents, index.passages)
    lind, berg = "entity:anna lind", "entity:otto berg"
    assert len(edges_of(view, "part")) == len(index)
    assert ("document:ship", berg) in edges_of(view, "about")
    assert edges_of(view, "mention")["passage:wedding#2", lind]["weight"] == 1
    married = edges_of(view, "relation")[lind, berg]
    assert (married["verb"], married["passage"]) == ("married", "wedding#0")
    together = edges_of(view, "co-occurrence")
    assert together[min(lind, berg), max(lind, berg)]["weight"] == 2
    assert len(together) == graph.cooccurrence.nnz // 2
    (alike,) = edges_of(view, "similarity")
    assert alike == ("passage:moon#0", "passage:same#0")


def test_what_surrounds_passages_is_a_part_of_the_whole(index, graph):
    whole = networkx_view(graph, index.documents, index.passages)
    row = {passage.id: n for n, passage in enumerate(index.passages)}
    view = networkx_view(
        graph, index.documents, index.passages, rows=[row["wedding#0"], row["ship#0"]]
    )
    shown = {node for node, kind in view.nodes(data="kind") if kind == "entity"}
    assert shown == {"entity:otto berg"}  # only one of the two holds Anna Lind
    assert {node for node in view if node.startswith("passage:")} == {
        "passage:wedding#0", "passage:ship#0"
    }  # fmt: skip
    for one, other, data in view.edges(data=True):
        assert data in whole.get_edge_data(one, other).values()
    assert len(networkx_view(graph, index.documents, index.passages, rows=[])) == 0


def test_graphml_and_json_read_back_the_same(tmp_path, index, graph):
    view = networkx_view(graph, index.documents, index.passages)
    nx.write_graphml(view, tmp_path / "graph.graphml")
    again = nx.read_graphml(tmp_path / "graph.graphml", force_multigraph=True)
    data = json.loads(json.dumps(nx.node_link_data(view, edges="edges")))
    for read in (again, nx.node_link_graph(data, edges="edges", multigraph=True)):
        assert dict(read.nodes(data=True)) == dict(view.nodes(data=True))
        told = sorted(str((a, b, sorted(d.items()))) for a, b, d in view.edges(data=True))
        assert sorted(str((a, b, sorted(d.items()))) for a, b, d in read.edges(data=True)) == told
