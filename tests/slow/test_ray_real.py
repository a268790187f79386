"""Loops on a real Ray cluster of several nodes: nodes, workers and runs are killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason='the engine ray is not installed: "reflectory[ray]"')

from ray.cluster_utils import Cluster  # noqa: E402
from ray_target import ASKED, CLUSTER, make_loop  # noqa: E402

from reflectory.background import BACKGROUND  # noqa: E402
from reflectory.cluster import ClusterRunner, map_on_ray  # noqa: E402
from reflectory.config import BudgetConfig, RunConfig  # noqa: E402
from reflectory.errors import (  # noqa: E402
    BudgetSpent,
    RunDirectoryError,
    RunStopped,
    StorageError,
    UserError,
)
from reflectory.observability.trace import trace_of  # noqa: E402
from reflectory.runs import CallCache, RunDirectory, RunView, read_instructions  # noqa: E402

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SPREAD = CLUSTER.model_copy(update={"cpus": 1.0})  # so that there is one worker on each node
NODE = {"object_store_memory": 80 * 1024 * 1024, "include_dashboard": False}


@pytest.fixture(scope="session", autouse=True)
def default_models():
    """Need no models here."""


@pytest.fixture(scope="module", autouse=True)
def _readable_by_workers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(HERE))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@contextmanager
def nodes():
    """Start a cluster whose head has no room for workers and whose two others have room for two."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1, **NODE)
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def cluster():
    """Yield a cluster that no test takes a node from."""
    with nodes() as made:
        yield made


@pytest.fixture(scope="module")
def alone():
    """Return the trajectories of the same instructions on one machine."""
    return by_id(make_loop().map(ASKED))


def by_id(trajectories):
    found = [(t.id, t.to_json()) for t in trajectories]
    assert len(found) == len(dict(found)), "an instruction was yielded twice"
    return dict(found)


def calls_of(log):
    """Return how often each call was made, and by which processes."""
    lines = [line.split("\t", 1) for line in log.read_text().splitlines()]
    return Counter(call for _, call in lines), Counter(int(pid) for pid, _ in lines)


def recorded_in(run):
    with sqlite3.connect(run / "calls.sqlite") as connection:
        return connection.execute("SELECT COUNT(*) FROM calls").fetchone()[0]


def keepers_in(cluster):
    """Return the processes that keep calls or a budget on the nodes of a cluster."""
    lines = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    nodes = {n.all_processes["raylet"][0].process.pid for n in cluster.list_all_nodes()}
    return [
        int(line.split()[0])
        for line in lines
        if ("ray::CallKeeper" in line or "ray::LedgerKeeper" in line)
        and int(line.split()[1]) in nodes
    ]


# Before those that share a cluster: a process is connected to one at a time.
def test_a_node_that_is_killed_in_the_middle_loses_nothing(tmp_path, alone):
    run, log = tmp_path / "run", tmp_path / "log"
    found, before = [], 0
    make = partial(make_loop, log, 0.05)
    with nodes() as cluster:
        for trajectory in map_on_ray(make, ASKED, concurrency=2, output=run, cluster=SPREAD):
            found.append(trajectory)
            if len(found) == 3:
                before = len(log.read_text().splitlines())
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    assert by_id(found) == by_id(RunView.read(run).trajectories) == alone
    calls, _ = calls_of(log)
    # Made twice at most: what was in flight on that node, two loops of two levels each.
    assert before and sum(calls.values()) - len(calls) <= 2 * 2 * 2


def test_two_nodes_say_what_one_machine_says_and_either_goes_on(cluster, tmp_path, alone):
    run, log = tmp_path / "run", tmp_path / "log"
    make = partial(make_loop, log, 0.02)
    assert by_id(map_on_ray(make, ASKED, concurrency=2, output=run, cluster=SPREAD)) == alone
    calls, processes = calls_of(log)
    assert set(calls.values()) == {1} and len(processes) == 2 and min(processes.values()) > 10
    view = RunView.read(run)
    assert by_id(view.trajectories) == alone
    assert view.manifest.finished and view.manifest.totals.calls == sum(calls.values())
    assert view.manifest.sessions[-1].device.startswith("2 workers of a Ray cluster")
    traced = trace_of(run, min(alone))
    assert not traced.lost and {call.step for call in traced.calls} >= {"respond", "ask", "answer"}
    # The directory is one machine's as well: it goes on there, and nothing is asked again.
    more = [*ASKED, "What is known of one more?"]
    assert len(by_id(make().map(more, output=run))) == len(more)
    assert by_id(map_on_ray(make, more, workers=1, output=run)).keys() >= alone.keys()
    assert set(calls_of(log)[0].values()) == {1}


def test_a_worker_that_is_killed_is_replaced(cluster, tmp_path, alone):
    run, log = tmp_path / "run", tmp_path / "log"
    found, killed = [], set()
    stream = map_on_ray(
        partial(make_loop, log, 0.05), ASKED, concurrency=2, output=run, cluster=CLUSTER
    )
    for trajectory in stream:
        found.append(trajectory)
        if len(found) in {2, 5, 8}:
            # The process that made the last call is alive, and one of ours.
            victim = int(log.read_text().splitlines()[-1].split("\t")[0])
            if victim not in killed:
                os.kill(victim, signal.SIGKILL)
                killed.add(victim)
    assert by_id(found) == alone
    calls, processes = calls_of(log)
    assert len(killed) >= 2 and len(processes) > 2
    assert sum(calls.values()) - len(calls) <= len(killed) * 2 * 2


def test_the_keeper_of_calls_is_killed_and_knows_everything_afterwards(cluster, tmp_path, alone):
    run, log = tmp_path / "run", tmp_path / "log"
    found = []
    stream = map_on_ray(
        partial(make_loop, log, 0.02), ASKED, concurrency=2, output=run, cluster=CLUSTER
    )
    for trajectory in stream:
        found.append(trajectory)
        if len(found) == 3:
            keepers = keepers_in(cluster)
            assert keepers
            # Those of earlier runs may be on their way out; ours was started last.
            os.kill(max(keepers), signal.SIGKILL)
    assert by_id(found) == alone
    calls, _ = calls_of(log)
    assert set(calls.values()) == {1} and recorded_in(run) == len(calls)


def test_one_instruction_that_fails_and_one_that_kills_end_no_other(cluster, tmp_path):
    asked = [*ASKED[:4], "What is broken?", "What is deadly?"]
    config = CLUSTER.model_copy(update={"deaths": 2})
    run = tmp_path / "run"
    found = list(map_on_ray(make_loop, asked, concurrency=1, output=run, cluster=config))
    failed = {t.instruction: t.error for t in found if t.status == "failed"}
    assert len(found) == 6 and set(failed) == {"What is broken?", "What is deadly?"}
    assert failed["What is broken?"].kind == "BackendError"
    assert "2 workers died" in failed["What is deadly?"].message
    assert RunView.read(run).manifest.totals.failed == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_that_is_killed_goes_on_with_another_number_of_workers(tmp_path, alone, workers):
    run, log = tmp_path / "run", tmp_path / "log"
    process = start_target(run, log, 2)
    for _ in range(3):
        assert process.stdout.readline().strip()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    process.stdout.close()
    time.sleep(2)  # Ray ends what belonged to it
    before, recorded = len(log.read_text().splitlines()), recorded_in(run)
    again = start_target(run, log, workers)
    assert len(again.communicate(timeout=120)[0].split()) == len(ASKED) and again.returncode == 0
    assert by_id(RunView.read(run).trajectories) == alone
    calls, _ = calls_of(log)
    assert sum(calls.values()) - len(calls) <= before - recorded


def start_target(run, log, workers):
    return subprocess.Popen(
        [sys.executable, str(HERE / "ray_target.py"), str(run), str(log), str(workers)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_cannot_run_says_so(cluster, tmp_path):
    lacking = CLUSTER.model_copy(update={"gpus": 8.0, "patience_s": 1.0})
    with pytest.raises(RunStopped, match="8 GPUs"):
        list(map_on_ray(make_loop, ASKED, cluster=lacking))

    def missing():
        from reflectory import ReflectiveLoop

        return ReflectiveLoop("/there/is/no/such/folder")

    with pytest.raises(UserError, match="no/such/folder"):
        list(map_on_ray(missing, ASKED, cluster=CLUSTER))
    handle = (tmp_path / "open").open("w")
    with handle, pytest.raises(UserError, match="cannot be sent"):
        list(map_on_ray(lambda: handle, ASKED, cluster=CLUSTER))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="not empty"):
        list(map_on_ray(make_loop, ASKED, output=tmp_path, cluster=CLUSTER))


def test_workers_that_differ_are_refused(cluster, tmp_path):
    def make():
        loop = make_loop()
        loop.sources.student._name = f"student of process {os.getpid()}"
        return loop

    with pytest.raises(UserError, match="the workers differ"):
        list(map_on_ray(make, ASKED, concurrency=1, output=tmp_path / "run", cluster=CLUSTER))


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished(tmp_path, cluster, monkeypatch):
    record, count = RunDirectory.record, []

    def full(self, trajectory):
        count.append(trajectory.id)
        if len(count) == 3:
            raise StorageError("the disk is full", hint="make room")
        return record(self, trajectory)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "record", full)
        stream = ClusterRunner(make_loop, CLUSTER).stream(
            read_instructions(ASKED), concurrency=1, output=tmp_path / "run"
        )
        with pytest.raises(StorageError):
            list(BACKGROUND.iterate(stream))
    assert len(RunView.read(tmp_path / "run").trajectories) >= 2
    assert len(list(map_on_ray(make_loop, ASKED, output=tmp_path / "run", cluster=CLUSTER))) == 12


def test_workers_together_keep_to_a_budget(cluster, tmp_path, alone):
    run, log = tmp_path / "run", tmp_path / "log"
    make = partial(make_loop, log, 0.01)
    items = list(read_instructions(ASKED))

    def go_on(calls):
        settings = RunConfig(
            teacher="object",
            student="object",
            embedder="object",
            loop=make_loop().config,
            budget=BudgetConfig(calls=calls),
        )
        stream = ClusterRunner(make, CLUSTER, settings=settings).stream(
            items, concurrency=2, output=run
        )
        return list(BACKGROUND.iterate(stream))

    with pytest.raises(BudgetSpent, match="40 calls"):
        go_on(40)
    assert sum(calls_of(log)[0].values()) == 40 == recorded_in(run)
    assert RunView.read(run).manifest.totals.spent["calls"] == 40
    with pytest.raises(BudgetSpent, match="60 calls"):
        go_on(60)
    assert by_id(go_on(100_000)) == alone
    assert set(calls_of(log)[0].values()) == {1}


@pytest.mark.parametrize("calls", [20, 100_000])
def test_no_keeper_outlives_its_run_on_a_cluster_that_does(cluster, tmp_path, calls):
    settings = RunConfig(
        teacher="object",
        student="object",
        embedder="object",
        loop=make_loop().config,
        budget=BudgetConfig(calls=calls),
    )
    runner = ClusterRunner(make_loop, CLUSTER, settings=settings)
    stream = runner.stream(read_instructions(ASKED), concurrency=2, output=tmp_path / "run")
    seen, ended = [], None
    try:
        for _ in BACKGROUND.iterate(stream):
            seen = seen or keepers_in(cluster)
    except BudgetSpent as error:
        ended = error  # kept, and with it every frame that has a handle
    assert (ended is not None) == (calls == 20) and (ended or len(seen) >= 2)
    give_up = time.monotonic() + 15
    while keepers_in(cluster) and time.monotonic() < give_up:
        time.sleep(0.2)
    assert not keepers_in(cluster)


def test_the_command_line_says_what_a_worker_could_not_load(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/one.txt").write_text("The first fact is known to everybody.")
    config = {"documents": ["notes"], "teacher": "local:/no/such/model"}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "reflectory.cli.main", "run", "-c", "config.yaml"]
    command += ["-i", "What is known?", "-o", "run", "--engine", "ray", "--workers", "1", "-q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    # The worker reads the configuration and says what is wrong with it.
    assert done.returncode == 2 and "/no/such/model" in done.stderr


def test_calls_keep_what_they_were(cluster, tmp_path):
    """The cache of a cluster's run is read by everything that reads one."""
    list(map_on_ray(make_loop, ASKED[:2], output=tmp_path / "run", cluster=CLUSTER))
    cache = CallCache(tmp_path / "run/calls.sqlite")
    recorded = list(cache.iterate())
    cache.close()
    assert {call.role for call in recorded} >= {"student.respond", "teacher.ask"}
    assert all(call.request["segments"] and call.response["text"] for call in recorded)
