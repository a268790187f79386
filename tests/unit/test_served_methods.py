"""Adapters of every method answer through the engine as PEFT itself says."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import METHODS, TOKENIZER, answers, load, peft_says, plain, request, shaken

from reflectory.config.methods import MethodConfig
from reflectory.errors import ModelError
from reflectory.models.engine.rendering import render
from reflectory.models.protocol import ScoreRequest, Segment
from reflectory.testing.tiny import save_tiny_model
from reflectory.training.methods import own_randomness

KINDS = ("llama", "gpt", "sliding")
# The layers of GPT-2 are of a class that PEFT gives no biases.
CASES = [(k, m) for k in KINDS for m in METHODS if (k, m) != ("gpt", "bitfit")]
VIRTUAL = 6


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
