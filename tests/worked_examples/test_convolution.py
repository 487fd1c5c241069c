"""Convolutions, pooling and transposed convolutions that people have published with numbers."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr

from .published import Example, arrays, check, cut, exact, gradients, rounded

# "Back Propagation in CNN": convolution, max-pool, then sigmoid, then a dense layer whose two
# deltas are given. The answer writes an untied bias b[i,j] of value 0; tied, it has one gradient.
SE_27506 = "https://datascience.stackexchange.com/questions/27506"
NET = """
x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
p[i,j] = max[a:2, c:2](x[2*i+a, 2*j+c])
h[i,j] = sigmoid(p[i,j])
u[k]   = sum[i,j](v[k,i,j] * h[i,j])
"""
UNTIED = NET.replace("+ b\n", "+ b[i,j]\n")
IMAGE = [
    [0.51, 0.9, 0.88, 0.84, 0.05],
    [0.4, 0.62, 0.22, 0.59, 0.1],
    [0.11, 0.2, 0.74, 0.33, 0.14],
    [0.47, 0.01, 0.85, 0.7, 0.09],
    [0.76, 0.19, 0.72, 0.17, 0.57],
]
W = [[-0.13, 0.15], [-0.51, 0.62]]
V = [[[0.61, 0.82], [0.96, -1.0]], [[0.02, -0.5], [0.23, 0.17]]]
DELTA_U = [0.25, -0.15]
DATA = {"o": IMAGE, "w": W, "b": 0.0, "v": V}
CONV = "y[i,j] = sum[m,n](w[m,n] * x[i+m, j+n])\n"
POOLED = "".join(NET.splitlines(keepends=True)[:3])  # as far as p
DELTAS = "d[i,j] = sum[k](g[k] * v[k,i,j]) * h[i,j] * (1 - h[i,j])"

FULL_O = """
0 0 -.008941854 .010317524 0; 0 -.004744446 -.02960522 .042645765 0;
0 -.024712458 .029665394 0 0; 0 -.023929324 .02909055 .008874097 -.010239343;
0 0 0 .034813766 -.042322617"""

CNN = [
    Example(
        "27506: forward",
        SE_27506,
        NET,
        DATA,
        {
            "x": rounded(
                ".2491 -.1648 .2652 -.3406; .1089 .3092 -.1129 -.1432;"
                "-.2178 .6069 -.0462 -.3231; -.3294 .4757 -.2673 .1892"
            ),
            "p": rounded(".31 .27; .61 .19"),
            "h": rounded(".58 .57; .65 .55"),
        },
    ),
    Example(
        "27506: h in full",
        SE_27506,
        NET,
        DATA,
        {"h": rounded(".576689978 .565914135; .647233326 .547159405")},
    ),
    Example(
        "27506: the published deltas come from the h of two digits",
        SE_27506,
        DELTAS,
        {"g": DELTA_U, "v": V, "h": [[0.58, 0.57], [0.65, 0.55]]},
        {"d": rounded(".0364182 .068628; .04675125 -.06818625")},
    ),
    Example(
        "27506: gradients in full",
        SE_27506,
        NET,
        DATA | {"δu": DELTA_U},
        {
            "δp": rounded(".036495738 .068783492; .046920242 -.068262285"),
            "δw": rounded(".044757279 .094384569; .01129613 .068561809"),
            "δb": rounded(".083937186"),
            "δo": rounded(FULL_O),
        },
        of="u",
        differences=("w", "b", "o", "v"),
    ),
    Example(
        "27506: the untied bias has one gradient for each place",
        SE_27506,
        UNTIED,
        DATA | {"b": np.zeros((4, 4)), "δu": DELTA_U},
        {
            "δb": rounded(
                "0 0 .068783492 0; 0 .036495738 0 0; 0 .046920242 0 0; 0 0 0 -.068262285"
            ),
        },
        of="u",
        differences=("b",),
    ),
    Example(
        "27506: kernel gradient from the published deltas, cut to four digits",
        SE_27506,
        POOLED,
        {"o": IMAGE, "w": W, "b": 0.0, "δp": [[0.0364, 0.0686], [0.0467, -0.0681]]},
        {"δw": rounded(".044606 .094061; .011262 .068288")},
        of="p",
    ),
    Example(
        "27506: kernel gradient from deltas that are rounded, not cut",
        SE_27506,
        POOLED,
        {"o": IMAGE, "w": W, "b": 0.0, "δp": [[0.0364, 0.0686], [0.0468, -0.0682]]},
        {"δw": rounded(".044556 .094126; .011246 .068316")},
        of="p",
    ),
    Example(
        "27506: what the answer's call gives when the rotation is forgotten",
        SE_27506,
        "g[m,n] = sum[i:4,j:4](d[3-i,3-j] * o[m+i,n+j])",
        {
            "o": IMAGE,
            "d": [[0, 0, 0.0686, 0], [0, 0.0364, 0, 0], [0, 0.0467, 0, 0], [0, 0, 0, -0.0681]],
        },
        {"g": rounded(".003165 .036585; .051292 .048061")},
    ),
]

SNIPPETS = "https://github.com/SharifElfouly/code-snippets"
X4 = [[1.8676, -0.2631, -0.2380], [1.0669, 0.5283, -1.2112], [1.1241, -0.1771, 1.3998]]
W4 = [[0.0848, -0.0717], [-0.2816, 0.3315]]
SOBEL = [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
LEXAI = "https://prof.lexailabs.com/practice/build-cnn-05-conv2d-backward"
SMALL = [
    Example(
        # The author prints x and w rounded, so three of his last digits are off by one.
        "gradient by hand against autograd",
        SNIPPETS,
        CONV.replace("\n", " + b\n") + "L = sum[i,j](y[i,j])",
        {"x": X4, "w": W4, "b": 0.0},
        {
            "y": cut(".0520 -.5556; -.3227 .6456"),
            "L": cut("-.1807"),
            "δw": cut("3.1998 -1.1840; 2.5423 .5398"),
            "δx": cut(".0848 .0131 -.0717; -.1968 .0630 .2598; -.2816 .0499 .3315"),
            "δb": exact("4"),
        },
        of="L",
        differences=("x", "w", "b"),
    ),
    Example(
        "the same outputs, from the printed inputs",
        SNIPPETS,
        CONV,
        {"x": X4, "w": W4},
        {"y": rounded(".05192916 -.55552836; -.3226612 .64554794")},
    ),
    Example(
        "a Sobel kernel as large as its image: each is the gradient of the other",
        "https://github.com/ngcthanh2903/pytorch",
        CONV + "L = sum[i,j](y[i,j])",
        {"x": np.arange(1, 10).reshape(3, 3), "w": SOBEL},
        {"δx": exact(SOBEL), "δw": exact(np.arange(1, 10).reshape(3, 3))},
        of="L",
    ),
    Example(
        "one output delta lights up one window",
        LEXAI,
        CONV,
        {
            "x": np.arange(16).reshape(4, 4),
            "w": [[1, 2], [3, 4]],
            "δy": [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        },
        {
            "δw": exact("0 1; 4 5"),
            "δx": exact("1 2 0 0; 3 4 0 0; 0 0 0 0; 0 0 0 0"),
        },
        of="y",
    ),
    Example(
        "ones with padding 1: a corner reads four, the middle nine",
        LEXAI,
        "y[i:3,j:3] = sum[m,n](w[m,n] * pad(x)[i+m-1, j+n-1])",
        {"x": np.ones((3, 3)), "w": np.ones((3, 3))},
        {"y": exact("4 6 4; 6 9 6; 4 6 4")},
    ),
    Example(
        "average pooling",
        LEXAI,
        "y[i,j] = mean[a:2,c:2](x[2*i+a, 2*j+c])",
        {"x": np.arange(1, 17).reshape(4, 4)},
        {"y": exact("3.5 5.5; 11.5 13.5")},
    ),
]

# The transposed convolution of X with K is what a convolution sends back to its input.
TRANSPOSED = "https://github.com/csc477/website_fall24"
BACK = {"w": [[1, 0], [1, 2]], "δy": [[1, 0, 2], [2, 3, 0], [-1, 0, 3]]}
UPSAMPLED = [
    Example(
        "transposed convolution, stride 2",
        TRANSPOSED,
        CONV.replace("i+m, j+n", "2*i+m, 2*j+n"),
        BACK | {"x": np.zeros((6, 6))},
        {
            "δx": exact(
                "1 0 0 0 2 0; 1 2 0 0 2 4; 2 0 3 0 0 0; 2 4 3 6 0 0; -1 0 0 0 3 0; -1 -2 0 0 3 6"
            )
        },
        of="y",
    ),
    Example(
        "transposed convolution, stride 1",
        TRANSPOSED,
        CONV,
        BACK | {"x": np.zeros((4, 4))},
        {"δx": exact("1 0 2 0; 3 5 2 4; 1 7 9 0; -1 -2 3 6")},
        of="y",
    ),
]


@pytest.mark.parametrize("example", CNN + SMALL + UPSAMPLED, ids=str)
def test_published_numbers(example: Example) -> None:
    check(example)


def test_gradients_by_their_ascii_names() -> None:
    """`d_u` is `δu`, for a reader without Greek letters on the keyboard."""
    backward = cr.Program(NET).gradient(of="u", wrt=["w"])
    greek = backward.run(**arrays(DATA | {"δu": DELTA_U}))
    ascii_named = backward.run(**arrays(DATA | {"d_u": DELTA_U}))
    np.testing.assert_array_equal(greek["δw"], ascii_named["δw"])


# One dimension, padding 1, and the whole Jacobian. https://github.com/jvkersch/notebooks
LINE = "y[i:size(x,0)] = sum[m](w[m] * pad(x)[i+m-1])\nL = sum[i](y[i])"
LINE_DATA = {"x": [10, 11, 12, 13, 14], "w": [1, 2, -1]}
JACOBIAN = [[2, -1, 0, 0, 0], [1, 2, -1, 0, 0], [0, 1, 2, -1, 0], [0, 0, 1, 2, -1], [0, 0, 0, 1, 2]]


def test_one_dimension() -> None:
    out = gradients(LINE, "L", ["x", "w"], LINE_DATA)
    exact("9 20 22 24 41").assert_matches(out["y"])
    exact("3 2 2 2 1").assert_matches(out["δx"])
    exact("46 60 50").assert_matches(out["δw"])


@pytest.mark.parametrize("row", range(5))
def test_one_dimension_jacobian_rows(row: int) -> None:
    """A unit vector sent back through y gives one row of the Jacobian."""
    unit = np.eye(5)[row]
    out = gradients(LINE, "y", ["x"], LINE_DATA | {"δy": unit})
    exact(JACOBIAN[row]).assert_matches(out["δx"])


def test_one_dimension_jacobian_column() -> None:
    """A unit vector sent forward gives a column: the kernel, flipped, around that place."""
    out = cr.Program(LINE).run(x=np.eye(5)[2], w=np.array([1, 2, -1]))
    exact("0 -1 2 1 0").assert_matches(out["y"])
