"""One process at a time has a run directory open."""

import os
import signal
import subprocess
import sys

import pytest

from reflectory.config import RunConfig
from reflectory.errors import RunDirectoryError
from reflectory.runs import RunDirectory


def start(path):
    return RunDirectory.open(path, RunConfig(), identity={})


HOLDER = """
import sys, time
from reflectory.config import RunConfig
from reflectory.runs import RunDirectory
from reflectory.types import Trajectory
run = RunDirectory.open(sys.argv[1], RunConfig(), identity={})
print("open", flush=True)
number = 0
while True:
    number += 1
    run.record(Trajectory(id=f"{number}", instruction="i", levels=("basic",)))
    run.update_manifest()
    print(number, flush=True)
"""


def test_this_process_cannot_open_it_twice(tmp_path):
    with start(tmp_path / "run"):
        with pytest.raises(RunDirectoryError, match="in use by this process"):
            start(tmp_path / "run")
        with pytest.raises(RunDirectoryError, match="in use by this process"):
            start(tmp_path / "run")  # the failed try has not let go of it
    start(tmp_path / "run").close()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_another_process_is_named_and_a_dead_one_does_not_block(tmp_path):
    path = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid}"):
        start(path)
    assert holder.stdout.readline() == "1\n"
    holder.send_signal(signal.SIGKILL)
    acknowledged = [int(n) for n in holder.stdout.read().split()]
    holder.wait()
    with start(path) as run:
        assert {str(n) for n in acknowledged} <= run.trajectories.ids()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_does_not_hold_the_lock(tmp_path):
    run = start(tmp_path / "run")
    pid = os.fork()
    if pid == 0:  # as a data loader's worker that outlives us
        signal.pause()
        os._exit(0)
    try:
        with pytest.raises(RunDirectoryError, match="in use"):
            start(tmp_path / "run")  # the child has not let go of ours
        run.close()
        start(tmp_path / "run").close()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
