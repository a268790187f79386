"""Several processes train what one trains: the same losses, and one of them writes."""

import json
import os
import subprocess
import sys

import pytest
from training_target import pairs, rows

from reflectory.config import TrainingConfig
from reflectory.errors import UserError
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import train_adapter, write_dataset
from reflectory.training.processes import Processes, processes


@pytest.mark.timeout(300)
def test_two_processes_share_the_batch(tmp_path):
    from safetensors.torch import load_file

    base = save_tiny_model(tmp_path / "tiny")
    write_dataset(tmp_path / "sft", rows(8))
    write_dataset(tmp_path / "dpo", pairs(8), format="dpo")
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", "-m", "reflectory.cli.main", "train"),
            *(tmp_path / "sft", tmp_path / "dpo", "--base", base, "-o", tmp_path / "out" / "a"),
            *(
                "--device",
                "cpu",
                "--dtype",
                "float32",
                "--json",
                "--learning-rate",
                "0.01",
                "--epochs",
                "1",
            ),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)  # one document: only the main process speaks
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a"]
    config = TrainingConfig(objective="sft+dpo", learning_rate=0.01, epochs=1)
    alone = train_adapter(
        rows(8), base, tmp_path / "alone", config, preferences=pairs(8), dtype="float32"
    )
    assert said["processes"] == 2
    assert said["losses"] == pytest.approx(alone.losses, rel=1e-4)
    assert said["tokens"] == alone.manifest.tokens
    ours, theirs = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (tmp_path / "out" / "a", tmp_path / "alone")
    )
    for name, value in theirs.items():
        assert (value - ours[name]).abs().max() < 1e-4, name


def test_launchers_say_which_process_this_is(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert processes() == Processes()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert processes() == Processes(3, 1, 4, 2)
    assert not processes().main


def test_a_batch_that_cannot_be_shared_is_said(tmp_path, monkeypatch):
    base = save_tiny_model(tmp_path / "tiny")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="3 processes"):
        train_adapter(rows(8), base, tmp_path / "a", TrainingConfig(batch_size=4))
