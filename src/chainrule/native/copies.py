"""Copies: tensors put where, and in the order in which, nests read them best.

The rows that a training order picks, weights that would be read against the grain of memory,
tensors that need zeros around them.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from chainrule.expr import (
    Access,
    Affine,
    Expr,
    Mul,
    Reduce,
    affine,
    bare,
    rebuild,
    substitute,
    walk,
)
from chainrule.native.borders import pieces
from chainrule.native.memory import Buffer
from chainrule.native.nest import Nest, at, positions, replaced
from chainrule.native.request import SHARES, Request
from chainrule.native.schedule import Plan, plan, settle, with_methods

NEW = "⁺"
PANEL = "ₚ"
_PANEL_USES = 16  # results that read one weight, below which putting panels together does not pay

Shape = tuple[int | None, ...]


class Copies:
    """What nests are made from; `shapes` grows with the tensors that they make."""

    def __init__(self, request: Request) -> None:
        self.system, self.ranges, self.batch = request.system, request.ranges, request.batch
        self.wanted, self.integers, self.machine = request.wanted, request.integers, request.machine
        self.train, self.winograd = request.train, request.winograd
        self.block, self.rows = 1, request.least
        self.shapes: dict[str, Shape] = {
            t: (None, *s[1:]) if t in self.batch else s for t, s in self.ranges.shapes.items()
        }
        self.inputs = set(self.system.inputs)
        self.buffers: dict[str, Buffer] = {}
        self.products: dict[Expr, str] = {}
        self.transforms: dict[object, str] = {}
        self.groups = 0
        self.local: set[str] = set()
        self.results: dict[str, str] = {}

    def fresh(self, name: str) -> str:
        """A name that no tensor has yet."""
        return fresh(name, self.shapes)

    def new_group(self, n: Nest) -> str:
        """A name for the nests in place of one, which run a few samples at a time."""
        self.groups += 1
        return f"{n.target} {self.groups - 1}"

    def whole(self, t: str) -> tuple[Access, dict[str, int | None]]:
        """A tensor at indices of its own, i0, i1, ..., and how many values these have."""
        extents = {f"i{k}": d for k, d in enumerate(self.shapes[t]) if d != 1}
        axes = [bare(f"i{k}") if d != 1 else affine((), 0) for k, d in enumerate(self.shapes[t])]
        return Access(t, tuple(axes), None), extents

    def has_batch(self, t: str) -> bool:
        return bool(self.shapes[t]) and self.shapes[t][0] is None

    def plan(self, n: Nest) -> Plan:
        """A nest's plan for the block; what threads share out may take more of a batch at once."""
        return plan(n, self.machine, self.block * (SHARES if n.spread else 1))

    def rows_copied(self, nests: list[Nest]) -> list[Nest]:
        """In training, the rows that the order picks are copied first."""
        if not self.train:
            return nests
        names = {t: t + "▫" for t, given in self.batch.items() if given and t in self.inputs}
        used = {t for n in nests for t in n.reads if t in names}
        return [*(self.copy(t, names[t]) for t in self.system.inputs if t in used),
                *(renamed(n, names) for n in nests)]  # fmt: skip

    def copy(self, t: str, name: str, order: Sequence[int] | None = None) -> Nest:
        """A nest that copies a tensor, its axes in another order if one is given."""
        shape = self.shapes[t]
        axes = [bare("ijklmnpqrs"[k]) if n != 1 else affine((), 0)
                for k, n in enumerate(shape)]  # fmt: skip
        turned = [axes[k] for k in order] if order else axes
        self.shapes[name] = tuple(shape[k] for k in order) if order else shape
        loops = tuple(a.bare for a in turned if a.bare is not None)
        extents = {a.bare: n for a, n in zip(axes, shape, strict=True) if a.bare is not None}
        if t in self.integers:
            self.integers |= {name}
        return Nest(name, loops, tuple(turned), Access(t, tuple(axes), None), extents)

    def guard(self, e: Access, made: list[Nest]) -> Access:
        """The sum of a tensor's squares, for each sample if it has samples; its nest, once."""
        t, name = e.tensor, e.tensor + "²"
        batched = self.has_batch(t)
        if name not in self.shapes:
            x, extents = self.whole(t)
            loops = ("i0",) if batched else ()
            inner = tuple((i, None) for i in extents if i not in loops)
            body = Reduce("sum", inner, Mul((x, x))) if inner else Mul((x, x))
            self.shapes[name] = (None,) if batched else ()
            made.append(Nest(name, loops, tuple(map(bare, loops)), body, extents))
        return Access(name, (positions(e)[0],) if batched else (), None)

    def turned(self, plans: list[Plan]) -> list[Plan]:
        """Copies of weights that a nest would read against the grain of memory.

        Neighbours along the vector index may lie apart: then that axis comes last.  Or they are
        many, and each tile of vectors reads pieces from rows far apart: then the pieces for one
        tile, a panel, are put together, and the loop over panels is the first.
        """
        made: dict[tuple[str, int, int], str] = {}
        copies: list[Plan] = []
        out = []
        for p in plans:
            v, tile = p.vector, 0
            if v is not None and self.has_panels(p):
                tile = p.tile[v] * p.width
            swaps: dict[Expr, tuple[str, int]] = {}
            for e in p.nest.accesses():
                place = self.weight_axis(p, e)
                if place is None or (not tile and place == len(e.axes) - 1):
                    continue
                key = e.tensor, place, tile
                if key not in made:
                    made[key] = f"{e.tensor}{'ᴾ' if tile else 'ᵀ'}{len(made) or ''}"
                    nest = self.copy_last(e.tensor, made[key], place, tile)
                    copies.append(self.plan(nest))
                swaps[e] = made[key], place
            out.append(self.swapped(p, swaps, tile) if swaps else p)
        return copies + out

    def weight_axis(self, p: Plan, e: Access) -> int | None:
        """The axis along which a sum reads a given tensor without samples by vectors."""
        if p.vector is None or self.has_batch(e.tensor) or e.pad is not None:
            return None
        if e.tensor not in self.inputs or not inside_reduction(p.nest.body, e) or p.nest.plain:
            return None
        places = [k for k, a in enumerate(e.axes) if p.vector in a.names]
        if len(places) != 1 or positions(e)[places[0]].bare != p.vector:
            return None
        return places[0]

    def has_panels(self, p: Plan) -> bool:
        """Whether a plan goes through its weights tile by tile, and often enough."""
        n, v = p.nest, p.vector
        assert v is not None
        size, tile = n.extents[v] or 0, p.tile[v] * p.width
        uses = math.prod(n.extents[i] or 1 for i in n.loops if i != v)
        whole = size > tile and size % tile == 0 and n.transform is None
        return p.order[0] == v and whole and uses >= _PANEL_USES

    def copy_last(self, t: str, name: str, place: int, tile: int) -> Nest:
        """A nest that copies a tensor with one axis last; or that axis's panels first, too."""
        rank = len(self.shapes[t])
        n = self.copy(t, name, [*(k for k in range(rank) if k != place), place])
        v = n.store[-1].bare
        return self.copy_in_panels(n, tile, 0, 0) if tile and v is not None else n

    def copy_in_panels(self, n: Nest, panel: int, axis: int, loop: int) -> Nest:
        """A copy whose last axis is cut into panels: which one it is comes on a new axis.

        And in a new loop; each is inserted before one that there was.
        """
        v, shape = n.loops[-1], list(self.shapes[n.target])
        first, size, store, loops = v + PANEL, shape[-1] or 0, list(n.store), list(n.loops)
        shape[-1:] = [panel]
        shape.insert(axis, size // panel)
        store.insert(axis, bare(first))
        loops.insert(loop, first)
        self.shapes[n.target] = tuple(shape)
        body = substitute(n.body, {v: affine([(first, panel), (v, 1)])})
        extents = {**n.extents, first: size // panel, v: panel}
        return Nest(n.target, tuple(loops), tuple(store), body, extents)

    def swapped(self, p: Plan, swaps: Mapping[Expr, tuple[str, int]], tile: int) -> Plan:
        """The plan with copies read in place of weights, panel by panel if they are in panels."""
        v = p.vector
        assert v is not None
        p, parts = split(p, {v: tile} if tile else {})
        n, first = p.nest, (bare(v + PANEL),) if tile else ()
        for e, (name, place) in swaps.items():
            old = positions(e)  # type: ignore[arg-type]
            rest = (a for k, a in enumerate(old) if k != place)
            copied = Access(name, (*first, *rest, old[place]), None)
            n = replace(n, body=replaced(n.body, {substitute(e, parts): copied}))
        return with_methods(replace(p, nest=n)) if tile else self.plan(n)

    def peeled(self, plans: list[Plan]) -> list[Plan]:
        """Nests that read beyond a given tensor's border cut up, where that saves its copy."""
        cut = [pieces(p, self.inputs, self.shapes) for p in plans]
        while True:
            copied = {t for parts in cut for q in parts for t in q.halos} & self.inputs
            in_vain = [k for k, p in enumerate(plans) if len(cut[k]) > 1 and p.halos & copied]
            if not in_vain:
                return [q for parts in cut for q in parts]
            for k in in_vain:
                cut[k] = [plans[k]]

    def given_copied(self, plans: list[Plan]) -> list[Plan]:
        """Given tensors that need a halo are copied into one."""
        needs = {t for p in plans for t in p.halos} & self.inputs
        if not needs:
            return plans
        names = {t: t + "▫" for t in needs}
        copies = [self.plan(self.copy(t, names[t])) for t in self.system.inputs if t in needs]
        return copies + [settle(self.renamed_plan(p, names), self.shapes) for p in plans]

    def copied_out(self, plans: list[Plan]) -> list[Plan]:
        """Wanted tensors that need a halo are copied to the caller's arrays."""
        out = []
        halos = {t for p in plans for t in p.halos}
        for t in self.wanted:
            if t in halos and t not in self.system.updates:
                self.results[t] = t + "▪"
                out.append(self.plan(self.copy(t, t + "▪")))
        return out

    def renamed_plan(self, p: Plan, names: Mapping[str, str]) -> Plan:
        methods = {(_renamed_access(e, names), k): m for (e, k), m in p.methods.items()}
        return replace(p, nest=renamed(p.nest, names), methods=methods)


def split(p: Plan, sizes: Mapping[str, int]) -> tuple[Plan, dict[str, Affine]]:
    """The plan with two loops for some indices, over parts of so many values and inside one.

    And what these indices are in terms of the new ones.
    """

    def both(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(x for i in names for x in ((i + PANEL, i) if i in sizes else (i,)))

    n = p.nest
    values = {i: affine([(i + PANEL, size), (i, 1)]) for i, size in sizes.items()}
    extents = dict(n.extents)
    for i, size in sizes.items():
        extents |= {i + PANEL: (extents[i] or 0) // size, i: size}
    tile = dict(p.tile)
    for i, size in sizes.items():
        if i in tile:
            tile[i] = part_of(size // p.width if i == p.vector else size, tile[i])
    n = replace(at(n, values, extents), loops=both(n.loops))
    return replace(p, nest=n, order=both(p.order), tile=tile), values


def part_of(n: int, most: int) -> int:
    """The largest number up to `most` that divides n."""
    return max(k for k in range(1, most + 1) if n % k == 0)


def _renamed_access(e: Access, names: Mapping[str, str]) -> Access:
    return Access(names.get(e.tensor, e.tensor), e.axes, e.pad)


def renamed(n: Nest, names: Mapping[str, str]) -> Nest:
    """The nest, reading other tensors."""

    def go(e: Expr) -> Expr:
        e = rebuild(e, go)
        return _renamed_access(e, names) if isinstance(e, Access) else e

    guards = tuple(_renamed_access(e, names) for e in n.guards)
    t = n.transform
    if t is not None:
        t = replace(t, source=_renamed_access(t.source, names))
    return replace(n, body=go(n.body), guards=guards, transform=t)


def fresh(name: str, taken: Container[str]) -> str:
    """The name, with as many primes as make it new."""
    while name in taken:
        name += "'"
    return name


def inside_reduction(e: Expr, x: Expr) -> bool:
    return any(isinstance(r, Reduce) and any(y is x for y in walk(r.body)) for r in walk(e))
