"""Index ranges for the oracle, by the language's rules and in their order.

A range is found by trying sizes one after the other, not by solving for it: slow, and plain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product

Point = tuple[int, ...]


class OracleError(ValueError):
    """The program breaks a rule of the language."""


class Index:
    """An index of one statement: its size once known, and where its loop stands now."""

    def __init__(self, name: str, size: int | None = None) -> None:
        self.name, self.size, self.at = name, size, 0

    def span(self) -> range:
        if self.size is None:
            raise OracleError(f"nothing fixes the range of {self.name}")
        return range(self.size)


def loop(indices: Sequence[Index]) -> Iterator[Point]:
    for point in product(*(index.span() for index in indices)):
        for index, at in zip(indices, point, strict=True):
            index.at = at
        yield point


class Affine:
    """offset + sum of coefficient * index: one axis of an access, of a tensor `extent` long."""

    def __init__(self, offset: Fraction, terms: dict[Index, Fraction]) -> None:
        self.offset, self.terms = offset, {i: c for i, c in terms.items() if c}
        self.extent, self.padded = 0, False
        # The same over one denominator: whole numbers are quicker where loops turn.
        self.denominator = math.lcm(offset.denominator, *(c.denominator for c in terms.values()))
        self.start = int(offset * self.denominator)
        self.steps = [(i, int(c * self.denominator)) for i, c in self.terms.items()]

    def plus(self, other: Affine, sign: int) -> Affine:
        terms = dict(self.terms)
        for index, factor in other.terms.items():
            terms[index] = terms.get(index, Fraction(0)) + sign * factor
        return Affine(self.offset + sign * other.offset, terms)

    def times(self, factor: Fraction) -> Affine:
        return Affine(self.offset * factor, {i: c * factor for i, c in self.terms.items()})

    def bare(self) -> Index | None:
        if self.offset == 0 and list(self.terms.values()) == [1]:
            return next(iter(self.terms))
        return None

    def position(self) -> int | None:
        value = self.start
        for index, step in self.steps:
            value += step * index.at
        at, rest = divmod(value, self.denominator)
        return at if rest == 0 and 0 <= at < self.extent else None

    def stays_inside(self) -> bool:
        """No combination of the indices' values leaves the axis."""
        low = high = self.offset
        for index, factor in self.terms.items():
            if not index.size:
                return True  # an empty loop reads nothing
            far = factor * (index.size - 1)
            low, high = (low, high + far) if far > 0 else (low + far, high)
        return low >= 0 and high < self.extent

    def largest(self, index: Index) -> int:
        """The largest size of `index` that keeps this axis inside, all other sizes being known."""
        if any(other.size == 0 for other in self.terms if other is not index):
            raise OracleError(f"nothing fixes the range of {index.name}: its window is empty")
        size, index.size = index.size, 0
        while index.size <= self.extent:
            index.size += 1
            if not self.stays_inside():
                break
        found, index.size = index.size - 1, size
        if not found:
            raise OracleError(f"an access leaves its tensor where {index.name} starts")
        return found


class Group:
    """A tuple group `(i, j)`: one axis, row-major."""

    def __init__(self, members: list[Index]) -> None:
        self.members, self.extent = members, 0

    def position(self) -> int:
        at = 0
        for index in self.members:
            at = at * len(index.span()) + index.at
        return at


def settle(indices: Sequence[Index], axes: Sequence[Affine | Group]) -> None:
    """Give every index its size, by the rules and in their order."""
    for axis in axes:
        bare = axis.bare() if isinstance(axis, Affine) else None
        if bare is not None:
            if bare.size not in (None, axis.extent):
                raise OracleError(f"{bare.name}: {bare.size} or {axis.extent}?")
            bare.size = axis.extent
    while waiting := [index for index in indices if index.size is None]:
        for index in waiting:  # what a group leaves over
            index.size = share(index, axes)
            if index.size is not None:
                break
        else:
            for index in waiting:  # or the largest range that stays inside
                sizes = bounds(index, axes)
                if sizes:
                    index.size = min(sizes)
                    break
        if len(waiting) == sum(index.size is None for index in indices):
            raise OracleError(f"nothing fixes {', '.join(i.name for i in waiting)}")
    for axis in axes:
        if isinstance(axis, Group):
            if math.prod(len(i.span()) for i in axis.members) != axis.extent:
                raise OracleError(f"a group of {axis.extent} does not split so")
        elif not axis.padded and not axis.stays_inside():
            raise OracleError("an access leaves its tensor")


def share(index: Index, axes: Sequence[Affine | Group]) -> int | None:
    """The size that makes a group fill its axis, where all the group's other sizes are known."""
    for axis in axes:
        if isinstance(axis, Group) and index in axis.members:
            others = [i.size for i in axis.members if i is not index]
            known = [size for size in others if size is not None]
            if len(known) == len(others):
                if not math.prod(known) or axis.extent % math.prod(known):
                    raise OracleError(f"a group of {axis.extent} does not split by {known}")
                return axis.extent // math.prod(known)
    return None


def bounds(index: Index, axes: Sequence[Affine | Group]) -> list[int]:
    """What each axis allows `index`; nothing while another index of such an axis is unknown."""
    sizes = []
    for axis in axes:
        if isinstance(axis, Affine) and index in axis.terms and not axis.padded:
            if any(i.size is None for i in axis.terms if i is not index):
                return []
            sizes.append(axis.largest(index))
    return sizes
