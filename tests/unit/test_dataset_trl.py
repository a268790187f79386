"""TRL's own trainers take a step on what we write, in every format, style and file format."""

import pytest
import torch
from test_dataset_formats import ROWS

from reflectory.agents.graders import FunctionGrader
from reflectory.testing.tiny import tiny_model
from reflectory.training.dataset import write_dataset
from reflectory.training.dataset_files import ROWS_FILES
from reflectory.training.rewards import reward_function

COMMON = {
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "report_to": [],
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
    "disable_tqdm": True,
    "learning_rate": 1e-2,
}


def load(folder, file_format, cache):
    """Return the rows as TRL's users get them, by ``datasets`` alone."""
    import datasets

    if file_format == "datasets":
        return datasets.load_from_disk(str(folder))["train"]
    return datasets.load_dataset(
        {"jsonl": "json"}.get(file_format, file_format),
        data_files=str(folder / ROWS_FILES[file_format]),
        split="train",
        cache_dir=str(cache),
    )


def kinds(format):
    """Return TRL's configuration and trainer of a format, and what they need besides."""
    import trl
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    generation = {"max_completion_length": 4, "num_generations": 2}
    return {
        "sft": (trl.SFTConfig, trl.SFTTrainer, {}),
        "dpo": (trl.DPOConfig, trl.DPOTrainer, {}),
        "kto": (trl.KTOConfig, trl.KTOTrainer, {}),
        "feedback": (SDFTConfig, SDFTTrainer, generation),
        "sdpo": (SDPOConfig, SDPOTrainer, {**generation, "include_environment_feedback": True}),
        "prompts": (trl.GRPOConfig, trl.GRPOTrainer, generation),
        "rloo": (trl.RLOOConfig, trl.RLOOTrainer, generation),
    }[format]


def trainer_for(format, data, folder, **given):
    from peft import LoraConfig

    config, trainer, more = kinds(format)
    model, tokenizer = tiny_model()
    return trainer(
        model=model,
        args=config(output_dir=str(folder), **COMMON, **more),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        **given,
    )


@pytest.fixture(autouse=True)
def _silence(monkeypatch):
    """TRL would tell its makers about the training."""
    import trl.trainer.base_trainer as base

    monkeypatch.setattr(base, "send_telemetry", lambda **_: None)


@pytest.mark.parametrize("format", ["sft", "dpo", "kto", "feedback"])
@pytest.mark.parametrize(
    ("style", "file_format"), [("chat", "jsonl"), ("plain", "parquet"), ("chat", "datasets")]
)
def test_a_trainer_takes_a_step(tmp_path, format, style, file_format):
    write_dataset(
        tmp_path / "set", ROWS[format], format=format, style=style, file_format=file_format
    )
    data = load(tmp_path / "set", file_format, tmp_path / "cache")
    assert len(data) == len(ROWS[format])
    trainer = trainer_for(format, data, tmp_path / "out")
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    result = trainer.train()
    assert result.global_step == 1 and torch.isfinite(torch.tensor(result.training_loss))
    changed = [n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])]
    assert changed and all("lora" in name for name in changed)


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_feedback_reaches_the_teacher_of_sdpo(tmp_path, style):
    write_dataset(tmp_path / "set", ROWS["feedback"], format="feedback", style=style)
    data = load(tmp_path / "set", "jsonl", tmp_path / "cache")
    # Constant rewards leave the feedback as the only thing that can be learnt.
    trainer = trainer_for(
        "sdpo",
        data,
        tmp_path / "out",
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
    )
    assert trainer.train().global_step == 1
    metrics = trainer.teacher_context_builder.last_metrics
    assert metrics["self_distillation/feedback_used_fraction"] == 1.0


@pytest.mark.parametrize(
    ("trainer", "style", "file_format"),
    [
        ("prompts", "chat", "jsonl"),
        ("prompts", "plain", "parquet"),
        ("rloo", "chat", "datasets"),
    ],
)
def test_policies_learn_from_the_teachers_grades(tmp_path, trainer, style, file_format):
    seen = []

    def longer(task):
        seen.append(task)
        return min(1.0, len(task.answer) / 20)

    write_dataset(
        tmp_path / "set", ROWS["prompts"], format="prompts", style=style, file_format=file_format
    )
    reward = reward_function(FunctionGrader(longer))
    policy = trainer_for(
        trainer,
        load(tmp_path / "set", file_format, tmp_path / "cache"),
        tmp_path / "out",
        reward_funcs=reward,
    )
    assert policy.train().global_step == 1
    logged = {name for entry in policy.state.log_history for name in entry}
    assert "rewards/teacher_reward/mean" in logged
    assert reward.graded == 2 and seen
    passages = [p.text for task in seen for p in task.passages]
    assert set(passages) == {"the stone lies there"}
    assert {(task.question, task.rubric) for task in seen} == {("the stone", "right")}
