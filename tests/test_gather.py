"""Gradients whose gather form is delicate: each against central differences, with no NaN about."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr

RNG = np.random.default_rng(3)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2.0, size=shape)


# name: text, arrays.  Each ends in a scalar E.
CASES = {
    # beyond the last window q is not there, and 1/q or log(0) must not turn the 0 beside it to NaN
    "division behind a window": (
        "x[i] = sum[m](w[m] * log(o[2*i+m] * q[i]) / q[i])\nE = sum[i](x[i]**2)",
        {"w": positive(3), "o": positive(8), "q": positive(3)},
    ),
    "a large exponential behind a window": (
        "x[i] = sum[m](w[m] * exp(o[i+m] - q[i]))\nE = sum[i](x[i])",
        {"w": positive(2), "o": 700 + positive(5), "q": 700 + positive(4)},
    ),
    "a root whose slope is infinite at the border": (
        "x[i] = sum[m](w[m] * sqrt(q[i]) * o[i+m])\nE = sum[i](sqrt(x[i]))",
        {"w": positive(2), "o": positive(5), "q": positive(4)},
    ),
    # the solved indices belong to no tensor: how often is o[p] read?
    "summed indices alone": (
        "E = sum[i:3, m:2](o[2*i+m]**2)",
        {"o": positive(6)},
    ),
    "summed indices alone, stride and rest": (
        "E = sum[i:2, m:2](o[3*i+m]**2)",
        {"o": positive(7)},
    ),
    "two equations": (
        "x[i] = sum[m,n](w[m,n] * o[2*i+m, i+n])\nE = sum[i](x[i]**2)",
        {"w": positive(2, 3), "o": positive(6, 5)},
    ),
    "a diagonal window": (
        "x[i] = sum[m](w[m] * o[i+m, i+m])\nE = sum[i](x[i]**2)",
        {"w": positive(2), "o": positive(4, 6)},
    ),
    "a number of the window": (
        "x[i] = sum[m](w[m] * o[3*i+m] * (i != m) * i)\nE = sum[i](x[i]**2)",
        {"w": positive(2), "o": positive(9)},
    ),
    "where hides a root of less than 0": (
        "x[i] = sum[m](where(w[m] > 1, o[i+m] * sqrt(w[m] - 1), o[i+m]**2))\nE = sum[i](x[i])",
        {"w": np.array([0.5, 1.5]), "o": positive(5)},
    ),
    "a condition that looks beyond the border": (
        "x[i] = sum[m](where(pad(o, 2)[i+m-1] > 1.9, w[m] * q[i+m], 0))\nE = sum[i](x[i]**2)",
        {"w": positive(2), "o": positive(4) / 2, "q": positive(5)},
    ),
    "a group read at a shifted index": (
        "x[i,j] = sum[m](w[m] * o[i+m,j]) * q[(i,j)]\nE = sum[i,j](x[i,j]**2)",
        {"w": positive(2), "o": positive(4, 2), "q": positive(6)},
    ),
    "grouped here, single there": (
        "x[i,j] = o[(i,j)] * a[i]\nE = sum[i,j](x[i,j]**2) + sum[k](o[k] * c[k])",
        {"a": positive(2), "o": positive(6), "c": positive(6)},
    ),
    "a product with a zero": (
        "E = prod[i](o[i])",
        {"o": np.array([2.0, 0.0, 3.0])},
    ),
    "two groupings of one axis": (
        "E = sum[i,j](a[(i,j)] * p[i] * q[j]**2) + sum[i,j](a[(i,j)]**2 * r[i] * s[j])",
        {"a": positive(6), "p": positive(2), "q": positive(3), "r": positive(3), "s": positive(2)},
    ),
    "a named value of fewer elements": (
        "y[i:2] = exp(x[i+1]*w)\nE = sum[i](exp(x[i+1]*w) * c[i]) + sum[i](y[i]**2)",
        {"x": positive(6), "w": positive(), "c": positive(4)},
    ),
    "a softmax written out": (
        "y[k] = exp(u[k]) / sum[l](exp(u[l]))\nE = sum[k](y[k]**2 * c[k])",
        {"u": positive(4), "c": positive(4)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_against_differences(name: str) -> None:
    text, arrays = CASES[name]
    program = cr.Program(text)
    gradient = program.gradient("E")
    found = gradient.run(**arrays)
    h = 1e-6
    for t, array in arrays.items():
        for place in np.ndindex(*array.shape):
            step = np.zeros(array.shape)
            step[place] = h
            above, below = (program.run(**{**arrays, t: array + s})["E"] for s in (step, -step))
            numeric = (above - below) / (2 * h)
            assert found[f"δ{t}"][place] == pytest.approx(numeric, rel=2e-5, abs=1e-6), (t, place)


def test_a_quotient_does_not_overflow_where_its_value_does_not() -> None:
    softmax = cr.Program("y[k] = exp(u[k])/sum[l](exp(u[l]))\nE = -sum[k](t[k]*log(y[k]))")
    found = softmax.gradient("E").run(u=[400, 400], t=[1, 0])
    np.testing.assert_allclose(found["δu"], [-0.5, 0.5])


def test_the_objective_asked_for_has_the_plain_names() -> None:
    p = cr.Program("s = sum[i](x[i]**3)\nE = s + sum[i](grad(s, x)[i]**2)")
    found = p.gradient("E").run(x=[2.0])
    np.testing.assert_allclose(found["δx"], [3 * 4 + 2 * 12 * 12])
    np.testing.assert_allclose(found["δx_s"], [12])


def test_nothing_says_nothing_of_other_sizes() -> None:
    grouped = cr.Program("y = sum[z,k](a[(z,k)] * w[z] * b[2*k])")
    assert grouped.shapes(a=(0,), w=(0,), b=(3,)) == {"y": ()}
    windows = cr.Program("x[i] = sum[m](w[m] * o[i+3*m+5])")
    assert windows.shapes(w=(0,), o=(2,)) == {"x": (0,)}
