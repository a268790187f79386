"""LangChain chat models: LangChain's own fakes behind the protocol."""

import asyncio
import itertools
import json
import threading
import time

import pytest
from chats import KEY, SEGMENTS, ask, request
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
)
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import Field, SecretStr

from reflectory.config import RemoteConfig
from reflectory.errors import BackendError, ConfigError, ModelError, UnsupportedCapability
from reflectory.models.langchain import LangChainModel
from reflectory.models.messages import messages_of
from reflectory.models.protocol import Model, SamplingParameters, ScoreRequest, Segment
from reflectory.models.provider_errors import redact, translate


def said(*contents, **fields) -> LangChainModel:
    messages = [AIMessage(content=content, **fields) for content in contents]
    return LangChainModel(FakeMessagesListChatModel(responses=messages))


def test_it_meets_the_protocol():
    model = LangChainModel(FakeListChatModel(responses=["a"]))
    assert isinstance(model, Model)
    assert model.capabilities == frozenset()
    assert model.context_window is None
    assert model.count_tokens("twelve chars") == 3 and model.count_tokens("") == 0


def test_neighbouring_segments_of_one_speaker_become_one_message():
    messages = messages_of(request())
    assert [m.type for m in messages] == ["system", "human"]
    assert messages[1].content == "The documents.\n\nThe question."


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text(min_size=1)), min_size=1))
def test_messages_hold_every_segment_in_order(parts):
    segments = tuple(Segment(text=text, speaker=speaker) for speaker, text in parts)
    messages = messages_of(request(segments=segments))
    assert "\n\n".join(m.content for m in messages) == "\n\n".join(text for _, text in parts)
    kinds = [m.type for m in messages]
    assert all(a != b for a, b in itertools.pairwise(kinds))


def test_text_is_cut_at_stop_strings_that_the_model_ignored():
    completion = ask(
        said("One.\nQuestion: two"), sampling=SamplingParameters(stop=("###", "\nQuestion:"))
    )
    assert (completion.text, completion.finish) == ("One.", "stop")


def test_thinking_is_kept_apart_in_every_form():
    tags = ask(said("<think>hmm</think>Yes."))
    assert (tags.text, tags.thinking) == ("Yes.", "hmm")
    blocks = ask(said([{"type": "thinking", "thinking": "hmm"}, {"type": "text", "text": "Yes."}]))
    assert (blocks.text, blocks.thinking) == ("Yes.", "hmm")
    reasoning = ask(said([{"type": "reasoning", "reasoning": "hmm"}, "Yes", "."]))
    assert (reasoning.text, reasoning.thinking) == ("Yes.", "hmm")
    beside = ask(said("Yes.", additional_kwargs={"reasoning_content": "hmm"}))
    assert (beside.text, beside.thinking) == ("Yes.", "hmm")


def test_usage_and_finish_are_read():
    completion = ask(
        said(
            "cut off he",
            response_metadata={"stop_reason": "max_tokens"},
            usage_metadata={
                "input_tokens": 20,
                "output_tokens": 5,
                "total_tokens": 25,
                "input_token_details": {"cache_read": 16},
            },
        )
    )
    assert completion.finish == "length"
    usage = completion.usage
    assert (usage.prompt_tokens, usage.reused_tokens, usage.completion_tokens) == (20, 16, 5)


def test_withheld_answer_is_an_error_and_not_an_empty_answer():
    with pytest.raises(BackendError, match="withheld") as caught:
        ask(said("", response_metadata={"finish_reason": "content_filter"}))
    assert not caught.value.retryable


def test_what_it_cannot_do_is_refused():
    model = said("a")
    with pytest.raises(UnsupportedCapability):
        ask(model, prefill="What")
    with pytest.raises(UnsupportedCapability):
        asyncio.run(
            model.score(ScoreRequest(segments=SEGMENTS, continuations=("a",), role="grade"))
        )
    asyncio.run(model.aclose())
    with pytest.raises(ModelError, match="closed"):
        ask(model)


class Counting(BaseChatModel):
    """Counts how many calls run at once, and fails as often as it is told to."""

    state: dict
    failures: list = Field(default_factory=list)
    pause: float = 0.01
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    num_predict: int | None = None
    api_key: SecretStr = SecretStr(KEY)
    model: str = "counter"

    @property
    def _llm_type(self):
        return "counting"

    def _generate(self, *args, **kwargs):
        raise NotImplementedError

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        self.state["calls"] += 1
        self.state["now"] += 1
        self.state["most"] = max(self.state["most"], self.state["now"])
        try:
            await asyncio.sleep(self.pause)
        finally:
            self.state["now"] -= 1
        if self.failures:
            raise self.failures.pop(0)
        sent = [
            self.temperature,
            self.top_p,
            self.seed,
            self.num_predict,
            len(stop or ()),
            sorted(kwargs),
        ]
        message = AIMessage(content=json.dumps(sent))
        return ChatResult(generations=[ChatGeneration(message=message)])


def counting(**fields) -> Counting:
    return Counting(state={"now": 0, "most": 0, "calls": 0}, **fields)


def test_parameters_reach_the_fields_that_the_chat_model_has():
    chat_model = counting()
    sampling = SamplingParameters(
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        repetition_penalty=1.3,
        stop=("@1", "@2", "@3", "@4", "@5"),
    )
    sent = json.loads(ask(LangChainModel(chat_model), sampling=sampling, seed=3).text)
    assert sent == [0.5, 0.9, 3, 7, 4, []]
    assert chat_model.temperature is None  # the user's own object is left as it was
    sent = json.loads(ask(LangChainModel(chat_model, omit=("seed", "temperature"))).text)
    assert sent == [None, None, None, 128, 0, []]


def test_no_more_calls_at_once_than_allowed():
    chat_model = counting()
    model = LangChainModel(chat_model, remote=RemoteConfig(max_concurrency=3))

    async def many():
        return await asyncio.gather(*[model.complete(request(seed=n)) for n in range(12)])

    assert len(asyncio.run(many())) == 12
    assert len(asyncio.run(many())) == 12  # a second event loop, the same model
    assert chat_model.state == {"now": 0, "most": 3, "calls": 24}


def test_calls_from_several_threads_share_one_bound():
    chat_model = counting(pause=0.02)
    model = LangChainModel(chat_model, remote=RemoteConfig(max_concurrency=2))

    async def some():
        return await asyncio.gather(*[model.complete(request(seed=n)) for n in range(5)])

    threads = [threading.Thread(target=lambda: asyncio.run(some())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chat_model.state == {"now": 0, "most": 2, "calls": 15}


def test_the_default_bound_is_sixteen():
    chat_model = counting()
    model = LangChainModel(chat_model)

    async def many():
        return await asyncio.gather(*[model.complete(request(seed=n)) for n in range(40)])

    asyncio.run(many())
    assert chat_model.state["most"] == 16
    with pytest.raises(ConfigError, match="max_concurrency"):
        RemoteConfig(max_concurrency=0)


def test_waiting_for_a_place_counts_against_the_deadline():
    model = LangChainModel(counting(pause=0.2), remote=RemoteConfig(max_concurrency=1))

    async def two():
        first = asyncio.create_task(model.complete(request()))
        await asyncio.sleep(0)
        waiting = model.complete(request(deadline_s=0.05))
        return await asyncio.gather(first, waiting, return_exceptions=True)

    first, second = asyncio.run(two())
    assert first.text and isinstance(second, BackendError) and second.retryable


def test_a_cancelled_waiting_call_leaves_its_place_to_the_next():
    chat_model = counting(pause=0.05)
    model = LangChainModel(chat_model, remote=RemoteConfig(max_concurrency=1))

    async def three():
        calls = [asyncio.create_task(model.complete(request(seed=n))) for n in range(3)]
        await asyncio.sleep(0.01)
        calls[1].cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(three())
    assert first.text and third.text and isinstance(second, asyncio.CancelledError)
    assert chat_model.state == {"now": 0, "most": 1, "calls": 2}


def test_cancelling_one_call_harms_no_other():
    chat_model = counting(pause=0.05)
    model = LangChainModel(chat_model, remote=RemoteConfig(max_concurrency=1))

    async def two():
        first = asyncio.create_task(model.complete(request()))
        second = asyncio.create_task(model.complete(request()))
        await asyncio.sleep(0.01)
        first.cancel()
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = asyncio.run(two())
    assert isinstance(first, asyncio.CancelledError)
    assert second.text and chat_model.state["now"] == 0


def test_a_deadline_ends_the_call():
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"no answer within 0\.05 s") as caught:
        ask(LangChainModel(counting(pause=60.0)), deadline_s=0.05)
    assert caught.value.retryable and time.monotonic() - started < 30


def test_retryable_failures_are_repeated_and_others_are_not():
    chat_model = counting(failures=[ConnectionError("lost"), TimeoutError()])
    assert ask(LangChainModel(chat_model, remote=RemoteConfig(backoff_s=0.001))).text
    assert chat_model.state["calls"] == 3
    chat_model = counting(failures=[ConnectionError("lost")] * 9)
    with pytest.raises(BackendError, match="ConnectionError: lost") as caught:
        ask(LangChainModel(chat_model, remote=RemoteConfig(backoff_s=0.001, retries=2)))
    assert caught.value.retryable and chat_model.state["calls"] == 3
    chat_model = counting(failures=[ValueError("no")])
    with pytest.raises(BackendError, match="ValueError: no") as caught:
        ask(LangChainModel(chat_model, remote=RemoteConfig(backoff_s=0.001)))
    assert not caught.value.retryable and chat_model.state["calls"] == 1


def test_fingerprint_is_identity_without_secrets():
    base = LangChainModel(counting()).fingerprint
    assert base == LangChainModel(counting(api_key=SecretStr("another-key"))).fingerprint
    assert base != LangChainModel(counting(top_p=0.5)).fingerprint
    assert "counter" in base and KEY not in base
    assert LangChainModel(counting(), name="mine").fingerprint == "langchain:mine"
    servers = [
        LangChainModel(ChatOpenAI(model="m", api_key=KEY, base_url=url)).fingerprint
        for url in ("http://a.invalid/v1", "http://me:pass@a.invalid/v1", "http://b.invalid/v1")
    ]
    assert servers[0] == servers[1] != servers[2]
    assert "openai" in servers[0].lower() and "invalid" not in servers[0]


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        (f"Incorrect API key provided: {KEY}.", KEY),
        ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        ("GET https://host/v1?key=AbCdEf123&x=1", "AbCdEf123"),
        ("proxy http://user:hunter22@host failed", "hunter22"),
        ("the secret is plainwords", "plainwords"),
    ],
)
def test_keys_are_cut_out_of_messages(text, lost):
    clean = redact(text, frozenset({"plainwords"}))
    assert lost not in clean and "***" in clean
    assert redact("a harmless sentence about keys") == "a harmless sentence about keys"


def test_an_error_of_ours_is_left_alone():
    own = ModelError("mine")
    assert translate(own, "model") is own
