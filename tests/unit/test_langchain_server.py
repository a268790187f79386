"""A real client of LangChain against a server on loopback."""

import asyncio
import time

import pytest
from chats import KEY, ask, request
from langchain_openai import ChatOpenAI
from openai_server import running_server

from reflectory.config import RemoteConfig
from reflectory.errors import AccessRefused, BackendError, ReflectoryError, ServerUnavailable
from reflectory.models.langchain import LangChainModel
from reflectory.models.protocol import SamplingParameters


@pytest.fixture
def server():
    with running_server() as running:
        yield running


def client(server, **options) -> LangChainModel:
    chat_model = ChatOpenAI(model="served", base_url=server.url, api_key=KEY, max_retries=0)
    return LangChainModel(chat_model, remote=RemoteConfig(backoff_s=0.001, **options))


def test_a_server_never_has_more_calls_in_flight_than_allowed(server):
    server.pause = 0.03
    model = client(server, max_concurrency=4)

    async def many():
        return await asyncio.gather(*[model.complete(request(seed=n)) for n in range(14)])

    assert [completion.text for completion in asyncio.run(many())] == ["Hello."] * 14
    assert server.flight["most"] == 4 and len(server.seen) == 14


def test_a_real_client_completes(server):
    completion = ask(
        client(server), sampling=SamplingParameters(max_tokens=5, temperature=0.2), seed=11
    )
    assert (completion.text, completion.finish) == ("Hello.", "length")
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (9, 2)
    (body,) = server.seen
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert (body["temperature"], body["seed"]) == (0.2, 11)
    assert body["max_completion_tokens"] == 5 and "stop" not in body and "top_p" not in body


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (401, AccessRefused, False),
        (403, AccessRefused, False),
        (404, AccessRefused, False),
        (400, BackendError, False),
        (500, BackendError, True),
        (503, BackendError, True),
    ],
)
def test_every_status_becomes_the_right_kind(server, status, kind, retryable):
    server.reply = staticmethod(lambda body: (status, {}, f"refused, your key is {KEY}"))
    with pytest.raises(ReflectoryError) as caught:
        ask(client(server, retries=1))
    assert type(caught.value) is kind
    assert getattr(caught.value, "retryable", None) is retryable
    assert KEY not in str(caught.value) and caught.value.hint
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert len(server.seen) == (2 if retryable else 1)


def test_the_server_says_how_long_to_wait(server):
    waits = iter([(429, {"Retry-After": "0.2"}, "slow down"), (200, {}, "Done.")])
    server.reply = staticmethod(lambda body: next(waits))
    started = time.monotonic()
    assert ask(client(server)).text == "Done."
    assert time.monotonic() - started >= 0.2
    server.reply = staticmethod(lambda body: (429, {"Retry-After": "3600"}, "tomorrow"))
    with pytest.raises(ServerUnavailable, match="tomorrow"):  # that is no pause any more
        ask(client(server))


def test_a_parameter_that_the_server_does_not_take_is_left_out(server):
    def reply(body):
        if "temperature" in body:
            return 400, {}, "Unsupported value: 'temperature' does not support 0.0"
        return 200, {}, "Fine."

    server.reply = staticmethod(reply)
    model = client(server)
    assert ask(model).text == "Fine." and ask(model).text == "Fine."
    assert ["temperature" in body for body in server.seen] == [True, False, False]


def test_a_connection_of_a_loop_that_has_ended_is_replaced():
    with running_server(protocol_version="HTTP/1.1") as server:  # it keeps connections
        model = client(server)
        assert [ask(model).text for _ in range(3)] == ["Hello."] * 3


def test_a_server_that_is_not_there_is_a_retryable_failure(server):
    gone = ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key=KEY, max_retries=0)
    with pytest.raises(BackendError) as caught:
        ask(LangChainModel(gone, remote=RemoteConfig(retries=1, backoff_s=0.001)))
    assert caught.value.retryable and "reachable" in caught.value.hint
