"""A parent to start from, rows that are held back, and what must leave nothing behind."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_target import pairs, rows

from reflectory.config import TrainingConfig
from reflectory.errors import DatasetError, ModelError, StorageError, TrainingError, UserError
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import read_adapter_manifest, train_adapter
from reflectory.training.holding_back import hold_back
from reflectory.training.lineage import file_sha256
from reflectory.training.watch import Watch

SMALL = TrainingConfig(epochs=1, rank=4, alpha=8, learning_rate=1e-2, batch_size=4)
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def parent(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent") / "adapter"
    config = SMALL.model_copy(update={"max_steps": 6})
    return train_adapter(rows(4), base, folder, config, dtype="float32"), folder


def test_a_round_starts_where_its_parent_ended(base, parent, tmp_path):
    report, folder = parent
    config = SMALL.model_copy(update={"max_steps": 2, "learning_rate": 1e-9})
    child = train_adapter(rows(4), base, tmp_path / "a", config, parent=folder, dtype="float32")
    assert child.losses[0] < report.losses[0] / 1.1
    assert child.losses[0] == pytest.approx(child.losses[1], rel=1e-4)
    assert child.manifest.parent_sha256 == file_sha256(folder / WEIGHTS)
    assert parent[0].manifest.parent_sha256 is None
    # The parent is read and never changed.
    assert read_adapter_manifest(folder) == report.manifest
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert child.manifest.parent_sha256 in card


def test_preference_training_against_its_parent(base, parent, tmp_path):
    config = SMALL.model_copy(update={"objective": "dpo", "max_steps": 1, "reference": "start"})
    folder = parent[1]
    child = train_adapter(
        [], base, tmp_path / "a", config, preferences=pairs(4), parent=folder, dtype="float32"
    )
    assert child.losses[0] == pytest.approx(math.log(2), rel=1e-5)
    config = config.model_copy(update={"reference": "base"})
    child = train_adapter(
        [], base, tmp_path / "b", config, preferences=pairs(4), parent=folder, dtype="float32"
    )
    assert abs(child.losses[0] - math.log(2)) > 1e-3


def test_a_parent_of_another_base_names_both(parent, tmp_path):
    other = save_tiny_model(tmp_path / "other", seed=3)
    with pytest.raises(ModelError) as told:
        train_adapter(rows(4), other, tmp_path / "a", SMALL, parent=parent[1], dtype="float32")
    assert parent[0].manifest.base_fingerprint in told.value.message
    assert "other@" in told.value.message
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_a_parent_that_is_none_or_of_another_method_is_refused(base, parent, tmp_path):
    with pytest.raises(ModelError, match="no adapter to start from"):
        train_adapter(rows(4), base, tmp_path / "a", SMALL, parent=tmp_path)
    config = SMALL.model_copy(update={"rank": 8})
    with pytest.raises(UserError, match="parent adapter"):
        train_adapter(rows(4), base, tmp_path / "a", config, parent=parent[1], dtype="float32")
    assert not list(tmp_path.iterdir())


def test_the_parent_may_be_replaced_by_its_child(base, parent, tmp_path):
    import shutil

    shutil.copytree(parent[1], tmp_path / "a")
    before = file_sha256(tmp_path / "a" / WEIGHTS)
    child = train_adapter(
        rows(4), base, tmp_path / "a", SMALL, parent=tmp_path / "a", dtype="float32"
    )
    assert child.manifest.parent_sha256 == before != child.manifest.weights_sha256


def test_training_stops_early_with_the_best_weights(base, tmp_path):
    # Eight rows that are learnt by heart, two that only get worse by it.
    config = SMALL.model_copy(
        update={
            "epochs": 60.0,
            "learning_rate": 3e-2,
            "schedule": "constant",
            "validation_share": 0.2,
            "validation_steps": 2,
            "patience": 3,
        }
    )
    report = train_adapter(rows(10), base, tmp_path / "a", config, dtype="float32")
    (stage,) = report.manifest.stages
    steps, losses = zip(*stage.checks, strict=True)
    assert steps[0] == 0 and report.manifest.held_back == 2
    assert stage.best_step == steps[losses.index(min(losses))]
    assert report.steps < report.plan.steps
    assert sum(step > stage.best_step for step in steps) == 3
    # Trained to that step and no further, it is the same adapter.
    until = config.model_copy(update={"max_steps": stage.best_step, "validation_share": 0.0})
    from reflectory.training.holding_back import hold_back

    learnt, _ = hold_back(rows(10), 0.2, config.seed, keep=2)
    train_adapter(learnt, base, tmp_path / "b", until, dtype="float32")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


def test_what_is_held_back_is_measured_by_equation_6(base, tmp_path):
    from reflectory.models.engine.loading import load_model, load_tokenizer
    from reflectory.training.tokens import tokenise_rows

    config = SMALL.model_copy(update={"validation_share": 0.3, "max_steps": 1})
    report = train_adapter(rows(10), base, tmp_path / "a", config, dtype="float32")
    _, held = hold_back(rows(10), 0.3, config.seed, keep=2)
    model = load_model(base, torch.device("cpu"), torch.float32)
    total = count = 0.0
    for row in tokenise_rows(load_tokenizer(base), held, 1024).rows:
        with torch.no_grad():
            log_p = model(torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        for i, label in enumerate(row.labels):
            if label >= 0:
                total -= log_p[i - 1, label].item()
                count += 1
    assert report.manifest.stages[0].checks[0] == (0, pytest.approx(total / count, rel=1e-5))


def test_a_start_that_is_best_is_kept():
    values = iter([1.0, 2.0, math.nan, 1.0])
    weight = torch.nn.Parameter(torch.zeros(2))
    watch = Watch(lambda: next(values), lambda: {"w": weight}, every=2, patience=3)
    stopped = []
    for step in (0, 2, 4, 6):
        stopped.append(watch.look(step))
        weight.data += 1.0
    assert stopped == [False, False, False, True]
    watch.restore()
    assert weight.tolist() == [0.0, 0.0]
    assert [watch.due(step, False) for step in (1, 2, 3)] == [False, True, False]
    assert watch.due(3, True)


@given(
    st.lists(st.integers(0, 6), min_size=4, max_size=40), st.floats(0.05, 0.5), st.integers(0, 9)
)
def test_rows_of_a_trajectory_stay_together(origins, share, seed):
    given_rows = [
        r.model_copy(update={"provenance": r.provenance.model_copy(update={"trajectory": f"t{o}"})})
        for r, o in zip(rows(len(origins)), origins, strict=True)
    ]
    learnt, held = hold_back(given_rows, share, seed, keep=2)
    assert sorted(map(id, (*learnt, *held))) == sorted(map(id, given_rows))
    assert len(learnt) >= 2
    if len(set(origins)) > 1:
        sides = [{r.provenance.trajectory for r in part} for part in (learnt, held)]
        assert not sides[0] & sides[1]
    assert (learnt, held) == hold_back(given_rows, share, seed, keep=2)
    assert hold_back(given_rows, 0.0, seed, keep=2) == (tuple(given_rows), ())


def test_too_few_rows_to_hold_back():
    with pytest.raises(DatasetError, match="2 rows are too few"):
        hold_back(rows(2), 0.1, 0, keep=2)


def test_schedule_warmup_decay_and_clipping_reach_the_optimiser(base, tmp_path):
    import reflectory.training.steps as steps

    rates = []
    seen = steps.StepCallback.on_step_end

    def watched(self, args, state, control, **rest):
        rates.append(rest["lr_scheduler"].get_last_lr()[0])
        return seen(self, args, state, control, **rest)

    config = SMALL.model_copy(
        update={"max_steps": 8, "warmup": 0.25, "schedule": "cosine", "weight_decay": 0.1}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps.StepCallback, "on_step_end", watched)
        report = train_adapter(rows(8), base, tmp_path / "a", config, dtype="float32")
    assert rates[0] == pytest.approx(5e-3)
    assert max(rates) == rates[1] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    norms = report.manifest.stages[0].gradient_norms
    assert len(norms) == 8 and all(norm > 0 for norm in norms)
    tight = config.model_copy(update={"max_gradient_norm": 1e-6})
    train_adapter(rows(8), base, tmp_path / "b", tight, dtype="float32")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() != (tmp_path / "b" / WEIGHTS).read_bytes()


def test_a_gradient_that_is_no_number_leaves_nothing(base, tmp_path, monkeypatch):
    from reflectory.training.sft import CompletionTrainer

    plain = CompletionTrainer.summed_loss

    def broken(self, model, inputs):
        total, count = plain(self, model, inputs)
        if len(self.books.losses) < 2:
            return total, count
        # A finite loss with a gradient that is not.
        return total + (total.detach() * 0 + torch.sqrt(total - total.detach())), count

    monkeypatch.setattr(CompletionTrainer, "summed_loss", broken)
    config = SMALL.model_copy(update={"max_steps": 6, "checkpoint_steps": 1})
    with pytest.raises(TrainingError, match="the gradient of step 3"):
        train_adapter(rows(4), base, tmp_path / "a", config, dtype="float32")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said_before_the_first_step(base, tmp_path):
    (tmp_path / "file").write_text("no folder")
    steps = []
    with pytest.raises(StorageError):
        train_adapter(
            rows(4),
            base,
            tmp_path / "file" / "a",
            SMALL,
            progress=lambda *values: steps.append(values),
        )
    assert steps == []


def test_an_earlier_manifest_can_still_be_read(base, parent, tmp_path):
    data = json.loads((parent[1] / "reflectory.json").read_text(encoding="utf-8"))
    new = ("preferences", "preferences_sha256", "held_back", "stages", "parent_sha256", "teacher")
    for name in (*new, "commit", "processes"):
        del data[name]
    data["schema_version"] = 1
    old = ("method", "virtual_tokens", "peft", "objective", "beta", "schedule")
    data["config"] = {n: v for n, v in data["config"].items() if n not in old}
    (tmp_path / "reflectory.json").write_text(json.dumps(data), encoding="utf-8")
    manifest = read_adapter_manifest(tmp_path)
    assert manifest.losses == parent[0].losses
    assert manifest.config.objective == "sft"
