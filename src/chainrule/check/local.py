"""Slips inside one statement of the backward pass: each function finds the places for one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations

from chainrule.check.variants import Put, Variant, spots, with_body
from chainrule.check.work import Work, extents, renamed_tensors
from chainrule.expr import (
    Access,
    Add,
    Affine,
    Axis,
    Compare,
    Const,
    Expr,
    Reduce,
    add,
    affine,
    bare,
    factors_of,
    mul,
    neg,
    rebuild,
    reduce,
    split_coefficient,
    substitute,
    tensors,
    walk,
)
from chainrule.ranges import unique
from chainrule.system import Statement

Found = Iterator[Variant]


def sites(work: Work) -> list[Statement]:
    """The statements that the user's calculation had to get right, each size written out."""
    forward = set(work.forward.outputs)
    path = work.path
    if work.target not in forward:
        path = tuple(s for s in path if s.target.startswith("δ") or s.target.endswith("'"))
    return [with_sizes(unique(s), work) for s in path]


def one(slip: str, s: Statement, body: Expr, note: str = "") -> Variant:
    return Variant(slip, s.target, {s.target: with_body(s, body)}, note=note)


def sign(work: Work) -> Found:
    """A minus sign too many, or one forgotten."""
    for s in sites(work):
        yield one("sign", s, neg(s.body))
        for e, put in spots(s.body):
            if isinstance(e, Add):
                for k, t in enumerate(e.terms):
                    turned = add(*e.terms[:k], neg(t), *e.terms[k + 1 :])
                    yield one("sign", s, put(turned), f"the sign of {t}")


def target_minus_output(work: Work) -> Found:
    given = set(work.forward.inputs)
    for s in sites(work):
        for e, put in spots(s.body):
            if not isinstance(e, Add) or len(e.terms) != 2:
                continue
            signs = {split_coefficient(t)[0] > 0 for t in e.terms}
            data = [t for t in e.terms if tensors(t) and set(tensors(t)) <= given]
            if len(signs) == 2 and (len(data) == 1 or any(isinstance(t, Compare) for t in walk(e))):
                yield one("target - output", s, put(neg(e)), f"for {e}")


def missing_term(work: Work) -> Found:
    """One path of several, or one term of a difference, left out; or the only one that was kept."""
    for s in sites(work):
        for e, put in spots(s.body):
            if not isinstance(e, Add):
                continue
            flowing = [any(n.startswith("δ") for n in tensors(t)) for t in e.terms]
            slip = "a path left out" if sum(flowing) > 1 else "a term left out"
            for k, t in enumerate(e.terms):
                rest = add(*e.terms[:k], *e.terms[k + 1 :])
                yield one(slip, s, put(rest), f"without {t}")
                if len(e.terms) > 2:
                    yield one(slip, s, put(t), f"only {t}")


def not_summed(work: Work) -> Found:
    """One value of an index in place of the sum over it."""
    for s in sites(work):
        sizes = extents(s, work.values)
        for e, put in spots(s.body):
            if not (isinstance(e, Reduce) and e.op == "sum"):
                continue
            for k, (name, _) in enumerate(e.binders):
                rest = (*e.binders[:k], *e.binders[k + 1 :])
                for at, called in ((0, "first"), (sizes[name] - 1, "last")):
                    if sizes[name] < 2:
                        continue
                    try:
                        body = substitute(e.body, {name: Affine((), Fraction(at))})
                    except ValueError:
                        continue
                    held = reduce("sum", sized(rest, sizes), body)
                    yield one(
                        "not summed", s, put(held), f"only the {called} {name}, {name} = {at}"
                    )


def sized(
    binders: Sequence[tuple[str, Expr | None]], sizes: dict[str, int]
) -> tuple[tuple[str, Expr | None], ...]:
    """Binders with their sizes written out: a changed body may no longer imply them."""
    return tuple((n, Const(Fraction(sizes[n]))) for n, _ in binders)


def with_sizes(s: Statement, work: Work) -> Statement:
    """The statement with every size written out."""
    sizes = extents(s, work.values)

    def go(e: Expr) -> Expr:
        if isinstance(e, Reduce):
            return Reduce(e.op, sized(e.binders, sizes), go(e.body))
        return rebuild(e, go)

    axes = tuple(sized(axis, sizes) for axis in s.axes)
    return Statement(s.target, axes, go(s.body))


# ---------------------------------------------------------------- accesses


def accesses(s: Statement) -> Iterator[tuple[Access, Put]]:
    for e, put in spots(s.body, brackets=True):
        if isinstance(e, Access) and e.axes:
            yield e, put


def _shifting(s: Statement) -> set[str]:
    """Index names that stand with another one, or with a stride, on some axis."""
    return {
        n
        for e in walk(s.body)
        if isinstance(e, Access)
        for axis in e.axes
        if isinstance(axis, Affine) and axis.bare is None
        for n in axis.names
    }


def flipped(work: Work) -> Found:
    """The kernel (or δ) read back to front: rotated by 180 degrees, or not rotated."""
    for s in sites(work):
        sizes = extents(s, work.values)
        turning = _shifting(s)
        for e, put in accesses(s):
            axes = tuple(_reversed(a, turning, sizes) for a in e.axes)
            if axes != e.axes:
                yield one("kernel not flipped", s, put(Access(e.tensor, axes, e.pad)), f"in {e}")
            axes = tuple(map(_forward, e.axes))
            if axes != e.axes and e.pad is not None:
                new = Access(e.tensor, axes, e.pad)
                yield one("kernel not flipped", s, put(new), f"{new} for {e}")


def _reversed(axis: Axis, turning: set[str], sizes: dict[str, int]) -> Axis:
    if isinstance(axis, Affine) and axis.bare in turning and axis.bare is not None:
        return affine([(axis.bare, -1)], sizes[axis.bare] - 1)
    return axis


def _forward(axis: Axis) -> Axis:
    """p+m where p-m belongs."""
    if not isinstance(axis, Affine) or len(axis.terms) < 2:
        return axis
    return affine(((n, abs(c)) for n, c in axis.terms), axis.offset)


def transposed(work: Work) -> Found:
    """Two indices of one tensor exchanged."""
    for s in sites(work):
        for e, put in accesses(s):
            shape = work.shapes[e.tensor]
            for a, b in combinations(range(len(shape)), 2):
                if shape[a] == shape[b] and shape[a] > 1:
                    axes = list(e.axes)
                    axes[a], axes[b] = axes[b], axes[a]
                    new = Access(e.tensor, tuple(axes), e.pad)
                    yield one("transposed", s, put(new), f"{new} for {e}")


def tensors_swapped(work: Work) -> Found:
    """Another tensor of the same shape in the place of the right one."""
    for s in sites(work):
        for t in s.reads:
            shape = work.shapes.get(t)
            if not shape or math.prod(shape) < 2:
                continue
            for other, its_shape in work.shapes.items():
                if other == t or its_shape != shape or other.startswith("argmax"):
                    continue
                if other == s.target or other.endswith("'") or s.target.endswith("'"):
                    continue
                body = renamed_tensors(s.body, {t: other})
                yield one("two tensors swapped", s, body, f"{other} in the place of {t}")
                if other in s.reads and t < other:
                    both = renamed_tensors(s.body, {t: other, other: t})
                    yield one("two tensors swapped", s, both, f"{t} and {other} exchanged")


def stride_ignored(work: Work) -> Found:
    """A stride of 1 where there is another."""
    for s in sites(work):
        all_at_once = _mapped(s.body, _unit_stride)
        if all_at_once is not s.body:
            yield one("stride ignored", s, all_at_once)
        for e, put in accesses(s):
            new = Access(e.tensor, tuple(map(_unit_stride, e.axes)), e.pad)
            if new is not e:
                yield one("stride ignored", s, put(new), f"{new} for {e}")


def _unit_stride(axis: Axis) -> Axis:
    if not isinstance(axis, Affine):
        return axis
    if not axis.whole:
        return axis.times(axis.denominator)
    if len(axis.terms) > 1 and any(abs(c) > 1 for _, c in axis.terms):
        return affine(((n, 1 if c > 0 else -1) for n, c in axis.terms), axis.offset)
    return axis


def padding(work: Work) -> Found:
    """A padding of another width: none, half (in total and not per side), or double."""
    for s in sites(work):
        for factor, note in ((0, "no padding"), (Fraction(1, 2), "half of it"), (2, "twice it")):

            def scaled(axis: Axis, factor: int | Fraction = factor) -> Axis:
                if not isinstance(axis, Affine) or not axis.offset or len(axis.terms) < 2:
                    return axis
                return affine(axis.terms, axis.offset * factor)

            body = _mapped(s.body, scaled, padded=True)
            if body is not s.body:
                yield one("padding", s, body, note)


def _mapped(e: Expr, change: object, padded: bool = False) -> Expr:
    """e with every access's axes changed (padded ones only, on request)."""
    assert callable(change)

    def go(x: Expr) -> Expr:
        if isinstance(x, Access) and (x.pad is not None or not padded):
            return Access(x.tensor, tuple(map(change, x.axes)), x.pad)
        return rebuild(x, go)

    return go(e)


def factor_left_out(work: Work) -> Found:
    """A factor of a product forgotten (where it leaves no index behind)."""
    for s in sites(work):
        for e, put in spots(s.body):
            parts = factors_of(e)
            if len(parts) < 2:
                continue
            for k, f in enumerate(parts):
                if tensors(f) and not any(t.startswith("δ") for t in tensors(f)):
                    rest = mul(*parts[:k], *parts[k + 1 :])
                    yield one("a factor left out", s, put(rest), f"without {f}")


def other_gradient(work: Work) -> Found:
    """The gradient of another tensor of the same shape."""
    shape = work.shapes[work.target]
    s = work.named[work.target]
    if work.target not in {m.target for m in work.made} or math.prod(shape) < 2:
        return
    s = with_sizes(unique(s), work)
    if any(len(axis) != 1 for axis in s.axes):
        return
    here = tuple(bare(n) for n in s.indices)
    for t in dict.fromkeys(work.deltas.values()):
        if t != work.target and work.shapes.get(t) == shape:
            yield one("two tensors swapped", s, Access(t, here, None), f"this is {t}")
