"""Every convolution there is in the small: forward, and the gradients of weight, bias and input.

1, 2 and 3 dimensions; stride, dilation and kernel 1 to 3; padding 0 to 2; odd and even sizes; one
channel, several, and two groups: 1,458 of them. The forward pass must be SciPy's, the gradients
those of another autodiff library, and by exact fractions the literal meaning's. All data are small
whole numbers, so that every comparison is for equality, floats included.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
import scipy.signal

import chainrule as cr
import oracle

Array = np.ndarray[Any, Any]
AXES, KERNEL = "ijl", "mnq"
CHANNELS = [(1, 1, 1), (3, 2, 1), (4, 2, 2)]  # channels in, channels out, groups


@dataclass(frozen=True)
class Convolution:
    dims: int
    stride: int
    dilation: int
    padding: int
    kernel: int
    odd: bool
    channels: tuple[int, int, int]
    batch: int = 2

    @property
    def span(self) -> int:
        return self.dilation * (self.kernel - 1) + 1

    @property
    def size(self) -> int:
        """The smallest size of that parity with two positions for the kernel."""
        least = max(1, self.span + self.stride - 2 * self.padding)
        return least + (least % 2 != self.odd)

    @property
    def text(self) -> str:
        """The formula. Groups are a tuple group: channel (g,c) is axis entry g * C + c."""
        grouped = self.channels[2] > 1
        axes, kernel = AXES[: self.dims], KERNEL[: self.dims]
        left, reads = [], []
        for axis, (i, m) in enumerate(zip(axes, kernel, strict=True), 1):
            term = f"{self.stride}*{i} + {self.dilation}*{m}"
            if self.padding:
                out = f"(size(o,{axis}) + {2 * self.padding - self.span})//{self.stride} + 1"
                left.append(f"{i}:{out}")
                reads.append(f"{term} - {self.padding}")
            else:
                left.append(i)
                reads.append(term)
        head = "pad(o)" if self.padding else "o"
        result, source = ("(g,k)", "(g,c)") if grouped else ("k", "c")
        weight = ",".join([*kernel, *(["g"] if grouped else []), "c", "k"])
        return (
            f"x[b,{','.join(left)},{result}] = sum[{','.join(kernel)},c]("
            f"w[{weight}] * {head}[b,{','.join(reads)},{source}]) + bias[{result}]"
        )

    def data(self) -> dict[str, Array]:
        draw = np.random.default_rng([self.dims, self.stride, self.kernel, self.odd])
        come, go, groups = self.channels
        spatial, kernel = (self.size,) * self.dims, (self.kernel,) * self.dims
        out = ((self.size + 2 * self.padding - self.span) // self.stride + 1,) * self.dims
        split = (groups,) if groups > 1 else ()
        shapes = {
            "o": (self.batch, *spatial, come),
            "w": (*kernel, *split, come // groups, go // groups),
            "bias": (go,),
            "δx": (self.batch, *out, go),
        }
        return {name: draw.integers(-4, 5, shape).astype(float) for name, shape in shapes.items()}


def convolutions(dims: int, stride: int, dilation: int, batch: int) -> Iterator[Convolution]:
    for padding, kernel, odd, channels in itertools.product(
        (0, 1, 2), (1, 2, 3), (False, True), CHANNELS
    ):
        yield Convolution(dims, stride, dilation, padding, kernel, odd, channels, batch)


@functools.cache
def programs(text: str) -> tuple[cr.Program, cr.Program]:
    p = cr.Program(text)
    g = p.gradient(of="x", wrt=["w", "bias", "o"])
    assert cr.Program(str(p)) == p
    assert cr.Program(str(g)) == g
    return p, g


def gathered(conv: Convolution, o: Any, w: Any, bias: Any) -> Any:
    """The same convolution for the other library: one shifted, strided slice per kernel entry."""
    come, go, groups = conv.channels
    edge = [(0, 0), *[(conv.padding, conv.padding)] * conv.dims, (0, 0)]
    padded = anp.pad(o, edge, mode="constant")
    count = (padded.shape[1] - conv.span) // conv.stride + 1
    total = 0.0
    for offset in itertools.product(range(conv.kernel), repeat=conv.dims):
        starts = [conv.dilation * m for m in offset]
        cut = [slice(at, at + conv.stride * (count - 1) + 1, conv.stride) for at in starts]
        window = padded[(slice(None), *cut)]
        window = anp.reshape(window, (*window.shape[:-1], groups, come // groups))
        kernel = anp.reshape(w[offset], (groups, come // groups, go // groups))
        total = total + anp.einsum("...gc,gck->...gk", window, kernel)
    return anp.reshape(total, (*total.shape[:-2], go)) + bias


def correlated(conv: Convolution, o: Array, w: Array, bias: Array) -> Array:
    """The forward pass by scipy.signal: the kernel stuffed with zeros, the result thinned out."""
    come, go, groups = conv.channels
    edge = [(0, 0), *[(conv.padding, conv.padding)] * conv.dims, (0, 0)]
    padded = np.pad(o, edge)
    kernel = w.reshape(*(conv.kernel,) * conv.dims, groups, come // groups, go // groups)
    stuffed = np.zeros((*(conv.span,) * conv.dims, *kernel.shape[-3:]))
    stuffed[(slice(None, None, conv.dilation),) * conv.dims] = kernel
    thin = (slice(None, None, conv.stride),) * conv.dims
    planes = []
    for out in range(go):
        g, k = divmod(out, go // groups)
        plane = sum(
            np.stack(
                [
                    scipy.signal.correlate(
                        image[..., g * (come // groups) + c],
                        stuffed[..., g, c, k],
                        "valid",
                        "direct",
                    )[thin]
                    for image in padded
                ]
            )
            for c in range(come // groups)
        )
        planes.append(plane + bias[out])
    return np.stack(planes, axis=-1)


CASES = list(itertools.product((1, 2, 3), (1, 2, 3), (1, 2, 3)))


@pytest.mark.parametrize(("dims", "stride", "dilation"), CASES)
def test_against_other_libraries(dims: int, stride: int, dilation: int) -> None:
    for conv in convolutions(dims, stride, dilation, batch=2):
        data = conv.data()
        given = {name: data[name] for name in ("o", "w", "bias")}
        p, g = programs(conv.text)
        expected = correlated(conv, **given)
        same(conv, "x", p.run(**given)["x"], expected)
        back, value = autograd.make_vjp(
            lambda o, w, bias, conv=conv: gathered(conv, o, w, bias), argnum=(0, 1, 2)
        )(*given.values())
        same(conv, "the references", value, expected)
        found = g.run(**data)
        same(conv, "x by the gradient", found["x"], expected)
        for name, slope in zip(given, back(data["δx"]), strict=True):
            same(conv, f"δ{name}", found[f"δ{name}"], slope)


@pytest.mark.parametrize(("dims", "stride", "dilation"), CASES)
def test_by_exact_fractions(dims: int, stride: int, dilation: int) -> None:
    for conv in convolutions(dims, stride, dilation, batch=1):
        if dims == 3 and not small(conv):
            continue
        data = {name: fractions(array) for name, array in conv.data().items()}
        given = {name: data[name] for name in ("o", "w", "bias")}
        p, g = programs(conv.text)
        expected = oracle.run(conv.text, given, exact=True)["x"]
        same(conv, "exact x", p.run(exact=True, **given)["x"], expected)
        found = g.run(exact=True, **data)
        slopes = oracle.gradient(conv.text, given, "x", [*given], exact=True, seed=data["δx"])
        for name, slope in slopes.items():
            same(conv, f"exact δ{name}", found[f"δ{name}"], slope)


def small(conv: Convolution) -> bool:
    return conv.channels == (1, 1, 1) and conv.kernel < 3 and conv.size <= 4


def fractions(array: Array) -> Array:
    """Thirds, so that a number that went through a float on its way cannot be equal."""
    out = np.empty(array.shape, dtype=object)
    for point in np.ndindex(array.shape):
        out[point] = Fraction(int(array[point]), 3)
    return out


def same(conv: Convolution, what: str, found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, f"{what} of {conv}: {found.shape}, {expected.shape}"
    assert np.array_equal(found, expected), f"{what} of {conv}\n{conv.text}\n{found}\n{expected}"
