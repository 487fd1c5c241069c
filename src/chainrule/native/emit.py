"""A formula's value at a tile of points, as LLVM instructions.

One evaluator serves every kind of statement.  It is asked for the value of an expression at each
point of a tile: some indices take a few neighbouring values at once, and one of them, the vector
index, takes a register's worth in each instruction.  What does not depend on an index of the tile
is computed once for all its values.  So the register tile of a contraction needs no code of its
own: sum[m,c](w[m,c,k] * x[i+m,c]) over a tile of 8 values of i and 2 vectors of k loads each
vector of w and each number of x once, and adds their 16 products to 16 accumulators.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir

from chainrule.expr import (
    Access,
    Add,
    Call,
    Compare,
    Const,
    Expr,
    Index,
    Mul,
    Pow,
    Reduce,
    Symbol,
)
from chainrule.native import mathfn
from chainrule.native.points import I64, Point, Value
from chainrule.native.reductions import Reductions

_ORDERED = {"==": "==", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_SYMBOLS = {"pi": 3.141592653589793, "inf": float("inf")}


class Evaluator(Reductions):
    """Values of expressions at the points of one tile."""

    def value(self, e: Expr, point: Point) -> Value:
        """The value of e at a point, a number or a vector."""
        point = self.project(e, point)
        key = (e, point)
        found = self.remembered(key)
        if found is None:
            found = self._value(e, point)
            self.memo[-1][key] = found
        return found

    def _value(self, e: Expr, point: Point) -> Value:
        match e:
            case Const(value):
                return ir.Constant(self.real, _nearest(value, self.real))
            case Symbol("batch"):
                return self.builder.sitofp(self.arguments["batch"], self.real)
            case Symbol(name):
                return ir.Constant(self.real, _nearest(_SYMBOLS[name], self.real))
            case Index(name):
                return self.float_of(self.spread(self.linear([(name, 1)], 0, point)))
            case Access():
                return self.float_of(self.access(e, point))
            case Add(terms):
                return self.sum(terms, point)
            case Mul(factors):
                return self.product(factors, point)
            case Pow(base, exponent):
                return self.power(base, exponent, point)
            case Compare():
                return self.builder.select(*self.matched(self.truth(e, point), self.one, self.zero))
            case Call("where", (condition, a, b)):
                chosen = self.truth(condition, point)
                return self.builder.select(
                    *self.matched(chosen, self.value(a, point), self.value(b, point))
                )
            case Call("stop", (a,)):
                return self.value(a, point)
            case Call("relu", (a,)):
                x = self.value(a, point)
                zero = self.like(self.zero, x)
                return self.builder.select(self.builder.fcmp_ordered("<", x, zero), zero, x)
            case Call(name, args):
                values = self.matched(*(self.value(a, point) for a in args))
                return mathfn.emit(self.builder, name, values)
            case Reduce():
                self.reduce(e)
                return self.remembered((e, point))
        raise AssertionError(type(e))

    def sum(self, terms: Sequence[Expr], point: Point) -> Value:
        total = self.value(terms[0], point)
        for t in terms[1:]:
            if isinstance(t, Mul) and isinstance(t.factors[0], Const) and t.factors[0].value == -1:
                rest = t.factors[1:]
                total = self.operate("fsub", total, self.product(rest, point))
            else:
                total = self.operate("fadd", total, self.value(t, point))
        return total

    def product(self, factors: Sequence[Expr], point: Point) -> Value:
        above: list[Value] = []
        below: list[Value] = []
        for f in factors:
            if isinstance(f, Pow) and isinstance(f.exponent, Const) and f.exponent.value == -1:
                below.append(self.value(f.base, point))
            else:
                above.append(self.value(f, point))
        # numbers first, so that a vector is multiplied as late as can be
        above.sort(key=lambda v: isinstance(v.type, ir.VectorType))
        total = above[0] if above else self.one
        for v in above[1:]:
            total = self.operate("fmul", total, v)
        for v in below:
            total = self.operate("fdiv", total, v)
        return total

    def power(self, base: Expr, exponent: Expr, point: Point) -> Value:
        x = self.value(base, point)
        n = exponent.value if isinstance(exponent, Const) else Fraction(1, 3)
        if n.denominator != 1 or not 0 < abs(n) <= 64:
            args = self.matched(x, self.value(exponent, point))
            return mathfn.emit(self.builder, "pow", args)
        result, square, k = None, x, abs(int(n))
        while k:
            if k & 1:
                result = square if result is None else self.operate("fmul", result, square)
            k >>= 1
            if k:
                square = self.operate("fmul", square, square)
        return result if n > 0 else self.operate("fdiv", self.one, result)

    def truth(self, e: Expr, point: Point) -> Value:
        """e as a condition: whether a bracket holds, or a number differs from 0."""
        if not isinstance(e, Compare):
            x = self.value(e, point)
            return self.builder.fcmp_unordered("!=", x, self.like(self.zero, x))
        left, right = self.integer(e.left, point), self.integer(e.right, point)
        if left is not None and right is not None:
            return self.builder.icmp_signed(e.op, *self.matched(left, right))
        a, b = self.matched(self.value(e.left, point), self.value(e.right, point))
        if e.op == "!=":
            return self.builder.fcmp_unordered("!=", a, b)
        return self.builder.fcmp_ordered(_ORDERED[e.op], a, b)

    def integer(self, e: Expr, point: Point) -> Value | None:
        """e as a whole number, where it plainly is one."""
        match e:
            case Const(value) if value.denominator == 1 and abs(value) < 2**62:
                return ir.Constant(I64, int(value))
            case Index(name):
                return self.spread(self.linear([(name, 1)], 0, point))
            case Access(t, _, None) if self.buffers[t].whole:
                return self.access(e, point)
            case Mul(factors) | Add(factors) if len(factors) <= 8:
                values = [self.integer(f, point) for f in factors]
                if any(v is None for v in values):
                    return None
                total = values[0]
                op = self.builder.mul if isinstance(e, Mul) else self.builder.add
                for v in values[1:]:
                    total = op(*self.matched(total, v))
                return total
        return None


def _nearest(value: Any, real: ir.Type) -> float:
    """The nearest number of the type."""
    try:
        x = float(value)
    except OverflowError:
        x = float("inf") if value > 0 else float("-inf")
    with np.errstate(over="ignore"):
        return float(np.float32(x)) if isinstance(real, ir.FloatType) else x
