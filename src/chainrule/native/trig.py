"""sin and cos on lanes of doubles, with an exact reduction for arguments of any size.

Up to 2**20 the nearest multiple of pi/2 is taken off in parts whose products are exact (W. J. Cody
and W. Waite).  A lane beyond that takes the way of M. Payne and R. Hanek, "Radian reduction for
trigonometric functions" (SIGNUM Newsletter 18, 1983): multiply by the bits of 2/pi that matter,
in integers.  The polynomials on [-pi/4, pi/4] are put together as in fdlibm's k_sin.c and k_cos.c.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from chainrule.native.lanes import Lanes, Value

# pi/2 in parts of 33 bits, so that a whole number below 2**20 times a part is exact (fdlibm).
_PARTS = (
    1.57079632673412561417e00,
    6.07710050630396597660e-11,
    2.02226624871116645580e-21,
    8.47842766036889956997e-32,
)
_NEAR = 2.0**20

# The bits of 2/pi from weight 2**33 down to 2**-1246, in words of 64.
_TWO_OVER_PI = (
    0x0000000028BE60DB, 0x9391054A7F09D5F4, 0x7D4D377036D8A566,
    0x4F10E4107F9458EA, 0xF7AEF1586DC91B8E, 0x909374B801924BBA,
    0x827464873F877AC7, 0x2C4A69CFBA208D7D, 0x4BAED1213A671C09,
    0xAD17DF904E64758E, 0x60D4CE7D272117E2, 0xEF7E4A0EC7FE25FF,
    0xF7816603FBCBC462, 0xD6829B47DB4D9FB3, 0xC9F2C26DD3D18FD9,
    0xA797FA8B5D49EEB1, 0xFAF97C5ECF41CE7D, 0xE294A4BA9AFED7EC,
    0x47E357421580CC11, 0xBF1EDAEAFC33EF08,
)  # fmt: skip
_HALF_PI = (1.57079632679489655800e00, 6.12323399573676603587e-17)

_I64, _I128, _DOUBLE = ir.IntType(64), ir.IntType(128), ir.DoubleType()


def sin(lanes: Lanes, x: Value) -> Value:
    """sin(x); NaN at an infinity."""
    value = _by_quadrant(lanes, x, 0)
    return lanes.select(lanes.compare("==", x, 0.0), x, value)  # sin(-0) is -0


def cos(lanes: Lanes, x: Value) -> Value:
    """cos(x) = sin(x + pi/2), the quadrant moved on by one."""
    return _by_quadrant(lanes, x, 1)


def _by_quadrant(lanes: Lanes, x: Value, ahead: int) -> Value:
    quadrant, r, low = _reduce(lanes, x)
    quadrant = lanes.int_add(quadrant, ahead)
    z = lanes.mul(r, r)
    half = lanes.mul(z, 0.5)
    # sin(r + low) = r + (r**3 * P + low * (1 - r**2/2))
    tail = lanes.fma(lanes.mul(r, z), lanes.polynomial("sin", z), low)
    sine = lanes.add(r, lanes.fma(lanes.neg(half), low, tail))
    # cos(r + low) = 1 - r**2/2 + (r**4 * P - r * low), what 1 - r**2/2 rounds off added back
    top = lanes.sub(1.0, half)
    lost = lanes.sub(lanes.sub(1.0, top), half)
    tail = lanes.fma(lanes.mul(z, z), lanes.polynomial("cos", z), lost)
    cosine = lanes.add(top, lanes.fma(lanes.neg(r), low, tail))
    odd = lanes.int_compare("!=", lanes.bit_and(quadrant, 1), 0)
    value = lanes.select(odd, cosine, sine)
    sign = lanes.shift_left(lanes.bit_and(quadrant, 2), lanes.bits - 2)
    return lanes.to_float(lanes.bit_xor(lanes.to_bits(value), sign))


def _reduce(lanes: Lanes, x: Value) -> tuple[Value, Value, Value]:
    """The number of the quadrant and the rest in two doubles."""
    builder = lanes.builder
    n, quadrant = lanes.nearest(x, 2 / math.pi)
    high, low = x, lanes.number(0.0)
    for part in _PARTS[:3]:
        high, error = lanes.two_sum(high, lanes.mul(n, -part))
        low = lanes.add(low, error)
    low = lanes.fma(n, -_PARTS[3], low)
    r = lanes.add(high, low)
    low = lanes.add(lanes.sub(high, r), low)

    # Not "<": NaN goes the long way too, where it costs nobody anything.
    near = lanes.compare("<=", lanes.abs(x), _NEAR)
    before = builder.block
    with builder.if_then(lanes.inverse(_all(lanes, near)), likely=False):
        far = [lanes.int_type, lanes.type, lanes.type]
        values = [quadrant, r, low]
        values = _lane_by_lane(lanes, x, near, values)
        after = builder.block
    joined = []
    for type_, short, long in zip(far, (quadrant, r, low), values, strict=True):
        phi = builder.phi(type_)
        phi.add_incoming(short, before)
        phi.add_incoming(long, after)
        joined.append(phi)
    return joined[0], joined[1], joined[2]


def _all(lanes: Lanes, condition: Value) -> Value:
    return lanes.inverse(lanes.any(lanes.inverse(condition)))


def _lane_by_lane(lanes: Lanes, x: Value, near: Value, values: list[Value]) -> list[Value]:
    """The lanes of `values` that are not near, replaced by the exact reduction."""
    builder = lanes.builder
    reduce_one = _payne_hanek(builder.module)
    if not lanes.count:
        found = builder.call(reduce_one, [x])
        return [builder.extract_value(found, k) for k in range(3)]
    exact = list(values)
    for lane in range(lanes.count):
        index = ir.Constant(ir.IntType(32), lane)
        found = builder.call(reduce_one, [builder.extract_element(x, index)])
        exact = [
            builder.insert_element(vector, builder.extract_value(found, k), index)
            for k, vector in enumerate(exact)
        ]
    return [builder.select(near, a, b) for a, b in zip(values, exact, strict=True)]


def _payne_hanek(module: ir.Module) -> ir.Function:
    """x -> {quadrant, high, low} for one double, as a function of the module, made once."""
    name = "chainrule.reduce_angle"
    known = module.globals.get(name)
    if known is not None:
        return known
    result = ir.LiteralStructType([_I64, _DOUBLE, _DOUBLE])
    function = ir.Function(module, ir.FunctionType(result, [_DOUBLE]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    lanes = Lanes(builder, _DOUBLE)
    bits = builder.bitcast(function.args[0], _I64)
    exponent = builder.and_(builder.lshr(bits, _word(52)), _word(0x7FF))
    mantissa = builder.or_(builder.and_(bits, _word(2**52 - 1)), _word(2**52))

    # |x| = mantissa * 2**e.  The bits of 2/pi above weight 2**(1 - e) make multiples of 4
    # quadrants; the 192 bits from there on leave an error below 2**-137 of a quadrant.
    first = builder.sub(exponent, _word(1075 - 32))
    last = 64 * (len(_TWO_OVER_PI) - 4)
    in_table = builder.icmp_unsigned("<=", first, _word(last))  # NaN and inf: anything goes
    first = builder.select(in_table, first, _word(0))
    word, shift = builder.lshr(first, _word(6)), builder.and_(first, _word(63))
    table = _table(module)
    raw = [
        builder.load(builder.gep(table, [_word(0), builder.add(word, _word(k))], inbounds=True))
        for k in range(4)
    ]
    signature = ir.FunctionType(_I64, [_I64] * 3)
    funnel = module.declare_intrinsic("llvm.fshl", [_I64], signature)
    window = [builder.call(funnel, [raw[k], raw[k + 1], shift]) for k in range(3)]

    # The low 192 bits of mantissa * window: 2 bits of quadrant, 190 of fraction.
    def wide(value: Value) -> Value:
        return builder.zext(value, _I128)

    def upper(value: Value) -> Value:
        return builder.lshr(value, ir.Constant(_I128, 64))

    lowest = builder.mul(wide(mantissa), wide(window[2]))
    middle = builder.add(builder.mul(wide(mantissa), wide(window[1])), upper(lowest))
    top = builder.add(builder.mul(mantissa, window[0]), builder.trunc(upper(middle), _I64))
    rounded = builder.add(top, _word(2**61))
    quadrant = builder.lshr(rounded, _word(62))
    signed = builder.sub(top, builder.shl(quadrant, _word(62)))  # of 2**-62 quadrants

    # Pieces of 32 bits are exact doubles; added from the largest down, none of a sum is lost.
    high, low = lanes.number(0.0), lanes.number(0.0)
    words = (signed, builder.trunc(middle, _I64), builder.trunc(lowest, _I64))
    scale = 2.0**-30
    for place, value in enumerate(words):
        for piece in (
            builder.ashr(value, _word(32)) if place == 0 else builder.lshr(value, _word(32)),
            builder.and_(value, _word(2**32 - 1)),
        ):
            high, error = lanes.two_sum(high, lanes.mul(builder.sitofp(piece, _DOUBLE), scale))
            low = lanes.add(low, error)
            scale *= 2.0**-32
    high, low = lanes.two_sum(high, low)
    angle, error = lanes.two_product(high, lanes.number(_HALF_PI[0]))
    error = lanes.add(error, lanes.fma(high, _HALF_PI[1], lanes.mul(low, _HALF_PI[0])))
    angle, error = lanes.two_sum(angle, error)

    negative = builder.icmp_signed("<", bits, _word(0))
    quadrant = builder.select(negative, builder.neg(quadrant), quadrant)
    angle = builder.select(negative, builder.fneg(angle), angle)
    error = builder.select(negative, builder.fneg(error), error)
    finite = builder.icmp_unsigned("<", exponent, _word(0x7FF))
    angle = builder.select(finite, angle, ir.Constant(_DOUBLE, math.nan))
    found: Any = ir.Constant(result, ir.Undefined)
    for k, part in enumerate((quadrant, angle, error)):
        found = builder.insert_value(found, part, k)
    builder.ret(found)
    return function


def _table(module: ir.Module) -> ir.GlobalVariable:
    words = ir.ArrayType(_I64, len(_TWO_OVER_PI))
    table = ir.GlobalVariable(module, words, "chainrule.two_over_pi")
    table.linkage = "internal"
    table.global_constant = True
    table.initializer = ir.Constant(words, list(_TWO_OVER_PI))
    return table


def _word(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)
