"""a**b on lanes of floats, with the special cases of IEEE 754-2019, section 9.2.1."""

from __future__ import annotations

import math
from collections.abc import Callable

from llvmlite import ir

from chainrule.native.exponential import exp_parts, log, log_pair
from chainrule.native.lanes import Lanes, Value


def _square(lanes: Lanes, a: Value) -> Value:
    return lanes.mul(a, a)


def _root(lanes: Lanes, a: Value) -> Value:
    root = lanes.add(lanes.call("sqrt", a), 0.0)  # + 0: (-0)**0.5 is 0
    return lanes.select(lanes.compare("==", a, -math.inf), math.inf, root)


def _reciprocal(lanes: Lanes, a: Value) -> Value:
    return lanes.div(1.0, a)


# Exponents that are a few multiplications: as exact as the rest, and far cheaper.
_SHORT: dict[float, Callable[[Lanes, Value], Value]] = {
    0.0: lambda lanes, a: lanes.number(1.0),
    1.0: lambda lanes, a: a,
    2.0: _square,
    3.0: lambda lanes, a: lanes.mul(_square(lanes, a), a),
    4.0: lambda lanes, a: _square(lanes, _square(lanes, a)),
    0.5: _root,
    -1.0: _reciprocal,
    -2.0: lambda lanes, a: _square(lanes, _reciprocal(lanes, a)),
}


def power(lanes: Lanes, a: Value, b: Value) -> Value:
    """a**b: exp(b * log|a|) with the logarithm in more digits than the result has."""
    short = _SHORT.get(_constant(b))
    if short is not None:
        return short(lanes, a)
    if lanes.bits == 64:
        return _general(lanes, a, b)
    wide = lanes.widened()
    value = _general(wide, *(lanes.builder.fpext(x, wide.type) for x in (a, b)))
    return lanes.builder.fptrunc(value, lanes.type)


def _constant(b: Value) -> float:
    """The one number of a constant exponent, else NaN."""
    if not isinstance(b, ir.Constant):
        return math.nan
    lanes = b.constant if isinstance(b.constant, (list, tuple)) else [b.constant]
    numbers = {getattr(lane, "constant", lane) for lane in lanes}
    only = numbers.pop() if len(numbers) == 1 else None
    return float(only) if isinstance(only, (int, float)) else math.nan


def _general(lanes: Lanes, a: Value, b: Value) -> Value:
    size = lanes.abs(a)
    # Past 2**70 an exponent sends every size but 1 to 0 or infinity; its products stay finite.
    factor = lanes.at_least(lanes.at_most(b, 2.0**70), -(2.0**70))
    if lanes.grade == "mid":
        part, scale = exp_parts(lanes, lanes.mul(factor, log(lanes, size)))
    else:
        high, low = log_pair(lanes, size)
        product, error = lanes.two_product(factor, high)
        error = lanes.fma(factor, low, error)
        inside = lanes.compare("<", lanes.abs(product), 1000.0)  # outside, error is no small part
        part, scale = exp_parts(lanes, product, lanes.select(inside, error, 0.0))
    value = lanes.mul(part, scale)

    down = lanes.compare("<", b, 0.0)
    at_zero = lanes.select(down, math.inf, 0.0)
    at_infinity = lanes.select(down, 0.0, math.inf)
    value = lanes.select(lanes.compare("==", size, 0.0), at_zero, value)
    value = lanes.select(lanes.compare("==", size, math.inf), at_infinity, value)

    whole = _is_whole(lanes, b)
    odd = lanes.both(whole, lanes.inverse(_is_whole(lanes, lanes.mul(b, 0.5))))
    value = lanes.copysign(value, lanes.select(odd, a, 1.0))
    negative = lanes.both(lanes.compare("<", a, 0.0), lanes.compare(">", a, -math.inf))
    value = lanes.select(lanes.both(negative, lanes.inverse(whole)), math.nan, value)

    missing = lanes.either(lanes.is_nan(a), lanes.is_nan(b))
    value = lanes.select(missing, math.nan, value)
    always_one = lanes.either(lanes.compare("==", a, 1.0), lanes.compare("==", b, 0.0))
    return lanes.select(always_one, 1.0, value)


def _is_whole(lanes: Lanes, b: Value) -> Value:
    size = lanes.abs(b)
    limit = 2.0**lanes.mantissa  # from here on every float is whole
    rounded = lanes.sub(lanes.add(size, limit), limit)
    return lanes.either(lanes.compare(">=", size, limit), lanes.compare("==", rounded, size))
