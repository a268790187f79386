"""Checkpoints that wait in memory: only what is superseded is never written."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from two_steps import build, rows

from reflectory.errors import StorageError
from reflectory.runs import open_checkpointer, prune

LONG = 3600.0
T1 = {"configurable": {"thread_id": "t1"}}
T2 = {"configurable": {"thread_id": "t2"}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints.sqlite"


def test_what_waits_is_written_when_the_file_is_closed(path):
    async def broken():
        async with open_checkpointer(path, within_s=LONG) as saver:
            graph, _ = build(saver, crash=True)
            with pytest.raises(RuntimeError):
                await graph.ainvoke({"cells": []}, T1)
            assert rows(path) == [0, 0]

    async def resumed():
        async with open_checkpointer(path, within_s=LONG) as saver:
            graph, ran = build(saver, crash=False)
            state = await graph.ainvoke(None, T1)
            assert ran == ["second"]
            assert [c.iteration for c in state["cells"]] == [0, 1]

    asyncio.run(broken())
    assert rows(path)[0] == 1
    asyncio.run(resumed())


def test_a_graph_that_broke_goes_on_in_the_same_process(path):
    async def run():
        async with open_checkpointer(path, within_s=LONG) as saver:
            with pytest.raises(RuntimeError):
                await build(saver, crash=True)[0].ainvoke({"cells": []}, T1)
            graph, ran = build(saver, crash=False)
            await graph.ainvoke(None, T1)
            assert ran == ["second"]

    asyncio.run(run())


def test_what_is_superseded_or_pruned_in_time_is_never_written(path):
    async def run():
        async with open_checkpointer(path, within_s=LONG) as saver:
            graph, _ = build(saver, crash=False)
            await graph.ainvoke({"cells": []}, T1)
            await graph.ainvoke({"cells": []}, T2)
            await prune(saver, "t1")
            before = saver.conn.total_changes
            saver.flush()
            assert saver.conn.total_changes == before + 1  # the last checkpoint of the other one
            assert saver.threads() == ["t2"]
            await prune(saver, "t2")
            await prune(saver, "t2")
            assert rows(path) == [0, 0]

    asyncio.run(run())


def test_nothing_waits_longer_than_it_may(path):
    async def run():
        async with open_checkpointer(path, within_s=0.05) as saver:
            await build(saver, crash=False)[0].ainvoke({"cells": []}, T1)
            for _ in range(100):
                await asyncio.sleep(0.02)
                if rows(path)[0]:
                    return
            pytest.fail("it was never written")

    asyncio.run(run())


def test_a_file_that_cannot_be_written_ends_the_run_at_the_next_checkpoint(path):
    async def run():
        async with open_checkpointer(path, within_s=0.01) as saver:
            graph, _ = build(saver, crash=False)
            saver.conn.execute("PRAGMA query_only=1")
            await graph.ainvoke({"cells": []}, T1)
            await asyncio.sleep(0.2)
            await graph.ainvoke({"cells": []}, T2)

    with pytest.raises(StorageError, match=r"checkpoints\.sqlite"):
        asyncio.run(run())
    assert rows(path) == [0, 0]


def test_a_failed_flush_at_the_end_is_told(path):
    async def run():
        async with open_checkpointer(path, within_s=LONG) as saver:
            await build(saver, crash=False)[0].ainvoke({"cells": []}, T1)
            saver.conn.execute("PRAGMA query_only=1")

    with pytest.raises(StorageError, match=r"checkpoints\.sqlite"):
        asyncio.run(run())


def test_threads_are_written_in_one_transaction_and_read_whole(path):
    async def run():
        async with open_checkpointer(path, within_s=LONG) as saver:
            for thread in range(20):
                with pytest.raises(RuntimeError):
                    await build(saver, crash=True)[0].ainvoke(
                        {"cells": []}, {"configurable": {"thread_id": str(thread)}}
                    )
            saver.flush()
            assert not saver.conn.in_transaction
            assert sorted(saver.threads(), key=int) == [str(n) for n in range(20)]
            assert len([found async for found in saver.alist(None)]) == 20

    asyncio.run(run())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM writes").fetchone()[0] >= 20
