"""Slips in what a derivative is taken of: other slopes, paths held constant, other losses.

The forward pass is rewritten and differentiated again.  Where only a slope is wrong the value must
stay:  f(z)  becomes  d*z + stop(f(z) - d*z), which has the value of f and the slope d.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from chainrule.check.estimate import filled, slopes_of
from chainrule.check.local import Found, with_sizes
from chainrule.check.variants import Variant, spots, with_body
from chainrule.check.work import Work
from chainrule.derive.backward import differentiate
from chainrule.errors import FormulaError
from chainrule.expr import (
    ONE,
    Access,
    Call,
    Compare,
    Const,
    Expr,
    Index,
    Reduce,
    add,
    const,
    divide,
    mul,
    neg,
    power,
    reduce,
    rename_bound,
    walk,
)
from chainrule.functions import FUNCTIONS
from chainrule.ranges import unique
from chainrule.system import Problem, Statement, System


def stop(e: Expr) -> Expr:
    return Call("stop", (e,))


def with_slope(value: Expr, terms: list[tuple[Expr, Expr]]) -> Expr:
    """An expression of that value whose derivative is Σ slope * ∂e, for terms (slope, e)."""
    line = add(*(mul(stop(d), e) for d, e in terms))
    return add(line, stop(add(value, neg(line))))


def rewritten(work: Work, slip: str, s: Statement, body: Expr, note: str) -> Found:
    """The backward pass of the program with one statement's body exchanged, values as they were."""
    yield from _again(work, slip, s, body, note, values=False)


def redefined(work: Work, slip: str, s: Statement, body: Expr, note: str) -> Found:
    """The same, values as well."""
    yield from _again(work, slip, s, body, note, values=True)


def _again(
    work: Work, slip: str, s: Statement, body: Expr, note: str, *, values: bool
) -> Iterator[Variant]:
    new = with_body(s, body)
    forward = tuple(new if t.target == s.target else t for t in work.forward.statements)
    changed = {s.target: new} if values else {}
    if work.backward is not None:
        try:
            again = differentiate(System(forward), work.backward.of, work.backward.wrt)
        except (FormulaError, Problem, ValueError):
            return
        # a cotangent that the objective no longer reaches has no statement: nothing reads it
        changed |= {m.target: m for m in again.space.made if work.named.get(m.target) is not m}
        changed = {t: m for t, m in changed.items() if t in work.by_target or t not in work.named}
    if changed:
        yield Variant(slip, s.target, changed, note=note)


def on_the_way(work: Work) -> list[Statement]:
    """Forward statements between the objective and `wrt`, in their `unique` form."""
    if work.backward is None:
        return []
    of, wrt = work.backward.of, {work.wrt} if work.wrt in work.deltas else set(work.deltas)
    needed = [s for s in work.forward.order if s in set(work.forward.needed_for([of]))]
    reached: set[str | None] = set(wrt)
    out = []
    for s in needed:
        if reached.intersection(s.reads):
            reached.add(s.target)
            out.append(s)
    return [with_sizes(unique(s), work) for s in out if all(t in work.shapes for t in s.mentions)]


# ---------------------------------------------------------------- activations


def activation(work: Work) -> Found:
    """σ' forgotten, taken twice, taken at σ(z), or its formula in σ(z) applied to z."""
    for s in on_the_way(work):
        for e, put in spots(s.body):
            if not isinstance(e, Call) or e.function not in FUNCTIONS or len(e.args) != 1:
                continue
            row, z = FUNCTIONS[e.function], e.args[0]
            if row.derivative is None or e.function == "abs" or not _moves(z):
                continue
            d = slopes_of(e)[0]
            rule = row.derivative[0]
            for slip, slope, note in (
                ("activation derivative missing", ONE, f"{e.function}' left out"),
                ("activation derivative doubled", power(d, const(2)), f"{e.function}' twice"),
                (
                    "activation derivative at the wrong value",
                    filled(rule, (e,), Call(e.function, (e,))),
                    f"{e.function}' at {e.function}(z) and not at z",
                ),
                (
                    "activation derivative at the wrong value",
                    filled(rule, (z,), z),
                    f"the formula {rule} with z in the place of y",
                ),
            ):
                if slope is not d:
                    yield from rewritten(work, slip, s, put(with_slope(e, [(slope, z)])), note)


def kink_convention(work: Work) -> Found:
    """Another slope at the kink itself."""
    for s in on_the_way(work):
        for e, put in spots(s.body):
            if not isinstance(e, Call) or not _moves(e):
                continue
            if e.function == "relu":
                d = slopes_of(e)[0]
                at = Compare("==", e.args[0], const(0))
                for slope, note in ((ONE, "1"), (const(Fraction(1, 2)), "1/2")):
                    body = put(with_slope(e, [(add(d, mul(slope, at)), e.args[0])]))
                    yield from rewritten(
                        work, "another slope at the kink", s, body, f"relu'(0) = {note}"
                    )
            elif e.function in ("maximum", "minimum"):
                a, b = e.args
                first, second = slopes_of(e)
                tied = Compare("==", a, b)
                for slip, da, db in (
                    ("δ to every tied maximum", first, add(second, tied)),
                    ("δ split between tied maxima", _less_half(first, tied), _half(second, tied)),
                ):
                    body = put(with_slope(e, [(da, a), (db, b)]))
                    yield from rewritten(work, slip, s, body, f"in {e}")


def _half(d: Expr, tied: Expr) -> Expr:
    return add(d, mul(const(Fraction(1, 2)), tied))


def _less_half(d: Expr, tied: Expr) -> Expr:
    return add(d, mul(const(Fraction(-1, 2)), tied))


def _moves(e: Expr) -> bool:
    return any(isinstance(x, Access) for x in walk(e))


def ties(work: Work) -> Found:
    """δ to every winner of a maximum, divided among them, to none, to the last, to everyone."""
    for s in on_the_way(work):
        for e, put in spots(s.body):
            if not isinstance(e, Reduce) or e.op not in ("max", "min"):
                continue
            # every copy of the maximum has index names of its own
            won: Expr = Compare("==", e.body, _copy(e, "°"))
            counted = _copy(e, "°°")
            how_many = reduce("sum", counted.binders, Compare("==", counted.body, _copy(e, "°°°")))
            sought = e.body if e.op == "max" else neg(e.body)
            for slip, slope in (
                ("δ to every tied maximum", won),
                ("δ split between tied maxima", divide(won, how_many)),
                ("δ to no tied maximum", mul(won, Compare("==", how_many, ONE))),
                ("δ to the last tied maximum", _last(e, won)),
                ("δ to the whole window", ONE),
                (
                    "δ to another element of the window",
                    _last(Reduce("max", e.binders, sought), ONE),
                ),
            ):
                line = reduce("sum", e.binders, mul(stop(slope), e.body))
                other = _copy(line, "'°") if isinstance(line, Reduce) else line
                body = put(add(line, stop(add(_copy(e, "°'"), neg(other)))))
                yield from rewritten(work, slip, s, body, f"in {e}")


def _copy(e: Reduce, mark: str) -> Reduce:
    """The reduction with marked index names."""
    names = {n: n + mark for n in _bound(e)}
    out = rename_bound(e, names)
    assert isinstance(out, Reduce)
    return out


def _bound(e: Expr) -> set[str]:
    return {n for x in walk(e) if isinstance(x, Reduce) for n in x.names}


def _last(e: Reduce, won: Expr) -> Expr:
    """1 at the last place, in row-major order, where `won` holds."""
    number: Expr = const(0)
    for k, (name, _) in enumerate(e.binders):
        stride = mul(*(size for _, size in e.binders[k + 1 :] if size is not None))
        number = add(number, mul(stride, Index(name)))
    place = add(number, ONE)
    best = _copy(Reduce("max", e.binders, mul(won, place)), "''°")
    return mul(won, Compare("==", place, best))


# ---------------------------------------------------------------- another loss


def another_loss(work: Work) -> Found:
    """Sum for mean, mean for sum, a constant factor or another logarithm, in one of the terms."""
    of = work.backward.of if work.backward else work.of
    statements = [unique(s) for s in work.forward.needed_for([of])]
    for s in map(lambda s: with_sizes(s, work), statements):
        if s.axes and s.target != of:
            continue
        for e, put in spots(s.body):
            if isinstance(e, Reduce) and e.op in ("mean", "sum"):
                other = "sum" if e.op == "mean" else "mean"
                slip = "sum for mean" if e.op == "mean" else "mean for sum"
                body = put(Reduce(other, e.binders, e.body))
                yield from redefined(work, slip, s, body, f"{other} for {e.op}")
            elif isinstance(e, Const) and e.value not in (0, 1, -1):
                body = put(const(1 if e.value > 0 else -1))
                yield from redefined(work, "another constant in the loss", s, body, f"1 for {e}")
            elif isinstance(e, Call) and e.function == "log":
                body = put(divide(e, Call("log", (const(10),))))
                yield from redefined(work, "log10 for log", s, body, "log10")
            elif isinstance(e, Call) and e.function == "abs":
                body = put(mul(e.args[0], e.args[0]))
                yield from redefined(work, "another loss", s, body, "squared for absolute")
