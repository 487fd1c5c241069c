"""A normal form of formulas: expanded into sums of products, bound indices named canonically.

Two formulas with the same normal form are equal for all tensors and all sizes.  The converse does
not hold (a sum over i is not recognised as one over p-m), so what is not proved here is decided by
numbers.

Every index has a name that nothing else has, ⟨7⟩; for the text of a normal form the bound ones are
renamed by their depth and number, ⟨1:0⟩, so that no name can be captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import count, groupby, permutations, product
from typing import NamedTuple

from chainrule.dims import Dim
from chainrule.expr import (
    Access,
    Add,
    Affine,
    Call,
    Compare,
    Const,
    Expr,
    Group,
    Index,
    Mul,
    Pow,
    Reduce,
    Size,
    affine,
    bare,
    mul,
    power,
    rename_bound,
    substitute,
)
from chainrule.ranges import Ranges, statement_sizes, unique
from chainrule.system import Statement

_MOST_TERMS, _MOST_ORDERS = 400, 200
_MIRRORED = {">": "<", ">=": "<="}


class TooLarge(Exception):
    """The expansion is not worth its length."""


class Term(NamedTuple):
    """coefficient * Π factors, summed over binders (index name -> size)."""

    coefficient: Fraction
    factors: tuple[Expr, ...]
    binders: dict[str, Dim]


class Normal:
    """Normal forms in the world of one gradient program.

    made     statements whose formula stands for their tensor, where it is written out
    """

    def __init__(self, made: Mapping[str, Statement], ranges: Ranges) -> None:
        self.made, self.ranges = made, ranges
        self.fresh = count()
        self.sizes: dict[str, Dim] = {}

    def form(self, s: Statement) -> str:
        """The normal form of a statement's body."""
        ready = self._ready(s)
        names = {n: bare(f"⟨free{k}⟩") for k, n in enumerate(ready.indices)}
        return self.text(substitute(ready.body, names), 0)

    def _ready(self, s: Statement) -> Statement:
        """The statement with index names that nothing else uses, their sizes noted."""
        u = unique(s)
        names = {n: f"⟨{next(self.fresh)}⟩" for n in (*u.indices, *_bound(u.body))}
        axes = tuple(tuple((names[n], size) for n, size in axis) for axis in u.axes)
        new = Statement(s.target, axes, rename_bound(u.body, names))
        sizes = statement_sizes(new, self.ranges.tensors, self.ranges.equal)
        self.sizes |= {n: self.ranges.canonical(d) for n, d in sizes.items()}
        return new

    # ------------------------------------------------------------ expansion

    def terms(self, e: Expr) -> list[Term]:
        out = self._terms(e)
        if len(out) > _MOST_TERMS:
            raise TooLarge
        return out

    def _terms(self, e: Expr) -> list[Term]:
        match e:
            case Const(value):
                return [Term(value, (), {})]
            case Add(items):
                return [t for x in items for t in self.terms(x)]
            case Mul(items):
                return self._product(items)
            case Pow(base, Const(n)) if n.denominator == 1 and 1 < n <= 4:
                return self._product((base,) * int(n))
            case Pow(Mul(items), Const(n)) if n.denominator == 1:
                return self.terms(mul(*(power(x, Const(n)) for x in items)))
            case Pow(Pow(base, Const(m)), Const(n)) if m.denominator == n.denominator == 1:
                return self.terms(power(base, Const(m * n)))
            case Reduce("sum", binders, body):
                return [self._summed(t, [n for n, _ in binders]) for t in self.terms(body)]
            case Reduce("mean", binders, body):
                count = mul(*(_size(self.sizes[n]) for n, _ in binders))
                over = power(count, Const(Fraction(-1)))
                return self.terms(mul(over, Reduce("sum", binders, body)))
            case Size(tensor, axis) if tensor in self.ranges.tensors:
                return self.terms(_size(self.ranges.canonical(self.ranges.tensors[tensor][axis])))
            case Access() if (formula := self._written_out(e)) is not None:
                return self.terms(formula)
        return [Term(Fraction(1), (e,), {})]

    def _product(self, items: tuple[Expr, ...]) -> list[Term]:
        out = [Term(Fraction(1), (), {})]
        for x in items:
            more = self.terms(x)
            if len(out) * len(more) > _MOST_TERMS:
                raise TooLarge
            pairs = [(a, self._renamed(b)) for a in out for b in more]
            out = [
                Term(a.coefficient * b.coefficient, a.factors + b.factors, a.binders | b.binders)
                for a, b in pairs
            ]
        return out

    def _renamed(self, t: Term) -> Term:
        """The term with bound names of its own: a product of two sums keeps them apart."""
        names = {n: f"⟨{next(self.fresh)}⟩" for n in t.binders}
        self.sizes |= {names[n]: size for n, size in t.binders.items()}
        values = {n: bare(m) for n, m in names.items()}
        factors = tuple(substitute(f, values) for f in t.factors)
        return Term(t.coefficient, factors, {names[n]: size for n, size in t.binders.items()})

    def _summed(self, t: Term, names: list[str]) -> Term:
        """Σ over names of a term; what the term does not depend on only counts."""
        bound = dict(t.binders)
        coefficient, factors = t.coefficient, t.factors
        for n in names:
            size = self.sizes[n]
            if any(n in f.free for f in t.factors):
                bound[n] = size
            elif size.value is not None:
                coefficient *= size.value
            else:
                factors = (*factors, _size(size))
        return Term(coefficient, factors, bound)

    def _written_out(self, e: Access) -> Expr | None:
        """The formula of a computed tensor at the place of an access, where that can be written."""
        s = self.made.get(e.tensor)
        if s is None or e.pad is not None or any(isinstance(a, Group) for a in e.axes):
            return None
        if any(len(axis) != 1 for axis in s.axes):
            return None
        ready = self._ready(s)
        at = {n: a for n, a in zip(ready.indices, e.axes, strict=True) if isinstance(a, Affine)}
        try:
            return substitute(ready.body, at)
        except ValueError:
            return None

    # ------------------------------------------------------------ text

    def text(self, e: Expr, depth: int) -> str:
        """The normal form of an expression, bound indices numbered from this depth on."""
        total: dict[str, Fraction] = {}
        for t in self.terms(e):
            key = self._key(t, depth)
            total[key] = total.get(key, Fraction(0)) + t.coefficient
        return " + ".join(f"{c}*{k}" for k, c in sorted(total.items()) if c) or "0"

    def _key(self, t: Term, depth: int) -> str:
        """The term without its coefficient, the same however its bound indices are called."""
        factors = _cancelled(t.factors)
        used = [n for n in t.binders if any(n in f.free for f in factors)]
        best: str | None = None
        for order in self._orders(factors, used, t.binders, depth):
            names = {n: f"⟨{depth}:{k}⟩" for k, n in enumerate(order)}
            values = {n: bare(m) for n, m in names.items()}
            shown = sorted(self._factor(substitute(f, values), depth + 1) for f in factors)
            binders = ",".join(f"{names[n]}<{t.binders[n]}" for n in order)
            text = f"sum[{binders}]({' * '.join(shown)})"
            best = text if best is None else min(best, text)
        return str(best)

    def _orders(
        self, factors: list[Expr], used: list[str], sizes: Mapping[str, Dim], depth: int
    ) -> Iterator[tuple[str, ...]]:
        """Orders of the bound names to try: only those that look alike are permuted."""

        def look(n: str) -> str:
            values = {m: bare("⟨this⟩" if m == n else "⟨other⟩") for m in used}
            shown = sorted(self._factor(substitute(f, values), depth + 1) for f in factors)
            return f"{sizes[n]} {shown}"

        if len(used) < 2:
            yield tuple(used)
            return
        looks = {n: look(n) for n in used}
        alike = [
            list(g) for _, g in groupby(sorted(used, key=looks.__getitem__), looks.__getitem__)
        ]
        orders = product(*(list(permutations(g)) for g in alike if len(g) <= 5))
        if any(len(g) > 5 for g in alike):
            raise TooLarge
        for k, order in enumerate(orders):
            if k > _MOST_ORDERS:
                raise TooLarge
            yield tuple(n for g in order for n in g)

    def _factor(self, e: Expr, depth: int) -> str:
        """What is not expanded further, its parts in normal form."""
        match e:
            case Access(t, axes, pad):
                outside = "" if pad is None else f"|{self.text(pad, depth)}"
                return f"{t}{outside}[{','.join(map(_axis, axes))}]"
            case Index(name):
                return name
            case Reduce(op, binders, body):
                names = {n: f"⟨{depth}:{k}⟩" for k, (n, _) in enumerate(binders)}
                ranges = ",".join(f"{names[n]}<{self.sizes[n]}" for n in names)
                inner = substitute(body, {n: bare(m) for n, m in names.items()})
                return f"{op}[{ranges}]({self.text(inner, depth + 1)})"
            case Call(name, args):
                return f"{name}({'; '.join(self.text(a, depth) for a in args)})"
            case Compare("==" | "!=", a, b):
                gaps = (Add((a, mul(_MINUS, b))), Add((b, mul(_MINUS, a))))
                return f"{e.op}0({min(self.text(g, depth) for g in gaps)})"
            case Compare(op, a, b):
                if op in _MIRRORED:
                    op, a, b = _MIRRORED[op], b, a
                return f"({self.text(a, depth)} {op} {self.text(b, depth)})"
            case Pow(base, exponent):
                return f"({self.text(base, depth)})**({self.text(exponent, depth)})"
        return str(e)


_MINUS = Const(Fraction(-1))


def _bound(e: Expr) -> Iterator[str]:
    if isinstance(e, Reduce):
        yield from e.names
    for c in e.inside:
        yield from _bound(c)


def _size(d: Dim) -> Expr:
    """A size as a factor: a number, or an atom known by its formula."""
    return Const(Fraction(d.value)) if d.value is not None else Access(f"#{d}", (), None)


def _axis(a: Affine | Group) -> str:
    if isinstance(a, Group):
        return f"({','.join(a.names)})"
    a = affine(sorted(a.terms), a.offset)
    return "+".join([*(f"{c}*{n}" for n, c in a.terms), str(a.offset)])


def _cancelled(factors: tuple[Expr, ...]) -> list[Expr]:
    """Without sizes that stand above and below the line: they are never 0 where a term exists."""
    out = list(factors)
    for f in factors:
        if isinstance(f, Access) and f.tensor.startswith("#"):
            under = power(f, _MINUS)
            if f in out and under in out:
                out.remove(f)
                out.remove(under)
    return out
