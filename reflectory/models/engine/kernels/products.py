"""Products of small matrices, with their sums in registers or in the tiles of AMX.

A chunk of keys or values is a matrix of at most ``CHUNK`` rows; queries come in blocks of
``BLOCK``. Steps are in bytes, from a row to the next.
"""

from __future__ import annotations

import ctypes
from typing import Any

from llvmlite import binding, ir

from reflectory.models.engine.kernels.vectors import (
    FEATURES,
    FLOAT,
    LANES,
    LONG,
    Values,
    Writer,
    all_floats,
    vectorised,
)

CHUNK = 64
"""Keys that are looked at together."""

BLOCK = 16
"""Queries that are looked at together."""

ROWS = 4
"""Rows of :func:`multiply`."""

WIDE = min(CHUNK, 4 * LANES)
"""Columns of :func:`multiply`."""

_KNOWN = bool(FEATURES.get("amx-tile", False) and FEATURES.get("amx-bf16", False))
# numba does not need it, and LLVM ends the process at the first assembly without it.
binding.initialize_native_asmparser()


def has_tiles() -> bool:
    """Return whether AMX can be used; Linux has to be asked for it."""
    if not _KNOWN:
        return False
    arch_prctl, request, tile_data = 158, 0x1023, 18
    return bool(ctypes.CDLL(None).syscall(arch_prctl, request, tile_data) == 0)


def _multiply(w: Writer, columns: int, *given: Any) -> None:
    a, a_step, b, b_step, c, c_step, depth, add = given
    vectors = [v * LANES * 4 for v in range(columns // LANES)]
    rows = [w.at(a, w.ir.mul(a_step, LONG(i))) for i in range(ROWS)]
    starts = [w.at(c, w.ir.mul(c_step, LONG(i))) for i in range(ROWS)]
    places = [w.at(start, v) for start in starts for v in vectors]
    keep = w.ir.icmp_signed("==", add, LONG(1))

    def body(k: Any, sums: Values) -> Values:
        below, after = w.at(b, w.ir.mul(b_step, k)), w.ir.mul(k, LONG(4))
        left = [w.everywhere(w.load(w.at(row, after), FLOAT)) for row in rows]
        right = [w.load(w.at(below, v)) for v in vectors]
        pairs = [(x, y) for x in left for y in right]
        return [w.times_plus(x, y, old) for (x, y), old in zip(pairs, sums, strict=True)]

    zero = all_floats(0.0)
    found = w.repeat(depth, [w.ir.select(keep, w.load(place), zero) for place in places], body)
    for place, value in zip(places, found, strict=True):
        w.store(value, place)


@vectorised
def multiply(
    w: Writer, a: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_step: Any, depth: Any, add: Any
) -> None:
    """Let c be a @ b, or add that: ROWS rows and WIDE columns, all in float32.

    Args:
        w: Writes.
        a: Address of a matrix (ROWS, depth).
        a_step: Of a.
        b: Address of a matrix (depth, WIDE).
        b_step: Of b.
        c: Address of a matrix (ROWS, WIDE).
        c_step: Of c.
        depth: At least 1.
        add: 0 or 1.
    """
    _multiply(w, WIDE, a, a_step, b, b_step, c, c_step, depth, add)


@vectorised
def multiply_narrow(
    w: Writer, a: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_step: Any, depth: Any, add: Any
) -> None:
    """Do what :func:`multiply` does, with LANES columns."""
    _multiply(w, LANES, a, a_step, b, b_step, c, c_step, depth, add)


def _assembly(w: Writer, text: str, *values: Any) -> None:
    """Write instructions that stay where they are; none where the processor has no tiles."""
    if _KNOWN:
        kind = ir.FunctionType(ir.VoidType(), [LONG] * len(values))
        constraints = ",".join([*["r"] * len(values), "~{memory}"])
        w.ir.asm(kind, text, constraints, values, side_effect=True)


@vectorised
def multiply_tiles(
    w: Writer, a: Any, a_step: Any, b: Any, b_step: Any, c: Any, c_step: Any, depth: Any, add: Any
) -> None:
    """Let c be a @ b, or add that: BLOCK rows and CHUNK columns, of bfloat16 with sums in float32.

    Args:
        w: Writes.
        a: Address of a matrix (BLOCK, 32 depth) of bfloat16.
        a_step: Of a.
        b: Address of a matrix (16 depth, CHUNK) of pairs of bfloat16: two that lie one below the
            other in what is multiplied.
        b_step: Of b.
        c: Address of a matrix (BLOCK, CHUNK) of float32.
        c_step: Of c.
        depth: At least 1.
        add: 0 or 1.
    """
    sums = range(CHUNK // 16)
    with w.ir.if_else(w.ir.icmp_signed("==", add, LONG(1))) as (then, otherwise):
        with then:
            for i in sums:
                _assembly(w, f"tileloadd ($0,$1,1), %tmm{i}", w.at(c, 64 * i), c_step)
        with otherwise:
            _assembly(w, "\n".join(f"tilezero %tmm{i}" for i in sums))

    def body(k: Any, _: Values) -> Values:
        _assembly(w, "tileloadd ($0,$1,1), %tmm4", w.at(a, w.ir.mul(k, LONG(64))), a_step)
        below = w.at(b, w.ir.mul(w.ir.mul(k, LONG(16)), b_step))
        for i in sums:
            text = f"tileloadd ($0,$1,1), %tmm5\ntdpbf16ps %tmm5, %tmm4, %tmm{i}"
            _assembly(w, text, w.at(below, 64 * i), b_step)
        return []

    w.repeat(depth, [], body)
    for i in sums:
        _assembly(w, f"tilestored %tmm{i}, ($0,$1,1)", w.at(c, 64 * i), c_step)


@vectorised
def open_tiles(w: Writer, shapes: Any) -> None:
    """Give this thread its tiles, as 64 bytes at an address describe them."""
    _assembly(w, "ldtilecfg ($0)", shapes)


@vectorised
def close_tiles(w: Writer, nothing: Any) -> None:
    """Give this thread's tiles back."""
    _assembly(w, "tilerelease")
