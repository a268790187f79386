"""The file of recorded calls: nothing lost, whoever writes and whatever breaks."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from calls import ask, put
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.errors import IntegrityError, RunDirectoryError, StorageError
from reflectory.models.protocol import (
    Completion,
    Request,
    ScoreRequest,
    Scores,
    Segment,
    TokenScores,
)
from reflectory.runs import CallCache


@pytest.fixture
def cache(tmp_path):
    cache = CallCache(tmp_path / "calls.sqlite")
    yield cache
    cache.close()


def test_what_was_put_is_there_after_reopening(tmp_path):
    cache = CallCache(tmp_path / "calls.sqlite")
    assert cache.get("k") is None
    assert put(cache, "k", "first")
    cache.close()
    again = CallCache(tmp_path / "calls.sqlite")
    assert Completion.model_validate(again.get("k")).text == "first"
    again.close()


def test_the_first_answer_stays(cache):
    assert put(cache, "k", "first")
    assert not put(cache, "k", "second")
    assert cache.get("k")["text"] == "first"
    assert cache.stats().total.calls == 1


def test_stats_are_sums_per_role(cache):
    assert cache.stats().total.calls == 0
    put(cache, "a", role="teacher.ask")
    put(cache, "b", role="teacher.ask")
    put(cache, "c", role="student.answer")
    stats = cache.stats()
    assert stats.total.calls == 3 and stats.total.prompt_tokens == 15
    assert stats.roles["teacher.ask"].calls == 2
    assert stats.roles["teacher.ask"].completion_tokens == 6
    assert stats.total.seconds == pytest.approx(1.5)


def test_iterate_gives_the_requests_back_in_order(cache):
    requests = [ask(f"question {i}") for i in range(250)]
    for i, request in enumerate(requests):
        put(cache, f"{i}", request=request)
    found = list(cache.iterate())
    assert [call.key for call in found] == [f"{i}" for i in range(250)]
    assert [call.request for call in found] == [request.content() for request in requests]


def test_repeated_segments_are_stored_once(tmp_path):
    cache = CallCache(tmp_path / "calls.sqlite")
    documents = "the same documents " * 5000  # 95 kB
    for i in range(100):
        segments = (Segment(text=documents, shared=True), Segment(text=f"question {i}"))
        put(cache, str(i), request=Request(segments=segments, role="r"))
    assert cache.stats().segments == 101
    cache.close()
    assert (tmp_path / "calls.sqlite").stat().st_size < 3 * len(documents)


@settings(max_examples=50, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1, max_size=4),
    numbers=st.lists(st.floats(allow_nan=False), min_size=1),
)
def test_any_text_and_any_number_comes_back(tmp_path_factory, texts, numbers):
    cache = CallCache(tmp_path_factory.mktemp("any") / "calls.sqlite")
    segments = tuple(Segment(text=t) for t in texts)
    request = ScoreRequest(segments=segments, continuations=tuple(texts), role="r")
    response = Scores(continuations=(TokenScores(logprobs=tuple(numbers)),))
    cache.put(
        "k",
        kind="score",
        role="r",
        model="m",
        request=request.content(),
        response=response.model_dump(mode="json"),
        seconds=0.0,
    )
    assert Scores.model_validate(cache.get("k")) == response
    assert next(cache.iterate()).request == request.content()
    cache.close()


def test_newer_schema_is_refused(tmp_path, cache):
    cache.close()
    with sqlite3.connect(cache.path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RunDirectoryError, match="schema version 99"):
        CallCache(cache.path)


def test_another_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "calls.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(RunDirectoryError, match="another kind"):
        CallCache(path)
    with sqlite3.connect(path) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
    connection.close()
    assert names == ["mine"]


def test_a_file_that_is_no_database_names_itself_and_the_remedy(tmp_path):
    path = tmp_path / "calls.sqlite"
    path.write_bytes(b"this is not a database at all " * 100)
    with pytest.raises(IntegrityError, match=r"calls\.sqlite is damaged.*\n.*move the file aside"):
        CallCache(path)


def test_damage_in_the_middle_is_an_integrity_error(cache):
    for i in range(300):
        put(cache, f"{i}", "text " * 300)
    cache.close()
    data = bytearray(cache.path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    cache.path.write_bytes(bytes(data))
    damaged = CallCache(cache.path)
    with pytest.raises(IntegrityError, match=r"calls\.sqlite"):
        list(damaged.iterate())
    damaged.close()


def test_a_full_disk_is_a_storage_error_and_keeps_what_was_there(cache):
    put(cache, "before", "small")
    pages = cache._connection.execute("PRAGMA page_count").fetchone()[0]
    cache._connection.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(StorageError, match="disk is full"):
        put(cache, "big", "large " * 10_000)
    assert cache.get("big") is None
    assert cache.get("before")["text"] == "small"
    cache._connection.execute("PRAGMA max_page_count=100000")
    assert put(cache, "big", "large " * 10_000)  # it works again once there is room


def test_a_folder_that_is_missing_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        CallCache(tmp_path / "nowhere" / "calls.sqlite")


def test_a_closed_cache_says_so(cache):
    cache.close()
    cache.close()
    with pytest.raises(StorageError, match="closed"):
        cache.get("k")


def test_threads_share_one_cache(cache):
    barrier = threading.Barrier(4)

    def work(number):
        barrier.wait()
        for i in range(50):
            put(cache, f"{i}", f"from {number}")  # all four put the same fifty
            assert cache.get(f"{i}")["text"].startswith("from")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.stats().total.calls == 50


WRITER = """
import sys
from reflectory.runs import CallCache
cache = CallCache(sys.argv[1])
name = sys.argv[2]
print("ready", flush=True)
for i in range(int(sys.argv[3])):
    request = {"segments": [{"text": "shared documents"}, {"text": f"{name} {i}"}]}
    cache.put(f"{name}-{i}", kind="complete", role="r", model="m", request=request,
              response={"text": f"{name} said {i} " * 50, "usage": {}}, seconds=0.1)
    print(i, flush=True)
"""


def start_writer(path, name, count):
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_one_cache_made_by_both_at_once(tmp_path):
    path = tmp_path / "calls.sqlite"
    writers = [start_writer(path, name, 200) for name in ("one", "two", "three")]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    cache = CallCache(path)
    assert cache.stats().total.calls == 600
    assert cache.stats().segments == 601
    cache.close()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_writer_loses_nothing_that_it_had_acknowledged(tmp_path):
    path = tmp_path / "calls.sqlite"
    acknowledged = set()
    for attempt, wait in enumerate((0.001, 0.02, 0.05)):
        writer = start_writer(path, f"w{attempt}", 10**9)
        assert writer.stdout.readline() == "ready\n"
        first = writer.stdout.readline() if attempt else ""
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        rest = [first, *writer.stdout.read().splitlines(keepends=True)]
        writer.wait()
        acknowledged |= {f"w{attempt}-{n.strip()}" for n in rest if n.endswith("\n")}
    cache = CallCache(path)
    found = [call.key for call in cache.iterate()]
    cache.close()
    assert acknowledged and acknowledged <= set(found)
    assert len(found) == len(set(found))
    assert len(found) <= len(acknowledged) + 3  # at most the one in flight of each
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
