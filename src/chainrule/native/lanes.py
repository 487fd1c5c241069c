"""Arithmetic on a scalar or a vector of floats, as LLVM instructions.

The functions of mathfn.py are written once, in these terms, for float and double, one value or a
register of them.  No instruction carries a fast-math flag: NaN, infinities, signed zeros and
subnormals behave as IEEE 754 says, and LLVM may not reorder.
"""

from __future__ import annotations

import struct
from typing import Any

from llvmlite import ir

from chainrule.native import host
from chainrule.native.coefficients import POLYNOMIALS

Value = Any  # llvmlite is untyped: an ir.Value of the type at hand

# (mantissa bits, exponent bias, name of the integer format, of the float format)
_LAYOUT = {32: (23, 127, "<i", "<f"), 64: (52, 1023, "<q", "<d")}


class Lanes:
    """A builder, a floating-point type (one lane or many), and the grade of its polynomials.

    grade  "f32" and "f64" serve results of their own precision; "mid" is double arithmetic with
           polynomials just good enough for a float result
    """

    def __init__(self, builder: ir.IRBuilder, type_: Any, grade: str = "") -> None:
        self.builder = builder
        self.type = type_
        self.count = type_.count if isinstance(type_, ir.VectorType) else 0
        element = type_.element if self.count else type_
        self.bits = 32 if isinstance(element, ir.FloatType) else 64
        self.grade = grade or f"f{self.bits}"
        self.int_type = self._shaped(ir.IntType(self.bits))
        self.mantissa, self.bias, self._int_format, self._float_format = _LAYOUT[self.bits]

    def _shaped(self, element: Any) -> Any:
        return ir.VectorType(element, self.count) if self.count else element

    def widened(self) -> Lanes:
        """The same lanes in double, for functions whose float value needs more than float."""
        return Lanes(self.builder, self._shaped(ir.DoubleType()), "mid")

    # constants ---------------------------------------------------------------------------

    def number(self, value: float) -> Value:
        """A constant in every lane."""
        return ir.Constant(self.type, [value] * self.count if self.count else value)

    def integer(self, value: int) -> Value:
        """An integer constant of the float's width in every lane."""
        return ir.Constant(self.int_type, [value] * self.count if self.count else value)

    def pattern(self, value: float) -> int:
        """The bits of a constant, as an integer."""
        packed = struct.pack(self._float_format, value)
        return int(struct.unpack(self._int_format, packed)[0])

    # arithmetic ---------------------------------------------------------------------------

    def _float(self, operand: Value | float) -> Value:
        return self.number(operand) if isinstance(operand, (int, float)) else operand

    def _int(self, operand: Value | int) -> Value:
        return self.integer(operand) if isinstance(operand, int) else operand

    def add(self, a: Value | float, b: Value | float) -> Value:
        """a + b."""
        return self.builder.fadd(self._float(a), self._float(b))

    def sub(self, a: Value | float, b: Value | float) -> Value:
        """a - b."""
        return self.builder.fsub(self._float(a), self._float(b))

    def mul(self, a: Value | float, b: Value | float) -> Value:
        """a * b."""
        return self.builder.fmul(self._float(a), self._float(b))

    def div(self, a: Value | float, b: Value | float) -> Value:
        """a / b."""
        return self.builder.fdiv(self._float(a), self._float(b))

    def neg(self, a: Value) -> Value:
        """-a, the sign bit of NaN and zero included."""
        return self.builder.fneg(a)

    def call(self, name: str, *args: Value) -> Value:
        """An LLVM intrinsic on values of this type."""
        module = self.builder.module
        lanes = f"v{self.count}" if self.count else ""
        full = f"llvm.{name}.{lanes}f{self.bits}"
        function = module.globals.get(full)
        if function is None:
            signature = ir.FunctionType(self.type, [self.type] * len(args))
            function = ir.Function(module, signature, full)
        return self.builder.call(function, args)

    def fma(self, a: Value | float, b: Value | float, c: Value | float) -> Value:
        """a * b + c, rounded once where the processor has the instruction."""
        return self.call("fmuladd", self._float(a), self._float(b), self._float(c))

    def abs(self, a: Value) -> Value:
        """|a|."""
        return self.call("fabs", a)

    def copysign(self, size: Value, sign: Value) -> Value:
        """|size| with the sign of `sign`."""
        return self.call("copysign", size, sign)

    def polynomial(self, name: str, x: Value) -> Value:
        """The table's polynomial for this grade, by Horner's rule."""
        *lower, top = POLYNOMIALS[name, self.grade]
        result = self.number(top)
        for coefficient in reversed(lower):
            result = self.fma(result, x, coefficient)
        return result

    def two_sum(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a + b as a rounded sum and its exact error (Knuth, TAOCP volume 2, theorem 4.2.2B)."""
        total = self.add(a, b)
        part = self.sub(total, a)
        return total, self.add(self.sub(a, self.sub(total, part)), self.sub(b, part))

    def two_product(self, a: Value, b: Value) -> tuple[Value, Value]:
        """a * b as a rounded product and its exact error (Dekker 1971 where nothing is fused)."""
        product = self.mul(a, b)
        if host.host().fused:
            return product, self.call("fma", a, b, self.neg(product))
        (a1, a2), (b1, b2) = self._split(a), self._split(b)
        error = self.sub(product, self.mul(a1, b1))
        error = self.sub(self.sub(error, self.mul(a2, b1)), self.mul(a1, b2))
        return product, self.sub(self.mul(a2, b2), error)

    def _split(self, a: Value) -> tuple[Value, Value]:
        """Two halves of half as many bits each; clearing the low bits never overflows."""
        low = (self.mantissa + 1) // 2 + 1
        top = self.to_float(self.bit_and(self.to_bits(a), -(1 << low)))
        return top, self.sub(a, top)

    # comparisons and choices ----------------------------------------------------------------

    def compare(self, relation: str, a: Value | float, b: Value | float) -> Value:
        """An ordered comparison: false where an operand is NaN ("!=" is true there)."""
        ordered = self.builder.fcmp_unordered if relation == "!=" else self.builder.fcmp_ordered
        return ordered(relation, self._float(a), self._float(b))

    def is_nan(self, a: Value) -> Value:
        """Where a is NaN."""
        return self.builder.fcmp_unordered("uno", a, a)

    def either(self, a: Value, b: Value) -> Value:
        """Logical or."""
        return self.builder.or_(a, b)

    def both(self, a: Value, b: Value) -> Value:
        """Logical and."""
        return self.builder.and_(a, b)

    def inverse(self, a: Value) -> Value:
        """Logical not."""
        return self.builder.not_(a)

    def select(self, condition: Value, a: Value | float, b: Value | float) -> Value:
        """a where the condition holds, else b."""
        return self.builder.select(condition, self._float(a), self._float(b))

    def at_most(self, a: Value, top: float) -> Value:
        """min(a, top); NaN stays NaN."""
        return self.select(self.compare(">", a, top), top, a)

    def at_least(self, a: Value, bottom: float) -> Value:
        """max(a, bottom); NaN stays NaN."""
        return self.select(self.compare("<", a, bottom), bottom, a)

    def any(self, condition: Value) -> Value:
        """One bit: whether the condition holds in any lane."""
        if not self.count:
            return condition
        packed = self.builder.bitcast(condition, ir.IntType(self.count))
        return self.builder.icmp_unsigned("!=", packed, ir.Constant(packed.type, 0))

    # bits ----------------------------------------------------------------------------------

    def to_bits(self, a: Value) -> Value:
        """The bits of a float as an integer."""
        return self.builder.bitcast(a, self.int_type)

    def to_float(self, a: Value) -> Value:
        """The float with these bits."""
        return self.builder.bitcast(a, self.type)

    def int_add(self, a: Value, b: Value | int) -> Value:
        """Integer a + b, wrapping."""
        return self.builder.add(a, self._int(b))

    def int_sub(self, a: Value, b: Value | int) -> Value:
        """Integer a - b, wrapping."""
        return self.builder.sub(a, self._int(b))

    def bit_and(self, a: Value, b: Value | int) -> Value:
        """Bitwise and."""
        return self.builder.and_(a, self._int(b))

    def bit_xor(self, a: Value, b: Value | int) -> Value:
        """Bitwise exclusive or."""
        return self.builder.xor(a, self._int(b))

    def shift_left(self, a: Value, count: int) -> Value:
        """Bits moved up."""
        return self.builder.shl(a, self.integer(count))

    def shift_right(self, a: Value, count: int) -> Value:
        """Bits moved down, the sign kept."""
        return self.builder.ashr(a, self.integer(count))

    def int_compare(self, relation: str, a: Value, b: Value | int) -> Value:
        """A signed comparison of integers."""
        return self.builder.icmp_signed(relation, a, self._int(b))

    @property
    def _magic(self) -> float:
        return 1.5 * 2.0**self.mantissa  # adding it leaves the nearest integer in the low bits

    def nearest(self, a: Value, factor: float) -> tuple[Value, Value]:
        """The integer nearest to a * factor, as a float and as an integer.

        Adding 1.5 * 2**52 and taking it off again rounds on every processor, where the
        instruction for rounding is missing from the oldest ones.
        """
        shifted = self.fma(a, factor, self._magic)
        whole = self.int_sub(self.to_bits(shifted), self.pattern(self._magic))
        return self.sub(shifted, self._magic), whole

    def from_small_int(self, a: Value) -> Value:
        """An integer of few bits as a float, the same way backwards."""
        return self.sub(self.to_float(self.int_add(a, self.pattern(self._magic))), self._magic)

    def power_of_two(self, exponent: Value) -> Value:
        """2**exponent for an integer exponent of a normal number."""
        return self.to_float(self.shift_left(self.int_add(exponent, self.bias), self.mantissa))
