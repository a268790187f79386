"""Whole runs over a server that does everything wrong, with the real client."""

import asyncio
import hashlib
import json
import sqlite3
import threading
import time
from collections import Counter
from functools import partial

import pytest
from langchain_openai import ChatOpenAI
from openai_server import FAULTS, faults_at_random, running_server
from worlds import world_loop

from reflectory import ReflectiveLoop
from reflectory.config import RemoteConfig
from reflectory.errors import (
    AccessRefused,
    BackendError,
    RateLimited,
    ReflectoryError,
    ServerUnavailable,
)
from reflectory.models import gate
from reflectory.models.langchain import LangChainModel
from reflectory.models.pacing import Pacer
from reflectory.models.protocol import Request, SamplingParameters, Segment
from reflectory.runs import RunView
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld

WORLD = SyntheticWorld(levels=1)
ASKED = [f"What is known about fact {number}?" for number in range(60)]


def as_the_world(body):
    """Answer as teacher and student of the synthetic world, the same to the same request."""
    task = body["messages"][-1]["content"]
    key = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:8]
    if "Write one question" in task:
        return 200, {}, f"What is needed at difficulty 1 for {key}{body['seed']}?"
    return 200, {}, f"I answer with skill {2 if 'Your earlier answer' in task else 1}"


def model_of(server, **remote):
    chat_model = ChatOpenAI(model="served", base_url=server.url, api_key="none")
    return LangChainModel(chat_model, remote=RemoteConfig(**{"backoff_s": 0.002, **remote}))


def loop_over(server, **remote):
    model = model_of(server, **remote)
    return world_loop(WORLD, teacher=model, student=model, max_iterations=1)


def recorded_calls(run):
    with sqlite3.connect(run / "calls.sqlite") as database:
        (count,) = database.execute("select count(*) from calls").fetchone()
    return count


def request(**changes):
    return Request(segments=(Segment(text="Say something."),), role="test", **changes)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_repeated_and_then_told_apart(fault):
    faults = [fault, fault]
    timeout_s = 0.5 if fault in ("hangs", "slow body") else 60.0
    with running_server(fault=lambda self, body: faults.pop() if faults else None) as server:
        server.hanging = 0.1
        model = model_of(server, timeout_s=timeout_s)
        assert asyncio.run(model.complete(request())).text == "Hello."
        assert server.failed == [fault, fault] and len(server.seen) == 1

        faults.extend([fault] * 100)
        stubborn = model_of(server, timeout_s=timeout_s, retries=1, longest_pause_s=0.2)
        with pytest.raises(ReflectoryError) as caught:
            asyncio.run(stubborn.complete(request()))
    # Which of the first two it is goes by the clock: a wait that is asked for grows too long for
    # everybody, or this call was refused for so long.
    refused = {ServerUnavailable, RateLimited} if fault.startswith("429") else {BackendError}
    assert type(caught.value) in refused
    assert caught.value.hint and len(str(caught.value)) < 1000


def test_a_run_over_a_faulty_server_completes_and_keeps_to_its_limits(tmp_path):
    with running_server(
        reply=staticmethod(as_the_world),
        fault=staticmethod(faults_at_random(seed=3, share=0.3)),
        hanging=0.4,
    ) as server:
        loop = loop_over(server, max_concurrency=6, timeout_s=0.8)
        found = list(loop.map(ASKED, concurrency=12, output=tmp_path / "run"))
        requests = len(server.arrived)
        again = list(loop.map(ASKED, concurrency=12, output=tmp_path / "run"))
    assert len({t.id for t in found}) == 60 and {t.id for t in again} == {t.id for t in found}
    assert len(server.arrived) == requests  # the second time nothing was asked
    failed = [t for t in found if t.status != "done"]
    assert len(failed) <= 5 and all(t.error.kind == "BackendError" for t in failed)
    assert server.flight["most"] <= 6 and server.flight["now"] == 0
    assert len(set(server.failed)) >= 20  # nearly everything that can go wrong did
    # What was answered is recorded, but for what came when nobody waited for it any more.
    asked = {json.dumps(body, sort_keys=True) for body in server.seen}
    assert len(asked) - 5 <= recorded_calls(tmp_path / "run") <= len(asked)


def test_the_server_never_sees_more_requests_than_allowed(monkeypatch):
    monkeypatch.setattr(gate, "Pacer", partial(Pacer, window_s=0.5))  # a minute of half a second
    with running_server(
        fault=staticmethod(faults_at_random(1, 0.3, kinds=("500", "429", "closed", "html")))
    ) as server:
        model = model_of(server, requests_per_minute=10, max_concurrency=8)

        async def many():
            return await asyncio.gather(*[model.complete(request(seed=n)) for n in range(40)])

        assert len(asyncio.run(many())) == 40
    times = sorted(server.arrived)
    assert max(sum(a <= b < a + 0.5 for b in times) for a in times) <= 10
    assert len(times) > 45 and times[-1] - times[0] < 0.5 * len(times) / 10 * 3


def test_an_outage_in_the_middle_pauses_the_run_and_fails_nothing(tmp_path):
    outage = threading.Event()
    answered = []

    def fault(body):
        if not outage.is_set() and len(answered) == 60:
            outage.set()
            threading.Timer(0.7, answered.append, ["over"]).start()
        if outage.is_set() and "over" not in answered:
            return "503"
        answered.append("one")
        return None

    with running_server(reply=staticmethod(as_the_world), fault=staticmethod(fault)) as server:
        loop = loop_over(server, max_concurrency=8, backoff_s=0.01, pause_after=4)
        found = list(loop.map(ASKED[:24], concurrency=8, output=tmp_path / "run"))
    assert {t.status for t in found} == {"done"} and len(found) == 24
    assert len(server.failed) < 8 + 4 + 20  # those on their way, and tries with growing waits


def test_an_outage_without_end_stops_the_run_and_a_resumed_one_repeats_nothing(tmp_path):
    away = [False]

    def fault(body):
        away[0] = away[0] or len(server.seen) >= 60
        return "closed" if away[0] else None

    with running_server(reply=staticmethod(as_the_world)) as server:
        server.fault = staticmethod(fault)
        loop = loop_over(server, max_concurrency=4, pause_after=4, longest_pause_s=0.3)
        began = time.monotonic()
        with pytest.raises(ServerUnavailable, match="longest_pause_s"):
            list(loop.map(ASKED[:20], concurrency=4, output=tmp_path / "run"))
        assert time.monotonic() - began < 20
        kept = RunView.read(tmp_path / "run").trajectories
        assert {t.status for t in kept} == {"done"} and 0 < len(kept) < 20
        recorded = recorded_calls(tmp_path / "run")
        assert recorded == 60

        server.fault = staticmethod(lambda body: None)
        found = list(loop.map(ASKED[:20], concurrency=4, output=tmp_path / "run"))
    assert {t.status for t in found} == {"done"} and len(found) == 20
    asked = Counter(json.dumps(body, sort_keys=True) for body in server.seen)
    assert set(asked.values()) == {1}
    assert recorded_calls(tmp_path / "run") == len(asked)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_stops_the_run_before_it_fails_everything(tmp_path, status):
    refused = [True]

    def reply(body):
        return (status, {}, "no") if refused[0] else as_the_world(body)

    with running_server(reply=staticmethod(reply)) as server:
        loop = loop_over(server)
        with pytest.raises(AccessRefused) as caught:
            list(loop.map(ASKED, concurrency=4, output=tmp_path / "run"))
        assert caught.value.hint and len(server.seen) <= 4
        assert not list(RunView.read(tmp_path / "run").trajectories)
        refused[0] = False
        found = list(loop.map(ASKED[:5], concurrency=4, output=tmp_path / "run"))
    assert {t.status for t in found} == {"done"}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("You exceeded your current quota (insufficient_quota)", AccessRefused),
        ("Request too large for served on tokens per min", BackendError),
        ("Slow down", RateLimited),
    ],
)
def test_not_every_429_goes_away(said, kind):
    replies = iter([(429, {"Retry-After": "0.01"}, said), (200, {}, "Fine.")])
    with running_server(reply=lambda self, body: next(replies)) as server:
        model = model_of(server)
        if kind is RateLimited:
            assert asyncio.run(model.complete(request())).text == "Fine."
            return
        with pytest.raises(kind) as caught:
            asyncio.run(model.complete(request()))
        assert type(caught.value) is kind and not caught.value.retryable
        assert len(server.seen) == 1


def test_a_403_about_one_text_fails_that_call_alone():
    with running_server(reply=lambda self, body: (403, {}, "Input was flagged")) as server:
        with pytest.raises(BackendError) as caught:
            asyncio.run(model_of(server).complete(request()))
        assert type(caught.value) is BackendError and not caught.value.retryable


def test_headers_of_an_answer_hold_up_the_next_call():
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"}
    with running_server(reply=lambda self, body: (200, headers, "Yes.")) as server:
        model = model_of(server)

        async def two():
            return [await model.complete(request(seed=n)) for n in range(2)]

        assert len(asyncio.run(two())) == 2
    first, second = server.arrived
    assert second - first >= 0.3


def test_the_client_repeats_nothing_by_itself():
    with running_server(reply=lambda self, body: (500, {}, "no")) as server:
        with pytest.raises(BackendError):
            asyncio.run(model_of(server, retries=0).complete(request()))
        assert len(server.seen) == 1


def test_a_server_that_knows_no_limit_is_not_refused_for_a_little():
    with running_server(reply=lambda self, body: (200, {}, "word " * 1000)) as server:
        answer = asyncio.run(
            model_of(server).complete(request(sampling=SamplingParameters(max_tokens=5)))
        )
    assert len(answer.text.split()) == 1000


def test_limits_reach_models_that_are_named_and_may_differ_when_a_run_is_resumed(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def reply(body):
        if "Judge the answer" in body["messages"][-1]["content"]:
            return 200, {}, "It is known.\nScore: 7"
        return as_the_world(body)

    with running_server(reply=staticmethod(reply), pause=0.02) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        for most, asked in ((2, ASKED[:4]), (5, ASKED[:16])):
            server.flight["most"] = 0
            loop = ReflectiveLoop(
                WORLD.documents(),
                teacher="openai:served",
                student="openai:served",
                embedder=ConstantEmbedder(),
                config=WORLD.config(max_iterations=1),
                remote=RemoteConfig(max_concurrency=most),
            )
            with loop:
                found = list(loop.map(asked, concurrency=16, output=tmp_path / "run"))
            assert {t.status for t in found} == {"done"} and len(found) == len(asked)
            assert 1 < server.flight["most"] <= most
