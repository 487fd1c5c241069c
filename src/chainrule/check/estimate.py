"""How far two honest computations of a tensor may differ: an error estimate from the formulas.

Every statement's rounding error is bounded by  u * (4 + √n) * scale,  where `scale` is what its
value would be if nothing cancelled (Higham's running error) and n the number of terms it sums.
Noise of that size is put into every tensor on the way, several times, and what comes out at the
end tells how the errors grow.  Branches (comparisons, argmax) are held as they are: a number that
sits on a kink is another matter, see differences.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from chainrule.check.work import Values, extents, run
from chainrule.errors import FormulaError
from chainrule.expr import (
    ZERO,
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
    Size,
    Symbol,
    add,
    const,
    mul,
    power,
    rebuild,
    walk,
)
from chainrule.functions import FUNCTIONS, Array
from chainrule.notation import parse_expression
from chainrule.ranges import unique
from chainrule.system import Statement

DOUBLE, SINGLE, HALF = 2.0**-53, 2.0**-24, 2.0**-11
_RUNS = 4
_SAFETY = {DOUBLE: 64.0, SINGLE: 16.0, HALF: 8.0}  # another order of operations, another formula
_BASE = "°"  # behind a tensor's name: its value without noise


def unit_of(dtype: np.dtype[np.generic]) -> float:
    """The relative rounding error of a dtype."""
    return {2: HALF, 4: SINGLE}.get(dtype.itemsize, DOUBLE) if dtype.kind == "f" else DOUBLE


def tolerance(path: Sequence[Statement], values: Values, u: float = DOUBLE) -> Array:
    """The error to allow in each element of the last statement's tensor."""
    return _SAFETY[u] * spread(path, values, u)


def spread(path: Sequence[Statement], values: Values, u: float = DOUBLE) -> Array:
    """How far each element of the last tensor moves under rounding errors."""
    rng = np.random.default_rng(20)
    target = path[-1].target
    computed = {s.target for s in path}
    base = {t + _BASE: a for t, a in values.items()}
    levels = {s.target: u * _growth(s, values) * _scale_of(s, values) for s in path}
    worst = levels[target].copy()
    for _ in range(_RUNS):
        noisy = dict(values) | base
        if u > DOUBLE:  # whoever computes in single precision has rounded the data as well
            for t in {t for s in path for t in s.mentions} - computed:
                noisy[t] = values[t] * (1 + u * rng.choice((-1.0, 1.0), values[t].shape))
        for s in path:
            exact = run(_frozen(s), noisy)
            noisy[s.target] = exact + levels[s.target] * rng.choice((-1.0, 1.0), exact.shape)
        change = np.abs(noisy[target] - values[target])
        worst = np.maximum(worst, np.where(np.isfinite(change), change, 0.0))
    return worst


def _growth(s: Statement, values: Values) -> float:
    sizes = extents(s, values)
    u = unique(s)
    summed = {n for e in walk(u.body) if isinstance(e, Reduce) for n in e.names}
    return 4 + math.sqrt(math.prod(max(1, sizes[n]) for n in summed))


def _scale_of(s: Statement, values: Values) -> Array:
    try:
        with np.errstate(all="ignore"):
            scale = np.abs(run(_scaled(s), values))
    except FormulaError:
        scale = np.abs(values[s.target])
    return np.where(np.isfinite(scale), scale, np.abs(np.nan_to_num(values[s.target])))


@lru_cache(maxsize=4096)
def _scaled(s: Statement) -> Statement:
    u = unique(s)
    return Statement(u.target, u.axes, scale(u.body))


def scale(e: Expr) -> Expr:
    """What e would come to if nothing in it cancelled, each function's slope included."""
    match e:
        case Const(value):
            return const(abs(value))
        case Symbol() | Index() | Size():
            return e
        case Compare() | Reduce("argmax"):
            return ZERO
        case Access(t, axes, pad):
            return Call("abs", (Access(t, axes, pad),))
        case Add(terms):
            return add(*map(scale, terms))
        case Mul(factors):
            return _product(factors)
        case Reduce("sum" | "mean" | "max" as op, binders, body):
            return Reduce(op, binders, scale(body))
        case Reduce("min" | "logsumexp", binders, body):
            return add(Call("abs", (e,)), Reduce("max", binders, scale(body)))
        case Call("where", (c, a, b)):
            return Call("where", (c, scale(a), scale(b)))
        case Call("stop", (a,)):
            return scale(a)
        case Pow(base, Const(n)):
            slope = mul(const(abs(n)), Call("abs", (power(base, const(n - 1)),)))
            return add(Call("abs", (e,)), mul(slope, scale(base)))
        case Call(_, args) if FUNCTIONS[e.function].derivative is not None:
            slopes = zip(slopes_of(e), args, strict=True)
            moved = (mul(Call("abs", (d,)), scale(a)) for d, a in slopes)
            return add(Call("abs", (e,)), *moved)
    return Call("abs", (e,))


def _product(factors: Sequence[Expr]) -> Expr:
    """Brackets select terms, they do not round: they stay as they are."""
    return mul(*(f if isinstance(f, Compare) else scale(f) for f in factors))


def slopes_of(e: Call) -> list[Expr]:
    """The partial derivatives of a function call, from the table."""
    return [filled(text, e.args, e) for text in FUNCTIONS[e.function].derivative or ()]


def filled(rule: str, args: Sequence[Expr], value: Expr) -> Expr:
    """A row of the table of derivatives with its letters a, b and y replaced."""
    letters = dict(zip("ab", args, strict=False)) | {"y": value}

    def go(x: Expr) -> Expr:
        return letters[x.tensor] if isinstance(x, Access) else rebuild(x, go)

    return go(_template(rule))


@lru_cache(maxsize=256)
def _template(rule: str) -> Expr:
    return parse_expression(rule)


@lru_cache(maxsize=4096)
def _frozen(s: Statement) -> Statement:
    """The statement with its comparisons and argmaxes reading the values without noise."""

    def base(x: Expr) -> Expr:
        if isinstance(x, Access):
            return Access(x.tensor + _BASE, x.axes, None if x.pad is None else base(x.pad))
        return rebuild(x, base)

    def go(x: Expr) -> Expr:
        if isinstance(x, Compare) or (isinstance(x, Reduce) and x.op == "argmax"):
            return base(x)
        return rebuild(x, go)

    return Statement(s.target, s.axes, go(s.body))
