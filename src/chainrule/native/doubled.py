"""Two neighbouring results in one register, where a layer's channels fill half of one.

On processors that start two multiply-adds of whole registers in a cycle, half a register is half
the speed.  In a convolution, the results at 2*j and 2*j+1 lie one behind the other in memory, and
what they read overlaps: of r taps each, r+1 together.  So both are summed at once,

    y[2*j+q, k] = sum[n'](w'[n', (q,k)] * x[2*j + n'])      with  w'[n', (q,k)] = w[n'-q, k] or 0

In a weight gradient two positions of the image are: sums for n' = 0..r and (q,k), of which
n' = n+q is what belongs to tap n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from chainrule.expr import (
    ZERO,
    Access,
    Expr,
    Index,
    Mul,
    Reduce,
    add,
    affine,
    bare,
    substitute,
    walk,
)
from chainrule.native.copies import NEW
from chainrule.native.nest import Nest, at, positions, replaced
from chainrule.native.windows import Window, only_there, orders, window

if TYPE_CHECKING:
    from chainrule.native.copies import Copies


_ROWS = 4  # samples for which it pays to copy the weights


def doubled(nests: list[Nest], context: Copies) -> list[Nest]:
    """The nests, with two results or positions of an image at once where that fills registers."""
    if not context.machine.pairs or context.rows < _ROWS:
        return nests
    done: list[Nest] = []
    while nests:
        n, *nests = nests
        maker = _Maker(n, context)
        made = maker.results() or maker.image(nests)
        if made is None:
            done.append(n)
        else:
            done += made
            nests = [maker.read_by(m) for m in nests]
    return done


class _Maker:
    """One nest's two ways; `sums` is what others read, at its indices, in place of its results."""

    def __init__(self, n: Nest, context: Copies) -> None:
        self.n, self.context = n, context
        self.sums: Expr | None = None
        self.full = context.machine.vector_bytes // context.machine.element
        self.half = self.full // 2
        last = n.store[-1].bare if n.store else None
        self.v = last or ""
        self.size = n.extents.get(self.v) or 0

    @property
    def fits(self) -> bool:
        """Whether the channels fill more than a quarter of a register, and half at most."""
        n = self.n
        plainly = not (n.transform or n.guards or n.plain or n.spread or n.carry)
        return plainly and self.half // 2 < self.size <= self.half and len(n.store) > 1

    def windows(self, e: Reduce, data: Access, taps: Access) -> Iterator[Window]:
        """The data's axes that are windows, whose indices stand nowhere else in it."""
        for k, x in enumerate(positions(data)):
            w = window(self.n, e, k, data, taps) if len(x.terms) == 2 else None
            if w is not None and only_there(k, (w.out, w.tap), data):
                yield w

    # ------------------------------------------------------------ two results

    def results(self) -> list[Nest] | None:
        """A convolution's nests, its weights first; None where it does not lend itself."""
        n, c = self.n, self.context
        if not self.fits or n.lane is not None or not self.private(n.target):
            return None
        j = n.store[-2].bare
        found = [s for e in walk(n.body) if isinstance(e, Reduce) and (s := self.sum_of(e))]
        sums = sum(isinstance(e, Reduce) for e in walk(n.body))
        if j is None or (n.extents.get(j) or 1) % 2 or len(found) != 1 or sums != 1:
            return None
        (e, data, taps, w) = found[0]
        if w.out != j or c.has_batch(taps.tensor) or c.shapes[n.target][-1] != self.size:
            return None
        others = self.others(e, j)
        if others is None:
            return None
        shift = {0: 1, 1: 0} if w.flipped else {0: 0, 1: 1}  # of the taps, for each of the two
        made, weights = self.copies(taps, {w.tap: shift})
        values: dict[Expr, Expr] = {}
        for x in others:
            if j not in x.free and self.v in x.free:
                more, values[x] = self.copies(x, {})
                made += more
        where = list(positions(data))
        step = -1 if w.flipped else 1
        offset = where[w.axis].offset + (1 if w.flipped else 0)
        where[w.axis] = affine([(j, 1), (w.tap, step)], offset)  # j is doubled below
        values[e] = Reduce(
            "sum", e.binders, Mul((weights, Access(data.tensor, tuple(where), data.pad)))
        )
        extents = {**n.extents, w.tap: w.taps + 1}
        body = replaced(n.body, values)
        nest = at(replace(n, body=body), {j: affine([(j, 2)])},
                  {**extents, j: (n.extents[j] or 0) // 2, self.v: self.full})  # fmt: skip
        # beyond a window, data meets a weight of 0: what is not finite would spread
        guards = (c.guard(data, made),)
        return [*made, replace(nest, guards=guards), replace(n, guards=guards, plain=True)]

    def sum_of(self, e: Reduce) -> tuple[Reduce, Access, Access, Window] | None:
        """A sum of data times taps, with the window along the results' last axis but one."""
        for data, taps in orders(e.body) if e.op == "sum" else ():
            if self.v in data.free or self.v not in taps.free or taps.pad is not None:
                continue
            if data.pad not in (None, ZERO):  # one result's taps of 0 would meet it
                continue
            if any(len(x.terms) > 1 or not x.whole for x in positions(taps)):
                continue
            for w in self.windows(e, data, taps):
                if w.out == self.n.store[-2].bare:
                    return e, data, taps, w
        return None

    def others(self, e: Reduce, j: str) -> list[Access] | None:
        """What is read beside the sum: at the results' own places, or by channel only."""
        rest = replaced(self.n.body, {e: _GONE})
        if any(isinstance(x, Index) and x.name in (j, self.v) for x in walk(rest)):
            return None
        found = [x for x in walk(rest) if isinstance(x, Access)]
        for x in found:
            if j not in x.free and self.v not in x.free:
                continue
            axes = positions(x)
            if not axes or axes[-1].bare != self.v or x.pad is not None:
                return None
            if self.context.shapes[x.tensor][-1] != self.size:
                return None
            inner = [i for a in axes[:-1] for i in a.names]
            if self.v in inner:
                return None
            if j in inner:
                if len(axes) < 2 or axes[-2].bare != j or j in [
                    i for a in axes[:-2] for i in a.names
                ] or not self.private(x.tensor):  # fmt: skip
                    return None
            elif self.context.has_batch(x.tensor):
                return None
        return found

    def private(self, t: str) -> bool:
        """Whether a tensor is the engine's own, its last axis padded to half a register."""
        c = self.context
        given = {*c.inputs, *c.wanted, *c.system.updates}
        return t not in given and not t.endswith(NEW) and t not in c.integers

    def copies(
        self, e: Access, shifts: Mapping[str, Mapping[int, int]]
    ) -> tuple[list[Nest], Access]:
        """Nests that put a tensor twice into one, the channels last, and how that is read."""
        n, c = self.n, self.context
        keep = [a for a in positions(e) if self.v not in a.names]
        names = [i for a in keep for i in a.names]
        key = "doubled", e.tensor, tuple(keep), str(shifts), self.v
        name = c.transforms.get(key)
        made = []
        if name is None:
            name = c.transforms[key] = c.fresh(f"{e.tensor}ᴰ")
            c.shapes[name] = (
                *((c.shapes[e.tensor][k] or 1) + (a.bare in shifts)
                  for k, a in enumerate(positions(e)) if self.v not in a.names),
                self.full,
            )  # fmt: skip
            for q in (0, 1):
                store = [
                    affine(a.terms, shifts[a.bare][q]) if a.bare and a.bare in shifts else a
                    for a in keep
                ]
                store.append(affine([(self.v, 1)], q * self.half))
                loops = (*names, self.v)
                extents = {i: n.extents[i] for i in loops}
                made.append(Nest(name, loops, tuple(store), e, extents))
        return made, Access(name, (*keep, bare(self.v)), None)

    # ------------------------------------------------------------ two positions of the image

    def image(self, others: list[Nest]) -> list[Nest] | None:
        """A weight gradient's sums for both positions, for others to read."""
        n, c = self.n, self.context
        if not self.fits or n.lane is None or not isinstance(n.body, Reduce) or n.body.op != "sum":
            return None
        if any(a.bare is None for a in n.store) or any(
            e.tensor == n.target and e.pad is not None for m in others for e in m.accesses()
        ):
            return None
        e = n.body
        for data, taps in orders(e.body):
            if self.v in data.free or taps.pad is not None or not self.private(taps.tensor):
                continue
            axes = positions(taps)
            if len(axes) < 2 or axes[-1].bare != self.v or c.shapes[taps.tensor][-1] != self.size:
                continue
            j = axes[-2].bare
            for w in self.windows(e, data, taps):
                if w.tap != j or w.flipped or w.taps % 2:
                    continue
                if sum(j in a.names for a in axes) > 1:
                    continue
                return self.both(e, data, taps, w)
        return None

    def both(self, e: Reduce, data: Access, taps: Access, w: Window) -> list[Nest]:
        """The nest of the sums for two positions; readers add what belongs together of them."""
        n, c = self.n, self.context
        sums = c.fresh(f"{n.target}ᴰ")
        extents = {**n.extents, w.out: w.outs + 1, w.tap: w.taps // 2, self.v: self.full}
        c.shapes[sums] = tuple(extents[a.bare or ""] for a in n.store)
        body = replaced(e, {data: _at(data, w.tap), taps: _at(taps, w.tap)})
        nest = replace(n, target=sums, body=body, extents=extents)
        first, second = (
            Access(sums, tuple(
                affine(a.terms, q if a.bare == w.out else q * self.half if a.bare == self.v else 0)
                for a in n.store), None)
            for q in (0, 1)
        )  # fmt: skip
        self.sums = add(first, second)
        return [nest]

    def read_by(self, m: Nest) -> Nest:
        """Another nest, with the sums for both positions where it read the nest's results."""
        if self.sums is None or self.n.target not in m.reads:
            return m
        values: dict[Expr, Expr] = {}
        for e in m.accesses():
            if e.tensor == self.n.target:
                at = zip(self.n.store, positions(e), strict=True)
                values[e] = substitute(self.sums, {a.bare or "": x for a, x in at})
        return replace(m, body=replaced(m.body, values))


_GONE = Index("·")  # stands where the sum stood


def _at(e: Access, j: str) -> Access:
    """The access at 2*j."""
    double = {j: affine([(j, 2)])}
    return Access(e.tensor, tuple(a.at(double) for a in positions(e)), e.pad)
