"""An index that grew equals one that was built at once, and nothing is embedded twice."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexes import (
    BRIDGE,
    DOCUMENTS,
    EMBEDDER,
    CountingEmbedder,
    build,
    embed,
    extend,
    files_of,
)

from reflectory.errors import DocumentError, UserError
from reflectory.retrieval import IndexRetriever
from reflectory.retrieval.index import PassageIndex
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Document

TEXTS = [
    *(document.text for document in BRIDGE),
    "Ilse Varga met Tomas Keller in 1962.\n\nThe Glass Harbour was her first film.\n\nNo more.",
    "",
    "Tomas Keller met Ilse Varga.",
    "...",
]
corpora = st.dictionaries(
    st.sampled_from("abcdefgh"), st.sampled_from(range(len(TEXTS))), min_size=1, max_size=8
)


def document(name, number):
    return Document(id=name, title=f"Page {name}" if number % 2 else "", text=TEXTS[number])


def documents_of(numbers):
    return [document(name, number) for name, number in numbers.items()]


def assert_same(index, fresh):
    """Everything but the edges between similar passages, which depend on who came first."""
    assert list(index.documents) == list(fresh.documents)
    assert list(index.passages) == list(fresh.passages)
    assert list(index.structures) == list(fresh.structures)
    assert index.document_of.tolist() == fresh.document_of.tolist()
    rows = np.arange(len(fresh))
    assert np.array_equal(index.vectors.rows(rows), fresh.vectors.rows(rows))
    for query in ("ilse varga film", "met 1962", "sea", "unknown"):
        asked = fresh.lexical.query(query)
        assert np.array_equal(index.lexical.query(query), asked)
        assert np.array_equal(index.lexical.scores(asked), fresh.lexical.scores(asked))
        assert np.array_equal(index.lexical.weights(asked), fresh.lexical.weights(asked))
        held = index.lexical.holds(asked, rows.tolist())
        assert np.array_equal(held, fresh.lexical.holds(asked, rows.tolist()))
    for name in ("keys", "entities", "relations"):
        assert getattr(index.graph, name) == getattr(fresh.graph, name)
    for name in ("mentions", "about"):
        mine, theirs = getattr(index.graph, name), getattr(fresh.graph, name)
        assert mine.shape == theirs.shape and (mine != theirs).nnz == 0
    assert index.graph.similarity.shape == fresh.graph.similarity.shape
    # Edges of similarity depend on the order of growth, and the identity says so.
    assert (index.fingerprint == fresh.fingerprint) == (not index._parts.grown)


def has_text(documents):
    return any(document.text.strip() for document in documents)


@settings(max_examples=60)
@given(corpora, st.lists(corpora, min_size=1, max_size=3))
def test_an_extended_index_equals_one_that_was_built_at_once(first, later):
    """Also where documents are replaced, come back, or have no words."""
    if not has_text(documents_of(first)):
        first = {**first, "z": 0}
    index, known = build(documents_of(first)), dict(first)
    for more in later:
        old = dict(known)
        for name, number in more.items():
            if old.get(name) != number:
                known.pop(name, None)
        kept = list(known.items())
        known.update(more)
        if not has_text(documents_of(known)):
            with pytest.raises(DocumentError, match="has text"):
                extend(index, documents_of(more))
            return
        index = extend(index, documents_of(more))
        order = [*(name for name, _ in kept), *(n for n in more if n not in dict(kept))]
        known = {name: known[name] for name in order}
        assert_same(index, build(documents_of(known)))


@settings(max_examples=30)
@given(corpora, corpora)
def test_no_text_is_embedded_that_was_embedded_before(first, more):
    first["z"] = 0
    embedder = CountingEmbedder()
    index = build(documents_of(first), embedder)
    embedder.calls.clear()
    again = extend(index, documents_of(more), embedder)
    new = [name for name, number in more.items() if first.get(name) != number]
    expected = sum(passage.document_id in new for passage in again.passages)
    assert len(embedder.texts) == expected


def test_what_is_known_costs_nothing_and_changes_nothing():
    embedder, calls = CountingEmbedder(), []
    index = build(DOCUMENTS, embedder)
    embedder.calls.clear()
    again = extend(index, DOCUMENTS[::-1], embedder, progress=lambda *call: calls.append(call))
    assert embedder.calls == [] and calls == []
    assert_same(again, index)


def test_a_known_id_with_another_text_takes_the_old_ones_place():
    changed = DOCUMENTS[0].model_copy(update={"text": "The moon is full."})
    index = extend(build(), [changed])
    assert [document.id for document in index.documents] == ["mars", "same", "moon"]
    assert [p.text for p in index.passages if p.document_id == "moon"] == ["The moon is full."]
    grey = index.lexical.scores(index.lexical.query("craters old"))
    assert np.flatnonzero(grey).tolist() == [1]  # only Mars has craters now


def test_all_documents_can_be_replaced():
    changed = [d.model_copy(update={"text": f"Now {d.id}."}) for d in DOCUMENTS]
    assert_same(extend(build(), changed), build(changed))


def test_a_document_can_lose_its_text():
    index = extend(build(), [DOCUMENTS[0].model_copy(update={"text": ""})])
    assert [passage.document_id for passage in index.passages] == ["mars", "mars", "same"]
    assert len(index.documents) == 3


def test_progress_counts_what_is_new():
    calls = []
    extend(build(DOCUMENTS[:1]), DOCUMENTS, progress=lambda *call: calls.append(call))
    assert calls == [(3, 3)]


def test_the_old_index_stays_as_it_is():
    index = build(DOCUMENTS[:2])
    before = [list(index.passages), index.fingerprint, index.graph.keys, len(index.lexical)]
    extend(index, [DOCUMENTS[2], DOCUMENTS[1].model_copy(update={"text": "Mars."})])
    assert [list(index.passages), index.fingerprint, index.graph.keys, len(index.lexical)] == before


@pytest.mark.parametrize("layers", [(), ("lexical",), ("graph",)])
def test_an_extended_index_has_the_layers_of_the_old_one(layers):
    index = extend(build(DOCUMENTS[:1], layers=layers), DOCUMENTS)
    fresh = build(layers=layers)
    assert (index.lexical is not None) == ("lexical" in layers)
    assert (index.graph is not None) == ("graph" in layers)
    # Edges of similarity depend on the order of growth, and the identity says so.
    assert (index.fingerprint == fresh.fingerprint) == (not index._parts.grown)


def test_a_loaded_index_grows_in_its_folder(tmp_path):
    folder = build(BRIDGE[:5], passage_tokens=40).save(tmp_path / "index")
    embedder = CountingEmbedder()
    loaded = PassageIndex.load(folder, embedder)
    grown = extend(loaded, BRIDGE, embedder)
    assert len(embedder.texts) == len(BRIDGE) - 5
    grown.save(folder)
    again = PassageIndex.load(folder, EMBEDDER)
    assert_same(again, build(BRIDGE, passage_tokens=40))
    found = asyncio.run(IndexRetriever(again, EMBEDDER).retrieve("sea", per_document=1, limit=3))
    assert found == asyncio.run(
        IndexRetriever(grown, EMBEDDER).retrieve("sea", per_document=1, limit=3)
    )


def test_the_files_of_words_are_those_of_a_fresh_index(tmp_path):
    changed = BRIDGE[0].model_copy(update={"text": "Another text."})
    grown = extend(build([changed, *BRIDGE[1:6]]), BRIDGE).save(tmp_path / "grown")
    fresh = build([*BRIDGE[1:6], BRIDGE[0], *BRIDGE[6:]]).save(tmp_path / "fresh")
    mine, theirs = files_of(grown), files_of(fresh)
    for name in theirs:
        if not name.startswith("graph/similarity") and name not in ("index.json",):
            assert mine[name] == theirs[name], name


def test_a_corpus_without_words_can_get_some():
    wordless = build([Document(id="a", text="... !")])
    assert_same(extend(wordless, DOCUMENTS), build([Document(id="a", text="... !"), *DOCUMENTS]))


def test_new_passages_are_joined_with_similar_old_ones():
    index = extend(build(DOCUMENTS[:2]), DOCUMENTS[2:])
    row = {passage.id: n for n, passage in enumerate(index.passages)}
    assert index.graph.similarity[row["moon#0"], row["same#0"]] == pytest.approx(1, abs=1e-5)
    assert index.graph.similarity[row["same#0"], row["moon#0"]] == pytest.approx(1, abs=1e-5)


def test_another_embedder_and_repeated_ids_are_refused():
    with pytest.raises(UserError, match="hashing:64, not with hashing:32"):
        extend(build(), DOCUMENTS, HashingEmbedder(32))
    with pytest.raises(DocumentError, match="'moon'"):
        extend(build(), [DOCUMENTS[0], DOCUMENTS[0]])
    with pytest.raises(DocumentError, match="no documents"):
        extend(build(), [])


def test_the_nearest_passage_of_a_query_may_be_a_new_one():
    index = extend(build(DOCUMENTS[:1]), DOCUMENTS[1:2])
    assert index.vectors.search(embed("mars is red"), 1)[1].tolist() == [[3]]
