"""What went wrong in the engine's thread, as errors of this package."""

from __future__ import annotations

import torch

from reflectory.errors import BackendError


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def closed_error() -> BackendError:
    """Return what calls on a closed model get."""
    return BackendError(
        "the local model was closed", hint="load it again to go on", retryable=False
    )


def failure_of(error: Exception, memory: bool, tokens: int) -> Exception:
    """Return what the caller of a sequence that failed alone should see.

    Args:
        error: What happened; an error that is not torch's is returned as it is.
        memory: Whether memory ran out.
        tokens: Most tokens of the sequence.
    """
    if memory:
        failure = BackendError(
            f"out of memory with one sequence of {tokens} tokens",
            hint="shorten the context, use a smaller model, or set dtype to bfloat16",
            retryable=False,
        )
    elif isinstance(error, RuntimeError):
        failure = BackendError(f"the local model failed: {error}", retryable=False)
    else:
        return error
    failure.__cause__ = error
    return failure
