"""A model behind the call cache: nothing is asked twice, and no error is recorded."""

import asyncio
import math

import pytest
from calls import ask, put

from reflectory.errors import BackendError, IntegrityError
from reflectory.models.protocol import (
    Capability,
    Completion,
    Model,
    ScoreRequest,
    Scores,
    TokenScores,
    Usage,
    content_hash,
)
from reflectory.runs import CachedModel, CallCache


class EchoModel:
    """Answers with a number that counts its calls, when it is let to."""

    fingerprint = "echo"
    capabilities = frozenset({Capability.SCORE})
    context_window = 100

    def __init__(self, finish="stop", error=None):
        self.calls = 0
        self.cancelled = 0
        self.closed = False
        self.gate = asyncio.Event()
        self.finish = finish
        self.error = error

    async def complete(self, request):
        self.calls += 1
        number = self.calls
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        usage = Usage(prompt_tokens=10, reused_tokens=4, completion_tokens=2)
        return Completion(text=f"answer {number}", finish=self.finish, usage=usage)

    async def score(self, request):
        self.calls += 1
        scores = tuple(TokenScores(logprobs=(-0.1, -math.pi, -math.inf)) for _ in "ab")
        return Scores(continuations=scores)

    def count_tokens(self, text):
        return len(text)

    async def aclose(self):
        self.closed = True


def open_model(**options):
    model = EchoModel(**options)
    model.gate.set()
    return model


@pytest.fixture
def cache(tmp_path):
    cache = CallCache(tmp_path / "calls.sqlite")
    yield cache
    cache.close()


def test_it_is_a_model_and_passes_everything_on(cache):
    async def main():
        inner = open_model()
        model = CachedModel(inner, cache)
        assert isinstance(model, Model)
        assert model.inner is inner
        assert (model.fingerprint, model.context_window) == ("echo", 100)
        assert model.capabilities == {Capability.SCORE}
        assert model.count_tokens("four") == 4
        await model.aclose()
        assert inner.closed
        assert cache.get("k") is None  # the cache is still open

    asyncio.run(main())


def test_a_recorded_call_is_not_made_again_by_anyone(cache):
    async def main():
        inner = open_model()
        first = await CachedModel(inner, cache).complete(ask())
        model = CachedModel(inner, cache)  # as after a restart
        # Role and deadline do not decide what is said.
        again = await model.complete(ask(role="teacher.ask", deadline_s=3.0))
        assert again == first
        assert inner.calls == 1
        assert (model.hits, model.misses) == (1, 0)

    asyncio.run(main())


def test_what_decides_the_answer_makes_another_call(cache):
    async def main():
        inner = open_model()
        model = CachedModel(inner, cache)
        await model.complete(ask())
        await model.complete(ask(seed=1))
        await model.complete(ask(prefill="The"))
        await model.complete(ask("other"))
        inner.fingerprint = "another"
        await model.complete(ask())
        assert inner.calls == 5
        assert (model.hits, model.misses) == (0, 5)

    asyncio.run(main())


def test_the_key_is_the_documented_one(cache):
    async def main():
        await CachedModel(open_model(), cache).complete(ask())

    asyncio.run(main())
    assert cache.get(content_hash("echo", "complete", ask().content())) is not None


def test_scores_are_recorded_too_with_infinite_ones(cache):
    async def main():
        inner = open_model()
        model = CachedModel(inner, cache)
        request = ScoreRequest(segments=ask().segments, continuations=("a", "b"), role="g")
        first = await model.score(request)
        assert await model.score(request) == first
        assert first.continuations[0].logprobs[2] == -math.inf
        assert inner.calls == 1

    asyncio.run(main())


def test_identical_calls_in_flight_are_made_once(cache):
    async def main():
        inner = EchoModel()
        model = CachedModel(inner, cache)
        tasks = [asyncio.create_task(model.complete(ask())) for _ in range(20)]
        await asyncio.sleep(0.01)
        inner.gate.set()
        answers = await asyncio.gather(*tasks)
        assert inner.calls == 1
        assert {a.text for a in answers} == {"answer 1"}
        assert (model.hits, model.misses) == (19, 1)

    asyncio.run(main())


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_cancelling_one_waiter_leaves_the_others(cache, victim):
    async def main():
        inner = EchoModel()
        model = CachedModel(inner, cache)
        tasks = [asyncio.create_task(model.complete(ask())) for _ in range(3)]
        await asyncio.sleep(0.01)
        tasks[victim].cancel()
        await asyncio.sleep(0.01)
        inner.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[victim], asyncio.CancelledError)
        others = [r for i, r in enumerate(results) if i != victim]
        assert [r.text for r in others] == ["answer 1", "answer 1"]
        assert (inner.calls, inner.cancelled) == (1, 0)

    asyncio.run(main())


def test_cancelling_all_waiters_cancels_the_call_and_a_later_one_is_its_own(cache):
    async def main():
        inner = EchoModel()
        model = CachedModel(inner, cache)
        tasks = [asyncio.create_task(model.complete(ask())) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        late = asyncio.create_task(model.complete(ask()))  # asks while that is going on
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert inner.cancelled == 1
        inner.gate.set()
        assert (await late).text == "answer 2"
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_an_error_reaches_all_and_is_not_recorded(cache):
    async def main():
        inner = EchoModel(error=BackendError("the server is away"))
        model = CachedModel(inner, cache)
        tasks = [asyncio.create_task(model.complete(ask())) for _ in range(3)]
        await asyncio.sleep(0.01)
        inner.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(r) for r in results] == [BackendError] * 3
        inner.error = None
        assert (await model.complete(ask())).text == "answer 2"

    asyncio.run(main())


def test_a_cancelled_completion_is_returned_and_not_recorded(cache):
    async def main():
        inner = EchoModel(finish="cancelled")
        inner.gate.set()
        model = CachedModel(inner, cache)
        assert (await model.complete(ask())).finish == "cancelled"
        inner.finish = "length"
        assert (await model.complete(ask())).finish == "length"
        assert inner.calls == 2
        assert (await model.complete(ask())).text == "answer 2"
        assert inner.calls == 2

    asyncio.run(main())


def test_who_joined_a_call_that_ran_out_of_time_asks_again(cache):
    async def main():
        inner = EchoModel(finish="cancelled")
        model = CachedModel(inner, cache)
        tasks = [asyncio.create_task(model.complete(ask())) for _ in range(3)]
        await asyncio.sleep(0.01)
        inner.gate.set()
        results = await asyncio.gather(*tasks)
        assert {r.finish for r in results} == {"cancelled"}
        assert inner.calls == 3  # each has tried for itself

    asyncio.run(main())


def test_what_another_process_recorded_first_counts(cache, tmp_path):
    async def main():
        inner = EchoModel()
        model = CachedModel(inner, cache)
        task = asyncio.create_task(model.complete(ask()))
        await asyncio.sleep(0.01)
        other = CallCache(cache.path)
        put(other, content_hash("echo", "complete", ask().content()), "from the other")
        other.close()
        inner.gate.set()
        assert (await task).text == "from the other"

    asyncio.run(main())


def test_a_record_of_another_shape_is_an_integrity_error(cache):
    async def main():
        key = content_hash("echo", "complete", ask().content())
        cache.put(
            key,
            kind="complete",
            role="r",
            model="echo",
            request=ask().content(),
            response={"words": 1},
            seconds=0.0,
        )
        with pytest.raises(IntegrityError, match="Completion"):
            await CachedModel(open_model(), cache).complete(ask())

    asyncio.run(main())
