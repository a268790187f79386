import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.config import TrainingConfig
from reflectory.errors import DatasetError, ModelError, StorageError, TrainingError, UserError
from reflectory.models.engine.rendering import render
from reflectory.models.protocol import Segment
from reflectory.testing.tiny import save_tiny_model, tiny_tokenizer
from reflectory.training import Message, Provenance, TrainingRow, train_adapter
from reflectory.training.methods import add_adapter, without_deprecations
from reflectory.training.plan import Memory, StagePlan
from reflectory.training.rows import assistant
from reflectory.training.tokens import IGNORED, end_of_turn, prompt_ids, tokenise_rows

SMALL = TrainingConfig(epochs=1, rank=4, alpha=8, learning_rate=1e-2, batch_size=4)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def row(text="the answer is here", question="what is there?", documents="[1] the stone lies there"):
    return TrainingRow(
        prompt=(
            Message(role="system", content="You work with documents."),
            Message(role="user", content=f"{documents}\n\nQuestion: {question}"),
        ),
        completion=assistant(text),
        provenance=Provenance(
            trajectory="t", what="response", iteration=0, grader="rule", score=0.8
        ),
    )


def rows_of(count):
    # Different lengths on purpose: equal ones would hide a wrong normalisation.
    return [row("stone " * (1 + 3 * i), f"number {i}?", "text " * (2 + i)) for i in range(count)]


def plan_for(count, config, micro_batch=1, *, checkpointing=False, objective="sft"):
    steps = math.ceil(count / config.batch_size) if config.max_steps is None else config.max_steps
    return StagePlan(
        objective=objective,
        rows=count,
        steps=steps,
        micro_batch=micro_batch,
        accumulation=config.batch_size // micro_batch,
        checkpointing=checkpointing,
        tokens=0,
        flops=0.0,
        flops_6nd=0.0,
        memory=Memory(),
    )


def trainer_for(base, rows, tmp_path, config=SMALL, *, micro_batch=1, seed=0):
    """Return the trainer as the package makes it, before its first step."""
    from datasets import Dataset

    from reflectory.models.engine.loading import load_model, load_tokenizer
    from reflectory.training.arguments import trl_arguments
    from reflectory.training.sft import CompletionTrainer
    from reflectory.training.steps import StepCallback

    torch.manual_seed(seed)
    model, tokenizer = load_model(base, torch.device("cpu"), torch.float32), load_tokenizer(base)
    tokenised = tokenise_rows(tokenizer, rows, config.max_length)
    data = Dataset.from_dict(
        {
            "input_ids": [list(r.input_ids) for r in tokenised.rows],
            "labels": [list(r.labels) for r in tokenised.rows],
        }
    )
    callback = StepCallback(None)
    with without_deprecations():
        trainer = CompletionTrainer(
            model=add_adapter(model, config),
            args=trl_arguments(
                "sft",
                config,
                plan_for(len(tokenised.rows), config, micro_batch),
                folder=str(tmp_path),
                device=torch.device("cpu"),
                dtype=torch.float32,
            ),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[callback],
        )
    callback.trainer = trainer
    return trainer, tokenised


def adapter_weights(trainer):
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def test_the_loss_is_equation_6(base, tmp_path):
    trainer, tokenised = trainer_for(base, rows_of(4), tmp_path, micro_batch=4)
    batch = trainer.data_collator(
        [{"input_ids": list(r.input_ids), "labels": list(r.labels)} for r in tokenised.rows]
    )
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    # Closed form, row by row: -(1 / N_target) * sum of log p over the target tokens.
    total, count = 0.0, 0
    with torch.no_grad():
        for r in tokenised.rows:
            ids = torch.tensor([r.input_ids])
            log_p = trainer.model(input_ids=ids).logits[0].double().log_softmax(-1)
            for i, label in enumerate(r.labels):
                if label != IGNORED:
                    total += log_p[i - 1, label].item()
                    count += 1
    assert count == tokenised.target_tokens
    assert loss == pytest.approx(-total / count, rel=1e-5)


def test_the_loss_is_that_of_trl_itself(base, tmp_path):
    from trl import SFTTrainer

    trainer, tokenised = trainer_for(base, rows_of(4), tmp_path, micro_batch=4)
    batch = trainer.data_collator(
        [{"input_ids": list(r.input_ids), "labels": list(r.labels)} for r in tokenised.rows]
    )
    ours = trainer.compute_loss(trainer.model, dict(batch))
    theirs = SFTTrainer.compute_loss(trainer, trainer.model, dict(batch))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_a_prompt_is_read_and_not_learnt(base, tmp_path):
    trainer, tokenised = trainer_for(base, rows_of(2), tmp_path)
    first = tokenised.rows[0]
    prompt = sum(label == IGNORED for label in first.labels)
    assert first.labels[:prompt] == (IGNORED,) * prompt
    assert first.labels[prompt:] == first.input_ids[prompt:]

    def gradients(labels):
        trainer.model.zero_grad()
        inputs = {
            "input_ids": torch.tensor([first.input_ids]),
            "attention_mask": torch.ones(1, len(first.input_ids), dtype=torch.long),
            "labels": torch.tensor([labels]),
        }
        trainer.compute_loss(trainer.model, inputs).backward()
        return [p.grad.clone() for p in trainer.model.parameters() if p.requires_grad]

    plain = gradients(first.labels)
    whole = gradients(first.input_ids)
    completion_only = gradients([IGNORED] * prompt + list(first.input_ids[prompt:]))
    assert all(torch.equal(a, b) for a, b in zip(plain, completion_only, strict=True))
    # The comparison can fail: with labels on the prompt the gradient is another one.
    assert not all(torch.allclose(a, b) for a, b in zip(plain, whole, strict=True))


def test_batch_of_four_equals_four_accumulated_ones(base, tmp_path):
    # Six rows of different lengths: a full batch and a smaller one.
    outcomes = []
    for micro_batch in (4, 2, 1):
        trainer, _ = trainer_for(base, rows_of(6), tmp_path, micro_batch=micro_batch)
        trainer.train()
        outcomes.append((trainer.books.losses, adapter_weights(trainer)))
    losses, weights = outcomes[0]
    assert len(losses) == 2
    for other_losses, other_weights in outcomes[1:]:
        assert other_losses == pytest.approx(losses, rel=1e-4)
        for name, value in weights.items():
            assert torch.allclose(value, other_weights[name], atol=1e-4), name


def test_only_the_adapter_learns(base, tmp_path):
    trainer, _ = trainer_for(base, rows_of(4), tmp_path)
    frozen = {n: p.clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    before = adapter_weights(trainer)
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())
    assert all(p.dtype == torch.float32 for p in after.values() if p.requires_grad)
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert any("lora_B" in name for name in changed)
    assert len(changed) >= len(before) / 2


def test_a_repeated_row_is_learnt_and_the_adapter_loads_with_plain_peft(base, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    seen = []
    rows = [row("red stone"), row("red stone")]
    files = {f.name: f.read_bytes() for f in base.iterdir()}
    report = train_adapter(
        rows,
        base,
        tmp_path / "adapter",
        SMALL.model_copy(update={"max_steps": 30, "batch_size": 2}),
        base_name="tiny",
        progress=lambda *values: seen.append(values),
        dtype="float32",
    )
    assert report.steps == len(report.losses) == 30
    assert report.losses[-1] < report.losses[0] / 4
    assert [(step, steps) for step, steps, _, _ in seen] == [(i, 30) for i in range(1, 31)]
    assert tuple(loss for _, _, loss, _ in seen) == report.losses
    assert files == {f.name: f.read_bytes() for f in base.iterdir()}

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    tokens = tokenise_rows(tokenizer, rows[:1], SMALL.max_length).rows[0]
    start = sum(label == IGNORED for label in tokens.labels)
    prompt = torch.tensor([tokens.input_ids[:start]])
    said = model.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=40
    )
    # It says what it was taught, and stops there.
    assert tuple(said[0, start:].tolist()) == tokens.input_ids[start:]


def test_equal_seeds_give_equal_bytes_and_the_callers_draws_are_its_own(base, tmp_path):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = SMALL.model_copy(update={"seed": seed})
        train_adapter(rows_of(6), base, tmp_path / name, config, dtype="float32")
    assert torch.equal(torch.rand(3), wanted)
    for file in (
        "adapter_model.safetensors",
        "adapter_config.json",
        "reflectory.json",
        "README.md",
    ):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    weights = "adapter_model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() != (tmp_path / "c" / weights).read_bytes()


def test_bfloat16_trains_with_a_float32_adapter(base, tmp_path):
    from safetensors.torch import load_file

    config = SMALL.model_copy(update={"epochs": 6.0})
    report = train_adapter(rows_of(4), base, tmp_path / "a", config, dtype="bfloat16")
    assert report.manifest.dtype == "bfloat16"
    assert report.losses[-1] < report.losses[0]
    weights = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32}


def test_a_loss_that_is_no_number_leaves_nothing(base, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in base.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][0, 0] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match="step 1"):
        train_adapter(rows_of(2), broken, tmp_path / "adapter", SMALL, dtype="float32")
    assert [p.name for p in tmp_path.iterdir()] == ["broken"]


def test_a_full_disk_leaves_the_old_adapter(base, tmp_path):
    resource = pytest.importorskip("resource")
    train_adapter(rows_of(2), base, tmp_path / "adapter", SMALL, dtype="float32")
    old = (tmp_path / "adapter" / "reflectory.json").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(StorageError):
            train_adapter(rows_of(3), base, tmp_path / "adapter", SMALL, dtype="float32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "adapter" / "reflectory.json").read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_what_cannot_be_trained_is_said_before_it_starts(base, tmp_path):
    out = tmp_path / "adapter"
    with pytest.raises(DatasetError, match="1 rows"):
        train_adapter([row()], base, out, SMALL)
    with pytest.raises(DatasetError, match="16 tokens"):
        train_adapter(rows_of(3), base, out, SMALL.model_copy(update={"max_length": 16}))
    with pytest.raises(ModelError):
        train_adapter(rows_of(2), tmp_path / "nowhere", out, SMALL)
    with pytest.raises(ModelError, match="adapter fits"):
        train_adapter(rows_of(2), base, out, SMALL.model_copy(update={"target_modules": ("x",)}))
    with pytest.raises(UserError, match="float16"):
        train_adapter(rows_of(2), base, out, SMALL, device="cpu", dtype="float16")
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="something else"):
        train_adapter(rows_of(2), base, out, SMALL)
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]


def test_training_reads_the_tokens_that_the_engine_reads():
    tokenizer = tiny_tokenizer()
    given_row = row()
    segments = (
        Segment(text="You work with documents.", speaker="system", shared=True),
        Segment(text="[1] the stone lies there", shared=True),
        Segment(text="Question: what is there?"),
    )
    assert prompt_ids(tokenizer, given_row.prompt) == render(tokenizer, segments).token_ids
    tokens = tokenise_rows(tokenizer, [given_row], 1024).rows[0].input_ids
    assert tokenizer.decode(tokens).endswith("assistant\nthe answer is here<|im_end|>")
    assert end_of_turn(tokenizer) == (tokenizer.eos_token_id,)


TOKENIZER = tiny_tokenizer()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=80), st.text(min_size=1, max_size=40).filter(str.strip)),
        max_size=4,
    ),
    st.integers(16, 160),
)
def test_a_completion_is_whole_or_the_row_is_counted_out(texts, max_length):
    rows = [row(answer, documents=documents) for documents, answer in texts]
    result = tokenise_rows(TOKENIZER, rows, max_length)
    assert len(result.rows) + result.too_long == len(rows)
    assert result.shortened <= len(result.rows)
    assert result.longest <= max_length
    kept = iter(rows)
    for tokens in result.rows:
        target = [label for label in tokens.labels if label != IGNORED]
        said = TOKENIZER.decode(target[: -len(end_of_turn(TOKENIZER))])
        assert any(said == r.completion[0].content for r in kept)
        # The frame of the chat template survives the cut.
        prompt = TOKENIZER.decode(tokens.input_ids[: -len(target)])
        assert prompt.startswith("<|im_start|>system\nYou work with documents.<|im_end|>\n")
        assert prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_a_long_prompt_loses_its_beginning_and_keeps_the_question():
    long = row(documents="early " * 200 + "late")
    result = tokenise_rows(TOKENIZER, [long, row()], 200)
    text = TOKENIZER.decode(result.rows[0].input_ids)
    assert (result.shortened, result.too_long) == (1, 0)
    assert "late\n\nQuestion: what is there?" in text
    assert 190 <= len(result.rows[0].input_ids) <= 200


def test_nothing_is_reported_to_anybody(base, tmp_path, monkeypatch):
    import trl.trainer.base_trainer as trl_base

    sent = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(trl_base, "send_telemetry", lambda **data: sent.append(data))
    trainer_for(base, rows_of(2), tmp_path)
    assert sent == []


def test_checkpointing_changes_memory_and_not_the_result(base, tmp_path):
    config = SMALL.model_copy(update={"activation_checkpointing": "off"})
    plain = train_adapter(rows_of(4), base, tmp_path / "plain", config, dtype="float32")
    config = SMALL.model_copy(update={"activation_checkpointing": "on"})
    again = train_adapter(rows_of(4), base, tmp_path / "again", config, dtype="float32")
    assert not plain.plan.stages[0].checkpointing
    assert again.plan.stages[0].checkpointing
    assert again.losses == pytest.approx(plain.losses, rel=1e-5)
    assert again.plan.memory.activations < plain.plan.memory.activations
    assert json.loads((tmp_path / "again" / "reflectory.json").read_text())["steps"] == 1
