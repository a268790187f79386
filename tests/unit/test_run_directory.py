"""The run directory, its manifest and lock, and the checkpoints in it."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from operator import add
from pathlib import Path
from typing import Annotated, TypedDict

import pytest
import yaml

from reflectory.alignment import CellStatus
from reflectory.config import LoopConfig, RunConfig
from reflectory.errors import IntegrityError, RunDirectoryError, StorageError
from reflectory.runs import ModelRecord, RunDirectory, RunView, open_checkpointer, prune
from reflectory.runs.checkpoints import allowed_types, make_serializer
from reflectory.runs.manifest import working_copy_commit
from reflectory.types import (
    Examination,
    Failure,
    Flag,
    Passage,
    Question,
    Record,
    StopReason,
    Trajectory,
)

IDENTITY = {"documents": "abc", "models": {"teacher": "t@1", "student": "s@1"}}


def start(path, config=None, identity=None, **options):
    return RunDirectory.open(
        path, config or RunConfig(), identity=IDENTITY if identity is None else identity, **options
    )


def loop(number, error=False):
    return Trajectory(
        id=str(number),
        instruction="i",
        levels=("basic",),
        stop=None if error else StopReason(rule="epsilon", converged=True, iterations=2),
        error=Failure(step="ask", kind="BackendError", message="away") if error else None,
    )


def test_a_new_run_directory_and_what_is_in_it(tmp_path):
    path = tmp_path / "runs" / "first"
    with start(path, RunConfig(documents="notes", loop=LoopConfig(seed=7)), device="cpu") as run:
        assert run.path == path
        assert run.round_path(0) == path / "rounds" / "000" and run.round_path(0).is_dir()
        assert run.checkpoints_path == path / "checkpoints.sqlite"
        assert run.record(loop(1)) and not run.record(loop(1))
        assert run.record(loop(2, error=True))
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        run.calls.put(
            "k",
            kind="complete",
            role="teacher.ask",
            model="m",
            request={"segments": []},
            response={"usage": usage},
            seconds=0.5,
        )
        run.update_manifest(hits=3, finished=True)
    names = {p.name for p in path.iterdir()}
    assert names == {
        ".lock",
        "calls.sqlite",
        "config.yaml",
        "manifest.json",
        "rounds",
        "trajectories.jsonl",
    }
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["identity"] == IDENTITY
    assert manifest["seeds"] == {"loop.seed": 7, "training.seed": 0}
    assert manifest["finished"] == manifest["updated"] >= manifest["started"]
    totals = manifest["totals"]
    assert (totals["calls"], totals["hits"], totals["done"], totals["failed"]) == (1, 3, 1, 1)
    assert totals["stops"] == {"epsilon": 1}
    assert totals["tokens"]["teacher.ask"]["prompt_tokens"] == 5
    (session,) = manifest["sessions"]
    assert session["device"] == "cpu" and session["python"].startswith(f"{sys.version_info[0]}.")
    assert session["libraries"]["pydantic"].count(".") >= 1


def test_config_yaml_can_be_loaded_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = RunConfig(documents="notes", instructions="in.txt", loop=LoopConfig(max_iterations=2))
    start("run", config).close()
    loaded = RunConfig.load(tmp_path / "run" / "config.yaml")
    assert loaded.loop == config.loop
    assert loaded.documents == (str(tmp_path / "notes"),)
    assert loaded.instructions == str(tmp_path / "in.txt")
    start("run", loaded).close()


def test_a_view_reads_while_another_process_works(tmp_path):
    models = {"student": ModelRecord(name="local", source="package", sha256="1", fingerprint="s")}
    with start(tmp_path / "run", models=models) as run:
        run.record(loop(1))
        before = {p: p.stat().st_mtime_ns for p in run.path.iterdir()}
        view = RunView.read(run.path)
        assert [t.id for t in view.trajectories] == ["1"]
        assert view.config.loop == LoopConfig()
        assert view.manifest.models == models
        assert {p: p.stat().st_mtime_ns for p in run.path.iterdir()} == before
    with pytest.raises(RunDirectoryError, match=r"no manifest\.json"):
        RunView.read(tmp_path)


def test_resuming_keeps_what_is_there(tmp_path):
    with start(tmp_path / "run") as run:
        run.record(loop(1))
        run.update_manifest(hits=2)
    with start(tmp_path / "run", device="cuda") as run:
        assert run.trajectories.ids() == {"1"}
        assert run.manifest.totals.hits == 2
        manifest = run.update_manifest(hits=5)
    assert manifest.totals.hits == 7
    assert [s.device for s in manifest.sessions] == ["", "cuda"]
    assert manifest.finished is None


def test_what_does_not_change_results_may_differ(tmp_path):
    start(tmp_path / "run", RunConfig(documents="a", concurrency=1)).close()
    other = RunConfig(documents="b", concurrency=9, device="cpu", instructions=("x",))
    start(tmp_path / "run", other).close()
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["concurrency"] == 9


def test_another_configuration_is_refused_with_every_field(tmp_path):
    start(tmp_path / "run").close()
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    config = RunConfig(
        student="local:other",
        dtype="float32",
        loop=LoopConfig(epsilon=0.2, levels=LoopConfig().levels[:3], seed=1),
    )
    identity = {"documents": "changed", "models": {"teacher": "t@1", "student": "s@2"}}
    with pytest.raises(RunDirectoryError) as caught:
        start(tmp_path / "run", config, identity)
    text = str(caught.value)
    for line in (
        'student: "local" there, "local:other" now',
        'dtype: "auto" there, "float32" now',
        "loop.epsilon: 0.05 there, 0.2 now",
        "loop.seed: 0 there, 1 now",
        'loop.levels.3.name: "expert" there, nothing now',
        'identity.documents: "abc" there, "changed" now',
        'identity.models.student: "s@1" there, "s@2" now',
    ):
        assert line in text
    assert "teacher" not in text and "max_iterations" not in text
    assert "another folder" in caught.value.hint
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    start(tmp_path / "run").close()  # the lock is free again


def test_every_field_is_compared_unless_it_is_named_as_neutral(tmp_path):
    from reflectory.runs.belonging import NEUTRAL_FIELDS, refuse_other
    from reflectory.runs.manifest import build_manifest

    assert set(RunConfig.model_fields) >= NEUTRAL_FIELDS
    recorded = build_manifest(RunConfig(), {})
    for name in set(RunConfig.model_fields) - NEUTRAL_FIELDS:
        data = RunConfig().model_dump(mode="json")
        part = data[name]
        if isinstance(part, dict):
            key = next(k for k, v in part.items() if type(v) in {int, float} and v > 0)
            part[key] = part[key] + 1 if isinstance(part[key], int) else part[key] / 2
        else:
            data[name] = "float32" if name == "dtype" else f"{part}:other"
        with pytest.raises(RunDirectoryError, match=name):
            refuse_other(tmp_path, recorded, RunConfig.from_dict(data), {})


def test_a_field_that_is_newer_than_the_run_has_its_default(tmp_path):
    start(tmp_path / "run").close()
    file = tmp_path / "run" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["config"]["loop"]["patience"]
    file.write_text(json.dumps(manifest))
    start(tmp_path / "run").close()
    manifest["config"]["loop"]["gone_since"] = 5
    file.write_text(json.dumps(manifest))
    with pytest.raises(RunDirectoryError, match="gone_since: 5 there, nothing now"):
        start(tmp_path / "run")


def test_a_newer_schema_is_refused(tmp_path):
    start(tmp_path / "run").close()
    file = tmp_path / "run" / "manifest.json"
    file.write_text(json.dumps({"schema_version": 99, "what": "ever"}))
    with pytest.raises(RunDirectoryError, match="schema version 99"):
        start(tmp_path / "run")


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 1}'])
def test_a_damaged_manifest_is_named(tmp_path, content):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "manifest.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        start(tmp_path / "run")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"not empty.*thesis\.tex"):
        start(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunDirectoryError, match="is a file"):
        start(tmp_path / "thesis.tex")
    with pytest.raises(StorageError, match="below"):
        start(tmp_path / "thesis.tex" / "below")


def test_trajectories_without_a_manifest_are_not_taken_over(tmp_path):
    with start(tmp_path / "run") as run:
        run.record(loop(1))
    (tmp_path / "run" / "manifest.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"trajectories\.jsonl"):
        start(tmp_path / "run")


def test_what_a_kill_left_while_it_was_made_is_finished(tmp_path):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "manifest.json").unlink()
    (tmp_path / "run" / ".manifest.json.123-456.tmp").write_text('{"half')
    (tmp_path / "run" / ".DS_Store").write_text("")
    with start(tmp_path / "run") as run:
        assert (run.path / "manifest.json").exists()
        assert not list(run.path.glob(".*.tmp"))


def test_secrets_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret-1234")
    config = RunConfig(loop=LoopConfig(prompts={"ask": "use sk-very-secret-1234 please"}))
    with pytest.raises(RunDirectoryError, match=r"loop\.prompts\.ask .*SOME_API_KEY") as caught:
        start(tmp_path / "run", config)
    assert "sk-very" not in str(caught.value)
    with pytest.raises(RunDirectoryError, match="password"):
        start(tmp_path / "run", RunConfig(teacher="openai:http://me:pass@host/model"))
    with pytest.raises(RunDirectoryError, match=r"identity\.models\.teacher"):
        start(tmp_path / "run", identity={"models": {"teacher": "x sk-very-secret-1234"}})
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_the_working_copy_is_known_with_its_changes(tmp_path):
    def git(*words):
        name = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        command = ["git", "-C", str(tmp_path), *name, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    assert working_copy_commit(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    git("tag", "-a", "v1", "-m", "tagged")
    assert working_copy_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("two")
    assert working_copy_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"
    assert working_copy_commit(tmp_path / "missing") is None


# --- the lock ------------------------------------------------------------------------------

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
        start(path, identity={})
    assert holder.stdout.readline() == "1\n"
    holder.send_signal(signal.SIGKILL)
    acknowledged = [int(n) for n in holder.stdout.read().split()]
    holder.wait()
    with start(path, identity={}) as run:
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


# --- checkpoints ---------------------------------------------------------------------------


class Stranger:
    """A class that no checkpoint may construct."""

    made = 0

    def __init__(self, *args, **kwargs):
        type(self).made += 1


class OwnRecord(Record):
    """A record made outside of the package."""

    value: int = 0


def test_only_records_of_the_package_are_allowed():
    allowed = allowed_types()
    assert ("reflectory.types.loop", "Examination") in allowed
    assert ("reflectory.types.trajectory", "Trajectory") in allowed
    assert (CellStatus.__module__, "CellStatus") in allowed
    assert ("reflectory.types.loop", "Flag") in allowed
    assert all(module.startswith("reflectory.") for module, _ in allowed)
    assert (__name__, "OwnRecord") not in allowed


def test_records_come_back_as_they_were():
    cell = Examination(
        level="basic",
        iteration=0,
        status=CellStatus.FAILED,
        question=Question(text="Why?"),
        failure=Failure(step="ask", kind="E", message="m"),
    )
    passage = Passage(id="p", document_id="d", text="t", start=0, end=1)
    value = {"cells": {("basic", 0): cell}, "passages": [passage], "flag": Flag.NO_CONTEXT}
    serializer = make_serializer()
    assert serializer.loads_typed(serializer.dumps_typed(value)) == value
    trajectory = loop(1)
    assert serializer.loads_typed(serializer.dumps_typed(trajectory)) == trajectory


def extension(code, *payload):
    import ormsgpack

    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(payload)))


def attacks(target):
    here = __name__
    return {
        "a function with one argument": extension(0, "os", "system", f"touch {target}"),
        "a function with many": extension(1, "os", "open", [str(target), 0o101]),
        "a function with names": extension(2, "pathlib", "os.system", {"command": "true"}),
        "a method": extension(3, "pathlib", "Path", str(target), "touch"),
        "a foreign class": extension(0, here, "Stranger", 1),
        "a foreign pydantic class": extension(5, here, "Stranger", {"x": 1}, "m"),
        "an old pydantic class": extension(4, here, "Stranger", {"x": 1}),
        "a foreign record": extension(5, here, "OwnRecord", {"value": 1}, "m"),
        "within a record": extension(
            5, "reflectory.types.answers", "Question", {"text": nested(here)}, "m"
        ),
    }


def nested(module):
    import ormsgpack

    return ormsgpack.Ext(0, ormsgpack.packb((module, "Stranger", 1)))


def test_the_attack_is_real_without_the_list(tmp_path):
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    open_door = JsonPlusSerializer(allowed_msgpack_modules=True)
    target = tmp_path / "touched"
    payloads = attacks(target)
    open_door.loads_typed(("msgpack", payloads["a function with one argument"]))
    assert target.exists()
    Stranger.made = 0
    open_door.loads_typed(("msgpack", payloads["a foreign class"]))
    assert Stranger.made == 1


@pytest.mark.parametrize("name", list(attacks("x")))
def test_nothing_foreign_is_imported_called_or_constructed(tmp_path, name):
    target = tmp_path / "touched"
    payload = attacks(target)[name]
    Stranger.made = 0
    with pytest.raises(IntegrityError, match=r"no record of this package.*\n.*delete the file"):
        make_serializer().loads_typed(("msgpack", payload))
    assert not target.exists() and Stranger.made == 0


@pytest.mark.parametrize("encoding", ["json", "pickle"])
def test_encodings_that_are_never_written_are_never_read(encoding):
    Stranger.made = 0
    data = json.dumps({"lc": 2, "type": "constructor", "id": [__name__, "Stranger"], "args": [1]})
    with pytest.raises(IntegrityError, match=encoding):
        make_serializer().loads_typed((encoding, data.encode()))
    assert Stranger.made == 0


class State(TypedDict):
    cells: Annotated[list, add]


def build(saver, crash):
    from langgraph.graph import END, START, StateGraph

    ran = []

    def first(state):
        ran.append("first")
        return {"cells": [Examination(level="basic", iteration=0)]}

    def second(state):
        ran.append("second")
        if crash:
            raise RuntimeError("power cut")
        assert isinstance(state["cells"][0], Examination)
        return {"cells": [Examination(level="basic", iteration=1)]}

    builder = StateGraph(State)
    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    return builder.compile(checkpointer=saver), ran


def rows(path):
    with sqlite3.connect(path) as connection:
        count = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("checkpoints", "writes")
        ]
    connection.close()
    return count


def test_a_graph_goes_on_from_its_checkpoint_and_is_pruned(tmp_path):
    path = tmp_path / "checkpoints.sqlite"
    config = {"configurable": {"thread_id": "t1"}}

    async def broken():
        async with open_checkpointer(path) as saver:
            graph, ran = build(saver, crash=True)
            with pytest.raises(RuntimeError):
                await graph.ainvoke({"cells": []}, config)
            assert ran == ["first", "second"]

    async def resumed():
        async with open_checkpointer(path) as saver:
            graph, ran = build(saver, crash=False)
            state = await graph.ainvoke(None, config)
            assert ran == ["second"]
            assert [c.iteration for c in state["cells"]] == [0, 1]
            await graph.ainvoke({"cells": []}, {"configurable": {"thread_id": "t2"}})
            before = rows(path)
            await prune(saver, "t1")
            assert 0 < rows(path)[0] < before[0]
            await prune(saver, "t2")
            await prune(saver, "t2")
            assert rows(path) == [0, 0]

    asyncio.run(broken())
    asyncio.run(resumed())
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize("table", ["checkpoints", "writes"])
def test_a_database_with_a_malicious_row_is_refused(tmp_path, table):
    path = tmp_path / "checkpoints.sqlite"
    target = tmp_path / "touched"
    config = {"configurable": {"thread_id": "t1"}}

    async def broken():
        async with open_checkpointer(path) as saver:
            with pytest.raises(RuntimeError):
                await build(saver, crash=True)[0].ainvoke({"cells": []}, config)

    async def resumed():
        async with open_checkpointer(path) as saver:
            await build(saver, crash=False)[0].ainvoke(None, config)

    asyncio.run(broken())
    payload = attacks(target)["a function with one argument"]
    column = "checkpoint" if table == "checkpoints" else "value"
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {table} SET type = 'msgpack', {column} = ?", (payload,))
    connection.close()
    with pytest.raises(IntegrityError, match=r"os\.system"):
        asyncio.run(resumed())
    assert not target.exists()


def open_and_close(path):
    async def main():
        async with open_checkpointer(path):
            pass

    asyncio.run(main())


def test_checkpoints_of_another_schema_or_damaged_or_nowhere(tmp_path):
    path = tmp_path / "checkpoints.sqlite"
    open_and_close(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RunDirectoryError, match="schema version 99"):
        open_and_close(path)
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(IntegrityError, match=r"checkpoints\.sqlite is damaged"):
        open_and_close(path)
    with pytest.raises(StorageError, match="nowhere"):
        open_and_close(tmp_path / "nowhere" / "checkpoints.sqlite")


def test_importing_the_room_loads_no_langgraph():
    code = (
        "import sys, reflectory.runs; "
        "print([m for m in ('langgraph', 'torch', 'aiosqlite') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert result.stdout.strip() == "[]"
