"""How keys and values are laid out to be multiplied, and the softmax over a row of scores."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from reflectory.models.engine.kernels.products import CHUNK
from reflectory.models.engine.kernels.vectors import (
    FLOAT,
    INT,
    INTS,
    LANES,
    LONG,
    SHORT,
    SHORTS,
    Values,
    Writer,
    all_floats,
    vectorised,
)

HIDDEN = -1e30
"""Less than any score."""

_PAIRS = ir.VectorType(SHORT, 2 * LANES)


def _turn(w: Writer, x: Any, step: Any, rows: Any, out: Any, *, half: bool) -> None:
    last = w.ir.sub(rows, LONG(1))
    lines = []
    for i in range(LANES):
        there = w.ir.icmp_signed("<", LONG(i), rows)
        address = w.at(x, w.ir.mul(step, w.ir.select(there, LONG(i), last)))
        lines.append(w.widened(w.load(address, SHORTS)) if half else w.load(address))
    # Exchanging squares of 1, then of 2, 4 and so on beside the diagonal turns the whole.
    size = 1
    while size < LANES:
        for i in (i for i in range(LANES) if not i & size):
            above = [LANES + j - size if j & size else j for j in range(LANES)]
            below = [LANES + j if j & size else j + size for j in range(LANES)]
            pair = (lines[i], lines[i + size])
            lines[i], lines[i + size] = w.shuffled(*pair, above), w.shuffled(*pair, below)
        size *= 2
    for i, line in enumerate(lines):
        w.store(line, w.at(out, i * CHUNK * 4))


@vectorised
def turn(w: Writer, x: Any, step: Any, rows: Any, out: Any) -> None:
    """Write the transpose of LANES rows of as many numbers of 32 bits.

    Args:
        w: Writes.
        x: Address of the first row.
        step: Bytes from a row to the next.
        rows: How many there are; the last one stands for those that are missing.
        out: Address of the first row, CHUNK numbers before the next.
    """
    _turn(w, x, step, rows, out, half=False)


@vectorised
def turn_wider(w: Writer, x: Any, step: Any, rows: Any, out: Any) -> None:
    """Do what :func:`turn` does to bfloat16, and write float32."""
    _turn(w, x, step, rows, out, half=True)


@vectorised
def pair(w: Writer, x: Any, y: Any, count: Any, out: Any) -> None:
    """Write two rows of bfloat16 as pairs: x[0], y[0], x[1], y[1] and so on.

    Args:
        w: Writes.
        x: Address of a row.
        y: Address of the other.
        count: Length of a row by 2 LANES.
        out: Address of as many pairs.
    """
    order = [i // 2 + i % 2 * 2 * LANES for i in range(4 * LANES)]

    def body(k: Any, _: Values) -> Values:
        behind = w.ir.mul(k, LONG(4 * LANES))
        upper, lower = (w.load(w.at(row, behind), _PAIRS) for row in (x, y))
        for part in (0, 1):
            places = order[part * 2 * LANES : (part + 1) * 2 * LANES]
            target = w.at(w.at(out, w.ir.mul(behind, LONG(2))), part * 4 * LANES)
            w.store(w.shuffled(upper, lower, places), target)
        return []

    w.repeat(count, [], body)


@vectorised
def widen(w: Writer, x: Any, count: Any, out: Any) -> None:
    """Write a row of bfloat16 as float32.

    Args:
        w: Writes.
        x: Address of the row.
        count: Its length by LANES.
        out: Address of as many numbers.
    """

    def body(k: Any, _: Values) -> Values:
        row = w.load(w.at(x, w.ir.mul(k, LONG(2 * LANES))), SHORTS)
        w.store(w.widened(row), w.at(out, w.ir.mul(k, LONG(4 * LANES))))
        return []

    w.repeat(count, [], body)


def _weigh(w: Writer, half: bool, *given: Any) -> None:
    scores, seen, scale, state, sums, count, out = given
    factor = w.everywhere(w.load(scale, FLOAT))
    limit = w.everywhere(w.ir.trunc(seen, INT))
    found, visible, most = [], [], all_floats(HIDDEN)
    for v in range(0, CHUNK, LANES):
        numbers = ir.Constant(INTS, list(range(v, v + LANES)))
        visible.append(w.ir.icmp_signed("<", numbers, limit))
        score = w.ir.fmul(w.load(w.at(scores, v * 4)), factor)
        found.append(w.ir.select(visible[-1], score, all_floats(HIDDEN)))
        most = w.larger(most, found[-1])
    before, total_at = w.load(state, FLOAT), w.at(state, 4)
    biggest = w.call("vector.reduce.fmax", most, gives=FLOAT)
    grown = w.ir.fcmp_ordered(">", biggest, before)
    biggest = w.ir.select(grown, biggest, before)
    everywhere, added = w.everywhere(biggest), all_floats(0.0)
    for v, (score, there) in enumerate(zip(found, visible, strict=True)):
        weight = w.power(w.ir.fsub(score, everywhere))
        weight = w.ir.select(there, weight, all_floats(0.0))
        added = w.ir.fadd(added, weight)
        at = w.at(out, v * LANES * (2 if half else 4))
        w.store(w.halved(weight) if half else weight, at)
    with w.ir.if_then(grown):
        less = w.power(w.ir.fsub(w.everywhere(before), everywhere))
        total = w.ir.fmul(w.load(total_at, FLOAT), w.ir.extract_element(less, INT(0)))
        w.store(total, total_at)
        w.store(biggest, state)

        def body(k: Any, _: Values) -> Values:
            place = w.at(sums, w.ir.mul(k, LONG(4 * LANES)))
            w.store(w.ir.fmul(w.load(place), less), place)
            return []

        w.repeat(count, [], body)
    added = w.call("vector.reduce.fadd", FLOAT(0.0), added, gives=FLOAT)
    w.store(w.ir.fadd(w.load(total_at, FLOAT), added), total_at)


@vectorised
def weigh(
    w: Writer, scores: Any, seen: Any, scale: Any, state: Any, sums: Any, count: Any, out: Any
) -> None:
    """Make weights of a query's scores, and bring what it has summed to the same measure.

    The softmax of a row that comes in parts (Milakov & Gimelshein 2018, algorithm 3).

    Args:
        w: Writes.
        scores: Address of CHUNK scores.
        seen: How many of them count, from the first on; the others weigh 0.
        scale: Address of the factor on scores, log2(e) in it: weights are powers of 2.
        state: Address of the largest score and the sum of weights so far; changed.
        sums: Address of the weighted values so far; changed.
        count: Length of a value by LANES.
        out: Address of CHUNK weights.
    """
    _weigh(w, False, scores, seen, scale, state, sums, count, out)


@vectorised
def weigh_halves(
    w: Writer, scores: Any, seen: Any, scale: Any, state: Any, sums: Any, count: Any, out: Any
) -> None:
    """Do what :func:`weigh` does, and write weights as bfloat16."""
    _weigh(w, True, scores, seen, scale, state, sums, count, out)
