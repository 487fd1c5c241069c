"""Scalar circuits and small losses, and what happens at a kink."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr

from .published import Example, arrays, central_difference, check, cut, exact, gradients, rounded

CS231N = "https://cs231n.github.io/optimization-2/"
GUIDE = "https://karpathy.github.io/neuralnets/"
MICROGRAD = "https://github.com/karpathy/micrograd"
GATES = "q = x + y\nf = q * z\n"
GATE_DATA = {"x": -2, "y": 5, "z": -4}
NEURON = "s = w[0]*x[0] + w[1]*x[1] + w[2]\nf = sigmoid(s)\nslope = f * (1 - f)\n"
NEURON_DATA = {"w": [2, -3, -3], "x": [-1, -2]}

EXAMPLES = [
    Example(
        "sum and product",
        CS231N,
        GATES,
        GATE_DATA,
        {
            "q": exact("3"),
            "f": exact("-12"),
            "δz": exact("3"),
            "δq": exact("-4"),
            "δx": exact("-4"),
            "δy": exact("-4"),
        },
        of="f",
        differences=("x", "y", "z"),
    ),
    Example(
        "product",
        CS231N,
        "f = x * y",
        {"x": 4, "y": -3},
        {"f": exact("-12"), "δx": exact("-3"), "δy": exact("4")},
        of="f",
    ),
    Example(
        # The page rounds the local slope to .2 first, and slides that go on with the .2 print
        # 0.4 where .39 is right: rounding is for display only.
        "sigmoid neuron, as printed",
        CS231N,
        NEURON,
        NEURON_DATA,
        {
            "s": exact("1"),
            "f": rounded(".73"),
            "slope": rounded(".2"),
            "δx": rounded(".39 -.59"),
            "δw": rounded("-.20 -.39 .20"),
        },
        of="f",
        differences=("w", "x"),
    ),
    Example(
        "sigmoid neuron, in full",
        CS231N,
        NEURON,
        NEURON_DATA,
        {
            "f": rounded(".731058579"),
            "slope": rounded(".196611933"),
            "δx": rounded(".393223866 -.5898358"),
            "δw": rounded("-.196611933 -.393223866 .196611933"),
        },
        of="f",
    ),
    Example(
        # No values are printed; these are ours.
        "staged computation",
        CS231N,
        "f = (x + sigmoid(y)) / (sigmoid(x) + (x + y)**2)",
        {"x": 3, "y": -4},
        {"f": rounded("1.545644884"), "δx": rounded("2.059569796"), "δy": rounded("1.592232751")},
        of="f",
        differences=("x", "y"),
    ),
    Example(
        "sum, product, maximum",
        CS231N,
        "f = 2 * (x*y + maximum(z, w))",
        {"x": 3, "y": -4, "z": 2, "w": -1},
        {
            "f": exact("-20"),
            "δx": exact("-8"),
            "δy": exact("6"),
            "δz": exact("2"),
            "δw": exact("0"),
        },
        of="f",
        differences=("x", "y", "z", "w"),
    ),
    Example(
        "squared length of W x",
        "cs231n lecture slides on vectorised backpropagation",
        "q[i] = sum[j](W[i,j] * x[j])\nf = sum[i](q[i]**2)",
        {"W": [[0.1, 0.5], [-0.3, 0.8]], "x": [0.2, 0.4]},
        {
            "q": exact(".22 .26"),
            "f": exact(".116"),
            "δq": exact(".44 .52"),
            "δW": exact(".088 .176; .104 .208"),
            "δx": exact("-.112 .636"),
        },
        of="f",
        differences=("W", "x"),
    ),
    Example(
        "one step uphill",
        GUIDE,
        GATES + "".join(f"{n} = {n} + 0.01 * grad(f, {n})\n" for n in "xyz"),
        GATE_DATA,
        {"x": exact("-2.04"), "y": exact("4.96"), "z": exact("-3.97")},
    ),
    Example(
        "after one step uphill",
        GUIDE,
        GATES,
        {"x": -2.04, "y": 4.96, "z": -3.97},
        {"q": exact("2.92"), "f": exact("-11.5924")},
    ),
    Example(
        # The README assigns to c and d again and again; a program names each value once.
        "micrograd README",
        MICROGRAD,
        """
c0 = a + b
d0 = a*b + b**3
c1 = c0 + (c0 + 1)
c2 = c1 + (1 + c1 - a)
d1 = d0 + (2*d0 + relu(b + a))
d2 = d1 + (3*d1 + relu(b - a))
e = c2 - d2
f = e**2
g = f/2 + 10/f
""",
        {"a": -4, "b": 2},
        {"g": rounded("24.7041"), "δa": rounded("138.8338"), "δb": rounded("645.5773")},
        of="g",
        differences=("a", "b"),
    ),
    Example(
        "micrograd lecture: one neuron",
        MICROGRAD,
        "n = sum[i](w[i]*x[i]) + b\no = tanh(n)",
        {"x": [2, 0], "w": [-3, 1], "b": 6.8813735870195432},
        {
            "n": rounded(".881373587"),
            "o": rounded(".7071"),
            "δx": cut("-1.5000000 .5000000"),
            "δw": cut("1.0000000 0"),
        },
        of="o",
        differences=("x", "w", "b"),
    ),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_published_numbers(example: Example) -> None:
    check(example)


# A gradient check at a kink: the central difference is the mean of the slopes on the two sides,
# ours is one of them, and neither is an error.
# https://github.com/pytorch/pytorch/issues/114234 and 114233,
# https://github.com/HomericIntelligence/Odyssey, issue 2077
RELU = "y = sum[i](relu(x[i]))"
ABS = "y = sum[i](abs(x[i]))"
MAX = "y = max[i](x[i])"


@pytest.mark.parametrize(
    ("text", "x", "analytic", "numeric"),
    [
        (RELU, [0.0], "0", "0.5"),
        (RELU, [-1.0, 0.0, 1.0], "0 0 1", "0 0.5 1"),
        (ABS, [0.0], "0", "0"),
        (MAX, [2.0, 2.0, 2.0], "1 0 0", "0.5 0.5 0.5"),
    ],
    ids=["relu at 0", "relu around 0", "abs at 0", "three maxima"],
)
@pytest.mark.parametrize("step", [1e-2, 1e-4, 1e-6])
def test_kinks(text: str, x: list[float], analytic: str, numeric: str, step: float) -> None:
    out = gradients(text, "y", ["x"], {"x": x})
    np.testing.assert_array_equal(out["δx"], np.array(analytic.split(), dtype=float))
    slope = central_difference(text, "y", "x", {"x": x}, step)
    np.testing.assert_allclose(slope, np.array(numeric.split(), dtype=float), atol=1e-9)


def test_a_step_across_a_kink() -> None:
    """Just left of 0 the slope is 0, yet the central difference is nearly a half."""
    assert central_difference(RELU, "y", "x", {"x": [-1e-6]}, 1e-4) == pytest.approx(0.495)
    assert gradients(RELU, "y", ["x"], {"x": [-1e-6]})["δx"] == 0


def test_relu_keeps_subnormals() -> None:
    """The smallest positive number is positive: it passes, and so does its delta."""
    tiny = np.array([5e-324])
    out = cr.Program(RELU).gradient(of="y", wrt=["x"]).run(**arrays({"x": tiny}))
    assert (out["y"], out["δx"][0]) == (5e-324, 1.0)
