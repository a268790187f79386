"""The local engine on a tiny transformer: same words, whatever runs beside it."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflectory.errors import BackendError, ModelError, UserError
from reflectory.models.engine.failures import is_out_of_memory
from reflectory.models.engine.network import Network
from reflectory.models.engine.rendering import messages_of, prompt_text, render
from reflectory.models.engine.sampling import draw_tokens
from reflectory.models.engine.selection import Limits, choose, own_tokens
from reflectory.models.engine.work import CompletionRow, Job
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
from reflectory.models.thinking import split_thinking
from reflectory.testing.tiny import save_tiny_model, tiny_model

MODEL, TOKENIZER = tiny_model(0)
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


def endless(**settings_: Any) -> LocalModel:
    """A model that never says that it has finished."""
    model, tokenizer = tiny_model(0)
    model.generation_config.eos_token_id, tokenizer.eos_token = None, None
    return LocalModel(model, tokenizer, fingerprint="endless", **settings_)


def ask(model: LocalModel, *requests: Request) -> list[Completion]:
    """Ask all at once and close the model."""

    async def all_of_them() -> list[Completion]:
        try:
            return list(await asyncio.gather(*map(model.complete, requests)))
        finally:
            await model.aclose()

    return asyncio.run(all_of_them())


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


def test_cancelling_one_call_harms_no_other() -> None:
    stays = [request(f"stays {i}", tokens=40) for i in range(2)]

    async def run() -> tuple[list[Completion], dict[str, Any]]:
        model = endless(batch_invariant=False)
        running = [asyncio.create_task(model.complete(r)) for r in stays]
        goes = asyncio.create_task(model.complete(request("goes", tokens=1500)))
        await asyncio.sleep(0.05)
        goes.cancel()
        answers = await asyncio.gather(*running)
        with pytest.raises(asyncio.CancelledError):
            await goes
        # Its place is free again, and it is not counted.
        await asyncio.wait_for(model.complete(request("next", tokens=2)), timeout=5)
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


# Adapters


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A saved tiny model and an adapter for it."""
    from peft import LoraConfig, get_peft_model

    root = tmp_path_factory.mktemp("models")
    base = save_tiny_model(root / "base")
    model, _ = tiny_model(0)
    model.config._name_or_path = str(base)
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapted.save_pretrained(root / "adapter")
    return base, root / "adapter"


def load(base: Path, adapter: Path | None = None) -> LocalModel:
    return LocalModel.load(base, device="cpu", dtype="float32", adapter=adapter)


def test_an_adapter_changes_what_is_said(folders: tuple[Path, Path]) -> None:
    base, adapter = folders
    plain, adapted = load(base), load(base, adapter)
    assert adapted.fingerprint.startswith(plain.fingerprint + "+adapter@")
    assert plain.fingerprint.startswith("base@") and plain.fingerprint.endswith("/float32")
    (one,), (other,) = ask(plain, request("Why?")), ask(adapted, request("Why?"))
    assert one.text != other.text
    (batched,) = ask(
        LocalModel.load(
            base, device="cpu", dtype="float32", adapter=adapter, batch_invariant=False
        ),
        request("Why?"),
    )
    assert batched.text == other.text


def test_the_fingerprint_is_that_of_the_content(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = folders
    copy = shutil.copytree(base, tmp_path / base.name)
    moved = shutil.copytree(adapter, tmp_path / "elsewhere")
    assert load(copy, moved).fingerprint == load(base, adapter).fingerprint
    other = save_tiny_model(tmp_path / "other" / base.name, seed=1)
    assert load(other).fingerprint != load(base).fingerprint


def test_an_adapter_of_another_base_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = folders
    renamed = shutil.copytree(adapter, tmp_path / "renamed")
    config = json.loads((renamed / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/another-model"
    (renamed / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="another-model"):
        load(base, renamed)

    noted = shutil.copytree(renamed, tmp_path / "noted")
    note = {"base_fingerprint": load(base).fingerprint.replace("float32", "bfloat16")}
    (noted / "reflectory.json").write_text(json.dumps(note))
    assert "+adapter@" in load(base, noted).fingerprint
    (noted / "reflectory.json").write_text(json.dumps({"base_fingerprint": "base@0/float32"}))
    with pytest.raises(ModelError, match="base@0"):
        load(base, noted)


def test_an_adapter_of_another_shape_is_refused(folders: tuple[Path, Path]) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**{**MODEL.config.to_dict(), "hidden_size": 48})
    other = LlamaForCausalLM(config).eval()
    with pytest.raises(ModelError, match="does not fit"):
        LocalModel(other, TOKENIZER, fingerprint="base@1/float32", adapter=folders[1])


def test_missing_models_and_adapters_are_named(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter = folders
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source in (tmp_path / "nowhere", tmp_path, "no-such-owner/no-such-model"):
        with pytest.raises(ModelError, match=Path(source).name):
            LocalModel.load(source, device="cpu")
    with pytest.raises(ModelError, match="it is an adapter"):
        LocalModel.load(adapter, device="cpu")
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        load(base, tmp_path)
    pickled = shutil.copytree(adapter, tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load(base, pickled)


# Rendering, selection, thinking, the rest


def test_messages_join_segments() -> None:
    segments = (*SHARED, Segment(text="Why?"))
    assert messages_of(segments) == [
        {"role": "system", "content": SHARED[0].text},
        {"role": "user", "content": f"{SHARED[1].text}\n\nWhy?"},
    ]
    (folded,) = messages_of(segments, system_role=False)
    assert folded["content"].startswith(SHARED[0].text)


def test_a_template_without_system_role_gets_one_user_message() -> None:
    _, tokenizer = tiny_model()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}"
        "[{{ m['content'] | trim }}]{% endfor %}>"
    )
    assert prompt_text(tokenizer, (*SHARED, Segment(text="Why? "))) == (
        f"[{SHARED[0].text}\n\n{SHARED[1].text}\n\nWhy?]>"
    )
    tokenizer.chat_template = None
    assert prompt_text(tokenizer, (Segment(text="a"), Segment(text="b"))) == "a\n\nb\n"


@given(st.text(alphabet="abteh \n?", max_size=12), st.text(alphabet="abteh \n?", max_size=12))
@settings(max_examples=50, deadline=None)
def test_shared_tokens_are_the_same_in_every_call(one: str, other: str) -> None:
    first = render(TOKENIZER, (*SHARED, Segment(text=one)))
    second = render(TOKENIZER, (*SHARED, Segment(text=other)))
    count = first.shared_tokens
    assert count == second.shared_tokens > 0
    assert first.token_ids[:count] == second.token_ids[:count]
    assert SHARED[1].text[:-4] in TOKENIZER.decode(list(first.token_ids[:count]))


def test_thinking_templates_are_closed_for_prefills() -> None:
    _, tokenizer = tiny_model()
    tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    asked = (Segment(text="Why?"),)
    assert render(tokenizer, asked).thinking
    closed = render(tokenizer, asked, "It is")
    assert not closed.thinking
    assert TOKENIZER.decode(list(closed.token_ids)).endswith("<think>\n</think>\n\nIt is")


@pytest.mark.parametrize(
    ("text", "opened", "said", "thought"),
    [
        ("plain", False, "plain", ""),
        ("<think>a</think> b", False, "b", "a"),
        ("<think>a</think>b<think>c</think>", False, "b", "a\n\nc"),
        ("b <think>cut", False, "b", "cut"),
        ("a</think>b", False, "b", "a"),
        ("cut before the end", True, "", "cut before the end"),
        ("a</think>b", True, "b", "a"),
    ],
)
def test_thinking_is_kept_apart(text: str, opened: bool, said: str, thought: str) -> None:
    assert split_thinking(text, opened=opened) == (said, thought)


SIZES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 2)), min_size=1, max_size=12)


@given(SIZES, st.integers(1, 8), st.integers(50, 600))
@settings(max_examples=60, deadline=None)
def test_selection_keeps_its_limits_and_never_starves(
    sizes: list[tuple[int, int]], rows: int, tokens: int
) -> None:
    job = Job(request("x"))
    waiting = [
        CompletionRow(job=job, tokens=(kind,) * (size + 1), prefix_length=size, room=10)
        for size, kind in sizes
    ]
    chosen = choose(waiting, [], Limits(rows=rows, tokens=tokens), rows)
    assert chosen and chosen[0] is waiting[0]
    assert len(chosen) <= rows
    if len(chosen) > 1:
        held = sum(map(own_tokens, chosen)) + sum(map(len, {row.prefix for row in chosen}))
        assert held <= tokens


def test_it_is_a_model() -> None:
    model = local()
    assert isinstance(model, Model)
    assert model.capabilities == frozenset(Capability)
    with pytest.raises(UserError, match="max_batch"):
        local(max_batch=0)
