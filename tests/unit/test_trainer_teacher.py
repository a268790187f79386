"""The divergence from a teacher by hand, and which teachers cannot be learnt from."""

import pytest
import torch
from training_target import rows

from reflectory.config import TrainingConfig
from reflectory.errors import UserError
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import read_adapter_manifest, train_adapter
from reflectory.training.distillation import DistributionTeacher
from reflectory.training.tokens import IGNORED

SMALL = TrainingConfig(epochs=1, rank=4, alpha=8, learning_rate=1e-2, batch_size=2, kl_weight=0.5)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "other", seed=1)


def model_of(folder):
    from reflectory.models.engine.loading import load_model

    return load_model(folder, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_divergence_is_equations_2_and_3(base, other, temperature):
    student, teacher = model_of(base), model_of(other)
    ids = torch.tensor([[5, 9, 30, 44, 7], [8, 9, 31, 45, 0]])
    labels = torch.tensor([[IGNORED, IGNORED, 30, 44, 7], [IGNORED, IGNORED, IGNORED, 45, IGNORED]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    columns, kept = torch.tensor([1, 2, 3]), labels[:, 2:]
    with torch.no_grad():
        logits = student(**inputs).logits
        made = DistributionTeacher(teacher, temperature=temperature, weight=1.0)
        value = made.divergence(student, inputs, columns, kept, logits[:, columns])
        theirs = teacher(**inputs).logits
    by_hand = 0.0
    for row in range(2):
        for i in range(1, 4):
            if labels[row, i + 1] == IGNORED:
                continue
            p = (theirs[row, i].double() / temperature).softmax(-1)
            q = (logits[row, i].double() / temperature).softmax(-1)
            by_hand += float((p * (p / q).log()).sum()) * temperature**2
    assert by_hand > 0.1
    assert value.item() == pytest.approx(by_hand, rel=1e-4)


def test_a_teacher_that_is_the_base_is_not_loaded_again(base, tmp_path, monkeypatch):
    import reflectory.training.distillation as distillation

    def never(*_):
        raise AssertionError("the base was loaded twice")

    monkeypatch.setattr(distillation, "load_teacher", never)
    config = SMALL.model_copy(update={"max_steps": 8})
    near = train_adapter(
        rows(4),
        base,
        tmp_path / "near",
        config.model_copy(update={"kl_weight": 50.0}),
        teacher=base,
        dtype="float32",
    )
    far = train_adapter(
        rows(4),
        base,
        tmp_path / "far",
        config.model_copy(update={"kl_weight": 0.0}),
        dtype="float32",
    )
    # At the first step the student is its base: nothing to diverge from.
    assert near.losses[0] == pytest.approx(far.losses[0], rel=1e-5)
    assert near.manifest.teacher == near.manifest.base_fingerprint
    assert far.manifest.teacher is None
    assert distance(base, tmp_path / "near") < distance(base, tmp_path / "far") / 2


def distance(base, adapter):
    """Return the mean divergence of an adapter's distributions from its base's."""
    from peft import PeftModel

    ids = torch.arange(4, 60).reshape(1, -1)
    plain = model_of(base)(ids).logits.log_softmax(-1)
    adapted = PeftModel.from_pretrained(model_of(base), str(adapter))(ids).logits.log_softmax(-1)
    return (plain.exp() * (plain - adapted)).sum(-1).mean().item()


def test_a_student_comes_nearer_to_its_teacher(base, other, tmp_path):
    config = SMALL.model_copy(
        update={"max_steps": 40, "kl_weight": 20.0, "batch_size": 4, "rank": 16}
    )
    report = train_adapter(rows(4), base, tmp_path / "a", config, teacher=other, dtype="float32")
    assert report.losses[-1] < report.losses[0] / 1.5
    assert read_adapter_manifest(tmp_path / "a").teacher.startswith("other@")


def test_another_tokenizer_is_refused_before_anything_is_loaded(base, tmp_path):
    stranger = save_tiny_model(tmp_path / "stranger", vocab_size=310)
    with pytest.raises(UserError, match="another tokenizer than the student: 10 tokens differ"):
        train_adapter(rows(4), base, tmp_path / "a", SMALL, teacher=stranger)
    assert [p.name for p in tmp_path.iterdir()] == ["stranger"]
    # Without a weight nobody looks at the teacher.
    plain = SMALL.model_copy(update={"kl_weight": 0.0})
    assert train_adapter(rows(4), base, tmp_path / "a", plain, teacher=stranger).steps == 2
