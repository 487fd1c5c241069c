"""Sums over windows with few channels: all taps' products side by side, then added where they meet.

A convolution with 6 channels as results fills 6 lanes of a register.  But what one position p of
the data adds to the results around it, for all taps and channels, are 5*6 numbers in a row:

    u[p, (n,c)] = sum[k](w[n,c,k] * x[p,k])
    y[s, c]     = sum[n](u[p, (n,c)])            where p is the position that s reads with tap n

Both have the products and sums of the formula, in another order ("overlap-add").  Only positions
inside the data are walked, so windows that reach outside cost nothing, and with a stride no
product is left out of a register's lanes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chainrule.expr import ZERO, Access, Affine, Expr, Mul, Reduce, affine, bare, walk
from chainrule.native import windows
from chainrule.native.copies import fresh
from chainrule.native.nest import Nest, positions, replaced
from chainrule.native.windows import orders

if TYPE_CHECKING:
    from chainrule.native.copies import Copies

GAIN = 0.9  # of the plain sum's time: what takes longer is not worth it
_ADDED = 2.0  # multiply-adds that reading products and adding them to the results takes
_LINE, _FAR_LINE = (
    4.0,
    16.0,
)  # cycles to write and read a line of the cache; beyond the second level
_NEAR_BYTES = 1 << 20


@dataclass(frozen=True)
class _Window:
    """An axis of the data on which an index of results and one of taps meet.

    inside   pairs of the two that are inside the data
    """

    axis: int
    out: str
    tap: str
    size: int
    outs: int
    taps: int
    inside: int


def overlapped(nests: Sequence[Nest], context: Copies) -> list[Nest]:
    """The nests, with the products of several taps at once where that fills registers."""
    return [part for n in nests for part in _Maker(n, context).nests()]


class _Maker:
    def __init__(self, n: Nest, context: Copies) -> None:
        self.n, self.context = n, context
        self.v = (n.store[-1].bare if n.store else None) or ""
        self.channels = n.extents.get(self.v) or 0

    def nests(self) -> list[Nest]:
        n = self.n
        sums = [e for e in walk(n.body) if isinstance(e, Reduce)]
        if len(sums) != 1 or sums[0].op != "sum" or self.channels == 0:
            return [n]
        if n.lane or n.spread or n.carry or n.sample is None or self.filled:
            return [n]
        (e,) = sums
        ways = [
            (data, taps, found, some)
            for data, taps in orders(e.body)
            for found in [self.windows(e, data, taps)]
            for k in range(1, len(found) + 1)
            for some in itertools.combinations(found, k)
        ]
        costs = [self.cost(e, found, some) for *_, found, some in ways]
        if not ways:
            return [n]
        data, taps, found, some = ways[costs.index(min(costs))]
        if min(costs) > GAIN * self.plain(e, found) or windows.suitable(n, self.context):
            return [n]
        return self.made(e, data, taps, some)

    @property
    def filled(self) -> bool:
        """Whether the channels fill registers as they are."""
        m = self.context.machine
        full = m.vector_bytes // m.element
        return self.cycles(self.channels) * full <= m.cycles(full) * self.channels

    def windows(self, e: Reduce, data: Access, taps: Access) -> list[_Window]:
        """The axes of the data that could be walked by position, if the sum lends itself."""
        n, c = self.n, self.context
        axes = positions(taps)
        names = [a.bare for a in axes if a.terms or a.offset]
        if taps.pad is not None or None in names or len(set(names)) < len(names):
            return []
        if data.pad not in (None, ZERO):  # outside there would be products, too
            return []
        if self.v in data.free or self.v not in names or c.has_batch(taps.tensor):
            return []
        if not {*data.free, *taps.free} <= {*n.loops, *e.names}:
            return []
        found = []
        for k, a in enumerate(positions(data)):
            size, pair = c.shapes[data.tensor][k], windows.meeting(n, e, a, taps)
            if len(a.terms) != 2 or pair is None or size is None:
                continue
            out, tap = pair
            d, t = n.extents[out], n.extents[tap]
            if not windows.only_there(k, pair, data) or d is None or t is None:
                continue
            by, of = dict(a.terms)[out], dict(a.terms)[tap]
            places = (by * i + of * j + a.offset for i in range(d) for j in range(t))
            inside = sum(x == int(x) and 0 <= x < size for x in places)
            found.append(_Window(k, out, tap, size, d, t, inside))
        return found

    # ------------------------------------------------------------ what it takes, for a sample

    def plain(self, e: Reduce, found: Sequence[_Window]) -> float:
        """Cycles of the sum as it is."""
        steps = self.others(e, found) * math.prod(w.inside for w in found)
        m = self.context.machine
        half = m.vector_bytes // m.element // 2
        if m.pairs and half // 2 < self.channels <= half:  # two results in a register
            taps = found[-1].taps
            return steps * m.cycles(half) * (taps + 1) / (2 * taps)
        return steps * self.cycles(self.channels)

    def cost(self, e: Reduce, found: Sequence[_Window], some: Sequence[_Window]) -> float:
        """Cycles if all taps of some windows are worked out side by side."""
        n, m = self.n, self.context.machine
        taps = math.prod(w.taps for w in some)
        rest = [w for w in found if w not in some]
        where = math.prod(w.size for w in some)
        steps = self.others(e, found) * where * math.prod(w.inside for w in rest)
        free = [i for i in n.loops if i != self.v and i not in [w.out for w in found]]
        places = n.values(free) * math.prod(w.outs for w in rest)
        size = places * where * -(-taps * self.channels * m.element // 64)
        line = _LINE if size * 64 < _NEAR_BYTES else _FAR_LINE
        added = places * math.prod(w.inside for w in some) * self.cycles(self.channels)
        return steps * self.cycles(taps * self.channels) + size * line + added * _ADDED

    def others(self, e: Reduce, found: Sequence[_Window]) -> int:
        """Products for one pair of each window, channels of the results apart."""
        gone = {self.v, *(i for w in found for i in (w.out, w.tap))}
        return self.n.values(i for i in (*self.n.loops, *e.names) if i not in gone)

    def cycles(self, n: int) -> float:
        """Of a multiply-add for so many neighbours."""
        m, width, best = self.context.machine, 1, float(n)
        while width < m.vector_bytes // m.element:
            width *= 2
            best = min(best, -(-n // width) * m.cycles(width))
        return best

    # ------------------------------------------------------------ what is made

    def made(self, e: Reduce, data: Access, taps: Access, some: tuple[_Window, ...]) -> list[Nest]:
        n, c = self.n, self.context
        taken = {*n.extents, *c.shapes}
        x, *at = (fresh(i, taken) for i in ("v", *"pqrstu"[: len(some)]))
        where = {w.axis: bare(i) for w, i in zip(some, at, strict=True)}
        late = [w.tap for w in some]
        side = self.side_by_side(late)
        length = self.channels * math.prod(w.taps for w in some)

        made, weights = self.weights(taps, late, side, x, length)
        here = tuple(where.get(k, a) for k, a in enumerate(positions(data)))
        product = Mul((weights, Access(data.tensor, here, data.pad)))
        inner = tuple(b for b in e.binders if b[0] not in late)
        body: Expr = Reduce("sum", inner, product) if inner else product
        new = {w.out: where[w.axis].names[0] for w in some}
        loops = tuple(new.get(i, i) for i in n.loops if i != self.v) + (x,)
        extents = {i: d for i, d in n.extents.items() if i not in (*new, *late, self.v)}
        extents |= {new[w.out]: w.size for w in some} | {x: length}
        name = c.fresh(f"{n.target}ᴼ")
        c.shapes[name] = tuple(extents[i] for i in loops)
        c.local.add(name)
        group = c.new_group(n)
        made.append(Nest(name, loops, tuple(map(bare, loops)), body, extents, group=group))

        from_ = {new[w.out]: positions(data)[w.axis] for w in some}
        axes = tuple(from_.get(i, bare(i)) for i in loops[:-1])
        binders = tuple(b for b in e.binders if b[0] in late)
        met = Reduce("sum", binders, Access(name, (*axes, side), data.pad))
        return [*made, replace(n, body=replaced(n.body, {e: met}), group=group)]

    def side_by_side(self, late: Sequence[str]) -> Affine:
        """Where a tap's product for a channel is: channels are next to each other."""
        terms, step = [(self.v, 1)], self.channels
        for tap in reversed(late):
            terms.append((tap, step))
            step *= self.n.extents[tap] or 1
        return affine(terms)

    def weights(
        self, taps: Access, late: Sequence[str], side: Affine, x: str, length: int
    ) -> tuple[list[Nest], Access]:
        """The taps in that order: the copy's nest, if there is none yet, and how it is read."""
        n, c = self.n, self.context
        keep = tuple(a for a in positions(taps) if a.terms and a.bare not in (*late, self.v))
        key = "overlap", taps.tensor, tuple(positions(taps)), side
        name = c.transforms.get(key)
        made = []
        if name is None:
            name = c.transforms[key] = c.fresh(f"{taps.tensor}ᴼ")
            loops = (*(i for a in keep for i in a.names), *late, self.v)
            extents = {i: n.extents[i] for i in loops}
            c.shapes[name] = (*(extents[i] for a in keep for i in a.names), length)
            made.append(Nest(name, loops, (*keep, side), taps, extents))
        return made, Access(name, (*keep, bare(x)), None)
