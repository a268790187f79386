"""The model that says what a test tells it to."""

import asyncio
from collections.abc import Callable

import pytest
from virtual_time import run_virtually

from reflectory.errors import UnsupportedCapability
from reflectory.models.protocol import (
    Capability,
    Completion,
    Model,
    Request,
    ScoreRequest,
    Segment,
)
from reflectory.testing.models import ScriptedModel

SCORE = frozenset({Capability.SCORE})


def request(role: str = "teacher.ask", text: str = "two words") -> Request:
    return Request(segments=(Segment(text=text),), role=role)


def score_request(*texts: str) -> ScoreRequest:
    return ScoreRequest(segments=(Segment(text="prompt"),), continuations=texts, role="grade")


def say(model: ScriptedModel, *requests: Request) -> list[str]:
    async def all_of_them() -> list[Completion]:
        return [await model.complete(r) for r in requests]

    return [completion.text for completion in asyncio.run(all_of_them())]


def test_lines_are_given_out_in_turn_by_role_and_then_again() -> None:
    model = ScriptedModel({"a": ["one", "two"], "b": ["three"]})
    roles = ["a", "b", "a", "a", "b"]
    assert say(model, *map(request, roles)) == ["one", "three", "two", "one", "three"]
    assert [r.role for r in model.requests] == roles


def test_a_role_without_lines_is_an_error() -> None:
    for script in ({}, {"a": []}):
        with pytest.raises(KeyError, match="'a'"):
            say(ScriptedModel(script), request("a"))


def test_a_function_sees_the_request_and_may_wait() -> None:
    async def later(asked: Request) -> str:
        await asyncio.sleep(0)
        return asked.segments[0].text.upper()

    assert say(ScriptedModel(lambda asked: asked.role), request("a")) == ["a"]
    assert say(ScriptedModel(later), request(text="hello")) == ["HELLO"]


def test_usage_counts_words() -> None:
    model = ScriptedModel({"teacher.ask": ["three words here"]})
    completion = asyncio.run(model.complete(request(text="two words")))
    assert completion.usage.prompt_tokens == 2
    assert completion.usage.completion_tokens == 3
    assert completion.finish == "stop"
    assert model.count_tokens("") == 0


def test_it_is_a_model_that_claims_what_it_was_told() -> None:
    model = ScriptedModel({}, name="mine", capabilities=SCORE, context_window=7)
    assert isinstance(model, Model)
    assert (model.fingerprint, model.capabilities, model.context_window) == ("mine", SCORE, 7)
    assert ScriptedModel({}).capabilities == frozenset()
    assert ScriptedModel({}).context_window is None
    asyncio.run(model.aclose())


def test_it_does_not_score_without_the_capability() -> None:
    model = ScriptedModel({})
    with pytest.raises(UnsupportedCapability):
        asyncio.run(model.score(score_request("x")))
    assert model.score_requests == []


def test_scores_come_from_the_function_one_number_for_every_word() -> None:
    model = ScriptedModel({}, capabilities=SCORE, score=lambda asked, text: -float(len(text)))
    asked = score_request("ab cd", "e")
    scores = asyncio.run(model.score(asked))
    assert [s.logprobs for s in scores.continuations] == [(-5.0, -5.0), (-1.0,)]
    assert model.score_requests == [asked]


def test_default_scores_depend_on_the_text_alone() -> None:
    model = ScriptedModel({}, capabilities=SCORE)
    forward = asyncio.run(model.score(score_request("one text", "another"))).continuations
    backward = asyncio.run(model.score(score_request("another", "one text"))).continuations
    assert forward == backward[::-1]
    assert forward[0].mean != forward[1].mean
    assert all(-4.0 <= number < 0.0 for s in forward for number in s.logprobs)


def test_a_delay_can_be_cancelled_and_calls_wait_side_by_side() -> None:
    async def run(clock: Callable[[], float]) -> tuple[list[object], float]:
        model = ScriptedModel({"teacher.ask": ["x"]}, delay_s=0.2)
        tasks = [asyncio.create_task(model.complete(request())) for _ in range(20)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True)), clock()

    (first, *others), took = run_virtually(run)
    assert took == pytest.approx(0.2)  # one after the other they would take 4
    assert isinstance(first, asyncio.CancelledError)
    assert all(isinstance(o, Completion) and o.text == "x" for o in others)
