"""Retrievers: one contract for all of them, and what the loop accepts as documents."""

import asyncio
import logging

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever

from reflectory.config import RetrievalConfig
from reflectory.errors import DocumentError, UserError
from reflectory.retrieval import (
    DocumentRetriever,
    IndexRetriever,
    LangChainRetriever,
    PassageIndex,
    Retriever,
    resolve_retriever,
)
from reflectory.retrieval.structure import RuleExtractor
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Document

CONFIG = RetrievalConfig(passage_tokens=16)
DOCUMENTS = [
    Document(
        id="moon", title="Moon", text="The moon is grey and cold.\n\n" * 3 + "It has craters."
    ),
    Document(id="mars", title="Mars", text="Mars is red and has craters."),
    Document(id="sea", title="Sea", text="The sea is blue."),
]
QUERY = "Which craters are on Mars?"


class CountingEmbedder(HashingEmbedder):
    def __init__(self):
        super().__init__(64)
        self.calls = []

    async def embed(self, texts):
        self.calls.append(len(texts))
        await asyncio.sleep(0)
        return await super().embed(texts)


class FixedRetriever(BaseRetriever):
    documents: list

    def _get_relevant_documents(self, query, *, run_manager):
        return self.documents


def langchain_documents():
    return [
        LangChainDocument(
            "Mars has craters.", metadata={"title": "Mars", "source": "/home/me/m.pdf"}
        ),
        LangChainDocument("Mars is red.", metadata={"title": "Mars", "source": "/home/me/m.pdf"}),
        LangChainDocument("Mars is far.", metadata={"title": "Mars", "source": "/home/me/m.pdf"}),
        LangChainDocument(
            "Mars has craters.", metadata={"title": "Mars", "source": "/home/me/m.pdf"}
        ),
        LangChainDocument("The sea is blue.\r\n"),
        LangChainDocument("  "),
    ]


def build_index(embedder=None):
    return asyncio.run(
        PassageIndex.build(DOCUMENTS, embedder or HashingEmbedder(64), passage_tokens=16)
    )


RETRIEVERS = {
    "index": lambda: IndexRetriever(build_index(), HashingEmbedder(64)),
    "documents": lambda: DocumentRetriever(DOCUMENTS, HashingEmbedder(64), CONFIG),
    "langchain": lambda: LangChainRetriever(FixedRetriever(documents=langchain_documents())),
}


# --- the contract ----------------------------------------------------------------------


@pytest.mark.parametrize("name", RETRIEVERS)
def test_every_retriever_keeps_the_contract(name):
    retriever = RETRIEVERS[name]()
    assert isinstance(retriever, Retriever)
    fingerprint = retriever.fingerprint

    async def use():
        first = await retriever.retrieve(QUERY, per_document=1, limit=4)  # before prepare
        assert await retriever.prepare() == await retriever.prepare()
        again = await asyncio.gather(
            *(retriever.retrieve(QUERY, per_document=1, limit=4) for _ in range(5))
        )
        assert all(found == first for found in again)
        wide = await retriever.retrieve(QUERY, per_document=2, limit=50)
        narrow = await retriever.retrieve(QUERY, per_document=2, limit=2)
        return first, wide, narrow

    first, wide, narrow = asyncio.run(use())
    for found, quota in ((first, 1), (wide, 2)):
        documents = [scored.passage.document_id for scored in found]
        assert found and max(documents.count(name) for name in documents) <= quota
        assert len({scored.passage.id for scored in found}) == len(found)
        keys = [(-scored.score, scored.passage.id) for scored in found]
        assert keys == sorted(keys)
        assert all(0 <= s.passage.start < s.passage.end for s in found)
    assert narrow == wide[:2]
    assert retriever.fingerprint == fingerprint == RETRIEVERS[name]().fingerprint


def test_the_best_passage_is_the_one_about_the_question():
    retriever = RETRIEVERS["documents"]()
    found = asyncio.run(retriever.retrieve(QUERY, per_document=1, limit=3))
    assert found[0].passage.document_id == "mars"


# --- IndexRetriever --------------------------------------------------------------------


def test_scores_are_relative_and_say_what_each_layer_says():
    found = asyncio.run(RETRIEVERS["index"]().retrieve(QUERY, per_document=2, limit=4))
    assert found[0].score == 1 and all(0 < scored.score <= 1 for scored in found)
    assert all(set(scored.signals) == {"dense", "lexical", "graph"} for scored in found)
    assert all(scored.path[-1].name == scored.passage.id for scored in found)


def test_an_index_without_some_layers_is_searched_with_the_others():
    plain = asyncio.run(
        PassageIndex.build(DOCUMENTS, HashingEmbedder(64), passage_tokens=16, layers=())
    )
    retriever = IndexRetriever(plain, HashingEmbedder(64))
    (found,) = asyncio.run(retriever.retrieve(QUERY, per_document=1, limit=1))
    assert found.passage.document_id == "mars" and set(found.signals) == {"dense"}
    with pytest.raises(UserError, match="without the lexical layer"):
        IndexRetriever(plain, HashingEmbedder(64), CONFIG)


def test_an_index_of_another_extractor_is_refused_where_names_are_looked_for():
    class Newer(RuleExtractor):
        VERSION = RuleExtractor.VERSION + 1

    index = asyncio.run(
        PassageIndex.build(DOCUMENTS, HashingEmbedder(64), passage_tokens=16, extractor=Newer())
    )
    with pytest.raises(UserError, match="made with the extractor"):
        IndexRetriever(index, HashingEmbedder(64))
    found = IndexRetriever(index, HashingEmbedder(64), extractor=Newer())
    assert asyncio.run(found.prepare()) == 3
    without = RetrievalConfig(layers=("dense", "lexical"))
    assert asyncio.run(IndexRetriever(index, HashingEmbedder(64), without).prepare()) == 3


def test_the_fingerprint_of_an_index_follows_its_layers():
    index = build_index()
    layers = (("dense",), ("lexical",), ("dense", "graph"), RetrievalConfig().layers)
    prints = {
        IndexRetriever(index, HashingEmbedder(64), RetrievalConfig(layers=names)).fingerprint
        for names in layers
    }
    assert len(prints) == 4
    assert all(found.startswith(index.fingerprint) for found in prints)


# --- DocumentRetriever -----------------------------------------------------------------


def test_documents_are_indexed_once_however_many_ask():
    embedder = CountingEmbedder()
    retriever = DocumentRetriever(DOCUMENTS, embedder, CONFIG)

    async def use():
        return await asyncio.gather(*(retriever.prepare() for _ in range(20)))

    assert embedder.calls == []
    assert asyncio.run(use()) == [3] * 20
    assert len(embedder.calls) == 1
    assert asyncio.run(retriever.prepare()) == 3  # another event loop, nothing to do
    assert len(embedder.calls) == 1
    index = asyncio.run(retriever.index())
    assert embedder.calls == [len(index)]


def test_a_cancelled_first_caller_does_not_harm_the_next():
    embedder = CountingEmbedder()
    retriever = DocumentRetriever(DOCUMENTS, embedder, CONFIG)

    async def use():
        first = asyncio.create_task(retriever.prepare())
        second = asyncio.create_task(retriever.prepare())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(use()) == 3


def test_a_failure_in_one_event_loop_can_be_mended_in_the_next():
    class Flaky(CountingEmbedder):
        broken = True

        async def embed(self, texts):
            if self.broken:
                raise UserError("not today")
            return await super().embed(texts)

    embedder = Flaky()
    retriever = DocumentRetriever(DOCUMENTS, embedder, CONFIG)

    async def many():
        return await asyncio.gather(
            *(retriever.prepare() for _ in range(5)), return_exceptions=True
        )

    assert all(isinstance(result, UserError) for result in asyncio.run(many()))
    embedder.broken = False
    assert asyncio.run(many()) == [3] * 5


def test_the_fingerprint_follows_everything_that_decides_the_passages():
    def fingerprint(documents=DOCUMENTS, embedder=None, tokens=16, layers=None, **options):
        layers = layers or RetrievalConfig().layers
        config = RetrievalConfig(passage_tokens=tokens, layers=layers)
        return DocumentRetriever(
            documents, embedder or HashingEmbedder(64), config, **options
        ).fingerprint

    variants = {
        fingerprint(),
        fingerprint(documents=DOCUMENTS[:2]),
        fingerprint(embedder=HashingEmbedder(32)),
        fingerprint(tokens=17),
        fingerprint(count_tokens=lambda text: len(text.split())),
        fingerprint(layers=("dense",)),
        fingerprint(layers=("dense", "lexical")),
    }
    assert len(variants) == 7
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize(
    "layers", [("dense",), ("lexical",), ("dense", "rerank"), ("dense", "graph")]
)
def test_documents_are_indexed_for_the_layers_that_are_on(layers):
    config = RetrievalConfig(passage_tokens=16, layers=layers)
    retriever = DocumentRetriever(DOCUMENTS, HashingEmbedder(64), config)
    index = asyncio.run(retriever.index())
    assert (index.lexical is not None) == bool({"lexical", "rerank"} & set(layers))
    assert (index.graph is not None) == ("graph" in layers)
    (found,) = asyncio.run(retriever.retrieve(QUERY, per_document=1, limit=1))
    assert found.passage.document_id == "mars"


def test_the_counter_decides_how_long_passages_are():
    short = DocumentRetriever(DOCUMENTS, HashingEmbedder(64), CONFIG, count_tokens=len)
    long = DocumentRetriever(DOCUMENTS, HashingEmbedder(64), CONFIG)
    assert len(asyncio.run(short.index())) > len(asyncio.run(long.index()))


# --- LangChain -------------------------------------------------------------------------


def test_langchain_results_become_passages_with_ids_from_their_content():
    retriever = RETRIEVERS["langchain"]()
    found = asyncio.run(retriever.retrieve("q", per_document=2, limit=10))
    assert [s.passage.text for s in found] == [
        "Mars has craters.",
        "Mars is red.",
        "The sea is blue.",
    ]
    assert [s.score for s in found] == [1, 1 / 2, 1 / 3]
    first = found[0].passage
    assert (first.start, first.end) == (0, len(first.text))
    assert (first.title, first.source) == ("Mars", "m.pdf")
    assert "/home" not in "".join(scored.model_dump_json() for scored in found)
    assert asyncio.run(retriever.prepare()) == 0


def test_a_langchain_retriever_can_be_told_apart():
    source = FixedRetriever(documents=[])
    assert LangChainRetriever(source, fingerprint="v2").fingerprint == "langchain:v2"
    assert LangChainRetriever(source).fingerprint.endswith("FixedRetriever")
    assert asyncio.run(LangChainRetriever(source).retrieve("q", per_document=1, limit=1)) == []


def test_a_retriever_that_returns_something_else_is_refused():
    retriever = LangChainRetriever(FixedRetriever(documents=["just text"]))
    with pytest.raises(UserError, match="got str"):
        asyncio.run(retriever.retrieve("q", per_document=1, limit=1))


# --- resolve_retriever -----------------------------------------------------------------


def resolve(documents, **options):
    return resolve_retriever(documents, HashingEmbedder(64), CONFIG, **options)


def test_paths_are_read_at_once_and_what_was_skipped_is_told(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("Text.")
    (tmp_path / "b.png").write_bytes(b"x")
    with caplog.at_level(logging.WARNING, logger="reflectory"):
        folder = resolve(tmp_path)
    assert "b.png" in caplog.text
    assert [skip.path for skip in folder.skipped] == ["b.png"]
    for given in (str(tmp_path / "a.txt"), [tmp_path / "a.txt"], (str(tmp_path),)):
        retriever = resolve(given)
        assert [document.id for document in retriever.documents] == ["a.txt"]
    with pytest.raises(DocumentError, match="no such file"):
        resolve("missing/")


def test_a_saved_index_is_loaded_and_stands_alone(tmp_path):
    folder = build_index().save(tmp_path / "index")
    for given in (folder, str(folder), [folder], (str(folder),)):
        assert asyncio.run(resolve(given).prepare()) == 3
    with pytest.raises(UserError, match="together with other"):
        resolve([folder, tmp_path])
    with pytest.raises(UserError, match="hashing:64"):
        resolve_retriever(folder, HashingEmbedder(32), CONFIG)


def test_live_objects_are_taken_as_they_are():
    index = build_index()
    assert resolve(index).index is index
    with pytest.raises(UserError, match="hashing:64"):
        resolve_retriever(index, HashingEmbedder(32), CONFIG)
    ready = RETRIEVERS["documents"]()
    assert resolve(ready) is ready
    assert isinstance(resolve(FixedRetriever(documents=[])), LangChainRetriever)


def test_documents_of_both_kinds_are_taken_from_any_iterable():
    mixed = [DOCUMENTS[0], *langchain_documents()[:5]]
    retriever = resolve(document for document in mixed)
    assert len(retriever.documents) == 5  # the exact repeat is left out
    assert retriever.documents[0] is DOCUMENTS[0]
    assert retriever.documents[1].source == "m.pdf"
    assert asyncio.run(retriever.prepare()) == 5
    assert resolve(DOCUMENTS[0]).documents == (DOCUMENTS[0],)
    assert len(resolve(langchain_documents()[0]).documents) == 1


def test_two_documents_with_one_id_are_refused():
    with pytest.raises(DocumentError, match="'moon'"):
        resolve([DOCUMENTS[0], Document(id="moon", text="other")])


@pytest.mark.parametrize("given", [[], (), iter(())])
def test_nothing_is_refused(given):
    with pytest.raises(DocumentError, match="no documents"):
        resolve(given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (None, "NoneType"),
        (7, "int"),
        (b"bytes", "bytes"),
        ({"text": "x"}, "dict"),
        ([DOCUMENTS[0], 5], r"int \(item 1\)"),
        ([DOCUMENTS[0], "path.txt"], r"str \(item 1\)"),
        (DocumentRetriever, "type"),
    ],
)
def test_what_is_no_document_is_refused_with_what_is_accepted(given, named):
    with pytest.raises(UserError, match=named) as caught:
        resolve(given)
    assert "a LangChain retriever" in caught.value.hint
