"""Published numbers, and how far ours may be from them.

A printed number carries its own tolerance: half a unit of its last digit when it was rounded, a
whole unit when the author cut it off (or computed it from inputs that were already rounded).
Keeping the numbers as the text their author printed keeps that information.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import chainrule as cr

Floats = NDArray[np.float64]

# Half a unit in the last place, and a hair for the last bit of the comparison itself.
_ROUNDED = 0.5 + 1e-6
_CUT = 1.0 + 1e-6


@dataclass(frozen=True)
class Published:
    """Numbers as printed, and the distance at which ours still count as the same."""

    values: Floats
    tolerance: Floats

    def assert_matches(self, actual: ArrayLike, label: str = "") -> None:
        """Assert that `actual` is these numbers; a single row stands for any shape, flattened."""
        ours = np.asarray(actual, dtype=np.float64)
        if self.values.ndim == 1:
            ours = ours.reshape(-1)
        assert ours.shape == self.values.shape, f"{label}: {ours.shape} != {self.values.shape}"
        worst = np.max(np.abs(ours - self.values) - self.tolerance, initial=-np.inf)
        assert worst <= 0, f"{label}: ours {ours.tolist()}, published {self.values.tolist()}"


def _table(text: str) -> list[list[Decimal]]:
    """Read rows of numbers: `;` between rows, blanks between numbers."""
    return [[Decimal(number) for number in row.split()] for row in text.split(";")]


def _published(text: str, units: float) -> Published:
    table = _table(text)
    last_place = [[10.0 ** int(n.as_tuple().exponent) for n in row] for row in table]
    values = np.array([[float(n) for n in row] for row in table])
    tolerance = units * np.array(last_place)
    return Published(*(a[0] if len(table) == 1 else a for a in (values, tolerance)))


def rounded(text: str) -> Published:
    """Numbers printed rounded: ours round to every printed digit."""
    return _published(text, _ROUNDED)


def cut(text: str) -> Published:
    """Numbers whose last digit was cut off, or was computed from rounded inputs."""
    return _published(text, _CUT)


def exact(numbers: str | ArrayLike) -> Published:
    """Numbers that are exactly right: only the rounding of float64 is forgiven."""
    values = _published(numbers, 0.0).values if isinstance(numbers, str) else numbers
    array = np.asarray(values, dtype=np.float64)
    return Published(np.atleast_1d(array), 1e-12 * np.maximum(1.0, np.abs(np.atleast_1d(array))))


@dataclass(frozen=True)
class Example:
    """A published example: where, the network as a program, its data, the numbers it prints.

    With `of`, the gradients (names that begin with δ) are of that tensor; where it is no scalar,
    its own δ is part of the data. `differences` names inputs whose whole gradient is checked by
    central differences as well.
    """

    name: str
    source: str
    text: str
    data: Mapping[str, ArrayLike]
    expect: Mapping[str, Published]
    of: str = ""
    differences: tuple[str, ...] = ()
    note: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.name


def arrays(data: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """The data as float64 arrays (integers stay integers: exact runs and labels want them)."""
    return {name: np.asarray(value) for name, value in data.items()}


def gradients(text: str, of: str, wrt: list[str], data: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """Forward values and gradients together."""
    return cr.Program(text).gradient(of=of, wrt=wrt).run(**arrays(data))


def central_difference(
    text: str, of: str, wrt: str, data: Mapping[str, ArrayLike], step: float = 1e-5
) -> Floats:
    """∂of/∂wrt by central differences; where `of` is no scalar, of its product with its δ."""
    program = cr.Program(text)
    values = {name: np.asarray(value, dtype=np.float64) for name, value in data.items()}
    weight = values.pop("δ" + of, np.float64(1.0))
    point = values[wrt]
    slope = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        ends = []
        for sign in (1.0, -1.0):
            moved = point.copy()
            moved[place] += sign * step
            ends.append(np.sum(weight * program.run(**{**values, wrt: moved})[of]))
        slope[place] = (ends[0] - ends[1]) / (2 * step)
    return slope


def check(example: Example) -> None:
    """Every published number of the example, from its program text."""
    wrt = [name[1:] for name in example.expect if name.startswith("δ")]
    if example.of:
        wrt += [name for name in example.differences if name not in wrt]
        out = gradients(example.text, example.of, wrt, example.data)
    else:
        out = cr.Program(example.text).run(**arrays(example.data))
    for name, published in example.expect.items():
        published.assert_matches(out[name], f"{example.name}: {name}")
    for name in example.differences:
        slope = central_difference(example.text, example.of, name, example.data)
        np.testing.assert_allclose(out["δ" + name], slope, rtol=1e-6, atol=1e-8, err_msg=name)
