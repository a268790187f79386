"""Checkpoints in a real PostgreSQL server: kills, neighbours, outages, passwords."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from holding import held
from hypothesis import given
from hypothesis import strategies as st
from kill_target import WORLD
from postgres_server import running_server
from postgres_target import run_in

from reflectory.config import RunConfig
from reflectory.config.checkpoints import without_passwords
from reflectory.errors import ConfigError, StorageError, UserError
from reflectory.runs import RunView
from reflectory.runs.checkpoints import open_checkpointer, prune
from reflectory.runs.postgres import NAME_FILE, thread_prefix
from reflectory.testing.models import ScriptedModel

server = pytest.fixture(scope="module")(running_server)

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")


@pytest.fixture(autouse=True)
def clean(request):
    yield
    if "server" in request.fixturenames:
        database = request.getfixturevalue("server")
        if database.rows("SELECT to_regclass('checkpoints')")[0][0]:
            import psycopg

            with psycopg.connect(database.address, autocommit=True) as connection:
                connection.execute(f"TRUNCATE {', '.join(TABLES)}")


def by_id(trajectories):
    return {t.id: t.to_json() for t in trajectories}


def threads(server):
    return {row[0] for row in server.rows("SELECT DISTINCT thread_id FROM checkpoints")}


def kept(server):
    return sum(server.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES)


def start(run, log, address):
    target = Path(__file__).with_name("postgres_target.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, target, run, log, address], env=environment, stdout=subprocess.DEVNULL
    )


def kill_when(process, is_time):
    for _ in range(4000):
        if is_time():
            break
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_the_same_trajectories_as_with_sqlite_and_nothing_is_left(server, tmp_path):
    with_file = run_in(tmp_path / "file", tmp_path / "log", "")
    with_server = run_in(tmp_path / "server", tmp_path / "log", server.address)
    assert by_id(with_server) == by_id(with_file)
    assert (tmp_path / "file/checkpoints.sqlite").exists()
    assert not (tmp_path / "server/checkpoints.sqlite").exists()
    assert kept(server) == 0


def test_killed_runs_go_on_from_their_checkpoints_and_repeat_no_recorded_call(server, tmp_path):
    undisturbed = by_id(run_in(tmp_path / "whole", tmp_path / "whole.log", ""))
    run, log = tmp_path / "run", tmp_path / "log"

    def calls():
        return len(log.read_text().splitlines()) if log.exists() else 0

    for number in (6, 16):
        with held(log, number + 3):
            kill_when(start(run, log, server.address), lambda n=number: calls() >= n)
        assert threads(server)
    assert by_id(run_in(run, log, server.address)) == undisturbed
    made = log.read_text().splitlines()
    # What was in flight at a kill is made again: two loops with three levels each.
    assert len(made) - len(set(made)) <= 2 * 6
    assert kept(server) == 0


def test_a_finished_node_of_a_killed_run_is_not_run_again(server, tmp_path):
    # Without a checkpoint the recorded calls would be looked up again: hits tell.
    run, log = tmp_path / "run", tmp_path / "log"
    seen = set()

    async def broken(request):
        if request.role == "student.reflect":
            raise StorageError("as good as a kill")
        seen.add(request.role)
        return (await WORLD.student().complete(request)).text

    with pytest.raises(StorageError, match="as good"):
        run_in(run, log, server.address, student=ScriptedModel(broken, name="world-student"))
    assert {"student.respond", "student.answer"} <= seen and threads(server)
    run_in(run, log, server.address)
    hits = RunView.read(run).manifest.sessions[-1].hits
    again = tmp_path / "again"
    shutil.copytree(run, again)
    for name in ("trajectories.jsonl", NAME_FILE):
        (again / name).unlink()
    run_in(again, log, server.address)
    assert hits < RunView.read(again).manifest.sessions[-1].hits / 2


def test_runs_in_one_database_do_not_mix(server, tmp_path):
    answered = []

    def speaking(name):
        async def broken(request):
            if request.role == "student.reflect" and name not in answered:
                raise StorageError("stop here")
            return f"I am {name} with skill 0.5"

        return ScriptedModel(broken, name=name)

    for name in ("anna", "bert"):
        with pytest.raises(StorageError):
            run_in(tmp_path / name, tmp_path / "log", server.address, student=speaking(name))
    first, second = (thread_prefix(tmp_path / name) for name in ("anna", "bert"))
    assert first != second
    assert {t[: len(first)] for t in threads(server)} == {first, second}
    # The ids of the loops are the same in both, so only the prefix keeps them apart.
    answered.append("anna")
    for t in run_in(tmp_path / "anna", tmp_path / "log", server.address, student=speaking("anna")):
        assert "anna" in t.response and "bert" not in t.to_json()
    assert {t[: len(first)] for t in threads(server)} == {second}
    answered.append("bert")
    for t in run_in(tmp_path / "bert", tmp_path / "log", server.address, student=speaking("bert")):
        assert "bert" in t.response and "anna" not in t.to_json()


def test_two_runs_begin_at_once_in_a_new_database(server, tmp_path):
    import psycopg

    with psycopg.connect(server.address, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS checkpoint_migrations, " + ", ".join(TABLES))
    started = [start(tmp_path / f"run{i}", tmp_path / f"log{i}", server.address) for i in (0, 1)]
    assert [process.wait(120) for process in started] == [0, 0]


def test_a_server_that_restarts_between_steps_is_not_noticed(server, tmp_path):
    log = tmp_path / "log"

    async def restart():
        folder = tmp_path / "checkpoints.sqlite"
        async with open_checkpointer(folder, server.address) as saver:
            await prune(saver, "x")
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await prune(saver, "x")

    asyncio.run(restart())
    assert run_in(tmp_path / "run", log, server.address)


def test_a_server_that_goes_away_stops_the_run_and_a_resumed_one_completes(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr("reflectory.runs.postgres.CONNECT_SECONDS", 1.0)
    undisturbed = by_id(run_in(tmp_path / "whole", tmp_path / "whole.log", ""))
    run, log = tmp_path / "run", tmp_path / "log"

    def stop_soon():
        for _ in range(1000):
            if log.exists() and len(log.read_text().splitlines()) >= 8:
                break
            time.sleep(0.01)
        server.stop()

    stopping = threading.Thread(target=stop_soon)
    stopping.start()
    try:
        with pytest.raises(StorageError, match="cannot keep checkpoints"):
            run_in(run, log, server.address)
    finally:
        stopping.join()
        server.start()
    assert by_id(run_in(run, log, server.address)) == undisturbed
    assert not RunView.read(run).trajectories.failed_ids()


def test_a_character_that_the_server_cannot_store_fails_its_instruction_alone(server, tmp_path):
    found = run_in(tmp_path / "run", tmp_path / "log", server.address, ["What?", "Why\0 that?"])
    assert sorted(t.status for t in found) == ["done", "failed"]
    failed = next(t for t in found if t.status == "failed")
    assert failed.error.kind == "UserError" and "NUL" in failed.error.message + repr(failed.error)


def test_a_checkpoint_that_names_another_class_is_refused(server, tmp_path):
    import ormsgpack
    from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_SINGLE_ARG

    planted = ormsgpack.packb(
        ormsgpack.Ext(
            EXT_CONSTRUCTOR_SINGLE_ARG, ormsgpack.packb(("pathlib", "PurePath", "/etc/passwd"))
        )
    )
    run, log = tmp_path / "run", tmp_path / "log"

    async def broken(request):
        if request.role == "student.reflect":
            raise StorageError("stop here")
        return (await WORLD.student().complete(request)).text

    with pytest.raises(StorageError):
        run_in(run, log, server.address, student=ScriptedModel(broken, name="world-student"))
    import psycopg

    with psycopg.connect(server.address, autocommit=True) as connection:
        connection.execute(
            "UPDATE checkpoint_blobs SET type = 'msgpack', blob = %s WHERE channel = 'responses'",
            (planted,),
        )
    errors = [t.error for t in run_in(run, log, server.address) if t.error is not None]
    assert {error.kind for error in errors} == {"IntegrityError"}
    assert all("no record of this package" in error.message for error in errors)


def test_a_moved_run_keeps_its_threads_and_a_torn_name_is_made_anew(tmp_path):
    first = thread_prefix(tmp_path)
    assert thread_prefix(tmp_path) == first
    (tmp_path / "moved").mkdir()
    (tmp_path / NAME_FILE).rename(tmp_path / "moved" / NAME_FILE)
    assert thread_prefix(tmp_path / "moved") == first
    (tmp_path / "moved" / NAME_FILE).write_bytes(b"\xff\x00")
    assert thread_prefix(tmp_path / "moved") != first


@pytest.mark.parametrize(
    "setting",
    [
        "postgresql://me:hunter2hunter2@db/runs",
        "postgresql://me@db/runs?password=hunter2hunter2",
        "postgresql://me@db/runs?sslmode=require&sslpassword=hunter2hunter2",
        "mysql://me:hunter2hunter2@db/runs",
        "postgresql://[me:hunter2hunter2@db/runs",
        "env:not a name:hunter2hunter2@",
    ],
)
def test_a_password_is_refused_and_not_repeated(setting):
    with pytest.raises(ConfigError, match="checkpoints") as caught:
        RunConfig(checkpoints=setting)
    if "env:" not in setting:
        assert "hunter2" not in str(caught.value)


@given(
    user=st.text("abcdefgh", min_size=1, max_size=8),
    password=st.text("0123456789!$:+ä", min_size=6, max_size=20),
)
def test_no_password_is_left_of_an_address(user, password):
    assert password not in without_passwords(f"cannot reach postgresql://{user}:{password}@h/d")
    assert password not in without_passwords(f"postgresql://{user}@h/d?password={password}&a=b")


def test_the_address_comes_from_a_variable_and_is_written_nowhere(server, tmp_path, monkeypatch):
    secret = server.address.replace("reflectory@", "reflectory:hunter2hunter2@")
    monkeypatch.setenv("WHERE_CHECKPOINTS_GO", secret)
    run_in(tmp_path / "run", tmp_path / "log", "env:WHERE_CHECKPOINTS_GO")
    assert kept(server) == 0 and threads(server) == set()
    written = [p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert not any(b"hunter2" in content for content in written)
    assert (tmp_path / "run" / NAME_FILE).exists()


@pytest.mark.parametrize("value", [None, "", "redis://host"])
def test_a_variable_without_an_address_is_the_users_mistake(tmp_path, monkeypatch, value):
    monkeypatch.delenv("NO_SUCH_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_SUCH_ADDRESS", value)
    with pytest.raises(UserError, match="NO_SUCH_ADDRESS"):
        run_in(tmp_path / "run", tmp_path / "log", "env:NO_SUCH_ADDRESS", ["What?"])


def test_a_server_that_is_not_there_is_said_at_once_without_the_password(tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("DATABASE", "postgresql://me:hunter2hunter2@127.0.0.1:9/runs")
    with pytest.raises(StorageError, match="cannot keep checkpoints") as caught:
        run_in(tmp_path / "run", tmp_path / "log", "env:DATABASE", ["What?"])
    assert "hunter2" not in str(caught.value)
