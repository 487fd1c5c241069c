"""Rewrite rules that bring a derived formula to the form a textbook prints.

Each rule is a named row: it takes a node whose children are simplified already and returns a
simpler node, or None where it has nothing to say.  The rules keep the value of a formula wherever
that value is a number (x*x/x becomes x, which differs only where the left side is undefined).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

from chainrule.expr import (
    MINUS_ONE,
    ONE,
    ZERO,
    Add,
    Call,
    Compare,
    Const,
    Expr,
    Index,
    Mul,
    Pow,
    Reduce,
    Size,
    add,
    const,
    factors_of,
    mul,
    power,
    rebuild,
    reduce,
    split_coefficient,
    walk,
)

Rule = Callable[[Expr], "Expr | None"]


@lru_cache(maxsize=8192)
def simplify(e: Expr) -> Expr:
    """The normal form of e under RULES: children first, then each rule until none applies."""
    e = rebuild(e, simplify)
    for _, rule in RULES:
        new = rule(e)
        if new is not None and new is not e:
            return simplify(new)
    return e


def zero_product(e: Expr) -> Expr | None:
    """0*x -> 0"""
    return ZERO if isinstance(e, Mul) and ZERO in e.factors else None


def quotients_last(e: Expr) -> Expr | None:
    """1/y*x -> x/y"""
    if not isinstance(e, Mul):
        return None
    ordered = sorted(e.factors, key=lambda f: isinstance(f, Pow) and f.exponent is MINUS_ONE)
    return mul(*ordered) if tuple(ordered) != e.factors else None


def zero_exponent(e: Expr) -> Expr | None:
    """x**0 -> 1"""
    return ONE if isinstance(e, Pow) and e.exponent is ZERO else None


def reciprocal(e: Expr) -> Expr | None:
    """x**-2 -> 1/x**2, and (1/x)**2 likewise"""
    match e:
        case Pow(Pow(base, Const(m)), Const(n)) if _whole(m, n) and not (m > 1 and n == -1):
            return _power(base, int(m * n))
        case Pow(base, Const(n)) if _whole(n) and n < -1:
            return _power(base, int(n))
    return None


def number_from_quotient(e: Expr) -> Expr | None:
    """1/(2*x) -> 1/2/x"""
    match e:
        case Pow(Mul((Const(c), *rest)), Const(n)) if n == -1:
            return mul(const(1 / c), power(mul(*rest), MINUS_ONE))
    return None


def root_squared(e: Expr) -> Expr | None:
    """sqrt(x)**2 -> x, where x is what a root may be taken of"""
    match e:
        case Pow(Call("sqrt", (x,)), Const(n)) if n == 2:
            return x
    return None


def one_choice(e: Expr) -> Expr | None:
    """where(c, x, 0) + where(c == 0, y, 0) -> where(c, x, y)"""
    if not isinstance(e, Add):
        return None
    for i, a in enumerate(e.terms):
        for j, b in enumerate(e.terms):
            match a, b:
                case (
                    Call("where", (c, x, Const(p))),
                    Call("where", (Compare("==", d, Const(q)), y, Const(r))),
                ) if c is d and p == q == r == 0:
                    rest = [t for k, t in enumerate(e.terms) if k not in (i, j)]
                    return add(Call("where", (c, x, y)), *rest)
    return None


def collect_powers(e: Expr) -> Expr | None:
    """x*x -> x**2, x*y/x -> y"""
    if not isinstance(e, Mul):
        return None
    exponents: dict[Expr, int] = {}
    for f in e.factors:
        base, n = _base(f)
        exponents[base] = exponents.get(base, 0) + n
    if len(exponents) == len(e.factors):
        return None
    return mul(*(_power(b, n) for b, n in exponents.items() if n))


def collect_terms(e: Expr) -> Expr | None:
    """x + 2*x -> 3*x, x - x -> 0"""
    if not isinstance(e, Add):
        return None
    total: dict[Expr, Fraction] = {}
    for t in e.terms:
        c, rest = split_coefficient(t)
        total[rest] = total.get(rest, Fraction(0)) + c
    if len(total) == len(e.terms):
        return None
    return add(*(mul(const(c), rest) for rest, c in total.items() if c))


def common_factor(e: Expr) -> Expr | None:
    """a/n - b/n -> (a - b)/n"""
    if not isinstance(e, Add):
        return None
    products = [factors_of(t) for t in e.terms]
    shared = [f for f in products[0] if all(f in p for p in products[1:])]
    shared = [f for f in dict.fromkeys(shared) if f is not MINUS_ONE]
    if not shared:
        return None
    rest = []
    for p in products:
        left = list(p)
        for f in shared:
            left.remove(f)
        rest.append(mul(*left))
    return mul(add(*rest), *shared)


def sign_into_difference(e: Expr) -> Expr | None:
    """-(t - u) -> (u - t): a negative number is absorbed by a difference"""
    if not (isinstance(e, Mul) and isinstance(e.factors[0], Const) and e.factors[0].value < 0):
        return None
    for k, f in enumerate(e.factors):
        if isinstance(f, Add) and any(split_coefficient(t)[0] < 0 for t in f.terms):
            turned = [mul(MINUS_ONE, t) for t in f.terms]
            turned.sort(key=lambda t: split_coefficient(t)[0] < 0)  # a positive term leads
            rest = [const(-e.factors[0].value), *e.factors[1:k], add(*turned), *e.factors[k + 1 :]]
            return mul(*rest)
    return None


def nested_sums(e: Expr) -> Expr | None:
    """sum[i](sum[j](e)) -> sum[i,j](e)"""
    match e:
        case Reduce("sum", outer, Reduce("sum", inner, body)):
            return Reduce("sum", (*outer, *inner), body)
    return None


def invariant_factor(e: Expr) -> Expr | None:
    """sum[i](c*e) -> c*sum[i](e), for every factor c that does not depend on i"""
    match e:
        case Reduce("sum", binders, Mul(factors)):
            names = {n for n, _ in binders}
            outside = [f for f in factors if not names.intersection(f.free)]
            inside = [f for f in factors if names.intersection(f.free)]
            if outside and inside:
                return mul(*outside, reduce("sum", binders, mul(*inside)))
    return None


def count_terms(e: Expr) -> Expr | None:
    """sum[m:5](e) -> 5*e, where e does not depend on m and the size is a plain number"""
    match e:
        case Reduce("sum", binders, body):
            counted = {
                n: s for n, s in binders if s is not None and n not in body.free and _plain(s)
            }
            if counted:
                kept = tuple(b for b in binders if b[0] not in counted)
                return mul(*counted.values(), reduce("sum", kept, body))
    return None


def zero_sum(e: Expr) -> Expr | None:
    """sum[i](0) -> 0"""
    return ZERO if isinstance(e, Reduce) and e.op == "sum" and e.body is ZERO else None


def decided_choice(e: Expr) -> Expr | None:
    """where(c, x, x) -> x, where(1, x, y) -> x"""
    match e:
        case Call("where", (Const(c), a, b)):
            return a if c else b
        case Call("where", (_, a, b)) if a is b:
            return a
    return None


def decided_bracket(e: Expr) -> Expr | None:
    """(i == i) -> 1, (2 < 1) -> 0"""
    if not isinstance(e, Compare):
        return None
    gap = simplify(add(e.left, mul(MINUS_ONE, e.right))) if _is_index_form(e) else None
    if not isinstance(gap, Const):
        return None
    v = gap.value
    true = {"==": v == 0, "!=": v != 0, "<": v < 0, "<=": v <= 0, ">": v > 0, ">=": v >= 0}
    return const(int(true[e.op]))


RULES: tuple[tuple[str, Rule], ...] = (
    ("a product with 0 is 0", zero_product),
    ("x**0 = 1", zero_exponent),
    ("what divides stands last", quotients_last),
    ("reciprocals are written as quotients", reciprocal),
    ("a number leaves a quotient", number_from_quotient),
    ("the square of a root", root_squared),
    ("equal factors make a power", collect_powers),
    ("two halves of a choice are one", one_choice),
    ("like terms are collected", collect_terms),
    ("a common factor is taken out", common_factor),
    ("a sign is absorbed by a difference", sign_into_difference),
    ("nested sums are one sum", nested_sums),
    ("a sum of zeros is 0", zero_sum),
    ("what does not depend on the index leaves the sum", invariant_factor),
    ("a sum of equal terms is their number times the term", count_terms),
    ("a choice between equals is no choice", decided_choice),
    ("a bracket without unknowns is 0 or 1", decided_bracket),
)


def _whole(*values: Fraction) -> bool:
    return all(v.denominator == 1 for v in values)


def _base(f: Expr) -> tuple[Expr, int]:
    match f:
        case Pow(Pow(base, Const(m)), Const(n)) if _whole(m, n):
            return base, int(m * n)
        case Pow(base, Const(n)) if _whole(n):
            return base, int(n)
    return f, 1


def _power(base: Expr, n: int) -> Expr:
    """base**n, a negative one as a quotient: 1/base**|n|."""
    if n < 0:
        return power(_power(base, -n), MINUS_ONE)
    return power(base, const(n)) if n else ONE


def _plain(size: Expr) -> bool:
    """Can this size stand as a number in an expression?  // and min cannot."""
    return all(isinstance(x, (Const, Size, Add, Mul)) for x in walk(size))


def _is_index_form(e: Compare) -> bool:
    """Indices and sizes only: values of tensors may be NaN, for which no bracket is decided."""
    plain = (Const, Index, Size, Add, Mul)
    return all(isinstance(x, plain) for side in (e.left, e.right) for x in walk(side))
