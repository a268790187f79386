"""Checkpoints in a run directory: resumed, pruned, and closed to foreign types."""

import asyncio
import json
import sqlite3

import pytest
from two_steps import build, rows

from reflectory.alignment import CellStatus
from reflectory.errors import IntegrityError, RunDirectoryError, StorageError
from reflectory.runs import open_checkpointer, prune
from reflectory.runs.checkpoints import allowed_types, make_serializer
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
    stop = StopReason(rule="epsilon", converged=True, iterations=2)
    trajectory = Trajectory(id="1", instruction="i", levels=("basic",), stop=stop)
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


async def leave_broken(path, config):
    async with open_checkpointer(path) as saver:
        with pytest.raises(RuntimeError):
            await build(saver, crash=True)[0].ainvoke({"cells": []}, config)


@pytest.mark.parametrize("table", ["checkpoints", "writes"])
def test_a_database_with_a_malicious_row_is_refused(tmp_path, table):
    path = tmp_path / "checkpoints.sqlite"
    target = tmp_path / "touched"
    config = {"configurable": {"thread_id": "t1"}}

    async def resumed():
        async with open_checkpointer(path) as saver:
            await build(saver, crash=False)[0].ainvoke(None, config)

    asyncio.run(leave_broken(path, config))
    payload = attacks(target)["a function with one argument"]
    column = "checkpoint" if table == "checkpoints" else "value"
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {table} SET type = 'msgpack', {column} = ?", (payload,))
    connection.close()
    with pytest.raises(IntegrityError, match=r"os\.system"):
        asyncio.run(resumed())
    assert not target.exists()


@pytest.mark.parametrize(("sound", "damaged"), [(b".0", b"p0"), (b"\xd9\x31", b"\xc4\x31")])
def test_versions_that_nobody_can_count_on_from_are_refused_before_the_next_step(
    tmp_path, monkeypatch, sound, damaged
):
    path = tmp_path / "checkpoints.sqlite"
    config = {"configurable": {"thread_id": "t1"}}
    monkeypatch.setattr("random.random", lambda: 0.5)  # each version ends in the same digits

    async def resumed():
        async with open_checkpointer(path) as saver:
            graph, ran = build(saver, crash=False)
            with pytest.raises(IntegrityError, match=r"cannot be read.*\n.*delete the file"):
                await graph.ainvoke(None, config)
            assert ran == []

    asyncio.run(leave_broken(path, config))
    with sqlite3.connect(path) as connection:
        for row, checkpoint in connection.execute("SELECT rowid, checkpoint FROM checkpoints"):
            assert sound in checkpoint
            connection.execute(
                "UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?",
                (checkpoint.replace(sound, damaged), row),
            )
    connection.close()
    asyncio.run(resumed())


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
