"""Twelve networks with gradients written by hand in NumPy, each able to make its own mistakes.

Nothing here uses the library: `gradient(data, slip)` is what a careful person, or one who makes
exactly the named slip, would get.  `Network.slips` says under which names a checker may report it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Data = dict[str, Floats]
Gradients = dict[str, Floats]


@dataclass(frozen=True)
class Network:
    """slips: slip -> (the gradient it is seen in, the names that are right)."""

    name: str
    text: str
    data: Callable[[np.random.Generator], Data]
    gradient: Callable[[Data, str], Gradients]
    slips: Mapping[str, tuple[str, frozenset[str]]]
    of: str = "E"

    def cases(self) -> Iterator[tuple[str, str, frozenset[str]]]:
        for slip, (wrt, names) in self.slips.items():
            yield slip, wrt, names


def named(*names: str) -> frozenset[str]:
    return frozenset(names)


def sigmoid(z: Floats) -> Floats:
    return 1 / (1 + np.exp(-z))


SIGN = named("sign", "target - output")
MISSING = named("activation derivative missing", "a factor left out")
DOUBLED = named("activation derivative doubled")
AT_WRONG = named("activation derivative at the wrong value", "two tensors swapped")
TWICE = named("doubled", "another constant in the loss")
SWAPPED = named("transposed", "two tensors swapped")
PATH = named("a path left out", "a term left out")
UPDATED = named("updated weights in the backward pass")
NOT_SUMMED = named("not summed")
OVERWRITTEN = named("overlapping windows overwritten")
FLIP = named("kernel not flipped")
STRIDE = named("stride ignored")


# ---------------------------------------------------------------- 1. two dense layers


def _dense_data(rng: np.random.Generator) -> Data:
    return {
        "x": rng.normal(size=3),
        "w": rng.normal(size=(3, 3)),
        "c": rng.normal(size=()),
        "v": rng.normal(size=(3, 3)),
        "t": rng.uniform(0, 1, 3),
        "η": np.array(0.5),
    }


def _dense(d: Data, slip: str) -> Gradients:
    z = d["w"] @ d["x"] + d["c"]
    h = sigmoid(z)
    s = d["v"] @ h
    y = sigmoid(s)
    error = d["t"] - y if slip == "target - output" else y - d["t"]
    slope_y = {
        "no slope": np.ones(3),
        "slope twice": (y * (1 - y)) ** 2,
        "slope at y": sigmoid(y) * (1 - sigmoid(y)),
        "slope formula of s": s * (1 - s),
    }.get(slip, y * (1 - y))
    ds = error * slope_y * (2 if slip == "no half" else 1)
    dv = np.outer(ds, h)
    v = d["v"]
    if slip == "updated weights":
        v = v - d["η"] * dv
    dh = v @ ds if slip == "v transposed" else v.T @ ds
    dz = dh if slip == "no hidden slope" else dh * h * (1 - h)
    if slip == "swapped":
        return {"w": np.outer(d["x"], dz)}
    if slip == "wrong input":
        return {"v": np.outer(ds, d["x"])}
    if slip == "first output only":
        return {"w": np.outer(v[0] * ds[0] * h * (1 - h), d["x"])}
    return {"w": np.outer(dz, d["x"]), "v": dv, "c": dz.sum()}


DENSE = Network(
    "two dense layers",
    """
    z[j] = sum[i](w[j,i] * x[i]) + c
    h[j] = sigmoid(z[j])
    s[k] = sum[j](v[k,j] * h[j])
    y[k] = sigmoid(s[k])
    E = 1/2 * sum[k]((t[k] - y[k])**2)
    w[j,i] = w[j,i] - η * grad(E, w)[j,i]
    v[k,j] = v[k,j] - η * grad(E, v)[k,j]
    """,
    _dense_data,
    _dense,
    {
        "target - output": ("w", SIGN),
        "no half": ("v", TWICE),
        "no slope": ("w", MISSING),
        "slope twice": ("v", DOUBLED),
        "slope at y": ("v", AT_WRONG),
        "slope formula of s": ("v", AT_WRONG),
        "updated weights": ("w", UPDATED),
        "v transposed": ("w", SWAPPED),
        "no hidden slope": ("w", MISSING),
        "swapped": ("w", SWAPPED),
        "wrong input": ("v", named("two tensors swapped")),
        "first output only": ("w", NOT_SUMMED),
    },
)


# ---------------------------------------------------------------- 2. convolution, pool, sigmoid


def _cnn_data(rng: np.random.Generator) -> Data:
    return {
        "o": rng.normal(size=(5, 5)),
        "w": rng.normal(size=(2, 2)),
        "b": rng.normal(size=()),
        "v": rng.normal(size=(2, 2, 2)),
        "t": rng.normal(size=2),
    }


def _cnn(d: Data, slip: str) -> Gradients:
    o, w, v = d["o"], d["w"], d["v"]
    x = (
        np.array([[np.sum(w * o[i : i + 2, j : j + 2]) for j in range(4)] for i in range(4)])
        + d["b"]
    )
    windows = x.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(2, 2, 4)
    p = windows.max(-1)
    h = sigmoid(p)
    u = np.einsum("kij,ij->k", v, h)
    du = (d["t"] - u if slip == "sign" else u - d["t"]) * (2 if slip == "no half" else 1)
    dh = np.einsum("k,kji->ij" if slip == "v transposed" else "k,kij->ij", du, v)
    slope = {"no slope": np.ones((2, 2)), "slope of p": p * (1 - p)}.get(slip, h * (1 - h))
    dp = dh * slope
    won = windows.argmax(-1)[..., None] == np.arange(4)
    if slip == "whole window":
        won = np.ones_like(won)
    dx = (dp[..., None] * won).reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(4, 4)
    if slip == "dx flipped":
        dx = dx[::-1, ::-1]
    dw = np.zeros((2, 2))
    do = np.zeros((5, 5))
    kernel = w[::-1, ::-1] if slip == "w flipped" else w
    for i in range(4):
        for j in range(4):
            dw += dx[i, j] * o[i : i + 2, j : j + 2]
            if slip == "overwritten":
                do[i : i + 2, j : j + 2] = dx[i, j] * kernel
            else:
                do[i : i + 2, j : j + 2] += dx[i, j] * kernel
    if slip == "result flipped":
        dw = dw[::-1, ::-1]
    return {"w": dw, "o": do, "b": dx if slip == "untied" else dx.sum()}


CNN = Network(
    "convolution, max-pool, sigmoid, dense",
    """
    x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
    p[i,j] = max[a:2, c:2](x[2*i+a, 2*j+c])
    h[i,j] = sigmoid(p[i,j])
    u[k]   = sum[i,j](v[k,i,j] * h[i,j])
    E      = 1/2 * sum[k]((t[k] - u[k])**2)
    """,
    _cnn_data,
    _cnn,
    {
        "sign": ("w", SIGN),
        "no half": ("o", TWICE),
        "v transposed": ("w", SWAPPED),
        "no slope": ("w", MISSING),
        "slope of p": ("w", AT_WRONG),
        "whole window": ("w", named("δ to the whole window", "a factor left out")),
        "dx flipped": ("w", FLIP),
        "w flipped": ("o", FLIP),
        "overwritten": ("o", OVERWRITTEN),
        "result flipped": ("w", FLIP),
        "untied": ("b", named("bias untied")),
    },
)


# ---------------------------------------------------------------- 3. softmax, cross-entropy, batch


def _softmax_data(rng: np.random.Generator) -> Data:
    return {
        "x": rng.normal(size=(5, 3)),
        "w": rng.normal(size=(3, 4)),
        "c": rng.normal(size=4),
        "t": rng.integers(0, 4, 5).astype(np.float64),
    }


def _softmax(d: Data, slip: str) -> Gradients:
    y = d["x"] @ d["w"] + d["c"]
    e = np.exp(y - y.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    one_hot = np.eye(4)[d["t"].astype(int)]
    g = {"sign": one_hot - p, "no target": p, "only target": -one_hot}.get(slip, p - one_hot)
    if slip != "sum for mean":
        g = g / 5
    if slip == "log10":
        g = g / np.log(10)
    if slip == "mean twice":
        g = g / 5
    dw = d["x"].T @ g
    if slip == "last sample":
        dw = np.outer(d["x"][-1], g[-1])
    if slip == "softmax slope":
        dw = d["x"].T @ (g * p * (1 - p))
    return {
        "w": dw.T if slip == "dw transposed" else dw,
        "c": g if slip == "per sample" else g.sum(0),
        "x": g @ d["w"].T,
    }


SOFTMAX = Network(
    "softmax with cross-entropy, mean over a batch",
    """
    y[b,k] = sum[i](x[b,i] * w[i,k]) + c[k]
    E = mean[b](logsumexp[l](y[b,l]) - sum[l](y[b,l] * (l == t[b])))
    """,
    _softmax_data,
    _softmax,
    {
        "sign": ("w", named("sign", "target - output")),
        "no target": ("w", PATH),
        "only target": ("x", PATH),
        "sum for mean": ("w", named("sum for mean")),
        "log10": ("x", named("log10 for log")),
        "mean twice": ("c", named("mean for sum", "sum for mean")),
        "last sample": ("w", NOT_SUMMED),
        "dw transposed": ("w", named("transposed")),
        "per sample": ("c", named("bias untied")),
    },
)


# ---------------------------------------------------------------- 4. stride 2, padding 1, relu


def _strided_data(rng: np.random.Generator) -> Data:
    return {"o": rng.uniform(-1, 2, 7), "w": rng.normal(size=3), "b": rng.uniform(0, 1, ())}


def _strided(d: Data, slip: str) -> Gradients:
    o, w = d["o"], d["w"]
    padded = np.pad(o, 1)
    x = np.array([w @ padded[2 * i : 2 * i + 3] for i in range(4)]) + d["b"]
    y = np.maximum(x, 0)
    dy = y * (2 if slip == "doubled" else 1)
    dx = dy.copy() if slip == "no relu slope" else dy * (x > 0)
    if slip == "relu mask of dy":
        dx = np.maximum(dy - 1, 0)
    dw, do = np.zeros(3), np.zeros(9)
    s = 1 if slip == "no stride" else 2
    for i in range(4):
        kernel = w[::-1] if slip == "w flipped" else w
        dw += dx[i] * padded[s * i : s * i + 3]
        if slip == "overwritten":
            do[2 * i : 2 * i + 3] = dx[i] * kernel
        else:
            do[2 * i : 2 * i + 3] += dx[i] * kernel
    if slip == "wrong padding":
        dw = np.array([sum(dx[i] * np.pad(o, 2)[2 * i + m] for i in range(4)) for m in range(3)])
    if slip == "border kept":
        return {"o": do}
    return {"w": dw[::-1] if slip == "dw flipped" else dw, "o": do[1:-1], "b": dx.sum()}


STRIDED = Network(
    "convolution with stride 2 and padding 1, relu",
    """
    x[i:4] = sum[m](w[m] * pad(o)[2*i+m-1]) + b
    y[i] = relu(x[i])
    E = 1/2 * sum[i](y[i]**2)
    """,
    _strided_data,
    _strided,
    {
        "doubled": ("w", TWICE),
        "no stride": ("w", STRIDE),
        "w flipped": ("o", FLIP),
        "dw flipped": ("w", FLIP),
        "overwritten": ("o", OVERWRITTEN),
        "wrong padding": ("w", named("padding")),
        "border kept": ("o", named("padding not cut off")),
    },
)


# ---------------------------------------------------------------- 5. overlapping max-pool, ties


def _ties_data(rng: np.random.Generator) -> Data:
    return {"x": rng.integers(0, 3, (4, 4)).astype(np.float64), "g": rng.normal(size=(3, 3))}


def _ties(d: Data, slip: str) -> Gradients:
    x, g = d["x"], d["g"]
    out = np.zeros((4, 4))
    for i in range(3):
        for j in range(3):
            window = x[i : i + 2, j : j + 2]
            best = window == window.max()
            first = np.zeros(4)
            first[np.argmax(window)] = 1
            share = {
                "every": best.astype(float),
                "split": best / best.sum(),
                "none": best * (best.sum() == 1),
            }.get(slip, first.reshape(2, 2))
            if slip == "last":
                share = np.zeros((2, 2))
                share.reshape(-1)[3 - np.argmax(window.reshape(-1)[::-1])] = 1
            if slip == "overwritten":
                out[i : i + 2, j : j + 2] = g[i, j] * share
            elif slip == "winner overwritten":
                at = np.unravel_index(np.argmax(window), (2, 2))
                out[i + at[0], j + at[1]] = g[i, j]
            else:
                out[i : i + 2, j : j + 2] += g[i, j] * share
    return {"x": -out if slip == "sign" else out}


TIES = Network(
    "overlapping max-pool with ties",
    """
    p[i,j] = max[a:2, c:2](x[i+a, j+c])
    E = sum[i,j](g[i,j] * p[i,j])
    """,
    _ties_data,
    _ties,
    {
        "every": ("x", named("δ to every tied maximum")),
        "split": ("x", named("δ split between tied maxima")),
        "none": ("x", named("δ to no tied maximum")),
        "last": ("x", named("δ to the last tied maximum")),
        "overwritten": ("x", OVERWRITTEN),
        "winner overwritten": ("x", OVERWRITTEN),
        "sign": ("x", SIGN),
    },
)


# ---------------------------------------------------------------- 6. batch normalisation


def _norm_data(rng: np.random.Generator) -> Data:
    return {
        "x": rng.normal(size=(4, 3)),
        "γ": rng.normal(size=3),
        "β": rng.normal(size=3),
        "g": rng.normal(size=(4, 3)),
        "ε": np.array(1e-3),
    }


def _norm(d: Data, slip: str) -> Gradients:
    x, g, n = d["x"], d["g"], 4
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    std = np.sqrt(var + d["ε"])
    centred = x - mean
    direct = g * d["γ"] / std
    dvar = np.sum(g * d["γ"] * centred, 0) * -0.5 / std**3
    through_var = dvar * 2 * centred / n
    through_mean = -direct.sum(0) / n
    if slip == "no mean path":
        dx = direct + through_var
    elif slip == "no variance path":
        dx = direct + through_mean
    elif slip == "neither path":
        dx = direct
    elif slip == "own row":
        dx = direct * (1 - 1 / n)
    elif slip == "variance divided by n - 1":
        dx = direct + dvar * 2 * centred / (n - 1) + through_mean
    else:
        dx = direct + through_var + through_mean
    dgamma = np.sum(g * (x if slip == "not normalised" else centred / std), 0)
    return {"x": dx, "γ": dgamma, "β": g.mean(0) if slip == "mean over the batch" else g.sum(0)}


NORM = Network(
    "batch normalisation",
    """
    μ[c] = mean[b](x[b,c])
    var[c] = mean[b]((x[b,c] - μ[c])**2)
    n[b,c] = (x[b,c] - μ[c]) / sqrt(var[c] + ε)
    y[b,c] = γ[c] * n[b,c] + β[c]
    E = sum[b,c](g[b,c] * y[b,c])
    """,
    _norm_data,
    _norm,
    {
        "no mean path": ("x", PATH),
        "no variance path": ("x", PATH),
        "neither path": ("x", PATH),
        "own row": ("x", PATH),
        "not normalised": ("γ", named("two tensors swapped")),
        "mean over the batch": ("β", named("mean for sum")),
    },
)


# ---------------------------------------------------------------- 7. average pooling


def _average_data(rng: np.random.Generator) -> Data:
    return {
        "o": rng.normal(size=7),
        "w": rng.normal(size=3),
        "v": rng.normal(size=4),
        "t": rng.normal(size=()),
    }


def _average(d: Data, slip: str) -> Gradients:
    o, w, v = d["o"], d["w"], d["v"]
    x = np.array([w @ o[i : i + 3] for i in range(5)])
    h = np.tanh(x)
    a = np.array([h[i : i + 2].mean() for i in range(4)])
    u = v @ a
    du = (d["t"] - u) if slip == "sign" else (u - d["t"])
    da = du * v
    dh = np.zeros(5)
    for i in range(4):
        part = da[i] / (1 if slip == "no area" else 2)
        if slip == "overwritten":
            dh[i : i + 2] = part
        else:
            dh[i : i + 2] += part
    slope = {
        "no slope": np.ones(5),
        "slope twice": (1 - h**2) ** 2,
        "slope of x": 1 - x**2,
        "slope at h": 1 - np.tanh(h) ** 2,
    }.get(slip, 1 - h**2)
    dx = dh * slope
    dw = np.array([sum(dx[i] * o[i + m] for i in range(5)) for m in range(3)])
    return {"w": dw, "v": du * (np.full(4, a.sum()) if slip == "v summed" else a)}


AVERAGE = Network(
    "convolution, tanh, overlapping average pool",
    """
    x[i] = sum[m](w[m] * o[i+m])
    h[i] = tanh(x[i])
    a[i] = mean[k:2](h[i+k])
    u = sum[i](v[i] * a[i])
    E = 1/2 * (u - t)**2
    """,
    _average_data,
    _average,
    {
        "sign": ("v", SIGN),
        "no area": ("w", named("sum for mean", "doubled")),
        "overwritten": ("w", OVERWRITTEN),
        "no slope": ("w", MISSING),
        "slope twice": ("w", DOUBLED),
        "slope of x": ("w", AT_WRONG),
        "slope at h": ("w", AT_WRONG),
    },
)


# ---------------------------------------------------------------- 8. a skip connection


def _skip_data(rng: np.random.Generator) -> Data:
    return {
        "x": rng.normal(size=(2, 4)),
        "w": rng.normal(size=(4, 4)),
        "t": rng.normal(size=(2, 4)),
    }


def _skip(d: Data, slip: str) -> Gradients:
    x, w = d["x"], d["w"]
    z = x @ w
    y = x + np.maximum(z, 0)
    dy = (d["t"] - y if slip == "sign" else y - d["t"]) / (1 if slip == "sum" else 8)
    if slip == "one mean only":
        dy = dy * 2
    dz = dy if slip == "no slope" else dy * (z > 0)
    if slip == "slope of y":
        dz = dy * (y > 0)
    back = dz @ (w if slip == "w transposed" else w.T)
    dx = {"skip only": dy, "layer only": back}.get(slip, dy + back)
    dw = x.T @ dz
    return {"x": dx, "w": dw.T if slip == "dw transposed" else dw}


SKIP = Network(
    "a skip connection around a relu layer",
    """
    z[b,k] = sum[i](x[b,i] * w[i,k])
    y[b,k] = x[b,k] + relu(z[b,k])
    E = 1/2 * mean[b,k]((y[b,k] - t[b,k])**2)
    """,
    _skip_data,
    _skip,
    {
        "sign": ("w", SIGN),
        "sum": ("w", named("sum for mean")),
        "one mean only": ("w", named("doubled")),
        "no slope": ("x", MISSING),
        "slope of y": (
            "w",
            named("two tensors swapped", "activation derivative at the wrong value"),
        ),
        "w transposed": ("x", SWAPPED),
        "skip only": ("x", PATH),
        "layer only": ("x", PATH),
        "dw transposed": ("w", SWAPPED),
    },
)


# ---------------------------------------------------------------- 9. a recurrent cell, two steps


def _recurrent_data(rng: np.random.Generator) -> Data:
    return {
        "x": rng.normal(size=(2, 3)),
        "w": rng.normal(size=(3, 3)),
        "r": rng.normal(size=(3, 3)),
        "t": rng.normal(size=3),
    }


def _recurrent(d: Data, slip: str) -> Gradients:
    w, r = d["w"], d["r"]
    a = w @ d["x"][0]
    h = np.tanh(a)
    k = np.tanh(w @ d["x"][1] + r @ h)
    dk = (d["t"] - k if slip == "sign" else k - d["t"]) * (2 if slip == "no half" else 1)
    second = dk if slip == "no outer slope" else dk * (1 - k**2)
    back = (r if slip == "r transposed" else r.T) @ second
    first = back if slip == "no inner slope" else back * (1 - h**2)
    if slip == "slope at h":
        first = back * (1 - np.tanh(h) ** 2)
    early, late = np.outer(first, d["x"][0]), np.outer(second, d["x"][1])
    dw = {"early only": early, "late only": late}.get(slip, early + late)
    dr = np.outer(second, a if slip == "a for h" else h)
    return {"w": dw, "r": dr}


RECURRENT = Network(
    "a recurrent cell, two steps",
    """
    a[j] = sum[i](w[j,i] * x[0,i])
    h[j] = tanh(a[j])
    k[j] = tanh(sum[i](w[j,i] * x[1,i]) + sum[l](r[j,l] * h[l]))
    E = 1/2 * sum[j]((k[j] - t[j])**2)
    """,
    _recurrent_data,
    _recurrent,
    {
        "sign": ("r", SIGN),
        "no half": ("w", TWICE),
        "no outer slope": ("w", MISSING),
        "r transposed": ("w", SWAPPED),
        "no inner slope": ("w", MISSING),
        "slope at h": ("w", AT_WRONG),
        "early only": ("w", PATH),
        "late only": ("w", PATH),
        "a for h": ("r", named("two tensors swapped")),
    },
)


# ---------------------------------------------------------------- 10. channels and a batch


def _channels_data(rng: np.random.Generator) -> Data:
    return {
        "o": rng.normal(size=(3, 2, 4, 4)),
        "w": rng.normal(size=(2, 2, 2, 2)),
        "b": rng.normal(size=2),
        "t": rng.normal(size=(3, 2, 3, 3)),
    }


def _channels(d: Data, slip: str) -> Gradients:
    o, w = d["o"], d["w"]
    x = np.zeros((3, 2, 3, 3)) + d["b"][:, None, None]
    for m in range(2):
        for n in range(2):
            x += np.einsum("kc,bcij->bkij", w[:, :, m, n], o[:, :, m : m + 3, n : n + 3])
    y = sigmoid(x)
    dy = (y - d["t"]) / (1 if slip == "sum" else 3)
    dx = dy if slip == "no slope" else dy * y * (1 - y)
    if slip == "slope twice":
        dx = dx * y * (1 - y)
    dw, do = np.zeros_like(w), np.zeros_like(o)
    for m in range(2):
        for n in range(2):
            part = o[:, :, m : m + 3, n : n + 3]
            dw[:, :, m, n] = np.einsum("bkij,bcij->kc", dx, part)
            if slip == "last sample":
                dw[:, :, m, n] = np.einsum("kij,cij->kc", dx[-1], part[-1])
            at = (1 - m, 1 - n) if slip == "w flipped" else (m, n)
            pattern = "ck,bkij->bcij" if slip == "channels swapped" else "kc,bkij->bcij"
            back = np.einsum(pattern, w[:, :, at[0], at[1]], dx)
            if slip == "first filter":
                back = np.einsum("c,bij->bcij", w[0, :, m, n], dx[:, 0])
            do[:, :, m : m + 3, n : n + 3] += back
    db = dx.sum((0, 2, 3))
    if slip == "bias per sample":
        db = dx.sum((2, 3))
    if slip == "bias mean":
        db = dx.mean((0, 2, 3))
    return {"w": dw.transpose(1, 0, 2, 3) if slip == "dw channels" else dw, "o": do, "b": db}


CHANNELS = Network(
    "a convolution with channels, filters and a batch",
    """
    x[b,k,i,j] = sum[c,m,n](w[k,c,m,n] * o[b,c,i+m,j+n]) + b[k]
    y[b,k,i,j] = sigmoid(x[b,k,i,j])
    E = 1/2 * mean[b](sum[k,i,j]((y[b,k,i,j] - t[b,k,i,j])**2))
    """.replace("+ b[k]", "+ bias[k]"),
    lambda rng: {("bias" if n == "b" else n): a for n, a in _channels_data(rng).items()},
    lambda d, slip: {
        ("bias" if n == "b" else n): a
        for n, a in _channels({("b" if n == "bias" else n): a for n, a in d.items()}, slip).items()
    },
    {
        "sum": ("w", named("sum for mean")),
        "no slope": ("w", MISSING),
        "slope twice": ("o", DOUBLED),
        "last sample": ("w", NOT_SUMMED),
        "w flipped": ("o", FLIP),
        "channels swapped": ("o", SWAPPED),
        "first filter": ("o", NOT_SUMMED),
        "bias per sample": ("bias", named("bias untied")),
        "bias mean": ("bias", named("mean for sum")),
        "dw channels": ("w", SWAPPED),
    },
)


# ---------------------------------------------------------------- 11. logistic regression, decay


def _logistic_data(rng: np.random.Generator) -> Data:
    return {
        "x": rng.normal(size=(6, 3)),
        "w": rng.normal(size=3),
        "t": rng.integers(0, 2, 6).astype(np.float64) * 0.8 + 0.1,
        "λ": np.array(0.3),
    }


def _logistic(d: Data, slip: str) -> Gradients:
    p = sigmoid(d["x"] @ d["w"])
    g = d["t"] - p if slip == "sign of the error" else p - d["t"]
    if slip == "slope kept":
        g = g * p * (1 - p)
    if slip != "sum":
        g = g / 6
    data = d["x"].T @ g
    if slip == "log10":
        data = data / np.log(10)
    decay = d["λ"] * d["w"]
    if slip == "decay doubled":
        decay = 2 * decay
    if slip == "no decay":
        decay = 0 * decay
    if slip == "decay subtracted":
        decay = -decay
    return {"w": data + decay}


LOGISTIC = Network(
    "logistic regression with weight decay",
    """
    z[b] = sum[i](x[b,i] * w[i])
    p[b] = sigmoid(z[b])
    E = -mean[b](t[b] * log(p[b]) + (1 - t[b]) * log(1 - p[b])) + 1/2 * λ * sum[i](w[i]**2)
    """,
    _logistic_data,
    _logistic,
    {
        "sum": ("w", named("sum for mean")),
        "decay doubled": ("w", named("another constant in the loss")),
        "no decay": ("w", PATH),
        "decay subtracted": ("w", named("sign")),
        "slope kept": ("w", DOUBLED),
    },
)


# ---------------------------------------------------------------- 12. a gate, an absolute loss


def _gate_data(rng: np.random.Generator) -> Data:
    return {
        "x": rng.normal(size=(3, 4)),
        "w": rng.normal(size=(4, 4)),
        "v": rng.normal(size=(4, 4)),
        "t": rng.normal(size=(3, 4)),
    }


def _gate(d: Data, slip: str) -> Gradients:
    a, c = d["x"] @ d["w"], d["x"] @ d["v"]
    s = sigmoid(a)
    y = s * c
    dy = np.sign(d["t"] - y if slip == "sign" else y - d["t"])
    if slip == "squared":
        dy = 2 * (y - d["t"])
    if slip == "mean":
        dy = dy / 12
    ds, dc = dy * c, dy * s
    if slip == "gate and value swapped":
        ds, dc = dy * s, dy * c
    slope = {"no slope": np.ones_like(s), "slope of a": a * (1 - a)}.get(slip, s * (1 - s))
    da = ds * slope
    one, two = da @ d["w"].T, dc @ d["v"].T
    if slip == "weights swapped":
        one = da @ d["v"].T
    dx = {"gate only": one, "value only": two}.get(slip, one + two)
    return {"w": d["x"].T @ da, "v": d["x"].T @ dc, "x": dx}


GATE = Network(
    "a gated layer with the absolute error",
    """
    a[b,k] = sum[i](x[b,i] * w[i,k])
    c[b,k] = sum[i](x[b,i] * v[i,k])
    s[b,k] = sigmoid(a[b,k])
    y[b,k] = s[b,k] * c[b,k]
    E = sum[b,k](abs(y[b,k] - t[b,k]))
    """,
    _gate_data,
    _gate,
    {
        "sign": ("w", SIGN),
        "squared": ("v", named("another loss")),
        "mean": ("x", named("mean for sum")),
        "gate and value swapped": ("v", named("two tensors swapped")),
        "no slope": ("w", MISSING),
        "slope of a": ("x", AT_WRONG),
        "weights swapped": ("x", named("two tensors swapped")),
        "gate only": ("x", PATH),
        "value only": ("x", PATH),
    },
)

NETWORKS = (
    DENSE,
    CNN,
    SOFTMAX,
    STRIDED,
    TIES,
    NORM,
    AVERAGE,
    SKIP,
    RECURRENT,
    CHANNELS,
    LOGISTIC,
    GATE,
)


def telling(network: Network, slip: str, wrt: str, seed: int) -> tuple[Data, Floats]:
    """Data on which the slip shows (a tie must be there to be split), and the wrong gradient."""
    for attempt in range(100):
        data = network.data(np.random.default_rng(1000 * attempt + seed))
        right, wrong = (np.asarray(network.gradient(data, s)[wrt]) for s in ("", slip))
        if right.shape != wrong.shape or not np.allclose(right, wrong, rtol=1e-3, atol=0):
            if np.count_nonzero(wrong) > 1 or wrong.size < 3:
                return data, wrong
    raise AssertionError(f"{network.name}: {slip} changes nothing")
