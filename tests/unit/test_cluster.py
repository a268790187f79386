"""What a cluster's run is made of, without Ray: the crew, its workers, errors as data."""

import asyncio
import random
from dataclasses import dataclass, field
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory import errors
from reflectory.cluster.crew import Crew, WorkerLost
from reflectory.cluster.said import describe_error, error_from
from reflectory.config.cluster import ClusterConfig
from reflectory.errors import BackendError, ReflectoryError, RunStopped, UserError
from reflectory.runs import Instruction

KINDS = sorted(
    (k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, ReflectoryError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_arrive_as_they_were(kind):
    special = {"ConfigError": (["bad"],), "OutputError": ("no json",)}
    keywords = {"raw": "x"} if kind.__name__ == "OutputError" else {}
    error = kind(*special.get(kind.__name__, ("it broke",)), **keywords)
    error.hint = "mend it"
    again = error_from(describe_error(error))
    assert again.message == error.message and again.hint == "mend it"
    plain = kind.__name__ in special
    assert isinstance(again, UserError if kind.__name__ == "ConfigError" else BackendError) or (
        type(again) is kind and not plain
    )
    assert again.exit_code == error.exit_code


class Died(Exception):
    """What a handle says when its process is gone."""


@dataclass(eq=False)
class Hand:
    """A worker as its handle shows it: it may die before, while, or after it works."""

    fate: random.Random
    rate: float
    world: dict
    dead: bool = False
    done: list = field(default_factory=list)

    class _Method:
        def __init__(self, function):
            self.remote = function

    def __getattr__(self, name):
        return Hand._Method(getattr(self, f"_{name}"))

    def _perhaps(self):
        self.dead = self.dead or self.fate.random() < self.rate
        if self.dead:
            raise Died("killed")

    async def _open(self):
        await asyncio.sleep(0)
        self._perhaps()
        identity = {"student": self.world.get("student", "s")}
        return {"identity": identity, "version": "1", "place": "here"}

    async def _begin(self, name, *doors):
        self._perhaps()

    async def _run(self, item):
        self._perhaps()
        for _ in range(self.fate.randrange(3)):
            await asyncio.sleep(0)
        self._perhaps()
        self.world.setdefault("done", []).append(item.id)
        return {"trajectory": item.id, "hits": 0, "engines": {}}


def crew_of(hire, **changes):
    config = ClusterConfig(engine="ray", **{"workers": 3, "deaths": 1000, **changes})
    return Crew(hire, lambda hand: setattr(hand, "dead", True), (Died,), config, concurrency=2)


async def work(crew, items):
    try:
        await crew.start()
        crew.begin(None, None)
        return await asyncio.gather(*(crew.run(item) for item in items))
    finally:
        await crew.aclose()


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.floats(0, 0.2), st.integers(1, 5))
def test_every_instruction_is_answered_whoever_dies(seed, rate, workers):
    fate, world = random.Random(seed), {}
    items = [Instruction(str(i), "text") for i in range(30)]

    async def main():
        crew = crew_of(lambda: Hand(fate, rate, world), workers=workers)
        crew._starting_pause_s = 0.0
        return await work(crew, items)

    # Chance alone must not end it.
    with mock.patch("reflectory.cluster.crew._FAILED_STARTS", 10_000):
        answers = asyncio.run(main())
    assert [a["trajectory"] for a in answers] == [i.id for i in items]


def test_a_worker_that_is_slow_gets_fewer():
    counts = []

    class Slow(Hand):
        async def _run(self, item):
            # Turns of the event loop, not seconds: nothing else on the machine can change them.
            for _ in range(200 if self.world["slow"] else 20):
                await asyncio.sleep(0)
            self.done.append(item.id)
            return {"trajectory": item.id, "hits": 1, "engines": {"student": {"passes": 2}}}

    async def main():
        hands = []

        def hire():
            hands.append(Slow(random.Random(0), 0.0, {"slow": not hands}))
            return hands[-1]

        crew = crew_of(hire, workers=2)
        await work(crew, [Instruction(str(i), "t") for i in range(60)])
        counts.extend(len(hand.done) for hand in hands)

    asyncio.run(main())
    assert sum(counts) == 60 and counts[0] * 3 < counts[1]


def test_an_instruction_that_kills_is_given_up_and_no_other_is():
    class Deadly(Hand):
        async def _run(self, item):
            if item.text == "deadly":
                self.dead = True
            await asyncio.sleep(0)
            if self.dead:
                raise Died("killed")
            return {"trajectory": item.id, "hits": 0, "engines": {}}

    async def main():
        crew = crew_of(lambda: Deadly(random.Random(0), 0.0, {}), deaths=3, workers=1)
        crew._starting_pause_s = 0.0
        await crew.start()
        crew.begin(None, None)
        try:
            with pytest.raises(WorkerLost, match="3 workers died"):
                await crew.run(Instruction("0", "deadly"))
            return await crew.run(Instruction("1", "harmless")), crew.deaths
        finally:
            await crew.aclose()

    answer, deaths = asyncio.run(main())
    assert answer["trajectory"] == "1" and deaths == 3


def test_workers_that_never_come_up_stop_the_run():
    async def dying():
        crew = crew_of(lambda: Hand(random.Random(0), 1.0, {}))
        crew._starting_pause_s = 0.0
        await work(crew, [])

    with pytest.raises(RunStopped, match="died one after the other"):
        asyncio.run(dying())

    class Waiting(Hand):
        async def _open(self):
            await asyncio.sleep(100)

    async def nowhere():
        await work(crew_of(lambda: Waiting(random.Random(0), 0.0, {}), patience_s=0.05), [])

    with pytest.raises(RunStopped, match="no worker came up"):
        asyncio.run(nowhere())


def test_workers_that_would_say_other_things_are_refused():
    names = iter("ab")

    async def main():
        crew = crew_of(lambda: Hand(random.Random(0), 0.0, {"student": next(names)}), workers=2)
        await work(crew, [Instruction(str(i), "t") for i in range(50)])

    with pytest.raises(UserError, match="the workers differ") as caught:
        asyncio.run(main())
    assert "student: a there, b here" in caught.value.message


def test_importing_the_room_loads_no_ray():
    import subprocess
    import sys

    code = "import reflectory.cluster, sys; print('ray' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_without_ray_the_engine_says_what_to_install(monkeypatch):
    import sys

    from reflectory.cluster import map_on_ray

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="not installed") as caught:
        list(map_on_ray(lambda: None, ["What?"]))
    assert "reflectory[ray]" in caught.value.hint


def test_an_address_of_clients_is_refused():
    pytest.importorskip("ray")
    from reflectory.cluster import map_on_ray

    config = ClusterConfig(engine="ray", address="ray://127.0.0.1:10001")
    with pytest.raises(UserError, match="clients"):
        list(map_on_ray(lambda: None, ["What?"], cluster=config))
