"""Trajectories on disk: whole lines only, whenever the process dies."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.errors import IntegrityError, RunDirectoryError, StorageError, UserError
from reflectory.runs import TrajectoryStore
from reflectory.runs.files import append_line, storage_errors, write_atomic
from reflectory.types import Answer, Failure, Response, StopReason, Trajectory


def make(number, *, failed=False, text="a response"):
    return Trajectory(
        id=f"t{number}",
        instruction=f"instruction {number}",
        levels=("basic",),
        responses=(Response(iteration=0, answer=Answer(text=text)),),
        stop=None if failed else StopReason(rule="epsilon", converged=True, iterations=1),
        error=Failure(step="ask", kind="BackendError", message="away") if failed else None,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trajectories.jsonl"


def test_what_was_appended_is_there_after_reopening(path):
    store = TrajectoryStore(path)
    assert len(store) == 0 and list(store) == [] and store.get("t0") is None
    written = [make(i, text="ünï\u2028code\n") for i in range(5)]
    assert all(store.append(t) for t in written)
    for seen in (store, TrajectoryStore(path)):
        assert list(seen) == written
        assert seen.get("t3") == written[3]
        assert seen.ids() == {t.id for t in written}
        assert "t3" in seen and "t9" not in seen
        assert seen.stops() == {"epsilon": 5}


def test_recording_a_finished_loop_twice_is_harmless(path):
    store = TrajectoryStore(path)
    assert store.append(make(1, text="first"))
    assert not store.append(make(1, text="second"))
    assert not TrajectoryStore(path).append(make(1, failed=True))
    assert path.read_bytes().count(b"\n") == 1
    assert store.get("t1").response == "first"


def test_a_later_entry_replaces_a_failed_one(path):
    store = TrajectoryStore(path)
    store.append(make(1, failed=True))
    store.append(make(2))
    assert store.failed_ids() == {"t1"} and store.ids() == {"t2"}
    store.append(make(1, text="now it worked"))
    for seen in (store, TrajectoryStore(path)):
        assert seen.failed_ids() == set() and seen.ids() == {"t1", "t2"}
        assert [t.id for t in seen] == ["t2", "t1"]
        assert seen.get("t1").response == "now it worked"


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=1, max_value=10_000), data=st.data())
def test_cut_anywhere_all_lines_before_are_kept(tmp_path_factory, cut, data):
    path = tmp_path_factory.mktemp("cut") / "trajectories.jsonl"
    store = TrajectoryStore(path)
    for i in range(4):
        store.append(make(i))
    content = path.read_bytes()
    cut %= len(content)
    path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    whole += content[cut : cut + 1] == b"\n"  # only the line end is missing
    again = TrajectoryStore(path)
    assert [t.id for t in again] == [f"t{i}" for i in range(whole)]
    for i in range(4):
        again.append(make(i))
    assert path.read_bytes() == content


def test_a_half_written_line_is_moved_aside(path, caplog):
    TrajectoryStore(path).append(make(1))
    with path.open("ab") as file:
        file.write(b'{"schema_version":1,"id":"t2","instr')
    store = TrajectoryStore(path)
    assert store.ids() == {"t1"}
    aside = path.with_name("trajectories.jsonl.damaged")
    assert aside.read_bytes() == b'{"schema_version":1,"id":"t2","instr\n'
    assert "half written" in caplog.text
    assert store.append(make(2))
    assert TrajectoryStore(path).ids() == {"t1", "t2"}


def test_zeros_from_a_power_cut_are_moved_aside(path):
    TrajectoryStore(path).append(make(1))
    with path.open("ab") as file:
        file.write(b"\0" * 5000 + b"\n")
    assert TrajectoryStore(path).ids() == {"t1"}
    assert TrajectoryStore(path).ids() == {"t1"}
    assert path.read_bytes().endswith(b"}\n")


def test_a_damaged_line_in_the_middle_is_named(path):
    store = TrajectoryStore(path)
    for i in range(3):
        store.append(make(i))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:40] + b"\n" + lines[2])
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match=r"line 2 of .*trajectories\.jsonl"):
        TrajectoryStore(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path):
    data = json.loads(make(1).to_json()) | {"schema_version": 99}
    path.write_text(json.dumps(data) + "\n")
    with pytest.raises(RunDirectoryError, match=r"line 1 .* schema version 99"):
        TrajectoryStore(path)


def test_a_reader_changes_nothing_while_another_writes(path):
    TrajectoryStore(path).append(make(1))
    with path.open("ab") as file:
        file.write(b'{"half')
    before = path.read_bytes()
    reader = TrajectoryStore(path, readonly=True)
    assert [t.id for t in reader] == ["t1"]
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(UserError, match="read only"):
        reader.append(make(2))


def test_reading_takes_the_memory_of_one_trajectory(path):
    store = TrajectoryStore(path)
    for i in range(60):
        store.append(make(i, text="x" * 200_000))
    tracemalloc.start()
    count = sum(1 for _ in TrajectoryStore(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60
    assert peak < 3_000_000  # the file has 12 MB


# --- the files beneath ---------------------------------------------------------------------


def test_write_atomic_replaces_the_whole_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    write_atomic(path, "a long old content")
    write_atomic(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "file.json"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    with pytest.raises(StorageError):
        write_atomic(path / "below", "a file is no folder")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_storage_error_with_the_remedy():
    with pytest.raises(StorageError, match=r"/dev/full.*\n.*free some disk space") as caught:
        append_line(Path("/dev/full"), "line")
    assert not caught.value.retryable


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_line_that_did_not_fit_is_taken_back(path):
    resource = pytest.importorskip("resource")
    store = TrajectoryStore(path)
    store.append(make(1))
    before = path.read_bytes()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write"):
            store.append(make(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert store.append(make(2))
    assert [t.id for t in TrajectoryStore(path)] == ["t1", "t2"]


@pytest.mark.parametrize("kind", [PermissionError, FileNotFoundError, OSError])
def test_every_disk_error_names_the_file(tmp_path, kind):
    with (
        pytest.raises(StorageError, match="some_file") as caught,
        storage_errors(Path("some_file")),
    ):
        raise kind(13, "Permission denied")
    assert caught.value.hint


def test_a_line_has_no_line_end_in_it(path):
    with pytest.raises(ValueError, match="line end"):
        append_line(path, "two\nlines")
    assert not path.exists()


# --- killed --------------------------------------------------------------------------------

WRITER = """
import sys
from reflectory.runs import TrajectoryStore
from reflectory.types import Answer, Response, Trajectory
store = TrajectoryStore(sys.argv[1])
text = "a long response " * 20_000
print("ready", flush=True)
number = len(store)
while True:
    response = Response(iteration=0, answer=Answer(text=text))
    store.append(Trajectory(id=f"t{number}", instruction="i", levels=("basic",),
                            responses=(response,)))
    print(number, flush=True)
    number += 1
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_writer_loses_nothing_that_it_had_acknowledged(path):
    acknowledged = set()
    for wait in (0.0, 0.013, 0.05, 0.09):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline() == "ready\n"
        first = writer.stdout.readline() if wait else ""
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        rest = [first, *writer.stdout.read().splitlines(keepends=True)]
        writer.wait()
        acknowledged |= {f"t{n.strip()}" for n in rest if n.endswith("\n")}
    ids = [t.id for t in TrajectoryStore(path)]
    assert acknowledged and acknowledged <= set(ids)
    assert ids == [f"t{i}" for i in range(len(ids))]  # each once, none missing between
    assert len(ids) <= len(acknowledged) + 4
