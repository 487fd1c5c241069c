"""Programs that native code is tried on, each with sizes and with what is differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import Program

# text, the shapes of its inputs, what is differentiated (None: nothing)
PROGRAMS: dict[str, tuple[str, dict[str, tuple[int, ...]], str | None]] = {
    "strided, dilated, padded": (
        "y[b,i:5,k] = sum[m,c](w[m,c,k] * pad(x)[b,2*i+3*m-2,c])",
        {"x": (3, 11, 4), "w": (3, 4, 18)},
        "y",
    ),
    "large images": (
        "y[b,i:60,j:31,k] = sum[m,n,c](w[m,n,c,k] * pad(x)[b,i+m-1,2*j+n-1,c])",
        {"x": (3, 60, 62, 32), "w": (3, 3, 32, 20)},
        "y",
    ),
    "three dimensions": (
        "y[b,i,j,l,k] = sum[m,n,p](w[m,n,p,k] * x[b,i+m,2*j+n,l+2*p])",
        {"x": (2, 5, 6, 7), "w": (2, 3, 2, 3)},
        "y",
    ),
    "depthwise": (
        "y[b,i:9,j:8,k] = sum[m,n](w[m,n,k] * pad(x)[b,i+m-1,j+n-1,k])",
        {"x": (2, 9, 8, 20), "w": (3, 3, 20)},
        "y",
    ),
    "depthwise and strided": (
        "y[b,i:5,j:6,k] = sum[m,n](w[m,n,k] * pad(x)[b,2*i+m-1,2*j+n-1,k])",
        {"x": (4, 9, 11, 32), "w": (3, 3, 32)},
        "y",
    ),
    "wide": (  # its weights are put into panels
        "y[b,i:6,j:5,k] = sum[m,n,c](w[m,n,c,k] * pad(x)[b,i+m-1,j+n-1,c])",
        {"x": (2, 6, 5, 64), "w": (3, 3, 64, 128)},
        "y",
    ),
    "wide and strided": (  # a first column needs what is outside: it is cut off
        "y[b,i:5,j:29,k] = sum[m,n,c](w[m,n,c,k] * pad(x)[b,2*i+m-1,2*j+n-1,c])",
        {"x": (2, 10, 58, 6), "w": (3, 3, 6, 128)},
        None,
    ),
    "wide and strided, with a copy": (  # for the gradient of the weights, so nothing is cut
        "y[b,i:5,j:29,k] = sum[m,n,c](w[m,n,c,k] * pad(x)[b,2*i+m-1,2*j+n-1,c])",
        {"x": (2, 10, 58, 6), "w": (3, 3, 6, 128)},
        "y",
    ),
    "wide, with the channel's number": (
        "y[b,i:8,j:8,k] = sum[m,n,c](w[m,n,c,k] * pad(x)[b,i+m-1,j+n-1,c]) * (k < 40) + k",
        {"x": (2, 8, 8, 64), "w": (3, 3, 64, 128)},
        None,
    ),
    "wide and pointwise": (  # its data is put into panels
        "y[b,i,k] = sum[c](w[c,k] * x[b,i,c])",
        {"x": (4, 5, 256), "w": (256, 300)},
        "y",
    ),
    "tiles beside a sum of wide data": (
        "y[b,i:20,j:20,k] = sum[m:3,n:3,c](w[m,n,c,k]*pad(x)[b,i+m-1,j+n-1,c])"
        " + sum[q,r](a[i,j,q,r]*z[b,q,r,k])",
        {"x": (2, 20, 20, 16), "w": (3, 3, 16, 256), "z": (2, 3, 2, 256), "a": (20, 20, 3, 2)},
        None,
    ),
    "tiles beside a sum of many weights": (
        "y[b,i:16,j:16,k] = sum[m:3,n:3,c](w[m,n,c,k]*pad(x)[b,i+m-1,j+n-1,c])"
        " + sum[m:17,n:17](v[m,n,k]*pad(z)[b,i+m-8,j+n-8,k])",
        {"x": (2, 16, 16, 16), "w": (3, 3, 16, 256), "z": (2, 16, 16, 256), "v": (17, 17, 256)},
        None,
    ),
    "wide weights' gradients": (  # of data in panels
        "h[b,i:4,j:3,k] = tanh(sum[m,n,c](w[m,n,c,k] * pad(x)[b,i+m-1,j+n-1,c]))\n"
        "y[b,k] = sum[i,j,c](v[i,j,c,k] * h[b,i,j,c])",
        {"x": (3, 4, 3, 256), "w": (3, 3, 256, 256), "v": (4, 3, 256, 2)},
        "y",
    ),
    "dense": (  # shared out by results
        "y[b,k] = tanh(sum[i,c](w[i,c,k] * x[b,i,c]) + a[k])",
        {"x": (20, 6, 90), "w": (6, 90, 130), "a": (130,)},
        "y",
    ),
    "grouped": (
        "y[b,i,(g,k)] = sum[m,c](w[g,m,c,k] * x[b,i+m,(g,c)])",
        {"x": (2, 9, 6), "w": (3, 2, 2, 5)},
        "y",
    ),
    "overlapping windows": (
        "y[b,i,k] = max[m:3](x[b,2*i+m,k])\nE = sum[b,i,k](y[b,i,k]**2)",
        {"x": (2, 12, 5)},
        "E",
    ),
    "padded with minus infinity": (
        "y[i:6,k] = max[m:3](pad(x, -inf)[i+m-1,k])",
        {"x": (6, 5)},
        "y",
    ),
    "a pool of every place": (
        "y[b,i:6,j:6,k] = max[m:3,n:3](pad(x, -inf)[b,i+m-1,j+n-1,k])\n"
        "E = sum[b,i,j,k](y[b,i,j,k]**2)",
        {"x": (3, 6, 6, 3)},
        "E",
    ),
    "a minimum of every place": (
        "y[b,i:5,j:7,k] = min[m:3,n:3](pad(x, 2)[b,i+m-1,j+n-1,k])",
        {"x": (2, 5, 7, 5)},
        "y",
    ),
    "padded with minus one": (
        "y[b,i:6,j:6] = sum[m,n,k](w[m,n,k] * pad(x, -1)[b,i+m-1,j+n-1,k])",
        {"x": (3, 6, 6, 3), "w": (3, 3, 3)},
        "y",
    ),
    "padded with a half, few results": (
        "y[b,i:12,j:12,c] = sum[m,n,k](w[m,n,k,c] * pad(x, 1/2)[b,i+m-2,j+n-2,k])",
        {"x": (9, 12, 12, 4), "w": (5, 5, 4, 3)},
        "y",
    ),
    "batch normalisation": (
        "μ[k] = mean[b](x[b,k])\n"
        "v[k] = mean[b]((x[b,k] - μ[k])**2)\n"
        "y[b,k] = γ[k] * (x[b,k] - μ[k]) / sqrt(v[k] + 0.001) + β[k]\n"
        "E = sum[b,k](y[b,k]**3)",
        {"x": (21, 17), "γ": (17,), "β": (17,)},
        "E",
    ),
    "samples that meet": (
        "s[b,c] = sum[k](x[b,k] * x[c,k])\n"
        "p[b,c] = exp(s[b,c] - logsumexp[d](s[b,d]))\n"
        "y[b,k] = sum[c](p[b,c] * x[c,k])",
        {"x": (6, 5)},
        "y",
    ),
    "groups": (
        "y[(b,i),k] = x[b,(i,k)] * g[i]\nz[b,(k,i)] = y[(b,i),k] + g[i]",
        {"x": (3, 8), "g": (2,)},
        "z",
    ),
    "functions": (
        "y[i] = exp(x[i]) + log(x[i]**2 + 1) + sigmoid(x[i])*tanh(x[i]) + gelu(x[i])\n"
        "z[i] = silu(x[i]) - softplus(x[i]) + erf(x[i]) + sin(x[i])*cos(x[i]) + abs(x[i])\n"
        "q[i] = sqrt(abs(x[i])) + sign(x[i]) + maximum(x[i], 0.3) + minimum(x[i], y[i])\n"
        "r[i] = where(x[i] > 0, log(x[i]), x[i]**3) + (x[i]**2 + 1)**(1/3) + i*x[i]/2",
        {"x": (37,)},
        None,
    ),
    "reductions": (
        "a = prod[i](x[i])\nb = min[i](x[i])\nc = argmax[i](x[i])\nd = logsumexp[i](x[i])\n"
        "e = mean[i](x[i])\nf = sum[i](x[i]*(i > 3))\ng[i:size(x,0)] = sum[j](x[j]*(j <= i))",
        {"x": (41,)},
        None,
    ),
    "two updates that read each other": (
        "E = sum[i](w[i]**2 * x[i])\n"
        "m[i] = 0.9*m[i] + grad(E, w)[i]\n"
        "w[i] = w[i] - 0.1*(0.9*m[i] + grad(E, w)[i]) + 0.001*w[(1+0)*i]",
        {"w": (19,), "m": (19,), "x": (19,)},
        None,
    ),
}


def case(name: str) -> tuple[Program, dict[str, Any]]:
    """One of them, with its gradient if it has one, and random arrays for it."""
    text, shapes, of = PROGRAMS[name]
    rng = np.random.default_rng(7)
    program = Program(text)
    arrays = {t: rng.normal(size=s) for t, s in shapes.items()}
    if of is not None:
        program = program.gradient(of=of)
        if f"δ{of}" in program.inputs:
            arrays[f"δ{of}"] = rng.normal(size=Program(text).shapes(**shapes)[of])
    return program, arrays


def window_case(seed: int, huge: float = 1e30) -> tuple[Program, dict[str, Any]]:
    """A program with a sum over windows of three, drawn by number: layer, gradients, an update.

    In every second, one value is not finite, `huge`, or tiny, and the layer reads inside only.
    """
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 3))
    places, taps = "ij"[:axes], "mn"[:axes]
    outs = [int(n) for n in rng.integers(2, 12, axes)]
    kind, value = int(rng.integers(0, 6)), (np.inf, np.nan, huge, 1e-42)[int(rng.integers(0, 4))]
    odd = kind < 3  # one value is
    padded, flip = bool(rng.integers(0, 3)) and not odd, bool(rng.integers(0, 4) == 0)
    pad = int(rng.integers(0, 4)) if padded else 0
    channels, results, rows = (int(rng.integers(2, n)) for n in (20, 40, 22))
    shift = [
        f"{i}-{m}+{2 - pad}" if flip else f"{i}+{m}-{pad}"
        for i, m in zip(places, taps, strict=True)
    ]
    o = "pad(o)" if padded else "o"
    groups = rng.integers(0, 5) == 0
    g, gi = ("g,", "g:2,") if groups else ("", "")
    size = ",".join(f"{i}:{n}" for i, n in zip(places, outs, strict=True))
    window = ",".join(f"{m}:3" for m in taps)
    all_ = f"b,{','.join(places)},{g}k"
    product = f"w[{','.join(taps)},{g}c,k] * {o}[b,{','.join(shift)},{g}c]"
    act = ("relu", "" if odd else "tanh", "")[int(rng.integers(0, 3))]
    text = (
        f"y[b,{size},{gi}k] = {act}(sum[{window},c]({product}) + a[k])\n"
        f"E = sum[{all_}](y[{all_}]*d[{all_}])"
    )
    if rng.integers(0, 3) == 0:
        w = f"w[{','.join(taps)},{g}c,k]"
        text += f"\n{w} = {w} - 0.01*grad(E, w)[{','.join(taps)},{g}c,k]"
    inner = [max(1, n + int(rng.integers(-2, 4))) if padded else n + 2 for n in outs]
    many = (2,) if groups else ()
    shapes = {
        "o": (rows, *inner, *many, channels),
        "w": (*(3 for _ in taps), *many, channels, results),
        "a": (results,),
        "d": (rows, *outs, *many, results),
    }
    program = Program(text)
    if "grad(" not in text:
        program = program.gradient(of="E")
    arrays = {t: rng.normal(size=s) for t, s in shapes.items()}
    if odd:
        t = ("o", "w", "d")[kind]
        arrays[t].flat[int(rng.integers(0, arrays[t].size))] = value
    return program, {t: arrays[t] for t in program.inputs}


def narrow_case(seed: int) -> tuple[Program, dict[str, Any]]:
    """A layer of few results that nobody asks for, drawn by number, with its gradients."""
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 3))
    places, offsets = "ij"[:axes], "mn"[:axes]
    outs = [int(n) * int(rng.integers(1, 3)) for n in rng.integers(1, 6, axes)]
    taps = [int(n) for n in rng.integers(1, 6, axes)]
    strides = [2 if rng.integers(0, 6) == 0 else 1 for _ in places]
    flip, padded = rng.integers(0, 3) == 0, rng.integers(0, 2) == 1
    shift = int(rng.integers(0, 3)) if padded else 0
    channels, results, rows = (
        int(rng.integers(1, 7)),
        int(rng.integers(3, 5)),
        int(rng.integers(1, 20)),
    )
    sign = "-" if flip else "+"
    read = ",".join(
        f"{s}*{i}{sign}{m}{(t - 1 if flip else 0) - shift:+d}"
        for i, m, t, s in zip(places, offsets, taps, strides, strict=True)
    )
    size = ",".join(f"{i}:{n}" for i, n in zip(places, outs, strict=True))
    window = ",".join(f"{m}:{t}" for m, t in zip(offsets, taps, strict=True))
    at, o = ",".join(places), "pad(o)" if padded else "o"
    last = bool(rng.integers(0, 2))
    w = f"w[{','.join(offsets)},c,k]" if last else f"w[k,c,{','.join(offsets)}]"
    rest = ("", "+ a[k]", f"+ r[b,{at},k]", "* (k < 3)", "+ a[k]*u[b]", "* i")[
        int(rng.integers(0, 6))
    ]
    act = ("relu", "tanh", "")[int(rng.integers(0, 3))]
    program = Program(
        f"h[b,{size},k] = {act}(sum[{window},c]({w}*{o}[b,{read},c]) {rest})\n"
        f"z[b,k] = sum[{at}](h[b,{at},k]**2)\nE = sum[b,k](z[b,k]*d[b,k])"
    ).gradient(of="E")
    lengths = zip(outs, taps, strides, strict=True)
    inner = [
        max(1, n * s + int(rng.integers(-2, 3))) if padded else (n - 1) * s + t
        for n, t, s in lengths
    ]
    shapes = {
        "o": (rows, *inner, channels), "a": (results,), "r": (rows, *outs, results), "u": (rows,),
        "w": (*taps, channels, results) if last else (results, channels, *taps),
        "d": (rows, results),
    }  # fmt: skip
    return program, {t: rng.normal(size=shapes[t]) for t in program.inputs}
