"""One element's terms, factors and inner reductions, from the numbers of an evaluated System."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chainrule.explain.batch import batch_axis
from chainrule.explain.causes import Causes
from chainrule.explain.model import Cell, Factor, Inner, Part, Sample, Term, Zeros
from chainrule.explain.products import Product, products
from chainrule.explain.values import Floats, Numbers, Place, at
from chainrule.explain.writing import (
    accesses,
    formula,
    known,
    reductions,
    unpadded,
    with_numbers,
)
from chainrule.explain.zeros import Reasons, from_afar
from chainrule.expr import Access, Affine, Compare, Const, Expr, Pow, Reduce, Size, rebuild, walk

TERMS = 100  # of a sum, as objects; those beyond are added up
ENTRIES = 12  # of what an inner reduction reduces


@dataclass
class Builder:
    """Builds the parts of explanations; everything that is the same for all elements is kept."""

    work: Numbers
    of: str | None = None

    @cached_property
    def reasons(self) -> Reasons:
        return Reasons(self.work)

    @cached_property
    def causes(self) -> Causes:
        return Causes(self.reasons)

    @cached_property
    def batch(self) -> frozenset[str]:
        return batch_axis(self.work.system)

    def parts(self, t: str, index: Place) -> tuple[Part, ...]:
        """The terms that t[index] is the sum of."""
        left = self.work.left(t, index)
        found = products(self.work.body(t), self.work.extents(t))
        return tuple(self.part(t, p, left, len(found) > 1) for p in found)

    def part(self, t: str, p: Product, left: Mapping[str, int], several: bool) -> Part:
        extents = self.work.extents(t)
        factors = tuple(at(f, left) for f in p.factors)
        whole = at(p.whole, left)
        grid = self.work.grid(t, whole, p.names)
        sizes = tuple(extents[n] for n in p.names)
        flat = grid.reshape(-1)
        places = np.flatnonzero(flat)  # NaN counts as not 0
        with np.errstate(all="ignore"):
            size = np.abs(flat[places])
        order = places[np.argsort(-np.where(np.isnan(size), np.inf, size), kind="stable")]
        terms = []
        if not p.names:  # a single product is shown even where it is 0
            terms.append(Term({}, self.factors(t, factors, {}), float(flat[0])))
        for k in order[:TERMS] if p.names else ():
            where = map(int, np.unravel_index(int(k), sizes)) if sizes else ()
            bound = dict(zip(p.names, where, strict=True))
            terms.append(Term(bound, self.factors(t, factors, bound), float(flat[k])))
        beyond = flat[order[TERMS:]]
        batch = self.batch_name(t, p)
        return Part(
            formula=formula(p.whole),
            filled=formula(whole),
            names=p.names,
            sizes=sizes,
            value=added(flat),
            terms=tuple(terms)
            if p.names
            else (Term({}, self.factors(t, factors, {}), float(flat[0])),),
            rest=(len(beyond), added(beyond)),
            zeros=self.zeros(t, factors, p.names, grid),
            batch=batch,
            samples=_samples(grid, p.names.index(batch)) if batch else (),
            via=self.via(t, p) if several else "",
        )

    def factors(
        self, t: str, factors: tuple[Expr, ...], bound: Mapping[str, int]
    ) -> tuple[Factor, ...]:
        return tuple(self.factor(t, f, at(f, bound)) for f in factors)

    def factor(self, t: str, letters: Expr, e: Expr) -> Factor:
        numbers = with_numbers(e, known(self.work, t))
        kind = _kind(e)
        return Factor(
            formula=numbers if kind == "constant" else _header(letters),
            name=numbers if kind == "constant" else formula(unpadded(self.work, e)),
            numbers=numbers,
            value=self.work.number(t, e),
            kind=kind,
            expr=unpadded(self.work, e),
            cells=self.cells(e),
            inner=tuple(self.inner(t, r) for r in reductions(e)),
        )

    def cell(self, e: Access) -> Cell | None:
        """The element that an access reads; None where it reads a pad value."""
        place = self.work.inside(e)
        if place is None:
            return None
        value = float(self.work.before[e.tensor][place])
        return Cell(e.tensor, place, value, self.work.role(e.tensor))

    def cells(self, e: Expr) -> tuple[Cell, ...]:
        found = (self.cell(a) for a in accesses(e) if not a.free)
        return tuple(dict.fromkeys(c for c in found if c is not None))

    def inner(self, t: str, r: Reduce) -> Inner:
        """A reduction inside a factor: what it reduces, and who wins or weighs most."""
        extents = self.work.extents(t)
        names = r.names
        grid = self.work.grid(t, r.body, names)
        value = self.work.number(t, r)
        flat = grid.reshape(-1)
        winner: Place = ()
        ties, winner_name = 0, ""
        if r.op in ("max", "min", "argmax") and flat.size:
            best = int(np.argmin(flat) if r.op == "min" else np.argmax(flat))
            ties = int(np.sum(flat == flat[best]))
            winner = tuple(map(int, np.unravel_index(best, grid.shape)))
            item = at(r.body, dict(zip(names, winner, strict=True)))
            winner_name = formula(unpadded(self.work, item))
            entries = [self.factor(t, r.body, item)]
        else:
            order = range(flat.size) if flat.size <= ENTRIES else np.argsort(-np.abs(flat))
            entries = []
            for k in list(order)[:ENTRIES]:
                place = map(int, np.unravel_index(int(k), grid.shape))
                bound = dict(zip(names, place, strict=True))
                if flat[k] != 0 or r.op not in ("sum", "mean"):
                    entries.append(self.factor(t, r.body, at(r.body, bound)))
        assert all(n in extents for n in names)
        return Inner(
            op=r.op,
            formula=formula(r),
            value=value,
            names=names,
            values=grid,
            winner=winner,
            ties=ties,
            winner_name=winner_name,
            cells=tuple(dict.fromkeys(c for f in entries for c in all_cells(f))),
            entries=tuple(entries),
        )

    def zeros(
        self, t: str, factors: tuple[Expr, ...], names: tuple[str, ...], grid: Floats
    ) -> tuple[Zeros, ...]:
        """The zeros of a sum counted by reason, the most frequent first."""
        zero = grid == 0
        if not zero.any():
            return ()
        found = self.reasons.of_terms(t, factors, names, zero)
        out = []
        for k, reason in enumerate(found.reasons):
            count = int(np.sum(found.codes == k))
            if not count:
                continue
            first = map(int, np.argwhere(found.codes == k)[0]) if names else ()
            bound = dict(zip(names, first, strict=True))
            example = self.causes.example(t, factors, bound)
            share = self.share(reason.source or t, reason.root)
            cells = [c for f in factors for c in self.cells(at(f, bound))]
            dead = tuple(c for c in cells if c.role != "given" and c.value == 0)
            brackets = [f for f in factors if isinstance(f, Compare)]
            asked = tuple(c for f in brackets for c in self.cells(at(f, bound)))
            out.append(Zeros(count, reason.text, example, share, dead or asked))
        return tuple(sorted(out, key=lambda z: -z.count))

    def share(self, tensor: str, root: str) -> str:
        """How much of a tensor is 0 for a reason."""
        found = self.reasons.of_tensor(tensor) if tensor else None
        if found is None:
            return ""
        root = from_afar(root)
        hit = [k for k, r in enumerate(found.reasons) if r.root == root]
        count = int(np.sum(np.isin(found.codes, hit)))
        if not count or found.codes.size == 1:
            return ""
        verb = "is" if count == 1 else "are"
        return f"{count:,} of the {found.codes.size:,} entries of {tensor} {verb} 0: {root}"

    def batch_name(self, t: str, p: Product) -> str:
        """The summed index that counts samples, where others are summed as well."""
        if len(p.names) < 2:
            return ""
        for e in walk(p.whole):
            if isinstance(e, Access) and e.tensor.removeprefix("δ") in self.batch and e.axes:
                axis = e.axes[0]
                if isinstance(axis, Affine) and axis.bare in p.names:
                    return axis.bare or ""
        return ""

    def via(self, t: str, p: Product) -> str:
        """Through which statement a part of a gradient comes back."""
        if self.work.role(t) != "backward":
            return ""
        for e in walk(p.whole):
            if isinstance(e, Access) and self.work.role(e.tensor) == "backward":
                return e.tensor.removeprefix("δ")
        return self.of or ""


def added(values: Floats | list[float]) -> float:
    """A sum without rounding on the way; NaN and infinities as they come."""
    if np.isfinite(values).all():
        try:
            return math.fsum(values)
        except OverflowError:
            pass
    with np.errstate(all="ignore"):
        return float(np.sum(values))


def all_cells(f: Factor) -> tuple[Cell, ...]:
    """What a factor reads, directly and through its reductions."""
    return (*f.cells, *(c for i in f.inner for c in i.cells))


def _samples(grid: Floats, axis: int) -> tuple[Sample, ...]:
    moved = np.moveaxis(grid, axis, 0)
    return tuple(
        Sample(k, added(row.reshape(-1)), int(np.count_nonzero(row))) for k, row in enumerate(moved)
    )


def _kind(e: Expr) -> str:
    if all(isinstance(x, (Const, Size, Pow)) for x in walk(e)):
        return "constant"
    if isinstance(e, Access):
        return "tensor"
    return "bracket" if isinstance(e, Compare) else "expression"


def _header(e: Expr) -> str:
    """What stands above a column: without pad( ), which the zeros below it speak of."""

    def go(x: Expr) -> Expr:
        return Access(x.tensor, x.axes, None) if isinstance(x, Access) else rebuild(x, go)

    return formula(go(e))
