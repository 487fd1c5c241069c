"""The last touch on a derived statement: sizes that say nothing go, indices get plain letters."""

from __future__ import annotations

from collections.abc import Mapping

from chainrule.dims import Dim
from chainrule.expr import (
    Access,
    Affine,
    Binder,
    Expr,
    Reduce,
    Size,
    bare,
    rebuild,
    rename_bound,
    substitute,
    walk,
)
from chainrule.ranges import statement_sizes, unique
from chainrule.system import Problem, Statement

LETTERS = "pqrsdefgijklmnabc"


def drop_sizes(
    s: Statement, tensors: Mapping[str, tuple[Dim, ...]], equal: Mapping[Size, Dim]
) -> Statement:
    """The statement without the sizes that its accesses imply; raises Problem if it is not sound.

    Every index of s carries its size.  A size may go when the rules of the language give the
    same one without it, which is checked by applying them.
    """
    s = unique(s)
    intended = statement_sizes(s, tensors, equal)
    accesses = [e for e in walk(s.body) if isinstance(e, Access)]
    alone = {
        axis.bare
        for e in accesses
        for k, axis in enumerate(e.axes)
        if isinstance(axis, Affine) and axis.bare and tensors[e.tensor][k] is not None
    }
    shifted = {
        n
        for e in accesses
        for axis in e.axes
        # (a group could give a size too, but not where another of its sizes is 0)
        if isinstance(axis, Affine) and e.pad is None and axis.bare is None
        for n in axis.names
    }
    s = _without(s, {n for n in alone if n})
    for name in [n for n in intended if n in shifted and n not in alone]:
        shorter = _without(s, {name})
        try:
            sizes = statement_sizes(shorter, tensors, equal, apart=name)
        except Problem:
            continue
        if sizes == intended:
            s = shorter
    return s


def _without(s: Statement, names: set[str]) -> Statement:
    def strip(binders: tuple[Binder, ...]) -> tuple[Binder, ...]:
        return tuple((n, None if n in names else size) for n, size in binders)

    def go(e: Expr) -> Expr:
        if isinstance(e, Reduce):
            return Reduce(e.op, strip(e.binders), go(e.body))
        return rebuild(e, go)

    return Statement(s.target, tuple(map(strip, s.axes)), go(s.body))


def plain_letters(s: Statement, avoid: frozenset[str]) -> Statement:
    """Index names without primes, and none that is also a tensor read by the statement."""
    reads = set(s.mentions)
    taken = {n for e in walk(s.body) for n in e.free} | set(s.indices) | reads
    taken |= {n for e in walk(s.body) if isinstance(e, Reduce) for n in e.names}

    def choose(name: str, visible: set[str]) -> str:
        base = name.rstrip("'")
        if base == name and name not in reads:
            return name
        if base not in visible and base not in reads:
            return base
        return fresh_letter(taken | avoid | visible)

    left: dict[str, str] = {}
    visible: set[str] = set()
    for n in s.indices:
        others = (set(s.indices) - {n}) | set(left.values())
        left[n] = choose(n, others)
        taken.add(left[n])
    visible = set(left.values())
    body = _renamed_free(s.body, left)

    def go(e: Expr, visible: set[str]) -> Expr:
        if not isinstance(e, Reduce):
            return rebuild(e, lambda c: go(c, visible))
        inside = set(e.body.free) - set(e.names)
        names: dict[str, str] = {}
        for n in e.names:
            names[n] = choose(n, visible | inside | (set(e.names) - {n}) | set(names.values()))
        body = _renamed_free(e.body, names)
        binders = tuple((names[n], size) for n, size in e.binders)
        return Reduce(e.op, binders, go(body, visible | set(names.values())))

    axes = tuple(tuple((left[n], size) for n, size in axis) for axis in s.axes)
    return Statement(s.target, axes, go(body, visible))


def _renamed_free(e: Expr, names: Mapping[str, str]) -> Expr:
    """Free indices renamed; an inner reduction that would capture a new name steps aside."""
    changed = {old: new for old, new in names.items() if old != new}
    if not changed:
        return e
    new_names = set(changed.values())

    def aside(x: Expr) -> Expr:
        if isinstance(x, Reduce) and new_names.intersection(x.names):
            away = {n: n + "'" for n in x.names if n in new_names}
            x = Reduce(
                x.op,
                tuple((away.get(n, n), size) for n, size in x.binders),
                rename_bound(x.body, away),
            )
        return rebuild(x, aside)

    return substitute(aside(e), {old: bare(new) for old, new in changed.items()})


def fresh_letter(taken: set[str] | frozenset[str]) -> str:
    for letter in LETTERS:
        if letter not in taken:
            return letter
    k = 1
    while f"p{k}" in taken:
        k += 1
    return f"p{k}"
