"""Slips in which a tensor's several ways to the loss are not all counted."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

from chainrule.check.local import Found
from chainrule.check.slopes import on_the_way, rewritten, stop
from chainrule.check.work import Work
from chainrule.expr import (
    Access,
    Affine,
    Expr,
    Reduce,
    Size,
    add,
    divide,
    neg,
    rebuild,
    substitute,
    walk,
)
from chainrule.ranges import unique
from chainrule.system import Statement


def paths(work: Work) -> Found:
    """A tensor that reaches a statement in several ways, one of them (or two) held constant.

    This is where batch normalisation goes wrong: x reaches y itself, through its mean and through
    its variance; through the mean of the batch a row also reaches the other rows.
    """
    for s in on_the_way(work):
        reads = list(dict.fromkeys(x for x in walk(s.body) if isinstance(x, Access)))
        direct = {x.tensor for x in reads}
        through = [x for x in reads if _computed_from(work, x.tensor) & (direct - {x.tensor})]
        alone = [x for x in reads if x not in through and len(through) > 0]
        held: list[tuple[tuple[Access, ...], str]]
        held = [((x,), f"the path through {x.tensor}") for x in (*through, *alone)]
        held += [
            ((a, b), f"the paths through {a.tensor} and {b.tensor}")
            for a, b in combinations(through, 2)
        ]
        for parts, note in held:
            body = _replaced(s.body, {x: stop(x) for x in parts})
            yield from rewritten(work, "a path left out", s, body, f"{note} left out")
        for x in through:
            own = _own_term(work, s, x)
            if own is None:
                continue
            only_own = add(own, stop(add(x, neg(own))))
            others = [y for y in through if y is not x]
            note = f"{x.tensor} taken to depend on its own row only"
            yield from rewritten(work, "a path left out", s, _replaced(s.body, {x: only_own}), note)
            for y in others:
                body = _replaced(s.body, {x: only_own, y: stop(y)})
                yield from rewritten(
                    work,
                    "a path left out",
                    s,
                    body,
                    f"{note}, the path through {y.tensor} left out",
                )


def _computed_from(work: Work, t: str) -> set[str]:
    made = {s.target: s for s in work.forward.statements}
    if t not in made:
        return set()
    return {m for n in work.forward.needed_for([t]) for m in n.reads}


def _replaced(e: Expr, new: dict[Access, Expr]) -> Expr:
    def go(x: Expr) -> Expr:
        return new[x] if isinstance(x, Access) and x in new else rebuild(x, go)

    return go(e)


def _own_term(work: Work, s: Statement, x: Access) -> Expr | None:
    """Of μ[c] = mean[b](x[b,c]), read where b is an index: the term x[b,c]/size of that b."""
    made = unique(work.named[x.tensor])
    body = made.body
    if not isinstance(body, Reduce) or body.op not in ("mean", "sum") or len(body.binders) != 1:
        return None
    if any(not isinstance(a, Affine) for a in x.axes) or any(len(a) != 1 for a in made.axes):
        return None
    open_names = [n for n in s.indices if n not in {m for a in x.axes for m in a.names}]
    if len(open_names) != 1:
        return None
    at = dict(zip(made.indices, x.axes, strict=True))
    at |= {body.binders[0][0]: Affine(((open_names[0], Fraction(1)),), Fraction(0))}
    term = substitute(body.body, {n: a for n, a in at.items() if isinstance(a, Affine)})
    read = next((y for y in walk(term) if isinstance(y, Access)), None)
    if read is None or body.op == "sum":
        return term
    axis = next((k for k, a in enumerate(read.axes) if open_names[0] in a.names), None)
    return None if axis is None else divide(term, Size(read.tensor, axis))
