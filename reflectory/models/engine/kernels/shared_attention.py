"""Compiled code of a pass's attention; see ``attention.py`` for what it computes."""

from __future__ import annotations

from functools import partial
from typing import Any

from numba import carray

from reflectory.models.engine.kernels.loops import (
    floats,
    halved,
    halves,
    integers,
    longs,
    loop,
    single,
    taken,
    thread_number,
)
from reflectory.models.engine.kernels.products import (
    BLOCK,
    CHUNK,
    ROWS,
    WIDE,
    close_tiles,
    multiply,
    multiply_narrow,
    multiply_tiles,
    open_tiles,
)
from reflectory.models.engine.kernels.rows import (
    HIDDEN,
    pair,
    turn,
    turn_wider,
    weigh,
    weigh_halves,
    widen,
)
from reflectory.models.engine.kernels.table import Kernel
from reflectory.models.engine.kernels.vectors import LANES
from reflectory.models.engine.run_table import (
    BEHIND,
    COLUMNS,
    COUNT,
    FIRST,
    GROWS,
    HEAD_STEP,
    KEY,
    KEY_STEP,
    NEW,
    VALUE,
)

ITEMS, KV_HEADS, GROUPS, WIDTH, MODE, QUERY, OUT, SCALE, UNITS, RUNS = range(10)
SCRATCH, SCRATCH_BYTES, RUN_COUNT, CONTROL = range(10, 14)
"""What the kernel's table holds, in order."""

BLOCKS = 8
"""Most blocks of queries in a unit."""

SINGLE, HALF, TILES = 0, 1, 2
"""All in float32; bfloat16 that is widened to be multiplied; bfloat16 that AMX multiplies."""

SCORES = BLOCK * CHUNK * 4
"""Bytes of a block's scores."""


@loop
def block_bytes(width: int) -> int:
    """Return how much a block of queries needs: queries, sums, and two numbers for each query."""
    return int(BLOCK * (2 * width + 2) * 4)


def scratch_bytes(width: int) -> int:
    """Return how much a thread needs: keys and values of a chunk, scores, weights, its blocks."""
    return int(2 * CHUNK * width * 4 + 2 * SCORES + BLOCKS * block_bytes(width))


@loop
def _query_row(t: Any, unit: Any, head: int, number: int) -> Any:
    """Return which row of all queries is one of a unit's."""
    groups = t[GROUPS]
    return (unit[0] + number // groups) * t[KV_HEADS] * groups + head * groups + number % groups


@loop
def _ask(t: Any, unit: Any, head: int, first: int, out: int) -> None:
    """Copy a block's queries; the unit's last one stands for those that are missing."""
    width, mode = t[WIDTH], t[MODE]
    last = (unit[1] - unit[0]) * t[GROUPS] - 1
    for i in range(BLOCK):
        row = _query_row(t, unit, head, min(first + i, last))
        if mode == HALF:
            widen((t[QUERY] + row * width * 2, width // LANES, out + i * width * 4))
        else:
            size = width * (4 if mode == SINGLE else 2)
            x, y = halves(t[QUERY] + row * size, 1, size // 2), halves(out + i * size, 1, size // 2)
            for d in range(size // 2):
                y[0, d] = x[0, d]


@loop
def _answer(t: Any, unit: Any, head: int, first: int, sums: int) -> None:
    """Write a block's attention."""
    width, mode = t[WIDTH], t[MODE]
    x = floats(sums, BLOCK, width)
    state = floats(sums + BLOCK * width * 4, BLOCK, 2)
    for i in range(min(BLOCK, (unit[1] - unit[0]) * t[GROUPS] - first)):
        row = _query_row(t, unit, head, first + i)
        factor = single(1.0) / state[i, 1]
        if mode == SINGLE:
            y = floats(t[OUT] + row * width * 4, 1, width)
            for d in range(width):
                y[0, d] = x[i, d] * factor
        else:
            z = halves(t[OUT] + row * width * 2, 1, width)
            for d in range(width):
                z[0, d] = halved(x[i, d] * factor)


@loop
def _settle(t: Any, run: Any, head: int, size: int) -> None:
    """Copy the key and the value of a row's new token to where its others are."""
    count = t[WIDTH] * size // 2
    last = (head * run[HEAD_STEP] + (run[COUNT] - 1) * run[KEY_STEP]) * size
    for source, target in ((head, run[KEY] + last), (t[KV_HEADS] + head, run[VALUE] + last)):
        x, y = halves(run[NEW] + source * count * 2, 1, count), halves(target, 1, count)
        for d in range(count):
            y[0, d] = x[0, d]


@loop
def _bring(t: Any, key: int, value: int, step: int, count: int, keys: int, values: int) -> None:
    """Lay out a chunk: keys turned, and values of bfloat16 as floats or in pairs."""
    width, mode = t[WIDTH], t[MODE]
    columns = width // 2 if mode == TILES else width  # Of 32 bits.
    for j in range(0, count, LANES):
        for d in range(0, columns, LANES):
            out = keys + (d * CHUNK + j) * 4
            if mode == HALF:
                turn_wider((key + j * step + d * 2, step, count - j, out))
            else:
                turn((key + j * step + d * 4, step, count - j, out))
    if mode == HALF:
        for j in range(count):
            widen((value + j * step, width // LANES, values + j * width * 4))
    elif mode == TILES:
        # AMX multiplies 32 rows or none: the last one stands for those that are missing.
        for j in range(0, min(CHUNK, (count + 31) // 32 * 32), 2):
            upper = value + min(j, count - 1) * step
            lower = value + min(j + 1, count - 1) * step
            pair((upper, lower, width // (2 * LANES), values + j * width * 2))


@loop
def _score(t: Any, low: int, high: int, asked: int, keys: int, scores: int) -> None:
    """Multiply the queries of a block with the keys of a chunk."""
    width, row = t[WIDTH], CHUNK * 4
    if t[MODE] == TILES:
        multiply_tiles((asked, width * 2, keys, row, scores, row, width // 32, 0))
        return
    for i in range(low, high, ROWS):
        for j in range(0, CHUNK, WIDE):
            left, at = asked + i * width * 4, scores + (i * CHUNK + j) * 4
            multiply((left, width * 4, keys + j * 4, row, at, row, width, 0))


@loop
def _sum(
    t: Any, low: int, high: int, weights: int, values: int, step: int, sums: int, most: int
) -> None:
    """Add the weighted values of a chunk to the sums of a block."""
    width = t[WIDTH]
    if t[MODE] == TILES:
        for d in range(0, width * 4, CHUNK * 4):
            right, out, depth = values + d, sums + d, (most + 31) // 32
            multiply_tiles((weights, CHUNK * 2, right, step, out, width * 4, depth, 1))
        return
    for i in range(low, high, ROWS):
        left, out = weights + i * CHUNK * 4, sums + i * width * 4
        wide = width // WIDE * WIDE
        for d in range(0, wide, WIDE):
            multiply((left, CHUNK * 4, values + d * 4, step, out + d * 4, width * 4, most, 1))
        for d in range(wide, width, LANES):
            multiply_narrow(
                (left, CHUNK * 4, values + d * 4, step, out + d * 4, width * 4, most, 1)
            )


@loop
def _look(
    t: Any,
    unit: Any,
    run: Any,
    begin: int,
    first: int,
    keys: int,
    values: int,
    step: int,
    scores: int,
    asked: int,
) -> None:
    """Let a block of queries look at a chunk of a run."""
    groups, width, mode = t[GROUPS], t[WIDTH], t[MODE]
    low = max(0, (run[FIRST] - unit[0]) * groups - first)
    high = min(BLOCK, (min(run[BEHIND], unit[1]) - unit[0]) * groups - first)
    grows, left = run[GROWS], run[COUNT] - begin
    if high <= low:
        return
    if grows:
        if unit[0] + (first + high - 1) // groups - run[FIRST] < begin:
            return
        left = min(left, unit[0] + (first + low) // groups - run[FIRST] + 1 - begin)
    sums, weights = asked + BLOCK * width * 4, scores + SCORES
    state = sums + BLOCK * width * 4
    # A product is of whole blocks or groups of rows: what does not look must weigh nothing.
    whole = BLOCK if mode == TILES else ROWS
    start, end = low // whole * whole, (high + whole - 1) // whole * whole
    size = CHUNK * (2 if mode == TILES else 4)
    for i in range(start, end):
        if i < low or i >= high:
            longs(weights + i * size, size // 8)[:] = 0
    _score(t, start, end, asked, keys, scores)
    most, in_token = 1, (first + low) % groups
    for i in range(low, high):
        seen = min(max(left, 0), CHUNK)
        most = max(most, seen)
        row, at = scores + i * CHUNK * 4, weights + i * size
        total = sums + i * width * 4
        if mode == TILES:
            weigh_halves((row, seen, t[SCALE], state + i * 8, total, width // LANES, at))
        else:
            weigh((row, seen, t[SCALE], state + i * 8, total, width // LANES, at))
        in_token += 1
        if in_token == groups:
            in_token = 0
            left = min(left + grows, run[COUNT] - begin)
    _sum(t, start, end, weights, values, step, sums, most)


@loop
def _attend(t: Any, unit: Any, runs: Any, head: int, scratch: int) -> None:
    """Answer the queries that a unit has for one key-value head."""
    groups, width, mode = t[GROUPS], t[WIDTH], t[MODE]
    size = 4 if mode == SINGLE else 2
    keys, values = scratch, scratch + CHUNK * width * 4
    scores = values + CHUNK * width * 4
    own, each = scores + 2 * SCORES, block_bytes(width)
    lanes = (unit[1] - unit[0]) * groups
    for first in range(0, lanes, BLOCK):
        at = own + first // BLOCK * each
        _ask(t, unit, head, first, at)
        floats(at + BLOCK * width * 4, BLOCK, width)[:] = single(0.0)
        state = floats(at + 2 * BLOCK * width * 4, BLOCK, 2)
        state[:, 0] = single(HIDDEN)
        state[:, 1] = single(0.0)
    for number in range(unit[2], unit[3]):
        run = runs[number]
        if run[NEW] != 0:
            _settle(t, run, head, size)
        count = min(run[COUNT], unit[1] - run[FIRST]) if run[GROWS] else run[COUNT]
        for begin in range(0, count, CHUNK):
            chunk = min(CHUNK, count - begin)
            offset = (head * run[HEAD_STEP] + begin * run[KEY_STEP]) * size
            key, value, step = run[KEY] + offset, run[VALUE] + offset, run[KEY_STEP] * size
            _bring(t, key, value, step, chunk, keys, values)
            if mode != SINGLE:
                value, step = values, width * 4
            for first in range(0, lanes, BLOCK):
                at = own + first // BLOCK * each
                _look(t, unit, run, begin, first, keys, value, step, scores, at)
    for first in range(0, lanes, BLOCK):
        at = own + first // BLOCK * each
        _answer(t, unit, head, first, at + BLOCK * width * 4)


@partial(Kernel, team_rows=2)
def attend(table: Any) -> None:
    """See :class:`reflectory.models.engine.kernels.attention.SharedAttention`."""
    t = carray(table, CONTROL + 1)
    kv_heads, mode, counter = t[KV_HEADS], t[MODE], t[CONTROL] + 64
    units, runs = (
        integers(t[UNITS], t[ITEMS] // kv_heads, 4),
        integers(t[RUNS], t[RUN_COUNT], COLUMNS),
    )
    scratch = t[SCRATCH] + thread_number() * t[SCRATCH_BYTES]
    if mode == TILES:
        open_tiles((t[CONTROL],))
    item = taken(counter)
    while item < t[ITEMS]:
        _attend(t, units[item // kv_heads], runs, item % kv_heads, scratch)
        item = taken(counter)
    if mode == TILES:
        close_tiles((0,))
