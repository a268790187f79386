"""Training on rows that are read together gives what training on them one by one gives."""

import pytest
import torch
from safetensors.torch import load_file

from reflectory.config import TrainingConfig
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import read_adapter_manifest, train_adapter
from reflectory.training.rows import Message, Provenance, TrainingRow, assistant
from reflectory.training.sft import CompletionTrainer

ONE_STEP = TrainingConfig(rank=4, batch_size=4, epochs=1, max_length=400, learning_rate=1e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


def rows_of(count, documents="The stone bridge was built by masons in the old town. " * 4):
    return [
        TrainingRow(
            prompt=(Message(role="user", content=f"{documents}Question: number {n}?\nAnswer:"),),
            completion=assistant("masons " * (1 + n % 3)),
            provenance=Provenance(
                trajectory=str(n), what="response", iteration=0, grader="g", score=1.0
            ),
        )
        for n in range(count)
    ]


def trained(base, folder, **changes):
    config = ONE_STEP.model_copy(update=changes)
    report = train_adapter(rows_of(4), base, folder, config, dtype="float32", device="cpu")
    return report, load_file(folder / "adapter_model.safetensors")


def test_loss_and_update_are_those_of_rows_one_by_one(base, tmp_path):
    together, weights = trained(base, tmp_path / "together")
    apart, other = trained(base, tmp_path / "apart", share_prompts="off")
    assert together.losses == pytest.approx(apart.losses, rel=1e-4)
    assert together.plan.stages[0].shared and not apart.plan.stages[0].shared
    assert together.plan.tokens < apart.plan.tokens / 2
    for name, value in weights.items():
        assert torch.allclose(value, other[name], atol=2e-5), name


def test_the_plan_counts_the_tokens_that_pass(base, tmp_path):
    report, _ = trained(base, tmp_path / "adapter", epochs=3)
    seen = report.tokens_per_second * report.seconds
    assert seen == pytest.approx(report.plan.tokens, rel=1e-6)
    assert len(report.losses) == report.plan.steps == 3


def test_a_network_that_cannot_gets_its_rows_one_by_one(base, tmp_path, monkeypatch):
    monkeypatch.setattr(CompletionTrainer, "shares", lambda *_: False)
    report, weights = trained(base, tmp_path / "adapter")
    apart, other = trained(base, tmp_path / "apart", share_prompts="off")
    assert report.losses == pytest.approx(apart.losses, rel=1e-4)
    assert read_adapter_manifest(tmp_path / "adapter").rows == 4
    for name, value in weights.items():
        assert torch.allclose(value, other[name], atol=2e-5), name


def test_held_back_rows_are_measured_as_ever(base, tmp_path):
    config = ONE_STEP.model_copy(update={"validation_share": 0.5, "epochs": 2.0})
    checks = []
    for name, share in (("together", "auto"), ("apart", "off")):
        report = train_adapter(
            rows_of(8),
            base,
            tmp_path / name,
            config.model_copy(update={"share_prompts": share}),
            dtype="float32",
            device="cpu",
        )
        checks.append(report.manifest)
    assert checks[0].losses == pytest.approx(checks[1].losses, rel=1e-3)
