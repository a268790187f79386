"""What TRL's trainers are told, for both objectives.

Importing this module imports torch, transformers and trl.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from trl import DPOConfig, SFTConfig

from reflectory.config import TrainingConfig
from reflectory.training.plan import StagePlan

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def trl_arguments(
    objective: Literal["sft", "dpo"],
    config: TrainingConfig,
    plan: StagePlan,
    *,
    folder: str,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """Return TRL's arguments for one objective.

    Args:
        objective: Which one.
        config: What the user decides.
        plan: What was planned: rows of a forward pass, steps, whether activations are
            computed again.
        folder: A folder for what the trainer insists on writing.
        device: Where to train.
        dtype: Number format of the base.
    """
    supervised = objective == "sft"
    shared: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "learning_rate": config.learning_rate if supervised else config.preference_learning_rate,
        "lr_scheduler_type": _SCHEDULES[config.schedule],
        "warmup_steps": math.ceil(config.warmup * plan.steps),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_gradient_norm,
        "num_train_epochs": config.epochs if supervised else config.preference_epochs,
        "max_steps": -1 if config.max_steps is None else config.max_steps,
        "max_length": None,  # the rows are cut already, at the right end
        "seed": config.seed,
        "data_seed": config.seed,
        "gradient_checkpointing": plan.checkpointing,
        "use_cpu": device.type == "cpu",
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
        "save_strategy": "no",  # ours are written by a callback, whole or not at all
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": device.type == "cuda",
        "remove_unused_columns": supervised and not plan.shared,
        "ddp_find_unused_parameters": False,
    }
    if supervised:
        arguments = SFTConfig(**shared)
    else:
        arguments = DPOConfig(**shared, beta=config.beta, loss_type=["sigmoid"])
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # TRL refuses transformers' data parallelism over several devices
    return arguments
