"""One zero, in numbers: which factor of the term is 0, and what made it so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from chainrule.explain.model import element_name
from chainrule.explain.numbers import shown
from chainrule.explain.products import Product, products
from chainrule.explain.values import Place, at
from chainrule.explain.writing import formula, known, with_numbers
from chainrule.explain.zeros import Found, Reasons, unpadded_text
from chainrule.expr import ZERO, Access, Call, Compare, Expr, Reduce


@dataclass
class Causes:
    """Examples for the reasons of an evaluated System's zeros."""

    reasons: Reasons

    def __post_init__(self) -> None:
        self.work = self.reasons.work

    def example(self, t: str, factors: Sequence[Expr], indices: dict[str, int]) -> str:
        """Why this one term is 0; the factors have their summed letters still."""
        for f in factors:
            if isinstance(f, Access) and f.pad is ZERO:
                read = at(f, indices)
                assert isinstance(read, Access)
                if self.work.inside(read) is None:
                    return self._miss(f, read, indices)
        bound = [at(f, indices) for f in factors]
        for b in bound:
            if isinstance(b, Compare) and self.work.number(t, b) == 0:
                return self._bracket_example(t, b)
        for b in bound:
            if self.work.number(t, b) == 0:
                return self._factor_example(t, b)
        return ""

    def _miss(self, f: Access, read: Access, indices: dict[str, int]) -> str:
        for axis, where in zip(f.axes, self.work.place(read), strict=True):
            if where.denominator != 1:
                used = ", ".join(f"{n}={indices[n]}" for n in axis.names).replace("'", "")
                return f"{shown(float(where))} for {used}" if used else shown(float(where))
        return formula(Access(read.tensor, read.axes, None))

    def _bracket_example(self, t: str, b: Compare) -> str:
        which = self.reasons.winner_of(b)
        if which is not None:
            assert isinstance(b.left, Access)
            place = self.work.inside(b.left)
            if place is not None:
                window = self.work.body(b.left.tensor)
                assert isinstance(window, Reduce)
                extents = self.work.extents(b.left.tensor)
                left = self.work.left(b.left.tensor, place)
                number = int(self.work.before[b.left.tensor][place])
                sizes = tuple(extents[n] for n in window.names)
                won = np.unravel_index(number, sizes) if prod(sizes) else ()
                item = at(window.body, left | dict(zip(window.names, map(int, won), strict=True)))
                return f"the {which} is {formula(item)}"
        return self._false(t, b)

    def _false(self, t: str, b: Compare) -> str:
        numbers = with_numbers(b.left, known(self.work, t))
        text = formula(b.left)
        left = f"{text} = {numbers}" if text != numbers else text
        right = with_numbers(b.right, known(self.work, t))
        return f"{left} is not {b.op} {right}" if b.op != "!=" else f"{left} is {right}"

    def _factor_example(self, t: str, b: Expr) -> str:
        if isinstance(b, Call) and b.function == "relu":
            x = self.work.number(t, b.args[0])
            return f"{formula(b.args[0])} = {shown(x)} is not > 0"
        if isinstance(b, Reduce) and isinstance(b.body, Call) and b.body.function == "relu":
            x = self.work.number(t, Reduce(b.op, b.binders, b.body.args[0]))
            return f"the largest of {formula(b.body.args[0])} is {shown(x)}"
        if not isinstance(b, Access) or self.work.role(b.tensor) == "given":
            name = unpadded_text(b) if isinstance(b, Access) else formula(b)
            return "" if isinstance(b, Reduce) else f"{name} = 0"
        place = self.work.inside(b)
        return self.element(b.tensor, place) if place is not None else ""

    def element(self, t: str, place: Place) -> str:
        """Why this element is 0, in numbers."""
        name = element_name(t, place)
        left = self.work.left(t, place)
        best: tuple[int, Product, Found] | None = None
        for p in self.bound(t, left):
            grid = self.work.grid(t, p.whole, p.names)
            found = self.reasons.of_terms(t, p.factors, p.names, grid == 0)
            for r in found.reasons:
                if best is None or r.rank < best[0]:
                    best = r.rank, p, found
        if best is None:
            return f"{name} = 0"
        rank, p, found = best
        k = next(k for k, r in enumerate(found.reasons) if r.rank == rank)
        first = np.argwhere(found.codes == k)[0] if p.names else ()
        why = self.example(t, p.factors, dict(zip(p.names, map(int, first), strict=True)))
        if not why:
            return name
        return f"{name}: {why}" if ":" not in why else why

    def bound(self, t: str, left: dict[str, int]) -> list[Product]:
        """The products of t's statement at one element."""
        return [
            Product(p.names, tuple(at(f, left) for f in p.factors), at(p.whole, left))
            for p in products(self.work.body(t), self.work.extents(t))
        ]
