"""The tables: every scalar function and every reduction the language knows, one row each.

A derivative is written in the formula language itself: `a` and `b` are the arguments, `y` is the
function's value.  Where both `a` and `y` would do, the row uses what the books use
(sigmoid' = y*(1-y)).  Conventions at kinks: relu' and abs' are 0 at 0; of two equal arguments
maximum and minimum take the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Function:
    """A scalar function.

    value       on float64 arrays of one shape
    exact       on Fractions, where the function maps rationals to rationals
    derivative  one formula per argument; None where the function is constant to differentiation
    by_value    the same in terms of y alone, for when the argument has no name but the value has
    latex       a template: {0}, {1} are the arguments
    rule        what a derivation calls its differentiation
    """

    name: str
    arity: int
    value: Callable[..., Array]
    derivative: tuple[str, ...] | None
    latex: str
    exact: Callable[..., Fraction] | None = None
    rule: str = ""
    by_value: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Reduction:
    """A reduction over indices.

    combine     on a float64 array and the axes to reduce
    exact       on a list of Fractions in row-major order
    rule        what a derivation says of its differentiation
    """

    name: str
    combine: Callable[[Array, tuple[int, ...]], Array]
    exact: Callable[[list[Any]], Any] | None
    latex: str
    rule: str


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # never overflows: the large side is mirrored
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


_erf_ufunc = np.frompyfunc(math.erf, 1, 1)
_erfc_ufunc = np.frompyfunc(math.erfc, 1, 1)


def _erf(x: Array) -> Array:
    return np.asarray(_erf_ufunc(x), dtype=np.float64)


def _gelu(x: Array) -> Array:
    # with erfc, not 1 + erf: the tail on the left keeps its digits; -inf gives 0, not -inf * 0
    tail = np.asarray(_erfc_ufunc(-x / math.sqrt(2)), dtype=np.float64)
    return np.where(np.isneginf(x), 0.0, x * 0.5 * tail)


def _silu(x: Array) -> Array:
    return np.where(np.isneginf(x), 0.0, x * _sigmoid(x))


def _sign(x: Fraction) -> Fraction:
    return Fraction((x > 0) - (x < 0))


FUNCTIONS: dict[str, Function] = {
    f.name: f
    for f in (
        Function("exp", 1, np.exp, ("y",), r"\exp\left({0}\right)", rule="exp' = exp"),
        Function("log", 1, np.log, ("1/a",), r"\log\left({0}\right)", rule="log'(a) = 1/a"),
        Function(
            "sqrt", 1, np.sqrt, ("1/(2*y)",), r"\sqrt{{{0}}}", rule="sqrt'(a) = 1/(2*sqrt(a))"
        ),
        Function(
            "abs", 1, np.abs, ("sign(a)",), r"\left|{0}\right|", abs, "abs'(a) = sign(a), 0 at 0"
        ),
        Function(
            "sign", 1, np.sign, None, r"\operatorname{{sign}}\left({0}\right)", _sign, "sign' = 0"
        ),
        Function(
            "sigmoid",
            1,
            _sigmoid,
            ("y*(1 - y)",),
            r"\sigma\left({0}\right)",
            rule="sigmoid' = y*(1 - y) at its value y",
        ),
        Function(
            "tanh",
            1,
            np.tanh,
            ("1 - y**2",),
            r"\tanh\left({0}\right)",
            rule="tanh' = 1 - y**2 at its value y",
        ),
        Function(
            "relu",
            1,
            lambda x: np.maximum(x, 0.0),
            ("a > 0",),
            r"\operatorname{{relu}}\left({0}\right)",
            lambda x: max(x, Fraction(0)),
            "relu'(a) = (a > 0), 0 at 0",
            ("y > 0",),
        ),
        Function(
            "gelu",
            1,
            _gelu,
            ("(1 + erf(a/sqrt(2)))/2 + a*exp(-a**2/2)/sqrt(2*pi)",),
            r"\operatorname{{gelu}}\left({0}\right)",
            rule="gelu'(a) = Φ(a) + a*φ(a)",
        ),
        Function(
            "silu",
            1,
            _silu,
            ("sigmoid(a)*(1 + a*(1 - sigmoid(a)))",),
            r"\operatorname{{silu}}\left({0}\right)",
            rule="silu'(a) = σ(a)*(1 + a*(1 - σ(a)))",
        ),
        Function(
            "softplus",
            1,
            lambda x: np.logaddexp(0.0, x),
            ("sigmoid(a)",),
            r"\operatorname{{softplus}}\left({0}\right)",
            rule="softplus' = sigmoid",
        ),
        Function(
            "erf",
            1,
            _erf,
            ("2*exp(-a**2)/sqrt(pi)",),
            r"\operatorname{{erf}}\left({0}\right)",
            rule="erf'(a) = 2*exp(-a**2)/sqrt(π)",
        ),
        Function("sin", 1, np.sin, ("cos(a)",), r"\sin\left({0}\right)", rule="sin' = cos"),
        Function("cos", 1, np.cos, ("-sin(a)",), r"\cos\left({0}\right)", rule="cos' = -sin"),
        Function(
            "maximum",
            2,
            np.maximum,
            ("a >= b", "b > a"),
            r"\max\left({0}, {1}\right)",
            max,
            "maximum sends δ to the larger argument, the first of equals",
        ),
        Function(
            "minimum",
            2,
            np.minimum,
            ("a <= b", "b < a"),
            r"\min\left({0}, {1}\right)",
            min,
            "minimum sends δ to the smaller argument, the first of equals",
        ),
        Function(
            "stop",
            1,
            lambda x: x,
            None,
            r"\operatorname{{stop}}\left({0}\right)",
            lambda x: x,
            "stop(e) is constant",
        ),
        # `where` is lazy, so evaluate.py and derive.py each treat it themselves; `pow` is
        # written **, and both are here so that one table knows every name and arity.
        Function(
            "where",
            3,
            np.where,
            None,
            r"\begin{{cases}} {1} & {0} \\ {2} & \text{{otherwise}} \end{{cases}}",
            lambda c, a, b: a if c else b,
            "where passes δ to the branch that was taken",
        ),
        Function("pow", 2, np.power, None, r"{{{0}}}^{{{1}}}", rule="(a**n)' = n*a**(n-1)"),
    )
}

# The two partial derivatives of a**b: a**0 is constant, also at a = 0; 0**b stays 0 as b moves.
POWER_RULES = ("where(b == 0, 0, b*a**(b - 1))", "where(a == 0, 0, y*log(a))")


def _logsumexp(x: Array, axes: tuple[int, ...]) -> Array:
    peak = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(peak), peak, 0.0)
    total: Array = np.log(np.sum(np.exp(x - shift), axis=axes)) + np.squeeze(shift, axis=axes)
    return total


def _argmax(x: Array, axes: tuple[int, ...]) -> Array:
    kept = [a for a in range(x.ndim) if a not in axes]
    shape = [x.shape[a] for a in kept]
    flat = x.transpose(*kept, *axes).reshape(*shape, math.prod(x.shape[a] for a in axes))
    if flat.shape[-1] == 0:
        return np.zeros(shape)
    return np.asarray(np.argmax(flat, axis=-1), dtype=np.float64)


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    count = math.prod(x.shape[a] for a in axes)
    total: Array = np.sum(x, axis=axes) / np.float64(count)
    return total


REDUCTIONS: dict[str, Reduction] = {
    r.name: r
    for r in (
        Reduction(
            "sum",
            lambda x, axes: np.sum(x, axis=axes),
            lambda v: sum(v, Fraction(0)),
            r"\sum",
            "the derivative of a sum is the sum of the derivatives",
        ),
        Reduction(
            "mean",
            _mean,
            lambda v: sum(v, Fraction(0)) / len(v) if v else math.nan,
            r"\operatorname{mean}",
            "a mean passes δ on, divided by the number of its terms",
        ),
        Reduction(
            "max",
            lambda x, axes: np.max(x, axis=axes, initial=-np.inf),
            lambda v: max(v, default=-math.inf),
            r"\max",
            "a maximum sends δ to its first winner",
        ),
        Reduction(
            "min",
            lambda x, axes: np.min(x, axis=axes, initial=np.inf),
            lambda v: min(v, default=math.inf),
            r"\min",
            "a minimum sends δ to its first winner",
        ),
        Reduction(
            "prod",
            lambda x, axes: np.prod(x, axis=axes),
            lambda v: math.prod(v, start=Fraction(1)),
            r"\prod",
            "the derivative of a product is the product of the other factors",
        ),
        Reduction(
            "logsumexp",
            _logsumexp,
            None,
            r"\operatorname{logsumexp}",
            "logsumexp' = exp(e - logsumexp), the softmax",
        ),
        Reduction(
            "argmax",
            _argmax,
            lambda v: Fraction(v.index(max(v)) if v else 0),
            r"\operatorname{argmax}",
            "argmax is constant almost everywhere",
        ),
    )
}

COMPARISONS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "==": (np.equal, "="),
    "!=": (np.not_equal, r"\neq"),
    "<": (np.less, "<"),
    "<=": (np.less_equal, r"\leq"),
    ">": (np.greater, ">"),
    ">=": (np.greater_equal, r"\geq"),
}

RESERVED = frozenset({*FUNCTIONS, *REDUCTIONS, "pi", "inf", "pad", "size", "grad"})
