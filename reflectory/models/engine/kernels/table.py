"""How compiled loops are called: with a table of numbers, in the threads of torch.

Compiled code that knows no Python object can run in any thread. So a kernel takes the
address of a table of integers (sizes, and addresses of tensors), and every thread of
the team does its share of the rows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

TEAM_ROWS = 16
"""Fewer rows than this are done by the calling thread: waking others costs as much."""

Floats = Any
"""A row or a matrix of float32; numba finds the types of everything itself."""

_PROCESS = ctypes.CDLL(None)
# Asked for here, because code that is compiled without them ends the process.
_PARALLEL, _, _ = (
    getattr(_PROCESS, name)
    for name in ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
)
_PARALLEL.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_PARALLEL.restype = None
_thread_number = types.ExternalFunction("omp_get_thread_num", types.int32())
_thread_count = types.ExternalFunction("omp_get_num_threads", types.int32())

_Loop = TypeVar("_Loop", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {
    "fastmath": True,  # Sums may be taken in any order, or nothing would be vectorised.
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}


def loop(function: _Loop) -> _Loop:
    """Compile a function that kernels call; its annotations are for people."""
    return cast(_Loop, njit(**_OPTIONS)(function))


def inlined(function: _Loop) -> _Loop:
    """Compile a function that becomes a part of whatever calls it."""
    return cast(_Loop, njit(inline="always", **_OPTIONS)(function))


class Kernel:
    """A compiled function of a table, called with what the table holds.

    Args:
        body: Takes a pointer to integers, the first of which is the number of rows.
    """

    def __init__(self, body: Callable[[Any], None]) -> None:
        compiled = cfunc(types.void(types.CPointer(types.int64)), cache=True)(body)
        self._compiled = compiled  # Owns the code.
        self._address = compiled.address
        self._alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiled.address)

    def __call__(self, rows: int, *table: int | torch.Tensor) -> None:
        """Run on some rows, in torch's threads where that pays.

        ``GOMP_parallel`` is what compilers make of ``#pragma omp parallel``: called from the
        thread that calls torch, it gives the work to the same threads. A pool of its own
        would fight with theirs, which wait spinning.

        Args:
            rows: How many there are.
            table: Sizes, and tensors, of which the address is taken; contiguous and on the
                processor.
        """
        numbers = (x.data_ptr() if isinstance(x, torch.Tensor) else x for x in table)
        values = (ctypes.c_int64 * (len(table) + 1))(rows, *numbers)
        if rows < TEAM_ROWS or torch.get_num_threads() == 1:
            self._alone(ctypes.addressof(values))
        else:
            _PARALLEL(self._address, ctypes.addressof(values), 0, 0)


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(context: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def build(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), build


@inlined
def floats(address: int, rows: int, columns: int) -> Floats:
    """Return the matrix at an address."""
    return carray(_pointer(address), (rows, columns), np.float32)


@inlined
def integers(address: int, rows: int, columns: int) -> Any:
    """Return the matrix of long integers at an address."""
    return carray(_pointer(address), (rows, columns), np.int64)


@inlined
def digits(address: int, rows: int, columns: int) -> Any:
    """Return the matrix of bytes at an address."""
    return carray(_pointer(address), (rows, columns), np.uint8)


@inlined
def share(rows: int) -> tuple[int, int]:
    """Return this thread's first row, and the one behind its last."""
    number, count = _thread_number(), _thread_count()
    return rows * number // count, rows * (number + 1) // count
