"""Where a local model runs, and in which number format.

torch is imported inside the functions, so that importing this module is free.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any, Literal, get_args

from reflectory.errors import UserError

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cuda", "mps", "cpu"]
DtypeName = Literal["auto", "bfloat16", "float16", "float32", "int8"]


def choose_device(name: DeviceName = "auto") -> torch.device:
    """Return the device to run on.

    Args:
        name: ``auto`` takes CUDA where there is a device, then Apple's MPS,
            then the processor. Any other name must be there.

    Raises:
        UserError: The device is unknown, or this machine has none of that kind.
    """
    import torch

    if name not in get_args(DeviceName):
        raise UserError(
            f"unknown device {name!r}", hint=f"choose one of {', '.join(get_args(DeviceName))}"
        )
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if not present[name]:
        available = ", ".join(kind for kind, there in present.items() if there)
        raise UserError(
            f"device {name!r} was asked for, but torch {torch.__version__} finds none here",
            hint=f"available: {available}; `device: auto` takes the best of them",
        )
    return torch.device(name)


def choose_dtype(name: DtypeName, device: torch.device, *, integers: bool = False) -> torch.dtype:
    """Return the number format of weights and activations on a device.

    ``auto`` takes bfloat16 where the hardware computes with it: emulation costs
    time instead of saving it, so a device that only emulates it does not count.
    Otherwise CUDA gets float16 and a processor float32, or 8-bit integers where they
    are welcome and it has dot products for them. MPS gets float32:
    models trained in bfloat16 can overflow float16's range, and how fast each
    format is there depends on the chip; who wants half the memory asks for it.

    Args:
        name: ``auto`` or the name of a format, which is then taken as it is.
        device: What :func:`choose_device` returned.
        integers: Whether ``auto`` may return int8: to answer with, not to train.

    Raises:
        UserError: The format is unknown, or int8 was asked for off the processor.
    """
    import torch

    if name not in get_args(DtypeName):
        raise UserError(
            f"unknown number format {name!r}",
            hint=f"choose one of {', '.join(get_args(DtypeName))}",
        )
    if name == "int8" and device.type != "cpu":
        raise UserError(
            f"int8 does not run on {device.type}", hint="use dtype auto there, or device cpu"
        )
    if name != "auto":
        dtypes = {
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
            "float32": torch.float32,
            "int8": torch.int8,
        }
        return dtypes[name]
    if has_native_bfloat16(device):
        return torch.bfloat16
    if integers and has_integer_products(device):
        return torch.int8
    return torch.float16 if device.type == "cuda" else torch.float32


def has_native_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` multiplies bfloat16 matrices in hardware.

    MPS counts as no, because it cannot be asked.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        # torch's own matrix product without oneDNN converts number by number.
        return False
    flags = _cpu_flags()
    # avx512_bf16 and amx_bf16 are x86 names; bf16 is what ARM calls its extension.
    return any(flags.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def has_integer_products(device: torch.device) -> bool:
    """Return whether a processor has dot products of 8-bit integers, and oneDNN uses them."""
    import torch

    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    flags = _cpu_flags()
    return any(flags.get(name, False) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def _cpu_flags() -> dict[str, Any]:
    """Return the instruction sets of the processor as far as torch tells them."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    # Older versions know single flags only. AMX processors have AVX512_BF16 too.
    return {
        "avx2": torch.cpu._is_avx2_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx_tile": torch.cpu._is_amx_tile_supported(),
    }


def describe_device(device: torch.device | None = None) -> dict[str, Any]:
    """Return what a manifest should say about the machine, as JSON types.

    Args:
        device: The device in use; the best one when it is not given.

    Returns:
        ``device`` (kind), ``name``, ``memory_bytes`` (of an accelerator, else
        ``None``), ``processor``, ``architecture``, ``system``, ``cores``
        (usable by this process), ``threads`` (of torch), ``bfloat16`` (in
        hardware), ``instructions`` (the flags that decide speed) and ``torch``.
    """
    import torch

    device = choose_device() if device is None else device
    name, memory = _processor_name(), None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = str(properties.name), int(properties.total_memory)
    telling = (
        "avx2",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "amx_bf16",
        "amx_tile",
        "bf16",
        "sve",
        "i8mm",
    )
    flags = _cpu_flags()
    return {
        "device": device.type,
        "name": name,
        "memory_bytes": memory,
        "processor": _processor_name(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": _usable_cores(),
        "threads": torch.get_num_threads(),
        "bfloat16": has_native_bfloat16(device),
        "instructions": [flag for flag in telling if flags.get(flag)],
        "torch": str(torch.__version__),
    }


def _usable_cores() -> int:
    """Return how many cores this process may use, which a container can narrow."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)


def _processor_name() -> str:
    """Return the processor's name; Linux says it in a file and not to ``platform``."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a device file
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # Not Linux: there is no such file, and platform knows the name.
    return platform.processor() or platform.machine()
