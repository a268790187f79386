"""What loops over vectors are written with where numba would not keep a matrix in registers.

numba vectorises a loop over memory, but a product of two small matrices needs sums that stay in
registers. Such loops are written in LLVM's own language, with everything unrolled that a
register is to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

FEATURES = binding.get_host_cpu_features()
"""What the processor can do, by LLVM's names."""

LANES = 16 if FEATURES.get("avx512f", False) else 8
"""Numbers of float32 in a vector."""

LONG, INT, SHORT, FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.FloatType()
FLOATS, INTS, SHORTS = (ir.VectorType(kind, LANES) for kind in (FLOAT, INT, SHORT))
_POWERS = (1.3333558e-3, 9.6181291e-3, 5.5504109e-2, 2.4022651e-1, 6.9314718e-1, 1.0)
"""Of 2 to the power of at most a half, ln(2)**n / n! from the fifth down."""

Values = Sequence[Any]


def all_floats(number: float) -> ir.Constant:
    """Return a vector of one number."""
    return ir.Constant(FLOATS, [number] * LANES)


def all_ints(number: int) -> ir.Constant:
    """Return a vector of one integer."""
    return ir.Constant(INTS, [number] * LANES)


class Writer:
    """Writes instructions.

    Attributes:
        ir: llvmlite's builder, for everything else.

    Args:
        builder: What numba hands over.
    """

    def __init__(self, builder: Any) -> None:
        self.ir = builder

    def at(self, address: Any, number_of_bytes: Any) -> Any:
        """Return an address so many bytes further on."""
        if isinstance(number_of_bytes, int):
            number_of_bytes = LONG(number_of_bytes)
        return self.ir.add(address, number_of_bytes)

    def load(self, address: Any, kind: Any = FLOATS) -> Any:
        """Return what lies at an address."""
        found = self.ir.load(self.ir.inttoptr(address, kind.as_pointer()))
        found.align = 2
        return found

    def store(self, value: Any, address: Any) -> None:
        """Write to an address."""
        pointer = self.ir.inttoptr(address, value.type.as_pointer())
        self.ir.store(value, pointer).align = 2

    def everywhere(self, number: Any) -> Any:
        """Return a number in all lanes."""
        empty = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
        first = self.ir.insert_element(empty, number, INT(0))
        return self.ir.shuffle_vector(first, empty, all_ints(0))

    def shuffled(self, x: Any, y: Any, places: Sequence[int]) -> Any:
        """Return the numbers at some places of two vectors that lie one behind the other."""
        return self.ir.shuffle_vector(x, y, ir.Constant(ir.VectorType(INT, len(places)), places))

    def call(self, name: str, *values: Any, gives: Any = FLOATS) -> Any:
        """Return what a function of LLVM for vectors of float32 makes of values."""
        kind = ir.FunctionType(gives, [value.type for value in values])
        function = get_or_insert_function(self.ir.module, kind, f"llvm.{name}.v{LANES}f32")
        return self.ir.call(function, values, fastmath=("nnan", "nsz", "reassoc"))

    def times_plus(self, x: Any, y: Any, z: Any) -> Any:
        """Return x * y + z."""
        return self.call("fmuladd", x, y, z)

    def larger(self, x: Any, y: Any) -> Any:
        """Return the larger of two, lane by lane."""
        return self.ir.select(self.ir.fcmp_ordered(">", x, y), x, y)

    def power(self, x: Any) -> Any:
        """Return 2 to the power of x, which is at most 0; relative error below 3e-6."""
        x = self.larger(x, all_floats(-126.0))
        n = self.call("rint", x)
        f = self.ir.fsub(x, n)
        p = all_floats(_POWERS[0])
        for factor in _POWERS[1:]:
            p = self.times_plus(p, f, all_floats(factor))
        # The exponent of a number between 0.7 and 1.5, n less.
        bits = self.ir.add(
            self.ir.bitcast(p, INTS), self.ir.shl(self.ir.fptosi(n, INTS), all_ints(23))
        )
        return self.ir.bitcast(bits, FLOATS)

    def widened(self, shorts: Any) -> Any:
        """Return the float32 of which bfloat16 are the upper halves."""
        return self.ir.bitcast(self.ir.shl(self.ir.zext(shorts, INTS), all_ints(16)), FLOATS)

    def halved(self, floats: Any) -> Any:
        """Return the nearest bfloat16 of numbers that are not below 0."""
        bits = self.ir.add(self.ir.bitcast(floats, INTS), all_ints(0x8000))
        return self.ir.trunc(self.ir.lshr(bits, all_ints(16)), SHORTS)

    def repeat(self, count: Any, start: Values, body: Callable[[Any, Values], Values]) -> Values:
        """Return what values become in so many rounds, at least one.

        Args:
            count: Of rounds.
            start: The values before the first.
            body: Makes the values of a round from its number and those before.
        """
        before = self.ir.block
        inside, behind = (self.ir.append_basic_block(name) for name in ("round", "behind"))
        self.ir.branch(inside)
        self.ir.position_at_end(inside)
        phis = [self.ir.phi(kind) for kind in (LONG, *(value.type for value in start))]
        for phi, value in zip(phis, (LONG(0), *start), strict=True):
            phi.add_incoming(value, before)
        ended = body(phis[0], phis[1:])
        following = self.ir.add(phis[0], LONG(1))
        for phi, value in zip(phis, (following, *ended), strict=True):
            phi.add_incoming(value, self.ir.block)
        self.ir.cbranch(self.ir.icmp_signed("<", following, count), inside, behind)
        self.ir.position_at_end(behind)
        return ended


def vectorised(write: Callable[..., None]) -> Any:
    """Return a function that compiled loops can call, by what writes its instructions.

    Args:
        write: Takes a :class:`Writer` and long integers, which compiled code hands over as one
            tuple; what it says of them is what the function does.
    """
    takes = write.__code__.co_argcount - 1

    def typed(context: Any, values: Any) -> Any:
        def build(context: Any, builder: Any, _: Any, given: Any) -> Any:
            write(Writer(builder), *(builder.extract_value(given[0], i) for i in range(takes)))
            return context.get_dummy_value()

        return types.void(values), build

    return intrinsic(typed)
