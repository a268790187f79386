"""The embedding cache: the same vectors, embedded once, and no file that stops it for good."""

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import BackendError, StorageError
from reflectory.models import embedding_store
from reflectory.models.embedding_cache import CachedEmbedder, default_cache_path
from reflectory.models.embedding_store import EmbeddingStore
from reflectory.models.protocol import Embedder
from reflectory.testing.embedder import HashingEmbedder


class Counting(HashingEmbedder):
    """Remembers what it was asked for."""

    def __init__(self, dimension=32):
        super().__init__(dimension)
        self.calls = []

    async def embed(self, texts):
        self.calls.append(list(texts))
        return await super().embed(texts)


def embed(embedder, texts):
    return asyncio.run(embedder.embed(texts))


@pytest.fixture
def cached(tmp_path):
    embedder = CachedEmbedder(Counting(), tmp_path / "new" / "cache.sqlite")
    yield embedder
    embedder.close()


@given(st.lists(st.lists(st.text(max_size=6), max_size=12), max_size=4))
def test_vectors_are_those_of_the_embedder_and_no_text_is_embedded_twice(tmp_path_factory, calls):
    inner = Counting()
    cached = CachedEmbedder(inner, tmp_path_factory.mktemp("cache") / "c.sqlite")
    for texts in calls:
        vectors = embed(cached, texts)
        assert vectors.dtype == np.float32 and vectors.flags.writeable
        assert np.array_equal(vectors, embed(HashingEmbedder(32), texts))
    asked = [text for call in inner.calls for text in call]
    different = list(dict.fromkeys(text for texts in calls for text in texts))
    assert asked == different
    assert cached.misses == len(different)
    assert cached.hits == sum(map(len, calls)) - len(different)
    assert all(inner.calls), "an empty call was made"
    cached.close()


def test_it_meets_the_protocol_and_is_taken_for_the_embedder(cached):
    assert isinstance(cached, Embedder)
    assert cached.fingerprint == "hashing:32" and cached.dimension == 32
    assert embed(cached, []).shape == (0, 32)


def test_a_later_process_asks_for_nothing(cached):
    first = embed(cached, ["one", "two"])
    cached.close()

    class Unloadable(Counting):
        @property
        def dimension(self):
            raise AssertionError("the model was loaded")

    later = CachedEmbedder(Unloadable(), cached.path)
    assert later.dimension == 32
    assert np.array_equal(embed(later, ["two", "one"]), first[::-1])
    assert (later.hits, later.misses) == (2, 0)


def test_embedders_do_not_share_vectors_in_one_file(cached):
    embed(cached, ["one"])
    other = CachedEmbedder(Counting(16), cached.path)
    assert embed(other, ["one"]).shape == (1, 16)
    assert embed(cached, ["one"]).shape == (1, 32)
    assert (other.misses, cached.hits) == (1, 1)


def test_each_embedder_has_a_file_of_its_own_in_the_cache_folder():
    paths = {default_cache_path(HashingEmbedder(n)) for n in (8, 16)}
    assert len(paths) == 2
    for path in paths:
        assert path.parent.name == "embeddings" and path.name.startswith("hashing-")
        assert path.is_relative_to(os.environ["REFLECTORY_CACHE"])


class Strange(HashingEmbedder):
    fingerprint = "../a/\ud800" * 90


def test_any_fingerprint_makes_a_file_name():
    path = default_cache_path(Strange(8))
    assert path.parent.name == "embeddings" and len(path.name) < 100


def test_lone_surrogates_and_any_number_of_texts(cached):
    texts = ["\ud800", "\udfff x"] + [f"word{n}" for n in range(1300)]
    vectors = embed(cached, texts)
    assert np.array_equal(embed(cached, texts), vectors)
    assert (cached.hits, cached.misses) == (1302, 1302)


@pytest.mark.parametrize("wrong", [lambda v: v[:1], lambda v: v * np.nan, lambda v: v[0]])
def test_what_is_no_vector_is_not_kept(cached, wrong):
    inner = cached._embedder
    right = HashingEmbedder.embed

    async def broken(texts):
        return wrong(await right(inner, texts))

    inner.embed = broken
    with pytest.raises(BackendError, match="hashing:32"):
        embed(cached, ["one", "two"])
    del inner.embed
    assert np.array_equal(embed(cached, ["one"]), embed(HashingEmbedder(32), ["one"]))


# --- the file --------------------------------------------------------------------------


def test_the_oldest_used_are_pruned(tmp_path):
    now = [1e9]
    store = EmbeddingStore(tmp_path / "c.sqlite", 400_000, clock=lambda: now[0])
    keys = [bytes([n // 256, n % 256]) * 16 for n in range(600)]
    for start in range(0, 600, 50):
        now[0] += 10_000
        store.put(dict.fromkeys(keys[start : start + 50], b"v" * 1536))
        assert keys[0] in store.get(keys[:1])  # used again and again
    there = store.get(keys)
    assert 100 < len(there) < 300
    assert keys[0] in there and keys[1] not in there
    assert all(key in there for key in keys[-100:])
    store.close()
    assert (tmp_path / "c.sqlite").stat().st_size < 700_000


def test_most_hits_write_nothing(tmp_path):
    now = [1e9]
    store = EmbeddingStore(tmp_path / "c.sqlite", 1 << 30, clock=lambda: now[0])
    store.put({b"k": b"1234"})
    query = "PRAGMA data_version"
    with sqlite3.connect(tmp_path / "c.sqlite") as other:
        before = other.execute(query).fetchone()
        now[0] += 100
        assert store.get([b"k", b"absent"]) == {b"k": b"1234"}
        assert other.execute(query).fetchone() == before
        now[0] += 4000
        store.get([b"k"])
        assert other.execute(query).fetchone() != before
    other.close()
    store.close()


@pytest.mark.parametrize("damage", ["no database", "zeros in the middle", "cut short"])
def test_a_damaged_file_is_moved_aside_and_made_again(cached, damage, caplog):
    texts = [f"word{n}" for n in range(3000)]
    expected = embed(cached, texts)
    cached.close()
    data = bytearray(cached.path.read_bytes())
    if damage == "no database":
        data[:100] = b"x" * 100
    elif damage == "zeros in the middle":
        data[8192:-8192] = bytes(len(data) - 16384)
    else:
        del data[len(data) // 2 :]
    cached.path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(embed(cached, texts), expected)
        assert np.array_equal(embed(cached, texts), expected)
    assert "was moved to cache.sqlite.damaged" in caplog.text
    assert cached.path.with_name("cache.sqlite.damaged").exists()
    assert cached.misses == 2 * len(texts) and cached.hits == len(texts)


def test_a_flipped_bit_in_a_vector_makes_it_missing(cached):
    expected = embed(cached, ["one"])
    cached.close()
    data = cached.path.read_bytes()
    place = data.index(expected[0].tobytes())
    cached.path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert np.array_equal(embed(cached, ["one"]), expected)
    assert cached.misses == 2
    assert np.array_equal(embed(cached, ["one"]), expected)
    assert cached.misses == 2


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "mine.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE treasure (x)")
    other.close()
    with pytest.raises(StorageError, match="no embedding cache"):
        embed(CachedEmbedder(Counting(), path), ["one"])
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT count(*) FROM treasure").fetchone() == (0,)
    other.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "c.sqlite", tmp_path):
        with pytest.raises(StorageError, match="cannot use the embedding cache") as caught:
            embed(CachedEmbedder(Counting(), path), ["one"])
        assert "REFLECTORY_CACHE" in caught.value.hint


def test_another_writer_is_waited_for_and_then_named(cached, monkeypatch):
    monkeypatch.setattr(embedding_store, "BUSY_SECONDS", 0.2)
    embed(cached, ["one"])
    cached.close()
    other = sqlite3.connect(cached.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        embed(cached, ["two"])
    other.execute("COMMIT")
    other.close()
    assert embed(cached, ["two"]).shape == (1, 32)


def test_many_threads_share_one_cache(cached):
    texts = [f"word{n % 90}" for n in range(300)]
    expected, wrong = embed(HashingEmbedder(32), texts), []

    def work():
        for _ in range(5):
            if not np.array_equal(embed(cached, texts), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and cached.hits + cached.misses == 9000


def test_many_processes_begin_one_file_together(tmp_path):
    code = (
        "import asyncio, sys; from reflectory.testing.embedder import HashingEmbedder as H;"
        "from reflectory.models.embedding_cache import CachedEmbedder as C;"
        "c = C(H(32), sys.argv[1]); t = [f'w{n}' for n in range(400)];"
        "v = [asyncio.run(c.embed(t)) for _ in range(3)];"
        "assert (v[0] == v[2]).all() and (v[0] == asyncio.run(H(32).embed(t))).all()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "c.sqlite")]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(120) for process in running] == [0, 0, 0, 0]
    assert embed(cached := CachedEmbedder(Counting(), tmp_path / "c.sqlite"), ["w7"]).any()
    assert cached.hits == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_opens_the_file_again(cached):
    embed(cached, ["one"])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if embed(cached, ["one"]).any() and cached.misses == 1 else 1
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert embed(cached, ["one", "two"]).any()


def test_a_hit_is_cheap(cached):
    texts = [f"some words of passage number {n}" for n in range(2000)]
    embed(cached, texts)
    best = min(_seconds(cached, texts) for _ in range(3))
    assert best / len(texts) < 100e-6  # 10 microseconds with 384 numbers


def _seconds(cached, texts):
    begun = time.thread_time()
    embed(cached, texts)
    return time.thread_time() - begun
