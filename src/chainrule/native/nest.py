"""What a loop nest is.

Nest = for loops: target[store] = body
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import cast

from chainrule.expr import (
    Access,
    Affine,
    Expr,
    Index,
    Reduce,
    affine,
    rebuild,
    substitute,
    tensors,
    walk,
)

Extent = int | None  # None: the batch
RESULT = "·"  # in a body: the results of its nest's transform


@dataclass(frozen=True)
class Transform:
    """A matrix times a tile of a tensor, along each axis of the tile.

    source   the first element of the tile
    axes     of the tensor, for each axis of the tile; and how far apart there neighbours are
    name     the matrix's, for people
    """

    matrix: tuple[tuple[Fraction, ...], ...]
    source: Access
    axes: tuple[tuple[int, int], ...]
    name: str

    @property
    def reads(self) -> tuple[Access, ...]:
        """The first element and the last, if the tile may reach outside."""
        e, far = self.source, list(positions(self.source))
        if e.pad is None:
            return (e,)
        for axis, step in self.axes:
            far[axis] = affine(far[axis].terms, far[axis].offset + step * (len(self.matrix[0]) - 1))
        return e, Access(e.tensor, tuple(far), e.pad)


@dataclass(frozen=True)
class Nest:
    """for loops: target[store] = body.

    `lane` is set where the body is a sum over samples, collected block by block: the index of
    the samples in it.  With `spread`, threads share out the results, not the samples.

    carry    an index of the loops, not of the results: what its values give is added up
    transform  what a tile's values go through first: into the target, numbered on its axis
             `products`, or to be read by the body as RESULT[0], RESULT[1], ...
    at_once  indices of which a tile has all values
    guards   numbers that have to be small for the nest to run; with `plain`, it runs if one is not
    group    neighbours of the same group run a few samples at a time, one after another, so that
             what they alone read and write stays near
    """

    target: str
    loops: tuple[str, ...]
    store: tuple[Affine, ...]
    body: Expr
    extents: Mapping[str, Extent]
    lane: str | None = None
    spread: bool = False
    carry: str | None = None
    transform: Transform | None = None
    products: int | None = None
    at_once: tuple[str, ...] = ()
    guards: tuple[Access, ...] = ()
    plain: bool = False
    group: str = ""

    @cached_property
    def sample(self) -> str | None:
        """The index that runs over a block's samples: on the result's first axis, or summed."""
        if self.lane is not None or self.spread:
            return self.lane
        name = self.store[0].bare if self.store else None
        return name if name is not None and self.extents[name] is None else None

    def values(self, names: Iterable[str]) -> int:
        """How many values some indices have together, of the samples one."""
        return math.prod(self.extents[i] or 1 for i in dict.fromkeys(names))

    @cached_property
    def reads(self) -> dict[str, None]:
        """The tensors that the nest reads, in order."""
        read = [self.body, *(self.transform.reads if self.transform else ()), *self.guards]
        found = {t: None for e in read for t in tensors(e)}
        found.pop(RESULT, None)
        return found

    def accesses(self) -> list[Access]:
        """Every access of the nest, each once."""
        return self._accesses

    @cached_property
    def _accesses(self) -> list[Access]:
        parts = dict.fromkeys(walk(self.body))
        parts |= dict.fromkeys(self.transform.reads if self.transform else ())
        found = [e for e in parts if isinstance(e, Access) and e.tensor != RESULT]
        return [*found, *self.guards]


def positions(e: Access) -> tuple[Affine, ...]:
    """The axes of an access in a nest, where no groups are left."""
    return cast("tuple[Affine, ...]", e.axes)


def at(nest: Nest, values: Mapping[str, Affine], extents: Mapping[str, Extent]) -> Nest:
    """The nest with forms in place of its indices, summed ones too; without an extent they go."""

    def go(e: Expr) -> Expr:
        match e:
            case Access() | Index():
                return substitute(e, values)
            case Reduce(op, binders, body) if any(n in values for n in e.names):
                kept = tuple(b for b in binders if b[0] in extents)
                return Reduce(op, kept, go(body)) if kept else go(body)
        return rebuild(e, go)

    loops = tuple(n for n in nest.loops if n in extents)
    store = tuple(a.at(values) for a in nest.store)
    assert nest.transform is None
    return replace(nest, loops=loops, store=store, body=go(nest.body), extents=extents)


def replaced(e: Expr, values: Mapping[Expr, Expr]) -> Expr:
    """e with nodes in place of others."""
    return values[e] if e in values else rebuild(e, lambda c: replaced(c, values))
