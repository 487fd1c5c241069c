"""A statement's body as it is added up: Σ over indices of products, plus more of the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from chainrule.expr import (
    MINUS_ONE,
    ONE,
    ZERO,
    Add,
    Call,
    Compare,
    Const,
    Expr,
    Mul,
    Pow,
    Reduce,
    Size,
    add,
    const,
    factors_of,
    mul,
    terms_of,
    walk,
)


@dataclass(frozen=True)
class Product:
    """Σ over names of the product of the factors.

    whole   the same product with its `where`s in place: where a branch is not taken the factors
            beside it may be NaN, and only `whole` says that the term is then 0
    """

    names: tuple[str, ...]
    factors: tuple[Expr, ...]
    whole: Expr


def products(body: Expr, extents: Mapping[str, int]) -> list[Product]:
    """The body's terms, each flattened as far as it is a sum of products."""
    return [_flatten(t, extents) for t in _signed_terms(body)]


def _signed_terms(body: Expr) -> tuple[Expr, ...]:
    """The terms of a sum, also of a sum under one denominator: (a - b)/n is a/n - b/n."""
    if isinstance(body, Mul):
        sums = [f for f in body.factors if isinstance(f, Add)]
        rest = [f for f in body.factors if not isinstance(f, Add)]
        if len(sums) == 1 and all(map(_is_number, rest)) and any(map(_is_sum, sums[0].terms)):
            return tuple(mul(*rest, t) for t in sums[0].terms)
    return terms_of(body)


def _is_number(e: Expr) -> bool:
    return all(isinstance(x, (Const, Size, Pow, Mul, Add)) for x in walk(e))


def _is_sum(e: Expr) -> bool:
    return any(isinstance(f, Reduce) and f.op in ("sum", "mean") for f in factors_of(e))


def _flatten(e: Expr, extents: Mapping[str, int]) -> Product:
    factors = factors_of(e)
    for k, f in enumerate(factors):
        if isinstance(f, Reduce) and f.op in ("sum", "mean"):
            inner = _flatten(f.body, extents)
            share = _share(f, extents)
            before, after = factors[:k], factors[k + 1 :]
            return Product(
                (*f.names, *inner.names),
                _tidy((*before, *share, *inner.factors, *after)),
                mul(*before, *share, inner.whole, *after),
            )
    opened = [g for f in factors for g in _open_where(f)]
    return Product((), _tidy(tuple(opened)), e)


def _share(r: Reduce, extents: Mapping[str, int]) -> tuple[Expr, ...]:
    """What a mean multiplies each of its terms by."""
    if r.op == "sum":
        return ()
    n = prod(extents[name] for name in r.names)
    return (const(Fraction(1, n)),) if n else ()


def _open_where(f: Expr) -> tuple[Expr, ...]:
    """where(c, e, 0) as the bracket c times e."""
    match f:
        case Call("where", (condition, e, z)) if z is ZERO:
            bracket = condition if isinstance(condition, Compare) else _true(condition)
            return (bracket, *(g for x in factors_of(e) for g in _open_where(x)))
    return (f,)


def _true(condition: Expr) -> Expr:
    return Compare("!=", condition, ZERO)


def _tidy(factors: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Plain numbers multiplied into one factor, which comes first; no factor 1."""
    number = mul(*(f for f in factors if isinstance(f, Const)))
    rest = tuple(f for f in factors if not isinstance(f, Const))
    rest = (*filter(_is_number, rest), *(f for f in rest if not _is_number(f)))
    if number is ONE and rest:
        return rest
    if number is MINUS_ONE:
        for k, f in enumerate(rest):  # -(a - b) reads better as (b - a)
            if isinstance(f, Add):
                turned = add(*sorted((mul(MINUS_ONE, t) for t in f.terms), key=_negative))
                return (*rest[:k], turned, *rest[k + 1 :])
    return (number, *rest)


def _negative(t: Expr) -> bool:
    first = factors_of(t)[0]
    return isinstance(first, Const) and first.value < 0
