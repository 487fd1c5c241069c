"""Statements as loop nests: what is left of a formula when every size is a number.

    Nest = for loops: target[store] = body

In a nest every axis is affine (groups are written out), sizes are numbers, an index of one value
is gone, and a mean is a sum times a number.  One size may stay open: the batch, the number of
samples, whose loops have the extent None.  Its value stands in bodies as the symbol `batch`.

A fractional position, as in pad(δx)[(p-m)/2], is solved by residue classes: p = 2*p' + r for each
r, and of the values of m those for which the division comes out even.  One statement becomes
several nests, and no loop tests a predicate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from chainrule.expr import (
    ZERO,
    Access,
    Affine,
    Axis,
    Binder,
    Expr,
    Group,
    Index,
    Mul,
    Reduce,
    Size,
    Symbol,
    add,
    affine,
    bare,
    const,
    mul,
    power,
    rebuild,
    substitute,
    walk,
)
from chainrule.native.nest import Extent, Nest, at, positions
from chainrule.ranges import Ranges, symbolic, unique
from chainrule.system import Statement, System

BATCH = Symbol("batch")
_MAX_CLASSES = 64  # residue classes of one statement; beyond, positions are tested one by one


# ---------------------------------------------------------------- which axis is the batch


def batch_axes(system: System, data: frozenset[str] | None = None) -> dict[str, bool] | None:
    """The inputs whose first axis is the batch (True) and the tensors made with it, or None.

    With `data`, just these inputs are made of samples.

    The batch is a size on first axes only, whose index always stands alone on them: then
    addresses do not depend on it, and one compiled program serves every size.
    """
    ranges = symbolic(system)
    candidates = [
        Size(t, 0) for t in system.inputs if ranges.tensors.get(t) and t not in system.updates
    ]
    best: tuple[int, Size] | None = None
    for size in candidates:
        d = ranges.tensors[size.tensor][0]
        if ranges.canonical(d) != d:  # equal to another input's: that one stands for it
            continue
        whole = ranges.tensors[size.tensor][0]
        if data is not None:
            mine = {t for t in system.inputs if ranges.tensors.get(t)
                    and ranges.same(ranges.tensors[t][0], whole)}  # fmt: skip
            if mine != data:
                continue
        elif not any(len(dims) > 1 and ranges.same(dims[0], whole)
                   for dims in ranges.tensors.values()):  # fmt: skip
            continue  # nothing has samples of more than a number: the index is a vector's
        found = _serves(system, ranges, size)
        if found and (best is None or found > best[0]):
            best = found, size
    if best is None:
        return None
    size = best[1]
    whole = ranges.tensors[size.tensor][0]
    return {
        t: t in system.inputs
        for t, dims in ranges.tensors.items()
        if dims and ranges.same(dims[0], whole)
    }


def _serves(system: System, ranges: Ranges, size: Size) -> int:
    """How many statements have an index over this size; 0 where one keeps it from being open."""
    whole = ranges.tensors[size.tensor][0]
    for dims in ranges.tensors.values():
        for k, d in enumerate(dims):
            d = ranges.canonical(d)
            if d.contains(size) and (k > 0 or d != whole):
                return 0
    count = 0
    for s, sizes in zip(system.statements, ranges.indices, strict=True):
        names = {n for n, d in sizes.items() if ranges.canonical(d).contains(size)}
        if any(ranges.canonical(sizes[n]) != whole for n in names):
            return 0
        u = unique(s)
        if any(len(a) > 1 and any(n in names for n, _ in a) for a in u.axes):
            return 0
        for e in walk(u.body):
            match e:
                case Access(t, axes, _):
                    dims = ranges.tensors[t]
                    if dims and ranges.canonical(dims[0]) == whole and not _alone(axes[0], names):
                        return 0
                    for k, a in enumerate(axes):
                        alone = k == 0 and isinstance(a, Affine) and a.bare
                        if any(n in names for n in a.names) and not alone:
                            return 0
                case Index(name) if name in names:
                    return 0
                case Reduce("argmax", binders, _) if any(n in names for n, _ in binders):
                    return 0
        # A statement that gives the batch to another axis than its first was refused above.
        count += 2 if u.axes and u.axes[0][0][0] in names else bool(names)
    return count


def _alone(a: Axis, names: set[str]) -> bool:
    return isinstance(a, Affine) and a.bare in names


def open_indices(system: System, batch: Mapping[str, bool]) -> list[frozenset[str]]:
    """For each statement, the indices that run over the batch."""
    ranges = symbolic(system)
    some = next(t for t, given in batch.items() if given)
    whole = ranges.tensors[some][0]
    return [
        frozenset(n for n, d in sizes.items() if ranges.same(d, whole)) for sizes in ranges.indices
    ]


# ---------------------------------------------------------------- statement -> nest


def nest_of(
    s: Statement,
    extents: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    open_: frozenset[str],
    batch: Mapping[str, bool],
) -> Nest:
    """The nest of one statement."""
    u = unique(s)
    sizes: dict[str, Extent] = {n: None if n in open_ else d for n, d in extents.items()}
    writer = _Writer(sizes, shapes, batch)
    store = tuple(writer.axis(Group(tuple(n for n, _ in axis))) for axis in u.axes)
    loops = tuple(n for n in u.indices if sizes[n] != 1)
    body = writer.write(u.body)
    return Nest(s.target, loops, store, body, {n: d for n, d in sizes.items() if d != 1})


class _Writer:
    """Rewrites a body: sizes to numbers, groups to affine axes, indices of one value to 0."""

    def __init__(
        self,
        sizes: Mapping[str, Extent],
        shapes: Mapping[str, tuple[int, ...]],
        batch: Mapping[str, bool],
    ) -> None:
        self.sizes, self.shapes, self.batch = sizes, shapes, batch

    def axis(self, a: Axis) -> Affine:
        if isinstance(a, Group):
            weight, terms = 1, []
            for name in reversed(a.names):
                terms.append((name, Fraction(weight)))
                weight *= self.sizes[name] or 0
            a = affine(reversed(terms))
        return affine(((n, c) for n, c in a.terms if self.sizes[n] != 1), a.offset)

    def count(self, names: tuple[str, ...]) -> Expr:
        sizes = [self.sizes[n] for n in names]
        return mul(const(math.prod(d for d in sizes if d is not None)),
                   *(BATCH for d in sizes if d is None))  # fmt: skip

    def write(self, e: Expr) -> Expr:
        match e:
            case Index(name):
                return ZERO if self.sizes[name] == 1 else e
            case Size(t, axis):
                return BATCH if axis == 0 and t in self.batch else const(self.shapes[t][axis])
            case Access(t, axes, pad):
                written = None if pad is None else self.write(pad)
                return Access(t, tuple(map(self.axis, axes)), written)
            case Reduce(op, _, body):
                body = self.write(body)
                if op == "mean":
                    scale = power(self.count(e.names), const(-1))
                    return mul(scale, self.reduce("sum", e.names, body))
                return self.reduce(op, e.names, body)
            case _:
                return rebuild(e, self.write)

    def reduce(self, op: str, names: tuple[str, ...], body: Expr) -> Expr:
        kept = tuple((n, None) for n in names if self.sizes[n] != 1)
        if not kept:
            return ZERO if op == "argmax" else body
        return Reduce(op, kept, body)


# ---------------------------------------------------------------- sums over the batch


def hoist_batch_sums(nest: Nest, fresh: str) -> list[Nest]:
    """Give each reduction over the batch a nest of its own, unless its value differs by sample."""
    made: list[Nest] = []
    outer = nest.sample

    def over_batch(e: Reduce) -> bool:
        return any(nest.extents[n] is None for n in e.names)

    def go(e: Expr, bound: frozenset[str]) -> Expr:
        if isinstance(e, Reduce):
            free = tuple(n for n in e.free)
            if over_batch(e) and outer not in free and not bound & set(free):
                axes = tuple(map(bare, free))
                name = f"{fresh}·{len(made)}"
                made.append(Nest(name, free, axes, e, nest.extents))
                return Access(name, axes, None)
            bound = bound | set(e.names)
        return rebuild(e, lambda c: go(c, bound))

    if isinstance(nest.body, Reduce) and over_batch(nest.body):
        return [nest]
    body = go(nest.body, frozenset())
    return [*made, replace(nest, body=body)]


# ---------------------------------------------------------------- residue classes


def residue_nests(nest: Nest) -> list[Nest]:
    """The nest for each residue class of its indices, so that positions are whole numbers."""
    moduli = _moduli(nest)
    if not moduli:
        return [nest]
    split = {n: d for n, d in moduli.items() if n in nest.loops}
    inner = {n: d for n, d in moduli.items() if n not in split}
    classes = max(math.prod(split.values()), math.prod(inner.values()))
    if classes > _MAX_CLASSES or any(nest.extents[n] is None for n in moduli):
        return [nest]
    made = []
    for rest in itertools.product(*(range(d) for d in split.values())):
        values = {n: affine([(n, d)], r) for (n, d), r in zip(split.items(), rest, strict=True)}
        extents = dict(nest.extents)
        for (n, d), r in zip(split.items(), rest, strict=True):
            extents[n] = _class_size(nest.extents[n], d, r)
        if any(extents[n] == 0 for n in split):
            continue
        body = simplify_zeros(_solve(substitute(nest.body, values), inner, extents))
        store = tuple(a.at(values) for a in nest.store)
        made.append(_without_single(replace(nest, store=store, body=body, extents=extents)))
    return made


def _moduli(nest: Nest) -> dict[str, int]:
    """For each index of a fractional position, the number of residue classes it falls into."""
    moduli: dict[str, int] = {}
    for e in nest.accesses():
        for a in positions(e):
            if not a.whole:
                for n, c in a.terms:
                    moduli[n] = math.lcm(moduli.get(n, 1), c.denominator)
    return moduli


def _class_size(n: Extent, modulus: int, rest: int) -> int:
    assert n is not None
    return max(0, -(-(n - rest) // modulus))


def _solve(e: Expr, inner: Mapping[str, int], extents: dict[str, Extent]) -> Expr:
    """e with the classes of its summed indices told apart: one sum for each that gives a value."""
    if isinstance(e, Access):
        return _outside_if_fractional(e)
    if not isinstance(e, Reduce) or not any(n in inner for n in e.names):
        return rebuild(e, lambda c: _solve(c, inner, extents))
    if e.op != "sum":
        return e
    names = [n for n in e.names if n in inner]
    sums = []
    for rest in itertools.product(*(range(inner[n]) for n in names)):
        values, renamed = {}, []
        for n, r in zip(names, rest, strict=True):
            d = inner[n]
            size = _class_size(extents[n], d, r)
            new = f"{n}{subscript(r)}"
            extents[new] = size
            values[n] = affine([(new, d)] if size > 1 else [], r)
            renamed.append((new, size))
        if any(size == 0 for _, size in renamed):
            continue
        body = simplify_zeros(_solve(substitute(e.body, values), inner, extents))
        if body is ZERO:
            continue
        kept: list[Binder] = [(n, None) for n, size in renamed if size > 1]
        kept += [b for b in e.binders if b[0] not in inner]
        sums.append(Reduce("sum", tuple(kept), body) if kept else body)
    return add(*sums)


def subscript(n: int) -> str:
    """A number, small and below the line."""
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(c)] for c in str(n))


def _outside_if_fractional(e: Access) -> Expr:
    """The value outside, for an access whose position is a fraction for every index value."""
    for a in positions(e):
        if a.offset.denominator != 1 and all(c.denominator == 1 for _, c in a.terms):
            assert e.pad is not None
            return e.pad
    return e


def _without_single(nest: Nest) -> Nest:
    """The nest without its loops of one value."""
    gone = {n: affine((), 0) for n in nest.loops if nest.extents[n] == 1}
    if not gone:
        return nest
    return at(nest, gone, {n: d for n, d in nest.extents.items() if n not in gone})


def simplify_zeros(e: Expr) -> Expr:
    """Products with a plain 0 vanish: what is outside a tensor adds nothing."""
    e = rebuild(e, simplify_zeros)
    match e:
        case Mul(factors) if ZERO in factors:
            return ZERO
        case Reduce("sum", _, body) if body is ZERO:
            return ZERO
        case _:
            return e
