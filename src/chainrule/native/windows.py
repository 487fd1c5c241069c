"""Sums over windows of three: which go faster by tiles (`toom.py`), and by what tiles.

A sum of products, data times taps, is by results where the window is what is summed (a
convolution, its input gradient): a tile is some neighbouring results.  In a weight gradient it is
the other way round: the results are the three taps', and a tile is a part of the image, which
adds to the same few products as all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chainrule.expr import ZERO, Access, Affine, Expr, Mul, Reduce, walk
from chainrule.native.nest import Nest, positions

if TYPE_CHECKING:
    from chainrule.native.copies import Copies

TAPS = 3
LEAST = 8  # channels, of what is summed and of the results
GAIN = 0.8  # of the plain sum's time: what takes longer is not worth it
_TILES = (4, 2)  # neighbouring results, or positions of the image
_LANES_BYTES = 1 << 27  # of all partial sums of a weight gradient's products
# What transforms and products in memory take, in multiply-adds for each number.
_MOVED, _ADDED, _ONCE, _FAR = 3.0, 8.0, 4.0, 80.0
_NEAR_BYTES = 1 << 20  # weights beyond come from far away


@dataclass(frozen=True)
class Window:
    """An axis on which data is read at out + tap + offset, or, flipped, at out + 2-tap + offset.

    outs, taps  values of the two indices; one of these numbers is three
    axis        of the data
    """

    out: str
    tap: str
    outs: int
    taps: int
    offset: int
    flipped: bool
    axis: int


@dataclass(frozen=True)
class WindowSum:
    """reduce = sum(data * taps), and the tile to take it by."""

    reduce: Reduce
    data: Access
    taps: Access
    windows: tuple[Window, ...]
    by_results: bool
    tile: int = 0

    @property
    def n(self) -> int:
        """Products along an axis."""
        return self.tile + TAPS - 1

    @property
    def tiles(self) -> list[int]:
        """Tiles along each axis."""
        return [-(-(w.outs if self.by_results else w.taps) // self.tile) for w in self.windows]

    @property
    def inside(self) -> set[str]:
        """The indices that the windows have."""
        return {i for w in self.windows for i in (w.out, w.tap)}

    def rest(self, e: Access) -> tuple[str, ...]:
        """The other indices of a factor."""
        return tuple(a.bare for a in positions(e) if a.bare and a.bare not in self.inside)


def suitable(n: Nest, context: Copies) -> WindowSum | None:
    """The sum in a nest that goes faster by tiles, with the tile that is best; or None."""
    found = [s for e in walk(n.body) if isinstance(e, Reduce) and (s := _sum(n, e)) is not None]
    if len(found) != 1 or n.spread or n.transform:
        return None
    (s,) = found
    if not {*s.data.free, *s.taps.free} <= {*n.loops, *s.reduce.names}:
        return None  # it stands in another sum
    if n.lane is not None and any(a.bare is None and a.terms for a in n.store):
        return None  # a part of a tensor only
    if s.by_results and context.has_batch(s.taps.tensor):
        return None
    whole_batch = n.lane is None and any(n.extents[i] is None for i in s.reduce.names)
    if not s.by_results and whole_batch:
        return None
    cost, best = _direct(n, s, context) * GAIN, None
    for tile in _TILES:
        by_tile = replace(s, tile=tile)
        c = _cost(n, by_tile, context)
        if c < cost:
            cost, best = c, by_tile
    return best


def _sum(n: Nest, e: Reduce) -> WindowSum | None:
    """A sum as one over windows, if it is: both factors by channels along memory."""
    v = n.store[-1].bare if n.store else None
    if e.op != "sum" or v is None:
        return None
    found = (_ordered(n, e, data, taps, v) for data, taps in orders(e.body))
    return next((s for s in found if s is not None), None)


def orders(e: Expr) -> list[tuple[Access, Access]]:
    """Both orders of the factors, if e is a product of two accesses."""
    match e:
        case Mul((Access() as a, Access() as b)):
            return [(a, b), (b, a)]
    return []


def _ordered(n: Nest, e: Reduce, data: Access, taps: Access, v: str) -> WindowSum | None:
    if data.pad not in (None, ZERO) or taps.pad not in (None, ZERO) or not data.axes:
        return None
    if v in data.free or v not in taps.free or not _plain(positions(taps)):
        return None
    axes = [k for k, a in enumerate(positions(data)) if len(a.terms) == 2]
    windows = tuple(w for k in axes if (w := window(n, e, k, data, taps)) is not None)
    if not 1 <= len(axes) <= 2 or len(windows) < len(axes):
        return None
    used, last = [i for w in windows for i in (w.out, w.tap)], positions(data)[-1].bare
    rest = [a for a in positions(data) if len(a.terms) != 2]
    if not _plain(rest) or len(set(used)) < len(used) or last is None:
        return None
    if any(i in a.names for a in rest for i in used):
        return None
    if min(n.extents[i] or LEAST for i in (v, last)) < LEAST:
        return None
    if all(w.taps == TAPS and w.outs > 1 for w in windows):
        return WindowSum(e, data, taps, windows, by_results=True)
    by_image = all(w.outs == TAPS and w.taps > TAPS and not w.flipped for w in windows)
    if by_image and positions(taps)[-1].bare == v:
        return WindowSum(e, data, taps, windows, by_results=False)
    return None


def _plain(axes: Iterable[Affine]) -> bool:
    """Whether on each axis stands an index alone, each once, or nothing."""
    names = [a.bare for a in axes if a.terms or a.offset]
    return None not in names and len(set(names)) == len(names)


def window(n: Nest, e: Reduce, axis: int, data: Access, taps: Access) -> Window | None:
    """An axis of the data as a window: where an index of results and one of taps are added."""
    a = positions(data)[axis]
    found = meeting(n, e, a, taps)
    if found is None or not a.whole:
        return None
    out, tap = found
    c, size, length = dict(a.terms), n.extents[out], n.extents[tap]
    if c[out] != 1 or c[tap] not in (1, -1) or size is None or length is None:
        return None
    flipped = c[tap] < 0
    offset = int(a.offset) - (length - 1 if flipped else 0)
    return Window(out, tap, size, length, offset, flipped, axis)


def meeting(n: Nest, e: Reduce, a: Affine, taps: Access) -> tuple[str, str] | None:
    """The results' index and the taps' that an axis of the data adds, if it has one of each."""
    outs = [i for i in a.names if i in n.loops and i not in taps.free]
    inner = [i for i in a.names if i in e.names and i in taps.free]
    return (outs[0], inner[0]) if len(outs) == 1 and len(inner) == 1 else None


def only_there(axis: int, indices: Iterable[str], data: Access) -> bool:
    """Whether indices stand on this axis of the data, and on no other."""
    rest = {i for k, a in enumerate(positions(data)) if k != axis for i in a.names}
    return rest.isdisjoint(indices)


# ---------------------------------------------------------------- what they take


def _direct(n: Nest, s: WindowSum, context: Copies) -> float:
    """Multiply-adds of a sample, those on zeros outside left out."""
    total = n.values(s.rest(s.data) + s.rest(s.taps))
    for w in s.windows:
        size = context.shapes[s.data.tensor][w.axis] or 0
        total *= sum(0 <= i + k + w.offset < size for i in range(w.outs) for k in range(w.taps))
    return float(total)


def _cost(n: Nest, s: WindowSum, context: Copies) -> float:
    """The same by tiles, with all that comes with them."""
    products: int = s.n ** len(s.windows)
    tiled = products * math.prod(s.tiles)
    data, taps = s.rest(s.data), s.rest(s.taps)
    results = n.values([i for i in data + taps if i not in s.reduce.names])
    cost = float(tiled * n.values(data + taps)) + _MOVED * tiled * n.values(data)
    element, rows = context.machine.element, context.rows
    if s.by_results:
        weights = products * n.values(taps)
        once = _FAR if weights * element > _NEAR_BYTES else _ONCE
        return cost + _MOVED * tiled * results + once * weights / rows
    sums = products * results
    if sums * element * min(16, 2 * rows) > _LANES_BYTES:
        return math.inf
    return cost + _MOVED * tiled * n.values(taps) + _ADDED * sums / min(rows, 8)
