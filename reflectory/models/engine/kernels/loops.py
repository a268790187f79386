"""What the loops of all kernels are made of: memory at an address, and a few functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

Floats = Any
"""A row or a matrix of float32; numba finds the types of everything itself."""

single = np.float32
thread_number = types.ExternalFunction("omp_get_thread_num", types.int32())
_thread_count = types.ExternalFunction("omp_get_num_threads", types.int32())

_Loop = TypeVar("_Loop", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {
    "fastmath": True,  # Sums may be taken in any order, or nothing would be vectorised.
    "error_model": "numpy",
    "nogil": True,
}


def loop(function: _Loop) -> _Loop:
    """Compile a function that kernels call; its annotations are for people."""
    return cast(_Loop, njit(**_OPTIONS)(function))


def inlined(function: _Loop) -> _Loop:
    """Compile a function that becomes a part of whatever calls it."""
    return cast(_Loop, njit(inline="always", **_OPTIONS)(function))


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
def longs(address: int, count: int) -> Any:
    """Return the row of long integers at an address."""
    return carray(_pointer(address), (count,), np.int64)


@inlined
def digits(address: int, rows: int, columns: int) -> Any:
    """Return the matrix of bytes at an address."""
    return carray(_pointer(address), (rows, columns), np.uint8)


@inlined
def halves(address: int, rows: int, columns: int) -> Any:
    """Return the matrix of bfloat16 at an address, as the integers of their bits."""
    return carray(_pointer(address), (rows, columns), np.uint16)


@inlined
def widened(half: Any) -> Any:
    """Return the float32 that a bfloat16 is the upper half of."""
    return np.int32(np.int32(half) << np.int32(16)).view(np.float32)


@inlined
def halved(v: Any) -> Any:
    """Return the bits of the nearest bfloat16, the even one of two (of finite numbers)."""
    bits = single(v).view(np.int32)
    odd = (bits >> np.int32(16)) & np.int32(1)
    return np.uint16((bits + np.int32(0x7FFF) + odd) >> np.int32(16))


@intrinsic  # type: ignore[untyped-decorator]
def taken(context: Any, counter: Any) -> Any:
    """Return the number at an address and count on; threads do that one after the other."""

    def build(_: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.IntType(64)(1), "monotonic")

    return types.int64(types.int64), build


@inlined
def share(rows: int) -> tuple[int, int]:
    """Return this thread's first row, and the one behind its last."""
    number, count = thread_number(), _thread_count()
    return rows * number // count, rows * (number + 1) // count


@inlined
def exp(v: Any) -> Any:
    """Return e to the power of v as 2**n times a polynomial (after Cephes' ``expf``)."""
    v = min(max(v, single(-87.0)), single(88.0))
    n = single(math.floor(v * single(1.44269504) + single(0.5)))
    r = v - n * single(0.693359375) + n * single(2.12194440e-4)
    p = single(1.9875691500e-4)
    p = p * r + single(1.3981999507e-3)
    p = p * r + single(8.3334519073e-3)
    p = p * r + single(4.1665795894e-2)
    p = p * r + single(1.6666665459e-1)
    p = p * r + single(5.0000001201e-1)
    p = p * r * r + r + single(1.0)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@loop
def mean_square(x: Floats) -> Any:
    """Return the mean of the squares."""
    total = single(0.0)
    for j in range(x.size):
        total += x[j] * x[j]
    return total / single(x.size)
