"""Models and adapters from folders, with a fingerprint of what was loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from reflectory.errors import ModelError
from reflectory.models.adapter_files import AdapterFiles, file_hash, read_adapter
from reflectory.models.engine.peft_model import merge_adapter as merge_adapter
from reflectory.models.quiet import no_progress_bars

BASE_FILE = "reflectory.json"
"""Written beside an adapter by training; its ``base_fingerprint`` names the base."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DECIDES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
"""Files of a model folder that decide what the model says."""


def resolve_model(source: str | Path) -> tuple[Path, str]:
    """Return the folder of a model and the name to call it by.

    Args:
        source: A folder, or the id of a repository on the Hugging Face hub, which
            is downloaded or taken from the hub's cache.

    Raises:
        ModelError: There is no such folder or repository, or it holds no model.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(str(source)):
            raise ModelError(
                f"there is no model folder {source}",
                hint="give a folder with config.json and *.safetensors, or a hub id OWNER/NAME",
            )
        return _download(str(source)), str(source).rpartition("/")[2]
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        adapter = (folder / "adapter_config.json").is_file()
        raise ModelError(
            f"the folder {source} holds no model (config.json and *.safetensors)",
            hint="it is an adapter: give it as the adapter, and its base model here"
            if adapter
            else "save a model into it with save_pretrained",
        )
    return folder, _model_name(folder)


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder.

    Raises:
        ModelError: The files cannot be read.
    """
    from transformers import AutoTokenizer

    with _as_model_error(folder), no_progress_bars():
        return AutoTokenizer.from_pretrained(folder)


def load_model(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the model of a folder, in evaluation mode.

    Raises:
        ModelError: The files cannot be read as a causal language model.
    """
    from transformers import AutoModelForCausalLM

    with _as_model_error(folder), no_progress_bars():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
        return model.to(device).eval()


@contextmanager
def _as_model_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"the model in {folder} cannot be loaded: {error}",
            hint="it must be a causal language model that the installed transformers knows",
        ) from error


def fingerprint_of(folder: Path, name: str, dtype: torch.dtype) -> str:
    """Return ``NAME@HASH/DTYPE``, the hash being over all files that decide the output."""
    files = sorted({file for pattern in _DECIDES for file in folder.glob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}:{file_hash(file)}\n".encode())
    return f"{name}@{digest.hexdigest()[:12]}/{str(dtype).removeprefix('torch.')}"


def base_identity(fingerprint: str) -> str:
    """Return the part of a fingerprint that names the base weights, in any number format."""
    return fingerprint.partition("+adapter@")[0].rpartition("/")[0] or fingerprint


@dataclass(frozen=True)
class Facts:
    """What an adapter is compared with, kept when the model itself is not.

    Attributes:
        names: What the model is called.
        shapes: Shape of the weight of each layer, (outputs, inputs) for a linear one,
            by name.
    """

    names: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, model: Any, fingerprint: str) -> Facts:
        """Return the facts of a transformers model."""
        named = _model_name(Path(str(getattr(model.config, "_name_or_path", "") or "")))
        shapes = {
            name: _layer_shape(module)
            for name, module in model.named_modules()
            if isinstance(getattr(module, "weight", None), torch.Tensor)
        }
        return cls(frozenset({named, fingerprint.partition("@")[0]}), shapes)


def _layer_shape(module: Any) -> tuple[int, ...]:
    """Return (outputs, inputs) of a linear layer, whatever its weights look like."""
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, Conv1D):
        return tuple(reversed(module.weight.shape))
    if hasattr(module, "out_features") and hasattr(module, "in_features"):
        return int(module.out_features), int(module.in_features)  # Also in 4 bits, packed.
    return tuple(module.weight.shape)


def check_adapter(folder: str | Path, facts: Facts, fingerprint: str | None) -> AdapterFiles:
    """Return an adapter that fits a model.

    Args:
        folder: Where PEFT saved the adapter, as safetensors.
        facts: Of the model.
        fingerprint: Of the model without adapter; ``None`` when it is not known, which
            compares shapes only.

    Raises:
        ModelError: There is no adapter there, its weights are damaged or no numbers, or it
            was made for another model.
    """
    files = read_adapter(folder)
    if fingerprint is not None:
        _check_base(files, facts, fingerprint)
    try:
        _check_weights(files, facts)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights of the adapter {files.folder} cannot be read: {error}",
            hint="train the adapter again, or copy its files again",
        ) from error
    return files


def _check_base(files: AdapterFiles, facts: Facts, fingerprint: str) -> None:
    """Refuse an adapter of another base: by fingerprint where it says one, else by name."""
    path, config = files.folder, files.config
    note = path / BASE_FILE
    if note.is_file():
        try:
            wanted = json.loads(note.read_text(encoding="utf-8")).get("base_fingerprint", "")
        except (ValueError, AttributeError) as error:
            raise ModelError(f"{note} cannot be read: {error}", hint="train it again") from error
        if wanted and base_identity(str(wanted)) != base_identity(fingerprint):
            raise ModelError(
                f"the adapter {path} was made for {wanted}, but the model is {fingerprint}",
                hint="use the adapter with the base model that it was trained on",
            )
        if wanted:
            return
    wanted = _model_name(Path(str(config.get("base_model_name_or_path") or "")))
    if wanted and wanted.lower() not in {name.lower() for name in facts.names}:
        raise ModelError(
            f"the adapter {path} was made for the model {wanted!r}, but this one is "
            f"{fingerprint.partition('@')[0]!r}",
            hint="use its own base model; if it is the same one under another name, correct "
            "base_model_name_or_path in adapter_config.json",
        )


def _check_weights(files: AdapterFiles, facts: Facts) -> None:
    """Refuse weights that are no numbers, and LoRA matrices that fit no layer of the model."""
    with safe_open(files.weights, framework="pt") as weights:
        names = list(weights.keys())
        if not names:
            raise ModelError(
                f"the adapter {files.folder} holds no weights", hint="train the adapter again"
            )
        for key in names:
            tensor = weights.get_tensor(key)
            if not bool(torch.isfinite(tensor).all()):
                raise ModelError(
                    f"the adapter {files.folder} has weights that are not numbers: {key}",
                    hint="train it again with a lower training.learning_rate",
                )
            _check_shape(files, facts, key, tuple(tensor.shape))


def _check_shape(files: AdapterFiles, facts: Facts, key: str, shape: tuple[int, ...]) -> None:
    layer, kind, side_name = key.removeprefix("base_model.model.").partition(".lora_")
    if not kind or not shape or not side_name.startswith(("A.", "B.", "embedding_")):
        return  # PEFT compares the others.
    target = facts.shapes.get(layer)
    # lora_A reads what the layer reads, lora_B writes what it writes.
    side, size = (1, shape[-1]) if ".lora_A" in key else (0, shape[0])
    if target is None or (".lora_embedding" not in key and target[side] != size):
        raise ModelError(
            f"the adapter {files.folder} does not fit this model: {key} has shape {shape}, "
            f"the layer {'is missing' if target is None else f'{target}'}",
            hint="use the adapter with the base model that it was trained on",
        )


def _model_name(path: Path) -> str:
    """Return the last part of a path, or the repository for a folder of the hub's cache."""
    if path.parent.name == "snapshots":
        return path.parent.parent.name.rpartition("--")[2]
    return path.name


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with no_progress_bars():
            return Path(snapshot_download(repository, allow_patterns=list(_DECIDES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"the model {repository!r} is neither a folder nor to be had from the hub: {error}",
            hint="check the name and the connection, or give the folder of a downloaded model",
        ) from error
