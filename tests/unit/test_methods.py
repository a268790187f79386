"""Methods of training by name: what they train, save, load again and refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from reflectory.config import TrainingConfig
from reflectory.config.methods import MethodConfig
from reflectory.errors import ConfigError, ModelError, UserError
from reflectory.models.engine.loading import load_model
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import Message, Provenance, TrainingRow, train_adapter
from reflectory.training.methods import (
    add_adapter,
    allows_checkpointing,
    load_base,
    load_parent,
    own_randomness,
    parameter_counts,
    save_adapter,
    vectors_before,
)
from reflectory.training.rows import assistant

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 9, 12, 40, 41, 42, 43, 7, 100, 200]])
METHODS = ("lora", "dora", "ia3", "prefix", "prompt", "p-tuning", "bitfit")
# Of the tiny Llama: 2 layers of width 32, inner width 64, 16 for keys and values.
IN_AND_OUT = 2 * (4 * 32 + 2 * 16 + 3 * 32 + 3 * 64 + 2 * 32)
OUT = 2 * (2 * 32 + 2 * 16 + 2 * 64 + 32)
COUNTS = {
    "lora": 4 * IN_AND_OUT,
    "dora": 4 * IN_AND_OUT + OUT,
    "ia3": 2 * (16 + 16 + 64),
    "prefix": 5 * 2 * 2 * 16,
    "prompt": 5 * 32,
    "p-tuning": 5 * 32 + 3 * (32 * 32 + 32),
    "bitfit": OUT,
}


def named(method: str, **how: Any) -> Any:
    return MethodConfig(method=method, rank=4, virtual_tokens=5, **how)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def tiny(base: Path) -> Any:
    return load_model(base, CPU, torch.float32)


def trained(base: Path, folder: Path, config: MethodConfig, *, seed: int = 0) -> Path:
    """Save an adapter after three steps on one text."""
    with own_randomness(seed):
        model = add_adapter(tiny(base), config)
        optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.05)
        for _ in range(3):
            model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    folder.mkdir(parents=True)
    save_adapter(model, folder, base_name="tiny")
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits[0, -IDS.shape[1] :]
    return found


def plain_peft(base: Path, folder: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(tiny(base), str(folder))


def rows(count: int = 4) -> list[TrainingRow]:
    return [
        TrainingRow(
            prompt=(
                Message(role="system", content="You work with documents."),
                Message(role="user", content=f"[1] The stone {i} lies there\n\nQuestion: where?"),
            ),
            completion=assistant("there, " * (1 + i % 3) + "it lies"),
            provenance=Provenance(
                trajectory="t", what="response", iteration=0, grader="rule", score=0.8
            ),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_trained_saved_and_loaded(base: Path, tmp_path: Path, method: str) -> None:
    before = {name: p.clone() for name, p in tiny(base).named_parameters()}
    with own_randomness(0):
        model = add_adapter(tiny(base), named(method))
    trained_, total = parameter_counts(model)  # Equation 8
    everything = sum(p.numel() for p in before.values())
    assert (trained_, total) == (COUNTS[method], everything + COUNTS[method])
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    folders = [trained(base, tmp_path / str(i), named(method)) for i in range(2)]
    first, second = ({f.name: f.read_bytes() for f in place.iterdir()} for place in folders)
    assert set(first) == {"adapter_config.json", "adapter_model.safetensors"}
    assert first == second  # The seed is the same.
    other = trained(base, tmp_path / "other", named(method), seed=1)
    if method not in {"ia3", "bitfit"}:  # These begin at ones and zeros.
        assert (other / "adapter_model.safetensors").read_bytes() != first[
            "adapter_model.safetensors"
        ]
    config = json.loads(first["adapter_config.json"])
    assert config["base_model_name_or_path"] == "tiny" and str(tmp_path) not in json.dumps(config)
    loaded = plain_peft(base, folders[0])
    assert not torch.allclose(logits(loaded), logits(tiny(base)), atol=1e-2)
    for name, weight in loaded.get_base_model().named_parameters():
        clean = name.replace(".base_layer", "")
        if clean in before:
            assert torch.equal(weight, before[clean])  # The base is what it was.


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "bitfit"])
def test_a_fresh_adapter_changes_nothing(base: Path, method: str) -> None:
    model = add_adapter(tiny(base), named(method))
    assert torch.allclose(logits(model), logits(tiny(base)), atol=1e-5)


def test_prefix_tuning_begins_with_keys_and_values_of_tokens(base: Path) -> None:
    """What comes first is what the model itself makes of five tokens before the prompt."""
    with own_randomness(3):
        model = add_adapter(tiny(base), named("prefix"))
        torch.manual_seed(3)
        tokens = torch.randint(0, 300, (1, 5))
    with torch.inference_mode():
        wanted = tiny(base)(input_ids=torch.cat((tokens, IDS), dim=1)).logits[0, 5:]
    assert torch.allclose(logits(model), wanted, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_round_goes_on_from_its_parent(base: Path, tmp_path: Path, method: str) -> None:
    folder = trained(base, tmp_path / "parent", named(method))
    model = load_parent(tiny(base), folder, config=named(method), fingerprint="tiny@1/float32")
    assert torch.equal(logits(model), logits(plain_peft(base, folder)))
    expected = COUNTS["prompt" if method == "p-tuning" else method]
    assert parameter_counts(model)[0] == expected
    model.train()
    model(input_ids=IDS, labels=IDS).loss.backward()
    moved = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in moved)
    with torch.no_grad():
        for weight in moved:
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    after = tmp_path / "child"
    after.mkdir()
    save_adapter(model, after, base_name="tiny")
    assert torch.equal(logits(plain_peft(base, after)), logits(model))
    assert not torch.allclose(logits(model), logits(plain_peft(base, folder)), atol=1e-2)
    # And so does the round after it.
    load_parent(tiny(base), after, config=named(method), fingerprint="tiny@1/float32")


@pytest.mark.parametrize("method", METHODS)
def test_the_trainer_trains_every_method(base: Path, tmp_path: Path, method: str) -> None:
    config = TrainingConfig(
        method=method,  # type: ignore[arg-type]
        rank=4,
        virtual_tokens=5,
        learning_rate=0.05,
        max_steps=3,
        batch_size=2,
    )
    report = train_adapter(rows(), base, tmp_path / "first", config, dtype="float32")
    assert report.losses[-1] < report.losses[0]
    assert report.manifest.trainable_parameters == COUNTS[method]
    assert report.trainable_fraction == COUNTS[method] / report.manifest.total_parameters
    # Another round on the same rows starts where the first ended.
    further = train_adapter(
        rows(), base, tmp_path / "second", config, parent=tmp_path / "first", dtype="float32"
    )
    assert further.losses[0] < report.losses[0]


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_trains_in_float32(base: Path, method: str) -> None:
    model = add_adapter(load_model(base, CPU, torch.bfloat16), named(method))
    weights = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in weights} == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in weights)


def test_what_the_trainer_must_know(base: Path) -> None:
    for method in METHODS:
        model = add_adapter(tiny(base), named(method))
        assert allows_checkpointing(model) is (method != "prefix")
        before = vectors_before(model)
        assert before == (5 if method in {"prompt", "p-tuning"} else 0)
        with torch.inference_mode():
            assert model(input_ids=IDS).logits.shape[1] == IDS.shape[1] + before


# Any configuration of PEFT


@pytest.mark.parametrize(
    "peft",
    [
        {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "use_rslora": True},
        {"peft_type": "VERA", "r": 8, "target_modules": ["q_proj"]},
        {"peft_type": "LOHA", "r": 2, "target_modules": ["v_proj", "o_proj"]},
        {"peft_type": "LN_TUNING", "target_modules": ["input_layernorm"]},
        {
            "peft_type": "PREFIX_TUNING",
            "num_virtual_tokens": 3,
            "prefix_projection": True,
            "encoder_hidden_size": 16,
        },
    ],
    ids=lambda fields: fields["peft_type"],
)
def test_any_configuration_of_peft_is_passed_through(
    base: Path, tmp_path: Path, peft: dict[str, Any]
) -> None:
    config = MethodConfig(peft=peft)
    folder = trained(base, tmp_path / "a", config)
    saved = json.loads((folder / "adapter_config.json").read_text())
    for name, value in peft.items():
        assert saved[name] == (sorted(value) if isinstance(value, list) else value)
    model = load_parent(tiny(base), folder)
    assert torch.allclose(logits(model), logits(plain_peft(base, folder)), atol=1e-6)


def test_what_peft_does_not_know_is_refused(base: Path) -> None:
    with pytest.raises(ConfigError, match="peft_type is missing"):
        MethodConfig(peft={"r": 4})
    for fields, said in (
        ({"peft_type": "MAGIC"}, "does not know"),
        ({"peft_type": "LORA", "rank": 4}, "has no field rank"),
        ({"peft_type": "LORA", "target_modules": ["q_proj"], "task_type": "X"}, "refuses"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            add_adapter(tiny(base), MethodConfig(peft=fields))
        assert caught.value.hint


def test_layers_that_are_not_there_are_named(base: Path) -> None:
    for method in ("lora", "ia3", "bitfit", "dora"):
        with pytest.raises(ModelError, match="gone") as caught:
            add_adapter(tiny(base), named(method, target_modules=("gone",)))
        assert "target_modules" in caught.value.hint


def test_four_bits_need_cuda_and_say_so_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs CUDA, and the device is cpu") as caught:
        load_base(tmp_path / "not there", CPU, torch.float32, named("qlora"))
    assert "training.method" in caught.value.hint


# Parents that do not fit


def test_a_parent_of_another_method_or_size_is_refused(base: Path, tmp_path: Path) -> None:
    folder = trained(base, tmp_path / "lora", named("lora"))
    for config, said in (
        (named("ia3"), "peft_type 'LORA'.*'IA3'"),
        (named("dora"), "use_dora False.*True"),
        (MethodConfig(rank=8), "r 4.*8"),
        (named("prefix"), "PREFIX_TUNING"),
    ):
        with pytest.raises(UserError, match=said):
            load_parent(tiny(base), folder, config=config)
    short = trained(base, tmp_path / "short", MethodConfig(method="prefix", virtual_tokens=2))
    with pytest.raises(UserError, match=r"num_virtual_tokens 2.*5"):
        load_parent(tiny(base), short, config=named("prefix"))


def test_a_parent_of_another_base_names_both(base: Path, tmp_path: Path) -> None:
    folder = trained(base, tmp_path / "lora", named("lora"))
    note = {"base_fingerprint": "other@abc/float32"}
    (folder / "reflectory.json").write_text(json.dumps(note))
    with pytest.raises(ModelError, match=r"other@abc/float32.*tiny@def/float32"):
        load_parent(tiny(base), folder, fingerprint="tiny@def/float32")
    # The same base in another number format is the same base.
    note["base_fingerprint"] = "tiny@def/bfloat16"
    (folder / "reflectory.json").write_text(json.dumps(note))
    load_parent(tiny(base), folder, fingerprint="tiny@def/float32")


@pytest.mark.parametrize("method", METHODS)
def test_a_parent_of_another_shape_is_refused(base: Path, tmp_path: Path, method: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = trained(base, tmp_path / method, named(method))
    larger = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
        )
    )
    with pytest.raises(ModelError, match=f"{folder} does not fit"):
        load_parent(larger, folder)
