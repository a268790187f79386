"""The base model with a fresh adapter on it, and the adapter as files.

torch, transformers and peft are imported inside the functions.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reflectory.config import TrainingConfig
from reflectory.errors import ModelError, StorageError, TrainingError


@contextlib.contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed everything that draws, and give the caller's generators back afterwards.

    The trainer of transformers seeds Python, numpy and torch for the whole
    process; a library should not change what its user draws next.
    """
    import random

    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


@contextlib.contextmanager
def without_deprecations() -> Iterator[None]:
    """Hide what PEFT and TRL are told about names that transformers will drop."""
    with warnings.catch_warnings():
        for name in ("gradient_checkpointing", "is_gradient_checkpointing"):
            warnings.filterwarnings("ignore", rf"`{name}` is deprecated", FutureWarning)
        yield


def add_adapter(model: Any, config: TrainingConfig) -> Any:
    """Return the model with a fresh LoRA adapter; its base is frozen.

    The adapter's weights are float32 whatever the base has: their updates are
    smaller than what bfloat16 can add to a weight.

    Raises:
        ModelError: The model has no layers of the names in ``target_modules``.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    targets = config.target_modules
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type=TaskType.CAUSAL_LM,
    )
    try:
        return get_peft_model(model, lora)
    except ValueError as error:
        raise ModelError(
            f"no adapter fits this model: {error}",
            hint="set training.target_modules to all-linear or to names of its linear layers",
        ) from error


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return how many parameters are trained and how many there are (Equation 8)."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def save_adapter(model: Any, folder: Path, *, base_name: str) -> None:
    """Write the adapter as safetensors with the configuration that PEFT reads.

    Args:
        model: What :func:`add_adapter` returned, trained.
        folder: Where to write; it exists.
        base_name: Name of the base; a path of this machine would tell nobody.

    Raises:
        TrainingError: A weight is not a number.
        StorageError: The disk is full or the folder cannot be written.
    """
    import torch
    from safetensors import SafetensorError

    trained = (p for p in model.parameters() if p.requires_grad)
    if not all(bool(torch.isfinite(p).all()) for p in trained):
        raise TrainingError(
            "the adapter has weights that are not numbers", hint="lower training.learning_rate"
        )
    try:
        # PEFT would look the base up on the hub to see whether its embedding changed.
        model.save_pretrained(str(folder), save_embedding_layers=False)
    except SafetensorError as error:
        raise StorageError(
            f"cannot write the adapter: {error}", hint="free some space on the disk"
        ) from error
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["base_model_name_or_path"] = base_name
    # PEFT keeps them as a set; in order, equal adapters are equal bytes.
    if isinstance(data.get("target_modules"), list):
        data["target_modules"].sort()
    file.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
