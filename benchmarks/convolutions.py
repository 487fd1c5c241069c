"""Single convolutions: forward, weight gradient and input gradient, each timed alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.peers import torch
from chainrule import Program
from chainrule.errors import FormulaError

PASSES = ("forward", "weight gradient", "input gradient")


@dataclass(frozen=True)
class Convolution:
    """One layer of a published network; `size` has one entry in 1-D, two in 2-D."""

    name: str
    batch: int
    size: tuple[int, ...]
    channels: int
    outputs: int
    kernel: int
    stride: int = 1
    depthwise: bool = False

    @property
    def padding(self) -> int:
        """As the networks have it: half the kernel."""
        return self.kernel // 2

    @property
    def out_size(self) -> tuple[int, ...]:
        """Positions of the output."""
        return tuple((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in self.size)

    def multiply_adds(self) -> int:
        """Of one pass over the batch, taps on padding left out."""
        per_axis = []
        for n, m in zip(self.size, self.out_size, strict=True):
            taps = [
                self.stride * i + k - self.padding for i in range(m) for k in range(self.kernel)
            ]
            per_axis.append(sum(0 <= tap < n for tap in taps))
        channels = self.channels if self.depthwise else self.channels * self.outputs
        return self.batch * channels * int(np.prod(per_axis))

    def formula(self) -> str:
        """The forward statement, channels last."""
        places = ["ij"[k] for k in range(len(self.size))]
        offsets = ["mn"[k] for k in range(len(self.size))]
        left = ",".join(f"{i}:{n}" for i, n in zip(places, self.out_size, strict=True))
        shift = f"-{self.padding}" if self.padding else ""
        factor = f"{self.stride}*" if self.stride > 1 else ""
        read = ",".join(f"{factor}{i}+{m}{shift}" for i, m in zip(places, offsets, strict=True))
        taps, o = ",".join(offsets), "pad(o)" if self.padding else "o"
        if self.depthwise:
            return f"x[b,{left},k] = sum[{taps}](w[{taps},k] * {o}[b,{read},k])"
        return f"x[b,{left},k] = sum[{taps},c](w[{taps},c,k] * {o}[b,{read},c])"

    def arrays(self) -> dict[str, Any]:
        """Inputs, weights and the cotangent d of the output, all normal."""
        draw = np.random.default_rng(0)
        taps = (self.kernel,) * len(self.size)
        depth = (self.outputs,) if self.depthwise else (self.channels, self.outputs)
        shapes = {
            "o": (self.batch, *self.size, self.channels),
            "w": (*taps, *depth),
            "d": (self.batch, *self.out_size, self.outputs),
        }
        return {name: draw.normal(size=s).astype("f4") for name, s in shapes.items()}


SHAPES = (
    Convolution("vgg-11 conv2", 2, (112, 112), 64, 128, 3),
    Convolution("vgg-11 conv4", 2, (56, 56), 256, 256, 3),
    Convolution("vgg-11 conv8", 4, (14, 14), 512, 512, 3),
    Convolution("resnet-18 stem", 4, (224, 224), 3, 64, 7, 2),
    Convolution("resnet-18 conv2", 4, (56, 56), 64, 64, 3),
    Convolution("resnet-18 conv3 down", 4, (56, 56), 64, 128, 3, 2),
    Convolution("resnet-18 shortcut 1x1", 8, (56, 56), 64, 128, 1, 2),
    Convolution("resnet-18 conv5", 8, (7, 7), 512, 512, 3),
    Convolution("mobilenet depthwise", 4, (112, 112), 32, 32, 3, 1, True),
    Convolution("mobilenet depthwise down", 4, (56, 56), 128, 128, 3, 2, True),
    Convolution("mobilenet 1x1", 8, (14, 14), 512, 512, 1),
    Convolution("sensor 1-D", 16, (1024,), 16, 32, 9),
)


def ours(shape: Convolution, threads: int) -> dict[str, Callable[[int], Any]]:
    """One native function a pass; the gradients are derived from the formula."""
    given = shape.arrays()
    forward = shape.formula()
    places = "ij"[: len(shape.size)]
    at = f"b,{','.join(places)},k"
    objective = f"{forward}\nE = sum[{at}](x[{at}] * d[{at}])\n"
    w_at, o_at = "p,q,r,s"[: 2 * given["w"].ndim - 1], "b,p,q,r"[: 2 * given["o"].ndim - 1]
    texts = {
        "forward": (forward, "x", ("o", "w")),
        "weight gradient": (objective + f"g[{w_at}] = grad(E, w)[{w_at}]", "g", ("o", "w", "d")),
        "input gradient": (objective + f"g[{o_at}] = grad(E, o)[{o_at}]", "g", ("o", "w", "d")),
    }
    runs = {}
    for kind, (text, out, names) in texts.items():
        call = Program(text).compile(threads=threads)
        arrays = {name: given[name] for name in names}

        def run(
            n: int, call: Any = call, arrays: Any = arrays, wanted: Any = (out,)
        ) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for _ in range(n):
                found = call(outputs=list(wanted), **arrays)
            return found

        runs[kind] = run
    return runs


def peers(shape: Convolution) -> dict[str, dict[str, Callable[[int], Any]]]:
    """The same passes in PyTorch, in both orders of memory (1-D has one)."""
    given = shape.arrays()
    axes = len(shape.size)
    first = (0, axes + 1, *range(1, axes + 1))
    o, d = (torch.from_numpy(np.ascontiguousarray(given[k].transpose(first))) for k in "od")
    weights = given["w"][..., None, :] if shape.depthwise else given["w"]
    w = torch.from_numpy(np.ascontiguousarray(weights.transpose(axes + 1, axes, *range(axes))))
    variants = {"eager": (o, w, d)}
    if axes == 2:
        variants["channels_last"] = tuple(
            a.contiguous(memory_format=torch.channels_last) for a in (o, w, d)
        )
    found: dict[str, dict[str, Callable[[int], Any]]] = {kind: {} for kind in PASSES}
    stride, padding = [shape.stride] * axes, [shape.padding] * axes
    groups = shape.channels if shape.depthwise else 1
    for name, (oo, ww, dd) in variants.items():

        def forward(n: int, oo: Any = oo, ww: Any = ww) -> Any:
            with torch.inference_mode():
                for _ in range(n):
                    out = torch.convolution(
                        oo, ww, None, stride, padding, [1] * axes, False, [0] * axes, groups
                    )
            return out

        def gradient(n: int, which: int, oo: Any = oo, ww: Any = ww, dd: Any = dd) -> Any:
            mask = [which == 0, which == 1, False]
            with torch.inference_mode():
                for _ in range(n):
                    out = torch.ops.aten.convolution_backward(
                        dd, oo, ww, None, stride, padding, [1] * axes, False, [0] * axes, groups,
                        mask,
                    )  # fmt: skip
            return out[which]

        found["forward"][name] = forward
        found["weight gradient"][name] = lambda n, g=gradient: g(n, 1)
        found["input gradient"][name] = lambda n, g=gradient: g(n, 0)
    return found


def measure(threads: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each shape and pass: rates, ratio to PyTorch's best, GFLOP/s."""
    rows = []
    peak = timing.Peak(threads)
    for shape in SHAPES:
        try:
            mine = ours(shape, threads)
        except (AttributeError, FormulaError, NotImplementedError):
            mine = {}
        theirs = peers(shape) if torch is not None else {kind: {} for kind in PASSES}
        for kind in PASSES:
            runs = dict(theirs[kind])
            if kind in mine:
                runs["chainrule"] = mine[kind]
            runs["peak"] = peak.run
            difference = _difference(shape, kind, mine, theirs)
            # short turns, but many: a neighbour on the machine may take a core for some of them
            rates = timing.medians(timing.interleave(runs, rounds, seconds=0.08))
            limit = peak.flops(rates.pop("peak"))
            best = max((r for name, r in rates.items() if name != "chainrule"), default=None)
            flops = 2.0 * shape.multiply_adds()
            own = rates.get("chainrule")
            rows.append(
                {
                    "shape": shape.name,
                    "pass": kind,
                    "per_second": rates,
                    "gflops": {name: flops * r / 1e9 for name, r in rates.items()},
                    "peak_gflops": limit / 1e9,
                    "share_of_peak": own * flops / limit if own else None,
                    "ratio": own / best if own and best else None,
                    "largest_difference": difference,
                }
            )
            print(row_text(rows[-1]), flush=True)
    return rows


def _difference(
    shape: Convolution, kind: str, mine: dict[str, Any], theirs: dict[str, dict[str, Any]]
) -> float | None:
    """How far the two results are apart, as a share of the largest element."""
    if kind not in mine or not theirs[kind]:
        return None
    (own,) = mine[kind](1).values()
    peer = theirs[kind]["eager"](1).numpy()
    axes = len(shape.size)
    if kind == "weight gradient":
        peer = peer.transpose(*range(2, axes + 2), 1, 0)
        peer = peer[..., 0, :] if shape.depthwise else peer
    else:
        peer = peer.transpose(0, *range(2, axes + 2), 1)
    return float(np.max(np.abs(own - peer)) / np.max(np.abs(peer)))


def row_text(row: dict[str, Any]) -> str:
    """One line for the terminal."""
    speeds = "  ".join(f"{name} {g:6.1f}" for name, g in row["gflops"].items())
    ratio = f"{row['ratio']:.2f}x" if row["ratio"] else "-"
    apart = row["largest_difference"]
    agree = f"   agree to {apart:.0e}" if apart is not None else ""
    return f"{row['shape']:26} {row['pass']:16} {ratio:>7}   GFLOP/s: {speeds}{agree}"


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric mean and least of the ratios."""
    ratios = [r["ratio"] for r in rows if r["ratio"]]
    if not ratios:
        return {"geometric_mean": None, "least": None}
    return {"geometric_mean": statistics.geometric_mean(ratios), "least": min(ratios)}
