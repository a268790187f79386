"""What other systems lack or do differently, played on this one."""

import ast
import builtins
import errno
import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import reflectory
from reflectory.errors import RunDirectoryError, StorageError
from reflectory.runs import files, lock

ROOT = Path(reflectory.__file__).parent
# Modules of Python that Windows does not have, and those that only Windows has.
ELSEWHERE = {
    "fcntl",
    "resource",
    "pwd",
    "grp",
    "termios",
    "tty",
    "pty",
    "msvcrt",
    "winreg",
    "curses",
}
# Names of os, signal and the event loop that Windows lacks.
LACKING = {
    "fork",
    "killpg",
    "setsid",
    "getuid",
    "geteuid",
    "uname",
    "sched_getaffinity",
    "sync",
    "mkfifo",
    "sysconf",
    "getloadavg",
    "register_at_fork",
    "add_signal_handler",
    "SIGKILL",
    "SIGHUP",
    "SIGUSR1",
}


def modules():
    return sorted(ROOT.rglob("*.py"))


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_at_once(tree):
    """Yield the modules that are imported when the module is, also behind a condition."""
    for node in tree.body:
        parts = ast.walk(node) if isinstance(node, ast.If | ast.Try) else [node]
        for part in parts:
            if isinstance(part, ast.Import):
                yield from (alias.name for alias in part.names)
            elif isinstance(part, ast.ImportFrom) and part.module:
                yield part.module


def test_no_module_needs_at_import_what_only_some_systems_have():
    """Names within functions are reached on the system that has them; see the tests below."""
    found = {
        path.relative_to(ROOT).as_posix(): some
        for path in modules()
        if (some := ELSEWHERE & set(imported_at_once(parsed(path))))
    }
    assert found == {"runs/lock.py": {"fcntl", "msvcrt"}}  # one for each system


def test_names_that_windows_lacks_are_asked_for():
    """``os.X`` of a name that is not everywhere stands nowhere but behind a question."""
    used = {}
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and node.attr in LACKING:
                base = node.value
                if isinstance(base, ast.Name) and base.id in {"os", "signal", "loop"}:
                    used.setdefault(path.relative_to(ROOT).as_posix(), set()).add(node.attr)
    assert used == {"runs/lock.py": {"register_at_fork"}}  # in the branch that Windows never takes


def test_no_text_is_read_in_the_encoding_of_the_machine():
    """On Windows that is a code page, and the documents are UTF-8."""
    rule = ("--isolated", "--no-cache", "--preview", "--select", "PLW1514")
    words = (sys.executable, "-m", "ruff", "check", *rule, ROOT)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


class FakeLocking(types.ModuleType):
    """Windows' ``msvcrt``: locks on a stretch of a file, for each descriptor."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self):
        super().__init__("msvcrt")
        self.held = {}

    def locking(self, descriptor, kind, length):
        status = os.fstat(descriptor)
        place = (status.st_ino, os.lseek(descriptor, 0, os.SEEK_CUR), length)
        if kind == self.LK_UNLCK:
            if self.held.pop(place, None) != descriptor:
                raise OSError(errno.EACCES, "not locked")
        elif place in self.held:
            raise OSError(errno.EACCES, "Permission denied")
        else:
            self.held[place] = descriptor


@pytest.fixture
def windows_lock(monkeypatch):
    """Return the module of the lock as Windows would import it, without ``fcntl``."""
    real = builtins.__import__

    def refusing(name, *rest, **known):
        if name == "fcntl":
            raise ModuleNotFoundError("No module named 'fcntl'")
        return real(name, *rest, **known)

    monkeypatch.setattr(builtins, "__import__", refusing)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", FakeLocking())
    spec = importlib.util.spec_from_file_location("windows_lock", lock.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_lock_of_a_folder_holds_on_windows(windows_lock, tmp_path):
    first = windows_lock.FolderLock(tmp_path / ".lock")
    assert (tmp_path / ".lock").read_text(encoding="ascii") == str(os.getpid())
    with pytest.raises(RunDirectoryError, match="this process"):
        windows_lock.FolderLock(tmp_path / ".lock")
    first.release()
    first.release()
    windows_lock.FolderLock(tmp_path / ".lock").release()


def test_a_file_system_without_locks_says_so(windows_lock, tmp_path, monkeypatch):
    def none(descriptor, kind, length):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(sys.modules["msvcrt"], "locking", none)
    with pytest.raises(StorageError, match="no locks"):
        windows_lock.FolderLock(tmp_path / ".lock")


def test_files_are_replaced_where_folders_cannot_be_opened(tmp_path, monkeypatch):
    opened = os.open

    def no_folders(path, flags, *rest, **known):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *rest, **known)

    monkeypatch.setattr(os, "open", no_folders)
    with pytest.raises(StorageError):
        files.write_atomic(tmp_path / "a.txt", "text")  # as Linux has it, for comparison
    monkeypatch.setattr(files, "os", types.SimpleNamespace(**{**vars(os), "name": "nt"}))
    files.write_atomic(tmp_path / "a.txt", "größer")
    files.append_line(tmp_path / "b.txt", "Zeile")
    assert (tmp_path / "a.txt").read_bytes() == "größer".encode()
    assert (tmp_path / "b.txt").read_bytes() == b"Zeile\n"


def test_the_memory_of_a_process_is_known_on_every_system(monkeypatch):
    """Linux has a file for it, macOS a call in bytes, Windows a module of another name."""
    import psutil
    import torch

    from reflectory.training import model_facts

    cpu = torch.device("cpu")
    here = model_facts.peak_memory(cpu)
    assert 10_000_000 < here < 10**12

    exists = Path.exists
    monkeypatch.setattr(
        Path, "exists", lambda self: not str(self).startswith("/proc") and exists(self)
    )
    monkeypatch.setitem(
        sys.modules,
        "resource",
        types.SimpleNamespace(
            RUSAGE_SELF=0, getrusage=lambda who: types.SimpleNamespace(ru_maxrss=7_000)
        ),
    )
    monkeypatch.setattr(sys, "platform", "darwin")
    assert model_facts.peak_memory(cpu) == 7_000
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)  # importing it fails
    info = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(peak_wset=9_000))
    monkeypatch.setattr(psutil, "Process", lambda: info)
    assert model_facts.peak_memory(cpu) == 9_000
