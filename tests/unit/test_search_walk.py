"""The walk over the graph: probabilities, hubs, islands, and the same every time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.retrieval.graph.knowledge_graph import EntityRelation, KnowledgeGraph
from reflectory.retrieval.search.walk import GOES_ON, STEPS, Walk


def graph_of(holders, passages, *, documents=None, similar=(), relations=(), strength=None):
    """Return a graph of entities that the given passages mention."""
    pairs = [(row, entity) for entity, rows in enumerate(holders) for row in rows]
    mentions = np.zeros((passages, len(holders)), dtype=np.float32)
    for row, entity in pairs:
        mentions[row, entity] = 1
    document_of = np.arange(passages) if documents is None else documents
    similarity = np.zeros((passages, passages), dtype=np.float32)
    for one, other, cosine in similar:
        similarity[one, other] = similarity[other, one] = cosine
    names = tuple(f"e{n:02}" for n in range(len(holders)))
    return KnowledgeGraph(
        document_of=np.asarray(document_of, dtype=np.int32),
        entities=names,
        keys=names,
        strength=np.ones(len(holders), dtype=np.float32) if strength is None else strength,
        aliases={},
        mentions=sp.csr_matrix(mentions),
        about=sp.csr_matrix((int(np.max(document_of)) + 1, len(holders)), dtype=np.float32),
        similarity=sp.csr_matrix(similarity),
        relations=tuple(relations),
    )


def walked(graph, rows=(0,), weights=None):
    start = np.full(len(rows), 1 / len(rows)) if weights is None else np.asarray(weights)
    found = Walk(graph).from_passages(np.asarray(rows), start.astype(np.float32))
    assert found.dtype == np.float32 and found.shape == (len(graph.document_of),)
    return found


@st.composite
def graphs(draw):
    passages = draw(st.integers(1, 8))
    rows = st.sets(st.integers(0, passages - 1), max_size=passages)
    holders = draw(st.lists(rows, max_size=6))
    similar = draw(
        st.lists(
            st.tuples(
                st.integers(0, passages - 1),
                st.integers(0, passages - 1),
                st.floats(0.625, 1, width=32),
            ),
            max_size=4,
        )
    )
    ends = st.integers(0, max(0, len(holders) - 1))
    triples = st.builds(EntityRelation, ends, st.just("is"), ends, st.just(0))
    relations = draw(st.lists(triples, max_size=4)) if holders else []
    start = sorted(draw(st.sets(st.integers(0, passages - 1), min_size=1)))
    pairs = [(a, b, w) for a, b, w in similar if a != b]
    return graph_of(holders, passages, similar=pairs, relations=relations), start


@settings(max_examples=200)
@given(graphs())
def test_a_walker_is_somewhere_with_a_probability_of_at_most_one(given_):
    graph, start = given_
    found = walked(graph, start)
    assert (found >= 0).all() and found.sum() <= 1 + 1e-5
    for row in start:
        assert found[row] >= (1 - GOES_ON) / len(start) - 1e-6
    assert np.array_equal(found, walked(graph, start))


@given(graphs())
def test_the_walk_is_linear_in_its_start(given_):
    graph, start = given_
    alone = sum(walked(graph, [row]) / len(start) for row in start)
    assert walked(graph, start) == pytest.approx(alone, abs=1e-5)


@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_the_start_changes_nothing(given_, random):
    graph, start = given_
    turned = list(start)
    random.shuffle(turned)
    assert walked(graph, turned) == pytest.approx(walked(graph, start), abs=1e-6)


@given(graphs())
def test_a_walker_goes_only_where_edges_lead(given_):
    """Reached in the plain sense, over entities, relations and similar passages."""
    graph, start = given_
    n, m = graph.holds.shape
    joining = (graph.holds.toarray() > 0) & (graph.rarity > 0)
    edges = np.zeros((n + m, n + m), dtype=bool)
    edges[:n, n:] = joining
    edges[n:, :n] = joining.T
    edges[:n, :n] = graph.similarity.toarray() > 0
    edges[n:, n:] = (graph.related.toarray() > 0) & (graph.rarity > 0)
    reached = np.zeros(n + m, dtype=bool)
    reached[start] = True
    for _ in range(STEPS):
        reached = reached | (reached @ edges)
    found = walked(graph, start)
    assert np.array_equal(found > 0, reached[:n])


def test_nothing_leads_out_of_an_island():
    graph = graph_of([{0, 1}, {2, 3}], 5)
    found = walked(graph, [0])
    assert found[1] > 0 and found[2:].tolist() == [0, 0, 0]
    assert walked(graph, [4]).tolist() == [0, 0, 0, 0, 0.5]  # the rest of the time it is nowhere


def test_a_shared_rare_entity_leads_further_than_a_hub():
    passages = 30
    graph = graph_of([set(range(29)), {0, 29}], passages)
    found = walked(graph, [0])
    assert found[29] > 5 * found[1] > 0
    assert found[1:29] == pytest.approx([found[1]] * 28, abs=1e-6)


def test_an_entity_of_a_weak_kind_leads_less_far():
    strength = np.asarray([1.0, 0.3], dtype=np.float32)
    found = walked(graph_of([{0, 1}, {0, 2}], 3, strength=strength))
    assert found[1] > found[2] > 0


def test_what_one_passage_alone_holds_joins_nothing():
    graph = graph_of([{0}, {0, 1}, set()], 2)
    assert graph.rarity[0] == graph.rarity[2] == 0 < graph.rarity[1]
    assert np.array_equal(walked(graph), walked(graph_of([{0, 1}], 2)))


def test_similar_passages_and_relations_are_edges_too():
    assert walked(graph_of([], 2, similar=[(0, 1, 0.9)]))[1] > 0
    apart = [{0, 1}, {2, 3}]
    assert walked(graph_of(apart, 4))[2] == 0
    related = graph_of(apart, 4, relations=[EntityRelation(0, "met", 1, 0)])
    assert walked(related)[2] > 0


@pytest.mark.parametrize("passages", [1, 3])
def test_a_graph_without_entities_leaves_the_walker_where_it_is(passages):
    assert walked(graph_of([], passages)).tolist() == [0.5] + [0] * (passages - 1)


def test_many_threads_walk_the_same():
    graph = graph_of([{n, n + 1, (7 * n) % 40} for n in range(40)], 41)
    walk = Walk(graph)

    def go(row):
        return walk.from_passages(np.asarray([row]), np.ones(1, dtype=np.float32))

    expected = [walked(graph, [row]) for row in range(41)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(go, range(41)))  # nobody prepared it
    assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))
