"""Sums over windows by tiles, as nests: transforms, the products' sums, results.

    V = B d Bᵀ          of each tile of the data
    U = G g Gᵀ          of the taps; in a weight gradient, of each tile of the image
    M = Σ U V           one product of matrices for each of a tile's n or n*n products
    y = A M Aᵀ          the results of a tile

`toom.py` says why that is right and how exact it is, `windows.py` which sums are taken so.  With
numbers near overflow, or infinities, all of a tile could become NaN.  So the squares of both
factors are added up, and what is here runs only where these sums say that all numbers are small;
elsewhere the nest runs as it was.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chainrule.expr import ZERO, Access, Affine, Expr, Mul, Reduce, add, affine, bare, walk
from chainrule.native.copies import fresh, renamed
from chainrule.native.nest import RESULT, Nest, Transform, at, positions, replaced
from chainrule.native.toom import Matrix, matrices
from chainrule.native.windows import TAPS, WindowSum

if TYPE_CHECKING:
    from chainrule.native.copies import Copies

_MARK = Access(RESULT, (), None)  # where a tile's result goes
_NOWHERE = affine((), 0)


def nests(
    n: Nest, s: WindowSum, context: Copies, others: list[Nest]
) -> tuple[list[Nest], list[Nest]]:
    """The nests in place of one, and the others, which perhaps read what it collects."""
    return _Maker(n, s, context).make(others)


@dataclass(frozen=True)
class _Part:
    """Tiles of an axis that have as many results: tile u is the first's number + u."""

    first: int
    tiles: int
    results: int


class _Maker:
    def __init__(self, n: Nest, s: WindowSum, context: Copies) -> None:
        self.n, self.s, self.context = n, s, context
        sizes = (s.tile, TAPS) if s.by_results else (TAPS, s.tile)
        self.a, self.b, self.g = matrices(*sizes)
        self.products = s.n ** len(s.windows)
        self.p, self.t = fresh("p", n.extents), fresh("t", n.extents)
        self.group = context.new_group(n)
        self.made: list[Nest] = []

    def make(self, others: list[Nest]) -> tuple[list[Nest], list[Nest]]:
        n, s = self.n, self.s
        guards = tuple(self.context.guard(e, self.made) for e in (s.data, s.taps))
        taps = self.turned()
        target = self.product(self.data(), self.taps(taps), guards)
        if n.lane is None:
            outs = [w.out for w in s.windows]
            for m in self.results(n, s.reduce, _MARK, target, outs):
                self.made.append(replace(m, guards=guards, group=self.group))
        else:
            others = self.collected(target, others)
        body = replaced(n.body, {s.taps: taps})
        self.made.append(replace(n, body=body, guards=guards, plain=True, group=self.group))
        return self.made, others

    # ------------------------------------------------------------ transforms

    def data(self) -> Access:
        """B d Bᵀ."""
        starts = {w.axis: (self.s.tile, w.offset) for w in self.s.windows}
        return self.transformed(self.s.data, starts, self.b, "B", tiled=True)

    def turned(self) -> Access:
        """The taps with the results' index along memory: perhaps of a copy."""
        e = self.s.taps
        place = _place(e, self.n.store[-1].bare)
        if place == len(e.axes) - 1:
            return e
        name = f"{e.tensor}ᵂ{place}"
        if name not in self.context.shapes:
            self.made.append(self.context.copy_last(e.tensor, name, place, 0))
        axes = [a for k, a in enumerate(e.axes) if k != place] + [e.axes[place]]
        return Access(name, tuple(axes), e.pad)

    def taps(self, e: Access) -> Access:
        """G g Gᵀ."""
        s = self.s
        if s.by_results:  # taps are counted from the last to the first where they are flipped
            starts = {_place(e, w.tap): (-1, 2) if w.flipped else (1, 0) for w in s.windows}
        else:
            starts = {_place(e, w.tap): (s.tile, 0) for w in s.windows}
        return self.transformed(e, starts, self.g, "G", tiled=not s.by_results)

    def transformed(
        self, e: Access, starts: Mapping[int, tuple[int, int]], matrix: Matrix, letter: str,
        *, tiled: bool,
    ) -> Access:  # fmt: skip
        """A factor as the products read it: its samples, the product, the tile, other indices.

        starts   axis of a window -> c, o: tile u begins at c*u + o; without tiles, tap k is
                 at c*k + o
        """
        c, shape = self.context, self.context.shapes[e.tensor]
        batched = c.has_batch(e.tensor)
        kept = [k for k, a in enumerate(positions(e)) if k not in starts and a.bare is not None]
        lead, tail = (kept[:1], kept[1:]) if batched else ([], kept)
        tiles = self.s.tiles if tiled else []

        origin = [bare(f"i{k}") if k in kept else _NOWHERE for k in range(len(shape))]
        for q, (k, (scale, first)) in enumerate(starts.items()):
            origin[k] = affine([(f"u{q}", scale)] if tiled and tiles[q] > 1 else [], first)
        first_value = Access(e.tensor, tuple(origin), ZERO if tiled else None)
        steps = tuple((k, 1 if tiled else scale) for k, (scale, _) in starts.items())
        transform = Transform(matrix, first_value, steps, letter)
        names = [f"u{q}" for q, d in enumerate(tiles) if d > 1]
        flat = [
            _row_major([bare(f"u{q}") if d > 1 else _NOWHERE for q, d in enumerate(tiles)], tiles)
        ]
        store = (
            *(bare(f"i{k}") for k in lead), _NOWHERE, *(flat if tiled else []),
            *(bare(f"i{k}") for k in tail),
        )  # fmt: skip
        group = self.group if batched else ""
        key = group, transform, store
        name = c.transforms.get(key)
        if name is None:
            name = c.transforms[key] = c.fresh(f"{e.tensor}ʷ{self.s.n}")
            c.shapes[name] = (
                *(shape[k] for k in lead), self.products, *([math.prod(tiles)] if tiled else []),
                *(shape[k] for k in tail),
            )  # fmt: skip
            if group:
                c.local.add(name)
            loops = (*(f"i{k}" for k in lead), *names, *(f"i{k}" for k in tail))
            extents = {f"i{k}": shape[k] for k in kept}
            extents |= dict(zip(names, (d for d in tiles if d > 1), strict=True))
            self.made.append(
                Nest(name, loops, store, first_value, extents, transform=transform,
                     products=len(lead), group=group)
            )  # fmt: skip
        mine = [positions(e)[k] for k in lead], [positions(e)[k] for k in tail]
        axes = (*mine[0], bare(self.p), *([bare(self.t)] if tiled else []), *mine[1])
        return Access(name, axes, None)

    # ------------------------------------------------------------ products and results

    def product(self, data: Access, taps: Access, guards: tuple[Access, ...]) -> Access:
        """The products, added up over all that is not the windows'."""
        n, s, c, tiles = self.n, self.s, self.context, math.prod(self.s.tiles)
        extents = {i: d for i, d in n.extents.items() if i not in s.inside}
        extents |= {self.p: self.products, self.t: tiles}
        read = {*data.free, *taps.free}
        mine = [i for i in n.loops if i in read and i not in s.inside]
        lead = [i for i in mine if extents[i] is None]
        loops = [*lead, self.p, *([self.t] if s.by_results else []),
                 *(i for i in mine if i not in lead)]  # fmt: skip
        inner = [i for i in s.reduce.names if i not in s.inside]
        inner += [] if s.by_results else [self.t]
        body = Reduce("sum", tuple((i, None) for i in inner), Mul((data, taps)))
        name = c.fresh(f"{n.target}ʷ")
        c.shapes[name] = tuple(extents[i] for i in loops)
        c.local.add(name)
        nest = Nest(name, tuple(loops), tuple(map(bare, loops)), body, extents, lane=n.lane,
                    guards=guards, group=self.group)  # fmt: skip
        if tiles == 1:
            gone = {i: d for i, d in extents.items() if i != self.t}
            nest = at(nest, {self.t: _NOWHERE}, gone)
        self.made.append(nest)
        return Access(name, nest.store, None)

    def results(
        self, n: Nest, place: Expr, mark: Expr, target: Access, outs: Sequence[str]
    ) -> list[Nest]:
        """Nests for n, with what a tile's products make in place of an expression.

        mark   what is put there; in it _MARK stands for a result
        outs   the windows' result indices, as they are called in n
        """
        s = self.s
        parts = []
        for w in s.windows:
            whole, rest = divmod(w.outs, s.tile) if s.by_results else (0, w.outs)
            some = _Part(0, whole, s.tile), _Part(whole, 1, rest)
            parts.append([part for part in some if part.tiles and part.results])
        marked = replace(n, body=replaced(n.body, {place: mark}))
        regions = itertools.product(*parts)
        return [self.region(marked, target, outs, region) for region in regions]

    def region(self, n: Nest, target: Access, outs: Sequence[str], region: Sequence[_Part]) -> Nest:
        """One nest, of tiles that have as many results; in it, these are numbered within a tile."""
        tiles = [affine([(f"{i}ₜ", 1)] if p.tiles > 1 else [], p.first)
                 for i, p in zip(outs, region, strict=True)]  # fmt: skip
        within = [bare(i) if p.results > 1 else _NOWHERE
                  for i, p in zip(outs, region, strict=True)]  # fmt: skip
        size = self.s.tile if self.s.by_results else 0
        where = {
            i: affine([*u.times(size).terms, *r.terms], u.offset * size)
            for i, u, r in zip(outs, tiles, within, strict=True)
        }
        extents = {i: d for i, d in n.extents.items() if i not in outs}
        for i, u, r, p in zip(outs, tiles, within, region, strict=True):
            extents |= {u.names[0]: p.tiles} if u.terms else {}
            extents |= {i: p.results} if r.terms else {}
        loops = (*(name for u in tiles for name in u.names), *n.loops)
        made = at(replace(n, loops=loops), where, extents)

        at_tile = {self.p: _NOWHERE, self.t: _row_major(tiles, self.s.tiles)}
        axes = tuple(a.at(at_tile) for a in positions(target))
        axis = next(k for k, a in enumerate(positions(target)) if self.p in a.names)
        steps = ((axis, self.s.n), (axis, 1))[-len(outs) :]
        transform = Transform(self.a, Access(target.tensor, axes, None), steps, "A")
        result = Access(RESULT, (_row_major(within, [len(self.a)] * len(outs)),), None)
        return replace(
            made, body=replaced(made.body, {_MARK: result}), transform=transform,
            at_once=tuple(i for r in within for i in r.names),
        )  # fmt: skip

    def collected(self, target: Access, others: list[Nest]) -> list[Nest]:
        """The others, reading what is summed over samples, plainly and by tiles; with its nests.

        If one nest alone reads it, an update say, then that is where a tile's results are made.
        """
        n, c = self.n, self.context
        products = c.fresh(f"{target.tensor}Σ")
        shape = c.shapes[products] = c.shapes[target.tensor]
        store = positions(target)
        loops = tuple(a.bare for a in store if a.bare is not None)
        extents = {a.bare: d for a, d in zip(store, shape, strict=True) if a.bare is not None}
        lanes = Nest(products, loops, store, target, extents)
        plain = Access(n.target, n.store, None)
        there, outs = Access(products, store, None), [w.out for w in self.s.windows]
        readers = [m for m in others if n.target in m.reads]
        if len(readers) == 1 and (e := self.read_by(readers[0])) is not None:
            (m,) = readers
            names = {a.bare or "": x for a, x in zip(n.store, positions(e), strict=True)}
            there = Access(products, tuple(a.at(names) for a in store), None)
            made = self.results(m, e, add(e, _MARK), there, [names[i].bare or "" for i in outs])
            k = others.index(m)
            return [lanes, *others[:k], *made, *others[k + 1 :]]
        whole = c.fresh(f"{n.target}Σ")
        c.shapes[whole] = c.shapes[n.target]
        both = Nest(whole, n.loops, n.store, plain, n.extents)
        made = self.results(both, plain, add(plain, _MARK), there, outs)
        return [lanes, *made, *(renamed(m, {n.target: whole}) for m in others)]

    def read_by(self, m: Nest) -> Access | None:
        """How a nest reads the results, if it does so once, at all of its own places."""
        found = [e for e in m.accesses() if e.tensor == self.n.target]
        special = m.lane or m.sample or m.spread or m.carry or m.transform or m.guards or m.plain
        if len(found) != 1 or special or {self.p, self.t} & set(m.extents):
            return None
        (e,) = found
        names = [a.bare for a in positions(e)]
        alone = e.pad is None and None not in names and len(set(names)) == len(names)
        sums = any(isinstance(x, Reduce) for x in walk(m.body))
        placed = all(a.bare is not None for a in m.store)
        return e if alone and placed and not sums and set(names) == set(m.loops) else None


def _place(e: Access, name: str | None) -> int:
    """The axis on which an index stands."""
    return next(k for k, a in enumerate(positions(e)) if a.bare == name)


def _row_major(places: Sequence[Affine], sizes: Sequence[int]) -> Affine:
    """The number of a place, counted row by row."""
    total = _NOWHERE
    for k, n in zip(places, sizes, strict=True):
        total = affine([*total.times(n).terms, *k.terms], total.offset * n + k.offset)
    return total
