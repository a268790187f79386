"""Folders that are there completely or not at all, also after a kill at the worst moment."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from reflectory.errors import StorageError, UserError
from reflectory.training.staging import staged_folder

KILLED = """
import os, signal, sys
from pathlib import Path
import reflectory.training.staging as staging

moment, target = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
calls = 0
rename = Path.rename
def counted(self, other):
    global calls
    calls += 1
    if moment == f"rename {calls}":
        die()
    return rename(self, other)
Path.rename = counted
if moment == "sync":
    staging._sync = die
with staging.staged_folder(target, marker="marker") as folder:
    (folder / "marker").write_text("new")
    if moment == "write":
        die()
"""


def write(place, text):
    with staged_folder(place, marker="marker") as folder:
        (folder / "marker").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text(text)


def kill(moment, place):
    done = subprocess.run([sys.executable, "-c", KILLED, moment, str(place)], timeout=120)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["write", "sync", "rename 1", "rename 2"])
def test_a_kill_leaves_the_old_folder_to_the_next_one_who_writes(tmp_path, moment):
    place = tmp_path / "set"
    write(place, "old")
    kill(moment, place)
    # Between the two renames the place is empty; the folder lies beside it.
    assert place.exists() == (moment != "rename 2")
    with pytest.raises(RuntimeError), staged_folder(place, marker="marker") as folder:
        assert (place / "inner" / "file").read_text() == "old"
        assert list(folder.iterdir()) == []
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert (place / "marker").read_text() == "old"
    write(place, "new")
    assert (place / "inner" / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_what_others_write_at_the_same_time_stays(tmp_path):
    place = tmp_path / "set"
    with staged_folder(place, marker="marker") as first:
        (first / "marker").write_text("first")
        write(place, "second")
        write(tmp_path / "set.b", "other")
        assert (first / "marker").read_text() == "first"
    assert (place / "marker").read_text() == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "set.b"]


def test_what_cannot_be_put_on_the_disk_is_not_moved(tmp_path, monkeypatch):
    write(tmp_path / "set", "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write(tmp_path / "set", "new")
    assert (tmp_path / "set" / "marker").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_folder_of_somebody_elses_and_a_file_are_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("text")
    for name in ("mine", "file"):
        with pytest.raises(UserError, match="something else"):
            write(tmp_path / name, "new")
    with pytest.raises(StorageError):
        write(tmp_path / "file" / "below", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]
