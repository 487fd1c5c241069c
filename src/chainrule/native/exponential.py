"""exp and log on lanes of floats: what the other functions are built from."""

from __future__ import annotations

import math
from fractions import Fraction

from chainrule.native.lanes import Lanes, Value

# log(2) as a short number, whose product with any exponent is exact, and the rest (fdlibm).
_LN2 = {
    32: (0.693359375, -2.12194440054690583e-4),
    64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
_TWO_THIRDS_LOW = float(Fraction(2, 3) - Fraction(2 / 3))
# Beyond these, exp is infinite or rounds to zero, by whatever a caller multiplies it.
_EXP_RANGE = {32: (-150.0, 89.0), 64: (-1000.0, 710.0)}


def exp(lanes: Lanes, x: Value) -> Value:
    """exp(x)."""
    value, scale = exp_parts(lanes, x)
    return lanes.mul(value, scale)


def exp_parts(lanes: Lanes, x: Value, extra: Value | None = None) -> tuple[Value, Value]:
    """exp(x + extra) as a normal number and a power of two still to multiply by.

    x = n*log(2) + r, and exp(x) = exp(r) * 2**n.  The power of two is applied in two halves: so
    a large result does not overflow early, and a subnormal one is rounded once.  A caller that
    multiplies the first part by something else first loses no bits to a subnormal exp.
    """
    low, high = _EXP_RANGE[lanes.bits]
    ln2_high, ln2_low = _LN2[lanes.bits]
    x = lanes.at_least(lanes.at_most(x, high), low)
    n, exponent = lanes.nearest(x, 1 / math.log(2))
    top = lanes.fma(n, -ln2_high, x)  # exact
    low = lanes.mul(n, -ln2_low)
    if extra is not None:
        low = lanes.add(low, extra)
    r = lanes.add(top, low)
    tail = lanes.fma(lanes.mul(r, r), lanes.polynomial("exp", r), low)
    whole = lanes.add(top, 1.0)
    lost = lanes.sub(top, lanes.sub(whole, 1.0))  # what that sum rounded off
    value = lanes.add(whole, lanes.add(lost, tail))
    half = lanes.shift_right(exponent, 1)
    rest = lanes.int_sub(exponent, half)
    return lanes.mul(value, lanes.power_of_two(half)), lanes.power_of_two(rest)


def log(lanes: Lanes, x: Value) -> Value:
    """The natural logarithm; NaN below 0, -inf at 0."""
    exponent, f = _split(lanes, x)
    ln2_high, ln2_low = _LN2[lanes.bits]
    square = lanes.mul(f, f)
    if lanes.grade == "f32":
        y = lanes.mul(lanes.mul(square, f), lanes.polynomial("log", f))
        y = lanes.fma(exponent, ln2_low, y)
        y = lanes.fma(square, -0.5, y)
        y = lanes.fma(exponent, ln2_high, lanes.add(f, y))
    else:
        s = lanes.div(f, lanes.add(f, 2.0))
        z = lanes.mul(s, s)
        half = lanes.mul(square, 0.5)
        rest = lanes.fma(lanes.polynomial("atanh", z), z, half)
        small = lanes.fma(s, rest, lanes.mul(exponent, ln2_low))
        y = lanes.fma(exponent, ln2_high, lanes.sub(f, lanes.sub(half, small)))
    return _log_edges(lanes, x, y)


def log_pair(lanes: Lanes, x: Value) -> tuple[Value, Value]:
    """log(x), x positive and finite, as an unevaluated sum of two doubles good to 2**-64.

    log(1 + f) = 2*s + 2/3*s**3 + s**5 * P(s**2) with s = f/(2 + f).
    """
    exponent, f = _split(lanes, x)
    ln2_high, ln2_low = _LN2[lanes.bits]
    bottom, bottom_low = lanes.two_sum(lanes.number(2.0), f)
    s = lanes.div(f, bottom)
    product, error = lanes.two_product(s, bottom)
    left = lanes.sub(lanes.sub(lanes.sub(f, product), error), lanes.mul(s, bottom_low))
    s_low = lanes.div(left, bottom)
    # 2/3 * s**3 in two doubles too: left to one, it would cost the result of a large power 4 bits
    z, z_low = lanes.two_product(s, s)
    cube, cube_low = lanes.two_product(z, s)
    cube_low = lanes.fma(z_low, s, cube_low)
    term, term_low = lanes.two_product(cube, lanes.number(2 / 3))
    term_low = lanes.fma(cube, _TWO_THIRDS_LOW, lanes.fma(cube_low, 2 / 3, term_low))
    rest = lanes.mul(lanes.mul(cube, z), lanes.polynomial("atanh5", z))
    slope = lanes.fma(z, 2.0, 2.0)
    low = lanes.fma(exponent, ln2_low, lanes.add(lanes.fma(s_low, slope, term_low), rest))
    high, error = lanes.two_sum(lanes.mul(exponent, ln2_high), lanes.mul(s, 2.0))
    high, more = lanes.two_sum(high, term)
    return lanes.two_sum(high, lanes.add(lanes.add(error, more), low))


def _split(lanes: Lanes, x: Value) -> tuple[Value, Value]:
    """x = 2**e * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2): e as a float, and f."""
    tiny = lanes.compare("<", x, 2.0 ** (1 - lanes.bias))
    lift = lanes.mantissa + 1  # a subnormal is made normal first
    bits = lanes.to_bits(lanes.select(tiny, lanes.mul(x, 2.0**lift), x))
    exponent = lanes.shift_right(lanes.int_sub(bits, lanes.pattern(math.sqrt(0.5))), lanes.mantissa)
    one_plus = lanes.to_float(lanes.int_sub(bits, lanes.shift_left(exponent, lanes.mantissa)))
    shift = lanes.select(tiny, float(-lift), 0.0)
    return lanes.add(lanes.from_small_int(exponent), shift), lanes.sub(one_plus, 1.0)


def _log_edges(lanes: Lanes, x: Value, y: Value) -> Value:
    y = lanes.select(lanes.compare("<", x, math.inf), y, x)  # inf and NaN are their own logs
    y = lanes.select(lanes.compare("==", x, 0.0), -math.inf, y)
    return lanes.select(lanes.compare("<", x, 0.0), math.nan, y)
