"""Requests and tokens per minute: never more than the limit in any window, nobody forgotten."""

import asyncio
import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run_virtually

from reflectory.cluster.worker import share_of
from reflectory.config import RemoteConfig
from reflectory.errors import BackendError
from reflectory.models.gate import Calling, Gate
from reflectory.models.pacing import Pacer, exhausted_for_s
from reflectory.models.protocol import Completion, Usage
from reflectory.models.resolve import ModelPool

CALL = st.fixed_dictionaries(
    {
        "start": st.floats(0.0, 200.0),
        "lag": st.floats(0.0, 1.0),  # on its way to the server, and then in its hands
        "length": st.floats(0.0, 90.0),
        "tokens": st.integers(1, 40),
        "used": st.floats(0.0, 1.0),  # of the tokens that were asked for
        "fails": st.booleans(),
        "cancelled": st.none() | st.floats(0.0, 300.0),
    }
)


class Watched:
    """A server that writes down when each request reached it, and what it was to count as."""

    def __init__(self, clock):
        self.clock = clock
        self.arrived = []
        self.now = self.most = 0

    def attempt_of(self, call):
        left = [call["fails"]]

        async def attempt():
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(call["lag"])
                fails, left[0] = left[0], False
                used = max(1, int(call["tokens"] * call["used"]))
                self.arrived.append((self.clock(), call["tokens"] if fails else used))
                await asyncio.sleep(call["length"])
            finally:
                self.now -= 1
            if fails:
                raise BackendError("lost", hint="again")
            return Completion(text="Yes.", usage=Usage(prompt_tokens=used))

        return attempt


def fullest_window(arrived, of=lambda tokens: 1):
    """Return the most that any minute holds: one that begins with a request is enough."""
    return max(
        (
            sum(of(tokens) for at, tokens in arrived if begin <= at < begin + 60.0 - 1e-6)
            for begin, _ in arrived
        ),
        default=0,
    )


@given(
    calls=st.lists(CALL, min_size=1, max_size=14),
    requests=st.none() | st.integers(1, 6),
    tokens=st.none() | st.integers(40, 90),
    concurrency=st.integers(1, 8),
)
def test_no_minute_has_more_than_the_limit_and_every_call_ends(
    calls, requests, tokens, concurrency
):
    config = RemoteConfig(
        max_concurrency=concurrency,
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        pause_after=1000,
    )

    async def main(clock):
        server = Watched(clock)
        gate = Gate("model", config, clock=clock)

        async def one(call):
            await asyncio.sleep(call["start"])
            return await gate.call(Calling(server.attempt_of(call), call["tokens"]))

        async def cancel(task, after):
            await asyncio.sleep(after)
            task.cancel()

        tasks = [asyncio.create_task(one(call)) for call in calls]
        cancels = [
            asyncio.create_task(cancel(task, call["cancelled"]))
            for task, call in zip(tasks, calls, strict=True)
            if call["cancelled"] is not None
        ]
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*cancels)
        return server, ended

    server, ended = run_virtually(main)
    assert server.most <= concurrency and server.now == 0
    if requests is not None:
        assert fullest_window(server.arrived) <= requests
    if tokens is not None:
        assert fullest_window(server.arrived, of=lambda tokens: tokens) <= tokens
    for call, outcome in zip(calls, ended, strict=True):
        allowed = asyncio.CancelledError if call["cancelled"] is not None else Completion
        assert isinstance(outcome, Completion | allowed)


@given(
    steps=st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 50)), max_size=40),
    requests=st.integers(1, 5),
    tokens=st.integers(50, 120),
)
def test_a_pacer_alone_keeps_the_limits_however_late_requests_are_settled(steps, requests, tokens):
    now = [0.0]
    pacer = Pacer(requests, tokens, clock=lambda: now[0])
    sent, going = [], []
    for pause, size in steps:
        now[0] += pause
        for departure in going[: size % 3]:
            pacer.settle(departure, departure.tokens // 2)
        going = going[size % 3 :]
        waits = 0
        while (wait := pacer.wait_s(size)) > 0.0:
            now[0] += wait
            waits += 1
            assert waits < 100
        going.append(pacer.start(size))
        sent.append((now[0], 1))
    assert fullest_window(sent) <= requests


def test_the_limit_is_used_up_and_not_less():
    pacer_clock = [0.0]
    pacer = Pacer(10, clock=lambda: pacer_clock[0])
    times = []
    for _ in range(100):
        while (wait := pacer.wait_s(1)) > 0.0:
            pacer_clock[0] += wait
        pacer.settle(pacer.start(1))
        times.append(pacer_clock[0])
    assert times[-1] == pytest.approx(9 * 60.0)  # ten at once, each minute


def test_calls_go_in_the_order_of_asking():
    async def main(clock):
        gate = Gate("model", RemoteConfig(requests_per_minute=2), clock=clock)
        order = []

        async def one(number):
            async def attempt():
                order.append(number)
                return Completion(text="")

            # The big ones do not let the small ones pass.
            await gate.call(Calling(attempt, tokens=1000 - number))

        await asyncio.gather(*map(one, range(9)))
        return order, clock()

    order, took = run_virtually(main)
    assert order == list(range(9)) and 240 <= took < 242


def test_what_a_call_used_counts_as_soon_as_it_is_known():
    async def main(clock):
        gate = Gate("model", RemoteConfig(tokens_per_minute=100), clock=clock)

        async def attempt():
            await asyncio.sleep(1.0)
            return Completion(text="", usage=Usage(prompt_tokens=4, completion_tokens=1))

        for _ in range(9):
            await gate.call(Calling(attempt, tokens=60))
        return clock()

    assert run_virtually(main) < 60.0  # nine times 60 tokens were asked for, 45 were used


def test_a_call_above_the_limit_goes_alone():
    async def main(clock):
        gate = Gate("model", RemoteConfig(tokens_per_minute=100), clock=clock)
        sent = []

        async def attempt():
            sent.append(clock())
            return Completion(text="")

        await asyncio.gather(*[gate.call(Calling(attempt, tokens=500)) for _ in range(3)])
        return sent

    sent = run_virtually(main)
    assert all(b - a >= 60.0 for a, b in itertools.pairwise(sent)) and len(sent) == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7"}, 7.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, 0.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1.2.3s"}, 0.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "nan"}, 0.0),
        ({"x-ratelimit-remaining-tokens": "0"}, 0.0),
    ],
)
def test_headers_say_for_how_long_nothing_remains(headers, seconds):
    assert exhausted_for_s(headers) == pytest.approx(seconds)


@given(st.text(max_size=12), st.text(max_size=12))
def test_no_header_breaks_it(remaining, reset):
    headers = {"x-ratelimit-remaining-tokens": remaining, "x-ratelimit-reset-tokens": reset}
    assert 0.0 <= exhausted_for_s(headers) < float("inf")
    assert exhausted_for_s({**headers, "x-ratelimit-remaining-tokens": "0"}) < float("inf")


NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"requests-remaining": "0", "requests-reset": "2026-01-31T12:00:20Z"}, 20.0),
        ({"requests-remaining": "3", "requests-reset": "2026-01-31T12:00:20Z"}, 0.0),
        ({"input-tokens-remaining": "0", "input-tokens-reset": "2026-01-31T12:01:00+00:00"}, 60.0),
        ({"output-tokens-remaining": 0, "output-tokens-reset": "2026-01-31T13:00:30+01:00"}, 30.0),
        ({"tokens-remaining": "0", "tokens-reset": "2026-01-31T11:59:00Z"}, 0.0),
        ({"tokens-remaining": "0", "tokens-reset": "2026-01-31T12:00:05"}, 5.0),
        ({"tokens-remaining": "0", "tokens-reset": "9999-12-31T00:00:00Z"}, 86_400.0),
        ({"tokens-remaining": "0", "tokens-reset": "soon"}, 0.0),
        ({"tokens-remaining": "0"}, 0.0),
    ],
)
def test_anthropics_headers_are_read_as_moments(headers, seconds):
    named = {f"anthropic-ratelimit-{name}": value for name, value in headers.items()}
    assert exhausted_for_s(named, now=NOW) == pytest.approx(seconds)


@given(st.text(max_size=30) | st.datetimes().map(str))
def test_no_moment_breaks_it(reset):
    headers = {
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": reset,
    }
    assert 0.0 <= exhausted_for_s(headers) <= 86_400.0 * 366


def test_a_model_has_limits_of_its_own():
    remote = RemoteConfig.model_validate(
        {
            "requests_per_minute": 60,
            "tokens_per_minute": 1000,
            "limits": {"openai:small": {"requests_per_minute": 600, "tokens_per_minute": None}},
        }
    )
    small, other = remote.of("openai:small"), remote.of("openai:large")
    assert (small.requests_per_minute, small.tokens_per_minute) == (600, None)
    assert small.max_concurrency == remote.max_concurrency
    assert (other.requests_per_minute, other.tokens_per_minute) == (60, 1000)
    third = share_of(remote, 3)
    assert third.of("openai:small").requests_per_minute == 200
    assert third.of("openai:small").tokens_per_minute is None
    assert third.of("openai:large").requests_per_minute == 20
    assert third.of("openai:small").max_concurrency == 5


def test_the_pool_gives_each_named_model_its_own_limits(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "0")  # it is made, and never asked
    remote = RemoteConfig.model_validate({"limits": {"openai:small": {"max_concurrency": 2}}})
    pool = ModelPool(remote=remote)
    found = {name: pool.get(f"openai:{name}") for name in ("small", "large")}
    assert {n: m._remote.max_concurrency for n, m in found.items()} == {"small": 2, "large": 16}
