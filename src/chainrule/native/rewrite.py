"""Passes over a program's nests, before they are put into stages.

What a sum would work out again at every step becomes a tensor; a sum over the batch becomes one
over each block, or one row of an image at a time; a nest that only one other reads at its own
point goes into that one; and what is read against the grain of memory is copied first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from chainrule.expr import (
    ZERO,
    Access,
    Affine,
    Axis,
    Call,
    Compare,
    Expr,
    Index,
    Mul,
    Pow,
    Reduce,
    affine,
    bare,
    mul,
    rebuild,
    rename_bound,
    walk,
)
from chainrule.native.loops import Nest, hoist_batch_sums, nest_of, open_indices, positions
from chainrule.native.memory import Buffer
from chainrule.native.schedule import Machine, Plan, plan, settle
from chainrule.ranges import Ranges
from chainrule.system import System

_IMAGE = 1 << 19  # bytes of a sample above which it is summed row by row
_LANE_BYTES = 1 << 22  # a sum larger than this is not kept once for each lane
NEW = "⁺"

Shape = tuple[int | None, ...]


class Rewriter:
    """The nests of a system and the passes over them; `shapes` grows with the tensors they make."""

    def __init__(
        self, system: System, ranges: Ranges, batch: Mapping[str, bool], wanted: Sequence[str],
        integers: frozenset[str], machine: Machine, block: int, train: bool,
    ) -> None:  # fmt: skip
        self.system, self.ranges, self.batch = system, ranges, batch
        self.wanted, self.integers, self.machine = tuple(wanted), integers, machine
        self.block, self.train = block, train
        self.shapes: dict[str, Shape] = {
            t: (None, *s[1:]) if t in batch else s for t, s in ranges.shapes.items()
        }
        self.inputs = set(system.inputs)
        self.buffers: dict[str, Buffer] = {}
        self.products: dict[Expr, str] = {}
        self.results = {t: t + NEW if t in system.updates else t for t in wanted}

    def nests(self) -> list[Nest]:
        opened = (
            open_indices(self.system, self.batch)
            if self.batch
            else [frozenset()] * len(self.system.statements)
        )
        made: list[Nest] = []
        for s in self.system.needed_for(self.wanted):
            k = self.system.statements.index(s)
            n = nest_of(s, self.ranges.extents[k], self.ranges.shapes, opened[k], self.batch)
            if s.is_update:
                self.shapes[s.target + NEW] = self.shapes[s.target]
                n = replace(n, target=s.target + NEW)
            parts = hoist_batch_sums(n, n.target)
            for part in parts:
                self.shapes.setdefault(part.target, tuple(part.extents[i] for i in part.loops))
            made += parts
        return made

    def factored(self, n: Nest) -> list[Nest]:
        """Give factors that a sum would work out again at every step a tensor of their own."""
        made: list[Nest] = []

        def go(e: Expr) -> Expr:
            if isinstance(e, Reduce) and e.op == "sum" and isinstance(e.body, Mul):
                group = _computed_factors(e.body, self.shapes)
                if group is not None:
                    first, factors = group
                    inside = self.named(first, factors, made)
                    rest = [f for f in e.body.factors if f not in factors]
                    return Reduce(e.op, e.binders, mul(inside, *rest))
                return e
            return rebuild(e, go)

        body = go(n.body)
        return [*made, replace(n, body=body)]

    def named(self, first: Access, factors: list[Expr], made: list[Nest]) -> Access:
        """The product of some factors, all read at one position, as a tensor of its own."""
        shape = self.shapes[first.tensor]
        axes = tuple(bare(f"i{k}") if n != 1 else affine((), 0) for k, n in enumerate(shape))

        def here(e: Expr) -> Expr:
            return Access(e.tensor, axes, None) if isinstance(e, Access) else rebuild(e, here)

        body = mul(*map(here, factors))
        if body not in self.products:
            name = self.products[body] = f"{first.tensor}∘{len(self.products) or ''}"
            loops = tuple(a.bare for a in axes if a.bare is not None)
            extents = {f"i{k}": n for k, n in enumerate(shape) if n != 1}
            self.shapes[name] = shape
            made.append(Nest(name, loops, axes, body, extents))
        return Access(self.products[body], first.axes, first.pad)

    def collected(self, n: Nest) -> list[Nest]:
        """A sum over the batch as a sum over each block's samples, if that is the better way."""
        e = n.body
        if not (isinstance(e, Reduce) and e.op == "sum") or n.sample:
            return [n]
        over = [i for i in e.names if n.extents[i] is None]
        if len(over) != 1 or not self.by_sample(e.body, over[0]):
            return [n]
        size = math.prod(n.extents[i] or 0 for i in n.loops)
        if size * self.machine.element > _LANE_BYTES or (len(e.names) == 1 and size > 1024):
            return [n]
        rows, body = self.by_rows(n, e, over[0])
        name = n.target + "Σ"
        self.shapes[name] = tuple(n.extents[i] for i in n.loops)
        axes = tuple(map(bare, n.loops))
        part = replace(n, target=name, loops=(*rows, *n.loops), store=axes, body=body, lane=over[0])
        return [part, replace(n, body=Access(name, axes, None))]

    def by_rows(self, n: Nest, e: Reduce, sample: str) -> tuple[tuple[str, ...], Expr]:
        """Which summed indices a sum over samples walks outside: those of large images.

        So each row of an image meets all weights while it is near.
        """
        reads = [a for a in dict.fromkeys(walk(e.body)) if isinstance(a, Access)]
        sizes = [math.prod(self.shapes[a.tensor][1:]) for a in reads if self.has_batch(a.tensor)]  # type: ignore[arg-type]
        inner = [i for i in e.names if i != sample]
        if len(inner) < 2 or sum(sizes) * self.machine.element < _IMAGE or n.sample:
            return (), e
        rows = (sample, inner[0])
        kept = tuple(b for b in e.binders if b[0] not in rows)
        return rows, Reduce("sum", kept, e.body)

    def by_sample(self, e: Expr, sample: str) -> bool:
        """Whether e reads, of tensors with a batch, only the sample's own rows."""
        for x in walk(e):
            if isinstance(x, Reduce) and any(n == sample for n in x.names):
                return False
            if (
                isinstance(x, Access)
                and self.has_batch(x.tensor)
                and positions(x)[0].bare != sample
            ):
                return False
        return True

    def has_batch(self, t: str) -> bool:
        return bool(self.shapes[t]) and self.shapes[t][0] is None

    def inlined(self, nests: list[Nest]) -> list[Nest]:
        """Put a shared nest into the one nest that reads it, where it reads just its own point."""
        made = list(nests)
        for n in nests:
            readers = [m for m in made if m is not n and n.target in m.reads]
            if n.sample or n.target in self.wanted or n.target.endswith(NEW) or len(readers) != 1:
                continue
            (reader,) = readers
            reads = [a for a in reader.accesses() if a.tensor == n.target]
            if reader.sample or len(reads) != 1 or reads[0].pad is not None:
                continue
            if _inside_reduction(reader.body, reads[0]) or _count(reader.body, reads[0]) > 1:
                continue
            merged = self.merged(n, reader, reads[0])
            if merged is not None:
                made[made.index(reader)] = merged
                made.remove(n)
        return made

    def merged(self, n: Nest, reader: Nest, read: Access) -> Nest | None:
        names: dict[str, Affine] = {}
        for mine, theirs in zip(n.store, positions(read), strict=True):
            a, b = mine.bare, theirs.bare
            if a is None and not mine.terms and theirs is mine:
                continue
            if a is None or b is None or n.extents[a] != reader.extents[b] or a in names:
                return None
            names[a] = bare(b)
        if len({a.bare for a in names.values()}) != len(names) or set(names) != set(n.loops):
            return None
        extents = dict(reader.extents)
        renamed: dict[str, str] = {}
        for name, size in n.extents.items():
            if name not in names:
                fresh = name
                while fresh in extents or fresh in renamed.values():
                    fresh += "'"
                renamed[name] = fresh
                extents[fresh] = size
        all_names = {**renamed, **{a: b.bare or a for a, b in names.items()}}
        body = rename_bound(n.body, all_names)
        return replace(reader, body=replaced(reader.body, read, body), extents=extents)

    # ------------------------------------------------------------ copies

    def rows_copied(self, nests: list[Nest]) -> list[Nest]:
        """In training, the rows that the order picks are copied first."""
        if not self.train:
            return nests
        names = {t: t + "▫" for t, given in self.batch.items() if given and t in self.inputs}
        used = {t for n in nests for t in n.reads if t in names}
        return [*(self.copy(t, names[t]) for t in self.system.inputs if t in used),
                *(_renamed(n, names) for n in nests)]  # fmt: skip

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

    def turned(self, plans: list[Plan]) -> list[Plan]:
        """Copies of tensors without samples whose neighbours along a vector index lie apart."""
        made: dict[tuple[str, tuple[int, ...]], str] = {}
        copies: list[Plan] = []
        out = []
        for p in plans:
            n, swaps = p.nest, {}
            for e in n.accesses():
                if p.vector is None or self.has_batch(e.tensor) or e.pad is not None:
                    continue
                if e.tensor not in self.inputs or not _in_sum(n.body, e):
                    continue
                places = [k for k, a in enumerate(e.axes) if p.vector in a.names]
                if len(places) != 1 or places[0] == len(e.axes) - 1:
                    continue
                if positions(e)[places[0]].bare != p.vector:
                    continue
                rest = [k for k in range(len(e.axes)) if k != places[0]]
                order = (*rest, places[0])
                if (e.tensor, order) not in made:
                    name = made[e.tensor, order] = f"{e.tensor}ᵀ{len(made) or ''}"
                    copies.append(plan(self.copy(e.tensor, name, order), self.machine, self.block))
                swaps[e] = Access(made[e.tensor, order], tuple(e.axes[k] for k in order), None)
            if swaps:
                body = n.body
                for old, new in swaps.items():
                    body = replaced(body, old, new)
                p = plan(replace(n, body=body), self.machine, self.block)
            out.append(p)
        return copies + out

    def given_copied(self, plans: list[Plan]) -> list[Plan]:
        """Given tensors that need a halo are copied into one."""
        needs = {
            e.tensor
            for p in plans
            for (e, _), m in p.methods.items()
            if m == "halo" and e.tensor in self.inputs
        }
        if not needs:
            return plans
        names = {t: t + "▫" for t in needs}
        copies = [plan(self.copy(t, names[t]), self.machine, self.block)
                  for t in self.system.inputs if t in needs]  # fmt: skip
        return copies + [settle(self.renamed_plan(p, names), self.shapes) for p in plans]

    def copied_out(self, plans: list[Plan]) -> list[Plan]:
        """Wanted tensors that need a halo are copied to the caller's arrays."""
        out = []
        halos = {e.tensor for p in plans for (e, _), m in p.methods.items() if m == "halo"}
        for t in self.wanted:
            if t in halos and t not in self.system.updates:
                self.results[t] = t + "▪"
                out.append(plan(self.copy(t, t + "▪"), self.machine, self.block))
        return out

    def renamed_plan(self, p: Plan, names: Mapping[str, str]) -> Plan:
        methods = {(_renamed_access(e, names), k): m for (e, k), m in p.methods.items()}
        return replace(p, nest=_renamed(p.nest, names), methods=methods)


def _renamed_access(e: Access, names: Mapping[str, str]) -> Access:
    return Access(names.get(e.tensor, e.tensor), e.axes, e.pad)


def _renamed(n: Nest, names: Mapping[str, str]) -> Nest:
    def go(e: Expr) -> Expr:
        e = rebuild(e, go)
        return _renamed_access(e, names) if isinstance(e, Access) else e

    return replace(n, body=go(n.body))


def replaced(e: Expr, old: Expr, new: Expr) -> Expr:
    return new if e is old else rebuild(e, lambda c: replaced(c, old, new))


def _inside_reduction(e: Expr, x: Expr) -> bool:
    return any(isinstance(r, Reduce) and any(y is x for y in walk(r.body)) for r in walk(e))


def _in_sum(e: Expr, x: Expr) -> bool:
    return _inside_reduction(e, x)


def _count(e: Expr, x: Expr) -> int:
    return sum(y is x for y in walk(e))


def _computed_factors(e: Mul, shapes: Mapping[str, Shape]) -> tuple[Access, list[Expr]] | None:
    """Factors of a product that are worked out, not just read, with those at the same position.

    The first of them is an access that is a factor: behind pad it makes the product 0 outside.
    """
    for f in e.factors:
        if not isinstance(f, (Compare, Call, Pow)):
            continue
        reads = [a for a in walk(f) if isinstance(a, Access)]
        if not reads or any(isinstance(x, (Reduce, Index)) for x in walk(f)):
            continue
        axes, shape = reads[0].axes, shapes[reads[0].tensor]
        group = [g for g in e.factors if _reads_only(g, axes, shape, shapes)]
        first = next((g for g in group if isinstance(g, Access)), None)
        if first is None or f not in group:
            continue
        if first.pad is None and any(a.pad is not None for a in reads):
            continue
        if first.pad in (None, ZERO) and any(g.free and g not in group for g in e.factors):
            return first, group
    return None


def _reads_only(e: Expr, axes: tuple[Axis, ...], shape: Shape, shapes: Mapping[str, Shape]) -> bool:
    """Whether e reads tensors of one shape at one position, and is made of nothing else."""
    reads = [a for a in walk(e) if isinstance(a, Access)]
    return (
        bool(reads)
        and all(a.axes == axes and shapes[a.tensor] == shape for a in reads)
        and not any(isinstance(x, (Reduce, Index)) for x in walk(e))
    )
