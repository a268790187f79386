"""A transformers model with an adapter of any kind on it, by PEFT's own loader.

PEFT loads what it finds and warns about the rest, so that a file with half of an
adapter gives a model with half of an adapter. Here the file and the adapter must hold
the same weights in the same shapes.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import torch
from safetensors import safe_open

from reflectory.errors import ModelError
from reflectory.models.adapter_files import AdapterFiles

_HINT = "use the adapter with the base model that it was trained on"


def put_on(model: Any, files: AdapterFiles, *, trainable: bool = False) -> Any:
    """Return a model with an adapter on it; the model is changed in place.

    Args:
        model: A transformers model.
        files: From :func:`~reflectory.models.engine.loading.check_adapter`.
        trainable: Whether it is to be trained further. What an encoder wrote for
            p-tuning is an adapter of prompt tuning then, as the encoder is not saved.

    Raises:
        ModelError: It does not fit, or the file holds more or less than the adapter.
    """
    from peft import PeftConfig, PeftModel, get_peft_model
    from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

    _check_settings(files)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unexpected keyword arguments")  # not set
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # told below
            config = PeftConfig.from_pretrained(str(files.folder))
            if config.is_prompt_learning:
                _same_sizes(config, model)
            if trainable and config.is_prompt_learning:
                # PEFT trains none that it has loaded, so the weights go into a fresh one.
                adapted = get_peft_model(model, _further(config))
                weights = load_peft_weights(str(files.folder), device=str(model.device))
                set_peft_model_state_dict(adapted, weights)
            else:
                adapted = PeftModel.from_pretrained(
                    model,
                    str(files.folder),
                    is_trainable=trainable,
                    torch_device=str(model.device),
                    use_safetensors=True,
                )
    except (
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        NotImplementedError,
        ImportError,
        OSError,
    ) as error:
        said = " ".join(str(error).split())[:600]
        raise ModelError(
            f"the adapter {files.folder} does not fit the model: {said}", hint=_HINT
        ) from error
    _same_weights(adapted, files)
    return adapted if trainable else adapted.eval()


def _check_settings(files: AdapterFiles) -> None:
    """Refuse a kind or a setting that the installed PEFT does not know; it would be left out."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING as TYPES

    kinds = {str(getattr(kind, "value", kind)): made for kind, made in TYPES.items()}
    name = str(files.config.get("peft_type"))
    if name not in kinds:
        raise ModelError(
            f"the adapter {files.folder} is of the type {name!r}, which the installed PEFT "
            "does not know",
            hint="pip install --upgrade peft, or train the adapter again",
        )
    known = {field.name for field in dataclasses.fields(kinds[name])} | {"runtime_config"}
    unknown = sorted(key for key, value in files.config.items() if value and key not in known)
    if unknown:
        raise ModelError(
            f"the adapter {files.folder} sets {', '.join(unknown)}, which the installed PEFT "
            f"does not know of {name}",
            hint="pip install --upgrade peft, or train the adapter again",
        )


def _same_sizes(config: Any, model: Any) -> None:
    """Refuse virtual tokens for another base; PEFT makes them as large as the file says.

    Raises:
        ValueError: They have another number of layers, or are wider or narrower.
    """
    sizes = model.config.get_text_config()
    if sizes.to_dict().get("per_layer_config") is not None:
        return  # Layers differ from one another; PEFT fits the prefix to each.
    heads = int(sizes.num_attention_heads)
    kv_heads = int(getattr(sizes, "num_key_value_heads", None) or heads)
    head = int(getattr(sizes, "head_dim", None) or sizes.hidden_size // heads)
    beside = config.peft_type in {"PREFIX_TUNING", "CARTRIDGE"}
    wanted = {
        "num_layers": int(sizes.num_hidden_layers),
        "token_dim": kv_heads * head if beside else int(sizes.hidden_size),
    }
    for name, size in wanted.items():
        if getattr(config, name) not in (None, size):
            raise ValueError(f"its {name} is {getattr(config, name)}, the model's {size}")


def _further(config: Any) -> Any:
    """Return the configuration of a loaded prompt with which it can be trained."""
    from peft import PromptTuningConfig

    if config.peft_type == "P_TUNING":
        return PromptTuningConfig(
            **{
                name: getattr(config, name)
                for name in (
                    "task_type",
                    "base_model_name_or_path",
                    "num_virtual_tokens",
                    "token_dim",
                    "num_transformer_submodules",
                    "num_attention_heads",
                    "num_layers",
                )
            }
        )
    if getattr(config, "prefix_projection", False):
        config.prefix_projection = False  # What the projection wrote is what was saved.
    config.inference_mode = False
    return config


def _same_weights(adapted: Any, files: AdapterFiles) -> None:
    """Refuse a file that holds other weights than the adapter has."""
    from peft import get_peft_model_state_dict

    wanted = {
        name: tuple(weight.shape)
        for name, weight in get_peft_model_state_dict(adapted, save_embedding_layers=False).items()
    }
    with safe_open(files.weights, framework="pt") as weights:
        found = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    # Weights of whole layers (modules_to_save, embeddings) have names of their own.
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ModelError(
            f"the adapter {files.folder} lacks {len(missing)} of its weights, {missing[0]} "
            "among them",
            hint="train the adapter again, or copy its files again",
        )
    strange = sorted(found.keys() - wanted.keys())
    strange = [name for name in strange if not _is_whole_layer(name)]
    if strange:
        raise ModelError(
            f"the adapter {files.folder} holds weights for {strange[0]}, which this model "
            "does not have",
            hint=_HINT,
        )


def _is_whole_layer(name: str) -> bool:
    return any(part in name for part in ("embed_tokens", "lm_head", "wte", "shared"))


def merge_adapter(model: Any, files: AdapterFiles) -> Any:
    """Return a model with an adapter, inside its weights where the kind can be put there.

    Args:
        model: A transformers model; it is changed in place.
        files: From :func:`~reflectory.models.engine.loading.check_adapter`.

    Returns:
        A plain transformers model; virtual tokens stay beside it, as PEFT has them.

    Raises:
        ModelError: The adapter does not fit, or is of a kind that cannot be merged.
    """
    adapted = put_on(model, files)
    if getattr(adapted.active_peft_config, "is_prompt_learning", False):
        return adapted
    _room_for_biases(adapted)
    try:
        return adapted.merge_and_unload(safe_merge=True).eval()
    except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"the adapter {files.folder} cannot be merged into the weights: {error}",
            hint="serve it beside the base model",
        ) from error


def served(fresh: Callable[[], Any], files: AdapterFiles) -> Any:
    """Return a model with an adapter: merged if it can be, else as PEFT wraps it.

    Args:
        fresh: Returns a transformers model that may be changed.
        files: From :func:`~reflectory.models.engine.loading.check_adapter`.

    Raises:
        ModelError: The adapter does not fit.
    """
    try:
        model = merge_adapter(fresh(), files)
    except ModelError:
        # Half merged it is of no use; what does not fit is said again here.
        model = put_on(fresh(), files)
    _try(model, files)
    return model


def _try(model: Any, files: AdapterFiles) -> None:
    """Let a model read two tokens: some kinds need more than text, which nobody would give."""
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    try:
        with torch.inference_mode():
            model(input_ids=ids)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"the adapter {files.folder}, of the type {files.config['peft_type']}, cannot be "
            f"served: {error}",
            hint="a student reads text and nothing else; train it by another method",
        ) from error


def _room_for_biases(adapted: Any) -> None:
    """Give layers that have an adapter's bias and none of their own one of zeros."""
    for module in adapted.modules():
        if not hasattr(module, "beft_bias"):
            continue
        layer = module.get_base_layer()
        if layer.bias is None:
            zeros = torch.zeros(len(layer.weight), dtype=layer.weight.dtype)
            layer.bias = torch.nn.Parameter(zeros.to(layer.weight.device), requires_grad=False)
