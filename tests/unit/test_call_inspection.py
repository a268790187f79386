"""Looking into a call cache and pruning it."""

import sqlite3

import pytest
from worlds import world_loop

from reflectory.errors import UserError
from reflectory.models.protocol import Completion, Request, Segment, Usage
from reflectory.observability.calls import ObservedModel
from reflectory.observability.place import in_run, observing
from reflectory.observability.trace import recorder
from reflectory.runs import CallCache
from reflectory.runs.cached_model import CachedModel
from reflectory.runs.call_inspection import (
    CallFilter,
    calls_of,
    find_call,
    look_into,
    prune_calls,
    totals_of,
)
from reflectory.runs.places import FILE_NAME, CallPlace, CallPlaces
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = ["What is known?", "What is unknown?", "What follows from it?"]


def put(cache, key, *, role="student.answer", model="m", text="hello"):
    segments = (Segment(text="documents " * 200, shared=True), Segment(text=text))
    answer = Completion(text="said " * 50, usage=Usage(prompt_tokens=5, completion_tokens=3))
    cache.put(
        key,
        kind="complete",
        role=role,
        model=model,
        request=Request(segments=segments, role=role).content(),
        response=answer.model_dump(mode="json"),
        seconds=0.5,
    )


@pytest.fixture
def cache(tmp_path):
    cache = CallCache(tmp_path / "calls.sqlite")
    places = CallPlaces(tmp_path / FILE_NAME)
    for number in range(30):
        role, key = "teacher.ask" if number % 3 else "student.answer", f"{number:02d}ad"
        put(cache, key, role=role, text=f"text {number}")
        places.add(f"loop {number % 2}", CallPlace(key, role, "answer", 0))
    places.close()
    put(cache, "other", role="teacher.grade", model="another", text="text 0")
    yield cache
    cache.close()


def test_calls_are_counted_by_role_and_model_with_their_sizes(cache):
    view = look_into(cache)
    assert [(g.role, g.model, g.totals.calls) for g in view.groups] == [
        ("student.answer", "m", 10),
        ("teacher.ask", "m", 20),
        ("teacher.grade", "another", 1),
    ]
    assert view.groups[0].totals.prompt_tokens == 50
    assert view.groups[0].bytes > 10 * len("said " * 50)
    assert view.segments == 31 and view.segment_bytes > len("documents " * 200)
    only = look_into(cache, CallFilter(role="teacher."))
    assert [g.role for g in only.groups] == ["teacher.ask", "teacher.grade"]


def test_a_call_is_found_by_the_beginning_of_its_key(cache):
    call = find_call(cache, "07")
    assert call.key == "07ad" and call.request["segments"][1]["text"] == "text 7"
    assert call.response["text"] == "said " * 50
    for wrong, says in (("0", "several"), ("zz", "no call"), ("", "no key"), ("a'b", "no key")):
        with pytest.raises(UserError, match=says):
            find_call(cache, wrong)


def test_the_calls_of_a_loop_are_found_and_counted(cache):
    assert [call.key for call in calls_of(cache, "loop 1")] == [
        f"{n:02d}ad" for n in range(1, 30, 2)
    ]
    assert totals_of(cache, "loop 1").calls == 15
    assert totals_of(cache, "loop 1").completion_tokens == 45
    assert list(calls_of(cache, "nobody")) == [] and totals_of(cache, "nobody").calls == 0
    places = CallPlaces(cache.path.with_name(FILE_NAME))
    for key, step in (("00ad", "answer"), ("00ad", "reflect"), ("ffff", "answer")):
        places.add("loop 1", CallPlace(key, "student.answer", step, 1))
    places.close()
    assert totals_of(cache, "loop 1").calls == 16


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (CallFilter(), 0),
        (CallFilter(role="teacher.ask"), 11),
        (CallFilter(role="teacher."), 10),
        (CallFilter(role="teacher"), 31),
        (CallFilter(model="another"), 30),
        (CallFilter(role="teacher.ask", model="another"), 31),
        (CallFilter(older_than_s=0), 0),
        (CallFilter(older_than_s=3600), 31),
    ],
)
def test_pruning_takes_what_was_named_and_leaves_the_rest_readable(cache, which, left):
    before = cache.stats()
    rest = {g.role: g.totals.calls for g in look_into(cache).groups}
    gone = prune_calls(cache, which)
    kept = list(cache.iterate())  # every segment of what is left is there
    assert gone.calls == 31 - left and len(kept) == left
    assert sum(rest.values()) == 31
    used = {part["text"] for call in kept for part in call.request["segments"]}
    view = look_into(cache)
    assert view.segments == len(used) and gone.segments == 31 - len(used)
    assert gone.bytes >= 0 and (left == 31) == (gone.bytes == 0)
    # What was spent stays spent.
    assert view.pruned.calls == gone.calls
    after = cache.stats()
    assert after.total == before.total and after.roles == before.roles
    assert sum(part.calls for part in cache.by_model().values()) == 31
    for loop in ("loop 0", "loop 1"):
        assert totals_of(cache, loop).calls == sum(1 for _ in calls_of(cache, loop))


def test_pruning_twice_adds_the_sums(cache):
    prune_calls(cache, CallFilter(role="teacher.ask"))
    put(cache, "new", role="teacher.ask")
    prune_calls(cache, CallFilter(role="teacher.ask"))
    assert look_into(cache).pruned.calls == 21 and cache.stats().total.calls == 32


def test_a_file_of_an_earlier_version_gets_the_new_tables(tmp_path, cache):
    cache.close()
    with sqlite3.connect(cache.path) as connection:
        connection.execute("DROP TABLE pruned")
    connection.close()
    cache.path.with_name(FILE_NAME).unlink()
    again = CallCache(cache.path)
    assert look_into(again).pruned.calls == 0 and list(calls_of(again, "loop 1")) == []
    assert again.stats().total.calls == 31
    again.close()


def test_every_call_of_a_run_is_found_by_its_trajectory(tmp_path):
    teacher, student = WORLD.teacher(), WORLD.student()
    loop = world_loop(WORLD, max_iterations=2, teacher=teacher, student=student)
    found = list(loop.map(ASKED, concurrency=2, output=tmp_path / "run"))
    cache = CallCache(tmp_path / "run" / "calls.sqlite")
    all_keys = {call.key for call in cache.iterate()}
    by_loop = {t.id: [call.key for call in calls_of(cache, t.id)] for t in found}
    assert set().union(*by_loop.values()) == all_keys and all(by_loop.values())
    assert len(all_keys) == len(teacher.requests) + len(student.requests)
    for trajectory in found:
        said = {call.response["text"] for call in calls_of(cache, trajectory.id)}
        assert {r.answer.text for r in trajectory.responses} <= said
    cache.close()


def test_a_call_that_two_loops_share_belongs_to_both(tmp_path):
    import asyncio

    from reflectory.testing.models import ScriptedModel

    cache = CallCache(tmp_path / "calls.sqlite")
    inner = ScriptedModel(lambda request: "said", delay_s=0.01)
    model = ObservedModel(CachedModel(inner, cache))
    places = CallPlaces(tmp_path / FILE_NAME)
    request = Request(segments=(Segment(text="hello"),), role="student.answer")

    async def ask(loop):
        with in_run("run", recorder(places)), observing("loop", loop=loop):
            await model.complete(request)

    async def main():
        await asyncio.gather(ask("one"), ask("two"))  # one flight
        await ask("three")  # from the cache

    asyncio.run(main())
    assert len(inner.requests) == 1
    assert [totals_of(cache, name).calls for name in ("one", "two", "three")] == [1, 1, 1]
    places.close()
    cache.close()


def test_a_pruned_run_is_finished_all_the_same_and_an_unfinished_loop_asks_again(tmp_path):
    student = WORLD.student()
    loop = world_loop(WORLD, max_iterations=1, student=student)
    first = {t.id: t for t in loop.map(ASKED[:2], output=tmp_path / "run")}
    cache = CallCache(tmp_path / "run" / "calls.sqlite")
    prune_calls(cache, CallFilter())
    cache.close()
    asked = len(student.requests)
    again = {t.id: t for t in loop.map(ASKED, output=tmp_path / "run")}
    assert {key: again[key] for key in first} == first
    assert len(student.requests) > asked  # for the third instruction only
