"""The folder of downloaded models: where it is, a full disk, and progress."""

import errno
import sys
import threading
from pathlib import Path

import pytest

from reflectory.errors import StorageError
from reflectory.models import store
from reflectory.models.progress import rich_progress, watch_folder


def test_disk_errors_are_told_as_such(tmp_path):
    with (
        pytest.raises(StorageError, match="full"),
        store.storage_errors(tmp_path),
        Path("/dev/full").open("w") if Path("/dev/full").exists() else _full() as sink,
    ):
        sink.write("x")
        sink.flush()
    with pytest.raises(StorageError, match="are free"):
        store.require_space(tmp_path / "not" / "yet", 10**18)
    with pytest.raises(OSError, match="other") as caught, store.storage_errors(tmp_path):
        raise OSError(errno.EIO, "other")
    assert not isinstance(caught.value, StorageError)


def _full():
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"REFLECTORY_CACHE": "/here"}, "/here"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/reflectory"),
        ("linux", {}, "~/.cache/reflectory"),
        ("darwin", {}, "~/Library/Caches/reflectory"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/reflectory/Cache"),
    ],
)
def test_cache_folder_follows_the_platform(monkeypatch, platform, variables, expected):
    monkeypatch.setattr(sys, "platform", platform)
    assert store.cache_folder(variables) == Path(expected).expanduser()


def test_folder_is_watched_while_it_grows(tmp_path):
    counts, changed = [], threading.Condition()

    def note(description, done, total):
        with changed:
            counts.append(done)
            changed.notify()

    with watch_folder(tmp_path, "copying", 100, note, every_s=0.01):
        for step in range(4):
            (tmp_path / f"{step}").write_bytes(b"x" * 40)
            with changed:
                wanted = min(100, 40 * (step + 1))  # 160 bytes, capped at the known size
                assert changed.wait_for(lambda wanted=wanted: counts[-1] == wanted, timeout=60)
    assert counts == sorted(counts) and set(counts) == {0, 40, 80, 100}


def test_progress_without_a_terminal_is_plain_lines(capsys):
    with rich_progress() as progress:
        for done in range(0, 101, 5):
            progress("loading", done * 1_000_000, 100_000_000)
        progress("unpacking", 0, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "loading 0 of 100 MB" and lines[-1] == "unpacking"
    assert len(lines) == 12
