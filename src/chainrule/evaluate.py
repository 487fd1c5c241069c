"""The literal meaning of a System in NumPy: float64, or exact fractions.

Every expression is worked out as an array over exactly the indices it depends on.  An affine
access is a strided view of its tensor (behind pad: of a copy with a border and, for a fraction,
with gaps), a sum of products is one einsum over such views, and every element is written once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import FormulaError
from chainrule.expr import (
    Access,
    Add,
    Affine,
    Axis,
    Call,
    Compare,
    Const,
    Expr,
    Index,
    Mul,
    Pow,
    Reduce,
    Size,
    Symbol,
    factors_of,
    terms_of,
    walk,
)
from chainrule.functions import COMPARISONS, FUNCTIONS, REDUCTIONS, Array
from chainrule.notation import located
from chainrule.ranges import Ranges, unique
from chainrule.system import Problem, Statement, System

_WORTH_PLANNING = 8192  # multiply-adds
_MAX_BITS = 1_000_000  # of an exact power
_INEXACT = "run without exact=True"
_SMALLER = "give smaller sizes, or smaller arrays"


class Value(NamedTuple):
    """An array and the index that each of its axes stands for."""

    array: Array
    names: tuple[str, ...]


def evaluate(
    system: System, ranges: Ranges, arrays: Mapping[str, Array], *, exact: bool = False
) -> dict[str, Array]:
    """Every assigned tensor; reads of an updated tensor see the array that was given.

    arrays are float64, or object arrays of Fraction when exact.
    """
    old = dict(arrays)
    out: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        place = {s: k for k, s in enumerate(system.statements)}
        for s in system.order:
            k = place[s]
            work = Evaluator(old, ranges.extents[k], ranges.shapes, exact)
            try:
                array = work.statement(unique(s))
            except _NoValue as e:
                raise located(Problem(e.message, k, e.node or s, e.hint), system) from None
            except MemoryError:
                message = f"there is not enough memory to compute {s.target}"
                raise located(Problem(message, k, s, _SMALLER), system) from None
            out[s.target] = array
            if s.target not in system.updates:
                old[s.target] = array
    return {s.target: out[s.target] for s in system.statements}


def check_exact(system: System) -> None:
    """Raise FormulaError that points at the first thing that has no value in fractions."""
    for k, s in enumerate(system.statements):
        for e in walk(s.body):
            match e:
                case Symbol("pi"):
                    why = "pi is not rational"
                case Call(name) if name in FUNCTIONS and FUNCTIONS[name].exact is None:
                    why = f"{name} does not map fractions to fractions"
                case Reduce(op) if REDUCTIONS[op].exact is None:
                    why = f"{op} does not map fractions to fractions"
                case Pow(_, Const(q)) if q.denominator != 1:
                    why = f"a power with exponent {q} is not rational"
                case _:
                    continue
            raise located(Problem(why, k, e, _INEXACT), system)


class _NoValue(FormulaError):
    """A value that cannot be computed, and the expression at fault where that is known."""

    def __init__(self, message: str, hint: str, node: Expr | None = None) -> None:
        super().__init__(message, hint=hint)
        self.node = node


class Evaluator:
    """Evaluates the expressions of one statement, whose indices have the given extents."""

    def __init__(
        self,
        arrays: Mapping[str, Array],
        extents: Mapping[str, int],
        shapes: Mapping[str, tuple[int, ...]],
        exact: bool,
    ) -> None:
        self.arrays, self.extents, self.shapes, self.exact = arrays, extents, shapes, exact
        self.dtype: Any = object if exact else np.float64

    def statement(self, s: Statement) -> Array:
        """The target's array, in its own shape."""
        shape = tuple(self.extents[n] for n in s.indices)
        _check_memory(s.target, math.prod(shape))
        full = self.aligned(self.value(s.body), s.indices)
        # always in row-major order and never a view: later statements stride over it
        array = np.array(np.broadcast_to(full, shape), dtype=self.dtype, order="C", copy=True)
        if self.exact and any(x != x for x in array.flat):
            raise _NoValue(
                f"{s.target} has no exact value: it divides by zero",
                "run without exact=True, where it is inf or nan",
                next(filter(self.divides, walk(s.body)), None),
            )
        return array.reshape(self.shapes[s.target])

    def divides(self, e: Expr) -> bool:
        """Can this be what divided by zero?"""
        match e:
            case Pow(_, Const(q)):
                return q < 0
            case Reduce("mean"):
                return 0 in (self.extents[n] for n in e.names)
        return isinstance(e, Pow)

    # ------------------------------------------------------------ expressions

    def value(self, e: Expr) -> Value:
        match e:
            case Const(q):
                return self.scalar(q if self.exact else _float(q))
            case Symbol(name):
                return self.symbol(name)
            case Index(name):
                _check_memory(f"the values of index {name}", self.extents[name], e)
                return Value(self.counter(self.extents[name]), (name,))
            case Size(t, axis):
                n = self.shapes[t][axis]
                return self.scalar(Fraction(n) if self.exact else float(n))
            case Access():
                return self.access(e)
            case Add(terms):
                return self.elementwise(lambda *v: sum(v[1:], v[0]), terms)
            case Mul(factors):
                return self.elementwise(math.prod, factors, start=True)
            case Pow(base, exponent):
                return self.power(base, exponent)
            case Call("where", (condition, a, b)):
                return self.where(condition, a, b)
            case Call(name, args):
                return self.elementwise(self.function(name), args)
            case Compare(op, a, b):
                return self.compare(op, a, b)
            case Reduce("sum", _, body):
                return self.sum(e, body)
            case Reduce():
                return self.reduction(e)
        raise AssertionError(type(e))

    def scalar(self, x: Any) -> Value:
        return Value(np.array(x, dtype=self.dtype), ())

    def symbol(self, name: str) -> Value:
        if name == "pi" and self.exact:
            raise _NoValue("pi is not rational", _INEXACT)
        return self.scalar({"pi": math.pi, "inf": math.inf}[name])

    def counter(self, n: int) -> Array:
        if self.exact:
            return np.array([Fraction(k) for k in range(n)], dtype=object)
        return np.arange(n, dtype=np.float64)

    def elementwise(self, f: Any, args: Sequence[Expr], start: bool = False) -> Value:
        values = [self.value(a) for a in args]
        names = _union(values)
        aligned = [self.aligned(v, names) for v in values]
        if start:  # math.prod wants one iterable, and the order of the formula
            out = aligned[0]
            for x in aligned[1:]:
                out = out * x
            return Value(np.asarray(out, dtype=self.dtype), names)
        return Value(np.asarray(f(*aligned), dtype=self.dtype), names)

    def function(self, name: str) -> Any:
        row = FUNCTIONS[name]
        if not self.exact:
            return row.value
        if row.exact is None:
            raise _NoValue(f"{name} does not map fractions to fractions", _INEXACT)
        return np.frompyfunc(row.exact, row.arity, 1)

    def power(self, base: Expr, exponent: Expr) -> Value:
        if self.exact:
            return self.elementwise(np.frompyfunc(_exact_power, 2, 1), (base, exponent))
        if isinstance(exponent, Const) and exponent.value in (-1, 2):
            f = np.square if exponent.value == 2 else np.reciprocal
            return self.elementwise(f, (base,))
        return self.elementwise(np.power, (base, exponent))

    def where(self, condition: Expr, a: Expr, b: Expr) -> Value:
        """The branch not taken may be NaN or divide by zero: it is computed and not looked at."""
        return self.elementwise(lambda c, x, y: np.where(c != 0, x, y), (condition, a, b))

    def compare(self, op: str, a: Expr, b: Expr) -> Value:
        value = self.elementwise(COMPARISONS[op][0], (a, b))
        if not self.exact:
            return value
        fractions = np.frompyfunc(lambda x: Fraction(bool(x)), 1, 1)(value.array)
        return Value(np.asarray(fractions, dtype=object), value.names)

    def aligned(self, v: Value, names: Sequence[str]) -> Array:
        """The array with its axes in the order of names, length 1 where it does not depend."""
        present = [n for n in names if n in v.names]
        array = v.array.transpose([v.names.index(n) for n in present])
        return array.reshape(tuple(self.extents[n] if n in v.names else 1 for n in names))

    # ------------------------------------------------------------ accesses

    def access(self, e: Access) -> Value:
        """A strided view: an index moves the position by its coefficient on every axis it is on."""
        array = self.arrays[e.tensor]
        spans = [self.affine(axis) for axis in e.axes]
        if e.pad is not None:
            array, spans = self.bordered(array, spans, e.pad)
        steps: dict[str, int] = {}
        start = 0
        for stride, span in zip(array.strides, spans, strict=True):
            start += stride * int(span.offset)
            for name, c in span.terms:
                steps[name] = steps.get(name, 0) + stride * int(c)
        names = tuple(steps)
        shape = tuple(self.extents[n] for n in names)
        if 0 in shape:
            return Value(np.empty(shape, dtype=self.dtype), names)
        first = array.reshape(-1)[start // array.itemsize :]  # arrays here are contiguous
        strides = tuple(steps.values())
        view = np.lib.stride_tricks.as_strided(first, shape, strides, writeable=False)
        return Value(view, names)

    def affine(self, axis: Axis) -> Affine:
        """A group is affine too, once its sizes are known."""
        if isinstance(axis, Affine):
            return axis
        terms: list[tuple[str, Fraction]] = []
        stride = 1
        for name in reversed(axis.names):
            terms.append((name, Fraction(stride)))
            stride *= self.extents[name]
        return Affine(tuple(reversed(terms)), Fraction(0))

    def bordered(self, array: Array, spans: list[Affine], pad: Expr) -> tuple[Array, list[Affine]]:
        """A copy with gaps for fractions and a border for what lies outside."""
        outside = self.value(pad).array[()]
        shape, place, moved = [], [], []
        for n, span in zip(array.shape, spans, strict=True):
            gap = span.denominator
            scaled, offset = span.times(gap).terms, span.offset * gap
            moves = [c * (self.extents[name] - 1) for name, c in scaled]
            low = offset + sum(m for m in moves if m < 0)
            high = offset + sum(m for m in moves if m > 0)
            last = (n - 1) * gap
            before = max(0, -math.floor(low))
            after = max(0, math.ceil(high) - max(last, -1 if n == 0 else 0))
            length = before + (last + 1 if n else 0) + after
            if n == 0:
                length = before + max(0, math.ceil(high) + 1)
            shape.append(max(length, 1))
            place.append(slice(before, before + last + 1, gap) if n else slice(0, 0))
            moved.append(Affine(scaled, offset + before))
        _check_memory("the border that pad needs", math.prod(shape))
        out = np.full(shape, outside, dtype=self.dtype)
        out[tuple(place)] = array
        return out, moved

    # ------------------------------------------------------------ reductions

    def sum(self, e: Reduce, body: Expr) -> Value:
        """A sum of products, term by term; each product is one einsum."""
        names = e.names
        total: Value | None = None
        for term in terms_of(body):
            v = self.sum_of_product(term, names)
            total = v if total is None else self.added(total, v)
        assert total is not None
        return total

    def added(self, a: Value, b: Value) -> Value:
        names = _union([a, b])
        total = self.aligned(a, names) + self.aligned(b, names)
        return Value(np.asarray(total, dtype=self.dtype), names)

    def sum_of_product(self, term: Expr, names: tuple[str, ...]) -> Value:
        factors = [self.value(f) for f in factors_of(term)]
        used = _union(factors)
        missing = math.prod(self.extents[n] for n in names if n not in used)
        kept = tuple(n for n in used if n not in names)
        summed = [n for n in used if n in names]
        if self.exact or len(factors) == 1:
            out = self.aligned(factors[0], used)
            for f in factors[1:]:
                out = out * self.aligned(f, used)
            axes = tuple(used.index(n) for n in summed)
            full = np.broadcast_to(out, tuple(self.extents[n] for n in used))
            zero: Any = Fraction(0) if self.exact else 0.0
            array = np.asarray(np.sum(full, axis=axes, initial=zero))
        else:
            letters = {n: k for k, n in enumerate(used)}
            operands: list[Any] = []
            for f in factors:
                operands += [f.array, [letters[n] for n in f.names]]
            # looking for a good order (and a BLAS call) takes longer than a small sum itself
            large = math.prod(self.extents[n] for n in used) > _WORTH_PLANNING
            array = np.einsum(*operands, [letters[n] for n in kept], optimize=large)
        if missing != 1:
            array = array * (Fraction(missing) if self.exact else missing)
        return Value(np.asarray(array, dtype=self.dtype), kept)

    def reduction(self, e: Reduce) -> Value:
        v = self.value(e.body)
        kept = tuple(n for n in v.names if n not in e.names)
        order = (*kept, *e.names)
        full = np.broadcast_to(self.aligned(v, order), tuple(self.extents[n] for n in order))
        if not self.exact:
            axes = tuple(range(len(kept), len(order)))
            return Value(np.asarray(REDUCTIONS[e.op].combine(full, axes), dtype=np.float64), kept)
        exact = REDUCTIONS[e.op].exact
        if exact is None:
            raise _NoValue(f"{e.op} does not map fractions to fractions", _INEXACT, e)
        out = np.empty(full.shape[: len(kept)], dtype=object)
        for place in np.ndindex(*out.shape):
            out[place] = exact(list(full[place].flat))
        return Value(out, kept)


def _union(values: Sequence[Value]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n for v in values for n in v.names))


def _exact_power(base: Fraction | float, exponent: Fraction | float) -> Fraction | float:
    if not (isinstance(base, Fraction) and isinstance(exponent, Fraction)):
        return math.pow(base, exponent)  # ±inf, the maximum or minimum of nothing, or nan
    if exponent.denominator != 1:
        raise _NoValue(f"a power with exponent {exponent} is not rational", _INEXACT)
    if base == 0 and exponent < 0:
        return math.nan  # undefined: a `where` around it may not look at it
    digits = max(abs(base.numerator), base.denominator).bit_length() - 1
    if abs(exponent) * digits > _MAX_BITS:
        raise _NoValue(f"a power with exponent {exponent} has too many digits", _INEXACT)
    return Fraction(base ** int(exponent))


def _float(q: Fraction) -> float:
    try:
        return float(q)
    except OverflowError:
        return math.inf if q > 0 else -math.inf


def _check_memory(what: str, elements: int, node: Expr | None = None) -> None:
    """Refuse what no machine, or not this one, can hold; the system might end the process."""
    if elements * 8 > _memory():
        size = f"{elements * 8:.2g}".replace("e+", "e")
        raise _NoValue(f"{what} would take {size} bytes", _SMALLER, node)


@cache
def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system says
        return 2**46
