"""Sizes as exact integer formulas: polynomials in the sizes of given tensors, with // and min.

    Dim  = Σ integer * Atom * Atom ...
    Atom = Size(t, axis) | Floor(Dim, Dim) | Least(Dim...)

Two sizes are the same when their Dims are equal; that is how "H - (H-k+1) + 1 = k" is known
without any numbers.  With numbers in place of the Size atoms every Dim is a plain integer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from chainrule.expr import Affine, Call, Const, Expr, Mul, Size, add, const, mul


@dataclass(frozen=True)
class Floor:
    above: Dim
    below: Dim


@dataclass(frozen=True)
class Least:
    of: tuple[Dim, ...]


Atom: TypeAlias = "Size | Floor | Least"
Monomial: TypeAlias = "tuple[Atom, ...]"


@dataclass(frozen=True)
class Dim:
    """A canonical sum of monomials; build with `number`, `atom` and the operators."""

    terms: tuple[tuple[Monomial, int], ...]

    @cached_property
    def value(self) -> int | None:
        """The integer it is, if it is one."""
        if not self.terms:
            return 0
        (monomial, c), *more = self.terms
        return c if not more and not monomial else None

    @cached_property
    def sizes(self) -> frozenset[Size]:
        """Every size in it."""
        return frozenset(s for m, _ in self.terms for a in m for s in _sizes(a))

    def __add__(self, other: Dim | int) -> Dim:
        other = _dim(other)
        if self.value is not None and other.value is not None:
            return number(self.value + other.value)
        return _collect([*self.terms, *other.terms])

    def __neg__(self) -> Dim:
        return Dim(tuple((m, -c) for m, c in self.terms))

    def __sub__(self, other: Dim | int) -> Dim:
        return self + -_dim(other)

    def __mul__(self, other: Dim | int) -> Dim:
        other = _dim(other)
        if self.value is not None and other.value is not None:
            return number(self.value * other.value)
        return _collect([(m + n, c * d) for m, c in self.terms for n, d in other.terms])

    def __floordiv__(self, other: Dim | int) -> Dim:
        other = _dim(other)
        if self == other:
            return number(1)
        if other.value:
            return self._floor_by(other.value)
        if len(other.terms) == 1:
            exact = self._divided(*other.terms[0])
            if exact is not None:
                return exact
        return atom(Floor(self, other))

    def _floor_by(self, n: int) -> Dim:
        if n < 0:
            return (-self)._floor_by(-n)
        whole = Dim(tuple((m, c // n) for m, c in self.terms if c // n))
        rest = Dim(tuple((m, c % n) for m, c in self.terms if c % n))
        if rest.value is not None:  # a number below n
            return whole
        return whole + atom(Floor(rest, number(n)))

    def _divided(self, monomial: Monomial, n: int) -> Dim | None:
        """self / (n * monomial), where that is exact."""
        out = []
        for m, c in self.terms:
            left = list(m)
            for a in monomial:
                if a not in left:
                    return None
                left.remove(a)
            if c % n:
                return None
            out.append((tuple(left), c // n))
        return _collect(out)

    def map(self, f: Callable[[Size], Dim]) -> Dim:
        """The Dim with every Size atom replaced."""
        total = number(0)
        for monomial, c in self.terms:
            product = number(c)
            for a in monomial:
                match a:
                    case Size():
                        product = product * f(a)
                    case Floor(above, below):
                        product = product * (above.map(f) // below.map(f))
                    case Least(of):
                        product = product * least(d.map(f) for d in of)
            total = total + product
        return total

    def contains(self, size: Size) -> bool:
        return size in self.sizes

    @property
    def expr(self) -> Expr:
        """The Dim as an expression of the language."""
        ordered = sorted(self.terms, key=lambda t: (not t[0], t[1] < 0))
        return add(*(mul(const(c), *map(_atom_expr, m)) for m, c in ordered))


def number(n: int) -> Dim:
    return Dim((((), n),) if n else ())


def atom(a: Atom) -> Dim:
    return Dim((((a,), 1),))


def least(dims: Iterable[Dim]) -> Dim:
    """The smallest; of two that differ by a number only the smaller is kept."""
    kept: list[Dim] = []
    for d in dims:
        gaps = [(d - k).value for k in kept]
        if any(g is not None and g >= 0 for g in gaps):
            continue
        kept = [k for k, g in zip(kept, gaps, strict=True) if g is None]
        kept.append(d)
    return kept[0] if len(kept) == 1 else atom(Least(tuple(sorted(kept, key=repr))))


def from_expr(e: Expr, size: Callable[[Size], Dim]) -> Dim:
    """The Dim of a size expression."""
    match e:
        case Const(value):
            return number(int(value))
        case Size():
            return size(e)
        case Call("//", (a, b)):
            below = from_expr(b, size)
            if below.value == 0:
                raise ZeroDivisionError
            return from_expr(a, size) // below
        case Call("min", args):
            return least(from_expr(a, size) for a in args)
        case Mul(factors):
            product = number(1)
            for f in factors:
                product = product * from_expr(f, size)
            return product
    total = number(0)
    for t in e.terms:  # type: ignore[attr-defined]
        total = total + from_expr(t, size)
    return total


def reach(axis: Affine, sizes: Mapping[str, Dim], but: str | None = None) -> tuple[Dim, Dim]:
    """The smallest and largest position that the indices of an axis (but one) make."""
    low = high = number(int(axis.offset))
    for name, c in axis.terms:
        if name != but:
            last = (sizes[name] - 1) * int(c)
            low, high = (low, high + last) if c > 0 else (low + last, high)
    return low, high


def _sizes(a: Atom) -> Iterable[Size]:
    match a:
        case Size():
            return (a,)
        case Floor(above, below):
            return above.sizes | below.sizes
        case Least(of):
            return (s for d in of for s in d.sizes)


def _dim(x: Dim | int) -> Dim:
    return number(x) if isinstance(x, int) else x


def _collect(terms: Iterable[tuple[Monomial, int]]) -> Dim:
    total: dict[Monomial, int] = {}
    for monomial, c in terms:
        key = tuple(sorted(monomial, key=repr)) if len(monomial) > 1 else monomial
        total[key] = total.get(key, 0) + c
    kept = [(m, c) for m, c in total.items() if c]
    return Dim(tuple(sorted(kept, key=lambda t: repr(t[0])) if len(kept) > 1 else kept))


def _atom_expr(a: Atom) -> Expr:
    match a:
        case Size():
            return a
        case Floor(above, below):
            return Call("//", (above.expr, below.expr))
        case Least(of):
            return Call("min", tuple(d.expr for d in of))
