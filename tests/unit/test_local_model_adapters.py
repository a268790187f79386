"""Adapters of the local engine: loaded, fingerprinted, refused."""

import json
import shutil
from pathlib import Path

import pytest
from engines import MODEL, TOKENIZER, ask, request

from reflectory.errors import ModelError
from reflectory.models.local import LocalModel
from reflectory.testing.tiny import save_tiny_model


def load(base: Path, adapter: Path | None = None) -> LocalModel:
    return LocalModel.load(base, device="cpu", dtype="float32", adapter=adapter)


def test_an_adapter_changes_what_is_said(tiny_folders: tuple[Path, Path, Path]) -> None:
    base, adapter, _ = tiny_folders
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


def test_the_fingerprint_is_that_of_the_content(
    tiny_folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, adapter, _ = tiny_folders
    copy = shutil.copytree(base, tmp_path / base.name)
    moved = shutil.copytree(adapter, tmp_path / "elsewhere")
    assert load(copy, moved).fingerprint == load(base, adapter).fingerprint
    other = save_tiny_model(tmp_path / "other" / base.name, seed=1)
    assert load(other).fingerprint != load(base).fingerprint


def test_an_adapter_of_another_base_is_refused(
    tiny_folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, adapter, _ = tiny_folders
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


def test_an_adapter_of_another_shape_is_refused(tiny_folders: tuple[Path, Path, Path]) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**{**MODEL.config.to_dict(), "hidden_size": 48})
    other = LlamaForCausalLM(config).eval()
    with pytest.raises(ModelError, match="does not fit"):
        LocalModel(other, TOKENIZER, fingerprint="base@1/float32", adapter=tiny_folders[1])


def test_missing_models_and_adapters_are_named(
    tiny_folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter, _ = tiny_folders
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
