"""The base model with a trainable adapter on it, and the adapter as files.

torch, transformers and peft are imported inside the functions.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.config.methods import MethodConfig
from reflectory.errors import ModelError, StorageError, TrainingError, UserError
from reflectory.training.peft_configs import embeddings, keys_and_values, peft_config

if TYPE_CHECKING:
    import torch


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


def load_base(folder: Path, device: torch.device, dtype: torch.dtype, config: MethodConfig) -> Any:
    """Return the base model as a method wants it: in 4 bits for ``qlora``, else as it is.

    The 4 bits are those of QLoRA (Dettmers et al. 2023): NormalFloat4 with quantised
    scales, computed in ``dtype``.

    Args:
        folder: Of the model.
        device: Where its weights go.
        dtype: What is computed in.
        config: Whose method decides how it is loaded.

    Raises:
        UserError: ``qlora`` without CUDA or without bitsandbytes.
        ModelError: The files cannot be read.
    """
    from reflectory.models.engine.loading import load_model

    if config.peft is not None or config.method != "qlora":
        return load_model(folder, device, dtype)
    if device.type != "cuda":
        raise UserError(
            f"the method qlora needs CUDA, and the device is {device.type}",
            hint="set training.method to lora, or train on a machine with an NVIDIA GPU",
        )
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from reflectory.models.quiet import no_progress_bars

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    try:
        with no_progress_bars():
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                quantization_config=four_bits,
                dtype=dtype,
                device_map={"": device},
                use_safetensors=True,
            )
    except ImportError as error:
        raise UserError(
            f"the method qlora needs bitsandbytes: {error}", hint="pip install bitsandbytes"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the model in {folder} cannot be loaded in 4 bits: {error}",
            hint="set training.method to lora",
        ) from error
    # The trainer decides on activation checkpointing.
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def add_adapter(model: Any, config: MethodConfig) -> Any:
    """Return the model with a fresh adapter by the configured method; its base is frozen.

    The adapter's weights are float32 whatever the base has: their updates are
    smaller than what bfloat16 can add to a weight.

    Args:
        model: The base; it is changed.
        config: The method and its sizes.

    Raises:
        UserError: The configuration asks for what PEFT does not have.
        ModelError: The model has no layers of the names in ``target_modules``.
    """
    from peft import get_peft_model

    wanted = peft_config(config, model)
    prefix = _keys_and_values_of_tokens(model, config) if config.peft is None else None
    try:
        adapted = get_peft_model(model, wanted)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"no adapter fits this model: {error}",
            hint="set training.target_modules to all-linear or to names of its linear layers",
        ) from error
    if prefix is not None:
        adapted.prompt_encoder["default"].load_prompt_embeddings(prefix)
    return _in_float32(adapted)


def _in_float32(adapted: Any) -> Any:
    """Make the trained weights float32; PEFT does so for some methods only."""
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.float()
    return adapted


def _keys_and_values_of_tokens(model: Any, config: MethodConfig) -> Any:
    """Return where prefix tuning begins: keys and values of tokens drawn at random.

    Equations 20 to 22 say what is learnt and not from where. PEFT begins with normal
    noise, which is nothing the layers ever saw; what the model makes of tokens of its
    own, the first of them at the place where attention rests, disturbs it little (Li and
    Liang 2021 begin with real words).

    Returns:
        Shape (virtual tokens, layers * 2 * key-value heads * width), as PEFT stores it;
        ``None`` for other methods, and for models whose layers differ in it.
    """
    import torch

    if config.method != "prefix":
        return None
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    ids = torch.randint(0, vocabulary, (1, config.virtual_tokens)).to(model.device)
    with torch.no_grad():
        cache = model(input_ids=ids, use_cache=True).past_key_values
    try:
        layers = [torch.stack((layer.keys[0], layer.values[0])) for layer in cache.layers]
        stacked = torch.stack(layers)  # layers, 2, heads, tokens, width
    except (AttributeError, RuntimeError, TypeError):
        return None
    return stacked.permute(3, 0, 1, 2, 4).flatten(1).float()


def load_parent(
    model: Any,
    folder: str | Path,
    *,
    config: MethodConfig | None = None,
    fingerprint: str | None = None,
) -> Any:
    """Return the model with an adapter of an earlier round on it, to be trained further.

    Virtual tokens that an encoder wrote (p-tuning) are saved without the encoder; they
    are trained further by themselves, as prompt tuning does.

    Args:
        model: The base.
        folder: Where the adapter was saved.
        config: What this round is to train; the parent must be of the same method.
        fingerprint: Of the base, to be compared with what the parent was made for.

    Raises:
        ModelError: It is missing, damaged, or of another base or shape.
        UserError: It was made by another method than ``config`` names.
    """
    from reflectory.models.engine.loading import Facts, check_adapter
    from reflectory.models.engine.peft_model import put_on

    files = check_adapter(folder, Facts.of(model, fingerprint or ""), fingerprint)
    if config is not None:
        _same_method(files.config, peft_config(config, model), files.folder)
    return _in_float32(put_on(model, files, trainable=True))


def _same_method(found: dict[str, Any], wanted: Any, folder: Path) -> None:
    settings = wanted.to_dict()
    settings["peft_type"] = str(getattr(wanted.peft_type, "value", wanted.peft_type))
    kinds = {found.get("peft_type"), settings["peft_type"]}
    names = ["r", "lora_alpha", "use_dora", "num_virtual_tokens"]
    if kinds != {"P_TUNING", "PROMPT_TUNING"}:
        names.insert(0, "peft_type")
    for name in names:
        if name in settings and found.get(name) != settings[name]:
            raise UserError(
                f"the parent adapter {folder} has {name} {found.get(name)!r}, and the "
                f"configuration asks for {settings[name]!r}",
                hint="continue with the parent's method and sizes, or begin from the base",
            )


def allows_checkpointing(model: Any) -> bool:
    """Return whether activations can be computed again; not with keys and values as input."""
    return not keys_and_values(model.active_peft_config)


def vectors_before(model: Any) -> int:
    """Return how many positions the adapter puts before the tokens (prompt, p-tuning).

    Logits have so many rows more than the input has tokens.
    """
    return embeddings(model.active_peft_config)


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return how many parameters are trained and how many there are (Equation 8).

    Weights of 4 bits, two in a byte, are counted as two.
    """
    trained, total = model.get_nb_trainable_parameters()
    return int(trained), int(total)


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
    except (SafetensorError, OSError) as error:
        raise StorageError(
            f"cannot write the adapter: {error}", hint="free some space on the disk"
        ) from error
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["base_model_name_or_path"] = base_name
    # PEFT keeps them as sets; in order, equal adapters are equal bytes.
    for name, value in vars(model.active_peft_config).items():
        if isinstance(value, set):
            data[name] = sorted(value)
    if data.get("tokenizer_name_or_path"):
        # Only needed to begin with, and perhaps a path of this machine.
        data |= {
            "prompt_tuning_init": "RANDOM",
            "prompt_tuning_init_text": None,
            "tokenizer_name_or_path": None,
            "tokenizer_kwargs": None,
        }
    file.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
