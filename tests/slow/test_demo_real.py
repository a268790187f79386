"""The main job, as the README's first command runs it, on the embedded models."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reflectory.models.defaults import ensure_embedding_model, ensure_language_model

pytestmark = pytest.mark.slow

REFLECTORY = [sys.executable, "-c", "from reflectory.cli.main import main; main()"]


def reflectory(*arguments, **options):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [*REFLECTORY, *map(str, arguments)], capture_output=True, text=True, timeout=1500, **options
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    ensure_language_model()
    ensure_embedding_model()
    folder = tmp_path_factory.mktemp("demo") / "run"
    result = reflectory("demo", "-o", folder, "--json")
    assert result.returncode == 0, result.stderr
    return folder, json.loads(result.stdout)


def test_the_demo_goes_through_the_whole_story(demo):
    folder, result = demo
    assert result["trajectories"] >= 5
    assert result["rows"] >= 20
    assert result["steps"] >= 20
    assert result["before"]["count"] == result["after"]["count"] >= 10
    assert result["before"] != result["after"]
    for path in result["paths"].values():
        assert Path(path).exists()
    assert (folder / "alignment.png").read_bytes().startswith(b"\x89PNG")
    for line in (folder / "trajectories.jsonl").read_text().splitlines():
        trajectory = json.loads(line)
        assert len(trajectory["levels"]) == 4 and trajectory["error"] is None
        assert trajectory["stop"]["iterations"] <= 3


def test_the_adapter_of_the_demo_loads_with_plain_peft(demo):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _, result = demo
    base = AutoModelForCausalLM.from_pretrained(ensure_language_model().path)
    model = PeftModel.from_pretrained(base, result["paths"]["adapter"])
    weights = [p for n, p in model.named_parameters() if "lora_B" in n]
    assert weights and any(float(p.abs().max()) > 0 for p in weights)


def test_dataset_and_train_take_up_the_run_of_the_demo(demo, tmp_path):
    folder, result = demo
    made = reflectory("dataset", folder, "-o", tmp_path / "data", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["rows"] == result["rows"]
    trained = reflectory(
        "train", tmp_path / "data", "-o", tmp_path / "adapter", "--max-steps", 2, "--json"
    )
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["steps"] == 2
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
