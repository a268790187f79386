"""What a cluster's workers share, without Ray: recorded calls, a budget, a server's allowance."""

import asyncio
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import world_loop

from reflectory.cluster.budget import LedgerKeeper, SharedLedger
from reflectory.cluster.calls import CallDesk, CallKeeper, DeskModel
from reflectory.cluster.worker import share_of
from reflectory.config import BudgetConfig, RemoteConfig
from reflectory.errors import BackendError, BudgetSpent, StorageError
from reflectory.models.prices import PriceList
from reflectory.models.protocol import Completion, Request, Segment, Usage
from reflectory.observability.calls import ObservedModel
from reflectory.observability.place import in_run, observing
from reflectory.runs import CallCache, Instruction
from reflectory.runs.budget import Spent
from reflectory.runs.call_inspection import totals_of
from reflectory.runs.places import FILE_NAME, CallPlace, CallPlaces
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld


def asked(text):
    return Request(role="student.answer", segments=(Segment(text=text),))


class Way:
    """A way to a keeper in this process that takes a moment, as one over a network does."""

    def __init__(self, keeper, delay_s=0.001):
        self.keeper, self.delay_s, self.visits = keeper, delay_s, []

    async def __call__(self, visit):
        await asyncio.sleep(self.delay_s)
        answers = self.keeper.exchange(visit)
        self.visits.append(visit)
        await asyncio.sleep(self.delay_s)
        return answers


def echo(**options):
    return ScriptedModel(lambda request: request.segments[-1].text.upper(), **options)


@pytest.fixture
def keeper(tmp_path):
    return CallKeeper(str(tmp_path / "calls.sqlite"))


def test_calls_of_many_workers_are_made_once_and_visits_carry_many(keeper, tmp_path):
    models = [echo(delay_s=0.01) for _ in range(3)]

    async def main():
        ways = [Way(keeper) for _ in models]
        desks = [
            DeskModel(model, CallDesk(f"w{i}", way))
            for i, (model, way) in enumerate(zip(models, ways, strict=True))
        ]
        texts = [f"call {i % 20}" for i in range(60)]
        said = await asyncio.gather(*(d.complete(asked(t)) for d in desks for t in texts))
        return desks, ways, [s.text for s in said] == [t.upper() for t in texts] * 3

    desks, ways, right = asyncio.run(main())
    assert right
    assert sum(len(m.requests) for m in models) == 20  # whoever came first made it, for all
    assert sum(d.hits + d.misses for d in desks) == 180
    assert sum(d.misses for d in desks) == 20
    assert all(len(way.visits) < 60 for way in ways)
    cache = CallCache(tmp_path / "calls.sqlite")
    assert cache.stats().total.calls == 20


def test_a_call_that_fails_or_is_given_up_is_made_by_the_next(keeper):
    answers = iter([BackendError("down"), "cancelled", "fine"])

    class Fickle(ScriptedModel):
        async def complete(self, request):
            self.requests.append(request)
            await asyncio.sleep(0.02)
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            finish = "cancelled" if answer == "cancelled" else "stop"
            return Completion(text=answer, finish=finish, usage=Usage())

    model = Fickle({}, name="fickle")

    async def main():
        desks = [DeskModel(model, CallDesk(f"w{i}", Way(keeper))) for i in range(4)]
        return await asyncio.gather(
            *(d.complete(asked("once")) for d in desks), return_exceptions=True
        )

    said = asyncio.run(main())
    assert sum(isinstance(s, BackendError) for s in said) == 1
    assert sorted(s.finish for s in said if isinstance(s, Completion)) == [
        "cancelled",
        "stop",
        "stop",
    ]
    assert len(model.requests) == 3 and not keeper._taken


def test_a_call_of_a_worker_that_died_is_made_by_another(keeper):
    async def main():
        dead, living = CallDesk("dead", Way(keeper)), CallDesk("living", Way(keeper))
        assert await dead.get("k") is None
        waiting = asyncio.create_task(living.get("k"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        keeper.forget("dead")
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(main()) is None


def test_whoever_is_cancelled_as_it_looks_up_leaves_the_call_to_others(keeper):
    async def main():
        first = CallDesk("first", Way(keeper, delay_s=0.02))
        looking = asyncio.create_task(first.get("k"))
        await asyncio.sleep(0.01)  # the visit is under way
        looking.cancel()
        return await asyncio.wait_for(CallDesk("second", Way(keeper)).get("k"), 5)

    assert asyncio.run(main()) is None


def test_which_loops_a_call_served_is_noted(keeper, tmp_path):
    async def main():
        for name, loop in (("w0", "one"), ("w1", "two")):
            desk = CallDesk(name, Way(keeper))
            model = ObservedModel(DeskModel(echo(), desk))

            def note(place, role, key, desk=desk):
                desk.note_place(place.loop, CallPlace(key, role, place.step))

            with in_run("", note), observing("loop", loop=loop):
                await model.complete(asked("shared"))
            await desk.settle()

    asyncio.run(main())
    cache = CallCache(tmp_path / "calls.sqlite")
    assert cache.stats().total.calls == 1
    assert [totals_of(cache, loop).calls for loop in ("one", "two")] == [1, 1]


def test_a_full_disk_reaches_whoever_asked(keeper, monkeypatch):
    def full(*args, **kwargs):
        raise StorageError("the disk is full", hint="make room")

    monkeypatch.setattr(CallCache, "put", full)

    async def main():
        await DeskModel(echo(), CallDesk("w", Way(keeper))).complete(asked("it"))

    with pytest.raises(StorageError, match="disk is full") as caught:
        asyncio.run(main())
    assert caught.value.hint == "make room"


class Door:
    """A way to a ledger in this process."""

    def __init__(self, keeper):
        self.keeper, self.tasks = keeper, set()

    async def reserve(self, *what):
        await asyncio.sleep(0.001)
        return await self.keeper.reserve(*what)

    def settle(self, *what):
        self.tasks.add(asyncio.ensure_future(self.keeper.settle(*what)))


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32))
def test_workers_together_never_pass_a_budget(limit, workers, seed):
    model = echo(delay_s=0.001)
    dice = random.Random(seed)

    async def main():
        keeper = LedgerKeeper(BudgetConfig(calls=limit), Spent())
        prices = PriceList()
        models = [
            SharedLedger(f"w{i}", Door(keeper), BudgetConfig(calls=limit), prices).around(model)
            for i in range(workers)
        ]
        tasks = [
            asyncio.create_task(models[dice.randrange(workers)].complete(asked(str(i))))
            for i in range(40)
        ]
        await asyncio.sleep(dice.random() * 0.01)
        for task in dice.sample(tasks, 5):
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    said = asyncio.run(main())
    assert len(model.requests) <= limit
    assert any(isinstance(s, BudgetSpent) for s in said)


def test_what_a_dead_worker_held_counts_as_used():
    async def main():
        keeper = LedgerKeeper(BudgetConfig(tokens=100), Spent())
        assert await keeper.reserve("dead", 0, 70, None) is None
        await keeper.forget("dead")
        return await keeper.reserve("living", 0, 40, None)

    assert asyncio.run(main())["kind"] == "BudgetSpent"


def test_workers_share_what_a_server_allows():
    whole = RemoteConfig(max_concurrency=16, requests_per_minute=100)
    share = share_of(whole, 5)
    assert (share.max_concurrency, share.requests_per_minute, share.tokens_per_minute) == (
        3,
        20,
        None,
    )
    assert share_of(whole, 64).max_concurrency == 1


def test_a_worker_says_the_same_as_this_process(tmp_path):
    """The body of the actor runs a loop as the runner does."""
    pytest.importorskip("ray")
    from ray import cloudpickle

    from reflectory.cluster.worker import LoopWorker, Terms

    world = SyntheticWorld(levels=2)

    def make():
        return world_loop(world, max_iterations=2)

    keeper = CallKeeper(str(tmp_path / "calls.sqlite"))

    async def main(items):
        worker = LoopWorker(Terms(cloudpickle.dumps(make), 1, BudgetConfig()))
        facts = await worker.open()
        await worker.begin("w", Way(keeper))
        return facts, [await worker.run(item) for item in items]

    texts = ["What is known?", "What is unknown?"]
    alone = dict(sorted((t.id, t.to_json()) for t in make().map(texts)))
    facts, said = asyncio.run(main([Instruction(i, t) for i, t in zip(alone, texts, strict=True)]))
    assert [s["trajectory"] for s in said] == [alone[i] for i in alone]
    assert facts["identity"]["student"] == "world-student" and str(os.getpid()) in facts["place"]
    made = CallCache(tmp_path / "calls.sqlite").stats().total.calls
    places = CallPlaces(tmp_path / FILE_NAME)
    noted = [place for i in alone for place in places.of(i)]
    assert len(noted) >= made > 10 and {place.step for place in noted} >= {"respond", "ask"}
