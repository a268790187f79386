"""The ledger: no limit is ever passed, nothing in flight is lost, waiting ends."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.config import BudgetConfig
from reflectory.errors import BackendError, BudgetSpent, ConfigError, RunStopped
from reflectory.models.local import LocalModel
from reflectory.models.prices import Price, PriceList
from reflectory.models.protocol import (
    Capability,
    Request,
    SamplingParameters,
    ScoreRequest,
    Segment,
)
from reflectory.runs.budget import Ledger, Spent
from reflectory.runs.budgeted_model import BudgetedModel
from reflectory.testing.conformance import check_model
from reflectory.testing.models import ScriptedModel
from reflectory.testing.tiny import tiny_model

TEN = "one two three four five six seven eight nine ten"


def request(text: str = TEN, *, most: int = 20, seed: int = 0) -> Request:
    return Request(
        segments=(Segment(text=text),),
        role="student.answer",
        sampling=SamplingParameters(max_tokens=most),
        seed=seed,
    )


class Watched(ScriptedModel):
    """Counts how many calls it has at once, and takes as long as it is told."""

    def __init__(self, text: str = "so it is", delay_s: float = 0.0) -> None:
        self.now = self.most = 0
        self.delay_s = delay_s

        async def say(_: Request) -> str:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(self.delay_s)
                return text
            finally:
                self.now -= 1

        super().__init__(say, capabilities=frozenset({Capability.SCORE}))


def listed(model: ScriptedModel, price: Price) -> PriceList:
    return PriceList({model.fingerprint: price})


async def ask_all(model: BudgetedModel, count: int, **options) -> list:
    calls = (model.complete(request(seed=seed, **options)) for seed in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("count", [1, 7, 30])
def test_so_many_calls_are_made_and_no_more_also_at_once(count):
    model = Watched(delay_s=0.001)
    ledger = Ledger(BudgetConfig(calls=count))
    found = asyncio.run(ask_all(ledger.around(model), 40))
    refused = [f for f in found if isinstance(f, BudgetSpent)]
    assert len(model.requests) == count == 40 - len(refused) if count < 40 else True
    assert ledger.spent().calls == count and ledger.left() == {"calls": 0}
    assert model.most == count
    assert isinstance(refused[0], RunStopped) and refused[0].exit_code == 3
    assert f"the budget of {count} calls is spent" in refused[0].message
    assert "--max-calls" in refused[0].hint


def test_what_may_be_used_is_held_but_what_was_used_counts():
    """Ten words and eight for the template, at most 20 said, of which three are."""
    model = Watched(delay_s=0.001)
    ledger = Ledger(BudgetConfig(tokens=100))
    found = asyncio.run(ask_all(ledger.around(model), 12))
    # 39 are held and 13 used: two at a time fit, and later ones wait for what is left over.
    assert model.most == 2
    assert len(model.requests) == 5 and ledger.spent().tokens == 65
    assert sum(isinstance(f, BudgetSpent) for f in found) == 7
    error = next(f for f in found if isinstance(f, BudgetSpent))
    assert "100 tokens" in error.message and "39 tokens" in error.message


def test_nobody_is_refused_while_a_call_is_in_flight():
    """Or what it costs would be lost when the run stops."""
    model = Watched(delay_s=0.02)
    ledger = Ledger(BudgetConfig(calls=2))

    async def scene() -> int:
        budgeted = ledger.around(model)
        flying = [asyncio.create_task(budgeted.complete(request(seed=n))) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BudgetSpent):
            await budgeted.complete(request(seed=2))
        return sum(task.done() for task in flying) + model.now

    assert asyncio.run(scene()) >= 1 and model.now == 0


def test_money_is_counted_by_the_price():
    model = Watched("a b c d")
    price = Price(input=100_000, output=1_000_000)  # a tenth of a dollar and one dollar a token
    ledger = Ledger(BudgetConfig(cost=20), prices=listed(model, price))
    budgeted = ledger.around(model)
    asyncio.run(budgeted.complete(request(most=4)))
    assert ledger.spent().cost == pytest.approx(5.0)
    with pytest.raises(BudgetSpent, match=r"\$20 is spent: 1 calls, 14 tokens, \$5.0000"):
        asyncio.run(budgeted.complete(request(most=15)))
    assert len(model.requests) == 1


def test_an_unknown_price_is_unknown_and_not_zero():
    ledger = Ledger(BudgetConfig(calls=5), prices=PriceList())
    asyncio.run(BudgetedModel(Watched(), ledger).complete(request()))
    assert ledger.spent().cost is None and ledger.spent().figures["cost"] is None


def test_time_ends_a_run_before_its_next_call():
    now = [0.0]
    model = Watched()
    before = Spent(seconds=1800.0)
    ledger = Ledger(BudgetConfig(hours=1), before=before, clock=lambda: now[0])
    budgeted = ledger.around(model)
    now[0] = 1799.0
    asyncio.run(budgeted.complete(request()))
    now[0] = 1800.0
    with pytest.raises(BudgetSpent, match="1 hours is spent"):
        asyncio.run(budgeted.complete(request(seed=1)))
    assert ledger.left() == {"hours": 0.0}


def test_what_earlier_sessions_spent_counts():
    model = Watched()
    ledger = Ledger(BudgetConfig(calls=5), before=Spent(calls=3, tokens=100))
    asyncio.run(ask_all(ledger.around(model), 4))
    assert len(model.requests) == 2


def test_without_limits_nothing_stands_in_front_of_a_model():
    model = Watched()
    assert Ledger(BudgetConfig()).around(model) is model


def test_a_call_that_failed_counts_as_a_call_and_holds_nothing_back():
    async def fail(_: Request) -> str:
        raise BackendError("gone", hint="wait")

    ledger = Ledger(BudgetConfig(calls=3, tokens=50))
    model = ledger.around(ScriptedModel(fail))
    for seed in range(2):
        with pytest.raises(BackendError, match="gone"):
            asyncio.run(model.complete(request(seed=seed)))
    spent = ledger.spent()
    assert (spent.calls, spent.tokens) == (2, 0)


def test_a_call_that_was_hung_up_on_has_read_its_prompt():
    ledger = Ledger(BudgetConfig(tokens=1000))
    model = ledger.around(Watched(delay_s=5))

    async def scene() -> None:
        task = asyncio.create_task(model.complete(request()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert ledger.spent().calls == 1 and ledger.spent().tokens == 19


def test_who_waits_and_is_cancelled_takes_nobody_with_it():
    model = Watched(delay_s=0.02)
    ledger = Ledger(BudgetConfig(tokens=60))
    budgeted = ledger.around(model)

    async def scene() -> list:
        tasks = [asyncio.create_task(budgeted.complete(request(seed=n))) for n in range(4)]
        await asyncio.sleep(0.005)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(scene())
    assert isinstance(found[1], asyncio.CancelledError)
    assert found[0].text == found[2].text == "so it is"
    assert isinstance(found[3], BudgetSpent)  # 26 are used and 39 might be


def test_estimates_that_fell_short_are_corrected_by_what_was_reported():
    class Short(Watched):
        def count_tokens(self, text: str) -> int:
            return max(1, len(text.split()) // 5)

    model = Short()
    real = ScriptedModel.count_tokens

    async def complete(asked: Request):
        answer = await Watched.complete(model, asked)
        words = sum(real(model, s.text) for s in asked.segments)
        return answer.model_copy(
            update={"usage": answer.usage.model_copy(update={"prompt_tokens": 100 + words})}
        )

    model.complete = complete
    ledger = Ledger(BudgetConfig(tokens=300))
    budgeted = ledger.around(model)
    asyncio.run(budgeted.complete(request(most=5)))
    assert ledger.spent().tokens > 100
    asyncio.run(budgeted.complete(request(most=5, seed=1)))
    with pytest.raises(BudgetSpent):  # 11 would fit, 110 do not
        asyncio.run(budgeted.complete(request(most=5, seed=2)))


def test_where_no_usage_is_reported_it_is_counted():
    """A scripted model reports nothing for scores."""
    ledger = Ledger(BudgetConfig(tokens=1000))
    model = ledger.around(Watched())
    asked = ScoreRequest(segments=(Segment(text=TEN),), continuations=("a b", "c"), role="x")
    asyncio.run(model.score(asked))
    assert ledger.spent().tokens == 10 + 8 + 3


def test_a_budgeted_model_keeps_the_contract_of_a_model():
    model = LocalModel(*tiny_model(0), fingerprint="tiny@0/float32")
    ledger = Ledger(BudgetConfig(calls=10_000, tokens=10**9))

    async def run() -> None:
        budgeted = ledger.around(model)
        await check_model(budgeted)
        await budgeted.aclose()

    asyncio.run(run())
    assert ledger.spent().cost is None and ledger.spent().calls > 10


@pytest.mark.parametrize("field", ["calls", "tokens", "cost", "hours"])
def test_limits_are_above_zero(field):
    with pytest.raises(ConfigError, match=field):
        BudgetConfig(**{field: 0})


CALLS = st.lists(
    st.tuples(
        st.integers(1, 40),  # words of the prompt
        st.integers(1, 40),  # most tokens
        st.integers(0, 40),  # words said, at most that
        st.sampled_from(["answer", "answer", "answer", "fail", "cancel"]),
        st.integers(0, 3),  # turns that it takes
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(CALLS, st.integers(1, 30), st.integers(1, 400), st.floats(0.0001, 0.02))
def test_no_limit_is_passed_whatever_runs_at_once(calls, most_calls, most_tokens, most_cost):
    """At no moment, and in no order; and every call comes to an end."""
    price = Price(input=10, output=100)
    ledger = Ledger(
        BudgetConfig(calls=most_calls, tokens=most_tokens, cost=most_cost),
        prices=PriceList({"scripted": price}),
    )

    async def say(asked: Request) -> str:
        _, _, said, fate, turns = calls[asked.seed]
        for _ in range(turns):
            await asyncio.sleep(0)
        spent = ledger.spent()
        assert spent.calls < most_calls and spent.tokens < most_tokens
        if fate == "fail":
            raise BackendError("gone", hint="wait")
        return " ".join(["w"] * min(said, asked.sampling.max_tokens))

    model = ledger.around(ScriptedModel(say))

    async def scene() -> list:
        tasks = []
        for seed, (words, most, _, _, turns) in enumerate(calls):
            asked = request(" ".join(["p"] * words), most=most, seed=seed)
            tasks.append(asyncio.create_task(model.complete(asked)))
            for _ in range(turns):
                await asyncio.sleep(0)
            if calls[seed][3] == "cancel":
                tasks[-1].cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    for found in asyncio.run(scene()):
        assert not isinstance(found, AssertionError)
    spent = ledger.spent()
    assert spent.calls <= most_calls and spent.tokens <= most_tokens
    assert spent.cost <= most_cost + 1e-12
    assert ledger._held.calls == ledger._held.tokens == ledger._held.cost == 0
    assert not ledger._waiting


def test_event_loops_in_several_threads_share_one_budget():
    """As those of a notebook, the background loop and a worker do."""
    ledger = Ledger(BudgetConfig(calls=60, tokens=2000))
    models = [Watched(delay_s=0.001) for _ in range(3)]
    found: list = []

    def work(model: Watched) -> None:
        found.extend(asyncio.run(ask_all(ledger.around(model), 40)))

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    made = sum(len(model.requests) for model in models)
    assert len(found) == 120 and made == 60 == ledger.spent().calls
    assert sum(isinstance(f, BudgetSpent) for f in found) == 60
    assert ledger.spent().tokens <= 2000 and not ledger._waiting
