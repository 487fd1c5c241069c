"""One statement, differentiated: a contribution for every place where the body reads a tensor.

The body is walked from the root with the cotangent in hand, multiplying it by local derivatives
from the tables.  What arrives at an access o[A] is a Contribution: for every value of the bound
indices, `term` flows back to o at A.  Nothing is summed or solved yet; see eliminate.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from chainrule.expr import (
    MINUS_ONE,
    ONE,
    ZERO,
    Access,
    Add,
    Binder,
    Call,
    Compare,
    Const,
    Expr,
    Index,
    Mul,
    Pow,
    Reduce,
    add,
    divide,
    mul,
    power,
    rebuild,
    reduce,
    rename_bound,
    walk,
)
from chainrule.functions import FUNCTIONS, POWER_RULES, REDUCTIONS
from chainrule.notation import parse_expression
from chainrule.simplify import simplify

# Reductions and functions through which nothing flows back.
CONSTANT = frozenset({"argmax"} | {n for n, f in FUNCTIONS.items() if f.derivative is None}) - {
    "where",
    "pow",
}


@dataclass(frozen=True)
class Contribution:
    """Σ over `bound` of  factors (under `guards`)  flows to `access`.

    factors   the cotangent first, then the local derivatives
    guards    conditions of enclosing `where`s: the term counts only where all hold
    rules     names of the differentiation rules that were used, in order
    seeded    False where the cotangent is 1 and not among the factors
    """

    access: Access
    bound: tuple[str, ...]
    factors: tuple[Expr, ...]
    guards: tuple[Expr, ...]
    rules: tuple[str, ...]
    seeded: bool

    def times(self, *more: Expr, rule: str = "") -> Contribution:
        rules = (*self.rules, rule) if rule and rule not in self.rules else self.rules
        return replace(self, factors=(*self.factors, *more), rules=rules)

    def mapped(self, f: Callable[[Expr], Expr]) -> Contribution:
        """With f applied to factors and guards."""
        return replace(self, factors=tuple(map(f, self.factors)), guards=tuple(map(f, self.guards)))

    def renamed(self, names: Mapping[str, str]) -> Contribution:
        """With index names replaced throughout."""
        access = rename_bound(self.access, names)
        assert isinstance(access, Access)
        return replace(
            self,
            access=access,
            bound=tuple(names.get(n, n) for n in self.bound),
            factors=tuple(rename_bound(f, names) for f in self.factors),
            guards=tuple(rename_bound(g, names) for g in self.guards),
        )

    @property
    def term(self) -> Expr:
        return guarded(self.guards, mul(*self.factors))


def guarded(guards: tuple[Expr, ...], e: Expr) -> Expr:
    for g in reversed(guards):
        e = Call("where", (g, e, ZERO))
    return e


class Adjoint:
    """Differentiates one body.

    active   the tensors whose cotangent is wanted
    name     gives an expression the name that the forward pass has for it, or a new one
    count    the number of terms of a reduction, as an expression
    size     the size of an index, as an expression
    """

    def __init__(
        self,
        active: frozenset[str],
        name: Callable[[Expr, str], Expr],
        count: Callable[[tuple[Binder, ...]], Expr],
        size: Callable[[str], Expr],
    ) -> None:
        self.active, self.name, self.count, self.size = active, name, count, size

    def contributions(
        self, body: Expr, seed: Expr, indices: tuple[str, ...]
    ) -> Iterator[Contribution]:
        nowhere = Access("", (), None)  # replaced at the leaf
        seeds = () if seed is ONE else (seed,)
        return self.flow(body, Contribution(nowhere, indices, seeds, (), (), bool(seeds)))

    def reaches(self, e: Expr) -> bool:
        """Does anything that is wanted depend on e differentiably?"""
        if isinstance(e, Compare) or (isinstance(e, Call) and e.function in CONSTANT):
            return False
        if isinstance(e, Reduce) and e.op in CONSTANT:
            return False
        if isinstance(e, Access):
            return e.tensor in self.active
        parts = e.args[1:] if isinstance(e, Call) and e.function == "where" else e.inside
        return any(map(self.reaches, parts))

    def flow(self, e: Expr, c: Contribution) -> Iterator[Contribution]:
        if not self.reaches(e):
            return
        match e:
            case Access():
                yield replace(c, access=e)
            case Add(terms):
                for t in terms:
                    yield from self.flow(t, c)
            case Mul(factors):
                whole = self.name(e, "")
                for k, f in enumerate(factors):
                    if isinstance(whole, Access) and _divides(f):
                        yield from self.quotient(f, whole, c)
                        continue
                    if self.reaches(f):
                        others = map(self.value, (*factors[:k], *factors[k + 1 :]))
                        yield from self.flow(f, c.times(*others, rule="product rule"))
            case Pow(base, exponent):
                yield from self.power(e, base, exponent, c)
            case Call("where", (condition, a, b)):
                opposite = Compare("==", condition, ZERO)
                for guard, branch in ((condition, a), (opposite, b)):
                    yield from self.flow(branch, replace(c, guards=(*c.guards, guard)))
            case Call(name, args):
                for local, arg in zip(self.local(e), args, strict=True):
                    yield from self.flow(arg, c.times(local, rule=FUNCTIONS[name].rule))
            case Reduce(op, binders, body):
                inner = replace(c, bound=(*c.bound, *e.names))
                factors = _REDUCE[op](self, e, binders, body)
                yield from self.flow(body, inner.times(*factors, rule=REDUCTIONS[op].rule))

    def quotient(self, f: Expr, whole: Expr, c: Contribution) -> Iterator[Contribution]:
        """d(a/b)/db = -(a/b)/b, with a/b by its name: b**2 would overflow where a/b does not."""
        match f:
            case Pow(base, Const() as n):
                local = mul(n, whole, power(self.value(base), MINUS_ONE))
                yield from self.flow(base, c.times(local, rule="quotient rule"))

    def power(self, e: Expr, base: Expr, exponent: Expr, c: Contribution) -> Iterator[Contribution]:
        for rule, arg in zip(POWER_RULES, (base, exponent), strict=True):
            if self.reaches(arg):
                local = self.fill(rule, (base, exponent), e)
                yield from self.flow(arg, c.times(local, rule="power rule"))

    def local(self, e: Call) -> list[Expr]:
        """The partial derivatives of a function call, one for each argument."""
        row = FUNCTIONS[e.function]
        assert row.derivative is not None
        value = self.name(e, "")
        plain = all(isinstance(a, Access) for a in e.args)
        if row.by_value and isinstance(value, Access) and not plain:
            return [self.fill(text, e.args, e) for text in row.by_value]
        return [self.fill(text, e.args, e) for text in row.derivative]

    def fill(self, rule: str, args: tuple[Expr, ...], value: Expr) -> Expr:
        """A row of the table with its letters replaced, reductions inside given names."""
        letters = dict(zip("ab", args, strict=False)) | {"y": value}
        template = _template(rule)

        def go(x: Expr) -> Expr:
            if isinstance(x, Access):
                return self.value(letters[x.tensor])
            return rebuild(x, go)

        return simplify(go(template))

    def value(self, e: Expr) -> Expr:
        """e by name where the forward pass has one, its reductions by names of their own."""
        named = self.name(e, "")
        if named is not e:
            return named
        if isinstance(e, Reduce):
            return self.name(e, e.op)
        return rebuild(e, self.value)


def _divides(f: Expr) -> bool:
    return isinstance(f, Pow) and isinstance(f.exponent, Const) and f.exponent.value < 0


@cache
def _template(rule: str) -> Expr:
    return parse_expression(rule)


# ---------------------------------------------------------------- reductions: the local factor


def _through(a: Adjoint, e: Reduce, binders: tuple[Binder, ...], body: Expr) -> tuple[Expr, ...]:
    return ()


def _mean(a: Adjoint, e: Reduce, binders: tuple[Binder, ...], body: Expr) -> tuple[Expr, ...]:
    return (divide(ONE, a.count(binders)),)


def _winner(a: Adjoint, e: Reduce, binders: tuple[Binder, ...], body: Expr) -> tuple[Expr, ...]:
    """1 at the first winner: argmax gives its row-major number."""
    sought = body if e.op == "max" else mul(MINUS_ONE, body)
    label = "argmax" if e.op == "max" else "argmin"
    winner = a.name(Reduce("argmax", binders, sought), label)
    number: Expr = ZERO
    for k, (name, _) in enumerate(binders):
        rest = binders[k + 1 :]
        stride = a.count(rest) if rest else ONE
        number = add(number, mul(stride, Index(name)))
    return (Compare("==", winner, number),)


def _product(a: Adjoint, e: Reduce, binders: tuple[Binder, ...], body: Expr) -> tuple[Expr, ...]:
    """The product of the other factors (dividing the product by this one would fail at 0)."""
    taken = {n for x in walk(e) for n in x.free} | set(e.names)
    other: dict[str, str] = {}
    for name in e.names:
        fresh = name + "'"
        while fresh in taken:
            fresh += "'"
        taken.add(fresh)
        other[name] = fresh
    itself = mul(*(Compare("==", Index(o), Index(n)) for n, o in other.items()))
    rest = Call("where", (itself, ONE, rename_bound(body, other)))
    sized = tuple((other[n], a.size(n)) for n in e.names)
    return (a.name(Reduce("prod", sized, rest), "others"),)


def _softmax(a: Adjoint, e: Reduce, binders: tuple[Binder, ...], body: Expr) -> tuple[Expr, ...]:
    whole = a.name(e, "logsumexp")
    return (Call("exp", (add(a.value(body), mul(MINUS_ONE, whole)),)),)


_REDUCE: dict[str, Callable[..., tuple[Expr, ...]]] = {
    "sum": _through,
    "mean": _mean,
    "max": _winner,
    "min": _winner,
    "prod": _product,
    "logsumexp": _softmax,
}


def as_sum(c: Contribution, kronecker: Expr) -> Expr:
    """The contribution with its Kronecker deltas, before they are eliminated."""
    return reduce("sum", tuple((n, None) for n in c.bound), mul(c.term, kronecker))
