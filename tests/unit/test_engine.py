"""The engine's parts: the prefix tree, packed passes, adapters, sleep, random schedules."""

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflectory.errors import BackendError, ModelError
from reflectory.models.engine.attention import attend, merge
from reflectory.models.engine.batch import Batch
from reflectory.models.engine.generic import GenericNetwork
from reflectory.models.engine.llama import LlamaNetwork, llama_network
from reflectory.models.engine.passes import Pass, Piece, Seat
from reflectory.models.engine.quantized import QuantizedParts, QuantizedProduct
from reflectory.models.engine.rendering import render
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import Node, PrefixTree, hold
from reflectory.models.engine.trial import network_for
from reflectory.models.engine.work import Counts
from reflectory.models.local import LocalModel
from reflectory.models.protocol import (
    Completion,
    Request,
    SamplingParameters,
    ScoreRequest,
    Segment,
)
from reflectory.testing.tiny import save_tiny_model, tiny_model

MODEL, TOKENIZER = tiny_model(0)
SYSTEM = Segment(text="You answer from documents.", speaker="system", shared=True)


def request(text: str, document: str = "ab cd", *, tokens: int = 8, **how: Any) -> Request:
    return Request(
        segments=(SYSTEM, Segment(text=document, shared=True), Segment(text=text)),
        role="student.answer",
        sampling=SamplingParameters(max_tokens=tokens, **how),
    )


# The tree

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=10)


def filled(node: Node) -> None:
    for one in node.ancestry():
        if one.kv is None:
            one.kv = [torch.tensor(one.tokens)[:, None, None, None].float()]


@given(PROMPTS)
def test_every_prefix_is_held_once_and_whole(prompts: list[list[int]]) -> None:
    tree = PrefixTree(limit_bytes=2**40)
    ends = []
    for prompt in prompts:
        node = tree.insert(prompt)
        filled(node)
        ends.append(node)
    trie = {tuple(p[: i + 1]) for p in prompts for i in range(len(p))}
    assert sum(len(node.tokens) for node in tree.nodes()) == len(trie)
    for prompt, node in zip(prompts, ends, strict=True):
        # A later split may have cut the node; its end stays where it was.
        runs = [torch.cat([r.kv[0][:, 0, 0, 0]]) for r in reversed(node.runs())]
        assert torch.cat(runs).long().tolist() == prompt


@given(PROMPTS, st.integers(0, 30), st.data())
def test_trimming_keeps_what_is_in_use(
    prompts: list[list[int]], limit: int, data: st.DataObject
) -> None:
    tree = PrefixTree(limit_bytes=limit * 4)
    ends = [tree.insert(prompt) for prompt in prompts]
    for node in ends:
        filled(node)
    used = data.draw(st.sampled_from(ends))
    hold(used, 1)
    tree.trim()
    present = set(tree.nodes())
    assert set(used.ancestry()) <= present
    assert tree.nbytes <= max(limit * 4, used.end * 4)
    hold(used, -1)
    assert all(node.users == 0 for node in present)


def test_the_least_recently_used_goes_first() -> None:
    tree = PrefixTree(limit_bytes=2 * 4)
    for prompt in ([1], [2], [1], [3]):
        filled(tree.insert(prompt))
        tree.trim()
    assert {int(node.tokens[0]) for node in tree.nodes()} == {1, 3}


# Attention and passes


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_of_attention_add_up(
    plain: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr("reflectory.models.engine.attention._FLASH", None)
        monkeypatch.setattr("reflectory.models.engine.attention._MOST_SCORES", 50)
    rng = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=rng).to(dtype) for n in (5, 40, 40))
    whole = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    first = attend(q, k[:, :, :13], v[:, :, :13], 8**-0.5)
    hidden = torch.zeros(2, 1, 1, 30)
    hidden[..., 27:] = -torch.inf
    more = torch.nn.functional.pad(k[:, :, 13:], (0, 0, 0, 3))
    second = attend(
        q, more, torch.nn.functional.pad(v[:, :, 13:], (0, 0, 0, 3)), 8**-0.5, bias=hidden.to(dtype)
    )
    joined, _ = merge(first, second)
    assert torch.allclose(joined.float(), whole, atol=1e-5 if dtype == torch.float32 else 0.03)


NETWORKS = {
    "llama": lambda: llama_network(tiny_model(0)[0]),
    "generic": lambda: GenericNetwork(tiny_model(0)[0]),
}


@pytest.mark.parametrize("kind", NETWORKS)
@given(
    prompts=st.lists(st.lists(st.integers(4, 9), min_size=2, max_size=14), min_size=1, max_size=5)
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_packed_pass_is_many_plain_ones(kind: str, prompts: list[list[int]]) -> None:
    """Prompts that share beginnings, read together and continued, against the model itself."""
    network = NETWORKS[kind]()
    tree, store = PrefixTree(limit_bytes=2**40), RowStore(network.shape)
    passes = Pass(network, store)
    with torch.inference_mode():
        nodes = [tree.insert(prompt) for prompt in prompts]
        unread = {id(n): n for node in nodes for n in node.ancestry() if n.kv is None}
        pieces = [
            Piece(n.tokens.tolist(), n.start, n.parent, n, keep=True) for n in unread.values()
        ]
        _, logits = passes.run((), (), pieces)
        passes.seat([Seat(store.add(4), node) for node in nodes])
        for more in range(2):
            places = [len(prompt) + more for prompt in prompts]
            written, _ = passes.run([5 + more] * len(prompts), places)
            for prompt, row in zip(prompts, written, strict=True):
                said = MODEL(torch.tensor([[*prompt, *range(5, 6 + more)]])).logits[0, -1]
                assert torch.allclose(row, said, atol=1e-4)
        for piece, found in zip(pieces, logits, strict=True):
            assert piece.node is not None
            before = [t for n in piece.node.ancestry() for t in n.tokens.tolist()]
            said = MODEL(torch.tensor([before])).logits[0, -len(piece.tokens) :]
            assert torch.allclose(found, said, atol=1e-4)


def test_a_slot_that_is_freed_takes_over_the_last_row() -> None:
    network = llama_network(MODEL)
    store = RowStore(network.shape)
    shape = (1, 2, network.shape.kv_heads, network.shape.width)
    for row in range(3):
        store.add(2 + row)
    for row in range(3):
        for layer in range(network.shape.layers):
            store.write(
                layer,
                store.places([row]) if layer == 0 else torch.tensor([row * 64]),
                torch.full(shape, float(row)),
            )
    assert store.remove(0) == 2
    keys, values = store.read(0)
    assert keys.shape[0] == 2
    assert keys[0, 0, 0, 0] == 2 and values[1, 0, 0, 0] == 1


# Which network runs what


def test_the_network_is_found_by_trial() -> None:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        MistralConfig,
        MistralForCausalLM,
        Phi3Config,
        Phi3ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    sizes = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    assert isinstance(network_for(Qwen3ForCausalLM(Qwen3Config(**sizes)).eval()), LlamaNetwork)
    assert isinstance(network_for(Phi3ForCausalLM(Phi3Config(**sizes)).eval()), GenericNetwork)
    sliding = MistralForCausalLM(MistralConfig(**sizes, sliding_window=16)).eval()
    assert network_for(sliding) is None
    old = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4)).eval()
    network = network_for(old)
    assert network is None or isinstance(network, GenericNetwork)


@pytest.mark.parametrize("window", [None, 12])
def test_a_sliding_window_is_generated_as_transformers_does(window: int | None) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=2,
    )
    model = MistralForCausalLM(config).eval()
    local = LocalModel(model, TOKENIZER, fingerprint="m@0/float32", batch_invariant=False)
    assert local._engine.packed is (window is None)
    calls = [request(f"Why {i}?") for i in range(3)]
    said = ask(local, *calls)
    for call, answer in zip(calls, said, strict=True):
        ids = torch.tensor([render(TOKENIZER, call.segments).token_ids])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )
        text = TOKENIZER.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert answer.text == text


def ask(model: LocalModel, *requests: Request) -> list[Completion]:
    async def all_of_them() -> list[Completion]:
        try:
            return list(await asyncio.gather(*map(model.complete, requests)))
        finally:
            await model.aclose()

    return asyncio.run(all_of_them())


# Integers


def test_integers_multiply_the_same_in_any_company() -> None:
    rng = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(40, 24, generator=rng), torch.randn(40, generator=rng)
    x = torch.randn(70, 24, generator=rng) * torch.rand(70, 1, generator=rng)
    x[3] = 0
    wanted = x @ weight.T + bias
    errors = []
    for digits in (1, 2):
        product = QuantizedProduct(weight, bias, digits=digits)
        together = product(x)
        for count in (1, 2, 5, 33):
            assert torch.equal(product(x[:count].clone()), together[:count])
        errors.append(float((together - wanted).abs().mean()))
    assert errors[1] < errors[0] < 0.05 * float(wanted.std())
    normed = QuantizedProduct(weight, epsilon=1e-5)(x[:3])
    root = (x[:3].square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    assert torch.allclose(normed, x[:3] * root @ weight.T, atol=0.25)


def test_a_quantised_network_is_nearly_the_model(folders: tuple[Path, Path, Path]) -> None:
    from peft import PeftModel

    from reflectory.models.adapter_files import read_adapter
    from reflectory.models.engine.adapters import read_lora

    model, _ = tiny_model(0)
    network = llama_network(model, QuantizedParts(model))
    config = read_adapter(folders[1]).config
    low = read_lora(
        folders[1] / "adapter_model.safetensors", config, torch.float32, torch.device("cpu")
    )
    assert low is not None
    network.add_adapter("a", low)
    store = RowStore(network.shape)
    ids = list(range(10, 40))
    with torch.inference_mode():
        for adapter in ("", "a"):
            reference = tiny_model(0)[0]
            if adapter:
                reference = PeftModel.from_pretrained(reference, str(folders[1]))
            wanted = reference(torch.tensor([ids])).logits[0]
            _, (found,) = Pass(network, store).run(
                (), (), [Piece(ids, 0, None, keep=True, adapter=adapter)]
            )
            assert float((found - wanted).abs().mean()) < 0.05 * float(wanted.std())


# Adapters and sleep


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A saved tiny model and two adapters for it."""
    from peft import LoraConfig, get_peft_model

    root = tmp_path_factory.mktemp("models")
    base = save_tiny_model(root / "base")
    for number, extra in enumerate(
        ({}, {"use_rslora": True, "alpha_pattern": {"q_proj": 3}, "rank_pattern": {"v_proj": 2}})
    ):
        model, _ = tiny_model(0)
        model.config._name_or_path = str(base)
        torch.manual_seed(number)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", **extra))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        adapted.save_pretrained(root / f"adapter{number}")
    return base, root / "adapter0", root / "adapter1"


def load(base: Path, **settings_: Any) -> LocalModel:
    return LocalModel.load(base, device="cpu", dtype="float32", batch_invariant=False, **settings_)


def with_peft(base: Path, adapter: Path, call: Request) -> str:
    """What PEFT itself says."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    ids = torch.tensor([render(TOKENIZER, call.segments).token_ids])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=call.sampling.max_tokens,
        do_sample=False,
    )
    return str(TOKENIZER.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def test_base_and_adapters_run_together_on_one_engine(folders: tuple[Path, Path, Path]) -> None:
    base = load(folders[0])
    first, second = base.with_adapter(folders[1]), base.with_adapter(folders[2])
    calls = [request(f"Why {i}?", tokens=5 + i) for i in range(3)]

    async def run() -> list[str]:
        models = (base, first, second)
        said = await asyncio.gather(*(m.complete(c) for c in calls for m in models))
        await base.aclose()
        again = await first.complete(calls[0])  # one of them was closed, the engine was not
        await first.aclose()
        await second.aclose()
        return [one.text for one in (*said, again)]

    said = asyncio.run(run())
    (plain,) = ask(load(folders[0]), calls[0])
    assert said[0] == plain.text
    assert said[9] == said[1]
    for i, call in enumerate(calls):
        assert said[3 * i + 1] == with_peft(folders[0], folders[1], call)
        assert said[3 * i + 2] == with_peft(folders[0], folders[2], call)
    assert len({base.fingerprint, first.fingerprint, second.fingerprint}) == 3


@pytest.mark.parametrize("kind", ["dora", "ia3"])
def test_other_adapters_get_an_engine_of_their_own(
    folders: tuple[Path, Path, Path], tmp_path: Path, kind: str
) -> None:
    from peft import IA3Config, LoraConfig, get_peft_model

    config = {
        "dora": LoraConfig(r=2, target_modules=["q_proj"], use_dora=True),
        "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    }[kind]
    model, _ = tiny_model(0)
    model.config._name_or_path = str(folders[0])
    torch.manual_seed(0)
    adapted = get_peft_model(model, config)
    for name, weight in adapted.named_parameters():
        if weight.requires_grad and "magnitude" not in name:
            torch.nn.init.normal_(weight, mean=1.0, std=0.3)
    adapted.save_pretrained(tmp_path)
    base = load(folders[0])
    call = request("Why?", tokens=6)
    other = base.with_adapter(tmp_path)
    assert other._engine is not base._engine
    (said,) = ask(other, call)
    assert said.text == with_peft(folders[0], tmp_path, call)
    asyncio.run(base.aclose())


def test_an_adapter_for_the_head_is_not_lost(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    model, _ = tiny_model(0)
    model.config._name_or_path = str(folders[0])
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=1.0)
    adapted.save_pretrained(tmp_path)
    call = request("Why?")
    (said,) = ask(load(folders[0], adapter=tmp_path), call)
    assert said.text == with_peft(folders[0], tmp_path, call)


def test_a_bad_adapter_leaves_the_base_open(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base = load(folders[0])
    broken = shutil.copytree(folders[1], tmp_path / "broken")
    (broken / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        base.with_adapter(broken)
    (said,) = ask(base, request("Why?"))
    assert said.finish in {"stop", "length"}


def test_a_model_sleeps_and_wakes_with_its_adapters(folders: tuple[Path, Path, Path]) -> None:
    base = load(folders[0])
    adapted = base.with_adapter(folders[1])
    calls = [request("Why?"), request("Who?")]

    async def run() -> tuple[list[str], list[str]]:
        before = [(await m.complete(c)).text for m in (base, adapted) for c in calls]
        await asyncio.to_thread(base.sleep)
        assert base._engine._network is None
        after = [(await m.complete(c)).text for m in (base, adapted) for c in calls]
        await base.aclose()
        await adapted.aclose()
        return before, after

    before, after = asyncio.run(run())
    assert before == after


# Whatever comes, in whatever order

SCHEDULE = st.lists(
    st.tuples(
        st.text(alphabet="abcdeth .?", min_size=1, max_size=30),
        # Longer than what a node copies of its parent, and than what a row copies of a node.
        st.sampled_from(["ab cd", "ab ce" * 9, "the end", "a long one " * 60]),
        st.integers(1, 12),
        st.sampled_from([0.0, 0.9]),
        st.integers(0, 2),  # base or adapter
        st.integers(0, 3),  # moments to wait before it is asked
        st.sampled_from(["stay", "stay", "stay", "cancel", "score"]),
    ),
    min_size=1,
    max_size=9,
)


@given(SCHEDULE)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_call_depends_on_the_others(
    folders: tuple[Path, Path, Path], schedule: list[tuple[Any, ...]]
) -> None:
    calls = [
        ScoreRequest(segments=request(text, document).segments, continuations=(text,), role="g")
        if fate == "score"
        else request(text, document, tokens=n, temperature=heat)
        for text, document, n, heat, _, _, fate in schedule
    ]

    async def together() -> list[Any]:
        base = load(folders[0], max_batch=4, cache_bytes=40_000)
        models = (base, base.with_adapter(folders[1]), base.with_adapter(folders[2]))

        async def one(call: Any, who: int, moments: int, fate: str) -> Any:
            await asyncio.sleep(0.002 * moments)
            if fate == "score":
                return await models[who].score(call)
            task = asyncio.create_task(models[who].complete(call))
            if fate == "cancel":
                await asyncio.sleep(0.004)
                task.cancel()
            return (await asyncio.gather(task, return_exceptions=True))[0]

        found = await asyncio.gather(
            *(one(c, s[4], s[5], s[6]) for c, s in zip(calls, schedule, strict=True))
        )
        for model in models:
            await model.aclose()
        return list(found)

    async def alone() -> list[Any]:
        base = LocalModel.load(folders[0], device="cpu", dtype="float32")
        models = (base, base.with_adapter(folders[1]), base.with_adapter(folders[2]))
        found = [
            await (models[s[4]].score(c) if s[6] == "score" else models[s[4]].complete(c))
            for c, s in zip(calls, schedule, strict=True)
        ]
        for model in models:
            await model.aclose()
        return found

    for got, wanted, step in zip(
        asyncio.run(together()), asyncio.run(alone()), schedule, strict=True
    ):
        if step[6] == "score":
            got, wanted = got.continuations[0].logprobs, wanted.continuations[0].logprobs
            assert np.allclose(got, wanted, atol=1e-3)
        elif not isinstance(got, asyncio.CancelledError):
            assert got.text == wanted.text


def test_what_is_read_is_the_trie_of_all_prompts() -> None:
    shuffled = random.Random(0)
    calls = [request(f"Level {i}: why?", f"document {d} " * 8) for d in range(3) for i in range(4)]
    shuffled.shuffle(calls)
    model = LocalModel(MODEL, TOKENIZER, fingerprint="t", batch_invariant=False)
    said = ask(model, *calls, *calls[:2])
    prompts = [render(TOKENIZER, call.segments).token_ids for call in calls]
    trie = {prompt[: i + 1] for prompt in prompts for i in range(len(prompt))}
    read = int(model.engine_stats()["prefilled"])
    # The last token of a prompt is read by each row for itself.
    assert len(trie) <= read <= len(trie) + len(said)
    assert read == sum(c.usage.prompt_tokens - c.usage.reused_tokens for c in said)


def test_rows_in_a_batch_hold_no_prefix_when_they_are_done() -> None:
    network = network_for(MODEL)
    assert network is not None
    tree = PrefixTree(limit_bytes=2**40)
    batch = Batch(network, tree, {2}, TOKENIZER, Counts())
    assert batch.nbytes == 0 and not list(tree.nodes())


def endless(**settings_: Any) -> LocalModel:
    """A model that never says that it has finished."""
    model, tokenizer = tiny_model(0)
    model.generation_config.eos_token_id, tokenizer.eos_token = None, None
    return LocalModel(model, tokenizer, fingerprint="endless", **settings_)


def test_a_prompt_that_splits_what_a_row_stands_on_does_not_change_its_text() -> None:
    document = "a long document " * 60
    early = request("Why is that so?" * 3, document, tokens=40)
    late = [request(f"Why {i}?" * i, document + "!" * i, tokens=5) for i in range(1, 5)]

    async def run() -> str:
        model = endless(batch_invariant=False)
        first = asyncio.create_task(model.complete(early))
        for call in late:
            await asyncio.sleep(0.01)
            await model.complete(call)
        text = (await first).text
        await model.aclose()
        return text

    (alone,) = ask(endless(batch_invariant=False), early)
    assert asyncio.run(run()) == alone.text


def test_rows_that_end_while_others_are_read_keep_their_place() -> None:
    short = [request(f"Why {i}?", tokens=1 + i % 2) for i in range(3)]
    long = [request("Who?", f"document {i} " * 120, tokens=3) for i in range(6)]

    async def run() -> list[Completion]:
        model = endless(batch_invariant=False)
        first = [asyncio.create_task(model.complete(call)) for call in short]
        await asyncio.sleep(0.01)
        said = await asyncio.gather(*first, *map(model.complete, long))
        await model.aclose()
        return list(said)

    alone = ask(endless(batch_invariant=False), *short, *long)
    assert [c.text for c in asyncio.run(run())] == [c.text for c in alone]


@pytest.mark.parametrize("error", [RuntimeError("broken"), torch.OutOfMemoryError("out of memory")])
def test_a_call_that_always_fails_ends_alone(error: Exception) -> None:
    model = endless(batch_invariant=False)
    network = model._engine._network
    assert network is not None
    inner = network.forward
    poison = TOKENIZER("Q", add_special_tokens=False)["input_ids"][0]

    def forward(ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if bool((ids == poison).any()):
            raise error
        return inner(ids, *rest)

    network.forward = forward  # type: ignore[method-assign]
    fine = request("why?", tokens=60)
    bad = ScoreRequest(segments=fine.segments, continuations=("Q a", "Q b", "ab"), role="g")

    async def run() -> list[Any]:
        calls = (model.complete(fine), model.score(bad), model.complete(request("Q?")))
        done = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), timeout=60)
        await model.aclose()
        return list(done)

    said, scored, completed = asyncio.run(run())
    assert isinstance(scored, Exception) and isinstance(completed, Exception)
    (alone,) = ask(endless(batch_invariant=False), fine)
    assert said.text == alone.text


def test_an_adapter_never_changes_a_model_that_was_handed_over(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import Phi3Config, Phi3ForCausalLM

    config = Phi3Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    general = Phi3ForCausalLM(config).eval()
    torch.manual_seed(0)
    adapted = get_peft_model(
        Phi3ForCausalLM(config), LoraConfig(target_modules=["qkv_proj"], use_dora=True)
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=1.0)
    adapted.save_pretrained(tmp_path)
    call = request("Why?")
    base = LocalModel(general, TOKENIZER, fingerprint="phi@0/float32", batch_invariant=False)
    assert isinstance(base._engine._network, GenericNetwork)

    async def run() -> list[str]:
        before = (await base.complete(call)).text
        own = base.with_adapter(tmp_path)
        other = (await own.complete(call)).text
        base.sleep()
        after = (await base.complete(call)).text
        await own.aclose()
        await base.aclose()
        return [before, other, after]

    before, other, after = asyncio.run(run())
    assert before == after != other


def test_beginnings_that_change_the_base_are_no_plain_lora(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    model, _ = tiny_model(0)
    model.config._name_or_path = str(folders[0])
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa")
    )
    adapted.save_pretrained(tmp_path)
    call = request("Why?")
    plain, own = ask(load(folders[0]), call), ask(load(folders[0], adapter=tmp_path), call)
    assert own[0].text == plain[0].text


def test_positions_that_depend_on_the_longest_prompt_are_not_packed() -> None:
    from transformers import LlamaForCausalLM

    config = type(MODEL.config)(
        **{
            **MODEL.config.to_dict(),
            "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        }
    )
    assert network_for(LlamaForCausalLM(config).eval()) is None


def test_the_bias_of_a_head_counts() -> None:
    model, _ = tiny_model(0)
    torch.manual_seed(0)
    model.lm_head.bias = torch.nn.Parameter(torch.randn(300))
    for parts in (None, QuantizedParts(model)):
        network = llama_network(model, parts)
        with torch.inference_mode():
            wanted = model(torch.tensor([[5, 6, 7]])).logits[0]
            _, (found,) = Pass(network, RowStore(network.shape)).run(
                (), (), [Piece([5, 6, 7], 0, None, keep=True)]
            )
        assert float((found - wanted).abs().mean()) < 0.05 * float(wanted.std())


def test_a_closed_model_takes_no_calls_while_its_sibling_does(
    folders: tuple[Path, Path, Path],
) -> None:
    base = load(folders[0])
    adapted = base.with_adapter(folders[1])

    async def run() -> None:
        await base.aclose()
        with pytest.raises(BackendError, match="closed"):
            await base.complete(request("Why?"))
        await adapted.complete(request("Why?"))
        await adapted.aclose()

    asyncio.run(run())
