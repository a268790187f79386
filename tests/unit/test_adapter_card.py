import json

import pytest
import torch

from reflectory.config import TrainingConfig
from reflectory.errors import ModelError
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import Message, Provenance, TrainingRow, read_adapter_manifest
from reflectory.training import train_adapter as train
from reflectory.training.adapter_card import adapter_card
from reflectory.training.dataset import rows_sha256
from reflectory.training.rows import assistant


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    base = save_tiny_model(folder / "tiny")
    rows = [
        TrainingRow(
            prompt=(Message(role="user", content=f"Question {i}?"),),
            completion=assistant(f"Answer {i}."),
            provenance=Provenance(
                trajectory=f"t{i % 2}",
                what="answer" if i else "response",
                level="basic" if i else None,
                iteration=0,
                grader="rule",
                score=0.8,
            ),
        )
        for i in range(3)
    ]
    config = TrainingConfig(rank=2, alpha=4, batch_size=2, epochs=20.0)
    report = train(rows, base, folder / "adapter", config, dtype="float32")
    return folder / "adapter", base, rows, report


def test_the_manifest_names_base_rows_and_seed(trained):
    from reflectory.models.engine.loading import fingerprint_of

    folder, base, rows, report = trained
    manifest = read_adapter_manifest(folder)
    assert manifest == report.manifest
    assert manifest.base_fingerprint == fingerprint_of(base, "tiny", torch.float32)
    assert manifest.rows_sha256 == rows_sha256(rows)
    assert (manifest.rows, manifest.trajectories, manifest.seed) == (3, 2, 0)
    assert manifest.kinds == {"answer": 2, "response": 1}


def test_the_trainable_fraction_is_equation_8(trained):
    from safetensors.torch import load_file

    folder, base, _, report = trained
    adapter = sum(w.numel() for w in load_file(folder / "adapter_model.safetensors").values())
    frozen = sum(w.numel() for w in load_file(base / "model.safetensors").values())
    assert report.manifest.trainable_parameters == adapter
    assert report.trainable_fraction == adapter / (adapter + frozen)


def test_no_file_names_a_path_of_this_machine(trained):
    folder, base, _, _ = trained
    for file in folder.iterdir():
        assert str(base).encode() not in file.read_bytes(), file.name
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "reflectory.json",
    ]


def test_the_engine_takes_the_adapter_for_its_base_only(trained, tmp_path):
    from reflectory.models.local import LocalModel

    folder, base, _, _ = trained
    model = LocalModel.load(base, device="cpu", dtype="float32", adapter=folder)
    assert "+adapter@" in model.fingerprint
    other = save_tiny_model(tmp_path / "tiny", seed=1)
    with pytest.raises(ModelError):
        LocalModel.load(other, device="cpu", dtype="float32", adapter=folder)


def test_the_card_shows_first_and_last_loss(trained):
    folder, _, _, report = trained
    card = (folder / "README.md").read_text()
    assert card == adapter_card(report.manifest)
    assert report.steps > 12
    assert f"| 1 | {report.losses[0]:.4f} |" in card
    assert f"| {report.steps} | {report.losses[-1]:.4f} |" in card
    assert report.manifest.base_fingerprint in card
    assert f"{report.trainable_fraction:.3%}" in card


def test_a_missing_damaged_or_newer_manifest_is_an_error(trained, tmp_path):
    folder = trained[0]
    with pytest.raises(ModelError):
        read_adapter_manifest(tmp_path)
    data = json.loads((folder / "reflectory.json").read_text())
    for content in ("{", "[]", json.dumps({**data, "steps": "many"})):
        (tmp_path / "reflectory.json").write_text(content)
        with pytest.raises(ModelError, match="damaged"):
            read_adapter_manifest(tmp_path)
    (tmp_path / "reflectory.json").write_text(json.dumps({**data, "schema_version": 99}))
    with pytest.raises(ModelError, match="99"):
        read_adapter_manifest(tmp_path)
