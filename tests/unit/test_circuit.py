"""Outages: few tries, nothing failed, everybody goes on; an end when it lasts too long."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run_virtually

from reflectory.config import RemoteConfig
from reflectory.errors import AccessRefused, BackendError, RateLimited, ServerUnavailable
from reflectory.models.gate import Calling, Gate
from reflectory.models.protocol import Completion


class Server:
    """Answers after a second, except when it is said to be away."""

    def __init__(self, clock, away=(), refuses=lambda number, at: None):
        self.clock = clock
        self.away = away
        self.refuses = refuses
        self.began, self.answered = [], []
        self.now = 0

    def is_away(self):
        return any(begin <= self.clock() < end for begin, end in self.away)

    def calling(self, number, **options):
        async def attempt():
            self.began.append((self.clock(), number))
            self.now += 1
            try:
                await asyncio.sleep(1.0)
            finally:
                self.now -= 1
            if self.is_away():
                raise BackendError("503", hint="wait")
            error = self.refuses(number, self.clock())
            if error is not None:
                raise error
            self.answered.append(number)
            return Completion(text=str(number))

        return Calling(attempt, tokens=1, seed=number, **options)

    def gate(self, *, ping=True, **config):
        asked = self.calling("ping") if ping else None
        return Gate("the model", RemoteConfig(**config), ping=asked, clock=self.clock)


def test_an_outage_fails_nothing_and_costs_few_requests():
    async def main(clock):
        server = Server(clock, away=[(20.0, 1000.0)])
        gate = server.gate(max_concurrency=8)
        told = await asyncio.gather(*[gate.call(server.calling(n)) for n in range(300)])
        return server, told, clock()

    server, told, took = run_virtually(main)
    assert [int(completion.text) for completion in told] == list(range(300))
    tries = [number for at, number in server.began if 30.0 <= at < 1000.0]
    assert 10 <= len(tries) <= 40  # half a second, one, two ... a minute, and pings
    calls = [number for number in tries if number != "ping"]
    assert len(set(calls[:8])) == 8  # not always the same one
    assert took < 1000.0 + 60.0 + 300 / 8 + 5


def test_one_call_at_a_time_tries():
    async def main(clock):
        server = Server(clock, away=[(10.0, 500.0)])
        most = [0]
        gate = server.gate(max_concurrency=16)

        async def watch():
            while clock() < 500.0:
                await asyncio.sleep(0.25)
                if clock() > 15.0:
                    most[0] = max(most[0], server.now)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*[gate.call(server.calling(n)) for n in range(200)])
        await watching
        return most[0]

    assert run_virtually(main) == 1


def test_an_outage_that_lasts_stops_everybody_at_once_and_later_calls_start_anew():
    async def main(clock):
        server = Server(clock, away=[(5.0, 10_000.0)])
        gate = server.gate(max_concurrency=8, longest_pause_s=600.0)
        told = await asyncio.gather(
            *[gate.call(server.calling(n)) for n in range(100)], return_exceptions=True
        )
        ended = clock()
        await asyncio.sleep(10_000.0)
        later = await gate.call(server.calling(100))
        return told, ended, later

    told, ended, later = run_virtually(main)
    done = [t for t in told if isinstance(t, Completion)]
    assert len(done) == 32  # eight a second for four seconds
    stopped = [t for t in told if not isinstance(t, Completion)]
    assert {type(t) for t in stopped} == {ServerUnavailable}
    assert "the model" in str(stopped[0]) and "503" in str(stopped[0]) and stopped[0].hint
    assert 500.0 < ended < 800.0 and later.text == "100"


def test_a_server_that_was_away_for_longer_while_nobody_called_is_given_its_time():
    async def main(clock):
        server = Server(clock, away=[(0.0, 10.0), (5000.0, 5100.0)])
        gate = server.gate(pause_after=2, longest_pause_s=300.0)
        first = asyncio.create_task(gate.call(server.calling(0)))
        await asyncio.sleep(8.0)
        first.cancel()  # the circuit stays open, and nobody is there to close it
        await asyncio.sleep(4992.5)
        return await gate.call(server.calling(1))

    assert run_virtually(main).text == "1"


def test_a_call_that_breaks_the_server_fails_alone():
    def breaks(number, at):
        return BackendError("500", hint="") if number in (3, 4, 5, 6) else None

    async def main(clock):
        server = Server(clock, refuses=breaks)
        gate = server.gate(max_concurrency=1)  # they come one after the other
        return await asyncio.gather(
            *[gate.call(server.calling(n)) for n in range(12)], return_exceptions=True
        )

    told = run_virtually(main)
    assert [n for n, t in enumerate(told) if isinstance(t, BackendError)] == [3, 4, 5, 6]
    assert not any(isinstance(t, ServerUnavailable) for t in told)


def test_a_server_that_answers_nothing_but_small_talk_is_away_in_the_end():
    def breaks(number, at):
        return None if number == "ping" else BackendError("500", hint="")

    async def main(clock):
        server = Server(clock, refuses=breaks)
        gate = server.gate(max_concurrency=4, longest_pause_s=600.0)
        return await asyncio.gather(
            *[gate.call(server.calling(n)) for n in range(500)], return_exceptions=True
        )

    told = run_virtually(main)
    failed = sum(not isinstance(t, ServerUnavailable) for t in told)
    assert failed < 12  # and not five hundred instructions


def test_what_concerns_one_request_pauses_nobody():
    def wrong(number, at):
        return BackendError("400", hint="", retryable=False) if number % 2 else None

    async def main(clock):
        server = Server(clock, refuses=wrong)
        gate = server.gate(max_concurrency=4, pause_after=2)
        await asyncio.gather(
            *[gate.call(server.calling(n)) for n in range(40)], return_exceptions=True
        )
        return len(server.began), clock()

    assert run_virtually(main) == (40, 10.0)


def test_a_refused_key_stops_at_once():
    async def main(clock):
        refused = AccessRefused("401", hint="the key")
        server = Server(clock, refuses=lambda number, at: refused)
        with pytest.raises(AccessRefused):
            await server.gate().call(server.calling(0))
        return len(server.began)

    assert run_virtually(main) == 1


def test_one_refusal_makes_everybody_wait():
    async def main(clock):
        refused = []

        def once(number, at):
            if not refused:
                refused.append(at)
                return RateLimited("429", hint="", retry_after=30.0)
            return None

        server = Server(clock, refuses=once)
        gate = server.gate(max_concurrency=4)
        told = await asyncio.gather(*[gate.call(server.calling(n)) for n in range(20)])
        return server, told

    server, told = run_virtually(main)
    assert len(told) == 20
    assert not [at for at, _ in server.began if 1.0 < at < 31.0]
    assert sum(at >= 31.0 for at, _ in server.began) == 17  # three were on their way


def test_refusals_use_up_no_repetitions():
    async def main(clock):
        def until_then(number, at):
            return RateLimited("429", hint="") if at < 400.0 else None

        server = Server(clock, refuses=until_then)
        gate = server.gate(retries=0, max_concurrency=4)
        told = await asyncio.gather(*[gate.call(server.calling(n)) for n in range(20)])
        return len(told), sum(at < 399.0 for at, _ in server.began)

    done, refused = run_virtually(main)
    assert done == 20 and refused <= 4 * 16  # twice as long each time


def test_a_call_that_is_refused_while_others_are_served_ends_some_day():
    async def main(clock):
        def never(number, at):
            return RateLimited("429", hint="") if number == 0 else None

        server = Server(clock, refuses=never)
        gate = server.gate(max_concurrency=4, longest_pause_s=120.0)
        told = await asyncio.gather(
            *[gate.call(server.calling(n)) for n in range(1000)], return_exceptions=True
        )
        return told, clock()

    told, _ = run_virtually(main)
    assert type(told[0]) is RateLimited
    assert all(isinstance(t, Completion) for t in told[1:])


def test_a_wait_that_nobody_waits_for_stops_the_run_and_holds_up_no_later_one():
    async def main(clock):
        refused = [RateLimited("429: tomorrow", hint="", retry_after=86_400.0)]
        server = Server(clock, refuses=lambda number, at: refused.pop() if refused else None)
        gate = server.gate()
        with pytest.raises(ServerUnavailable, match="tomorrow"):
            await gate.call(server.calling(0))
        return (await gate.call(server.calling(1))).text, clock()

    assert run_virtually(main) == ("1", 2.0)


def test_a_deadline_that_a_pause_would_pass_fails_at_once():
    async def main(clock):
        refused = [RateLimited("429", hint="", retry_after=100.0)]
        server = Server(clock, refuses=lambda number, at: refused.pop() if refused else None)
        gate = server.gate()
        with pytest.raises(TimeoutError):
            await gate.call(server.calling(0, give_up_at=50.0))
        return clock()

    assert run_virtually(main) == 1.0


@given(
    outages=st.lists(st.tuples(st.floats(0.0, 300.0), st.floats(0.0, 200.0)), max_size=3),
    cancelled=st.sets(st.integers(0, 29)),
    concurrency=st.integers(1, 6),
    pause_after=st.integers(1, 6),
)
def test_whatever_fails_and_whoever_leaves_the_others_are_answered(
    outages, cancelled, concurrency, pause_after
):
    async def main(clock):
        server = Server(clock, away=[(begin, begin + length) for begin, length in outages])
        gate = server.gate(max_concurrency=concurrency, pause_after=pause_after, retries=8)
        tasks = [asyncio.create_task(gate.call(server.calling(n))) for n in range(30)]

        async def leave():
            for number in sorted(cancelled):
                await asyncio.sleep(7.0)
                tasks[number].cancel()

        leaving = asyncio.create_task(leave())
        told = await asyncio.gather(*tasks, return_exceptions=True)
        await leaving
        await asyncio.sleep(max(0.0, 600.0 - clock()))
        began = clock()  # afterwards every place can be had at once
        more = range(100, 100 + concurrency)
        await asyncio.gather(*[gate.call(server.calling(n)) for n in more])
        return told, server, clock() - began

    told, server, took = run_virtually(main)
    for number, outcome in enumerate(told):
        assert isinstance(outcome, Completion) or number in cancelled
        if isinstance(outcome, Completion):
            assert server.answered.count(number) == 1
    assert server.now == 0 and took <= 2.0  # one that tries, and then all the others
