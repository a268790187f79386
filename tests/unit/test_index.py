"""The passage index: what it holds, what is refused, and what decides its identity."""

import asyncio

import numpy as np
import pytest
from indexes import DOCUMENTS, EMBEDDER, CountingEmbedder, build, embed

from reflectory.errors import BackendError, DocumentError, UserError
from reflectory.retrieval.index import PassageIndex, built_for, check_extractor
from reflectory.retrieval.index import building as building_module
from reflectory.retrieval.index.joining import embedded_text
from reflectory.retrieval.structure import RuleExtractor
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Document


def test_passages_keep_ids_offsets_title_and_source():
    index = build()
    texts = {document.id: document.text for document in index.documents}
    assert [p.id for p in index.passages if p.document_id == "mars"] == ["mars#0", "mars#1"]
    for passage in index.passages:
        assert passage.text == texts[passage.document_id][passage.start : passage.end]
    assert {p.source for p in index.passages if p.document_id == "mars"} == {"m.txt"}
    assert len(index) == len(index.passages) == 6


def test_every_part_has_a_row_for_every_passage():
    index = build()
    assert index.document_of.tolist() == [0, 0, 0, 1, 1, 2]
    assert len(index.vectors) == len(index.lexical) == index.graph.mentions.shape[0] == 6
    assert [s.document_id for s in index.structures] == ["moon", "mars", "same"]
    assert [index.rows_of_document(d).tolist() for d in range(3)] == [[0, 1, 2], [3, 4], [5]]


def test_the_title_is_embedded_where_the_text_lacks_it():
    index = build()
    mars = index.passages[4]
    assert embedded_text(mars) == "Mars\nIts craters are young."
    assert embedded_text(index.passages[3]) == "Mars is red."
    assert index.vectors.search(embed(embedded_text(mars)), 1)[1].tolist() == [[4]]


def test_words_of_the_title_are_searched_too():
    index = build()
    scores = index.lexical.scores(index.lexical.query("mars"))
    assert np.flatnonzero(scores).tolist() == [3, 4]


def test_documents_are_preprocessed_and_empty_ones_have_no_passages():
    index = build([Document(id="a", text="Cafe\u0301\r\n"), Document(id="b", text=" \x00 ")])
    assert index.documents[0].text == "Café\n"
    assert [p.text for p in index.passages] == ["Café"]
    assert len(index.documents) == 2
    assert index.rows_of_document(1).tolist() == []


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "no documents"),
        ([Document(id="a", text=" \n")], "none of the 1 documents has text"),
        ([DOCUMENTS[0], DOCUMENTS[0]], "'moon'"),
    ],
)
def test_documents_that_make_no_index_are_refused(documents, message):
    with pytest.raises(DocumentError, match=message):
        build(documents)


class _BadEmbedder(HashingEmbedder):
    def __init__(self, change):
        super().__init__(64)
        self._change = change

    async def embed(self, texts):
        return self._change(await super().embed(texts))


@pytest.mark.parametrize(
    "change", [lambda v: v[:1], lambda v: v * np.nan, lambda v: v * 3, lambda v: v[:, :9]]
)
def test_what_is_no_unit_vector_is_refused(change):
    with pytest.raises(BackendError) as caught:
        build(embedder=_BadEmbedder(change))
    assert not caught.value.retryable


def test_progress_reaches_the_end():
    calls = []
    embedder = CountingEmbedder()
    documents = [Document(id=str(n), text="word") for n in range(2500)]
    build(documents, embedder, progress=lambda done, total: calls.append((done, total)), layers=())
    assert calls == [(1024, 2500), (2048, 2500), (2500, 2500)]
    assert [len(call) for call in embedder.calls] == [1024, 1024, 452]
    assert building_module.EMBEDDED_AT_ONCE == 1024


def test_layers_that_were_not_asked_for_are_not_there():
    plain = build(layers=())
    assert plain.lexical is None and plain.graph is None and len(plain.structures) == 0
    assert plain.extractor_fingerprint == ""
    worded = build(layers=("lexical",))
    assert worded.lexical is not None and worded.graph is None


@pytest.mark.parametrize(
    ("configured", "needed"),
    [
        (("dense",), set()),
        (("dense", "spread"), set()),
        (("dense", "rerank"), {"lexical"}),
        (("lexical",), {"lexical"}),
        (("dense", "graph"), {"graph"}),
        (("dense", "lexical", "graph", "rerank", "spread"), {"lexical", "graph"}),
    ],
)
def test_an_index_is_built_for_the_layers_of_a_configuration(configured, needed):
    assert built_for(configured) == needed


def test_the_fingerprint_follows_content_embedder_and_layers():
    base = build().fingerprint
    assert base == build().fingerprint
    others = [
        build(DOCUMENTS[:2]).fingerprint,
        build(DOCUMENTS[::-1]).fingerprint,
        build(passage_tokens=3).fingerprint,
        build(embedder=HashingEmbedder(65)).fingerprint,
        build(layers=()).fingerprint,
        build(layers=("lexical",)).fingerprint,
    ]
    assert len({base, *others}) == 7


def test_another_extractor_is_refused():
    class Newer(RuleExtractor):
        VERSION = RuleExtractor.VERSION + 1

    index = build()
    check_extractor(index, RuleExtractor())
    with pytest.raises(UserError, match=r"made with the extractor rules-\d") as caught:
        check_extractor(index, Newer())
    assert "again" in caught.value.hint
    with pytest.raises(UserError, match=r"made with the extractor rules-\d"):
        asyncio.run(index.extended(DOCUMENTS, EMBEDDER, extractor=Newer()))


def test_many_builds_at_once_give_one_result():
    async def many():
        builds = (PassageIndex.build(DOCUMENTS, EMBEDDER, passage_tokens=16) for _ in range(8))
        return await asyncio.gather(*builds)

    assert len({index.fingerprint for index in asyncio.run(many())}) == 1
