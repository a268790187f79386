"""The local engine on a tiny transformer: same words, whatever runs beside it."""

import asyncio
from itertools import count
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from engines import MODEL, TOKENIZER, ask, endless
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflectory.errors import BackendError, UserError
from reflectory.models.engine.failures import is_out_of_memory
from reflectory.models.engine.network import Network
from reflectory.models.engine.rendering import prompt_text
from reflectory.models.engine.sampling import draw_tokens
from reflectory.models.local import LocalModel
from reflectory.models.protocol import (
    Capability,
    Completion,
    Model,
    Request,
    SamplingParameters,
    ScoreRequest,
    Segment,
)

SHARED = (
    Segment(text="You answer from documents.", speaker="system", shared=True),
    Segment(text="Document 1: the crater is three million years old.", shared=True),
)


def request(
    text: str, *, tokens: int = 10, seed: int = 0, shared: bool = True, **how: Any
) -> Request:
    prefill = how.pop("prefill", "")
    deadline = how.pop("deadline_s", None)
    return Request(
        segments=(*(SHARED if shared else ()), Segment(text=text)),
        role="student.answer",
        sampling=SamplingParameters(max_tokens=tokens, **how),
        seed=seed,
        prefill=prefill,
        deadline_s=deadline,
    )


def local(**settings_: Any) -> LocalModel:
    return LocalModel(MODEL, TOKENIZER, fingerprint="tiny@0/float32", **settings_)


def generate(prompt: str, tokens: int) -> str:
    """What transformers itself says, greedily."""
    ids = torch.tensor([TOKENIZER(prompt, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        out = MODEL.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
        )
    return str(TOKENIZER.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


# Completions


@pytest.mark.parametrize("invariant", [True, False])
def test_greedy_equals_generate(invariant: bool) -> None:
    questions = ["Why?", "How old is the crater, and who says so?", "x" * 70]
    requests = [request(q, tokens=6 + 7 * i) for i, q in enumerate(questions)]
    said = ask(local(batch_invariant=invariant), *requests)
    for one, answer in zip(requests, said, strict=True):
        prompt = prompt_text(TOKENIZER, one.segments)
        assert answer.text == generate(prompt, one.sampling.max_tokens)


def test_float32_runs_alone_by_default_and_gives_the_same_bits() -> None:
    score = ScoreRequest(segments=request("Why?").segments, continuations=("ab", "c"), role="g")

    async def run(others: int) -> Any:
        model = local()
        noise = [model.complete(request(f"noise {i}")) for i in range(others)]
        scores, *_ = await asyncio.gather(model.score(score), *noise)
        await model.aclose()
        return scores.continuations

    assert asyncio.run(run(0)) == asyncio.run(run(5))


ROWS = st.lists(
    st.tuples(
        st.text(alphabet="abcdeth .?", min_size=1, max_size=50),
        st.integers(min_value=1, max_value=12),
        st.booleans(),
        st.sampled_from([0.0, 0.8]),
        st.sampled_from([1.0, 0.7]),
        st.integers(min_value=0, max_value=2**31),
    ),
    min_size=2,
    max_size=7,
)


@given(ROWS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_completion_does_not_depend_on_its_batch(rows: list[tuple[Any, ...]]) -> None:
    requests = [
        request(text, tokens=n, shared=shared, temperature=heat, top_p=top_p, seed=seed)
        for text, n, shared, heat, top_p, seed in rows
    ]
    together = ask(local(batch_invariant=False), *requests)
    alone = ask(local(batch_invariant=True), *requests)
    assert [c.text for c in together] == [c.text for c in alone]


def test_late_calls_join_a_running_batch() -> None:
    early = [request(f"early {i}", tokens=60) for i in range(3)]
    late = [request(f"late, and longer {i}", tokens=20, shared=i > 0) for i in range(3)]

    async def run() -> list[Completion]:
        model = local(batch_invariant=False)
        first = [asyncio.create_task(model.complete(r)) for r in early]
        await asyncio.sleep(0.03)
        second = [asyncio.create_task(model.complete(r)) for r in late]
        answers = await asyncio.gather(*first, *second)
        await model.aclose()
        return list(answers)

    alone = ask(local(), *early, *late)
    assert [c.text for c in asyncio.run(run())] == [c.text for c in alone]


def test_prefix_cache_changes_nothing_but_the_work() -> None:
    requests = [request(q) for q in ("Why?", "Who?", "When?")]
    kept = ask(local(batch_invariant=False, max_batch=1), *requests)
    dropped = ask(local(batch_invariant=False, max_batch=1, cache_bytes=0), *requests)
    assert [c.text for c in kept] == [c.text for c in dropped]
    assert [c.usage.reused_tokens > 20 for c in kept] == [False, True, True]
    assert not any(c.usage.reused_tokens for c in dropped)


def test_a_longer_prefix_builds_on_a_shorter_one() -> None:
    longer = Request(
        segments=(*SHARED, Segment(text="Instruction: explain.", shared=True), Segment(text="Go")),
        role="r",
        sampling=SamplingParameters(max_tokens=8),
    )
    model = local(batch_invariant=False, max_batch=1)
    _, extended = ask(model, request("Why?"), longer)
    (fresh,) = ask(local(), longer)
    assert extended.text == fresh.text
    assert 0 < extended.usage.reused_tokens < extended.usage.prompt_tokens
    assert fresh.usage.reused_tokens == 0


def test_seed_decides_the_draw() -> None:
    how = {"temperature": 1.5, "tokens": 12}
    first, again, other = ask(
        local(),
        request("Why?", seed=1, **how),
        request("Why?", seed=1, **how),
        request("Why?", seed=2, **how),
    )
    assert first.text == again.text != other.text


def test_a_stop_string_ends_the_text_before_it() -> None:
    (free,) = ask(local(), request("Why?", tokens=30))
    stop = free.text[8:10]
    (cut,) = ask(local(), request("Why?", tokens=30, stop=(stop, "never there")))
    assert cut.text == free.text[: free.text.index(stop)].strip()
    assert cut.finish == "stop"
    assert cut.usage.completion_tokens < free.usage.completion_tokens
    assert free.finish == "length"


def test_prefill_begins_the_text() -> None:
    one = request("Why?", prefill="Because of", tokens=5)
    (answer,) = ask(local(), one)
    prompt = prompt_text(TOKENIZER, one.segments) + "Because of"
    assert answer.text.startswith("Because of")
    assert answer.text.removeprefix("Because of").strip() == generate(prompt, 5)


def test_repetition_penalty_counts_generated_tokens_only() -> None:
    logits = torch.tensor([[2.0, 1.9, -1.0]])
    how, rng = SamplingParameters(repetition_penalty=1.2), torch.Generator()
    assert draw_tokens(logits.clone(), [how], [[]], [rng]).tokens == [0]
    assert draw_tokens(logits.clone(), [how], [[0]], [rng]).tokens == [1]


@given(st.integers(0, 2**31), st.sampled_from([0.3, 0.6, 0.9]))
@settings(max_examples=30, deadline=None)
def test_a_draw_comes_from_the_nucleus(seed: int, top_p: float) -> None:
    logits = torch.randn(1, 400, generator=torch.Generator().manual_seed(seed)) * 3
    how = SamplingParameters(temperature=1.0, top_p=top_p)
    (token,) = draw_tokens(
        logits.clone(), [how], [[]], [torch.Generator().manual_seed(seed)]
    ).tokens
    probabilities = logits[0].double().softmax(-1)
    likelier = probabilities[probabilities > probabilities[token]].sum()
    assert float(likelier) < top_p


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0]])
    rng = torch.Generator().manual_seed(0)
    how = SamplingParameters(temperature=1.0)
    draws = [draw_tokens(logits.clone(), [how], [[]], [rng]).tokens[0] for _ in range(3000)]
    frequencies = np.bincount(draws, minlength=3) / len(draws)
    assert np.allclose(frequencies, torch.softmax(logits[0], -1).numpy(), atol=0.03)


# Scores


@pytest.mark.parametrize("invariant", [True, False])
def test_scores_equal_a_direct_forward_pass(invariant: bool) -> None:
    texts = ("three million years", "no", "It is not known how old it is.")
    segments = request("How old is it?").segments

    async def run() -> Any:
        model = local(batch_invariant=invariant)
        both = await asyncio.gather(
            model.score(ScoreRequest(segments=segments, continuations=texts, role="g")),
            model.score(ScoreRequest(segments=segments, continuations=texts[:1], role="g")),
        )
        await model.aclose()
        return both

    three, one = asyncio.run(run())
    prompt = TOKENIZER(prompt_text(TOKENIZER, segments), add_special_tokens=False)["input_ids"]
    for text, scores in zip(texts, three.continuations, strict=True):
        tokens = TOKENIZER(text, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = MODEL(torch.tensor([prompt + tokens])).logits[0]
        expected = logits[len(prompt) - 1 : -1].log_softmax(-1)[range(len(tokens)), tokens]
        assert np.allclose(scores.logprobs, expected.numpy(), atol=1e-4)
    assert np.allclose(one.continuations[0].logprobs, three.continuations[0].logprobs, atol=1e-4)


@pytest.mark.parametrize("continuations", [(), ("fine", "")])
def test_nothing_to_score_is_refused(continuations: tuple[str, ...]) -> None:
    async def run() -> None:
        model = local()
        try:
            await model.score(ScoreRequest(segments=SHARED, continuations=continuations, role="g"))
        finally:
            await model.aclose()

    with pytest.raises(UserError):
        asyncio.run(run())


# Failures


def hold_up(model: LocalModel, after: int) -> tuple[Event, Event]:
    """Let so many passes through; return who says that they were, and who frees the others."""
    network = model._engine._network
    assert network is not None
    inner, passes = network.forward, count(1)
    begun, free = Event(), Event()

    def forward(*arguments: Any) -> torch.Tensor:
        if next(passes) > after:
            begun.set()
            assert free.wait(60)
        return inner(*arguments)

    network.forward = forward  # type: ignore[method-assign]
    return begun, free


def test_cancelling_one_call_harms_no_other() -> None:
    stays = [request(f"stays {i}", tokens=40) for i in range(2)]

    async def run() -> tuple[list[Completion], dict[str, Any]]:
        model = endless(batch_invariant=False)
        begun, gone = hold_up(model, after=5)
        running = [asyncio.create_task(model.complete(r)) for r in stays]
        goes = asyncio.create_task(model.complete(request("goes", tokens=1500)))
        await asyncio.to_thread(begun.wait, 60)
        goes.cancel()
        gone.set()
        answers = await asyncio.gather(*running)
        with pytest.raises(asyncio.CancelledError):
            await goes
        # Its place is free again, and it is not counted.
        await asyncio.wait_for(model.complete(request("next", tokens=2)), timeout=60)
        stats = model.stats()
        await model.aclose()
        return list(answers), stats

    answers, stats = asyncio.run(run())
    assert [c.text for c in answers] == [c.text for c in ask(endless(), *stays)]
    assert stats["student.answer"].calls == 3
    assert stats["student.answer"].completion_tokens == 82


def test_a_prompt_that_is_too_long_fails_alone() -> None:
    async def run() -> list[Any]:
        model = local(batch_invariant=False)
        calls = (request("x" * 3000), request("fine"))
        done = await asyncio.gather(*map(model.complete, calls), return_exceptions=True)
        await model.aclose()
        return done

    failed, fine = asyncio.run(run())
    assert isinstance(failed, UserError)
    assert "2048" in str(failed) and "context_tokens" in failed.hint
    assert isinstance(fine, Completion)


def test_a_deadline_is_a_retryable_error() -> None:
    with pytest.raises(BackendError, match="within") as caught:
        ask(endless(), request("Why?", tokens=1900, deadline_s=0.05))
    assert caught.value.retryable


def test_a_closed_model_refuses_calls_and_fails_those_that_run() -> None:
    async def run() -> None:
        model = endless()
        call = asyncio.create_task(model.complete(request("Why?", tokens=1900)))
        await asyncio.sleep(0.05)
        await model.aclose()
        await model.aclose()
        for dead in (call, model.complete(request("Why?"))):
            with pytest.raises(BackendError, match="closed") as caught:
                await dead
            assert not caught.value.retryable

    asyncio.run(run())


class Cramped:
    """A network that runs out of memory with more than so many tokens in a pass."""

    def __init__(self, inner: Network, most: int) -> None:
        self.inner, self.most, self.widest = inner, most, 0
        self.shape, self.layer_names = inner.shape, inner.layer_names

    def forward(self, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(ids) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.widest = max(self.widest, len(ids))
        return self.inner.forward(ids, *rest)


def cramped(most: int) -> tuple[LocalModel, Cramped]:
    model = local(batch_invariant=False)
    assert model._engine._network is not None
    network = model._engine._network = Cramped(model._engine._network, most)
    return model, network


def test_out_of_memory_halves_what_runs_together() -> None:
    requests = [request(f"Question {i}?") for i in range(8)]
    model, network = cramped(most=140)
    answers = ask(model, *requests)
    assert [c.text for c in answers] == [c.text for c in ask(local(), *requests)]
    assert 50 < network.widest <= 140


def test_out_of_memory_with_one_sequence_is_an_error() -> None:
    model, _ = cramped(most=5)
    with pytest.raises(BackendError, match="out of memory") as caught:
        ask(model, request("Why?"))
    assert not caught.value.retryable
    assert is_out_of_memory(caught.value.__cause__ or caught.value)


def test_it_is_a_model() -> None:
    model = local()
    assert isinstance(model, Model)
    assert model.capabilities == frozenset(Capability)
    with pytest.raises(UserError, match="max_batch"):
        local(max_batch=0)
