"""A recurrent cell unrolled by hand, and batch normalisation."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr

from .published import Example, arrays, check, cut, exact, rounded

# "Backpropogating an LSTM: A Numerical Example": two steps of one cell. A program assigns each
# name once, so each step's values carry its number.
GOMEZ = "https://blog.aidangomez.ca/2016/04/17/Backpropogating-an-LSTM-A-Numerical-Example/"
CELL = """
a{t} = tanh(sum[k](Wa[k]*x[{t},k]) + Ua*{out} + ba)
i{t} = sigmoid(sum[k](Wi[k]*x[{t},k]) + Ui*{out} + bi)
f{t} = sigmoid(sum[k](Wf[k]*x[{t},k]) + Uf*{out} + bf)
o{t} = sigmoid(sum[k](Wo[k]*x[{t},k]) + Uo*{out} + bo)
state{t} = a{t}*i{t} + f{t}*{state}
out{t} = tanh(state{t}) * o{t}
"""
LSTM = (
    CELL.format(t=0, out="0", state="0")
    + CELL.format(t=1, out="out0", state="state0")
    + "E = 1/2 * ((y[0] - out0)**2 + (y[1] - out1)**2)\n"
)
LSTM_DATA = {
    "x": [[1, 2], [0.5, 3]],
    "y": [0.5, 1.25],
    "Wa": [0.45, 0.25],
    "Ua": 0.15,
    "ba": 0.2,
    "Wi": [0.95, 0.8],
    "Ui": 0.8,
    "bi": 0.65,
    "Wf": [0.7, 0.45],
    "Uf": 0.1,
    "bf": 0.15,
    "Wo": [0.6, 0.4],
    "Uo": 0.25,
    "bo": 0.1,
}
LSTM_STEP = LSTM + "".join(f"W{g}[k] = W{g}[k] - 0.1 * grad(E, W{g})[k]\n" for g in "aifo")

BATCH_NORM = """
μ[c] = mean[b](x[b,c])
var[c] = mean[b]((x[b,c] - μ[c])**2)
y[b,c] = γ[c] * (x[b,c] - μ[c]) / sqrt(var[c] + ε) + β[c]
"""
NNLIB = "https://github.com/thelukester92/nnlib (TestBatchNorm; probably)"
NNLIB_DATA = {
    "x": [[3, 6, 9], [-1, 5, 4], [12, 5, 11]],
    "δy": [[2, 3, 4], [-2, 0, 4], [10, 2, 4]],
    "γ": [1, 1, 1],
    "β": [0, 0, 0],
}
EXAMPLES = [
    Example(
        # The last printed digits are cut off; the fuller numbers are ours.
        "LSTM: forward, as printed",
        GOMEZ,
        LSTM,
        LSTM_DATA,
        {
            "state0": cut(".78572"),
            "out0": cut(".53631"),
            "state1": cut("1.5176"),
        },
    ),
    Example(
        # The state of four digits was carried on, which moves the fifth digit of the output.
        "LSTM: the last output follows from the state as printed",
        GOMEZ,
        "out1 = tanh(state1) * sigmoid(sum[k](Wo[k]*x[1,k]) + Uo*out0 + bo)",
        {name: LSTM_DATA[name] for name in ("x", "Wo", "Uo", "bo")}
        | {"state1": 1.5176, "out0": 0.53631},
        {"out1": cut(".77197")},
    ),
    Example(
        # The gradients are images at the source; these are ours.
        "LSTM: forward in full, and backward",
        GOMEZ,
        LSTM,
        LSTM_DATA,
        {
            "state0": rounded(".78572615"),
            "out0": rounded(".53631340"),
            "state1": rounded("1.51763310"),
            "out1": rounded(".77198111"),
            "δWa": rounded("-.02672 -.0922"),
            "δWi": rounded("-.0022 -.00664"),
            "δWf": rounded("-.00315 -.01892"),
            "δWo": rounded("-.02592 -.1626"),
            "δUa": rounded("-.0104"),
            "δUi": rounded("-.0006"),
            "δUf": rounded("-.00338"),
            "δUo": rounded("-.0297"),
            "δba": rounded("-.03641"),
            "δbi": rounded("-.00276"),
            "δbf": rounded("-.00631"),
            "δbo": rounded("-.05361"),
        },
        of="E",
        differences=tuple(LSTM_DATA),
    ),
    Example(
        "LSTM: one step",
        GOMEZ,
        LSTM_STEP,
        LSTM_DATA,
        {
            "Wa": rounded(".45267 .25922"),
            "Wi": rounded(".95022 .80066"),
            "Wf": rounded(".70032 .45189"),
            "Wo": rounded(".60259 .41626"),
        },
    ),
    Example(
        # The third column's upstream is constant, which batch normalisation cancels.
        "batch normalisation, as printed",
        NNLIB,
        BATCH_NORM,
        NNLIB_DATA | {"ε": 1e-5},
        {
            "δγ": rounded("14.9606 2.8284 0.0000"),
            "δβ": exact("10 5 12"),
            "δx": rounded(".0360 .0001 0.0000; -.0249 -2.1213 0.0000; -.0111 2.1212 0.0000"),
        },
        of="y",
        differences=("x", "γ", "β"),
    ),
    Example(
        "batch normalisation, in full",
        NNLIB,
        BATCH_NORM,
        NNLIB_DATA | {"ε": 1e-5},
        {
            "δx": rounded(
                ".0359584465 .0001272706 0.0000000000;"
                "-.0248946985 -2.1213362508 0.0000000000;"
                "-.0110637480 2.1212089801 0.0000000000"
            )
        },
        of="y",
    ),
    Example(
        # Published as [[-.5,0,.5],[.5,1,-.5]], which leaves out the paths through the mean and
        # the variance. With a batch of two the outputs are ±1 whatever x is: nothing flows back.
        "batch normalisation of two rows",
        "a unit test of a hand-written BatchNorm, its values worked out by hand",
        BATCH_NORM,
        {
            "x": [[1, 2, 3], [3, 4, 5]],
            "δy": [[-1, 0, 1], [1, 2, -1]],
            "γ": [1, 1, 1],
            "β": [0, 0, 0],
            "ε": 0,
        },
        {
            "y": exact("-1 -1 -1; 1 1 1"),
            "δx": exact("0 0 0; 0 0 0"),
            "δγ": exact("2 2 -2"),
            "δβ": exact("0 2 0"),
        },
        of="y",
        differences=("x", "γ", "β"),
    ),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_published_numbers(example: Example) -> None:
    check(example)


def test_batch_norm_without_epsilon() -> None:
    """Epsilon made the first entry of the second column, and the fifth digit of its δγ."""
    backward = cr.Program(BATCH_NORM).gradient(of="y", wrt=["x", "γ"])
    out = backward.run(**arrays(NNLIB_DATA | {"ε": 0.0}))
    rounded("2.82843").assert_matches(out["δγ"][1])
    np.testing.assert_allclose(out["δx"][:, 1], [0, -2.1213203, 2.1213203], atol=5e-8)
