"""Nests that reach over the border of a tensor, cut into pieces that do not."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from chainrule.expr import Access, Affine, Reduce, affine, walk
from chainrule.native.nest import Nest, at, positions
from chainrule.native.schedule import Plan, reach, settle, with_methods

Shapes = Mapping[str, Sequence[int | None]]
COPY_USES = 256  # readings of an element that outweigh its being copied
_EDGE_USES = 512  # the same where one value of the index to be cut needs what is outside
_PIECES = 9  # nests that one is cut into


@dataclass(frozen=True)
class _Cut:
    """An index, the values of it that are inside for all of the other's, and the rest.

    border   each value of the rest -> the values of the other index for which it is inside
    """

    name: str
    low: int
    high: int
    other: str | None
    border: dict[int, tuple[int, int]]


def pieces(p: Plan, inputs: Container[str], shapes: Shapes) -> list[Plan]:
    """The plan, or plans that do the same together and read inside of given tensors only.

    The inner piece is nearly all; each value of the border is a piece of its own.  So a tensor
    each of whose elements is read only a few times needs no copy with zeros around it.
    """
    n = p.nest
    if n.transform is not None or n.carry is not None:
        return [p]
    beyond = [(e, k) for (e, k), m in p.methods.items()
              if m == "halo" and e.tensor in inputs]  # fmt: skip
    cuts: dict[str, _Cut] = {}
    for e, k in beyond:
        cut = _cut(n, positions(e)[k], shapes[e.tensor][k])
        if cut is None or cuts.setdefault(cut.name, cut) != cut:
            return [p]
        edge = n.lane is None and len(cut.border) == 1
        if uses(n, e, shapes) > (_EDGE_USES if edge else COPY_USES):
            return [p]
    if math.prod(1 + len(c.border) for c in cuts.values()) > _PIECES or (
        n.lane is None and len(cuts) > 1
    ):
        return [p]
    if any(c.high - c.low < p.tile.get(c.name, 1) for c in cuts.values()):
        return [p]
    made = [p]
    for c in cuts.values():
        made = [piece for q in made for piece in _cut_up(q, c)]
    return [settle(with_methods(q), shapes) for q in made]


def _cut(n: Nest, a: Affine, length: int | None) -> _Cut | None:
    """Where to cut an index, so that a position is inside for all values of the others."""
    by_size = sorted(a.terms, key=lambda term: n.extents[term[0]] or 0)
    if not by_size:
        return None
    name, c = by_size[-1]
    size, rest = n.extents[name], [i for i, _ in by_size[:-1]]
    if length is None or size is None or c <= 0:
        return None
    if n.lane is None and (name not in n.loops or any(i in n.loops for i in rest)):
        return None
    if n.lane is not None and (len(rest) != 1 or rest[0] not in n.loops or by_size[0][1] < 0):
        return None
    offset = int(a.offset)
    least, most = reach(replace(n, extents={**n.extents, name: 1}), a)
    low = max(0, math.ceil(-least / c))
    high = min(size, math.floor((length - 1 - most) / c) + 1)
    border: dict[int, tuple[int, int]] = {}
    for v in (*range(low), *range(high, size)):
        start = offset + int(c) * v
        d = by_size[0][1]
        border[v] = max(0, math.ceil(-start / d)), math.floor((length - 1 - start) / d) + 1
    return _Cut(name, low, high, rest[0] if n.lane is not None else None, border)


def _cut_up(p: Plan, c: _Cut) -> list[Plan]:
    """The inner piece, and one for each value of the border.

    In a sum over samples the other index is one of results: outside, nothing is added.
    """
    n = p.nest
    inner = {**n.extents, c.name: c.high - c.low}
    made = [_at(p, {c.name: affine([(c.name, 1)], c.low)}, inner)]
    for v, (first, stop) in c.border.items():
        extents = {i: d for i, d in n.extents.items() if i != c.name}
        values = {c.name: affine((), v)}
        if c.other is not None:
            stop = min(stop, n.extents[c.other] or 0)
            if stop <= first:
                continue
            extents[c.other] = stop - first
            values[c.other] = affine([(c.other, 1)], first)
        made.append(_at(p, values, extents))
    return made


def uses(n: Nest, e: Access, shapes: Shapes) -> float:
    """How many times a nest reads an element of a tensor."""
    elements = math.prod(d for d in shapes[e.tensor] if d is not None)
    summed = (i for x in walk(n.body) if isinstance(x, Reduce) for i in x.names)
    return n.values([*n.loops, *summed]) / max(elements, 1)


def _at(p: Plan, values: Mapping[str, Affine], extents: Mapping[str, int | None]) -> Plan:
    """The plan with other values, or a single one, in place of some indices."""
    order = tuple(i for i in p.order if i in extents)
    tile = {i: min(d, extents[i] or d) for i, d in p.tile.items() if i in extents}
    return replace(p, nest=at(p.nest, values, extents), order=order, tile=tile)
