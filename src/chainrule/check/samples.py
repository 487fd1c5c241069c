"""Points to try a formula at: small shapes that fit a program, and numbers without ties."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice

import numpy as np

from chainrule.dims import Dim, number
from chainrule.errors import FormulaError
from chainrule.expr import Size
from chainrule.functions import Array
from chainrule.ranges import Shape, numeric, symbolic
from chainrule.system import System

_TRIES, _GROWTH, _ELEMENTS = 400, 6, 120


class Shapes:
    """Sizes of a program's inputs that fit together; those it forces to agree are not chosen."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.ranges = symbolic(system)
        rank = {t: len(self.ranges.tensors.get(t, ())) for t in system.inputs}
        self.sizes = {t: [Size(t, k) for k in range(n)] for t, n in rank.items()}
        every = [s for sizes in self.sizes.values() for s in sizes]
        self.free = [s for s in every if s not in self.ranges.equal]

    def of(self, values: Sequence[int]) -> dict[str, Shape] | None:
        """The shapes, with these values for the free sizes; None where they do not fit."""
        known = dict(zip(self.free, values, strict=True))

        def value(s: Size) -> Dim:
            if s in known:
                return number(known[s])
            return self.ranges.canonical(self.ranges.equal[s]).map(value)

        shapes: dict[str, Shape] = {}
        for t, sizes in self.sizes.items():
            dims = [value(s).value for s in sizes]
            if any(d is None or d < 1 for d in dims):
                return None
            shapes[t] = tuple(d for d in dims if d is not None)
        try:
            numeric(self.system, shapes)
        except FormulaError:
            return None
        return shapes

    def smallest(self) -> Iterator[tuple[int, ...]]:
        """Values that fit, in the order of their sum."""
        for values in islice(_by_total(len(self.free)), _TRIES):
            if self.of(values) is not None:
                yield values

    def grown(self, start: Sequence[int], seed: int) -> dict[str, Shape] | None:
        """From values that fit, sizes made larger one at a time, until none is 1 or equal."""
        rng = np.random.default_rng(seed)
        values = list(start)
        best = self.of(values)
        for step in range(_GROWTH * len(values)):
            more = values.copy()
            for k in rng.choice(len(values), min(len(values), 1 + step % 2), replace=False):
                more[k] += int(rng.integers(1, 3)) if step % 4 < 2 else 1
            shapes = self.of(more) if max(more) <= 9 else None
            if shapes is not None and sum(map(math.prod, shapes.values())) <= _ELEMENTS:
                values, best = more, shapes
        return best

    def smaller(self, shapes: dict[str, Shape]) -> Iterator[dict[str, Shape]]:
        """Shapes that fit with one size, or two at once, smaller by 1."""
        values = [shapes[s.tensor][s.axis] for s in self.free]
        n = len(values)
        for fewer in ({a, b} for a in range(n) for b in range(a, n)):
            less = [v - (k in fewer) for k, v in enumerate(values)]
            if min(less) >= 1 and (found := self.of(less)) is not None:
                yield found


def telling(system: System, limit: int) -> list[dict[str, Shape]]:
    """A few shapes: the smallest ones, and some where a wrong formula has nowhere to hide."""
    shapes = Shapes(system)
    first = list(islice(shapes.smallest(), limit))
    out = [s for values in first if (s := shapes.of(values)) is not None]
    if first and shapes.free:
        large = [shapes.grown(first[-1], seed) for seed in range(2)]
        out += [s for s in large if s is not None]
    return out


def _by_total(n: int) -> Iterator[tuple[int, ...]]:
    for total in range(n, 6 * n + 1):
        yield from _adding_up_to(total, n)


def _adding_up_to(total: int, n: int) -> Iterator[tuple[int, ...]]:
    if n == 0:
        if total == 0:
            yield ()
        return
    for first in range(1, min(7, total - n + 1) + 1):
        for rest in _adding_up_to(total - first, n - 1):
            yield (first, *rest)


def arrays(system: System, shapes: dict[str, Shape], seed: int) -> dict[str, Array]:
    """Exact numbers for the inputs: within ±3, no two of a tensor equal; labels are 0 or 1."""
    rng = np.random.default_rng(seed)
    out = {}
    for t, shape in shapes.items():
        n = math.prod(shape)
        if _holds_labels(system, t):
            values = [Fraction(int(v)) for v in rng.integers(0, 2, n)]
        else:
            most = max(12, 2 * n)
            picked = rng.permutation(np.concatenate([np.arange(-most, 0), np.arange(1, most + 1)]))
            values = [Fraction(int(v), -(-most // 3)) for v in picked[:n]]
        array = np.empty(n, dtype=object)
        array[:] = values
        out[t] = array.reshape(shape)
    return out


def _holds_labels(system: System, t: str) -> bool:
    return t in system.labels
