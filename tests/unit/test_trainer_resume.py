"""Killed and started again: the same bytes, and no finished step twice."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from training_target import pairs, rows

from reflectory.config import TrainingConfig
from reflectory.errors import StorageError, TrainingError
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import train_adapter
from reflectory.training.processes import Processes
from reflectory.training.resume import Schedule, WorkFolder, key_of

TARGET = Path(__file__).parent / "training_target.py"
WEIGHTS = "adapter_model.safetensors"
SETTINGS = {
    "objective": "sft+dpo",
    "rank": 4,
    "alpha": 8,
    "dropout": 0.2,  # so that a lost random state would show
    "learning_rate": 1e-2,
    "preference_learning_rate": 1e-2,
    "batch_size": 2,
    "epochs": 2.0,
    "preference_epochs": 2.0,
    "validation_share": 0.2,
    "validation_steps": 2,
    "patience": 9,
    "checkpoint_steps": 2,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def killed(base, output, kill):
    done = subprocess.run(
        [sys.executable, TARGET, base, output, json.dumps(SETTINGS), kill],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [p.name for p in output.parent.iterdir()] == [f".{output.name}.work"]


def train(base, output, config=None, **changes):
    settings = {"preferences": pairs(8), "dtype": "float32", "device": "cpu", **changes}
    return train_adapter(rows(8), base, output, config or TrainingConfig(**SETTINGS), **settings)


def test_a_killed_training_goes_on_to_the_same_bytes(base, tmp_path):
    whole, output = tmp_path / "whole" / "adapter", tmp_path / "killed" / "adapter"
    undisturbed = train(base, whole)
    assert [p.name for p in whole.parent.iterdir()] == ["adapter"]
    # While the second checkpoint is being filled; then in the second objective.
    for kill in ("fill:2", "step:7"):
        killed(base, output, kill)
    seen = []
    again = train(base, output, progress=lambda *values: seen.append(values))
    assert again.resumed_from == 8  # six steps by Equation 6 and two by Equation 12
    assert len(seen) == undisturbed.steps - 8
    assert (output / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    ours, theirs = (json.loads((f / "reflectory.json").read_text()) for f in (output, whole))
    for name in ("losses", "stages", "steps", "weights_sha256"):
        assert ours[name] == theirs[name], name
    assert [p.name for p in output.parent.iterdir()] == ["adapter"]


def test_cancelled_training_keeps_its_steps(base, tmp_path):
    config = TrainingConfig(**SETTINGS).model_copy(update={"checkpoint_steps": 100})
    event = threading.Event()
    seen = []

    def progress(step, steps, loss, seconds):
        seen.append(step)
        if len(seen) == 3:
            event.set()

    arguments = {"preferences": pairs(8), "dtype": "float32"}
    out = tmp_path / "adapter"
    with pytest.raises(TrainingError, match="stopped after step 3"):
        train_adapter(rows(8), base, out, config, progress=progress, cancel=event, **arguments)
    assert not out.exists()
    report = train_adapter(rows(8), base, out, config, **arguments)
    assert report.resumed_from == 3
    plain = train_adapter(rows(8), base, tmp_path / "plain", config, **arguments)
    assert report.losses == plain.losses
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "plain"]


@pytest.fixture
def interruptible():
    """A process that was started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_finishes_the_step_and_keeps_it(base, tmp_path, interruptible):
    config = TrainingConfig(**SETTINGS)

    def press(step, steps, loss, seconds):
        if step == 3:
            signal.raise_signal(signal.SIGINT)  # in this thread, before it goes on

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_adapter(
            rows(8),
            base,
            tmp_path / "a",
            config,
            preferences=pairs(8),
            progress=press,
            dtype="float32",
        )
    assert signal.getsignal(signal.SIGINT) is before
    assert [p.name for p in tmp_path.iterdir()] == [".a.work"]
    report = train_adapter(
        rows(8), base, tmp_path / "a", config, preferences=pairs(8), dtype="float32"
    )
    assert report.resumed_from == 3


def test_other_inputs_begin_anew(base, tmp_path):
    config = TrainingConfig(**SETTINGS)
    event = threading.Event()
    event.set()
    out = tmp_path / "a"
    with pytest.raises(TrainingError, match="stopped"):
        train_adapter(rows(8), base, out, config, preferences=pairs(8), cancel=event)
    changed = config.model_copy(update={"learning_rate": 5e-3})
    report = train_adapter(rows(8), base, out, changed, preferences=pairs(8))
    assert report.resumed_from == 0


def test_a_damaged_checkpoint_does_not_count(base, tmp_path):
    config = TrainingConfig(**SETTINGS)
    event = threading.Event()
    event.set()
    out = tmp_path / "a"
    with pytest.raises(TrainingError, match="stopped"):
        train_adapter(rows(8), base, out, config, preferences=pairs(8), cancel=event)
    (folder,) = (tmp_path / ".a.work" / "sft").glob("step-*")
    file = folder / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    report = train_adapter(rows(8), base, out, config, preferences=pairs(8))
    assert report.resumed_from == 0


def test_a_disk_that_takes_no_checkpoint_does_not_end_the_training(base, tmp_path, monkeypatch):
    import reflectory.training.resume as resume

    def full(trainer, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "write_weights", full)
    report = train_adapter(
        rows(8), base, tmp_path / "a", TrainingConfig(**SETTINGS), preferences=pairs(8)
    )
    assert report.steps == 12
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_at_the_end_keeps_the_checkpoints(base, tmp_path, monkeypatch):
    import reflectory.training.methods as methods

    config = TrainingConfig(**SETTINGS)
    save = methods.save_adapter

    def full(model, folder, *, base_name):
        raise StorageError("cannot write the adapter: no space left", hint="free some")

    monkeypatch.setattr(methods, "save_adapter", full)
    with pytest.raises(StorageError):
        train_adapter(rows(8), base, tmp_path / "a", config, preferences=pairs(8))
    assert [p.name for p in tmp_path.iterdir()] == [".a.work"]
    monkeypatch.setattr(methods, "save_adapter", save)
    seen = []
    report = train_adapter(
        rows(8),
        base,
        tmp_path / "a",
        config,
        preferences=pairs(8),
        progress=lambda *values: seen.append(values),
    )
    assert report.resumed_from == report.steps
    assert seen == []  # every step was done already
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_when_a_checkpoint_is_due():
    by_steps = Schedule(TrainingConfig(checkpoint_steps=3), Processes())
    assert [step for step in range(1, 8) if by_steps(step, 0.0)] == [3, 6]
    never = Schedule(TrainingConfig(checkpoint_seconds=None), Processes())
    assert not never.writes and not never(5, 1e12)
    by_time = Schedule(TrainingConfig(checkpoint_seconds=10.0), Processes())
    now = by_time._last
    assert [at for at in (5, 11, 15, 22) if by_time(1, now + at)] == [11, 22]
    # The clocks of several processes differ.
    assert not Schedule(TrainingConfig(), Processes(1, 1, 2)).writes


def test_a_work_folder_of_another_kind_is_cleared(tmp_path):
    folder = WorkFolder(tmp_path / "a", key_of({"x": 1}), Processes())
    folder.prepare()
    (folder.path / "sft" / ".new-step-1").mkdir(parents=True)
    folder.open()
    assert not list(folder.path.glob("sft/.new-*"))
    WorkFolder(tmp_path / "a", key_of({"x": 2}), Processes()).open()
    assert not folder.path.exists()


def test_out_of_memory_goes_on_with_smaller_micro_batches(base, tmp_path, monkeypatch):
    import reflectory.training.sft as sft

    plain = sft.CompletionTrainer.summed_loss

    def greedy(self, model, inputs):
        if len(self.books.losses) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, model, inputs)

    config = TrainingConfig(**SETTINGS).model_copy(update={"micro_batch": 2, "dropout": 0.0})
    monkeypatch.setattr(sft.CompletionTrainer, "summed_loss", greedy)
    with pytest.raises(TrainingError, match="ran out of memory"):
        train(base, tmp_path / "a", config)
    monkeypatch.setattr(sft.CompletionTrainer, "summed_loss", plain)
    smaller = config.model_copy(update={"micro_batch": 1})
    report = train(base, tmp_path / "a", smaller)
    assert report.resumed_from == 2
    undisturbed = train(base, tmp_path / "b", config)
    assert report.losses == pytest.approx(undisturbed.losses, rel=1e-3)
