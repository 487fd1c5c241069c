"""The steps of one cotangent, written from the parts it was made of."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.derive.adjoint import as_sum
from chainrule.derive.eliminate import equations
from chainrule.derive.gather import Free, Gathered
from chainrule.derive.space import Space, axis_of, here
from chainrule.derive.steps import Stage, Step
from chainrule.expr import (
    Access,
    Compare,
    Expr,
    Index,
    Partial,
    add,
    mul,
    number,
    reduce,
    rename_bound,
)
from chainrule.notation.show import show_axis
from chainrule.system import Statement


def stage(
    space: Space,
    of: str,
    t: str,
    made: Statement,
    free: Free,
    parts: Sequence[Gathered],
    named: tuple[Statement, ...],
) -> Stage:
    """Chain rule, substitution, differentiation, Kronecker deltas, their elimination, result."""
    axes = tuple(map(axis_of, free))
    target, wrt = Access(made.target, axes, None), Access(t, axes, None)
    steps: list[Step] = []
    before: Expr = target

    def step(rule: str, after: Expr, note: str = "") -> None:
        nonlocal before
        steps.append(Step(rule, before, after, note))
        before = after

    if parts:
        readers = {g.k: g for g in parts}.values()  # one for each statement that reads t
        reached = [str(_left(space, g)) for g in readers]
        every = "every " if any(space.unique[g.k].axes for g in readers) else ""
        step(
            "chain rule",
            add(*(_chain(space, of, g, _left(space, g), wrt) for g in readers)),
            f"{wrt} reaches {every}{' and '.join(reached)}",
        )
        step(
            "substitute",
            add(*(_chain(space, of, g, _body(space, g), wrt) for g in readers)),
            f"the formula of {' and '.join(reached)}",
        )
        rules = dict.fromkeys(r for g in parts for r in g.contribution.rules)
        step("differentiate", add(*(_with_partial(g, wrt) for g in parts)), "; ".join(rules))
        step(
            "Kronecker",
            add(*(_with_brackets(g, free) for g in parts)),
            f"∂{t}/∂{t} is 1 where all indices agree, else 0",
        )
        step("eliminate", add(*(g.term for g in parts)), _solutions(parts))
    step("result", made.body)
    scalar = not space.forward.by_target[of].axes
    return Stage(target, wrt, of if scalar else None, tuple(steps), named)


def _left(space: Space, g: Gathered) -> Access:
    u = space.unique[g.k]
    x = rename_bound(Access(u.target, here(u), None), g.names)
    assert isinstance(x, Access)
    return x


def _body(space: Space, g: Gathered) -> Expr:
    return rename_bound(space.unique[g.k].body, g.names)


def _chain(space: Space, of: str, g: Gathered, x: Expr, wrt: Access) -> Expr:
    """Σ over the left side's indices of δx * ∂x/∂t."""
    u = space.unique[g.k]
    seed = g.contribution.factors[:1] if g.contribution.seeded else ()
    binders = tuple((g.names.get(n, n), None) for n in u.indices)
    return reduce("sum", binders, mul(*seed, Partial(x, wrt)))


def _with_partial(g: Gathered, wrt: Access) -> Expr:
    return as_sum(g.contribution, Partial(g.contribution.access, wrt))


def _with_brackets(g: Gathered, free: Free) -> Expr:
    brackets = (
        Compare("==", number(eq.form), Index(eq.free))
        for eq in equations(g.contribution.access.axes, free)
    )
    return as_sum(g.contribution, mul(*brackets))


def _solutions(parts: Sequence[Gathered]) -> str:
    lines = dict.fromkeys(
        f"{n} = {show_axis(v)}" for g in parts for n, v in g.solution.values.items()
    )
    if not lines:
        return "no index to solve for"
    fraction = any(not v.whole for g in parts for v in g.solution.values.values())
    outside = any(g.solution.solved for g in parts)
    note = "solve for one index each: " + ", ".join(lines)
    if fraction:
        note += "; only where that is a whole number in range"
    elif outside:
        note += "; outside its range there is no term, which pad says"
    return note
