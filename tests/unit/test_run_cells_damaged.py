"""Databases of a run in which cells, columns or tables are not what this package wrote."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
from worlds import world_loop

from reflectory.background import BACKGROUND
from reflectory.cli.main import run_command
from reflectory.driver import drive
from reflectory.errors import IntegrityError, RunStopped
from reflectory.runner import Runner
from reflectory.runs import read_instructions
from reflectory.runs.call_cache import CallCache
from reflectory.runs.checkpoints import make_serializer
from reflectory.runs.places import CallPlaces
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=1)
ASKED = ["What is known?"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    (found,) = world_loop(WORLD, max_iterations=1).map(ASKED, output=run)
    return run, found.id


@pytest.fixture
def damaged(whole, tmp_path):
    """Return a function that makes a copy in which a statement was executed."""

    def make(name, statement):
        shutil.copytree(whole[0], tmp_path / "run")
        with closing(sqlite3.connect(tmp_path / "run" / name)) as connection:
            connection.execute(statement)
            connection.commit()
        return tmp_path / "run"

    return make


CELLS = (
    "UPDATE calls SET response = '{\"text\": 7}'",
    "UPDATE calls SET response = '[]'",
    "UPDATE calls SET response = CAST(x'ff00' AS TEXT)",
    "UPDATE calls SET request = '{}'",
    'UPDATE calls SET request = \'{"segments": [{"text": [1]}]}\'',
    'UPDATE calls SET request = \'{"segments": [{"text": 99999999999999999999}]}\'',
    "UPDATE calls SET kind = 'score'",
    "UPDATE calls SET created = 1e300",
    "UPDATE segments SET text = CAST(x'ff00' AS TEXT)",
    "DROP TABLE segments",
)


@pytest.mark.parametrize("statement", CELLS)
def test_calls_that_nobody_recorded_are_damage(whole, damaged, capsys, statement):
    run = damaged("calls.sqlite", statement)
    for flags in ([], ["--json"]):
        assert run_command(["trace", str(run), whole[1], *flags]) == 1
        assert run_command(["cache", str(run), "--trajectory", whole[1], *flags]) == 1
        assert capsys.readouterr().err.count("IntegrityError") == 2
    with closing(CallCache(run / "calls.sqlite")) as cache, pytest.raises(IntegrityError) as caught:
        list(cache.iterate())
    assert "calls.sqlite" in caught.value.message and "move the file aside" in caught.value.hint


def test_sums_are_shown_over_whatever_stands_in_the_columns(damaged, capsys):
    statement = "UPDATE calls SET role = x'61', model = x'62', created = 'soon', seconds = 'long'"
    run = damaged("calls.sqlite", statement)
    assert run_command(["cache", str(run), "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert (group["role"], group["model"], group["oldest"]) == ("a", "b", 0.0)
    assert run_command(["cache", str(run)]) == 0


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE places SET key = 'a text'", 0),  # no call has it, so it is lost
        ("UPDATE places SET iteration = x'ff'", 0),
        ("UPDATE places SET role = CAST(x'ff' AS TEXT)", 1),
        ("DROP TABLE places", 1),
    ],
)
def test_places_that_nobody_noted_are_lost_or_damage(whole, damaged, capsys, statement, code):
    run = damaged("places.sqlite", statement)
    assert run_command(["trace", str(run), whole[1], "--json"]) == code
    assert ("IntegrityError" in capsys.readouterr().err) is bool(code)
    with closing(CallPlaces(run / "places.sqlite")) as places:
        if not code:
            assert all(isinstance(place.key, str) for place in places.of(whole[1]))


def test_another_table_of_pruned_calls_is_damage(damaged, capsys):
    run = damaged("calls.sqlite", "ALTER TABLE pruned ADD COLUMN further TEXT")
    assert run_command(["cache", str(run), "--older-than", "0s", "--prune"]) == 1
    assert "has 8 columns" in capsys.readouterr().err.replace("\n", " ")


def test_a_score_that_is_infinite_is_traced(whole, damaged, capsys):
    response = '{"continuations": [{"logprobs": ["-Infinity", -1.0]}], "usage": {}}'
    change = f"kind = 'score', response = '{response}'"
    request = "request = json_set(request, '$.continuations', json_array('yes'))"
    run = damaged("calls.sqlite", f"UPDATE calls SET {change}, {request}")
    assert run_command(["trace", str(run), whole[1], "--json"]) == 0
    assert "-inf 'yes'" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01"])
def test_a_checkpoint_that_cannot_be_decoded_is_damage(data):
    with pytest.raises(IntegrityError, match="a checkpoint cannot be read") as caught:
        make_serializer().loads_typed(("msgpack", data))
    assert "delete the file" in caught.value.hint


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return a run that was stopped while its loop was reflecting, so that checkpoints are left."""
    student = WORLD.student()

    async def until_it_reflects(request):
        if request.role == "student.reflect":
            raise RunStopped("the budget is spent")
        return (await student.complete(request)).text

    run = tmp_path_factory.mktemp("stopped") / "run"
    model = ScriptedModel(until_it_reflects, name=student.fingerprint)
    with pytest.raises(RunStopped):
        list(world_loop(WORLD, max_iterations=1, student=model).map(ASKED, output=run))
    return run


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE checkpoints SET metadata = x'ff'",
        "UPDATE checkpoints SET metadata = '[' || metadata",
        "UPDATE checkpoints SET checkpoint = x'c1'",
        "UPDATE checkpoints SET type = 'pickle'",
    ],
)
def test_a_loop_whose_checkpoint_is_damaged_has_failed_and_runs_again_on_request(
    stopped, tmp_path, statement
):
    shutil.copytree(stopped, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "checkpoints.sqlite")) as connection:
        assert connection.execute(statement).rowcount > 0
        connection.commit()
    loop = world_loop(WORLD, max_iterations=1)
    (found,) = loop.map(ASKED, output=tmp_path / "run")
    assert found.status == "failed" and found.error.kind == "IntegrityError"
    again = Runner(loop).stream(
        read_instructions(ASKED), concurrency=1, output=tmp_path / "run", retry_failed=True
    )
    assert [t.status for t in BACKGROUND.iterate(again)] == ["done"]


def test_a_checkpoint_after_which_nothing_is_left_to_do_before_the_end_is_damage():
    class EndsEarly:
        checkpointer = object()

        async def aget_state(self, config):
            return SimpleNamespace(values={"instruction": "I"}, interrupts=())

        async def astream(self, entry, config, **options):
            yield {"instruction": "I"}

    live = SimpleNamespace(config=WORLD.config())
    with pytest.raises(IntegrityError, match="the checkpoint of the loop x is damaged"):
        asyncio.run(drive(EndsEarly(), live, "I", "x"))


def test_a_checkpoint_without_its_parts_is_damage():
    class Unreadable:
        checkpointer = object()

        async def aget_state(self, config):
            raise KeyError("channel_values")

    live = SimpleNamespace(config=WORLD.config())
    with pytest.raises(IntegrityError, match="cannot be read: KeyError") as caught:
        asyncio.run(drive(Unreadable(), live, "I", "x"))
    assert caught.value.hint
