"""A wrong calculation as changed statements, and its numbers.

    Variant = which slip, where it enters, and what it puts in the place of the right statements

Only what a change reaches is computed anew.  Two variants that change different statements make a
third, the pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from chainrule.check.work import Values, Work, run
from chainrule.errors import FormulaError
from chainrule.expr import Compare, Expr, Reduce, rebuild
from chainrule.functions import Array
from chainrule.system import Statement

Override = Callable[[Values], Array]


@dataclass(frozen=True)
class Variant:
    """slip       its name in the table
    where      the tensor whose statement is wrong
    changed    statements that replace the right ones, or are new
    override   tensors that no statement gives: computed by a function of all values
    given      data that is read in place of the user's
    note       what exactly, in a few words
    after      what is done to the result
    also       the other slips of a pair
    """

    slip: str
    where: str
    changed: Mapping[str, Statement] = field(default_factory=dict)
    override: Mapping[str, Override] = field(default_factory=dict)
    given: Mapping[str, Array] = field(default_factory=dict)
    note: str = ""
    after: Callable[[Array], Array] | None = None
    also: tuple[Variant, ...] = ()

    @property
    def touched(self) -> frozenset[str]:
        return frozenset({*self.changed, *self.override, *self.given})

    def with_(self, other: Variant) -> Variant | None:
        """Both slips at once; None where they change the same statement."""
        if self.touched & other.touched:
            return None
        return Variant(
            self.slip,
            self.where,
            {**self.changed, **other.changed},
            {**self.override, **other.override},
            {**self.given, **other.given},
            self.note,
            self.after or other.after,
            (other,),
        )


def numbers(work: Work, v: Variant, target: str = "") -> Array | None:
    """What the variant gives for the target; None where its sizes do not fit."""
    try:
        with np.errstate(all="ignore"):
            out = _Lazy(work, v).value(target or work.target)
            return out if v.after is None else v.after(out)
    except (FormulaError, _Cycle, KeyError, ValueError):
        return None


class _Cycle(Exception):
    pass


class _Lazy:
    """Values on demand: the right ones, until a change is met."""

    def __init__(self, work: Work, v: Variant) -> None:
        self.work, self.v = work, v
        self.done: Values = dict(v.given)
        self.dirty: dict[str, bool] = dict.fromkeys(v.touched, True)
        self.open: set[str] = set()

    def is_dirty(self, t: str) -> bool:
        if t not in self.dirty:
            self.dirty[t] = False  # holds where a chain of statements comes back to t
            s = self.work.by_target.get(t)
            self.dirty[t] = s is not None and any(map(self.is_dirty, s.mentions))
        return self.dirty[t]

    def value(self, t: str) -> Array:
        if t in self.done:
            return self.done[t]
        if not self.is_dirty(t):
            return self.work.values[t]
        if t in self.open:
            raise _Cycle
        self.open.add(t)
        if t in self.v.override:
            out = self.v.override[t](_All(self))
        else:
            s = self.v.changed.get(t) or self.work.by_target[t]
            out = run(s, {m: self.value(m) for m in s.mentions})
        self.done[t] = out
        return out


class _All(dict[str, Array]):
    """Every tensor of a variant, as a mapping."""

    def __init__(self, lazy: _Lazy) -> None:
        super().__init__()
        self.lazy = lazy

    def __missing__(self, t: str) -> Array:
        return self.lazy.value(t)


# ---------------------------------------------------------------- places in an expression

Put = Callable[[Expr], Expr]


def spots(e: Expr, *, brackets: bool = False) -> Iterator[tuple[Expr, Put]]:
    """Every node inside e, and how to write e with another in its place.

    Sizes are passed over and, but for `brackets`, what stands in a comparison.
    """
    yield e, lambda new: new
    if isinstance(e, Compare) and not brackets:
        return
    first = len(e.inside) - 1 if isinstance(e, Reduce) else 0
    for k, child in enumerate(e.inside):
        if k < first:
            continue
        for node, put in spots(child, brackets=brackets):
            yield node, lambda new, k=k, put=put: _with_child(e, k, put(new))  # type: ignore[misc]


def _with_child(e: Expr, k: int, new: Expr) -> Expr:
    at = count()
    return rebuild(e, lambda c: new if next(at) == k else c)


def with_body(s: Statement, body: Expr) -> Statement:
    return Statement(s.target, s.axes, body)
