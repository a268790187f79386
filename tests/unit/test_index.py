"""The passage index: exact search, quotas, and a folder that cannot be read wrongly."""

import asyncio
import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.errors import BackendError, DocumentError, IntegrityError, StorageError, UserError
from reflectory.retrieval.index import PassageIndex, embedded_text, is_index
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Document

EMBEDDER = HashingEmbedder(64)
DOCUMENTS = [
    Document(id="moon", title="Moon", text="The moon is grey.\n\nIts craters are old.\n\nNo air."),
    Document(
        id="mars", title="Mars", text="Mars is red.\n\nIts craters are young.", source="m.txt"
    ),
    Document(id="same", title="Moon", text="The moon is grey."),
]
FILES = ("documents.jsonl", "passages.jsonl", "vectors.faiss", "index.json")


def words(text):
    return len(text.split())


def build(documents=DOCUMENTS, embedder=EMBEDDER, passage_tokens=5, **options):
    return asyncio.run(
        PassageIndex.build(
            documents, embedder, passage_tokens=passage_tokens, count_tokens=words, **options
        )
    )


def embed(text, embedder=EMBEDDER):
    return asyncio.run(embedder.embed([text]))[0]


@pytest.fixture
def saved(tmp_path):
    return build().save(tmp_path / "index")


# --- building and searching ------------------------------------------------------------


def test_passages_keep_ids_offsets_title_and_source():
    index = build()
    texts = {document.id: document.text for document in index.documents}
    assert [p.id for p in index.passages if p.document_id == "mars"] == ["mars#0", "mars#1"]
    for passage in index.passages:
        assert passage.text == texts[passage.document_id][passage.start : passage.end]
    assert {p.source for p in index.passages if p.document_id == "mars"} == {"m.txt"}
    assert len(index) == len(index.passages) == 6


def test_the_title_is_embedded_where_the_text_lacks_it():
    index = build()
    mars = index.passages[4]
    assert embedded_text(mars) == "Mars\nIts craters are young."
    assert embedded_text(index.passages[3]) == "Mars is red."
    assert index.search(embed(embedded_text(mars)), 1)[0].passage == mars


def test_results_are_best_first_and_ties_ordered_by_id():
    found = build().search(embed("the moon is grey"), 10)
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    assert [s.passage.id for s in found][:2] == ["moon#0", "same#0"]
    assert found[0].score == found[1].score
    assert len(found) == 6


def test_the_quota_of_a_document_holds():
    found = build().search_per_document(embed("the moon craters"), per_document=1, limit=10)
    documents = [s.passage.document_id for s in found]
    assert sorted(documents) == ["mars", "moon", "same"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=400),
    st.integers(1, 4),
    st.integers(1, 50),
)
def test_search_equals_sorting_everything(kinds, per_document, limit):
    """Many ties and more passages than one step of the search sees."""
    vocabulary = ["red rock", "red dust", "grey rock", "blue sea"]
    documents = [
        Document(id=f"d{n % 97}-{n // 97}", text=vocabulary[kind]) for n, kind in enumerate(kinds)
    ]
    index = build(documents)
    query = embed("red rock")
    vectors = asyncio.run(EMBEDDER.embed([p.text for p in index.passages]))
    scores = np.round((vectors @ query).astype(float), 6)
    order = sorted(zip(-scores, [p.id for p in index.passages], strict=True))
    found = index.search_per_document(query, per_document, limit)
    assert [s.passage.id for s in found] == [name for _, name in order][:limit]
    assert len({s.passage.id for s in found}) == len(found)


@pytest.mark.parametrize("vector", [np.zeros(3), np.full(64, np.nan), np.zeros((1, 64))])
def test_a_vector_that_does_not_fit_is_refused(vector):
    with pytest.raises(UserError, match="query vector"):
        build().search(vector, 1)


def test_numbers_below_one_are_refused():
    index, query = build(), embed("moon")
    with pytest.raises(UserError, match="limit is 0"):
        index.search(query, 0)
    with pytest.raises(UserError, match="per_document is 0"):
        index.search_per_document(query, 0, 4)


def test_documents_are_preprocessed_and_empty_ones_have_no_passages():
    index = build([Document(id="a", text="Cafe\u0301\r\n"), Document(id="b", text=" \x00 ")])
    assert index.documents[0].text == "Café\n"
    assert [p.text for p in index.passages] == ["Café"]
    assert len(index.documents) == 2


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
    documents = [Document(id=str(n), text="word") for n in range(600)]
    build(documents, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(256, 600), (512, 600), (600, 600)]


# --- saving and loading ----------------------------------------------------------------


def test_a_saved_index_comes_back_the_same(saved):
    index, again = build(), PassageIndex.load(saved, EMBEDDER)
    assert is_index(saved) and not is_index(saved.parent)
    assert (again.documents, again.passages) == (index.documents, index.passages)
    assert again.fingerprint == index.fingerprint
    assert again.passage_tokens == 5 and again.dimension == 64
    query = embed("red craters")
    assert again.search(query, 6) == index.search(query, 6)


def test_the_same_input_gives_the_same_bytes(saved, tmp_path):
    reordered = [d.model_copy(update={"metadata": {"b": "1", "a": "2"}}) for d in DOCUMENTS]
    turned = [d.model_copy(update={"metadata": {"a": "2", "b": "1"}}) for d in DOCUMENTS]
    one, two = build(reordered).save(tmp_path / "one"), build(turned).save(tmp_path / "two")
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert sorted(path.name for path in saved.iterdir()) == sorted(FILES)
    assert (saved / "documents.jsonl").read_bytes() != (one / "documents.jsonl").read_bytes()


def test_the_fingerprint_follows_content_and_embedder():
    base = build().fingerprint
    assert base == build().fingerprint
    assert base != build(DOCUMENTS[:2]).fingerprint
    assert base != build(passage_tokens=3).fingerprint
    assert base != build(embedder=HashingEmbedder(65)).fingerprint


def test_saving_replaces_an_index_and_nothing_else(saved, tmp_path):
    build(DOCUMENTS[:1]).save(saved)
    assert len(PassageIndex.load(saved, EMBEDDER).documents) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not an index"):
        build().save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    (tmp_path / "empty").mkdir()
    assert is_index(build().save(tmp_path / "empty"))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        build().save(tmp_path / "file" / "index")


def test_a_failed_save_leaves_the_old_index(saved, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reflectory.retrieval.index_files.os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        build(DOCUMENTS[:1]).save(saved)
    assert len(PassageIndex.load(saved, EMBEDDER).documents) == 3
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


def test_another_embedder_is_refused(saved):
    with pytest.raises(UserError, match="hashing:64, not with hashing:32") as caught:
        PassageIndex.load(saved, HashingEmbedder(32))
    assert caught.value.hint


def test_another_dimension_under_the_same_name_is_refused(saved):
    class Renamed(HashingEmbedder):
        fingerprint = "hashing:64"

    with pytest.raises(UserError, match=r"64 dimensions.*32"):
        PassageIndex.load(saved, Renamed(32))


def change_description(folder, **fields):
    path = folder / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_newer_schema_asks_for_an_upgrade(saved):
    change_description(saved, schema_version=99, something_new=True)
    with pytest.raises(UserError, match="schema version 99") as caught:
        PassageIndex.load(saved, EMBEDDER)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("name", FILES[:3])
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "empty"])
def test_a_damaged_file_is_named(saved, name, damage):
    path = saved / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")) as caught:
        PassageIndex.load(saved, EMBEDDER)
    assert "again" in caught.value.hint


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": "x"}']
)
def test_a_damaged_description_is_named(saved, content):
    (saved / "index.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"index\.json is damaged"):
        PassageIndex.load(saved, EMBEDDER)


def test_files_that_do_not_belong_together_are_noticed(saved, tmp_path):
    other = build(DOCUMENTS[:1]).save(tmp_path / "other")
    shutil.copy(other / "passages.jsonl", saved / "passages.jsonl")
    sums = json.loads((saved / "index.json").read_text())["sha256"]
    theirs = json.loads((other / "index.json").read_text())["sha256"]
    change_description(saved, sha256={**sums, "passages.jsonl": theirs["passages.jsonl"]})
    with pytest.raises(IntegrityError, match="documents, passages, vectors"):
        PassageIndex.load(saved, EMBEDDER)


def test_what_is_no_index_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="is not a saved index"):
            PassageIndex.load(folder, EMBEDDER)
