"""Sums in places where the native engine's rewriting has to hold back, or to tell things apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import chainrule.native.compile as compile_
from chainrule import Program

Shapes = dict[str, tuple[int, ...]]
IMAGE = {"x": (20, 18, 18, 32), "d": (20, 16, 16, 32)}

SUMS: dict[str, tuple[str, Shapes]] = {
    "an index of both factors, but not of all they read": (
        "q[g,c,k] = sum[b,i](relu(v[b,i,g,k]+u[i,g]) * relu(x[b,i,g,c]+z[b,i,c]))",
        {"v": (9, 8, 4, 5), "u": (8, 4), "x": (9, 8, 4, 70), "z": (9, 8, 70)},
    ),
    "a long sum in residue classes": (
        "y[b,k:131] = sum[m:4,c](pad(w)[m,c,(k-m)/2] * x[b,c,m])",
        {"w": (4, 1024, 66), "x": (20, 1024, 4)},
    ),
    "a grouped dense layer": (
        "y[b,g,k] = sum[c](w[g,c,k] * x[b,g,c])",
        {"w": (4, 1536, 40), "x": (40, 4, 1536)},
    ),
    "a dense layer of one result": (
        "y[b] = sum[c](w[c] * x[b,c])",
        {"w": (70000,), "x": (40, 70000)},
    ),
    "a window inside a maximum": (
        "y[b,i:16,j:16,k] = max[g](sum[m:3,n:3,c](w[m,n,c,g,k]*pad(x)[b,i+m-1,j+n-1,c]))",
        {"w": (3, 3, 32, 4, 32), "x": (16, 16, 16, 32)},
    ),
    "a window inside a sum over samples": (
        "y[i:16,j:16,k] = sum[b](relu(sum[m:3,n:3,c](w[m,n,c,k]*pad(x)[b,i+m-1,j+n-1,c])))",
        {"w": (3, 3, 32, 32), "x": (16, 16, 16, 32)},
    ),
    "two weight gradients added": (
        "z[m:3,n:3,c,k] = sum[b,i:16,j:16](x[b,i+m,j+n,c]*d[b,i,j,k])"
        " + sum[b,i:16,j:16](y[b,i+m,j+n,c]*e[b,i,j,k])",
        {**IMAGE, "y": IMAGE["x"], "e": IMAGE["d"]},
    ),
    "two weight gradients of one image added": (
        "z[m:3,n:3,c,k] = sum[b,i:16,j:16](x[b,i+m,j+n,c]*d[b,i,j,k])"
        " + sum[b,i:16,j:16](x[b,i+m,j+n,c]*e[b,i,j,k])",
        {**IMAGE, "e": IMAGE["d"]},
    ),
    "a weight gradient in residue classes": (
        "g[p:6,n:3,c,k] = sum[b,i:16,j:16](pad(x)[b,p/2+i,j+n,c]*d[b,i,j,k])",
        IMAGE,
    ),
    "a weight gradient that is read in residue classes": (
        "g[m:3,n:3,c,k] = sum[b,i:16,j:16](x[b,i+m,j+n,c]*d[b,i,j,k]) + pad(v)[m/2,n,c,k]",
        {**IMAGE, "v": (2, 3, 32, 32)},
    ),
    "a window's index on an axis by itself": (
        "y[b,i:16,j:16,k] = sum[m:3,n:3,c](w[m,n,c,k]*x[b,i+m,j+n,i,c])",
        {"w": (3, 3, 32, 32), "x": (4, 18, 18, 16, 32)},
    ),
    "a long sum that reaches over a border": (
        "y[b,k] = sum[c:64,q](w[c,q,k] * pad(x)[b,2*c-3,q])",
        {"w": (64, 200, 60), "x": (17, 128, 200)},
    ),
    "one sum in three statements": (
        "z[b] = sum[k](h[b,k]*sum[c](x[b,c]*w[c,k]))\n"
        "s[b,j] = sum[i](x[b,i]*w[i,j])\n"
        "r[j,b] = sum[i](x[b,i]*w[i,j])\n"
        "t[c,b] = sum[i](x[i,c]*w[c,b])",
        {"x": (12, 12), "w": (12, 12), "h": (12, 12)},
    ),
    "a tensor called as a sum would be": (
        "g[c,k] = sum[b](x[b,c]*d[b,k])\ngΣ[b] = sum[c](x[b,c])",
        {"x": (30, 4), "d": (30, 5)},
    ),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums(name: str) -> None:
    text, shapes = SUMS[name]
    rng = np.random.default_rng(0)
    p, arrays = Program(text), {t: rng.normal(size=s) for t, s in shapes.items()}
    found = p.compile(cache=False, dtype="float64", threads=2)(**arrays)
    for t, expected in p.run(**arrays).items():
        size = np.max(np.abs(expected))
        np.testing.assert_allclose(found[t], expected, rtol=0, atol=1e-12 * size, err_msg=t)


def test_an_empty_batch_first_does_not_matter() -> None:
    p = Program("y[b,i:32,j:32,k] = sum[m:3,n:3,c](w[m,n,c,k] * pad(o)[b,i+m-1,j+n-1,c])")
    rng = np.random.default_rng(0)
    w, o = rng.normal(size=(3, 3, 64, 64)), rng.normal(size=(3, 32, 32, 64))
    f = p.compile(cache=False, dtype="float64")
    for rows in (0, 2, 1, 3, 0):
        found, expected = f(o=o[:rows], w=w)["y"], p.run(o=o[:rows], w=w)["y"]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_an_infinity_around_an_image_makes_no_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where two neighbouring results could be summed at once."""
    real = compile_.machine_for
    monkeypatch.setattr(compile_, "machine_for", lambda dtype: replace(real(dtype), pairs=True))
    p = Program(
        "h[b,i:12,j:12,c] = sum[m,n,k](w[m,n,k,c] * pad(x, -inf)[b,i+m-1,j+n-1,k])\n"
        "E[b] = sum[i,j,c](relu(h[b,i,j,c])*v[c])"
    )
    rng = np.random.default_rng(0)
    half = real("float32").vector_bytes // 8
    x, w = rng.normal(size=(8, 12, 12, 4)), np.abs(rng.normal(size=(3, 3, 4, half))) + 0.1
    given = {"x": x, "w": w, "v": rng.normal(size=half)}
    found, expected = p.compile(cache=False)(outputs=["E"], **given)["E"], p.run(**given)["E"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_an_infinity_beside_a_window_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two neighbouring results are summed at once, on any processor: each reads its own window."""
    real = compile_.machine_for
    monkeypatch.setattr(compile_, "machine_for", lambda dtype: replace(real(dtype), pairs=True))
    half = real("float32").vector_bytes // 8
    p = Program(
        "h[b,i:12,j:12,k] = sum[m:3,n:3,c](w[m,n,c,k] * x[b,i+m,j+n,c])\n"
        "z[b,i:11,j:11,k] = 2*h[b,i+1,j+1,k]"
    )
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(6, 14, 14, 2)), rng.normal(size=(3, 3, 2, half))
    f = p.compile(cache=False, dtype="float32")
    for value in (1.0, np.inf, np.nan):
        x[3, 7, 8, 1] = value
        found, expected = f(outputs=["z"], x=x, w=w)["z"], p.run(x=x, w=w)["z"]
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(found[~finite], expected[~finite])
        np.testing.assert_allclose(found[finite], expected[finite], atol=1e-4)
    assert "wᴰ" in f.source  # it was


def test_where_all_taps_are_side_by_side() -> None:
    """In an input gradient of three channels, and not where channels fill registers."""
    p = Program(
        "y[b,i:28,j:28,k] = sum[m,n,c](w[m,n,c,k] * pad(x)[b,2*i+m-3,2*j+n-3,c])\n"
        "E = sum[b,i,j,k](y[b,i,j,k] * d[b,i,j,k])"
    ).gradient(of="E", wrt=["x"])
    rng = np.random.default_rng(0)
    sizes = {"x": (8, 56, 56, 3), "w": (7, 7, 3, 64), "d": (8, 28, 28, 64)}
    arrays = {t: rng.normal(size=sizes[t]) for t in p.inputs}
    f = p.compile(cache=False, dtype="float64")
    found, expected = f(outputs=["δx"], **arrays)["δx"], p.run(**arrays)["δx"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.max(np.abs(expected)))
    assert "δxᴼ[" in f.source and "yᴼ[" not in f.source


def test_one_sum_of_two_statements_is_computed_once() -> None:
    p = Program(
        "z[b] = sum[k](h[b,k]*sum[c](x[b,c]*w[c,k])) + u[b]\ns[b,j] = sum[i](x[b,i]*w[i,j])"
    )
    rng = np.random.default_rng(0)
    sizes = {"x": (9, 5), "w": (5, 7), "h": (9, 7), "u": (9,)}
    arrays = {t: rng.normal(size=sizes[t]) for t in p.inputs}
    f = p.compile(cache=False, dtype="float64")
    found, expected = f(**arrays), p.run(**arrays)
    for t in "zs":
        np.testing.assert_allclose(found[t], expected[t], rtol=0, atol=1e-12)
    assert "z[b] = sum[k](h[b,k]*s[b,k]) + u[b]" in f.source
