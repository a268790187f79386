"""The plan against what really happens, and when it says no."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_target import pairs, rows

from reflectory.config import TrainingConfig
from reflectory.errors import UserError
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import train_adapter
from reflectory.training.methods import add_adapter, parameter_counts
from reflectory.training.model_facts import facts_of_folder, probe_speed
from reflectory.training.plan import ModelFacts, RowFacts
from reflectory.training.planning import plan_training
from reflectory.training.trainer import plan_adapter

SMALL = TrainingConfig(epochs=1, rank=4, alpha=8, batch_size=4)
BIG = ModelFacts(
    parameters=8_000_000_000,
    trained=40_000_000,
    layers=32,
    width=4096,
    vocabulary=128_000,
    embeddings=1_048_576_000,
    weight_bytes=2,
)
ROWS = RowFacts(count=1000, tokens=600_000, targets=60_000, longest=1024, most_targets=200)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize(
    ("count", "changes"),
    [
        (8, {}),
        (7, {"epochs": 2.0}),
        (6, {"epochs": 1.5}),
        (5, {"max_steps": 3}),
        (9, {"epochs": 0.4}),
    ],
)
def test_steps_and_tokens_are_those_that_are_made(base, tmp_path, count, changes):
    config = SMALL.model_copy(update=changes)
    report = train_adapter(rows(count), base, tmp_path / "a", config, dtype="float32")
    assert report.plan.steps == report.steps
    seen = round(report.tokens_per_second * report.seconds)
    if changes.get("epochs", 1.0) in (1.0, 2.0) and "max_steps" not in changes:
        assert report.plan.tokens == seen
    else:  # which rows an incomplete pass draws is known only when it draws them
        assert report.plan.tokens == pytest.approx(seen, rel=0.35)
    assert report.flops_per_second == pytest.approx(report.plan.flops / report.seconds)
    assert report.peak_memory > 0


def test_facts_without_weights_are_those_of_the_model(base):
    from reflectory.models.engine.loading import load_model

    for method in ("lora", "ia3", "prefix", "prompt"):
        config = SMALL.model_copy(update={"method": method})
        facts = facts_of_folder(base, torch.float32, config)
        model = add_adapter(load_model(base, torch.device("cpu"), torch.float32), config)
        assert (facts.trained, facts.parameters) == parameter_counts(model)
    assert (facts.layers, facts.width, facts.vocabulary) == (2, 32, 300)
    assert facts.embeddings == 2 * 300 * 32
    assert facts.weight_bytes == 4


def test_operations_are_counted_by_torch_alike(tmp_path, monkeypatch):
    """The closed form against torch's own counter, over one whole training."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    import reflectory.training.model_facts as model_facts
    from reflectory.testing.tiny import tiny_tokenizer

    # Deep and wide enough that layers outweigh what the counter does not see (attention on
    # a processor), and the first layer, whose input needs no gradient.
    settings = LlamaConfig(
        vocab_size=300,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    LlamaForCausalLM(settings).save_pretrained(tmp_path / "deep")
    tiny_tokenizer().save_pretrained(tmp_path / "deep")
    monkeypatch.setattr(model_facts, "probe_speed", lambda *_: 1e9)
    for again in ("off", "on"):
        config = SMALL.model_copy(update={"rank": 1, "activation_checkpointing": again})
        with FlopCounterMode(display=False) as counter:
            report = train_adapter(
                rows(4), tmp_path / "deep", tmp_path / again, config, dtype="float32"
            )
        assert report.plan.flops == pytest.approx(counter.get_total_flops(), rel=0.15)
        assert report.plan.flops_6nd == pytest.approx(
            6 * report.manifest.total_parameters * report.manifest.tokens
        )


def test_frozen_weights_save_a_third(base):
    plan = plan_training(ROWS, None, BIG, SMALL, "cuda", available=200 * 2**30)
    (stage,) = plan.stages
    assert not stage.checkpointing
    share = plan.flops / plan.flops_6nd
    assert 0.5 < share < 0.75  # 4 N D, less the embedding, plus attention
    again = plan_training(
        ROWS,
        None,
        BIG,
        SMALL.model_copy(update={"activation_checkpointing": "on"}),
        "cuda",
        available=80 * 2**30,
    )
    assert 0.8 < again.flops / again.flops_6nd < 1.1
    assert again.memory.activations < plan.memory.activations / 4


@given(
    st.integers(2, 200),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(8 * 2**30, 200 * 2**30),
    st.sampled_from(["auto", "on", "off"]),
)
def test_a_plan_divides_the_batch_and_fits_where_it_can(count, batch, available, again):
    config = TrainingConfig(epochs=1, batch_size=batch, activation_checkpointing=again)
    given_rows = RowFacts(count, 600 * count, 50 * count, 1024, 200)
    plan = plan_training(given_rows, None, BIG, config, "cuda", available=available)
    (stage,) = plan.stages
    assert batch % stage.micro_batch == 0
    assert stage.steps == math.ceil(count / batch)
    if again != "auto":
        assert stage.checkpointing == (again == "on")
    if stage.memory.total > available:
        assert stage.micro_batch == 1  # smaller does not go
        assert stage.checkpointing or again == "off"


def test_what_clearly_does_not_fit_is_refused():
    plan = plan_training(ROWS, None, BIG, SMALL, "cuda", available=8 * 2**30)
    with pytest.raises(UserError, match=r"for weights \(14\.8 GiB\)") as told:
        plan.refuse_if_too_large()
    assert "qlora" in told.value.hint
    plan_training(ROWS, None, BIG, SMALL, "cuda", available=40 * 2**30).refuse_if_too_large()
    off = SMALL.model_copy(update={"activation_checkpointing": "off", "micro_batch": 4})
    plan = plan_training(ROWS, None, BIG, off, "cuda", available=24 * 2**30)
    with pytest.raises(UserError, match="for activations"):
        plan.refuse_if_too_large()


def test_training_does_not_start_without_memory(base, tmp_path, monkeypatch):
    import reflectory.models.engine.memory as memory

    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(UserError, match="are free"):
        train_adapter(rows(4), base, tmp_path / "a", SMALL)
    assert not list(tmp_path.iterdir())


def test_a_plan_loads_no_weights(base, monkeypatch):
    import reflectory.models.engine.loading as loading

    def never(*_):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(loading, "load_model", never)
    config = SMALL.model_copy(update={"objective": "sft+dpo", "kl_weight": 0.5})
    plan = plan_adapter(rows(4), base, config, preferences=pairs(4))
    assert [stage.objective for stage in plan.stages] == ["sft", "dpo"]
    assert plan.seconds is not None and plan.seconds > 0
    assert plan.available is not None


def test_the_speed_of_a_processor_is_plausible():
    speed = probe_speed(torch.device("cpu"), torch.float32, 256, 128)
    assert 1e7 < speed < 1e14
