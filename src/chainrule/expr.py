"""The grammar of formulas: immutable, interned nodes and the few walks over them.

    Expr    = Const(q) | Symbol(pi|inf) | Index(i) | Size(t, axis)      numbers
            | Access(t, axes, pad) | Grad(of, wrt, axes)                tensors
            | Add(Expr...) | Mul(Expr...) | Pow(Expr, Expr)             arithmetic
            | Call(f, Expr...) | Compare(op, Expr, Expr)                functions, brackets
            | Reduce(op, binders, Expr)                                 sum[m:3](...)
            | Partial(Expr, Access)                                     ∂e/∂w[p], derivations only
    axis    = Affine(((i, q)...), q0)     i.e. q*i + ... + q0
            | Group((i, j...))            i.e. (i,j), one axis, row-major
    binder  = (name, size Expr or None)

Nodes are interned: equal trees are one object, so equality is identity, hashing is free, and
facts about a node (its free indices, say) are computed once.  Index names are plain strings; a
statement or a reduction binds them.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

Binder: TypeAlias = "tuple[str, Expr | None]"

_nodes: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()
_lock = threading.Lock()


class _Interned(type):
    """Constructing a node twice from equal parts returns the same object."""

    def __call__(cls, *parts: Any) -> Any:
        key = (cls, *parts)
        with _lock:
            node = _nodes.get(key)
            if node is None:
                node = _nodes[key] = super().__call__(*parts)
        return node


@dataclass(frozen=True, eq=False)
class Node(metaclass=_Interned):
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """An axis read at  Σ coefficient * index + offset."""

    terms: tuple[tuple[str, Fraction], ...]
    offset: Fraction

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.terms)

    @property
    def bare(self) -> str | None:
        """The index that stands alone on this axis, if one does."""
        if len(self.terms) == 1 and self.offset == 0 and self.terms[0][1] == 1:
            return self.terms[0][0]
        return None

    @property
    def denominator(self) -> int:
        """The common denominator of the coefficients and the offset."""
        return math.lcm(self.offset.denominator, *(c.denominator for _, c in self.terms))

    @property
    def whole(self) -> bool:
        """True when every value of the indices gives a whole number."""
        return self.denominator == 1

    def times(self, q: Fraction | int) -> Affine:
        """The form with every coefficient and the offset multiplied by q."""
        return affine(((n, c * q) for n, c in self.terms), self.offset * q)

    def at(self, values: Mapping[str, Affine]) -> Affine:
        """The form with indices replaced by forms."""
        if not any(name in values for name, _ in self.terms):
            return self
        terms: list[tuple[str, Fraction]] = []
        offset = self.offset
        for name, c in self.terms:
            new = values.get(name, bare(name))
            terms += [(n, c * k) for n, k in new.terms]
            offset += c * new.offset
        return affine(terms, offset)


@dataclass(frozen=True, eq=False)
class Group(Node):
    """Several indices on one axis, row-major: (i,j) reads at i*size(j) + j."""

    names: tuple[str, ...]


Axis: TypeAlias = "Affine | Group"


@dataclass(frozen=True, eq=False)
class Expr(Node):
    @cached_property
    def inside(self) -> tuple[Expr, ...]:
        """The expressions directly inside this one (sizes of binders and pad values included)."""
        match self:
            case Add(items) | Mul(items) | Call(_, items):
                return items
            case Pow(a, b) | Compare(_, a, b) | Partial(a, b):
                return a, b
            case Reduce(_, binders, body):
                return *(size for _, size in binders if size is not None), body
            case Access(_, _, pad) if pad is not None:
                return (pad,)
            case _:
                return ()

    @cached_property
    def free(self) -> tuple[str, ...]:
        """Index names that this expression uses and does not bind, in order of first use."""
        seen: dict[str, None] = {}
        if isinstance(self, Index):
            seen[self.name] = None
        elif isinstance(self, (Access, Grad)):
            seen.update(dict.fromkeys(n for axis in self.axes for n in axis.names))
        for child in self.inside:
            seen.update(dict.fromkeys(child.free))
        if isinstance(self, Reduce):
            for name, _ in self.binders:
                seen.pop(name, None)
        return tuple(seen)


@dataclass(frozen=True, eq=False, repr=False)
class Const(Expr):
    value: Fraction


@dataclass(frozen=True, eq=False, repr=False)
class Symbol(Expr):
    name: str


@dataclass(frozen=True, eq=False, repr=False)
class Index(Expr):
    name: str


@dataclass(frozen=True, eq=False, repr=False)
class Size(Expr):
    tensor: str
    axis: int


@dataclass(frozen=True, eq=False, repr=False)
class Access(Expr):
    """tensor[axes]; with a pad value, reading outside the tensor gives that value."""

    tensor: str
    axes: tuple[Axis, ...]
    pad: Expr | None


@dataclass(frozen=True, eq=False, repr=False)
class Grad(Expr):
    """grad(of, wrt)[axes], the cotangent of a tensor, as written in a program's text."""

    of: str
    wrt: str
    axes: tuple[Axis, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Add(Expr):
    terms: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Mul(Expr):
    factors: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Pow(Expr):
    base: Expr
    exponent: Expr


@dataclass(frozen=True, eq=False, repr=False)
class Call(Expr):
    function: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Compare(Expr):
    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, eq=False, repr=False)
class Reduce(Expr):
    op: str
    binders: tuple[Binder, ...]
    body: Expr

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.binders)


@dataclass(frozen=True, eq=False, repr=False)
class Partial(Expr):
    """∂body/∂tensor[axes]: what a derivation writes before it differentiates."""

    body: Expr
    wrt: Access


# ---------------------------------------------------------------- building


def const(value: int | Fraction) -> Const:
    return Const(Fraction(value))


ZERO, ONE, MINUS_ONE = const(0), const(1), const(-1)
INF, PI = Symbol("inf"), Symbol("pi")


def affine(terms: Iterable[tuple[str, Fraction | int]], offset: Fraction | int = 0) -> Affine:
    """An affine axis with like terms collected and zero terms dropped."""
    total: dict[str, Fraction] = {}
    for name, c in terms:
        total[name] = total[name] + c if name in total else Fraction(c)
    return Affine(tuple((n, c) for n, c in total.items() if c), Fraction(offset))


def bare(name: str) -> Affine:
    return Affine(((name, Fraction(1)),), Fraction(0))


def add(*terms: Expr) -> Expr:
    """A sum: nested sums flattened, its numbers added up where the first of them stood."""
    flat: list[Expr] = []
    total, place = Fraction(0), None
    for term in terms:
        for t in term.terms if isinstance(term, Add) else (term,):
            if isinstance(t, Const):
                total += t.value
                place = len(flat) if place is None else place
            else:
                flat.append(t)
    if total or not flat:
        flat.insert(place or 0, const(total))
    return flat[0] if len(flat) == 1 else Add(tuple(flat))


def mul(*factors: Expr) -> Expr:
    """A product: nested products flattened, numbers multiplied (and put first)."""
    flat: list[Expr] = []
    total = Fraction(1)
    for factor in factors:
        for f in factor.factors if isinstance(factor, Mul) else (factor,):
            if isinstance(f, Const):
                total *= f.value
            else:
                flat.append(f)
    if total != 1 or not flat:
        flat.insert(0, const(total))
    return flat[0] if len(flat) == 1 else Mul(tuple(flat))


def neg(e: Expr) -> Expr:
    return mul(MINUS_ONE, e)


_MAX_BITS = 2048  # of a number that `power` works out: twice what float64 reaches


def power(base: Expr, exponent: Expr) -> Expr:
    """base**exponent, worked out where both are numbers and the result is a short rational."""
    if isinstance(exponent, Const) and exponent.value == 1:
        return base
    if isinstance(base, Const) and isinstance(exponent, Const):
        n = exponent.value
        bits = max(abs(base.value.numerator), base.value.denominator).bit_length()
        if n.denominator == 1 and abs(n) * bits <= _MAX_BITS and (base.value or n >= 0):
            return const(base.value ** int(n))
    return Pow(base, exponent)


def divide(a: Expr, b: Expr) -> Expr:
    return mul(a, power(b, MINUS_ONE))


def reduce(op: str, binders: Iterable[Binder], body: Expr) -> Expr:
    binders = tuple(binders)
    return Reduce(op, binders, body) if binders else body


def split_coefficient(e: Expr) -> tuple[Fraction, Expr]:
    """A term as its number and the rest: 2*x*y -> (2, x*y)."""
    if isinstance(e, Const):
        return e.value, ONE
    if isinstance(e, Mul) and isinstance(e.factors[0], Const):
        return e.factors[0].value, mul(*e.factors[1:])
    return Fraction(1), e


def factors_of(e: Expr) -> tuple[Expr, ...]:
    return e.factors if isinstance(e, Mul) else (e,)


def terms_of(e: Expr) -> tuple[Expr, ...]:
    return e.terms if isinstance(e, Add) else (e,)


# ---------------------------------------------------------------- walking


def rebuild(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """e with f applied to each of its children; sums and products are flattened anew."""
    if not e.inside:
        return e
    match e:
        case Add(items):
            return add(*map(f, items))
        case Mul(items):
            return mul(*map(f, items))
        case Call(name, items):
            return Call(name, tuple(map(f, items)))
        case Pow(a, b):
            return power(f(a), f(b))
        case Compare(op, a, b):
            return Compare(op, f(a), f(b))
        case Partial(a, b):
            wrt = f(b)
            assert isinstance(wrt, Access)
            return Partial(f(a), wrt)
        case Reduce(op, binders, body):
            sized = tuple((n, None if s is None else f(s)) for n, s in binders)
            return Reduce(op, sized, f(body))
        case Access(t, axes, pad) if pad is not None:
            return Access(t, axes, f(pad))
        case _:
            return e


def walk(e: Expr) -> Iterator[Expr]:
    """e and everything inside it, parents first, left to right."""
    yield e
    for child in e.inside:
        yield from walk(child)


def tensors(e: Expr) -> dict[str, None]:
    """Names of the tensors whose values e reads, in order of first use (an ordered set)."""
    return dict.fromkeys(n.tensor for n in walk(e) if isinstance(n, Access))


def substitute(e: Expr, values: Mapping[str, Affine]) -> Expr:
    """e with free indices replaced by affine forms; the caller keeps bound names apart.

    A grouped index can only be replaced by another name: raises ValueError otherwise.
    """
    if not any(name in values for name in e.free):
        return e
    match e:
        case Index(name):
            return number(values[name])
        case Access(t, axes, pad):
            return Access(t, tuple(substitute_axis(a, values) for a in axes), pad)
        case Grad(of, wrt, axes):
            return Grad(of, wrt, tuple(substitute_axis(a, values) for a in axes))
        case Reduce(_, _, _):
            inner = {k: v for k, v in values.items() if k not in e.names}
            return rebuild(e, lambda c: substitute(c, inner))
        case _:
            return rebuild(e, lambda c: substitute(c, values))


def substitute_axis(axis: Axis, values: Mapping[str, Affine]) -> Axis:
    if isinstance(axis, Group):
        names = []
        for name in axis.names:
            new = values[name].bare if name in values else name
            if new is None:
                raise ValueError(f"the grouped index {name} has no affine replacement")
            names.append(new)
        return Group(tuple(names))
    return axis.at(values)


def number(axis: Affine) -> Expr:
    """An affine form as an ordinary expression: 2*i + 1."""
    return add(*(mul(const(c), Index(n)) for n, c in axis.terms), const(axis.offset))


def rename_bound(e: Expr, names: Mapping[str, str]) -> Expr:
    """e with free and bound index names replaced alike."""

    def axis(a: Axis) -> Axis:
        if isinstance(a, Group):
            return Group(tuple(names.get(n, n) for n in a.names))
        return affine(((names.get(n, n), c) for n, c in a.terms), a.offset)

    def go(x: Expr) -> Expr:
        match x:
            case Index(name):
                return Index(names.get(name, name))
            case Access(t, axes, pad):
                return Access(t, tuple(map(axis, axes)), pad)
            case Grad(of, wrt, axes):
                return Grad(of, wrt, tuple(map(axis, axes)))
            case Reduce(op, binders, body):
                return Reduce(op, tuple((names.get(n, n), s) for n, s in binders), go(body))
            case _:
                return rebuild(x, go)

    return go(e)
