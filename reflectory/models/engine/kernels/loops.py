"""All that LLVM compiles: the loops, and the kernels that are made of them.

They are in one file, because what numba keeps on disk is told by the file of the kernel alone:
a change of a helper in another one would not be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from reflectory.models.engine.kernels.table import Kernel

Floats = Any
"""A row or a matrix of float32; numba finds the types of everything itself."""

_F = np.float32
_thread_number = types.ExternalFunction("omp_get_thread_num", types.int32())
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
    bits = _F(v).view(np.int32)
    odd = (bits >> np.int32(16)) & np.int32(1)
    return np.uint16((bits + np.int32(0x7FFF) + odd) >> np.int32(16))


@inlined
def share(rows: int) -> tuple[int, int]:
    """Return this thread's first row, and the one behind its last."""
    number, count = _thread_number(), _thread_count()
    return rows * number // count, rows * (number + 1) // count


@inlined
def exp(v: Any) -> Any:
    """Return e to the power of v as 2**n times a polynomial (after Cephes' ``expf``)."""
    v = min(max(v, _F(-87.0)), _F(88.0))
    n = _F(math.floor(v * _F(1.44269504) + _F(0.5)))
    r = v - n * _F(0.693359375) + n * _F(2.12194440e-4)
    p = _F(1.9875691500e-4)
    p = p * r + _F(1.3981999507e-3)
    p = p * r + _F(8.3334519073e-3)
    p = p * r + _F(4.1665795894e-2)
    p = p * r + _F(1.6666665459e-1)
    p = p * r + _F(5.0000001201e-1)
    p = p * r * r + r + _F(1.0)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@loop
def _largest(x: Floats) -> Any:
    """Return the largest absolute value, at least 1e-30."""
    # Positive floats are in the order of their bits, and of integers LLVM finds the
    # largest eight times as fast.
    bits = x.view(np.int32)
    big = np.int32(0)
    for j in range(bits.size):
        size = bits[j] & np.int32(0x7FFFFFFF)
        big = size if size > big else big
    return max(np.int32(big).view(np.float32), _F(1e-30))


@loop
def _mean_square(x: Floats) -> Any:
    total = _F(0.0)
    for j in range(x.size):
        total += x[j] * x[j]
    return total / _F(x.size)


@loop
def _round(x: Floats, factor: Any, out: Any) -> None:
    for j in range(x.size):
        out[j] = np.uint8(np.int32(x[j] * factor + _F(128.5)))


@loop
def _round_twice(x: Floats, factor: Any, first: Any, second: Any) -> None:
    for j in range(x.size):
        raised = x[j] * factor + _F(128.5)
        whole = np.int32(raised)
        first[j] = np.uint8(whole)
        second[j] = np.uint8(np.int32((raised - _F(whole)) * _F(254.0) + _F(1.5)))


@loop
def _add(x: Floats, y: Floats, scale: Any, bias: Floats) -> None:
    for j in range(x.size):
        x[j] += y[j] * scale + bias[j]


@loop
def _add_twice(x: Floats, first: Floats, second: Floats, scale: Any, bias: Floats) -> None:
    for j in range(x.size):
        x[j] += (first[j] + second[j] * _F(0.5 / 127.0)) * scale + bias[j]


@loop
def _gated(gates: Floats, up: Floats, scale: Any, bias: Floats, up_bias: Floats) -> None:
    for j in range(gates.size):
        v = gates[j] * scale + bias[j]
        gates[j] = v / (_F(1.0) + exp(-v)) * (up[j] * scale + up_bias[j])


@loop
def _turned(
    head: Floats, scale: Any, bias: Floats, cosine: Floats, sine: Floats, out: Floats
) -> None:
    half = head.size // 2
    left, right, left_bias, right_bias = head[:half], head[half:], bias[:half], bias[half:]
    for j in range(half):
        a = left[j] * scale + left_bias[j]
        b = right[j] * scale + right_bias[j]
        out[j] = a * cosine[j] + b * sine[j]
        out[half + j] = b * cosine[half + j] + a * sine[half + j]


@loop
def _scaled(x: Floats, scale: Any, bias: Floats, out: Floats) -> None:
    for j in range(x.size):
        out[j] = x[j] * scale + bias[j]


@Kernel
def absorb(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.between.absorb`."""
    t = carray(table, 10)
    rows, width, parts = t[0], t[1], t[2]
    x, y = floats(t[3], rows, width), floats(t[4], rows * parts, width)
    scales, bias = floats(t[5], rows, 1), floats(t[6], 1, width)[0]
    out, found = digits(t[7], rows, width), floats(t[8], rows, 1)
    epsilon = floats(t[9], 1, 1)[0, 0]
    begin, end = share(rows)
    for i in range(begin, end):
        row = x[i]
        if parts == 1:
            _add(row, y[i], scales[i, 0], bias)
        elif parts == 2:
            _add_twice(row, y[i], y[rows + i], scales[i, 0], bias)
        big = _largest(row)
        length = np.sqrt(_mean_square(row) + epsilon) if epsilon >= _F(0.0) else _F(1.0)
        found[i, 0] = big / length
        _round(row, _F(127.0) / big, out[i])


@Kernel
def gate(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.between.gate`."""
    t = carray(table, 7)
    rows, width = t[0], t[1]
    both, scales = floats(t[2], rows, 2 * width), floats(t[3], rows, 1)
    bias = floats(t[4], 2, width)
    out, found = digits(t[5], 2 * rows, width), floats(t[6], rows, 1)
    begin, end = share(rows)
    for i in range(begin, end):
        gates = both[i, :width]
        _gated(gates, both[i, width:], scales[i, 0], bias[0], bias[1])
        big = _largest(gates)
        found[i, 0] = big
        _round_twice(gates, _F(127.0) / big, out[i], out[rows + i])


@Kernel
def turn(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.between.turn`."""
    t = carray(table, 11)
    rows, heads, kv_heads, width = t[0], t[1], t[2], t[3]
    turning, every = heads + kv_heads, heads + 2 * kv_heads
    y = floats(t[4], rows * every, width)
    scales, bias = floats(t[5], rows, 1), floats(t[6], every, width)
    cosine, sine = floats(t[7], rows, width), floats(t[8], rows, width)
    query, kv = floats(t[9], rows * heads, width), floats(t[10], rows * 2 * kv_heads, width)
    begin, end = share(rows)
    for i in range(begin, end):
        for h in range(every):
            out = query[i * heads + h] if h < heads else kv[i * 2 * kv_heads + h - heads]
            if h < turning:
                _turned(y[i * every + h], scales[i, 0], bias[h], cosine[i], sine[i], out)
            else:
                _scaled(y[i * every + h], scales[i, 0], bias[h], out)


@loop
def _add_halves(x: Floats, y: Any) -> None:
    for j in range(x.size):
        x[j] += widened(y[j])


@loop
def _weighted(x: Floats, factor: Any, weight: Floats, out: Any) -> None:
    for j in range(x.size):
        out[j] = halved(x[j] * factor * weight[j])


@loop
def _gated_halves(gates: Any, up: Any, out: Any) -> None:
    for j in range(gates.size):
        v = widened(gates[j])
        out[j] = halved(v / (_F(1.0) + exp(-v)) * widened(up[j]))


@loop
def _turned_halves(head: Any, cosine: Floats, sine: Floats, out: Any) -> None:
    half = head.size // 2
    for j in range(half):
        a, b = widened(head[j]), widened(head[half + j])
        out[j] = halved(a * cosine[j] + b * sine[j])
        out[half + j] = halved(b * cosine[half + j] + a * sine[half + j])


@loop
def _copied(x: Any, out: Any) -> None:
    for j in range(x.size):
        out[j] = x[j]


@Kernel
def norm_halves(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.halves.norm_halves`."""
    t = carray(table, 8)
    rows, width, parts = t[0], t[1], t[2]
    x, y = floats(t[3], rows, width), halves(t[4], rows, width)
    weight, out = floats(t[5], 1, width)[0], halves(t[6], rows, width)
    epsilon = floats(t[7], 1, 1)[0, 0]
    begin, end = share(rows)
    for i in range(begin, end):
        row = x[i]
        if parts == 1:
            _add_halves(row, y[i])
        factor = _F(1.0) / np.sqrt(_mean_square(row) + epsilon)
        _weighted(row, factor, weight, out[i])


@Kernel
def gate_halves(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.halves.gate_halves`."""
    t = carray(table, 4)
    rows, width = t[0], t[1]
    both, out = halves(t[2], rows, 2 * width), halves(t[3], rows, width)
    begin, end = share(rows)
    for i in range(begin, end):
        _gated_halves(both[i, :width], both[i, width:], out[i])


@Kernel
def turn_halves(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.halves.turn_halves`."""
    t = carray(table, 9)
    rows, heads, kv_heads, width = t[0], t[1], t[2], t[3]
    turning, every = heads + kv_heads, heads + 2 * kv_heads
    y = halves(t[4], rows * every, width)
    cosine, sine = floats(t[5], rows, width), floats(t[6], rows, width)
    query, kv = halves(t[7], rows * heads, width), halves(t[8], rows * 2 * kv_heads, width)
    begin, end = share(rows)
    for i in range(begin, end):
        for h in range(every):
            out = query[i * heads + h] if h < heads else kv[i * 2 * kv_heads + h - heads]
            if h < turning:
                _turned_halves(y[i * every + h], cosine[i], sine[i], out)
            else:
                _copied(y[i * every + h], out)


@loop
def _dot(x: Floats, y: Floats) -> Any:
    total = _F(0.0)
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@loop
def _add_times(out: Floats, x: Floats, factor: Any) -> None:
    for j in range(out.size):
        out[j] += factor * x[j]


@loop
def _scale(x: Floats, factor: Any) -> None:
    for j in range(x.size):
        x[j] *= factor


@loop
def _softmax(scores: Floats) -> Any:
    """Put the softmax in the place of scores, and return their log-sum-exp."""
    big = scores[0]
    for j in range(scores.size):
        big = scores[j] if scores[j] > big else big
    total = _F(0.0)
    for j in range(scores.size):
        weight = exp(scores[j] - big)
        scores[j] = weight
        total += weight
    _scale(scores, _F(1.0) / total)
    return big + np.log(total)


@Kernel
def attend_rows(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.attention.attend_rows`."""
    t = carray(table, 14)
    rows, kv_heads, groups, width, columns, slots = t[0], t[1], t[2], t[3], t[4], t[5]
    heads, step = kv_heads * groups, 2 * kv_heads
    query = floats(t[6], rows * heads, width)
    new, kv = floats(t[7], rows * step, width), floats(t[8], slots * columns * step, width)
    places, scale = integers(t[9], 2, rows), floats(t[10], 1, 1)[0, 0]
    out, found = (
        floats(t[11], kv_heads * rows * groups, width),
        floats(t[12], kv_heads, rows * groups),
    )
    scores = floats(t[13], rows * heads, columns)
    begin, end = share(rows)
    for i in range(begin, end):
        first, length = places[0, i] * columns * step, places[1, i]
        for h in range(step):
            kv[first + (length - 1) * step + h] = new[i * step + h]
        # Token by token over all heads, since that is how they lie in memory.
        for c in range(length):
            for h in range(kv_heads):
                key = kv[first + c * step + h]
                for g in range(i * heads + h * groups, i * heads + (h + 1) * groups):
                    scores[g, c] = _dot(query[g], key)
        for h in range(kv_heads):
            for g in range(groups):
                weights = scores[i * heads + h * groups + g, :length]
                _scale(weights, scale)
                found[h, i * groups + g] = _softmax(weights)
                out[(h * rows + i) * groups + g] = _F(0.0)
        for c in range(length):
            for h in range(kv_heads):
                value = kv[first + c * step + kv_heads + h]
                for g in range(groups):
                    weight = scores[i * heads + h * groups + g, c]
                    _add_times(out[(h * rows + i) * groups + g], value, weight)


@loop
def _dot_halves(x: Floats, y: Any) -> Any:
    total = _F(0.0)
    for j in range(x.size):
        total += x[j] * widened(y[j])
    return total


@loop
def _add_times_halves(out: Floats, x: Any, factor: Any) -> None:
    for j in range(out.size):
        out[j] += factor * widened(x[j])


@loop
def _widen(x: Any, factor: Any, out: Floats) -> None:
    for j in range(x.size):
        out[j] = widened(x[j]) * factor


@loop
def _halve(x: Floats, out: Any) -> None:
    for j in range(x.size):
        out[j] = halved(x[j])


@Kernel
def attend_rows_halves(table: Any) -> None:
    """The same as ``attend_rows`` for bfloat16, with queries and sums in float32 meanwhile."""
    t = carray(table, 16)
    rows, kv_heads, groups, width, columns, slots = t[0], t[1], t[2], t[3], t[4], t[5]
    heads, step = kv_heads * groups, 2 * kv_heads
    query = halves(t[6], rows * heads, width)
    new, kv = halves(t[7], rows * step, width), halves(t[8], slots * columns * step, width)
    places, scale = integers(t[9], 2, rows), floats(t[10], 1, 1)[0, 0]
    out, found = (
        halves(t[11], kv_heads * rows * groups, width),
        floats(t[12], kv_heads, rows * groups),
    )
    scores = floats(t[13], rows * heads, columns)
    asked, sums = floats(t[14], rows * heads, width), floats(t[15], rows * heads, width)
    begin, end = share(rows)
    for i in range(begin, end):
        first, length = places[0, i] * columns * step, places[1, i]
        for h in range(step):
            _copied(new[i * step + h], kv[first + (length - 1) * step + h])
        for g in range(i * heads, (i + 1) * heads):
            _widen(query[g], scale, asked[g])
            sums[g] = _F(0.0)
        for c in range(length):
            for h in range(kv_heads):
                key = kv[first + c * step + h]
                for g in range(i * heads + h * groups, i * heads + (h + 1) * groups):
                    scores[g, c] = _dot_halves(asked[g], key)
        for h in range(kv_heads):
            for g in range(groups):
                weights = scores[i * heads + h * groups + g, :length]
                found[h, i * groups + g] = _softmax(weights)
        for c in range(length):
            for h in range(kv_heads):
                value = kv[first + c * step + kv_heads + h]
                for g in range(i * heads + h * groups, i * heads + (h + 1) * groups):
                    _add_times_halves(sums[g], value, scores[g, c])
        for h in range(kv_heads):
            for g in range(groups):
                _halve(sums[i * heads + h * groups + g], out[(h * rows + i) * groups + g])


@loop
def _mix_halves(out: Any, part: Any, weight: Any) -> None:
    for j in range(out.size):
        left = widened(out[j])
        out[j] = halved(left + weight * (widened(part[j]) - left))


@Kernel
def merge_halves(table: Any) -> None:
    """The same as ``merge`` for outputs in bfloat16; the log-sum-exp is in float32."""
    t = carray(table, 13)
    count, heads, width, places, begin = t[0], t[1], t[2], t[3], t[4]
    by_head, by_query, total_by_head, total_by_query = t[5], t[6], t[7], t[8]
    out, found = halves(t[9], heads * places, width), floats(t[10], heads, places)
    part = halves(t[11], 1, by_head * heads + by_query * count)[0]
    total = floats(t[12], 1, total_by_head * heads + total_by_query * count)[0]
    first, last = share(count)
    for h in range(heads):
        for i in range(first, last):
            left = found[h, begin + i]
            right = total[h * total_by_head + i * total_by_query]
            at = h * by_head + i * by_query
            weight = _F(1.0) / (_F(1.0) + np.exp(left - right))
            _mix_halves(out[h * places + begin + i], part[at : at + width], weight)
            big, small = max(left, right), min(left, right)
            found[h, begin + i] = big + np.log(_F(1.0) + np.exp(small - big))


@loop
def _mix(out: Floats, part: Floats, weight: Any) -> None:
    for j in range(out.size):
        out[j] += weight * (part[j] - out[j])


@Kernel
def merge(table: Any) -> None:
    """See :func:`reflectory.models.engine.kernels.attention.merge`."""
    t = carray(table, 13)
    count, heads, width, places, begin = t[0], t[1], t[2], t[3], t[4]
    by_head, by_query, total_by_head, total_by_query = t[5], t[6], t[7], t[8]
    out, found = floats(t[9], heads * places, width), floats(t[10], heads, places)
    part = floats(t[11], 1, by_head * heads + by_query * count)[0]
    total = floats(t[12], 1, total_by_head * heads + total_by_query * count)[0]
    first, last = share(count)
    for h in range(heads):
        for i in range(first, last):
            left = found[h, begin + i]
            right = total[h * total_by_head + i * total_by_query]
            at = h * by_head + i * by_query
            weight = _F(1.0) / (_F(1.0) + np.exp(left - right))
            _mix(out[h * places + begin + i], part[at : at + width], weight)
            big, small = max(left, right), min(left, right)
            found[h, begin + i] = big + np.log(_F(1.0) + np.exp(small - big))
