"""Slips of the calculation as a whole: the weights of the next step, windows that overwrite each
other, convolution for correlation, another padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import partial

import numpy as np

from chainrule.check.local import Found, with_sizes
from chainrule.check.slopes import redefined
from chainrule.check.variants import Variant, spots, with_body
from chainrule.check.work import Work, needed_for, renamed_tensors, run
from chainrule.derive.backward import differentiate
from chainrule.errors import FormulaError
from chainrule.expr import (
    ZERO,
    Access,
    Affine,
    Axis,
    Const,
    Expr,
    Mul,
    Reduce,
    Size,
    add,
    affine,
    bare,
    mul,
    neg,
    reduce,
    walk,
)
from chainrule.functions import Array
from chainrule.ranges import unique
from chainrule.system import Statement

RATE = "η°"  # a learning rate that the program does not have: it is fitted


def updated_weights(work: Work) -> Found:
    """A backward pass through weights that were updated already."""
    if work.backward is None:
        return
    inputs = tuple(
        t
        for t in work.forward.inputs
        if t in work.shapes and t in work.forward.ranks and t not in work.forward.labels
    )
    has_update = {t.rstrip("'") for t in work.values if t.endswith("'")} & set(inputs)
    wanted = tuple(dict.fromkeys((*work.backward.wrt, *inputs)))
    try:
        again = differentiate(work.forward, work.backward.of, wanted)
    except FormulaError:
        return
    made = tuple(again.space.made)
    extra = {m.target: m for m in made if work.named.get(m.target) is not m}
    used = {t for s in work.path for t in s.reads}
    candidates = [v for v in inputs if v in used and v in again.deltas]
    candidates = [v for v in candidates if v in (has_update or _multiplied(work))]
    changes: dict[str, dict[str, Statement]] = {}
    for v in candidates:
        new = v + "'"
        delta = again.delta_of(v)
        own = {s.target for s in needed_for(made, delta)}
        reading = [m for m in made if m.target not in own and v in m.reads]
        if not reading:
            continue
        changes[v] = {m.target: m for m in reading}
        if v not in has_update:
            names = tuple(f"{v}{k}°" for k in range(len(work.shapes[v])))
            here = tuple(map(bare, names))
            step = mul(Access(RATE, (), None), Access(delta, here, None))
            axes = tuple(((n, Size(v, k)),) for k, n in enumerate(names))
            body = add(Access(v, here, None), neg(step))
            extra = {**extra, new: Statement(new, axes, body)}
    groups = [(v,) for v in changes] + ([tuple(changes)] if len(changes) > 1 else [])
    stepped = tuple(v for v in changes if v in has_update)
    if 1 < len(stepped) < len(changes):
        groups.append(stepped)
    for group in groups:
        renamed = {v: v + "'" for v in group}
        changed = dict(extra)
        for v in group:
            for t, m in changes[v].items():
                news = {u: n for u, n in renamed.items() if t in changes[u]}
                changed[t] = with_body(m, renamed_tensors(m.body, news))
        fitted = any(v not in has_update for v in group)
        given = {RATE: np.array(1.0)} if fitted else {}
        where = next(iter(changes[group[0]]))
        yield Variant(
            "updated weights in the backward pass",
            where,
            changed,
            given=given,
            note=f"{', '.join(renamed.values())} in the place of {', '.join(group)}",
        )


def _multiplied(work: Work) -> set[str]:
    """Inputs that multiply another tensor: what a program without updates may be training."""
    out: set[str] = set()
    for s in work.forward.statements:
        for e in walk(s.body):
            if isinstance(e, Mul):
                out.update(f.tensor for f in e.factors if isinstance(f, Access))
    return out


# ---------------------------------------------------------------- overlapping windows


def overwritten(work: Work) -> Found:
    """dx[window] = ... in a loop over windows, where dx[window] += ... is meant."""
    forward = set(work.forward.outputs)
    for s in work.path:
        if s.target in forward:
            continue
        s = with_sizes(unique(s), work)
        for e, put in spots(s.body):
            if not isinstance(e, Reduce) or e.op != "sum":
                continue
            windows = [x for x in walk(e.body) if _is_window(x, e)]
            if not windows:
                continue
            read = windows[0]
            assert isinstance(read, Access)
            offsets = {n for a in read.axes if _mixed(a) for n in a.names if n in e.names}
            inner = tuple(b for b in e.binders if b[0] not in offsets)
            outer = tuple(b for b in e.binders if b[0] in offsets)
            left = (*(b for axis in s.axes for b in axis), *outer)
            axes = tuple((b,) for b in left)
            terms = Statement("terms°", axes, reduce("sum", inner, e.body))
            ones = Access("ones°", read.axes, ZERO)
            valid = Statement("valid°", axes, _held(ones, inner))
            name = f"picked_{s.target}°"
            picked = Access(name, tuple(bare(n) for n in s.indices), None)
            for how, note in (
                ("assigned", "the last window wins, its zeros too"),
                ("winners", "the last window with a term wins"),
                ("first", "the first window wins"),
            ):
                pick = partial(_pick, terms, valid, read.tensor, len(outer), how)
                yield Variant(
                    "overlapping windows overwritten",
                    s.target,
                    {s.target: with_body(s, put(picked))},
                    {name: pick},
                    note=note,
                )


def _mixed(axis: Axis) -> bool:
    return isinstance(axis, Affine) and axis.bare is None


def _is_window(x: Expr, e: Reduce) -> bool:
    return (
        isinstance(x, Access)
        and x.pad is ZERO
        and x.tensor.startswith("δ")
        and any(_mixed(a) and set(a.names) & set(e.names) for a in x.axes)
    )


def _held(ones: Access, inner: tuple[tuple[str, Expr | None], ...]) -> Expr:
    """The validity of a window does not depend on the indices that are summed inside it."""
    names = {n for n, _ in inner}

    def held(a: Axis) -> Axis:
        if not isinstance(a, Affine) or not names.intersection(a.names):
            return a
        return affine(((n, c) for n, c in a.terms if n not in names), a.offset)

    return Access(ones.tensor, tuple(map(held, ones.axes)), ones.pad)


def _pick(
    terms: Statement, valid: Statement, tensor: str, n: int, how: str, values: Mapping[str, Array]
) -> Array:
    t = run(terms, values)
    v = run(valid, {"ones°": np.ones(values[tensor].shape)} | _sized(valid, values)) != 0
    free = t.shape[: t.ndim - n]
    t, v = t.reshape(*free, -1), v.reshape(*free, -1)
    if how == "winners":
        v = v & (t != 0)
    # a later window meets the same place at a smaller offset
    at = np.argmax(v, axis=-1) if how != "first" else v.shape[-1] - 1 - np.argmax(v[..., ::-1], -1)
    chosen = np.take_along_axis(t, at[..., None], -1)[..., 0]
    return np.where(v.any(-1), chosen, 0.0)


def _sized(s: Statement, values: Mapping[str, Array]) -> dict[str, Array]:
    return {t: values[t] for t in s.mentions if t != "ones°"}


# ---------------------------------------------------------------- convolution and correlation


def convolution(work: Work) -> Found:
    """The kernel flipped in the forward pass: a convolution where the program has a correlation."""
    for s in work.forward.statements:
        u = unique(s)
        moving = {
            n
            for x in walk(u.body)
            if isinstance(x, Access)
            for a in x.axes
            if _mixed(a)
            for n in a.names
        }
        for x in walk(u.body):
            if not isinstance(x, Access) or x.tensor not in work.program.inputs:
                continue
            axes = tuple(
                k
                for k, a in enumerate(x.axes)
                if isinstance(a, Affine) and a.bare in moving and a.bare not in u.indices
            )
            if not axes or x.tensor not in work.values:
                continue
            back = partial(np.flip, axis=axes) if work.deltas.get(x.tensor) == work.target else None
            yield Variant(
                "convolution for correlation",
                s.target,
                given={x.tensor: np.flip(work.values[x.tensor], axes)},
                note=f"{x.tensor} flipped in the forward pass as well",
                after=back,
            )


def another_padding(work: Work) -> Iterator[Variant]:
    """The forward pass with another padding: per side and not in total, or the other way round."""
    for s in work.forward.statements:
        u = unique(s)
        if not all(t in work.shapes for t in u.mentions):
            continue
        sized = with_sizes(u, work)
        for x, put in spots(sized.body, brackets=True):
            if not isinstance(x, Access) or x.pad is None:
                continue
            for factor, note in ((2, "twice"), (Fraction(1, 2), "half"), (0, "without")):
                axes, grown = _repadded(x.axes, factor)
                if not grown:
                    continue
                left = tuple(
                    tuple((n, _grown(size, grown.get(n, 0))) for n, size in axis)
                    for axis in sized.axes
                )
                new = Statement(s.target, left, put(Access(x.tensor, axes, x.pad)))
                for v in redefined(work, "padding", new, new.body, f"{note} the padding"):
                    yield Variant(v.slip, v.where, {**v.changed, s.target: new}, note=v.note)


def _repadded(
    axes: tuple[Axis, ...], factor: int | Fraction
) -> tuple[tuple[Axis, ...], dict[str, int]]:
    """Axes s*i + m - P with another P, and by how much the range of each i grows."""
    out, grown = [], {}
    for a in axes:
        if isinstance(a, Affine) and a.offset < 0 and len(a.terms) > 1 and a.whole:
            i, stride = a.terms[0]
            more = 2 * -a.offset * (factor - 1)
            grown[i] = int(more // abs(stride))
            a = affine(a.terms, a.offset * factor)
        out.append(a)
    return tuple(out), {n: g for n, g in grown.items() if g}


def _grown(size: Expr | None, more: int) -> Expr | None:
    if not isinstance(size, Const):
        return size
    return Const(size.value + more)
