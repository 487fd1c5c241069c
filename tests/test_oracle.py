"""The oracle against sums done by hand and against published numbers, without the library."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import oracle
from oracle_ranges import OracleError

F = Fraction
O3 = [1, 2, 4]
GRID = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def exact(text: str, name: str, **arrays: Any) -> Any:
    return oracle.run(text, arrays, exact=True)[name].tolist()


@pytest.mark.parametrize(
    ("text", "arrays", "expected"),
    [
        ("y[i] = sum[m](w[m] * o[i+m])", {"o": O3, "w": [1, 10]}, [21, 42]),
        ("y[i] = o[2*i]", {"o": [0, 1, 2, 3, 4]}, [0, 2, 4]),
        ("y[i] = o[2*i+1]", {"o": [0, 1, 2, 3, 4]}, [1, 3]),
        ("y[i] = o[2-i]", {"o": O3}, [4, 2, 1]),
        ("y[i] = o[2-i]", {"o": [1, 2, 4, 8]}, [4, 2, 1]),
        ("y[i] = sum[m,n](v[m] * w[n] * o[i+m+n])", {"o": O3, "v": [1, 1], "w": [1, 2]}, [15]),
        ("y[i:size(o,0)] = sum[m](w[m] * pad(o)[i+m-1])", {"o": O3, "w": [1, 1, 1]}, [3, 7, 6]),
        ("y[i:3] = max[m:2](pad(o, -inf)[i-m])", {"o": [-5, -6]}, [-5, -5, -6]),
        ("y[i:5] = sum[m](w[m] * pad(o)[(i-m)/2])", {"o": [1, 3], "w": [1, 2]}, [1, 2, 3, 6, 0]),
        ("y[i:min(size(o,0)*2-1, 9)//2] = i", {"o": O3}, [0, 1]),
        ("y[(i,j)] = o[i,j]", {"o": [[1, 2], [3, 4]]}, [1, 2, 3, 4]),
        ("y[i,j:2] = o[(i,j)]", {"o": [1, 2, 3, 4]}, [[1, 2], [3, 4]]),
        ("y[i,n] = sum[j:2](o[(i,n)] * v[n+j])", {"o": O3, "v": [1, 1, 1, 1]}, [[2, 4, 8]]),
        ("y[i] = o[i,i]", {"o": GRID}, [1, 5, 9]),
        ("y = max[i](o[i]) - min[i](o[i]) + mean[i](o[i]) * prod[i](o[i])", {"o": O3}, F(65, 3)),
        ("y = argmax[i,j](o[i,j])", {"o": [[1, 7], [7, 2]]}, 1),
        ("y = sum[m:3](m) + size(o,0)", {"o": O3}, 6),
        ("y = Σ[m](o[m])", {"o": O3}, 7),
        ("y[b] = sum[k](u[b,k] * (k == t[b]))", {"u": [[1, 2], [3, 4]], "t": [1, 0]}, [2, 3]),
        ("y[i] = where(o[i] > 1, 1/o[i], stop(i - 5))", {"o": O3}, [-5, F(1, 2), F(1, 4)]),
        ("y[i] = relu(o[i]-2) + abs(o[i]-2) + sign(o[i]-2)", {"o": O3}, [0, 0, 5]),
        ("y[i] = maximum(o[i], 2) - minimum(o[i], 2, 1)", {"o": O3}, [1, 1, 3]),
        ("y[i] = 0.1 * o[i]**2 + o[i]**-1 + pow(o[i], 0)", {"o": [2]}, [F(19, 10)]),
        ("z = y + 1\ny = 2 * w\nw = w - z", {"w": 5}, 10),
        ("y = sum[i](o[i])", {"o": []}, 0),
        ("y[b] = x * b\nx = sum[b](o[b]) - b", {"o": O3, "b": [9]}, None),
        ("x[i] = o[i] * b\ny = sum[b](x[b]) + b", {"o": O3, "b": 2}, 16),
        ("y[i:3] = sum[m](o[m] * (m == i)) - sum[m](v[m])", {"o": O3, "v": [1, 1]}, [-1, 0, 2]),
    ],
)
def test_forms(text: str, arrays: dict[str, Any], expected: Any) -> None:
    if expected is None:
        with pytest.raises(OracleError, match="axes"):
            exact(text, "y", **arrays)
    else:
        assert exact(text, "y", **arrays) == expected


def test_updates_read_the_old_values() -> None:
    text = "E = w**2 * v\nw = w - 1/2 * grad(E, w)\nv = v - grad(E, v)"
    assert exact(text, "w", w=3, v=2) == 3 - F(1, 2) * 12
    assert exact(text, "v", w=3, v=2) == 2 - 9


@pytest.mark.parametrize(
    ("text", "arrays", "message"),
    [
        ("y[i] = o[i+j]", {"o": O3}, "j is no index"),
        ("y[i] = sum[j](o[i+j])", {"o": O3}, "fixes"),
        ("y[i] = o[i] * v[i]", {"o": O3, "v": [1, 2]}, "3 or 2|2 or 3"),
        ("y[i:3] = o[i+1]", {"o": O3}, "leaves"),
        ("y[i] = o[i-1]", {"o": O3}, "leaves"),
        ("y[i] = pad(o)[i-1]", {"o": O3}, "fixes i"),
        ("y[i] = o[i,i]", {"o": O3}, "1 axes"),
        ("y = z\nz = y", {}, "itself"),
        ("y = 1\ny = 2", {}, "twice"),
        ("y[i,j:2] = o[(i,j)]", {"o": O3}, "split"),
        ("y[i:3] = o[i]", {"o": [1, 2]}, "3 or 2|2 or 3"),
    ],
)
def test_broken_rules(text: str, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(OracleError, match=message):
        oracle.run(text, arrays)


def slopes(text: str, wrt: str, **arrays: Any) -> Any:
    return oracle.gradient(text, arrays, "E", [wrt], exact=True)[wrt].tolist()


def test_ties_and_kinks() -> None:
    ties = [[1, 0], [1, 1]]
    assert slopes("E = max[i,j](o[i,j])", "o", o=ties) == [[1, 0], [0, 0]]
    assert slopes("E = max[j,i](o[i,j])", "o", o=[[0, 1], [1, 1]]) == [[0, 0], [1, 0]]
    assert slopes("E = min[i](o[i])", "o", o=[2, 1, 1]) == [0, 1, 0]
    assert slopes("E = maximum(a, b) * 2", "a", a=1, b=1) == 2
    assert slopes("E = maximum(a, b) * 2", "b", a=1, b=1) == 0
    text = "E = sum[i](relu(o[i]) + 10*abs(o[i]) + 100*sign(o[i]))"
    assert slopes(text, "o", o=[-1, 0, 2]) == [-10, 0, 11]
    assert slopes("E = prod[i](o[i])", "o", o=[0, 2, 3]) == [6, 0, 0]
    assert slopes("E = sum[i](where(o[i] > 0, 1/o[i], 0))", "o", o=[0, 2]) == [0, F(-1, 4)]
    assert slopes("E = sum[i](stop(o[i]) * o[i])", "o", o=[2, 3]) == [2, 3]


def test_nan_propagates_through_max_and_min() -> None:
    for values in ([math.nan, 1.0], [1.0, math.nan]):
        found = oracle.run("y = max[i](o[i])\nz = min[i](o[i])", {"o": values})
        assert all(math.isnan(found[name][()]) for name in "yz")


def test_gradients_of_gradients() -> None:
    text = "E = sum[i](w[i]**3 * v)\nG = sum[i](grad(E, w)[i]**2)\nH = grad(G, v)"
    arrays = {"w": [1, 2], "v": 3}  # G = 9 v^2 (1 + 16)
    assert oracle.run(text, arrays, exact=True)["H"][()] == 18 * 17 * 3
    found = oracle.gradient(text, arrays, "H", ["w", "v"], exact=True)
    assert found["w"].tolist() == [18 * 3 * 4, 18 * 3 * 4 * 8]
    assert found["v"][()] == 18 * 17


def test_a_vector_jacobian_product_and_a_direction() -> None:
    text = "x[i] = sum[m](w[m] * o[i+m])\nE = sum[i](x[i]**2)"
    arrays = {"o": O3, "w": [1, 10]}
    found = oracle.gradient(text, arrays, "x", ["o"], exact=True, seed=[1, 100])["o"]
    assert found.tolist() == [1, 110, 1000]
    along = oracle.directional(text, arrays, "E", {"w": [1, -1]}, exact=True)
    assert along == 2 * 21 * (1 - 2) + 2 * 42 * (2 - 4)


SMOOTH = """
x[i] = sum[m](w[m] * tanh(o[i+m])) + sin(o[i+2]) * cos(o[i+1])
y[i] = sigmoid(x[i]) + softplus(x[i]) * exp(-x[i]**2) + erf(x[i]) - silu(x[i]) / gelu(2 + x[i]**2)
z[i] = sqrt(1 + y[i]**2) * log(1 + x[i]**2) + pow(2 + x[i]**2, 1/3 * y[i])
E = logsumexp[i](z[i]) + mean[i](z[i]**3) / prod[i](z[i])
"""


def test_duals_agree_with_central_differences() -> None:
    rng = np.random.default_rng(0)
    arrays = {"o": rng.normal(size=6), "w": rng.normal(size=3)}
    found = oracle.gradient(SMOOTH, arrays, "E", ["o", "w"])
    for name, entries in arrays.items():
        for at in np.ndindex(entries.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = {**arrays, name: entries + step * (np.arange(entries.size) == at[0])}
                ends.append(oracle.run(SMOOTH, moved)["E"][()])
            assert found[name][at] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-7, abs=1e-8)


WORKED = """
x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
p[i,j] = max[a:2, c:2](x[2*i+a, 2*j+c])
h[i,j] = sigmoid(p[i,j])
u[k] = sum[i,j](v[k,(i,j)] * h[i,j])
E = sum[k](d[k] * u[k])
"""


def test_the_published_convolution_example() -> None:
    arrays = {
        "o": np.array(
            [
                [0.51, 0.9, 0.88, 0.84, 0.05],
                [0.4, 0.62, 0.22, 0.59, 0.1],
                [0.11, 0.2, 0.74, 0.33, 0.14],
                [0.47, 0.01, 0.85, 0.7, 0.09],
                [0.76, 0.19, 0.72, 0.17, 0.57],
            ]
        ),
        "w": np.array([[-0.13, 0.15], [-0.51, 0.62]]),
        "v": np.array([[0.61, 0.82, 0.96, -1.0], [0.02, -0.5, 0.23, 0.17]]),
        "b": 0.0,
        "d": np.array([0.25, -0.15]),
    }
    h = [[0.576689978, 0.565914135], [0.647233326, 0.547159405]]
    np.testing.assert_allclose(oracle.run(WORKED, arrays)["h"].astype(float), h, atol=5e-10)
    found = oracle.gradient(WORKED, arrays, "E", ["w", "b", "o", "x"])
    weight = [[0.044757279, 0.094384569], [0.01129613, 0.068561809]]
    np.testing.assert_allclose(found["w"].astype(float), weight, atol=5e-10)
    assert found["b"][()] == pytest.approx(0.083937186, abs=5e-10)
    last = [0, 0, 0, 0.034813766, -0.042322617]
    np.testing.assert_allclose(found["o"][4].astype(float), last, atol=5e-10)
    assert np.flatnonzero(found["x"]).tolist() == [2, 5, 9, 15]  # the winners of the maxima


def test_published_whole_number_examples() -> None:
    x, w = [[[1], [2], [3]], [[4], [5], [6]]], [[[[1]], [[2]]], [[[3]], [[4]]]]
    text = "y[i,j,k] = sum[m,n,c](w[m,n,c,k] * x[i+m,j+n,c])"
    seed = np.array([[[1], [2]]])
    found = oracle.gradient(text, {"x": x, "w": w}, "y", ["x", "w"], exact=True, seed=seed)
    assert found["x"].ravel().tolist() == [1, 4, 4, 3, 10, 8]
    assert found["w"].ravel().tolist() == [5, 8, 14, 17]

    checks = [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]  # ties: the first wins
    pool = "y[i,j] = max[a:2,c:2](x[i+a, j+c])"
    seed = np.array([[11, 12, 13], [15, 16, 17], [19, 20, 21]])
    found = oracle.gradient(pool, {"x": checks}, "y", ["x"], exact=True, seed=seed)
    assert found["x"].tolist() == [[11, 0, 25, 0], [0, 31, 0, 17], [19, 0, 41, 0], [0, 0, 0, 0]]

    wide = "y[i:size(x,0)] = sum[m](w[m] * pad(x)[i+m-1])"
    arrays = {"x": [10, 11, 12, 13, 14], "w": [1, 2, -1]}
    assert exact(wide, "y", **arrays) == [9, 20, 22, 24, 41]
    found = oracle.gradient(wide, arrays, "y", ["x", "w"], exact=True, seed=np.ones(5, int))
    assert (found["x"].tolist(), found["w"].tolist()) == ([3, 2, 2, 2, 1], [46, 60, 50])
