"""Cases that TensorFlow's own tests and its users' questions have published with numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import pytest

import chainrule as cr

from .published import Example, Floats, check, exact


@dataclass(frozen=True)
class ConvCase:
    """A backpropagation case: every tensor counts 1, 2, 3, ... in row-major order."""

    name: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]
    input: str = ""
    filter: str = ""
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)

    def __str__(self) -> str:
        return self.name

    @property
    def text(self) -> str:
        (si, sj), (di, dj) = self.stride, self.dilation
        rows, columns = f"{si}*i + {di}*m", f"{sj}*j + {dj}*n"
        return f"y[i,j,k] = sum[m,n,c](w[m,n,c,k] * x[{rows}, {columns}, c])"


# tensorflow/python/kernel_tests/nn_ops/conv_ops_test.py at
# https://github.com/tensorflow/tensorflow: the backprop-input and backprop-filter tests.
CONV_CASES = [
    ConvCase("valid", (2, 3, 1), (2, 2, 1, 1), (1, 2, 1), "1 4 4 3 10 8", "5 8 14 17"),
    ConvCase(
        "three channels in and out",
        (2, 3, 3),
        (2, 2, 3, 3),
        (1, 2, 3),
        "14 32 50 100 163 226 167 212 257 122 140 158 478 541 604 437 482 527",
        "17 22 27 22 29 36 27 36 45 32 43 54 37 50 63 42 57 72 "
        "62 85 108 67 92 117 72 99 126 77 106 135 82 113 144 87 120 153",
    ),
    ConvCase(
        "stride (1,2)",
        (3, 6, 1),
        (2, 2, 1, 1),
        (2, 3, 1),
        "1 2 2 4 3 6 7 12 11 18 15 24 12 16 15 20 18 24",
        "161 182 287 308",
        stride=(1, 2),
    ),
    ConvCase(
        "stride 2, kernel 1: most of the input is never read",
        (4, 4, 1),
        (1, 1, 1, 1),
        (2, 2, 1),
        "1 0 2 0 0 0 0 0 3 0 4 0 0 0 0 0",
        "78",
        stride=(2, 2),
    ),
    ConvCase(
        "kernel as large as the input",
        (2, 2, 1),
        (2, 2, 1, 2),
        (1, 1, 2),
        "5 11 17 23",
        "1 2 2 4 3 6 4 8",
    ),
    ConvCase(
        "dilation (2,1)",
        (3, 6, 1),
        (2, 2, 1, 1),
        (1, 5, 1),
        filter="55 70 235 250",
        dilation=(2, 1),
    ),
    ConvCase(
        "dilation (1,2)", (2, 3, 1), (2, 2, 1, 1), (1, 1, 1), filter="1 3 4 6", dilation=(1, 2)
    ),
]


def counting(shape: tuple[int, ...]) -> Floats:
    return np.arange(1.0, prod(shape) + 1).reshape(shape)


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
@pytest.mark.parametrize("exactly", [False, True], ids=["float64", "fractions"])
def test_convolution_backprop(case: ConvCase, exactly: bool) -> None:
    program = cr.Program(case.text)
    assert program.shapes(x=case.x, w=case.w)["y"] == case.y
    data = {"x": counting(case.x), "w": counting(case.w), "δy": counting(case.y)}
    out = program.gradient(of="y", wrt=["x", "w"]).run(**data, exact=exactly)
    for name, published in {"x": case.input, "w": case.filter}.items():
        if published:
            exact(published).assert_matches(out["δ" + name], name)


POOL = "y[i,j] = max[a:2,c:2](x[i+a, j+c])"
FORWARD_AND_POOLING = [
    Example(
        # SAME with an even kernel pads the bottom and the right only: reads beyond give 0.
        "forward, stride 3, SAME",
        "https://github.com/tensorflow/tensorflow (conv_ops_test.py)",
        "y[i:2,j:2] = sum[m,n](w[m,n] * pad(x)[3*i+m, 3*j+n])",
        {"x": counting((4, 4)), "w": counting((2, 2))},
        {"y": exact("44 28; 41 16")},
    ),
    Example(
        "forward, kernel as large as the input",
        "https://github.com/tensorflow/tensorflow (conv_ops_test.py)",
        "y[i,j,k] = sum[m,n](w[m,n,k] * x[i+m, j+n])",
        {"x": counting((2, 2)), "w": counting((2, 2, 2))},
        {"y": exact("50 60")},
    ),
    Example(
        # Overlapping windows and ties everywhere: the first in row-major order takes it all.
        "max-pool, ties",
        "https://github.com/tensorflow/tensorflow (pooling_ops_test.py)",
        POOL,
        {
            "x": [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]],
            "δy": [[11, 12, 13], [15, 16, 17], [19, 20, 21]],
        },
        {"δx": exact("11 0 25 0; 0 31 0 17; 19 0 41 0; 0 0 0 0")},
        of="y",
    ),
    Example(
        # Asked on Cross Validated: one value that wins several windows gets all their deltas.
        "max-pool, a winner of two windows",
        'Cross Validated, "How to handle maxpool layer backpropagation with recurring max values'
        ' in same position"',
        POOL,
        {"x": [[3, 4, 2], [1, 5, 0], [8, 6, 4]], "δy": [[-1.4, 0.8], [0.2, 0.3]]},
        {"y": exact("5 5; 8 6"), "δx": exact("0 0 0; 0 -.6 0; .2 .3 0")},
        of="y",
    ),
]


@pytest.mark.parametrize("example", FORWARD_AND_POOLING, ids=str)
def test_forward_and_pooling(example: Example) -> None:
    check(example)


# Three conventions for a tie are in use (TensorFlow's reduce_max splits it, its max_pool takes
# the first, Theano gave it to all); ours is the first, in a reduction and in `maximum` alike.
# https://github.com/tensorflow/tensorflow/issues/4886 and 51682,
# https://github.com/Theano/Theano/issues/4568 and 5404
@pytest.mark.parametrize(
    ("x", "expected"), [([1, 2, 2, 2], "0 1 0 0"), ([0.6, 0.6, 0.3], "1 0 0"), ([1, 1], "1 0")]
)
def test_a_tie_goes_to_the_first(x: list[float], expected: str) -> None:
    backward = cr.Program("y = max[i](x[i])").gradient(of="y", wrt=["x"])
    exact(expected).assert_matches(backward.run(x=np.array(x))["δx"])


def test_a_tie_of_maximum_goes_to_the_first() -> None:
    backward = cr.Program("y = maximum(a, b)").gradient(of="y", wrt=["a", "b"])
    out = backward.run(a=np.array(1.0), b=np.array(1.0))
    assert (out["δa"], out["δb"]) == (1.0, 0.0)


# deeplearning.ai, course 4, week 1: conv_backward, with dZ := Z.
# A learner's remark at https://community.deeplearning.ai/t/121204: the published test compares
# means only, and the mean of dA is the same when the kernel is flipped.
COURSE = """
Z[b,i:4,j:4,k] = sum[m,n,c](W[m,n,c,k] * pad(A)[b, 2*i+m-2, 2*j+n-2, c]) + bias[k]
"""
FLIPPED = COURSE.replace("m,n,c]", "m:2,n:2,c]").replace("W[m,n,c,k]", "W[1-m,1-n,c,k]")


def course_data() -> dict[str, Floats]:
    """The course's own draws: its numbers hold for this legacy stream only."""
    random = np.random.RandomState(1)
    draws = {"A": random.randn(10, 4, 4, 3), "W": random.randn(2, 2, 3, 8)}
    return draws | {"bias": random.randn(1, 1, 1, 8).reshape(8)}


def test_course_convolution() -> None:
    data = course_data()
    z = cr.Program(COURSE).run(**data)["Z"]
    assert z.mean() == pytest.approx(0.0489952035289, rel=1e-11)
    row = "-.61490741 -6.7439236 -2.55153897 1.75698377 3.56208902 .53036437 5.18531798 8.75898442"
    np.testing.assert_allclose(z[3, 2, 1], np.array(row.split(), dtype=float), atol=5.1e-9)
    backward = cr.Program(COURSE).gradient(of="Z", wrt=["A", "W", "bias"])
    out = backward.run(**data, δZ=z)
    assert out["δA"].mean() == pytest.approx(1.4524377775388075, rel=1e-13)
    assert out["δW"].mean() == pytest.approx(1.7269914583139088, rel=1e-13)
    assert out["δbias"].mean() == pytest.approx(7.839232564616831, rel=1e-13)


def test_course_convolution_mean_is_blind_to_the_flip() -> None:
    """Why entries are compared everywhere in these tests, never means."""
    data = course_data()
    upstream = {"δZ": cr.Program(COURSE).run(**data)["Z"]}
    right, flipped = (
        cr.Program(text).gradient(of="Z", wrt=["A"]).run(**data, **upstream)["δA"]
        for text in (COURSE, FLIPPED)
    )
    assert flipped.mean() == pytest.approx(right.mean(), rel=1e-12)
    assert np.abs(flipped - right).max() > 1


# cs231n, assignment 2, conv_forward_naive: channels first, stride 2, padding 1 on each side.
# Another course reuses the numbers with "pad 2", meaning 2 in total; 2 on each side differs.
CS231N = "y[n,f,i:{size},j:{size}] = sum[c,p,q](w[f,c,p,q] * pad(x)[n,c,2*i+p-{pad},2*j+q-{pad}])"
OUT = """
-.08759809 -.10987781 -.18387192 -.2109216 .21027089 .21661097 .22847626 .23004637
.50813986 .54309974 .64082444 .67101435 -.98053589 -1.03143541 -1.19128892 -1.24695841
.69108355 .66880383 .59480972 .56776003 2.36270298 2.36904306 2.38090835 2.38247847"""


@pytest.mark.parametrize(("pad", "size"), [(1, 2), (2, 3)], ids=["one a side", "two a side"])
def test_cs231n_forward(pad: int, size: int) -> None:
    y = cr.Program(CS231N.format(pad=pad, size=size) + " + b[f]").run(
        x=np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4),
        w=np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4),
        b=np.linspace(-0.1, 0.2, 3),
    )["y"]
    if pad == 1:
        np.testing.assert_allclose(y.ravel(), np.array(OUT.split(), dtype=float), atol=5.1e-9)
    else:
        assert y[0, 0, 0, 0] == pytest.approx(-0.0739286, abs=5.1e-8)
