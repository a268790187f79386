"""The contenders of ``bench/training.py``, each measured in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
import trl
from datasets import Dataset
from engine_contenders import peak_memory
from peft import LoraConfig
from training_rows import make_pairs, make_rows

from reflectory.config import TrainingConfig
from reflectory.models.device import choose_device, choose_dtype
from reflectory.models.engine.loading import load_tokenizer
from reflectory.training import PreferenceRow, TrainingRow, train_adapter
from reflectory.training.tokens import tokenise_pairs, tokenise_rows

RANK, ALPHA = 16, 32
LEARNING_RATES = {"sft": 2e-4, "dpo": 2e-5}


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Train once and return what it took; this process does nothing else.

    Args:
        spec: ``contender`` (``ours`` or ``trl``), ``objective``, ``dtype``, ``checkpointing``
            (``on``, ``off``), ``defaults`` (whether each has its own instead of these),
            ``rows``, ``batch``, ``micro_batch``, ``length``, ``steps``, ``seed``,
            ``threads``, ``device`` and the folder of the ``model``.
    """
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    make = make_rows if spec["objective"] == "sft" else make_pairs
    rows = make(spec["rows"], spec["seed"])
    held = psutil.Process().memory_info().rss
    train = _ours if spec["contender"] == "ours" else _trl
    device = choose_device(spec["device"])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        began = time.perf_counter()
        found = train(spec, rows, Path(folder), device)
        found["whole_seconds"] = time.perf_counter() - began
    found["tokens"] = tokens_of(spec, rows)
    found["peak_bytes"] = peak_memory()
    found["held_before_bytes"] = held
    if device.type == "cuda":
        found["gpu_peak_bytes"] = torch.cuda.max_memory_allocated()
    return found


def tokens_of(spec: dict[str, Any], rows: Sequence[TrainingRow | PreferenceRow]) -> int:
    """Return the tokens of one pass; of pairs, a prompt counts for both completions."""
    tokenizer = load_tokenizer(Path(spec["model"]))
    if spec["objective"] == "sft":
        return tokenise_rows(tokenizer, rows, spec["length"]).tokens
    pairs = tokenise_pairs(tokenizer, rows, spec["length"])
    return pairs.tokens + sum(len(row.prompt_ids) for row in pairs.rows)


def _ours(
    spec: dict[str, Any], rows: Sequence[Any], folder: Path, device: torch.device
) -> dict[str, Any]:
    objective = spec["objective"]
    matched = {
        "batch_size": spec["batch"],
        "micro_batch": spec["micro_batch"],
        "activation_checkpointing": spec["checkpointing"],
    }
    config = TrainingConfig(
        objective=objective,
        rank=RANK,
        alpha=ALPHA,
        epochs=1.0,
        max_length=spec["length"],
        max_steps=spec["steps"],
        seed=spec["seed"],
        learning_rate=LEARNING_RATES["sft"],
        preference_learning_rate=LEARNING_RATES["dpo"],
        checkpoint_seconds=None,
        **({} if spec["defaults"] else matched),
    )
    supervised = objective == "sft"
    report = train_adapter(
        rows if supervised else [],
        spec["model"],
        folder / "adapter",
        config,
        preferences=[] if supervised else rows,
        device=device.type,
        dtype="auto" if spec["defaults"] else spec["dtype"],
    )
    plan = report.plan.stages[0]
    return {
        "seconds": report.seconds,
        "losses": list(report.losses),
        "steps": report.steps,
        "dtype": report.manifest.dtype,
        "checkpointing": plan.checkpointing,
        "micro_batch": plan.micro_batch,
        "batch": config.batch_size,
    }


class _Clock(transformers.TrainerCallback):
    """Takes the time from the first step's beginning to the last one's end."""

    def __init__(self) -> None:
        self.seconds = self._began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self._began


def _trl(
    spec: dict[str, Any], rows: Sequence[Any], folder: Path, device: torch.device
) -> dict[str, Any]:
    objective, clock = spec["objective"], _Clock()
    make = trl.SFTConfig if objective == "sft" else trl.DPOConfig
    options: dict[str, Any] = {
        "output_dir": str(folder / "trainer"),
        "learning_rate": LEARNING_RATES[objective],
        "num_train_epochs": 1,
        "max_steps": spec["steps"] or -1,
        "max_length": spec["length"],
        "seed": spec["seed"],
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type == "cuda",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
    }
    model: Any = str(spec["model"])
    if not spec["defaults"]:
        dtype = choose_dtype(spec["dtype"], device)
        options |= {
            "per_device_train_batch_size": spec["micro_batch"],
            "gradient_accumulation_steps": spec["batch"] // spec["micro_batch"],
            "gradient_checkpointing": spec["checkpointing"] == "on",
            "bf16": dtype == torch.bfloat16,
            "weight_decay": 0.0,
        }
        if objective == "dpo":  # as here, the reference is asked once
            options["precompute_ref_log_probs"] = True
        load = transformers.AutoModelForCausalLM.from_pretrained
        model = load(spec["model"], dtype=dtype).to(device)
    arguments = make(**options)
    tokenizer = load_tokenizer(Path(spec["model"]))
    trainer = (trl.SFTTrainer if objective == "sft" else trl.DPOTrainer)(
        model=model,
        args=arguments,
        train_dataset=_dataset(spec, rows, tokenizer),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[clock],
    )
    trainer._send_telemetry = lambda: None
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train()
    trainer.save_model(str(folder / "adapter"))
    base = next(p for name, p in trainer.model.named_parameters() if "lora" not in name)
    return {
        "seconds": clock.seconds,
        "losses": [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry],
        "steps": trainer.state.global_step,
        "dtype": str(base.dtype).removeprefix("torch.")
        + (" with autocast to bfloat16" if arguments.bf16 else ""),
        "checkpointing": bool(arguments.gradient_checkpointing),
        "micro_batch": arguments.per_device_train_batch_size,
        "batch": arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps,
    }


def _dataset(spec: dict[str, Any], rows: Sequence[Any], tokenizer: Any) -> Dataset:
    """Return rows as TRL takes them: the same token ids where the trainers are matched."""
    if spec["objective"] == "sft" and not spec["defaults"]:
        done = tokenise_rows(tokenizer, rows, spec["length"]).rows
        return Dataset.from_dict(
            {
                "input_ids": [list(row.input_ids) for row in done],
                "labels": [list(row.labels) for row in done],
            }
        )
    names = ["prompt", "completion"] if spec["objective"] == "sft" else []
    names = names or ["prompt", "chosen", "rejected"]
    return Dataset.from_list(
        [{name: [m.model_dump() for m in getattr(row, name)] for name in names} for row in rows]
    )
