"""Sums that two statements have are computed once, where one of them is a tensor of its own.

A softmax's gradient names `logsumexp_E[b] = logsumexp[l](u[b,l])`; the loss has the same inside its
sum over samples, and then reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chainrule.expr import Access, Expr, Reduce, affine, rebuild, substitute, tensors, walk
from chainrule.native.nest import Nest, replaced


def shared(nests: Sequence[Nest]) -> list[Nest]:
    """The nests; what reads another's sum comes after it."""
    alike: dict[object, list[tuple[Nest, Reduce]]] = {}
    for m in nests:
        for e in dict.fromkeys(x for x in walk(m.body) if isinstance(x, Reduce)):
            alike.setdefault((e.op, tuple(tensors(e)), len(e.free)), []).append((m, e))
    found: dict[object, list[tuple[Nest, Reduce, list[str]]]] = {}
    for m, e in (x for some in alike.values() if len(some) > 1 for x in some):
        form, names = _form(e)
        sizes = tuple(m.extents[i] for i in names + _inner(e))
        found.setdefault((form, sizes), []).append((m, e, names))
    made = list(nests)
    for users in (u for u in found.values() if len(u) > 1):
        owner = next(((n, names) for n, e, names in users if _is_whole(n, e, names)), None)
        if owner is not None:
            made = _read(*owner, users, made)
    return made


def _is_whole(n: Nest, e: Reduce, names: list[str]) -> bool:
    """Whether a nest's results are the values of that sum, for all its indices."""
    plain = n.body is e and n.lane is None and [a.bare for a in n.store] == [*n.loops]
    return plain and set(names) == set(n.loops)


def _read(
    n: Nest, names: list[str], users: list[tuple[Nest, Reduce, list[str]]], made: list[Nest]
) -> list[Nest]:
    """The nests, with n's results in place of the same sums in others, and n before them."""
    values: dict[str, dict[Expr, Expr]] = {}
    for m, e, at in users:
        if m is not n:
            axes = tuple(affine([(at[names.index(i)], 1)]) for i in n.loops)
            values.setdefault(m.target, {})[e] = Access(n.target, axes, None)
    targets = [m.target for m in made]
    place = targets.index(n.target)
    first = min(targets.index(t) for t in values)
    if targets.count(n.target) > 1 or set(targets[first:place]) & set(made[place].reads):
        return made
    made = [
        replace(m, body=replaced(m.body, values[m.target])) if m.target in values else m
        for m in made
    ]
    made.insert(min(first, place), made.pop(place))
    return made


def _inner(e: Expr) -> list[str]:
    return [i for x in walk(e) if isinstance(x, Reduce) for i in x.names]


def _form(e: Expr) -> tuple[Expr, list[str]]:
    """An expression whatever its indices are called; and its free ones, as they come."""
    order = list(dict.fromkeys(i for x in walk(e) for i in x.free))
    numbers = {i: affine([(f"·{k}", 1)]) for k, i in enumerate(order)}
    bound = {i: f"·{len(order) + k}" for k, i in enumerate(dict.fromkeys(_inner(e)))}

    def go(x: Expr) -> Expr:
        if isinstance(x, Reduce):
            body = substitute(go(x.body), {i: affine([(bound[i], 1)]) for i in x.names})
            return Reduce(x.op, tuple((bound[i], None) for i in x.names), body)
        return rebuild(x, go)

    return substitute(go(e), numbers), [i for i in order if i in e.free]
