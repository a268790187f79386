"""Many instructions in a run directory: resume, failures of their own, kills."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from holding import held
from worlds import world_loop

from reflectory.background import BACKGROUND
from reflectory.errors import (
    BackendError,
    RunDirectoryError,
    RunStopped,
    StorageError,
    UserError,
)
from reflectory.runner import Runner
from reflectory.runs import RunView, read_instructions
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = ["What is known?", "What is unknown?", "What follows from it?"]


def by_id(trajectories):
    return {t.id: t.to_json() for t in trajectories}


def test_a_run_leaves_its_files_and_the_same_call_again_costs_nothing(tmp_path):
    student = WORLD.student()
    loop = world_loop(WORLD, max_iterations=2, student=student)
    first = by_id(loop.map(ASKED, concurrency=2, output=tmp_path / "run"))
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"config.yaml", "manifest.json", "calls.sqlite", "trajectories.jsonl"} <= names
    calls = len(student.requests)
    again = by_id(loop.map(ASKED, output=tmp_path / "run"))
    assert again == first and len(student.requests) == calls
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["totals"]["done"] == 3 and manifest["finished"]
    assert len(RunView.read(tmp_path / "run").trajectories) == 3


def test_more_instructions_may_join_a_run(tmp_path):
    loop = world_loop(WORLD, max_iterations=1)
    list(loop.map(ASKED[:1], output=tmp_path / "run"))
    assert len(list(loop.map(ASKED, output=tmp_path / "run"))) == 3


def test_a_run_directory_of_another_configuration_is_refused(tmp_path):
    list(world_loop(WORLD, max_iterations=1).map(ASKED[:1], output=tmp_path / "run"))
    with pytest.raises(RunDirectoryError, match="max_iterations"):
        list(world_loop(WORLD, max_iterations=2).map(ASKED[:1], output=tmp_path / "run"))


def test_what_stops_a_run_fails_no_instruction_and_the_run_goes_on_later(tmp_path):
    normal = WORLD.student()
    spent = [True]

    async def until_spent(request):
        if spent[0] and "unknown" in request.segments[-1].text:
            raise RunStopped("the budget is spent", hint="allow more")
        return (await normal.complete(request)).text

    loop = world_loop(WORLD, max_iterations=1, student=ScriptedModel(until_spent, name="s"))
    with pytest.raises(RunStopped, match="spent"):
        list(loop.map(ASKED, concurrency=1, output=tmp_path / "run"))
    kept = RunView.read(tmp_path / "run").trajectories
    assert [t.status for t in kept] == ["done"]
    spent[0] = False
    assert {t.status for t in loop.map(ASKED, output=tmp_path / "run")} == {"done"}


def test_one_failure_ends_no_other_loop_and_is_retried_on_request(tmp_path):
    normal = WORLD.student()
    broken = [True]

    async def sometimes(request):
        if (
            broken[0]
            and "unknown" in request.segments[-1].text
            and request.role == "student.respond"
        ):
            raise BackendError("the server is down", hint="wait")
        return (await normal.complete(request)).text

    loop = world_loop(WORLD, max_iterations=1, student=ScriptedModel(sometimes, name="s"))
    found = list(loop.map(ASKED, output=tmp_path / "run"))
    failed = [t for t in found if t.status == "failed"]
    assert len(found) == 3 and len(failed) == 1
    assert failed[0].error.kind == "BackendError" and "server is down" in failed[0].error.message
    assert [t.status for t in loop.map(ASKED, output=tmp_path / "run")].count("failed") == 1
    broken[0] = False
    stream = Runner(loop).stream(
        read_instructions(ASKED), concurrency=2, output=tmp_path / "run", retry_failed=True
    )
    assert {t.status for t in BACKGROUND.iterate(stream)} == {"done"}


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished(tmp_path, monkeypatch):
    from reflectory.runs.directory import RunDirectory

    record = RunDirectory.record
    count = []

    def full(self, trajectory):
        count.append(trajectory.id)
        if len(count) == 2:
            raise StorageError("the disk is full", hint="make room")
        return record(self, trajectory)

    loop = world_loop(WORLD, max_iterations=1)
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "record", full)
        with pytest.raises(StorageError):
            list(loop.map(ASKED, concurrency=1, output=tmp_path / "run"))
    assert len(RunView.read(tmp_path / "run").trajectories) == 1
    assert len(list(loop.map(ASKED, output=tmp_path / "run"))) == 3


def test_a_bug_is_not_turned_into_a_failed_trajectory(tmp_path):
    loop = world_loop(WORLD, grader=lambda task: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(loop.map(ASKED[:1], output=tmp_path / "run"))


@pytest.mark.parametrize("concurrency", [0, -3])
def test_concurrency_must_be_positive(concurrency):
    with pytest.raises(UserError, match="concurrency"):
        list(world_loop(WORLD).map(ASKED, concurrency=concurrency))


def test_references_never_reach_a_model(tmp_path):
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps({"instruction": "What is known?", "answer": "SECRET-42"}) + "\n")
    teacher, student = WORLD.teacher(), WORLD.student()
    loop = world_loop(WORLD, max_iterations=1, teacher=teacher, student=student)
    list(loop.map(file, output=tmp_path / "run"))
    asked = [s.text for r in [*teacher.requests, *student.requests] for s in r.segments]
    assert asked and not any("SECRET-42" in text for text in asked)


def start_target(run, log):
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, str(here / "kill_target.py"), str(run), str(log)],
        env={**os.environ, "PYTHONPATH": str(here)},
        stdout=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def calm_run(tmp_path_factory):
    """Return the trajectories and the calls of a run that nobody kills."""
    folder = tmp_path_factory.mktemp("calm")
    assert start_target(folder / "run", folder / "log").wait(timeout=120) == 0
    calls = (folder / "log").read_text().splitlines()
    return by_id(RunView.read(folder / "run").trajectories), calls


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_goes_on_where_it_was(tmp_path, calm_run, seed):
    calm, every_call = calm_run
    run, log = tmp_path / "killed", tmp_path / "killed.log"
    target = random.Random(seed).randrange(5, len(every_call) - 5)
    with held(log, target + 3):
        process = start_target(run, log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) >= target:
                break
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    before = log.read_text().splitlines()
    with sqlite3.connect(run / "calls.sqlite") as connection:
        (recorded,) = connection.execute("SELECT COUNT(*) FROM calls").fetchone()

    assert start_target(run, log).wait(timeout=120) == 0
    assert by_id(RunView.read(run).trajectories) == calm
    # Among what was read back from checkpoints are the drafts of the responses.
    assert all('"origin":"reflection"' in line for line in calm.values())
    after = log.read_text().splitlines()
    # Every call of the calm run was made, and what was recorded was not made again:
    # only calls that were in flight when the process died may occur twice.
    assert set(after) == set(every_call)
    assert len(after) - len(set(after)) <= len(before) - recorded


def test_a_folder_that_does_not_fit_is_refused_before_anything_is_loaded(tmp_path):
    list(world_loop(WORLD, max_iterations=1).map(ASKED[:1], output=tmp_path / "run"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("text")
    for name, says in (("run", "max_iterations"), ("notes", "no run directory")):
        loop = world_loop(WORLD, max_iterations=2)

        async def load():
            raise AssertionError("models were loaded")

        loop.aopen = load
        with pytest.raises(RunDirectoryError, match=says):
            list(loop.map(ASKED[:1], output=tmp_path / name))
