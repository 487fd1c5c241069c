"""Why a term is 0: the reason for every zero of a sum, worked out for all its terms at once.

A term is 0 because one of its factors is.  Where that factor is itself a computed element, the
reason is the reason why that element is 0; so reasons are worked out for whole tensors and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chainrule.explain.products import products
from chainrule.explain.values import Numbers, at
from chainrule.explain.writing import formula, polished
from chainrule.expr import (
    ZERO,
    Access,
    Affine,
    Call,
    Compare,
    Const,
    Expr,
    Reduce,
    factors_of,
    walk,
)
from chainrule.notation.show import show_axis
from chainrule.system import Statement

Codes = NDArray[np.int64]
Note: TypeAlias = "Callable[[NDArray[np.bool_], Reason], None]"
_LARGE = 3_000_000  # terms; beyond, a tensor's zeros are not looked into


@dataclass(frozen=True)
class Reason:
    """rank    of several reasons the one with the lowest is told
    text    for one factor of a term, with its letters
    root    the same without letters: what is told from further away
    source  the tensor whose zeros these are, "" for none
    """

    rank: int
    text: str
    root: str
    source: str = ""


@dataclass(frozen=True)
class Found:
    """For each place of a grid the number of its reason, or -1 where there is none."""

    codes: Codes
    reasons: tuple[Reason, ...]


class Reasons:
    """The reasons for zeros in one evaluated System."""

    def __init__(self, work: Numbers) -> None:
        self.work = work
        self.kept: dict[str, Found | None] = {}
        calls = [e for s in work.system.statements for e in walk(s.body)]
        relus = [e for e in calls if isinstance(e, Call) and e.function == "relu"]
        self.under_relu = {x.tensor for e in relus for x in walk(e) if isinstance(x, Access)}
        self.under_relu |= {
            s.target
            for s in work.system.statements
            if isinstance(s.body, Call) and s.body.function == "relu"
        }

    # ------------------------------------------------------------ all terms of one sum

    def of_terms(
        self, t: str, factors: Sequence[Expr], names: Sequence[str], zero: NDArray[np.bool_]
    ) -> Found:
        """A reason for every place where `zero` holds."""
        codes: Codes = np.full(zero.shape, -1, dtype=np.int64)
        reasons: list[Reason] = []

        def note(mask: NDArray[np.bool_], reason: Reason) -> None:
            mask = mask & zero & (codes < 0)
            if mask.any():
                if reason not in reasons:
                    reasons.append(reason)
                codes[mask] = reasons.index(reason)

        for f in factors:
            if isinstance(f, Access) and f.pad is ZERO:
                self.misses(t, f, names, note)
        for f in factors:
            if isinstance(f, Compare):
                note(self.work.grid(t, f, names) == 0, self.bracket(f))
        for f in factors:
            left = zero & (codes < 0)
            if isinstance(f, Compare) or not left.any():
                continue
            off = (self.work.grid(t, f, names) == 0) & left
            if off.any():
                self.zero_factor(t, f, names, off, note)
        note(zero, Reason(2, "the product is too small for float64", "too small for float64"))
        return Found(codes, tuple(reasons))

    def misses(self, t: str, f: Access, names: Sequence[str], note: Note) -> None:
        """Where a padded access falls between elements, or outside."""
        _, fraction, outside = self.positions(t, f, names)
        backward = self.work.role(f.tensor) != "given" and f.tensor.startswith("δ")
        for axis, mask in zip(f.axes, fraction, strict=True):
            text = f"no output there: {axis_text(axis)} is not whole"
            note(mask, Reason(3, text, "no output there"))
        miss = np.logical_or.reduce(outside) if outside else np.zeros((), dtype=bool)
        text = (
            f"no output there: outside {f.tensor}"
            if backward
            else f"outside {f.tensor}: pad gives 0"
        )
        note(miss, Reason(3, text, "no output there" if backward else text))

    def positions(
        self, t: str, f: Access, names: Sequence[str]
    ) -> tuple[list[Codes], list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
        """Per axis: where f reads (clipped), where that is no whole number, where it is outside."""
        extents = self.work.extents(t)
        shape = tuple(extents[n] for n in names)
        counter = dict(zip(names, np.indices(shape, sparse=True), strict=True))
        where, fraction, outside = [], [], []
        for n, axis in zip(self.work.before[f.tensor].shape, f.axes, strict=True):
            assert isinstance(axis, Affine)
            d = axis.denominator
            spot: Codes = np.full(shape, int(axis.offset * d), dtype=np.int64)
            for name, c in axis.terms:
                spot = spot + int(c * d) * counter[name]
            where.append(np.clip(spot // d, 0, max(n - 1, 0)))
            fraction.append(spot % d != 0)
            outside.append((spot < 0) | (spot > (n - 1) * d))
        return where, fraction, outside

    def zero_factor(
        self,
        t: str,
        f: Expr,
        names: Sequence[str],
        off: NDArray[np.bool_],
        note: Note,
    ) -> None:
        if not isinstance(f, Access):
            note(off, self.expression(f))
            return
        name = unpadded_text(f)
        deeper = self.of_tensor(f.tensor)
        where, _, _ = self.positions(t, f, names)
        if deeper is None:  # too many terms: only the slice that is read
            deeper, where = self.of_slice(f, where)
        if deeper is not None:
            codes = deeper.codes[tuple(where)]
            for k, r in enumerate(deeper.reasons):
                text = f"{unpadded_text(f)} = 0, {r.root}"
                note(off & (codes == k), Reason(1, text, r.root, f.tensor))
        note(off, Reason(1, f"{name} is 0", f"{f.tensor} is 0"))

    def bracket(self, f: Compare) -> Reason:
        which = self.winner_of(f)
        if which is not None:
            text = f"not the {which} of its window"
        elif f.op == ">" and f.right is ZERO and self.under_relu & _tensors(f.left):
            text = "relu off"
        else:
            return Reason(0, f"{formula(f)} is false", "a bracket is false")
        return Reason(0, text, text)

    def winner_of(self, f: Compare) -> str | None:
        """maximum or minimum, where f asks whether an element won its window."""
        if f.op != "==" or not isinstance(f.left, Access):
            return None
        s = self.work.statement(f.left.tensor)
        if s is None or not (isinstance(s.body, Reduce) and s.body.op == "argmax"):
            return None
        first = factors_of(s.body.body)[0]
        return "minimum" if isinstance(first, Const) and first.value < 0 else "maximum"

    def expression(self, f: Expr) -> Reason:
        match f:
            case Call("relu"):
                return Reason(0, "relu off", "relu off")
            case Reduce("max", _, Call("relu")):
                text = "relu off in the whole window"
                return Reason(0, text, text)
        return Reason(1, f"{formula(f)} is 0", "a factor is 0")

    # ------------------------------------------------------------ all elements of one tensor

    def of_tensor(self, t: str) -> Found | None:
        """A reason for every zero of a computed tensor; None where it has too many terms."""
        if t not in self.kept:
            s = self._computed(t)
            self.kept[t] = None if s is None else self._of_tensor(t, s, {})
        return self.kept[t]

    def of_slice(self, f: Access, where: list[Codes]) -> tuple[Found | None, list[Codes]]:
        """The same for the part of a tensor that f reads: its fixed axes are left out."""
        s = self._computed(f.tensor)
        fixed = {k: a.offset for k, a in enumerate(f.axes) if isinstance(a, Affine) and not a.terms}
        if s is None or not fixed or any(len(axis) != 1 for axis in s.axes):
            return None, where
        if any(v.denominator != 1 for v in fixed.values()):
            return None, where
        bound = {s.axes[k][0][0]: int(v) for k, v in fixed.items()}
        key = f"{f.tensor} {sorted(bound.items())}"
        if key not in self.kept:
            self.kept[key] = self._of_tensor(f.tensor, s, bound)
        return self.kept[key], [w for k, w in enumerate(where) if k not in fixed]

    def _computed(self, t: str) -> Statement | None:
        """The statement of a tensor that is computed, not given or updated."""
        return None if self.work.role(t) == "given" else self.work.statement(t)

    def _of_tensor(self, t: str, s: Statement, bound: dict[str, int]) -> Found | None:
        extents = self.work.extents(t)
        left = tuple(n for n in s.indices if n not in bound)
        shape = tuple(extents[n] for n in left)
        best = np.full(shape, -1, dtype=np.int64)
        rank = np.full(shape, 9, dtype=np.int64)
        reasons: list[Reason] = []
        for p in products(self.work.body(t), extents):
            names = (*left, *p.names)
            if prod(extents[n] for n in names) > _LARGE:
                return None
            grid = self.work.grid(t, at(p.whole, bound), names)
            factors = [at(f, bound) for f in p.factors]
            found = self.of_terms(t, factors, names, grid == 0)
            summed = tuple(range(len(left), len(names)))
            for k, r in enumerate(found.reasons):
                here = np.any(found.codes == k, axis=summed) & (r.rank < rank)
                if here.any():
                    root = from_afar(r.root)
                    reasons.append(Reason(r.rank, root, root))
                    best[here], rank[here] = len(reasons) - 1, r.rank
            alive = np.any(grid != 0, axis=summed)
            reasons.append(Reason(2, "its terms cancel", "its terms cancel"))
            best[alive], rank[alive] = len(reasons) - 1, -1
        array = self.work.before[t]
        if bound:
            array = array[tuple(bound.get(axis[0][0], slice(None)) for axis in s.axes)]
        codes = np.where(array.reshape(shape) == 0, best, -1).reshape(array.shape)
        return Found(codes, tuple(reasons))


def from_afar(root: str) -> str:
    """A reason as it is told by whoever reads the element."""
    return "no window reads it" if root == "no output there" else root


def axis_text(axis: object) -> str:
    assert isinstance(axis, Affine)
    inside = f"({show_axis(axis)})" if axis.whole else show_axis(axis)
    return polished(inside).removeprefix("(").removesuffix(")") if axis.whole else polished(inside)


def _tensors(e: Expr) -> set[str]:
    return {x.tensor for x in walk(e) if isinstance(x, Access)}


def unpadded_text(f: Access) -> str:
    return formula(Access(f.tensor, f.axes, None))
