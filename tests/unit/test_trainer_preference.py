"""Equation 12: the loss by hand, its reference, shared prompts, and what it teaches."""

import math

import pytest
import torch

from reflectory.config import TrainingConfig
from reflectory.errors import DatasetError
from reflectory.testing.tiny import save_tiny_model, tiny_tokenizer
from reflectory.training import Message, PreferenceRow, Provenance, train_adapter
from reflectory.training.methods import add_adapter, own_randomness, without_deprecations
from reflectory.training.plan import Memory, StagePlan
from reflectory.training.processes import Processes
from reflectory.training.rows import TrainingRow, assistant
from reflectory.training.stages import Workshop, _preference
from reflectory.training.tokens import tokenise_pairs

SMALL = TrainingConfig(
    epochs=1,
    objective="dpo",
    rank=4,
    alpha=8,
    learning_rate=1e-2,
    preference_learning_rate=1e-2,
    batch_size=4,
    checkpoint_seconds=None,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def prompt(i):
    return (
        Message(role="system", content="You work with documents."),
        Message(role="user", content=f"{'text ' * (2 + i)}\n\nQuestion: number {i}?"),
    )


def pair(i, chosen="red stone", rejected="the answer is perhaps a blue stone or so", margin=0.5):
    return PreferenceRow(
        prompt=prompt(i),
        chosen=assistant(chosen + " a" * i),
        rejected=assistant(rejected),
        margin=margin,
        provenance=Provenance(trajectory=f"t{i}", grader="rule", score=0.8),
    )


def pairs_of(count):
    return [pair(i) for i in range(count)]


def row(i):
    return TrainingRow(
        prompt=prompt(i),
        completion=assistant("red stone" + " a" * i),
        provenance=Provenance(trajectory=f"t{i}", grader="rule", score=0.8),
    )


def trainer_for(base, rows, tmp_path, config=SMALL, *, micro_batch=1, disturb=0.0):
    from reflectory.models.engine.loading import load_model, load_tokenizer
    from reflectory.training.steps import StepCallback

    model, tokenizer = load_model(base, torch.device("cpu"), torch.float32), load_tokenizer(base)
    callback = StepCallback(None)
    plan = StagePlan(
        objective="dpo",
        rows=len(rows),
        steps=math.ceil(len(rows) / config.batch_size),
        micro_batch=micro_batch,
        accumulation=config.batch_size // micro_batch,
        checkpointing=False,
        tokens=0,
        flops=0.0,
        flops_6nd=0.0,
        memory=Memory(),
    )
    with own_randomness(0), without_deprecations():
        adapted = add_adapter(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad and disturb:
                parameter.data += disturb * torch.randn_like(parameter)
        shop = Workshop(
            adapted,
            tokenizer,
            config,
            torch.device("cpu"),
            torch.float32,
            Processes(),
            None,
            None,
            lambda: False,
        )
        tokens = tokenise_pairs(tokenizer, rows, config.max_length)
        trainer = _preference(plan, tokens.rows, [], shop, str(tmp_path), callback)
    callback.trainer = trainer
    return trainer, tokens.rows


def log_p(model, prompt_ids, completion_ids):
    """Return log p(completion | prompt), token by token in double precision."""
    ids = torch.tensor([[*prompt_ids, *completion_ids]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].double().log_softmax(-1)
    start = len(prompt_ids)
    return sum(logits[start - 1 + i, token].item() for i, token in enumerate(completion_ids))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_the_loss_is_equation_12(base, tmp_path, share, micro_batch):
    config = SMALL.model_copy(update={"margin_weight": 0.7})
    trainer, tokens = trainer_for(base, pairs_of(3), tmp_path, config, disturb=0.05)
    trainer.compute_reference(trainer.pairs, "base")
    trainer.data_collator.share = share
    total = 0.0
    for start in range(0, 3, micro_batch):
        batch = trainer.data_collator(trainer.pairs[start : start + micro_batch])
        total += trainer.summed_loss(trainer.model, batch)[0].item()

    def ratio(row, ids):
        with trainer.model.disable_adapter():
            reference = log_p(trainer.model, row.prompt_ids, ids)
        return log_p(trainer.model, row.prompt_ids, ids) - reference

    by_hand = 0.0
    for r in tokens:
        lead = 0.1 * (ratio(r, r.chosen_ids) - ratio(r, r.rejected_ids)) - 0.7 * r.margin
        by_hand += -math.log(1 / (1 + math.exp(-lead)))
    assert abs(by_hand - 3 * math.log(2)) > 0.01  # the adapter does change something
    assert total == pytest.approx(by_hand, rel=1e-5)


def test_the_loss_is_that_of_trl_itself(base, tmp_path):
    from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

    trainer, tokens = trainer_for(base, pairs_of(3), tmp_path, disturb=0.05)
    trainer.compute_reference(trainer.pairs, "base")
    ours = trainer.compute_loss(trainer.model, trainer.data_collator(trainer.pairs))
    theirs = DataCollatorForPreference(0)(
        [
            {name: list(getattr(r, name)) for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
            for r in tokens
        ]
    )
    value = DPOTrainer.compute_loss(trainer, trainer.model, theirs)
    assert ours.item() == pytest.approx(value.item(), rel=1e-5)


def test_reading_a_prompt_once_changes_nothing(base, tmp_path):
    trainer, _ = trainer_for(base, pairs_of(4), tmp_path, disturb=0.05)
    collator = trainer.data_collator
    assert collator.share  # the tiny Llama can
    trainer.compute_reference(trainer.pairs, "base")
    gradients = []
    for share in (True, False):
        trainer.model.zero_grad()
        batch = collator.collate(trainer.pairs, share=share)
        trainer.summed_loss(trainer.model, batch)[0].backward()
        gradients.append([p.grad.clone() for p in trainer.trained().values()])
    for ours, plain in zip(*gradients, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)
    shared, apart = (collator.collate(trainer.pairs, share=s) for s in (True, False))
    assert int(shared["tokens"]) < 0.75 * int(apart["tokens"])


def test_the_reference_is_the_base_or_where_it_started(base, tmp_path):
    trainer, tokens = trainer_for(base, pairs_of(2), tmp_path, disturb=0.05)
    trainer.compute_reference(trainer.pairs, "start")
    at_start = trainer.reference
    batch = trainer.data_collator(trainer.pairs)
    # Against itself no answer leads: the loss of each pair is log 2.
    assert trainer.summed_loss(trainer.model, batch)[0].item() == pytest.approx(
        2 * math.log(2), rel=1e-4
    )
    trainer.compute_reference(trainer.pairs, "base")
    assert not torch.allclose(at_start, trainer.reference)
    with trainer.model.disable_adapter():
        wanted = [log_p(trainer.model, t.prompt_ids, t.chosen_ids) for t in tokens]
    assert trainer.reference[:, 0].tolist() == pytest.approx(wanted, rel=1e-4)


def test_no_second_adapter_stays(base, tmp_path):
    trainer, _ = trainer_for(base, pairs_of(2), tmp_path)
    assert list(trainer.model.peft_config) == ["default"]
    assert trainer.trained()
    assert not any(".ref." in name for name, _ in trainer.model.named_parameters())


def test_batch_of_four_equals_four_accumulated_ones(base, tmp_path):
    # Seven pairs: a full batch and a smaller one whose micro-batches differ in size.
    outcomes = []
    for micro_batch in (4, 2, 1):
        trainer, _ = trainer_for(base, pairs_of(7), tmp_path, micro_batch=micro_batch)
        trainer.compute_reference(trainer.pairs, "base")
        trainer.train()
        outcomes.append((trainer.books.losses, trainer.trained()))
    losses, weights = outcomes[0]
    assert len(losses) == 2
    for other_losses, other_weights in outcomes[1:]:
        assert other_losses == pytest.approx(losses, rel=1e-4)
        for name, value in weights.items():
            assert torch.allclose(value, other_weights[name], atol=1e-4), name


def test_pairs_are_learnt(base, tmp_path):
    config = SMALL.model_copy(update={"max_steps": 12})
    report = train_adapter(
        [], base, tmp_path / "a", config, preferences=pairs_of(4), dtype="float32"
    )
    assert report.losses[0] == pytest.approx(math.log(2), rel=1e-4)
    assert report.losses[-1] < 0.2
    assert (report.manifest.rows, report.manifest.preferences) == (0, 4)
    assert report.manifest.preferences_sha256
    assert [s.objective for s in report.manifest.stages] == ["dpo"]


def test_sft_then_dpo_is_one_adapter(base, tmp_path):
    config = SMALL.model_copy(update={"objective": "sft+dpo", "max_steps": 3})
    rows, pairs = [row(i) for i in range(4)], pairs_of(4)
    report = train_adapter(rows, base, tmp_path / "a", config, preferences=pairs, dtype="float32")
    assert [(s.objective, s.steps) for s in report.manifest.stages] == [("sft", 3), ("dpo", 3)]
    assert report.steps == len(report.losses) == 6
    supervised = config.model_copy(update={"objective": "sft"})
    alone = train_adapter(rows, base, tmp_path / "b", supervised, dtype="float32")
    assert report.losses[:3] == alone.losses
    # The reference is the base, and SFT has moved away from it ...
    assert abs(report.losses[3] - math.log(2)) > 1e-3
    config = config.model_copy(update={"reference": "start"})
    start = train_adapter(rows, base, tmp_path / "c", config, preferences=pairs, dtype="float32")
    # ... and from where DPO starts nothing has moved yet.
    assert start.losses[3] == pytest.approx(math.log(2), rel=1e-5)


def test_equal_seeds_give_equal_bytes(base, tmp_path):
    config = SMALL.model_copy(update={"objective": "sft+dpo", "max_steps": 2})
    for name in ("a", "b"):
        train_adapter(
            [row(i) for i in range(4)],
            base,
            tmp_path / name,
            config,
            preferences=pairs_of(4),
            dtype="float32",
        )
    weights = "adapter_model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()


@pytest.mark.parametrize("method", ["dora", "ia3", "prefix", "prompt", "p-tuning"])
def test_every_method_prefers(base, tmp_path, method):
    config = SMALL.model_copy(update={"method": method, "max_steps": 2, "virtual_tokens": 4})
    report = train_adapter(
        [], base, tmp_path / "a", config, preferences=pairs_of(4), dtype="float32"
    )
    assert report.steps == 2
    assert all(map(math.isfinite, report.losses))
    assert all(length > 0 for length in report.manifest.stages[0].gradient_norms)


def test_what_cannot_be_compared_is_said(base, tmp_path):
    with pytest.raises(DatasetError, match="1 preference pairs"):
        train_adapter([], base, tmp_path / "a", SMALL, preferences=[pair(0)])
    short = SMALL.model_copy(update={"max_length": 16})
    with pytest.raises(DatasetError, match="at most 16 tokens"):
        train_adapter([], base, tmp_path / "a", short, preferences=pairs_of(3))
    both = SMALL.model_copy(update={"objective": "sft+dpo"})
    with pytest.raises(DatasetError, match="0 preference pairs"):
        train_adapter([row(0), row(1)], base, tmp_path / "a", both)
    assert not (tmp_path / "a").exists()


def test_a_long_prompt_is_cut_alike_for_both_completions():
    tokenizer = tiny_tokenizer()
    long = PreferenceRow(
        prompt=(Message(role="user", content="early " * 100 + "late. Question?"),),
        chosen=assistant("yes"),
        rejected=assistant("no, and a longer text"),
        margin=0.2,
        provenance=Provenance(trajectory="t", grader="rule", score=0.8),
    )
    (made,) = tokenise_pairs(tokenizer, [long], 120).rows
    assert len(made.prompt_ids) + max(len(made.chosen_ids), len(made.rejected_ids)) <= 120
    assert "late. Question?" in tokenizer.decode(made.prompt_ids)
    assert tokenizer.decode(made.chosen_ids) == "yes<|im_end|>"
