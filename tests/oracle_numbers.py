"""Numbers that carry exact derivatives, for the oracle.

    Dual = (value, {seed: slope}, level)

Value and slopes are plain numbers or Duals of a lower level, so derivatives nest: the gradient of
a gradient is a Dual of level 2 whose slopes are Duals of level 1. Every rule below is written in
arithmetic that works on either, straight from the textbook.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from fractions import Fraction
from typing import Any

Number = Any  # Fraction | float | Dual


class Dual:
    """A value and its slope along each seed that reaches it."""

    __slots__ = ("level", "slopes", "value")

    def __init__(self, value: Number, slopes: dict[Hashable, Number], level: int) -> None:
        self.value, self.slopes, self.level = value, slopes, level

    def __add__(self, other: Number) -> Number:
        return apply("Add", self, other)

    def __radd__(self, other: Number) -> Number:
        return apply("Add", other, self)

    def __sub__(self, other: Number) -> Number:
        return apply("Sub", self, other)

    def __rsub__(self, other: Number) -> Number:
        return apply("Sub", other, self)

    def __mul__(self, other: Number) -> Number:
        return apply("Mult", self, other)

    def __rmul__(self, other: Number) -> Number:
        return apply("Mult", other, self)

    def __truediv__(self, other: Number) -> Number:
        return apply("Div", self, other)

    def __rtruediv__(self, other: Number) -> Number:
        return apply("Div", other, self)

    def __pow__(self, other: Number) -> Number:
        return apply("Pow", self, other)

    def __rpow__(self, other: Number) -> Number:
        return apply("Pow", other, self)

    def __neg__(self) -> Number:
        return apply("Mult", -1, self)


def plain(x: Number) -> Number:
    """The number itself, all slopes dropped: what a decision, or `stop`, sees."""
    while isinstance(x, Dual):
        x = x.value
    return x


def slope(x: Number, seed: Hashable, level: int) -> Number:
    return x.slopes.get(seed, 0) if isinstance(x, Dual) and x.level == level else 0


def apply(name: str, *args: Number) -> Number:
    """f(args), and by the chain rule its slopes: each partial derivative times its argument's."""
    function, partials = FUNCTIONS[name]
    level = max(arg.level if isinstance(arg, Dual) else 0 for arg in args)
    if level == 0:
        return function(*args)
    live = [isinstance(arg, Dual) and arg.level == level for arg in args]
    inner = [arg.value if alive else arg for arg, alive in zip(args, live, strict=True)]
    slopes: dict[Hashable, Number] = {}
    for arg, alive, partial in zip(args, live, partials, strict=True):
        if alive:
            factor = partial(*inner)
            for seed, value in arg.slopes.items():
                term = factor * value
                slopes[seed] = slopes[seed] + term if seed in slopes else term
    return Dual(apply(name, *inner), slopes, level)


def power(a: Number, b: Number) -> Number:
    if isinstance(a, Fraction) and b == int(b):
        return a ** int(b)
    return math.pow(a, b)


def power_by_base(a: Number, b: Number) -> Number:
    return 0 * plain(a) if plain(b) == 0 and not isinstance(b, Dual) else b * apply("Pow", a, b - 1)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def normal(x: Number) -> Number:
    """The standard normal density, in arithmetic that Duals follow."""
    return apply("exp", -(x * x) / 2) / math.sqrt(2 * math.pi)


def bell(x: Number) -> Number:
    """The standard normal distribution function: gelu(x) = x * bell(x)."""
    return (1 + apply("erf", x / math.sqrt(2))) / 2


def logistic(x: Number) -> Number:
    return apply("sigmoid", x)


Rule = tuple[Callable[..., Number], tuple[Callable[..., Number], ...]]

# name: (the function of plain numbers, its partial derivatives in terms of the same arguments)
FUNCTIONS: dict[str, Rule] = {
    "Add": (lambda a, b: a + b, (lambda a, b: 1, lambda a, b: 1)),
    "Sub": (lambda a, b: a - b, (lambda a, b: 1, lambda a, b: -1)),
    "Mult": (lambda a, b: a * b, (lambda a, b: b, lambda a, b: a)),
    "Div": (lambda a, b: a / b, (lambda a, b: 1 / b, lambda a, b: -a / (b * b))),
    "Pow": (power, (power_by_base, lambda a, b: apply("Pow", a, b) * apply("log", a))),
    "pow": (power, (power_by_base, lambda a, b: apply("Pow", a, b) * apply("log", a))),
    "exp": (math.exp, (lambda x: apply("exp", x),)),
    "log": (math.log, (lambda x: 1 / x,)),
    "sqrt": (math.sqrt, (lambda x: 1 / (2 * apply("sqrt", x)),)),
    "sin": (math.sin, (lambda x: apply("cos", x),)),
    "cos": (math.cos, (lambda x: -apply("sin", x),)),
    "tanh": (math.tanh, (lambda x: 1 - apply("tanh", x) * apply("tanh", x),)),
    "sigmoid": (sigmoid, (lambda x: logistic(x) * (1 - logistic(x)),)),
    "softplus": (softplus, (logistic,)),
    "erf": (math.erf, (lambda x: apply("exp", -(x * x)) * (2 / math.sqrt(math.pi)),)),
    "silu": (lambda x: x * sigmoid(x), (lambda x: logistic(x) * (1 + x * (1 - logistic(x))),)),
    "gelu": (lambda x: x * bell(x), (lambda x: bell(x) + x * normal(x),)),
}
