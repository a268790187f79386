"""vLLM in process, as far as it goes without vLLM: the refusal, and what an engine is asked.

The stand-in below is no test of vLLM; it only keeps what it is given.
"""

import asyncio
import sys
from types import ModuleType, SimpleNamespace

import pytest
from test_server_lora import save_adapter

from reflectory.errors import BackendError, ModelError, UserError
from reflectory.models.adapter_files import read_adapter
from reflectory.models.protocol import (
    Capability,
    Model,
    Request,
    SamplingParameters,
    ScoreRequest,
    Segment,
)
from reflectory.models.resolve import resolve_model
from reflectory.testing.tiny import save_tiny_model

SEGMENTS = (Segment(text="Be brief.", speaker="system"), Segment(text="Why?"))


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.delenv("REFLECTORY_FORBID_MODELS")


def test_without_the_package_the_server_is_named_as_the_way(allowed):
    with pytest.raises(ModelError, match="needs the package vllm") as caught:
        resolve_model("vllm:some/model")
    assert "vllm serve" in caught.value.hint and "openai:some/model" in caught.value.hint


def test_it_is_a_real_model_and_forbidden_in_tests():
    with pytest.raises(ModelError, match="REFLECTORY_FORBID_MODELS"):
        resolve_model("vllm:some/model")
    with pytest.raises(ModelError, match="is no model"):
        resolve_model("vllm:")


class StandIn:
    """Keeps what the engine is asked, and says one word."""

    def __init__(self, options):
        self.options, self.asked, self.cancelled, self.ended = options, [], 0, 0
        self.pause = 0.0
        self.model_config = SimpleNamespace(max_model_len=200, dtype="torch.bfloat16")

    async def generate(self, prompt, params, request_id, *, lora_request=None):
        tokens = prompt["prompt_token_ids"]
        self.asked.append((tokens, params, request_id, lora_request))
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        logprobs = [None, *({t: SimpleNamespace(logprob=-float(t))} for t in tokens[1:])]
        said = SimpleNamespace(text=" said", token_ids=[1, 2], finish_reason="length")
        yield SimpleNamespace(outputs=[said], prompt_logprobs=logprobs, num_cached_tokens=3)

    def shutdown(self):
        self.ended += 1


@pytest.fixture
def made(monkeypatch, allowed):
    """The engines that were made while a stand-in took the place of the package."""
    engines = []

    def from_engine_args(options):
        engines.append(StandIn(options))
        return engines[-1]

    package, lora = ModuleType("vllm"), ModuleType("vllm.lora.request")
    package.__spec__ = SimpleNamespace(name="vllm")
    package.AsyncEngineArgs = package.SamplingParams = dict
    package.AsyncLLMEngine = SimpleNamespace(from_engine_args=from_engine_args)
    lora.LoRARequest = lambda *given: given
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.lora.request", lora)
    return engines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def run(model, work):
    async def main():
        try:
            return await work
        finally:
            await model.aclose()

    return asyncio.run(main())


def test_a_request_becomes_tokens_and_sampling_parameters(made, folder):
    model = resolve_model(f"vllm:{folder}", dtype="bfloat16")
    assert isinstance(model, Model) and model.context_window == 200
    assert model.capabilities == frozenset(Capability) - {Capability.SEED}
    assert model.fingerprint.startswith("vllm:tiny@") and model.fingerprint.endswith("/bfloat16")
    sampling = SamplingParameters(
        max_tokens=9, temperature=0.5, top_p=0.9, repetition_penalty=1.1, stop=("\n",)
    )
    request = Request(segments=SEGMENTS, role="r", sampling=sampling, seed=7, prefill="Because")
    completion = run(model, model.complete(request))
    assert (completion.text, completion.finish) == ("Because said", "length")
    usage = completion.usage
    (engine,) = made
    ((tokens, params, _, lora),) = engine.asked
    assert (usage.prompt_tokens, usage.reused_tokens, usage.completion_tokens) == (
        len(tokens),
        3,
        2,
    )
    assert params == {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "stop": ["\n"],
        "seed": 7,
    }
    text = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nBecause"
    assert lora is None
    assert model._tokenizer.decode(tokens).endswith(text)
    assert engine.options["dtype"] == "bfloat16" and engine.ended == 1


def test_base_and_adapters_share_an_engine_and_differ_by_lora_request(made, folder, tmp_path):
    folders = [save_adapter(tmp_path / name, seed) for seed, name in enumerate("ab")]
    plain = resolve_model(f"vllm:{folder}")
    adapted = [resolve_model(f"vllm:{folder}", adapter=adapter) for adapter in folders]
    for model in (plain, *adapted):
        run(model, model.complete(Request(segments=SEGMENTS, role="r")))
        run(model, asyncio.sleep(0))  # closing twice is closing once
    (engine,) = made
    assert engine.options["enable_lora"] and engine.ended == 1
    none, one, other = [lora for *_, lora in engine.asked]
    assert none is None and one[0] == read_adapter(folders[0]).name and one[2] == str(folders[0])
    assert one[1] != other[1] and min(one[1], other[1]) > 0
    assert len({plain.fingerprint, *(model.fingerprint for model in adapted)}) == 3
    with pytest.raises(ModelError, match="was closed"):
        asyncio.run(plain.complete(Request(segments=SEGMENTS, role="r")))
    with pytest.raises(ModelError, match="has rank 128"):
        resolve_model(f"vllm:{folder}", adapter=save_adapter(tmp_path / "wide", rank=128))


def test_scores_are_those_of_the_continuations_tokens(made, folder):
    model = resolve_model(f"vllm:{folder}")
    request = ScoreRequest(segments=SEGMENTS, continuations=("yes", "no"), role="g")
    expected = [[-float(t) for t in model._tokens(text)] for text in request.continuations]
    scores = run(model, model.score(request))
    assert [list(s.logprobs) for s in scores.continuations] == expected
    for tokens, params, *_ in made[0].asked:
        assert params["prompt_logprobs"] == 0 and params["max_tokens"] == 1
        assert len(tokens) > 20


def test_deadlines_limits_and_empty_scores(made, folder):
    model = resolve_model(f"vllm:{folder}")
    made[0].pause = 5.0

    async def all_of_it():
        with pytest.raises(BackendError, match="no answer within"):
            await model.complete(Request(segments=SEGMENTS, role="r", deadline_s=0.05))
        with pytest.raises(UserError, match="exceeds the context window"):
            long = (Segment(text="word " * 200),)
            await model.complete(Request(segments=long, role="r"))
        for nothing in ((), ("",)):
            with pytest.raises(UserError, match="nothing to score"):
                await model.score(ScoreRequest(segments=SEGMENTS, continuations=nothing, role="g"))
        await asyncio.sleep(0.05)

    run(model, all_of_it())
    assert made[0].cancelled == 1  # the engine stops what nobody waits for
