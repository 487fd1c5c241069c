"""Passes over a program's nests, before they are put into stages.

What a sum would work out again at every step becomes a tensor; a sum over the batch becomes one
over each block, or one row of an image at a time; a nest that only one other reads at its own
point goes into that one; and what is read against the grain of memory is copied first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from chainrule.native import windows, winograd
from chainrule.native.copies import NEW, Copies, Shape, fresh, inside_reduction, renamed
from chainrule.native.loops import hoist_batch_sums, nest_of, open_indices
from chainrule.native.nest import Nest, at, positions, replaced
from chainrule.native.tiles import NEAR

_IMAGE = 1 << 19  # bytes of a sample above which it is summed row by row
_STEPS = 64  # terms of a sample's sum that outweigh reading and writing the result
_FAR = 3 << 16  # weights, of which no core's own cache holds what it needs beside its data
_PART = 1024  # terms of a dense layer's sum whose weights stay near
_LANE_BYTES = 1 << 22  # a sum larger than this is not kept once for each lane


class Rewriter(Copies):
    """The passes; each takes nests and gives nests."""

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

    def aliased(self, nests: list[Nest]) -> list[Nest]:
        """Without plain copies: what one reads is read in its place, or is made in its place."""
        for k in reversed(range(len(nests))):
            n, e = nests[k], nests[k].body
            if not isinstance(e, Access) or e.axes != n.store or e.pad is not None:
                continue
            t, source = n.target, e.tensor
            private = {t, source} - {*self.inputs, *self.wanted, *self.system.updates}
            if self.shapes[t] != self.shapes[source] or source in self.integers or not private:
                continue
            if t.endswith(NEW) or source in self.system.updates:
                continue
            gone, stays = (t, source) if t in private else (source, t)
            nests = [
                renamed(replace(m, target=stays if m.target == gone else m.target), {gone: stays})
                for m in (*nests[:k], *nests[k + 1 :])
            ]
        return nests

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
        all_, extents = self.whole(first.tensor)
        axes = positions(all_)

        def here(e: Expr) -> Expr:
            return Access(e.tensor, axes, None) if isinstance(e, Access) else rebuild(e, here)

        body = mul(*map(here, factors))
        if body not in self.products:
            name = self.products[body] = f"{first.tensor}∘{len(self.products) or ''}"
            self.shapes[name] = self.shapes[first.tensor]
            made.append(Nest(name, tuple(extents), axes, body, extents))
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
        large = size * self.machine.element > _LANE_BYTES or (len(e.names) == 1 and size > 1024)
        name = self.fresh(n.target + "Σ")
        axes = tuple(map(bare, n.loops))
        part = replace(n, target=name, store=axes, lane=over[0])
        if not self.winograd or windows.suitable(part, self) is None:
            if large:
                return [n]
            rows, body = self.by_rows(n, e, over[0])
            part = replace(part, loops=(*rows, *n.loops), body=body)
        self.shapes[name] = tuple(n.extents[i] for i in n.loops)
        return [part, replace(n, body=Access(name, axes, None))]

    def fewer_products(self, nests: list[Nest]) -> list[Nest]:
        """Sums over small windows by tiles, where that is faster."""
        done: list[Nest] = []
        while nests:
            n, *nests = nests
            s = windows.suitable(n, self)
            made, nests = winograd.nests(n, s, self, nests) if s else ([n], nests)
            done += made
        return done

    def by_rows(self, n: Nest, e: Reduce, sample: str) -> tuple[tuple[str, ...], Expr]:
        """Which summed indices a sum over samples walks outside: those of large images.

        So each row of an image meets all weights while it is near.
        """
        reads = [a for a in dict.fromkeys(walk(e.body)) if isinstance(a, Access)]
        sizes = [math.prod(self.shapes[a.tensor][1:]) for a in reads if self.has_batch(a.tensor)]  # type: ignore[arg-type]
        inner = [i for i in e.names if i != sample]
        results = math.prod(n.extents[i] or 1 for i in n.loops)
        # at each row, all results are read and written
        image, steps = sum(sizes) * self.machine.element, n.values(inner)
        if n.sample or image < _IMAGE or steps < _STEPS:
            return (), e
        by_row = len(inner) > 1 and image >= 2 * results * self.machine.element
        rows = (sample, inner[0]) if by_row else (sample,)
        kept = tuple(b for b in e.binders if b[0] not in rows)
        return rows, Reduce("sum", kept, e.body)

    def spread_out(self, n: Nest) -> list[Nest]:
        """A layer of many weights, each read a few times a sample: it stays with one core."""
        others = {i for i in n.loops if i != n.sample}
        for e in n.accesses() if n.sample and n.lane is None and not n.group else ():
            size = math.prod(d or 0 for d in self.shapes[e.tensor])
            if size <= NEAR or not inside_reduction(n.body, e):
                continue
            if others <= set(e.free):
                return self.in_parts(replace(n, spread=True))
            if size > _FAR and not self.has_batch(e.tensor):
                return [replace(n, spread=True)]
        return [n]

    def in_parts(self, n: Nest) -> list[Nest]:
        """A long sum in parts: a part's weights stay near for all samples.  Then the rest."""
        sums = [e for e in walk(n.body) if isinstance(e, Reduce)]
        if len(sums) != 1 or sums[0].op != "sum":
            return [n]
        (e,) = sums
        sizes = [n.extents[i] or 0 for i in e.names]
        total = math.prod(sizes)
        splits = [(i, d, part) for i, d in zip(e.names, sizes, strict=True)
                  for part in range(1, d + 1) if d % part == 0 and d > part]  # fmt: skip
        near = [s for s in splits if _PART // 2 <= total // (s[1] // s[2]) <= _PART]
        if total <= _PART or not near:
            return [n]
        name, size, part = near[0]
        carry, target = name + "ᵖ", self.fresh(n.target + "ᵖ")
        body: Expr = Reduce("sum", tuple(b for b in e.binders if b[0] != name or part > 1), e.body)
        extents = {**n.extents, carry: size // part, name: part}
        values = {name: affine([(carry, part), (name, 1)] if part > 1 else [(carry, 1)])}
        if part == 1:
            del extents[name]
        sample = n.store[0].bare
        own = [i for i in n.loops if i in e.free]
        axes = tuple(map(bare, own))
        if not own or own[0] != sample:
            return [n]
        self.shapes[target] = tuple(n.extents[i] for i in own)
        parts = replace(n, target=target, store=axes, body=body, loops=tuple(own))
        parts = replace(at(parts, values, extents), loops=(*own, carry), carry=carry)
        rest = replaced(n.body, {e: Access(target, axes, None)})
        return [parts, replace(n, spread=False, body=rest)]

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

    def inlined(self, nests: list[Nest]) -> list[Nest]:
        """Put a shared nest into the one nest that reads it, where it reads just its own point."""
        made = list(nests)
        for target in [n.target for n in nests]:
            n = next(m for m in made if m.target == target)  # as it is by now
            readers = [m for m in made if m is not n and target in m.reads]
            if n.sample or n.target in self.wanted or n.target.endswith(NEW) or len(readers) != 1:
                continue
            (reader,) = readers
            reads = [a for a in reader.accesses() if a.tensor == n.target]
            if reader.sample or len(reads) != 1 or reads[0].pad is not None:
                continue
            if inside_reduction(reader.body, reads[0]) or _count(reader.body, reads[0]) > 1:
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
                renamed[name] = fresh(name, extents)
                extents[renamed[name]] = size
        all_names = {**renamed, **{a: b.bare or a for a, b in names.items()}}
        body = rename_bound(n.body, all_names)
        return replace(reader, body=replaced(reader.body, {read: body}), extents=extents)


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
