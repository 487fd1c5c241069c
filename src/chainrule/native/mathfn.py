"""The scalar functions of functions.py as LLVM instructions, on a value or a vector of values.

Each is a range reduction by exact arithmetic, a polynomial (coefficients.py, fitted by
scripts/fit_functions.py) and selects; nothing calls a C library.  In float32 the error is at most
2 units in the last place over every input (scripts/function_accuracy.py measures all 2**32), in
float64 a few.  The reductions are those of W. J. Cody and W. Waite, "Software Manual for the
Elementary Functions" (1980), and of Sun's fdlibm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from chainrule.native.coefficients import MILLS_CENTRE
from chainrule.native.exponential import exp, exp_parts, log
from chainrule.native.lanes import Lanes, Value
from chainrule.native.power import power
from chainrule.native.trig import cos, sin

Emitter = Callable[..., Value]


def emit(builder: ir.IRBuilder, name: str, args: Sequence[Value]) -> Value:
    """The value of a function of functions.py: its arguments are floats or vectors of one type.

    The builder stands behind the value afterwards, possibly in another block (sin and cos).
    """
    return EMITTERS[name](Lanes(builder, args[-1].type), *args)


def _widened(emitter: Emitter) -> Emitter:
    """A float function worked out in double, for want of a cheaper way to 2 ULP."""

    def narrow(lanes: Lanes, *args: Value) -> Value:
        if lanes.bits == 64:
            return emitter(lanes, *args)
        wide = lanes.widened()
        value = emitter(wide, *(lanes.builder.fpext(a, wide.type) for a in args))
        return lanes.builder.fptrunc(value, lanes.type)

    return narrow


def sigmoid(lanes: Lanes, x: Value) -> Value:
    """With e = exp(-|x|) and w = e/(1 + e): 1 - w for positive x, e - e*w for negative.

    Both are a number plus a small correction, so the error of w hardly counts.
    """
    e = exp(lanes, lanes.neg(lanes.abs(x)))
    w = lanes.div(e, lanes.add(e, 1.0))
    lead = lanes.select(lanes.compare("<", x, 0.0), e, 1.0)
    return lanes.fma(lanes.neg(lead), w, lead)


def silu(lanes: Lanes, x: Value) -> Value:
    """x * sigmoid(x) with the power of two of exp(-|x|) applied last; 0 at -inf."""
    part, scale = exp_parts(lanes, lanes.neg(lanes.abs(x)))
    below = lanes.compare("<", x, 0.0)
    bounded = lanes.at_least(x, -1000.0)  # sigmoid is 0 there, and -inf * 0 would be NaN
    top = lanes.mul(bounded, lanes.select(below, part, 1.0))
    value = lanes.div(top, lanes.fma(part, scale, 1.0))
    return lanes.mul(value, lanes.select(below, scale, 1.0))


def tanh(lanes: Lanes, x: Value) -> Value:
    """A polynomial near 0, 1 - 2/(exp(2|x|) + 1) elsewhere."""
    z = lanes.mul(x, x)
    near = lanes.fma(lanes.mul(x, z), lanes.polynomial("tanh", z), x)
    size = lanes.abs(x)
    e = exp(lanes, lanes.add(size, size))
    far = lanes.sub(1.0, lanes.div(2.0, lanes.add(e, 1.0)))
    value = lanes.select(lanes.compare("<", size, 0.625), near, far)
    return lanes.copysign(value, x)


def erf(lanes: Lanes, x: Value) -> Value:
    """x + x * P(x**2) near 0; else 1 - exp(P(|x|)), P fitted to log(erfc) where that counts."""
    near = lanes.fma(x, lanes.polynomial("erf", lanes.mul(x, x)), x)
    size = lanes.at_most(lanes.abs(x), 4.1 if lanes.bits == 32 else 6.1)
    far = lanes.sub(1.0, exp(lanes, lanes.polynomial("log_erfc", size)))
    return lanes.select(lanes.compare("<", size, 1.0), near, lanes.copysign(far, x))


def gelu(lanes: Lanes, x: Value) -> Value:
    """x * P(N < x) for a standard normal N; 0 at -inf.

    With t = |x| and u = (t - c)/(t + c), P(N > t) = exp(-t**2/2) * M(u)/(t + c), M smooth: so the
    lower tail keeps its relative accuracy down to the smallest numbers.
    """
    limit = 15.0 if lanes.grade == "mid" else 40.0
    t = lanes.at_most(lanes.abs(x), limit)
    weight = lanes.div(1.0, lanes.add(t, MILLS_CENTRE))
    u = lanes.mul(lanes.sub(t, MILLS_CENTRE), weight)
    square, error = lanes.two_product(t, t)
    part, scale = exp_parts(lanes, lanes.mul(square, -0.5), lanes.mul(error, -0.5))
    part = lanes.mul(part, lanes.mul(lanes.polynomial("mills", u), weight))
    x = lanes.at_least(x, -limit)
    tail = lanes.mul(lanes.mul(x, part), scale)  # x * P(N > t), scaled last
    above = lanes.fma(lanes.mul(part, lanes.neg(scale)), x, x)
    above = lanes.select(lanes.compare(">=", x, limit), x, above)
    value = lanes.select(lanes.compare("<", x, 0.0), tail, above)
    return lanes.copysign(value, x)


def softplus(lanes: Lanes, x: Value) -> Value:
    """max(x, 0) + log(1 + exp(-|x|))."""
    e = exp(lanes, lanes.neg(lanes.abs(x)))
    log1p = lanes.fma(lanes.mul(e, e), lanes.polynomial("log1p", e), e)
    return lanes.add(log1p, relu(lanes, x))


def relu(lanes: Lanes, x: Value) -> Value:
    """max(x, 0); NaN stays NaN.  One instruction on x86."""
    return lanes.at_least(x, 0.0)


def maximum(lanes: Lanes, a: Value, b: Value) -> Value:
    """The larger, the first of equals; NaN if either is."""
    larger = lanes.select(lanes.compare(">", b, a), b, a)
    return lanes.select(lanes.is_nan(b), b, larger)


def minimum(lanes: Lanes, a: Value, b: Value) -> Value:
    """The smaller, the first of equals; NaN if either is."""
    smaller = lanes.select(lanes.compare("<", b, a), b, a)
    return lanes.select(lanes.is_nan(b), b, smaller)


def sign(lanes: Lanes, x: Value) -> Value:
    """-1, 0 or 1; NaN stays NaN."""
    positive = lanes.select(lanes.compare(">", x, 0.0), 1.0, x)
    negative = lanes.select(lanes.compare("<", x, 0.0), -1.0, positive)
    return lanes.select(lanes.compare("==", x, 0.0), 0.0, negative)


def where(lanes: Lanes, condition: Value, a: Value, b: Value) -> Value:
    """a where the condition is not 0 (NaN is not 0), else b."""
    return lanes.select(lanes.compare("!=", condition, 0.0), a, b)


EMITTERS: dict[str, Emitter] = {
    "exp": exp,
    "log": log,
    "sqrt": lambda lanes, x: lanes.call("sqrt", x),
    "abs": lambda lanes, x: lanes.abs(x),
    "sign": sign,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "gelu": _widened(gelu),
    "silu": _widened(silu),
    "softplus": _widened(softplus),
    "erf": erf,
    "sin": _widened(sin),
    "cos": _widened(cos),
    "maximum": maximum,
    "minimum": minimum,
    "stop": lambda lanes, x: x,
    "where": where,
    "pow": power,
}
