"""The folder of a saved index: the same bytes, all or nothing, and never read wrongly."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from indexes import DOCUMENTS, EMBEDDER, build, embed, files_of

from reflectory.errors import IntegrityError, StorageError, UserError
from reflectory.retrieval.index import PassageIndex, is_index, read_description
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Document

# With a relation and an alias, so that no file of the folder is empty.
TOLD = [
    *DOCUMENTS,
    Document(id="lind", title="Anna Lind", text="Anna Lind married Otto Berg. Lind sang."),
]
FILES = [
    "document_of.npy",
    "documents.jsonl",
    "documents.offsets.npy",
    *(f"graph/{name}.{part}.npy" for name in ("about", "mentions", "similarity")
      for part in ("data", "indices", "indptr")),
    "graph/aliases.jsonl",
    "graph/document_of.npy",
    "graph/entities.jsonl",
    "graph/relations.jsonl",
    "graph/strength.npy",
    "index.json",
    "lexical/data.csc.index.npy",
    "lexical/indices.csc.index.npy",
    "lexical/indptr.csc.index.npy",
    "lexical/offsets.npy",
    "lexical/params.index.json",
    "lexical/terms.npy",
    "lexical/vocab.index.json",
    "passages.jsonl",
    "passages.offsets.npy",
    "structures.jsonl",
    "structures.offsets.npy",
    "vectors/rows.npy",
    "vectors/vectors.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    return build(TOLD).save(tmp_path_factory.mktemp("saved") / "index")


@pytest.fixture
def saved(saved_once, tmp_path):
    return Path(shutil.copytree(saved_once, tmp_path / "index"))


def test_a_saved_index_comes_back_the_same(saved):
    index, again = build(TOLD), PassageIndex.load(saved, EMBEDDER)
    assert is_index(saved) and not is_index(saved.parent)
    for name in ("documents", "passages", "structures"):
        assert list(getattr(again, name)) == list(getattr(index, name))
    assert again.fingerprint == index.fingerprint
    assert again.extractor_fingerprint == index.extractor_fingerprint
    assert again.passage_tokens == 5 and again.dimension == 64
    assert np.array_equal(again.document_of, index.document_of)
    query = embed("red craters")
    mine, theirs = again.vectors.search(query, 6), index.vectors.search(query, 6)
    assert np.array_equal(mine[0], theirs[0]) and np.array_equal(mine[1], theirs[1])
    asked = index.lexical.query("red craters")
    assert np.array_equal(again.lexical.query("red craters"), asked)
    assert np.array_equal(again.lexical.scores(asked), index.lexical.scores(asked))
    for name in ("keys", "entities", "relations"):
        assert getattr(again.graph, name) == getattr(index.graph, name)
    for name in ("mentions", "about", "similarity"):
        assert (getattr(again.graph, name) != getattr(index.graph, name)).nnz == 0


def test_the_folder_has_these_files(saved):
    assert sorted(files_of(saved)) == sorted(FILES)
    described = read_description(saved)
    assert described.layers == ("graph", "lexical")
    assert (described.documents, described.passages, described.dimension) == (4, 8, 64)
    assert described.entities == len(build(TOLD).graph.keys) > 0


@pytest.mark.parametrize("layers", [(), ("lexical",), ("graph",)])
def test_an_index_without_a_layer_comes_back_without_it(tmp_path, layers):
    folder = build(layers=layers).save(tmp_path / "index")
    again = PassageIndex.load(folder, EMBEDDER)
    assert (again.lexical is not None) == ("lexical" in layers)
    assert (again.graph is not None) == ("graph" in layers) == (len(again.structures) > 0)
    assert not [name for name in files_of(folder) if name.split("/")[0] in
                {"lexical", "graph"} - set(layers)]  # fmt: skip


def test_the_same_input_gives_the_same_bytes(saved, tmp_path):
    ordered = [d.model_copy(update={"metadata": {"b": "1", "a": "2"}}) for d in TOLD]
    turned = [d.model_copy(update={"metadata": {"a": "2", "b": "1"}}) for d in TOLD]
    one, two = build(ordered).save(tmp_path / "one"), build(turned).save(tmp_path / "two")
    assert files_of(one) == files_of(two)
    assert files_of(one)["documents.jsonl"] != files_of(saved)["documents.jsonl"]


def test_a_loaded_index_is_saved_as_the_same_bytes(saved, tmp_path):
    again = PassageIndex.load(saved, EMBEDDER).save(tmp_path / "again")
    assert files_of(again) == files_of(saved)


def test_an_index_can_be_saved_over_the_folder_that_it_was_loaded_from(saved):
    before = files_of(saved)
    loaded = PassageIndex.load(saved, EMBEDDER)
    loaded.save(saved)
    assert files_of(saved) == before
    assert loaded.passages[0].id == "moon#0"  # still mapped


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

    monkeypatch.setattr("reflectory.retrieval.index.folder.os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        build(DOCUMENTS[:1]).save(saved)
    assert len(PassageIndex.load(saved, EMBEDDER).documents) == 4
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


def failing_renames(monkeypatch, error, *, times):
    """Let the renames fail that put the new and then the old index in their place."""
    rename, left = Path.rename, [times]

    def failing(self, target):
        if self.name in ("new", "old") and left[0]:
            left[0] -= 1
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)


@pytest.mark.parametrize("error", [PermissionError(13, "in use"), KeyboardInterrupt()])
def test_an_old_index_comes_back_when_the_new_one_cannot_be_moved(saved, monkeypatch, error):
    failing_renames(monkeypatch, error, times=1)
    with pytest.raises((StorageError, KeyboardInterrupt)):
        build(DOCUMENTS[:1]).save(saved)
    assert len(PassageIndex.load(saved, EMBEDDER).documents) == 4
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


def test_an_old_index_that_cannot_come_back_is_kept_where_it_is(saved, monkeypatch):
    failing_renames(monkeypatch, PermissionError(13, "in use"), times=2)
    with pytest.raises(StorageError):
        build(DOCUMENTS[:1]).save(saved)
    (kept,) = saved.parent.glob(".index.*/old")
    assert len(PassageIndex.load(kept, EMBEDDER).documents) == 4


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


def test_another_schema_is_refused(saved):
    change_description(saved, schema_version=99, something_new=True)
    with pytest.raises(UserError, match="schema version 99") as caught:
        PassageIndex.load(saved, EMBEDDER)
    assert "upgrade" in caught.value.hint
    change_description(saved, schema_version=1)
    with pytest.raises(UserError, match="schema version 1") as caught:
        PassageIndex.load(saved, EMBEDDER)
    assert "upgrade" not in caught.value.hint and "again" in caught.value.hint


@pytest.mark.parametrize("name", [name for name in FILES if name != "index.json"])
@pytest.mark.parametrize("damage", ["truncated", "first", "middle", "last", "missing", "empty"])
def test_a_damaged_file_is_named(saved, name, damage):
    path = saved / name
    data = bytearray(path.read_bytes())
    places = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}
    if damage == "missing":
        path.unlink()
    elif damage in places:
        data[places[damage]] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")) as caught:
        PassageIndex.load(saved, EMBEDDER)
    assert "again" in caught.value.hint


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema_version": 2}', '{"schema_version": "x"}']
)
def test_a_damaged_description_is_named(saved, content):
    (saved / "index.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"index\.json is damaged"):
        PassageIndex.load(saved, EMBEDDER)


def test_no_byte_of_the_description_can_change_unnoticed(saved):
    """A wrong limit or layer would make the next documents unlike the first ones."""
    path = saved / "index.json"
    whole = path.read_bytes()
    version = whole.index(b'"schema_version": 2') + len(b'"schema_version": ')
    for place in {*range(0, len(whole), 3), version}:
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(IntegrityError if place != version else UserError):
            read_description(saved)
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(IntegrityError):
            read_description(saved)


def test_files_that_do_not_belong_together_are_noticed(saved, tmp_path):
    other = build(DOCUMENTS[:1]).save(tmp_path / "other")
    shutil.rmtree(saved / "vectors")
    shutil.copytree(other / "vectors", saved / "vectors")
    with pytest.raises(IntegrityError, match="its description says"):
        PassageIndex.load(saved, EMBEDDER)


def test_a_file_that_the_description_does_not_know_is_not_believed(saved, tmp_path):
    other = build(DOCUMENTS[:1]).save(tmp_path / "other")
    shutil.copy(other / "passages.jsonl", saved / "passages.jsonl")
    sums = read_description(saved).sha256
    change_description(saved, sha256={n: s for n, s in sums.items() if n != "passages.jsonl"})
    with pytest.raises(IntegrityError):
        PassageIndex.load(saved, EMBEDDER)


def test_what_is_no_index_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="is not a saved index"):
            PassageIndex.load(folder, EMBEDDER)
