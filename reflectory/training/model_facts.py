"""What a plan needs to know about a model and a device, without loading any weights.

torch, transformers and peft are imported inside the functions.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflectory.config import TrainingConfig
from reflectory.errors import ModelError
from reflectory.training.plan import ModelFacts

if TYPE_CHECKING:
    import torch

EFFICIENCY = 0.6
"""Share of the speed of a matrix product of its width that training reaches.

Measured between 0.55 and 0.71 on a processor in float32, with layers of the shape of
SmolLM2-135M and rows of 600 tokens. Not yet measured on a GPU.
"""


def facts_of(model: Any, weight_bytes: float, *, checkpointing: bool = True) -> ModelFacts:
    """Return the facts of a transformers model, with an adapter or without.

    Args:
        model: It may be on torch's meta device, without any weights.
        weight_bytes: Memory of one base weight.
        checkpointing: Whether its activations can be computed again.
    """
    config = model.config.get_text_config()
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    ends = {id(e.weight): e.weight.numel() for e in _embeddings(model)}
    return ModelFacts(
        parameters=sum(n for n, _ in sizes),
        trained=sum(n for n, trained in sizes if trained),
        layers=int(config.num_hidden_layers),
        width=int(config.hidden_size),
        vocabulary=int(config.vocab_size),
        embeddings=sum(ends.values()),
        weight_bytes=weight_bytes,
        checkpointing=checkpointing,
    )


def _embeddings(model: Any) -> list[Any]:
    both = (model.get_input_embeddings(), model.get_output_embeddings())
    return [layer for layer in both if layer is not None and hasattr(layer, "weight")]


def facts_of_folder(
    folder: Path, dtype: torch.dtype, config: TrainingConfig | None = None
) -> ModelFacts:
    """Return the facts of a model in a folder, its adapter included; no weight is read.

    Args:
        folder: Where config.json lies.
        dtype: Number format of its weights.
        config: Says which adapter is put on it; ``None`` for none.

    Raises:
        ModelError: Its architecture is not known here.
        UserError: PEFT has no adapter such as the configuration asks for.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from reflectory.training.methods import allows_checkpointing, without_deprecations
    from reflectory.training.peft_configs import peft_config

    weight_bytes: float = torch.empty((), dtype=dtype).element_size()
    try:
        settings = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(settings)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the model in {folder} cannot be planned with: {error}",
            hint="it must be a causal language model that the installed transformers knows",
        ) from error
    if config is None:
        return facts_of(model, weight_bytes)
    if config.peft is None and config.method == "qlora":
        weight_bytes = 0.55  # 4 bits and their quantised scales
    wanted = peft_config(config, model)
    try:
        with torch.device("meta"), without_deprecations():
            model = get_peft_model(model, wanted)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"no adapter fits this model: {error}",
            hint="set training.target_modules to all-linear or to names of its linear layers",
        ) from error
    return facts_of(model, weight_bytes, checkpointing=allows_checkpointing(model))


def probe_speed(device: torch.device, dtype: torch.dtype, width: int, tokens: int) -> float:
    """Return operations per second that training can expect, from matrix products of its size.

    Takes a few tenths of a second.

    Args:
        device: Where to train.
        dtype: Number format.
        width: Hidden size.
        tokens: Tokens of a forward pass.
    """
    import torch

    rows, inner = max(min(tokens, 4096), 64), 4 * width
    left = torch.ones(rows, width, device=device, dtype=dtype)
    right = torch.ones(width, inner, device=device, dtype=dtype)

    def run(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    run(2)
    one = max(run(1), 1e-6)
    times = max(int(0.2 / one), 1)
    return EFFICIENCY * 2.0 * rows * width * inner * times / run(times)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that were in use: of the GPU, else of this process."""
    import sys

    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    # A process inherits the ru_maxrss of the one that started it; VmHWM is its own.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
