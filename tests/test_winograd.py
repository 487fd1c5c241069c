"""Sums over windows by tiles: the algebra, the bound, where they are taken, and where not."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from chainrule import Program
from chainrule.native import toom
from chainrule.native.compile import machine_for
from chainrule.native.driver import modules_of
from chainrule.native.loops import batch_axes
from chainrule.native.request import Request
from chainrule.native.stages import layout
from chainrule.ranges import numeric

LAYER = (
    "y[b,i:{n},j:{n},k] = relu(sum[m,n,c](w[m,n,c,k] * pad(o)[b,i+m-1,j+n-1,c]) + a[k])\n"
    "E = sum[b,i,j,k](y[b,i,j,k] * d[b,i,j,k])"
)
STEP = "w[m,n,c,k] = w[m,n,c,k] - 0.01*grad(E, w)[m,n,c,k]\n"


def arrays(rows: int = 9, n: int = 13, c: int = 16, k: int = 32, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "o": rng.normal(size=(rows, n, n, c)).astype("f4"),
        "w": rng.normal(size=(3, 3, c, k)).astype("f4"),
        "a": rng.normal(size=k).astype("f4"),
        "d": rng.normal(size=(rows, n, n, k)).astype("f4"),
    }


def called(text: str, given: dict[str, Any], winograd: bool = True, **how: Any) -> dict[str, Any]:
    p = Program(text)
    f = p.compile(cache=False, winograd=winograd, **how)
    return f(**{t: given[t] for t in p.inputs})


def dot(a: Any, b: Any) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("m", "r"), [(4, 3), (2, 3), (3, 4), (3, 2)])
def test_the_products_make_the_sums_exactly(m: int, r: int) -> None:
    a, b, g = toom.matrices(m, r)
    draw = random.Random(0)
    for _ in range(20):
        d = [Fraction(draw.randint(-99, 99), draw.randint(1, 9)) for _ in range(m + r - 1)]
        t = [Fraction(draw.randint(-99, 99), draw.randint(1, 9)) for _ in range(r)]
        products = [dot(gs, t) * dot(bs, d) for gs, bs in zip(g, b, strict=True)]
        made = [dot(row, products) for row in a]
        assert made == [sum(t[k] * d[i + k] for k in range(r)) for i in range(m)]


def test_coefficients_are_short_and_the_growth_is_the_documented_one() -> None:
    for m, r in ((4, 3), (2, 3), (3, 4), (3, 2)):
        _, b, g = toom.matrices(m, r)
        assert all((64 * x).denominator == 1 and abs(x) < 9 for row in (*b, *g) for x in row)
    assert toom.growth(4, 3) == Fraction(61, 4)
    assert toom.growth(3, 4) == Fraction(65, 4)
    assert toom.growth(2, 3) == toom.growth(3, 2) == 4


def test_a_matrix_along_each_axis() -> None:
    for m, r in ((4, 3), (2, 3), (3, 4), (3, 2)):
        for matrix in toom.matrices(m, r):
            n = len(matrix[0])
            grid = [
                [Fraction(7 * i * i + 3 * i * j - 11 * j + 2) for j in range(n)] for i in range(n)
            ]
            found = toom.applied(matrix, 2, lambda k, grid=grid: grid[k[0]][k[1]], dot)
            rows = [[dot(p, column) for column in zip(*grid, strict=True)] for p in matrix]
            assert found == [dot(q, row) for row in rows for q in matrix]
            line = toom.applied(matrix, 1, lambda k, grid=grid: grid[1][k[0]], dot)
            assert line == [dot(p, grid[1]) for p in matrix]


def test_where_tiles_are_taken() -> None:
    text = LAYER.format(n=13)
    p = Program(text)
    given = arrays()
    by_tiles, plain = (p.compile(cache=False, winograd=w) for w in (True, False))
    for f in (by_tiles, plain):
        f(**given)
    assert "yʷ[" not in plain.source and "A₄₆[i,r]*A₄₆[j,s]*yʷ[" in by_tiles.source
    assert "if o²[b] and w² are small:" in by_tiles.source
    few = arrays(c=4)
    by_tiles(**few)
    assert "yʷ[" not in by_tiles.source  # too few channels for it to pay


@pytest.mark.parametrize("n", [8, 13])
def test_the_error_is_within_the_bound(n: int) -> None:
    given = arrays(rows=2, n=n, c=64, k=16)
    text = LAYER.format(n=n).split("\n")[0].replace("relu", "")
    exact = called(text, given, dtype="float64")["y"]
    found = called(text, given)["y"]
    u, terms = 2.0**-24, 64
    roundings = 6 * 6 + terms
    taps = np.abs(given["w"]).sum((0, 1))  # c, k
    largest = np.abs(given["o"]).max((1, 2))  # b, c: at least that of each tile
    bound = roundings * u * float(toom.growth(4, 3)) ** 2 * (largest @ taps)
    bound = bound + u * np.abs(given["a"])
    error = np.abs(found - exact)
    assert np.all(error <= bound[:, None, None, :])
    assert 0 < error.max() < 0.05 * bound.min()  # far better than the worst case


def test_values_that_are_not_finite_stay_where_they_are() -> None:
    given = arrays(rows=20)
    given["o"][3, 5, 6, 7] = np.inf
    given["o"][11, 0, 0, 0] = np.nan
    text = LAYER.format(n=13).split("\n")[0]
    found, expected = called(text, given)["y"], Program(text).run(
        **{t: given[t] for t in "woa"})["y"]  # fmt: skip
    finite = np.isfinite(expected)
    assert 0 < (~finite).sum() <= 2 * 9 * 32
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    np.testing.assert_allclose(found[finite], expected[finite], atol=1e-3)


def test_without_the_guards_they_would_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    from chainrule.native import kernel

    monkeypatch.setattr(kernel, "guard_limit", lambda _: float("inf"))
    given = arrays(rows=20)
    given["o"][3, 5, 6, 7] = np.inf  # its square is still "small" by this limit
    found = called(LAYER.format(n=13).split("\n")[0], given)["y"]
    assert np.isnan(found[3]).sum() > 9 * 32


def test_numbers_near_overflow_are_summed_as_written() -> None:
    given = arrays(rows=4)
    given["o"] *= np.float32(1e37)
    given["w"] *= np.float32(1e-3)
    text = LAYER.format(n=13).split("\n")[0]
    expected = called(text, given, winograd=False)["y"]
    np.testing.assert_allclose(called(text, given)["y"], expected, rtol=1e-3, atol=1e32)
    assert np.isfinite(expected).all()


def test_the_bits_do_not_depend_on_threads() -> None:
    text = LAYER.format(n=13) + "\n" + STEP
    results = []
    for threads in (1, 2, 3, 4, 7, 8, 16):
        given = arrays(rows=70)
        state = {t: given[t] for t in ("w", "a")}
        t = Program(text).trainer(state, threads=threads, cache=False)
        t.run({"o": given["o"], "d": given["d"]}, batch_size=64)
        results.append(t.state()["w"].tobytes())
    assert len(set(results)) == 1


def test_training_is_the_same_but_for_roundings() -> None:
    text = LAYER.format(n=13) + "\n" + STEP
    given = arrays(rows=60)
    states = []
    for winograd in (True, False):
        t = Program(text).trainer({t: given[t] for t in "wa"}, cache=False, winograd=winograd)
        losses = t.run({t: given[t] for t in "od"}, batch_size=20)
        states.append((t.state()["w"], losses))
    (w, losses), (v, others) = states
    assert not np.array_equal(w, v)
    np.testing.assert_allclose(losses, others, rtol=1e-3)
    assert np.max(np.abs(w - v)) < 1e-3 * np.max(np.abs(v))


def test_the_code_does_not_depend_on_rows_of_the_same_blocks() -> None:
    p = Program(LAYER.format(n=13)).gradient(of="E")
    system = p.expanded.system
    texts, code = set(), set()
    for rows in (16, 17, 300):
        shapes = {t: a.shape for t, a in arrays(rows=rows).items()}
        ranges = numeric(system, {t: shapes[t] for t in system.inputs})
        request = Request(
            system, ranges, batch_axes(system) or {}, p.outputs, frozenset(),
            machine_for("float32"), rows,
        )  # fmt: skip
        texts.add(request.text)
        code.add("".join(map(str, modules_of(layout(request), "float32"))))
    assert len(texts) == len(code) == 1
