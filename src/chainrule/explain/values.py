"""The numbers behind an explanation: every tensor, and any part of a statement at any index.

A statement's body is used in a form in which every index name is bound once and every group is
written as the affine position that it is, once sizes are known.  `at` binds indices to numbers,
`grid` works an expression out over the indices that are left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.evaluate import Evaluator, evaluate
from chainrule.expr import (
    Access,
    Affine,
    Expr,
    Group,
    Index,
    Reduce,
    affine,
    const,
    rebuild,
    substitute,
)
from chainrule.functions import Array
from chainrule.ranges import Ranges, unique
from chainrule.system import Statement, System

Floats = NDArray[np.float64]
Place = tuple[int, ...]


@dataclass
class Numbers:
    """A System with the arrays it was given, worked out once.

    before   what every read sees: given arrays and computed tensors; an updated tensor as given
    after    the same, an updated tensor with its new value
    """

    system: System
    ranges: Ranges
    given: Mapping[str, Array]

    def __post_init__(self) -> None:
        out = evaluate(self.system, self.ranges, self.given)
        kept = {t: a for t, a in out.items() if t not in self.system.updates}
        self.before: dict[str, Array] = {**self.given, **kept}
        self.after: dict[str, Array] = {**self.given, **out}

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each target's statement stands."""
        return {s.target: k for k, s in enumerate(self.system.statements)}

    def statement(self, t: str) -> Statement | None:
        """The statement that computes a tensor; None for a given one that is not updated."""
        return self.system.by_target.get(t)

    def extents(self, t: str) -> dict[str, int]:
        return self.ranges.extents[self.places[t]]

    def role(self, t: str) -> str:
        """Where a tensor comes from: given, forward, backward or helper (an argmax and its kin)."""
        if t not in self.places or t in self.system.updates:
            return "given"
        if t.startswith("δ"):
            return "backward"
        return "helper" if "_" in t and t.split("_", maxsplit=1)[0] in _HELPERS else "forward"

    def body(self, t: str) -> Expr:
        """The body of t's statement, index names bound once and groups made affine."""
        statement = self.system.by_target[t]
        return self.lowered(unique(statement).body, self.extents(t))

    def lowered(self, e: Expr, extents: Mapping[str, int]) -> Expr:
        def go(x: Expr) -> Expr:
            if isinstance(x, Access) and any(isinstance(a, Group) for a in x.axes):
                axes = tuple(_flat(a, extents) if isinstance(a, Group) else a for a in x.axes)
                return Access(x.tensor, axes, x.pad)
            return rebuild(x, go)

        return go(e)

    def left(self, t: str, index: Place) -> dict[str, int]:
        """The values of the left indices for one element; a group's position is taken apart."""
        extents = self.extents(t)
        bound: dict[str, int] = {}
        for axis, position in zip(self.system.by_target[t].axes, index, strict=True):
            for name, _ in reversed(axis):
                position, bound[name] = divmod(position, max(extents[name], 1))
        return {n: bound[n] for n in self.system.by_target[t].indices}

    # ------------------------------------------------------------ working out

    def grid(self, t: str, e: Expr, names: Sequence[str]) -> Floats:
        """e over the given indices of t's statement, one axis for each name."""
        work = self._evaluator(t)
        with np.errstate(all="ignore"):
            value = work.value(e)
        shape = tuple(self.extents(t)[n] for n in names)
        return np.broadcast_to(np.asarray(work.aligned(value, names), dtype=np.float64), shape)

    def number(self, t: str, e: Expr) -> float:
        """The value of an expression of t's statement without free indices."""
        return float(self.grid(t, e, ()))

    def _evaluator(self, t: str) -> Any:
        return Evaluator(self.before, self.extents(t), self.ranges.shapes, exact=False)

    def place(self, e: Access) -> tuple[Fraction, ...]:
        """Where an access without free indices reads; it may lie outside or between elements."""
        return tuple(a.offset for a in e.axes if isinstance(a, Affine))

    def inside(self, e: Access) -> Place | None:
        """The element that an access without free indices reads, if there is one."""
        where = self.place(e)
        shape = self.before[e.tensor].shape
        if all(p.denominator == 1 and 0 <= p < n for p, n in zip(where, shape, strict=True)):
            return tuple(int(p) for p in where)
        return None


_HELPERS = frozenset("argmax argmin logsumexp max min sum mean prod others part one table".split())


def _flat(axis: Group, extents: Mapping[str, int]) -> Affine:
    """A group as the position it stands for: (i,j) is size(j)*i + j."""
    strides = [math.prod(extents[m] for m in axis.names[k + 1 :]) for k in range(len(axis.names))]
    return affine(zip(axis.names, map(Fraction, strides), strict=True))


def at(e: Expr, values: Mapping[str, int]) -> Expr:
    """e with free indices bound to numbers; groups must have been made affine."""
    return substitute(e, {n: Affine((), Fraction(v)) for n, v in values.items()})


def shown_at(e: Expr, values: Mapping[str, int]) -> Expr:
    """e with indices bound for display only, where a group may still stand: (i,j) stays (i,j)."""

    def go(x: Expr, values: Mapping[str, int]) -> Expr:
        if isinstance(x, Access):
            axes = tuple(
                Affine(((_group_text(a, values), Fraction(1)),), Fraction(0))
                if isinstance(a, Group)
                else a
                for a in x.axes
            )
            return at(Access(x.tensor, axes, x.pad), values)
        if isinstance(x, Index):
            return const(values[x.name]) if x.name in values else x
        if isinstance(x, Reduce):
            values = {n: v for n, v in values.items() if n not in x.names}
        return rebuild(x, lambda c: go(c, values))

    return go(e, values)


def _group_text(axis: Group, values: Mapping[str, int]) -> str:
    return "(" + ",".join(str(values.get(n, n)) for n in axis.names) + ")"
