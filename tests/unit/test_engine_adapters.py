"""Adapters on one engine: beside their base, on their own, asleep, closed."""

import asyncio
import shutil
from pathlib import Path

import pytest
import torch
from engines import TOKENIZER, ask, load, request

from reflectory.errors import BackendError, ModelError
from reflectory.models.engine.generic import GenericNetwork
from reflectory.models.engine.rendering import render
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Request
from reflectory.testing.tiny import tiny_model


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


def test_base_and_adapters_run_together_on_one_engine(
    tiny_folders: tuple[Path, Path, Path],
) -> None:
    base = load(tiny_folders[0])
    first, second = base.with_adapter(tiny_folders[1]), base.with_adapter(tiny_folders[2])
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
    (plain,) = ask(load(tiny_folders[0]), calls[0])
    assert said[0] == plain.text
    assert said[9] == said[1]
    for i, call in enumerate(calls):
        assert said[3 * i + 1] == with_peft(tiny_folders[0], tiny_folders[1], call)
        assert said[3 * i + 2] == with_peft(tiny_folders[0], tiny_folders[2], call)
    assert len({base.fingerprint, first.fingerprint, second.fingerprint}) == 3


@pytest.mark.parametrize("kind", ["dora", "ia3"])
def test_other_adapters_get_an_engine_of_their_own(
    tiny_folders: tuple[Path, Path, Path], tmp_path: Path, kind: str
) -> None:
    from peft import IA3Config, LoraConfig, get_peft_model

    config = {
        "dora": LoraConfig(r=2, target_modules=["q_proj"], use_dora=True),
        "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    }[kind]
    model, _ = tiny_model(0)
    model.config._name_or_path = str(tiny_folders[0])
    torch.manual_seed(0)
    adapted = get_peft_model(model, config)
    for name, weight in adapted.named_parameters():
        if weight.requires_grad and "magnitude" not in name:
            torch.nn.init.normal_(weight, mean=1.0, std=0.3)
    adapted.save_pretrained(tmp_path)
    base = load(tiny_folders[0])
    call = request("Why?", tokens=6)
    other = base.with_adapter(tmp_path)
    assert other._engine is not base._engine
    (said,) = ask(other, call)
    assert said.text == with_peft(tiny_folders[0], tmp_path, call)
    asyncio.run(base.aclose())


def test_an_adapter_for_the_head_is_not_lost(
    tiny_folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    model, _ = tiny_model(0)
    model.config._name_or_path = str(tiny_folders[0])
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=1.0)
    adapted.save_pretrained(tmp_path)
    call = request("Why?")
    (said,) = ask(load(tiny_folders[0], adapter=tmp_path), call)
    assert said.text == with_peft(tiny_folders[0], tmp_path, call)


def test_a_bad_adapter_leaves_the_base_open(
    tiny_folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base = load(tiny_folders[0])
    broken = shutil.copytree(tiny_folders[1], tmp_path / "broken")
    (broken / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        base.with_adapter(broken)
    (said,) = ask(base, request("Why?"))
    assert said.finish in {"stop", "length"}


def test_a_model_sleeps_and_wakes_with_its_adapters(tiny_folders: tuple[Path, Path, Path]) -> None:
    base = load(tiny_folders[0])
    adapted = base.with_adapter(tiny_folders[1])
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


def test_an_adapter_never_changes_a_model_that_was_handed_over(
    tiny_folders: tuple[Path, Path, Path], tmp_path: Path
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
    tiny_folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    model, _ = tiny_model(0)
    model.config._name_or_path = str(tiny_folders[0])
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa")
    )
    adapted.save_pretrained(tmp_path)
    call = request("Why?")
    plain, own = (
        ask(load(tiny_folders[0]), call),
        ask(load(tiny_folders[0], adapter=tmp_path), call),
    )
    assert own[0].text == plain[0].text


def test_a_closed_model_takes_no_calls_while_its_sibling_does(
    tiny_folders: tuple[Path, Path, Path],
) -> None:
    base = load(tiny_folders[0])
    adapted = base.with_adapter(tiny_folders[1])

    async def run() -> None:
        await base.aclose()
        with pytest.raises(BackendError, match="closed"):
            await base.complete(request("Why?"))
        await adapted.complete(request("Why?"))
        await adapted.aclose()

    asyncio.run(run())
