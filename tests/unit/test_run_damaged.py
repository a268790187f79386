"""Runs after a power cut, on a full disk, and with a bug in one step: each can go on."""

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from worlds import world_loop

from reflectory.errors import IntegrityError, StorageError
from reflectory.runs import RunView
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(skill=0.5, gain=0.4, levels=2)
ASKED = ["What is known?", "What is unknown?", "What follows from it?"]


def loop_of(student=None):
    return world_loop(WORLD, max_iterations=2, epsilon=1e-9, student=student or WORLD.student())


def by_id(trajectories):
    return {t.id: t.to_json() for t in trajectories}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Return the trajectories and the number of calls of a run that nobody disturbed."""
    student = WORLD.student()
    found = by_id(loop_of(student).map(ASKED, output=tmp_path_factory.mktemp("calm") / "run"))
    return found, len(student.requests)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """Return a copy of a run directory as it was in the middle, logs of the databases included."""
    folder = tmp_path_factory.mktemp("crashed")
    copied = []

    def keep(event):
        # The second loop is in its second iteration, so every file has something in it.
        if event.step == "reflect" and event.iteration == 2 and not copied:
            finished = (folder / "run" / "trajectories.jsonl").exists()
            if finished:
                shutil.copytree(folder / "run", folder / "cut")
                copied.append(event)

    list(loop_of().map(ASKED, concurrency=1, output=folder / "run", on_event=keep))
    assert copied and (folder / "cut" / "calls.sqlite-wal").stat().st_size > 0
    return folder / "cut"


def copy_of(crashed: Path, tmp_path: Path) -> Path:
    shutil.copytree(crashed, tmp_path / "run")
    (tmp_path / "run" / ".lock").unlink(missing_ok=True)
    for log in (tmp_path / "run").glob("*-shm"):
        log.unlink()  # an index of the log in memory that a power cut does not leave
    return tmp_path / "run"


def recorded(run: Path) -> int:
    with sqlite3.connect(run / "calls.sqlite") as connection:
        (count,) = connection.execute("SELECT count(*) FROM calls").fetchone()
    connection.close()
    return count


@pytest.mark.parametrize("seed", range(6))
def test_logs_that_are_cut_off_anywhere_lose_only_the_last_calls(tmp_path, crashed, calm, seed):
    run = copy_of(crashed, tmp_path)
    chance = random.Random(seed)
    for name in ("calls.sqlite-wal", "checkpoints.sqlite-wal", "places.sqlite-wal"):
        log = run / name
        if log.exists():
            data = log.read_bytes()
            log.write_bytes(data[: chance.randrange(len(data) + 1)])
    student = WORLD.student()
    found = by_id(loop_of(student).map(ASKED, concurrency=1, output=run))
    assert found == calm[0]
    assert len(student.requests) <= calm[1]


@pytest.mark.parametrize("seed", range(3))
def test_logs_with_a_torn_page_are_read_up_to_it(tmp_path, crashed, calm, seed):
    run = copy_of(crashed, tmp_path)
    chance = random.Random(seed)
    for name in ("calls.sqlite-wal", "checkpoints.sqlite-wal"):
        data = bytearray((run / name).read_bytes())
        for _ in range(3):
            data[chance.randrange(32, len(data))] ^= 0xFF
        (run / name).write_bytes(bytes(data))
    assert by_id(loop_of().map(ASKED, concurrency=1, output=run)) == calm[0]


@pytest.mark.parametrize("seed", range(6))
def test_a_line_that_is_cut_off_anywhere_is_made_again_from_recorded_calls(
    tmp_path, crashed, calm, seed
):
    run = copy_of(crashed, tmp_path)
    before = recorded(run)
    file = run / "trajectories.jsonl"
    data = file.read_bytes()
    start = data.rstrip(b"\n").rfind(b"\n") + 1
    file.write_bytes(data[: random.Random(seed).randrange(start, len(data))])
    student, teacher = WORLD.student(), WORLD.teacher()
    loop = world_loop(WORLD, max_iterations=2, epsilon=1e-9, student=student, teacher=teacher)
    assert by_id(loop.map(ASKED, concurrency=1, output=run)) == calm[0]
    assert len(student.requests) + len(teacher.requests) == recorded(run) - before
    assert all(line.endswith(b"}") for line in file.read_bytes().splitlines())


@pytest.mark.parametrize("limit_kb", [40, 180])
def test_a_full_disk_at_any_time_is_one_error_and_the_run_goes_on_with_room(
    tmp_path, calm, limit_kb
):
    resource = pytest.importorskip("resource")
    run = tmp_path / "run"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kb * 1000, limits[1]))
    try:
        with pytest.raises(StorageError) as caught:
            list(loop_of().map(ASKED * 20, concurrency=2, output=run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(run) in str(caught.value) and caught.value.hint
    found = list(loop_of().map(ASKED * 20, concurrency=2, output=run))
    assert len(found) == 60 and {t.status for t in found} == {"done"}
    assert {k: v for k, v in by_id(found).items() if k in calm[0]} == calm[0]
    assert len(RunView.read(run).trajectories) == 60


def test_a_damaged_cache_says_so_and_what_to_do(tmp_path, crashed):
    run = copy_of(crashed, tmp_path)
    (run / "calls.sqlite-wal").unlink()
    (run / "calls.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(IntegrityError, match="move the file aside"):
        list(loop_of().map(ASKED, output=run))


def test_a_bug_in_one_step_ends_the_session_and_loses_nothing(tmp_path, calm):
    seen = []

    def broken(event):
        seen.append(event.step)
        if len(seen) == 20:
            raise ZeroDivisionError("a bug in somebody's callback")

    with pytest.raises(ZeroDivisionError):
        list(loop_of().map(ASKED, concurrency=2, output=tmp_path / "run", on_event=broken))
    before = recorded(tmp_path / "run")
    assert before > 0
    student, teacher = WORLD.student(), WORLD.teacher()
    loop = world_loop(WORLD, max_iterations=2, epsilon=1e-9, student=student, teacher=teacher)
    assert by_id(loop.map(ASKED, output=tmp_path / "run")) == calm[0]
    assert len(student.requests) + len(teacher.requests) == recorded(tmp_path / "run") - before
