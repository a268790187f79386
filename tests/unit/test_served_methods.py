"""Adapters of every method answer through the engine as PEFT itself says."""

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflectory.config.methods import MethodConfig
from reflectory.errors import ModelError
from reflectory.models.engine.batch import Batch
from reflectory.models.engine.rendering import render
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Request, SamplingParameters, ScoreRequest, Segment
from reflectory.testing.tiny import save_tiny_model, tiny_tokenizer
from reflectory.training.methods import add_adapter, own_randomness, save_adapter

METHODS = ("lora", "dora", "ia3", "prefix", "prompt", "p-tuning", "bitfit")
KINDS = ("llama", "gpt", "sliding")
# The layers of GPT-2 are of a class that PEFT gives no biases.
CASES = [(k, m) for k in KINDS for m in METHODS if (k, m) != ("gpt", "bitfit")]
TOKENIZER = tiny_tokenizer()
VIRTUAL = 6


def shaken(model: Any, folder: Path, config: MethodConfig, *, seed: int = 1) -> Path:
    """Save an adapter that is far from its beginning, so that it changes every answer."""
    with own_randomness(seed):
        adapted = add_adapter(model, config)
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.data.add_(torch.randn_like(weight) * (0.5 if weight.ndim > 1 else 0.2))
    folder.mkdir()
    save_adapter(adapted, folder, base_name="base")
    return folder


def saved_gpt(folder: Path) -> Path:
    """Save a model of another family: learnt positions, biases, fused layers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with own_randomness(0):
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=300,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=256,
                initializer_range=0.3,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def saved_sliding(folder: Path) -> Path:
    """Save a model that no packed pass can run: it looks at the last tokens only."""
    from transformers import MistralConfig, MistralForCausalLM

    with own_randomness(0):
        model = MistralForCausalLM(
            MistralConfig(
                vocab_size=300,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                sliding_window=400,
                initializer_range=0.3,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {
        "llama": save_tiny_model(root / "llama" / "base"),
        "gpt": saved_gpt(root / "gpt" / "base"),
        "sliding": saved_sliding(root / "sliding" / "base"),
    }


def plain(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def adapters(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """An adapter of every method for the tiny Llama, and of some for the other models."""
    root = tmp_path_factory.mktemp("adapters")
    found = {}
    for kind, method in CASES:
        config = MethodConfig(method=method, rank=3, virtual_tokens=VIRTUAL)
        folder = root / f"{kind}-{method}"
        found[kind, method] = shaken(plain(bases[kind]), folder, config)
    return found


def request(text: str, *, tokens: int = 8, documents: str = "ab cd ef") -> Request:
    system = Segment(text="You answer.", speaker="system", shared=True)
    return Request(
        segments=(system, Segment(text=documents, shared=True), Segment(text=text)),
        role="student.answer",
        sampling=SamplingParameters(max_tokens=tokens),
    )


def load(base: Path, **how: Any) -> LocalModel:
    return LocalModel.load(base, device="cpu", dtype="float32", **how)


def peft_says(base: Path, adapter: Path, call: Request) -> str:
    from peft import PeftModel

    model = PeftModel.from_pretrained(plain(base), str(adapter)).eval()
    ids = torch.tensor([render(TOKENIZER, call.segments).token_ids])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=call.sampling.max_tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return str(TOKENIZER.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


async def answers(model: LocalModel, calls: list[Request]) -> list[str]:
    return [one.text for one in await asyncio.gather(*map(model.complete, calls))]


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "together"])
@pytest.mark.parametrize(("kind", "method"), CASES)
def test_what_a_student_says_is_what_peft_generates(
    bases: dict[str, Path],
    adapters: dict[Any, Path],
    kind: str,
    method: str,
    alone: bool,
) -> None:
    base, folder = bases[kind], adapters[kind, method]
    calls = [request(f"Why {i}?", tokens=5 + i) for i in range(3)]

    async def run() -> tuple[list[str], list[str]]:
        model = load(base, batch_invariant=alone)
        student = model.with_adapter(folder)
        said, own = await answers(student, calls), await answers(model, calls)
        await student.aclose()
        await model.aclose()
        return said, own

    said, own = asyncio.run(run())
    assert said == [peft_says(base, folder, call) for call in calls]
    assert said != own  # The adapter matters.


def test_no_adapter_reads_what_another_has_read(
    bases: dict[str, Path], adapters: dict[Any, Path]
) -> None:
    """All methods and the base at once on the same prompts, again and again."""
    base = bases["llama"]
    calls = [request("Why?"), request("Why not?"), request("W", documents="x")]

    async def run(cache_bytes: int | None) -> list[list[str]]:
        model = load(base, batch_invariant=False, cache_bytes=cache_bytes)
        students = [model.with_adapter(adapters["llama", method]) for method in METHODS]
        one_after_the_other = [await answers(one, calls) for one in (model, *students)]
        together = await asyncio.gather(*(answers(one, calls) for one in (model, *students)))
        assert list(together) == one_after_the_other
        for one in (model, *students):
            await one.aclose()
        return one_after_the_other

    kept, thrown_away = asyncio.run(run(None)), asyncio.run(run(0))
    assert kept == thrown_away
    assert len({tuple(said) for said in kept}) == len(METHODS) + 1


prompts = st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=4)


@given(prompts, st.permutations(["", "prefix", "prompt", "p-tuning"]))
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
def test_virtual_tokens_stand_before_every_prompt(
    made: dict[str, Any], texts: list[str], order: list[str]
) -> None:
    """Scores against PEFT's forward pass: every position and every shared beginning."""

    async def run() -> None:
        for text in texts:
            for method in order:
                ask = ScoreRequest(
                    role="teacher.grade",
                    segments=(Segment(text=text, shared=True), Segment(text="?")),
                    continuations=("ba", text),
                )
                scores = await made["served"][method].score(ask)
                ids = render(TOKENIZER, ask.segments, close_thinking=True).token_ids
                assert scores.usage.prompt_tokens == len(ids) + sum(
                    len(TOKENIZER(c, add_special_tokens=False)["input_ids"])
                    for c in ask.continuations
                )
                for said, found in zip(ask.continuations, scores.continuations, strict=True):
                    more = TOKENIZER(said, add_special_tokens=False)["input_ids"]
                    whole = torch.tensor([[*ids, *more]])
                    with torch.inference_mode():
                        logits = made["peft"][method](input_ids=whole).logits[0]
                    wanted = logits.log_softmax(-1)[-len(more) - 1 : -1]
                    wanted = wanted.gather(1, torch.tensor(more)[:, None])[:, 0]
                    assert torch.allclose(torch.tensor(found.logprobs), wanted, atol=1e-3)

    asyncio.run(run())


@pytest.fixture(scope="module")
def made(bases: dict[str, Path], adapters: dict[Any, Path]) -> Any:
    from peft import PeftModel

    base = load(bases["llama"], batch_invariant=False)
    kinds = ("prefix", "prompt", "p-tuning")
    served = {kind: base.with_adapter(adapters["llama", kind]) for kind in kinds}
    beside = {
        kind: PeftModel.from_pretrained(plain(bases["llama"]), str(adapters["llama", kind])).eval()
        for kind in kinds
    }
    assert len({id(one._engine) for one in (base, *served.values())}) == 1
    yield {"served": {"": base, **served}, "peft": {"": plain(bases["llama"]), **beside}}
    for one in (base, *served.values()):
        asyncio.run(one.aclose())


def test_integers_serve_virtual_tokens_as_well_as_words(
    bases: dict[str, Path], adapters: dict[Any, Path]
) -> None:
    """In turned coordinates too: the error is that of rounding, as without an adapter."""
    from peft import PeftModel

    from reflectory.models.adapter_files import read_adapter
    from reflectory.models.engine.layout import Piece
    from reflectory.models.engine.llama import llama_network
    from reflectory.models.engine.passes import Pass
    from reflectory.models.engine.quantized import QuantizedParts
    from reflectory.models.engine.store import RowStore
    from reflectory.models.engine.tree import PrefixTree
    from reflectory.models.engine.virtual import read_virtual, virtual_ids

    base = plain(bases["llama"])
    network = llama_network(base, QuantizedParts(base))
    ids = list(range(10, 40))
    for method in ("prefix", "prompt", "p-tuning"):
        files = read_adapter(adapters["llama", method])
        found = read_virtual(files.weights, files.config, network.shape)
        assert found is not None and found.count == VIRTUAL
        reference = PeftModel.from_pretrained(plain(bases["llama"]), str(files.folder)).eval()
        with torch.inference_mode():
            wanted = reference(torch.tensor([ids])).logits[0, -len(ids) :]
            node = PrefixTree(limit_bytes=2**40).insert(virtual_ids(VIRTUAL), "a")
            node.kv = [kv.permute(1, 2, 0, 3) for kv in network.virtual_kv(found)]
            piece = Piece(ids, VIRTUAL, node, keep=True)
            _, (said,) = Pass(network, RowStore(network.shape)).run((), (), [piece])
        assert float((said - wanted).abs().mean()) < 0.1 * float(wanted.std())


def test_virtual_tokens_take_room_and_are_not_counted_as_read(
    bases: dict[str, Path], adapters: dict[Any, Path]
) -> None:
    call = request("Why?", tokens=4)

    async def run() -> None:
        model = load(bases["llama"])
        student = model.with_adapter(adapters["llama", "prefix"])
        usages = [(await one.complete(call)).usage for one in (model, student, student)]
        assert len({usage.prompt_tokens for usage in usages}) == 1
        assert usages[1].reused_tokens == 0 < usages[2].reused_tokens
        await student.aclose()
        await model.aclose()

    asyncio.run(run())


# Adapters come and go


def residents(model: LocalModel) -> dict[str, int]:
    """Count what an engine holds for adapters."""
    engine = model._engine
    batch, network = engine._scheduler._batch, engine._network
    assert isinstance(batch, Batch) and network is not None
    return {
        "adapters": len(engine._adapters) + len(engine._virtual),
        "matrices": sum(len(p._adapters) for p in network._projections()),
        "trees": sum(1 for name in batch._tree._roots if name not in {"", ("",)}),
        "kv": len(batch._virtual_kv),
    }


def test_twenty_rounds_leave_one_adapter(bases: dict[str, Path], tmp_path: Path) -> None:
    base = bases["llama"]
    call = request("Why?")

    async def run() -> None:
        model = load(base, batch_invariant=False)
        (first,) = await answers(model, [call])
        student, seen, networks = model, [], []
        for number in range(20):
            method = METHODS[number % len(METHODS)]
            config = MethodConfig(method=method, rank=2, virtual_tokens=3)
            folder = shaken(plain(base), tmp_path / str(number), config, seed=number)
            following = model.with_adapter(folder)
            (said,) = await answers(following, [call])
            if student is not model:
                await student.aclose()
            student = following
            if following._engine is not model._engine:
                networks.append(weakref.ref(following._engine._network))
            assert said == peft_says(base, folder, call)
            assert await answers(model, [call]) == [first]
            seen.append(residents(model))
        assert max(one["adapters"] for one in seen[2:]) <= 2 * 1
        assert max(one["trees"] for one in seen) <= 1
        assert max(one["kv"] for one in seen) <= 1
        await student.aclose()
        gc.collect()
        assert networks and not any(network() for network in networks)
        assert await answers(model, [call]) == [first]
        assert residents(model) == {"adapters": 0, "matrices": 0, "trees": 0, "kv": 0}
        await model.aclose()

    asyncio.run(run())


def test_an_adapter_stays_until_its_calls_are_answered(
    bases: dict[str, Path], adapters: dict[Any, Path]
) -> None:
    call = request("Why?", tokens=30)
    folder = adapters["llama", "lora"]

    async def run() -> None:
        model = load(bases["llama"], batch_invariant=False)
        alone = model.with_adapter(folder)
        (wanted,) = await answers(alone, [call])
        running = asyncio.create_task(alone.complete(call))
        await asyncio.sleep(0)
        await alone.aclose()  # It takes no more calls; this one it has taken.
        assert (await running).text == wanted
        # Two of one content are one adapter, and the second keeps it.
        first, second = model.with_adapter(folder), model.with_adapter(folder)
        await first.aclose()
        assert await answers(second, [call]) == [wanted]
        # A cancelled call gives its adapter back as well.
        cancelled = asyncio.create_task(second.complete(call))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await second.aclose()
        await answers(model, [call])
        assert residents(model)["adapters"] == 0
        await model.aclose()

    asyncio.run(run())


def test_an_adapter_leaves_a_sleeping_model_without_waking_it(
    bases: dict[str, Path], adapters: dict[Any, Path]
) -> None:
    call = request("Why?")

    async def run() -> None:
        model = load(bases["llama"])
        kept = model.with_adapter(adapters["llama", "prefix"])
        gone = model.with_adapter(adapters["llama", "lora"])
        wanted = await answers(kept, [call])
        await asyncio.to_thread(model.sleep)
        await gone.aclose()
        await asyncio.sleep(0.05)
        assert model._engine._network is None
        assert await answers(kept, [call]) == wanted
        assert len(model._engine._adapters) == 1
        await kept.aclose()
        await model.aclose()

    asyncio.run(run())


# Any configuration of PEFT

LINEAR = {"target_modules": ["q_proj", "v_proj"]}
OTHERS = {
    "VERA": LINEAR,
    "LOHA": LINEAR,
    "ADALORA": {"total_step": 10, **LINEAR},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "OFT": LINEAR,
    # These cannot be merged and run as PEFT wraps them.
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2},
    "LILY": LINEAR,  # Its routes hang on how many tokens a pass has.
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_answer_as_peft_does(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    config = MethodConfig(peft={"peft_type": kind, **OTHERS[kind]})
    folder = shaken(plain(bases["llama"]), tmp_path / kind, config)
    calls = [request(f"Why {i}?") for i in range(2)]

    async def run() -> list[str]:
        model = load(bases["llama"])
        student = model.with_adapter(folder)
        assert student._engine is not model._engine
        said = await answers(student, calls)
        await student.aclose()
        await model.aclose()
        return said

    assert asyncio.run(run()) == [peft_says(bases["llama"], folder, call) for call in calls]


def test_a_kind_that_needs_more_than_text_is_refused_at_once(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    fields = {"peft_type": "MULTITASK_PROMPT_TUNING", "num_virtual_tokens": 4, "num_tasks": 2}
    folder = shaken(plain(bases["llama"]), tmp_path / "tasks", MethodConfig(peft=fields))
    model = load(bases["llama"])
    with pytest.raises(ModelError, match=r"MULTITASK_PROMPT_TUNING, cannot be served: task_ids"):
        model.with_adapter(folder)
    assert asyncio.run(answers(model, [request("Why?")]))
    asyncio.run(model.aclose())
