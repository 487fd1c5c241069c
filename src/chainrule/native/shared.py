"""Sums that two statements have are computed once, where one of them is a tensor of its own.

A softmax's gradient names `logsumexp_E[b] = logsumexp[l](u[b,l])`; the loss has the same inside its
sum over samples, and then reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chainrule.expr import Access, Expr, Reduce, affine, rebuild, substitute, walk
from chainrule.native.nest import Nest, replaced


def shared(nests: Sequence[Nest]) -> list[Nest]:
    """The nests; what reads another's sum comes after it."""
    made = list(nests)
    for n in nests:
        if not isinstance(n.body, Reduce) or n.lane or [a.bare for a in n.store] != [*n.loops]:
            continue
        if not any(m is n for m in made):  # it reads another's sum itself
            continue
        form, names = _form(n.body)
        if set(names) != set(n.loops):
            continue
        readers = {}
        for m in made:
            same = [] if m is n else [e for e in walk(m.body) if isinstance(e, Reduce)]
            values: dict[Expr, Expr] = {}
            for e in same:
                other, at = _form(e)
                sizes = [m.extents[i] for i in at] == [n.extents[i] for i in names]
                if other is form and sizes and _inner(m, e) == _inner(n, n.body):
                    axes = tuple(affine([(at[names.index(i)], 1)]) for i in n.loops)
                    values[e] = Access(n.target, axes, None)
            if values:
                readers[m.target] = replace(m, body=replaced(m.body, values))
        if not readers or sum(m.target == n.target for m in made) > 1:
            continue
        place = made.index(n)
        first = min(k for k, m in enumerate(made) if m.target in readers)
        between = {m.target for m in made[first:place]}
        if not between & set(n.reads):
            made = [readers.get(m.target, m) for m in made]
            made.insert(min(first, place), made.pop(place))
    return made


def _inner(n: Nest, e: Reduce) -> list[int | None]:
    return [n.extents[i] for x in walk(e) if isinstance(x, Reduce) for i in x.names]


def _form(e: Expr) -> tuple[Expr, list[str]]:
    """An expression whatever its indices are called; and its free ones, as they come."""
    order = list(dict.fromkeys(i for x in walk(e) for i in x.free))
    numbers = {i: affine([(f"·{k}", 1)]) for k, i in enumerate(order)}
    inner = list(dict.fromkeys(i for x in walk(e) if isinstance(x, Reduce) for i in x.names))
    bound = {i: f"·{len(order) + k}" for k, i in enumerate(inner)}

    def go(x: Expr) -> Expr:
        if isinstance(x, Reduce):
            body = substitute(go(x.body), {i: affine([(bound[i], 1)]) for i in x.names})
            return Reduce(x.op, tuple((bound[i], None) for i in x.names), body)
        return rebuild(x, go)

    return substitute(go(e), numbers), [i for i in order if i in e.free]
