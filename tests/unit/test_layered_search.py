"""Search in layers: each can be left out, and order, quotas and limits hold with any of them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexes import BRIDGE, BRIDGE_QUESTION, DOCUMENTS, EMBEDDER, build, embed

from reflectory.errors import UserError
from reflectory.retrieval.search import layers as layers_module
from reflectory.retrieval.search.layers import LayeredSearch
from reflectory.retrieval.structure import RuleExtractor
from reflectory.types import Document

ALL = ("dense", "lexical", "graph", "rerank", "spread")
POSSIBLE = [
    (*first, *rest)
    for first in (("dense",), ("lexical",), ("dense", "lexical"))
    for size in range(4)
    for rest in combinations(ALL[2:], size)
]


def searcher(index, layers=ALL):
    return LayeredSearch(index, layers, RuleExtractor())


def search(index, text, layers=ALL, per_document=2, limit=4):
    return searcher(index, layers).search(text, embed(text), per_document, limit)


def ids(found):
    return [scored.passage.id for scored in found]


@pytest.fixture(scope="module")
def bridge():
    return build(BRIDGE, passage_tokens=40)


# --- what every set of layers keeps ----------------------------------------------------


@pytest.mark.parametrize("layers", POSSIBLE, ids=lambda layers: "+".join(layers))
@pytest.mark.parametrize("query", [BRIDGE_QUESTION, "school", "the of which", "Ilse Varga", "zzz"])
def test_order_quotas_and_limits_hold(bridge, layers, query):
    everything = search(bridge, query, layers, per_document=9, limit=99)
    keys = [(-scored.score, scored.passage.id) for scored in everything]
    assert keys == sorted(keys) and len(set(ids(everything))) == len(everything)
    assert all(0 < scored.score <= 1 for scored in everything)
    assert not everything or everything[0].score == 1
    for per_document, limit in ((1, 3), (1, 99), (2, 2)):
        found = search(bridge, query, layers, per_document, limit)
        owners = [scored.passage.document_id for scored in found]
        assert all(owners.count(owner) <= per_document for owner in owners)
        wide = search(bridge, query, layers, per_document, 99)
        assert found == wide[:limit]
        assert len(found) == min(limit, len(wide))
    for scored in everything:
        assert set(scored.signals) == {"dense", "lexical", "graph"} & set(layers)
        assert scored.path[0].kind == "question" and scored.path[-1].name == scored.passage.id


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=100), st.integers(1, 4), st.integers(1, 50))
def test_dense_search_equals_sorting_everything(kinds, per_document, limit):
    vocabulary = ["red rock", "red dust", "grey rock", "blue sea"]
    documents = [Document(id=f"d{n:03}", text=vocabulary[kind]) for n, kind in enumerate(kinds)]
    index = build(documents, layers=())
    query = embed("red rock")
    vectors = asyncio.run(EMBEDDER.embed([p.text for p in index.passages]))
    cosines = np.round((vectors @ query).astype(float), 6)
    order = sorted(zip(-cosines, [p.id for p in index.passages], strict=True))
    found = LayeredSearch(index, ("dense",)).search("red rock", query, per_document, limit)
    assert ids(found) == [name for _, name in order][:limit]
    assert [s.signals["dense"] for s in found] == [-cosine for cosine, _ in order][:limit]


def test_ties_are_ordered_by_id():
    found = search(build(), "the moon is grey", ("dense",), limit=10)
    assert ids(found)[:2] == ["moon#0", "same#0"]
    assert found[0].score == found[1].score == 1


def test_the_quota_of_a_document_holds():
    found = search(build(), "the moon craters", per_document=1, limit=10)
    assert sorted(scored.passage.document_id for scored in found) == ["mars", "moon", "same"]


@pytest.mark.parametrize("layers", [("dense",), ("lexical",), ALL])
def test_a_long_document_does_not_crowd_out_the_others(layers):
    """More passages of one document are better than all others than a layer names at first."""
    book = "\n\n".join(f"The red rock number {n}." for n in range(3 * layers_module.DEPTH))
    documents = [Document(id="book", title="Red rock", text=book)]
    documents += [
        Document(id=f"d{n}", text=f"Some rock and many other words {n}.") for n in range(9)
    ]
    found = search(build(documents), "red rock", layers, per_document=2, limit=6)
    owners = [scored.passage.document_id for scored in found]
    assert len(found) == 6 and owners.count("book") == 2


def test_scores_far_below_the_best_keep_their_order():
    """One text with rare words stands dozens of deviations above the mean of a large corpus."""
    documents = [Document(id=f"z{n}", text=f"plain text number n{n}") for n in range(3000)]
    documents += [
        Document(id="best", text="quince marmalade"),
        Document(id="y", text="quince jam a"),
    ]
    documents += [Document(id="a", text="marmalade toast with plain text and more plain text")]
    index = build(documents, passage_tokens=20, layers=("lexical",))
    found = search(index, "quince marmalade text", ("lexical",), limit=8)
    assert ids(found)[:3] == ["best#0", "y#0", "a#0"]
    bm25 = [scored.signals["lexical"] for scored in found]
    assert bm25 == sorted(bm25, reverse=True)
    assert all(0 < scored.score <= 1 for scored in found)
    assert found[2].score > found[3].score


# --- layers ----------------------------------------------------------------------------


def test_each_layer_makes_a_difference():
    bridge = build(BRIDGE, passage_tokens=10)  # documents of two passages, for the spread
    whole = search(bridge, BRIDGE_QUESTION, limit=9)
    for layer in ALL:
        rest = [name for name in ALL if name != layer]
        assert search(bridge, BRIDGE_QUESTION, rest, limit=9) != whole, layer


@pytest.mark.parametrize("first", [("dense",), ("lexical",), ("dense", "lexical")])
def test_the_second_document_of_a_question_is_found_over_the_graph(bridge, first):
    assert "varga#0" not in ids(search(bridge, BRIDGE_QUESTION, first, limit=6))
    walked = search(bridge, BRIDGE_QUESTION, (*first, "graph"), limit=4)
    (second,) = [scored for scored in walked if scored.passage.id == "varga#0"]
    assert [step.name for step in second.path[1:]] == ["harbour#0", "Ilse Varga", "varga#0"]
    assert second.signals["graph"] > 0
    everything = search(bridge, BRIDGE_QUESTION, ALL, limit=4)
    assert ids(everything)[0] == "harbour#0" and "varga#0" in ids(everything)


def test_a_document_about_what_is_asked_about_is_found_by_its_name(bridge):
    found = search(bridge, "Where did Tomas Keller go?", limit=2)
    assert ids(found)[0] == "keller#0"


def test_a_name_of_too_many_documents_is_an_ordinary_word(monkeypatch, bridge):
    prepared = searcher(bridge)
    prepared.prepare()
    named = prepared._names.find("Where is Tomas Keller?")
    assert searcher(bridge)._about(named).tolist() == [6]
    monkeypatch.setattr(layers_module, "_MOST_NAMED", 0)
    assert searcher(bridge)._about(named).tolist() == []


def test_words_alone_find_nothing_without_a_word_of_the_question(bridge):
    for layers in (("lexical",), ("lexical", "rerank", "spread")):
        assert search(bridge, "zzz qqq", layers) == []
        assert search(bridge, "which of the", layers) == []


@pytest.mark.filterwarnings("error")
def test_texts_without_words_are_searched_without_an_error():
    index = build([Document(id="a", text="... !"), Document(id="b", text="-- ?")])
    assert search(index, "moon", ("lexical", "graph", "rerank", "spread")) == []
    assert ids(search(index, "moon")) == ["a#0", "b#0"]


@pytest.mark.parametrize(
    "query",
    ["", " ", "?!", "Ünïcode naïveté", "月の裏側", "луна", "القمر", "🌕🌖", "\x00", "a" * 5000],
)
def test_any_question_has_an_answer_or_none(bridge, query):
    for layers in (ALL, ("lexical",), ("dense",)):
        found = search(bridge, query, layers, limit=3)
        assert len(found) <= 3 and all(0 < scored.score <= 1 for scored in found)


def test_a_question_of_ten_thousand_words_is_searched(bridge):
    query = "The Glass Harbour was directed by nobody. " * 1500
    assert ids(search(bridge, query, limit=1)) == ["harbour#0"]
    nonsense = " ".join(f"w{n}" for n in range(10_000))
    assert len(search(bridge, nonsense, limit=3)) == 3


def test_one_passage_is_found_by_everything():
    index = build([Document(id="a", title="Moon", text="The moon is grey.")])
    for layers in POSSIBLE:
        (found,) = search(index, "grey moon", layers)
        assert found.score == 1 and found.passage.id == "a#0"


def test_passages_that_are_all_alike_are_found_by_id():
    documents = [Document(id=f"d{n}", text="The moon is grey.") for n in range(9, -1, -1)]
    index = build(documents)
    for layers in (("dense",), ("lexical",), ("dense", "lexical", "rerank", "spread")):
        found = search(index, "grey moon", layers, limit=3)
        assert [s.score for s in found] == [1, 1, 1]
        assert ids(found) == ["d0#0", "d1#0", "d2#0"]


# --- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize("layers", [ALL, ("dense",), ("lexical",)])
@pytest.mark.parametrize("vector", [np.zeros(3), np.full(64, np.nan), np.zeros((1, 64))])
def test_a_vector_that_does_not_fit_is_refused(layers, vector):
    with pytest.raises(UserError, match="query vector"):
        searcher(build(), layers).search("moon", vector, 1, 1)


def test_numbers_below_one_are_refused():
    index, query = searcher(build()), embed("moon")
    with pytest.raises(UserError, match="limit is 0"):
        index.search("moon", query, 1, 0)
    with pytest.raises(UserError, match="per_document is 0"):
        index.search("moon", query, 0, 4)


@pytest.mark.parametrize("layer", ["lexical", "graph", "rerank"])
def test_a_layer_that_the_index_lacks_is_refused(layer):
    with pytest.raises(UserError, match=f"without the {layer} layer") as caught:
        searcher(build(layers=()), ("dense", layer))
    assert layer in caught.value.hint


def test_layers_that_find_nothing_are_refused():
    with pytest.raises(UserError, match="nothing would be found"):
        searcher(build(), ("graph", "rerank", "spread"))


# --- the same every time ---------------------------------------------------------------


def test_many_threads_find_what_one_finds(bridge):
    queries = [BRIDGE_QUESTION, "Who wrote The Iron Forest?", "glass school", "Tomas Keller"] * 25
    expected = {query: search(bridge, query) for query in queries[:4]}
    fresh = searcher(build(BRIDGE, passage_tokens=40))  # nothing of it is prepared

    def ask(query):
        return query, fresh.search(query, embed(query), 2, 4)

    with ThreadPoolExecutor(8) as pool:
        for query, found in pool.map(ask, queries):
            assert found == expected[query]


def test_preparing_changes_nothing_and_can_be_done_twice():
    index = build(DOCUMENTS)
    prepared = searcher(index)
    prepared.prepare()
    prepared.prepare()
    assert prepared.search("red", embed("red"), 2, 4) == search(index, "red")
