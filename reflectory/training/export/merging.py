"""Base and adapter as one model in float32, checked before anything is written.

Importing this module imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from reflectory.errors import ModelError, UnsupportedCapability
from reflectory.models.adapter_files import AdapterFiles
from reflectory.models.engine.loading import (
    Facts,
    check_adapter,
    fingerprint_of,
    load_model,
    load_tokenizer,
    resolve_model,
)
from reflectory.models.engine.peft_model import served

_TIED = ("lm_head", "embed_tokens")


@dataclass(frozen=True)
class Student:
    """A base model and its adapter: beside it, or inside the weights once it is merged.

    Attributes:
        model: The transformers model on the CPU, in float32.
        tokenizer: Its tokenizer.
        folder: Folder of the base.
        base_name: What the base is called.
        fingerprint: Of the base, in float32.
        adapter: The adapter's files; ``None`` for the base itself.
    """

    model: Any
    tokenizer: Any
    folder: Path
    base_name: str
    fingerprint: str
    adapter: AdapterFiles | None


def checked_student(base: str | Path, adapter: str | Path | None) -> Student:
    """Return a base model with its adapter still beside it, the two checked.

    Args:
        base: Folder or hub id of the base model.
        adapter: Folder of its adapter, or ``None``.

    Raises:
        ModelError: The base cannot be loaded, the adapter was made for another one (the
            message names both fingerprints), or weights of the base are not numbers.
    """
    folder, name = resolve_model(base)
    fingerprint = fingerprint_of(folder, name, torch.float32)
    model = load_model(folder, torch.device("cpu"), torch.float32)
    check_finite(model, f"the base model {name}")
    files = None
    if adapter is not None:
        files = check_adapter(adapter, Facts.of(model, fingerprint), fingerprint)
    return Student(model, load_tokenizer(folder), folder, name, fingerprint, files)


def merged_student(base: str | Path, adapter: str | Path | None) -> Student:
    """Return base and adapter as one model.

    The sum W + (alpha / rank) B A is formed in float32 whatever the base is stored in:
    in bfloat16 most of a small update would be lost in rounding, and only the rounding
    of the result to the stored format is left to the caller.

    Args:
        base: As for :func:`checked_student`.
        adapter: As for :func:`checked_student`.

    Raises:
        ModelError: As from :func:`checked_student`, and where the adapter's weights are
            not numbers.
        UnsupportedCapability: The adapter cannot be put into the weights.
    """
    from peft import PeftModel

    student = checked_student(base, adapter)
    files = student.adapter
    if files is None:
        return student
    _check_tied(files, student.model)
    # The one that was compared with the adapter, and only if that fails another one.
    loaded = [student.model]
    model = served(
        lambda: (
            loaded.pop()
            if loaded
            else load_model(student.folder, torch.device("cpu"), torch.float32)
        ),
        files,
    )
    if isinstance(model, PeftModel):
        raise _cannot_merge(files, "its method adds to what the layers read, not to their weights")
    _declare_biases(model, files)
    check_finite(model, f"the base model with the adapter {files.folder}")
    return replace(student, model=model)


def check_finite(model: Any, what: str) -> None:
    """Make sure that every weight is a number.

    Raises:
        ModelError: One is not; the message names its tensor.
    """
    for name, weights in model.state_dict().items():
        if weights.is_floating_point() and not bool(torch.isfinite(weights).all()):
            raise ModelError(
                f"{what} has weights that are not numbers, in {name}",
                hint="train the adapter again with a lower learning rate; "
                "if it is the base, fetch it again",
            )


def is_tied(model: Any) -> bool:
    """Return whether the output projection is the embedding matrix itself."""
    output = model.get_output_embeddings()
    return output is None or output.weight is model.get_input_embeddings().weight


def _check_tied(files: AdapterFiles, model: Any) -> None:
    """Refuse to change one of two matrices that are the same one."""
    touched = [
        name
        for field in ("target_modules", "modules_to_save")
        for name in _names(files.config.get(field))
        if name.rpartition(".")[2] in _TIED
    ]
    if touched and is_tied(model):
        raise _cannot_merge(
            files, f"it changes {touched[0]}, which this model uses for reading and writing alike"
        )


def _declare_biases(model: Any, files: AdapterFiles) -> None:
    """Make the configuration say that layers have biases, where the adapter brought them.

    A model folder is read by its configuration: what that does not announce is dropped
    with a warning that few people see.
    """
    here, expected = set(model.state_dict()), _announced(model.config)
    if not here - expected:
        return
    for setting in ("attention_bias", "mlp_bias"):
        if getattr(model.config, setting, None) is not False:
            continue
        setattr(model.config, setting, True)
        more = _announced(model.config)
        if here & (more - expected):
            expected = more
        else:
            setattr(model.config, setting, False)
    if here - expected:
        left = sorted(here - expected)[0]
        raise _cannot_merge(files, f"the configuration of the base has no place for {left}")
    for name in expected - here:  # layers of the same kind that the adapter left alone
        layer = model.get_submodule(name.rpartition(".")[0])
        layer.bias = torch.nn.Parameter(torch.zeros(layer.out_features), requires_grad=False)


def _announced(config: Any) -> set[str]:
    """Return the names of the tensors that a model of this configuration has."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return set(AutoModelForCausalLM.from_config(config).state_dict())


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(name) for name in value or ()]


def _cannot_merge(files: AdapterFiles, why: str) -> UnsupportedCapability:
    return UnsupportedCapability(
        f"the adapter {files.folder} cannot be merged: {why}",
        hint="use it as an adapter beside its base, or train one of a method that changes "
        "weights, such as LoRA on the linear layers",
    )
