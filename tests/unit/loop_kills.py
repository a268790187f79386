"""Loops that kill their own process at a named point, for tests that resume them."""

import multiprocessing
import os
import random
import signal
import sqlite3
import threading
from collections import Counter
from pathlib import Path

from kill_target import INSTRUCTIONS, main

from reflectory import runner
from reflectory.runs import RunView, call_cache, directory, files, sqlite_saver

POINTS = {
    "asked": "a model has answered, and the answer is not recorded",
    "recorded": "the answer is recorded, and the loop does not know it",
    "step": "a step is done, and its checkpoint is not written",
    "written": "the checkpoint is written, and nothing has come after it",
    "calls": "a loop is over, and its calls are not on the disk",
    "synced": "its calls are on the disk, and its trajectory is not written",
    "half": "half of its line is written",
    "unsynced": "its line is written, and is not on the disk",
    "kept": "its trajectory is kept, and its checkpoints are not pruned",
    "report": "the manifest is written beside the old one, and has not replaced it",
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse:
    """Kills the process when a point is reached for the n-th time."""

    def __init__(self, point: str) -> None:
        self.name, _, number = point.partition(":")
        self.left = int(number or 0)

    def burn(self, name: str, act=die) -> None:
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                act()

    def around(self, owner, method: str, before: str = "", after: str = "") -> None:
        """Reach points before and after every call of a method."""
        inner = getattr(owner, method)

        def outer(*args, **options):
            self.burn(before)
            result = inner(*args, **options)
            self.burn(after)
            return result

        setattr(owner, method, outer)


def work(run: Path, log: Path, point: str) -> None:
    """Run the loops of the kill target until the point; to the end where there is none."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    fuse = Fuse(point)
    fuse.around(call_cache.CallCache, "put", "asked", "recorded")
    fuse.around(sqlite_saver.SqliteSaver, "put", "step", "written")
    if fuse.name in {"step", "written"}:
        runner.CHECKPOINTS_WITHIN_S = 0.0  # loops of this model are over before one is written
    fuse.around(call_cache.CallCache, "sync", "calls", "synced")
    fuse.around(directory.RunDirectory, "record", after="kept")
    fuse.around(Path, "replace", "report")
    append, sync = files.append_line, os.fsync
    appending = threading.local()

    def half(path, line):
        def act():
            with path.open("ab") as file:
                file.write(line.encode()[: len(line) // 2])
            die()

        fuse.burn("half", act)
        appending.now = True
        try:
            return append(path, line)
        finally:
            appending.now = False

    def unsynced(descriptor):
        if getattr(appending, "now", False):
            fuse.burn("unsynced")
        sync(descriptor)

    from reflectory.runs import trajectories

    trajectories.append_line = half
    files.os.fsync = unsynced
    if fuse.name == "random":
        chance = random.Random(fuse.left)
        fuse.name, fuse.left = "asked", chance.randrange(1, 50)
        later, burn = chance.random() * 0.03, fuse.burn

        def burn_later(name, act=die):
            burn(name, act=lambda: threading.Timer(later, die).start())

        fuse.burn = burn_later
    main(run, log)


def start(run: Path, log: Path, point: str = "") -> int:
    """Run in a process of its own and return its exit code, negative when it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["loop_kills", "torch", "reflectory.runner"])
    process = context.Process(target=work, args=(run, log, point))
    process.start()
    process.join(timeout=120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def kept(run: Path) -> dict[str, str]:
    """Return the trajectories as they stand in the file; none may be there twice."""
    lines = (run / "trajectories.jsonl").read_bytes().splitlines()
    found = {t.id: t.to_json() for t in RunView.read(run).trajectories}
    assert len(lines) == len(found)
    return found


def recorded(run: Path) -> int:
    """Return how many calls are recorded."""
    if not (run / "calls.sqlite").exists():
        return 0
    connection = sqlite3.connect(run / "calls.sqlite")
    try:
        return connection.execute("SELECT count(*) FROM calls").fetchone()[0]
    except sqlite3.OperationalError:  # killed before the table was made
        return 0
    finally:
        connection.close()


def check(calm: Path, run: Path, point: str) -> None:
    """Kill a run at a point and let it go on: it ends as the undisturbed one.

    Args:
        calm: Folder with ``run`` and ``log`` of the undisturbed run.
        run: The run directory, which is not there yet.
        point: A name of :data:`POINTS` or ``random``, and how often or which seed.
    """
    log = run.with_suffix(".log")
    code = start(run, log, point)
    assert code == -signal.SIGKILL, f"{point} was never reached ({code})"
    asked = log.read_text().splitlines() if log.exists() else []
    in_flight = len(asked) - recorded(run)
    assert start(run, log) == 0
    assert kept(run) == kept(calm / "run") and len(kept(run)) == len(INSTRUCTIONS)
    calls = Counter(log.read_text().splitlines())
    assert set(calls) == set((calm / "log").read_text().splitlines())
    assert sum(calls.values()) - len(calls) <= in_flight
    assert recorded(run) == recorded(calm / "run")
    connection = sqlite3.connect(run / "checkpoints.sqlite")
    left = connection.execute("SELECT count(*) FROM checkpoints").fetchone()[0]
    connection.close()
    assert left == 0
