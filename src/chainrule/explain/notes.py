"""The conventions that matter to one number, said beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from chainrule.explain.build import Builder
from chainrule.expr import (
    ZERO,
    Access,
    Add,
    Affine,
    Call,
    Compare,
    Expr,
    Pow,
    Reduce,
    Size,
    factors_of,
    walk,
)
from chainrule.notation.show import show_axis
from chainrule.system import LeftAxis, Statement

if TYPE_CHECKING:
    from chainrule.explain.explanation import Explanation


def notes(builder: Builder, x: Explanation) -> tuple[str, ...]:
    """What NOTES has to say of an element, each thing once."""
    s = x.statement
    if s is None:
        return ()
    return tuple(dict.fromkeys(text for rule in NOTES for text in rule(builder, x, s)))


Note = Iterator[str]


def flattening(b: Builder, x: Explanation, s: Statement) -> Note:
    """Where several indices share an axis: which of them this position is."""
    for axis, position in zip(s.axes, x.index, strict=True):
        if len(axis) > 1:
            extents = b.work.extents(s.target)
            yield f"position {position} is {_group(axis)} = {_place(axis, x.left)}: " + _row_major(
                axis, extents, x.left, position
            )


def _group(axis: LeftAxis) -> str:
    return "(" + ",".join(n for n, _ in axis) + ")"


def _place(axis: LeftAxis, left: dict[str, int]) -> str:
    return "(" + ",".join(str(left[n]) for n, _ in axis) + ")"


def _row_major(axis: LeftAxis, extents: dict[str, int], left: dict[str, int], p: int) -> str:
    names = [n for n, _ in axis]
    parts = []
    for k, n in enumerate(names):
        stride = 1
        for later in names[k + 1 :]:
            stride *= extents[later]
        parts.append(f"{stride}*{left[n]}" if stride != 1 else str(left[n]))
    return f"{' + '.join(parts)} = {p}, row-major; a reshape is no arithmetic"


def correlation(b: Builder, x: Explanation, s: Statement) -> Note:
    """Which way a kernel is read."""
    left = set(s.indices)
    for e in walk(s.body):
        if not isinstance(e, Reduce) or e.op not in ("sum", "mean"):
            continue
        factors = factors_of(e.body)
        if sum(isinstance(f, Access) for f in factors) < 2:
            continue
        for f in factors:
            if not isinstance(f, Access):
                continue
            for axis in f.axes:
                if not isinstance(axis, Affine) or len(axis.terms) < 2:
                    continue
                sign = dict(axis.terms)
                summed = [n for n in sign if n in e.names]
                kept = [n for n in sign if n in left]
                if not (summed and kept):
                    continue
                text = show_axis(axis)
                if all(c > 0 for c in sign.values()):
                    yield f"cross-correlation: {f.tensor} is read at {text}, nothing is flipped"
                elif sign[kept[0]] > 0 and sign[summed[0]] < 0:
                    yield (
                        f"{f.tensor} is read at {text}: the minus sign is what is called rotating "
                        "the kernel by 180°"
                    )
                return


def padding(b: Builder, x: Explanation, s: Statement) -> Note:
    """How much padding there is, on which side; only for what the forward pass pads."""
    extents = b.work.extents(s.target)
    for e in walk(b.work.body(s.target)):
        if not isinstance(e, Access) or e.pad is None or e.tensor.startswith("δ"):
            continue
        if b.work.role(e.tensor) == "helper":
            continue
        shape = b.work.before[e.tensor].shape
        sides = []
        for n, axis in zip(shape, e.axes, strict=True):
            assert isinstance(axis, Affine)
            if axis.bare is None and axis.whole:
                reach = [int(c) * (extents[m] - 1) for m, c in axis.terms]
                low = int(axis.offset) + sum(r for r in reach if r < 0)
                high = int(axis.offset) + sum(r for r in reach if r > 0)
                sides.append(f"{max(0, -low)} before and {max(0, high - n + 1)} after")
        if sides:
            same = len(set(sides)) == 1
            shown = sides[0] + (" on each axis" if len(sides) > 1 else "")
            yield f"padding of {e.tensor}, per side: " + (shown if same else ", ".join(sides))
            return


def mean(b: Builder, x: Explanation, s: Statement) -> Note:
    """What a mean divides by."""
    extents = b.work.extents(s.target)
    for e in walk(s.body):
        if isinstance(e, Reduce) and e.op == "mean":
            n = 1
            for name in e.names:
                n *= extents.get(name, 1)
            yield f"the mean divides by N = {n}; with a sum this would be {n} times as large"
            return
    if x.role == "backward":
        for e in walk(s.body):
            if isinstance(e, Pow) and any(isinstance(f, Size) for f in factors_of(e.base)):
                shown = ", ".join(
                    str(b.work.ranges.shapes[f.tensor][f.axis])
                    for f in factors_of(e.base)
                    if isinstance(f, Size)
                )
                yield f"1/{shown} comes from the mean in the forward pass"
                return


def ties(b: Builder, x: Explanation, s: Statement) -> Note:
    """Which of several equal maxima a gradient went to; the window itself says its own."""
    for c in x.cells:
        window = b.work.statement(c.tensor) if c.role == "helper" else None
        if window is None or not (isinstance(window.body, Reduce) and window.body.op == "argmax"):
            continue
        for p in b.parts(c.tensor, c.index):
            for i in p.terms[0].factors[0].inner:
                if i.ties > 1:
                    yield f"tie: {i.ties} equal maxima, first taken (in row-major order)"


def update(b: Builder, x: Explanation, s: Statement) -> Note:
    """Old values on the right of an update."""
    if x.is_update:
        yield "every value on the right is the old one: a step reads everything before it writes"


def logarithm(b: Builder, x: Explanation, s: Statement) -> Note:
    """Which logarithm."""
    for e in walk(s.body):
        if (isinstance(e, Call) and e.function == "log") or (
            isinstance(e, Reduce) and e.op == "logsumexp"
        ):
            yield "log is the natural logarithm"
            return


def softmax(b: Builder, x: Explanation, s: Statement) -> Note:
    """exp(u - logsumexp(u)) is a softmax."""
    for e in walk(s.body):
        if isinstance(e, Call) and e.function == "exp":
            for a in walk(e.args[0]):
                if isinstance(a, Access) and a.tensor.startswith("logsumexp"):
                    yield f"{e} is the softmax probability"
                    return


def activation(b: Builder, x: Explanation, s: Statement) -> Note:
    """The derivative of an activation, written with its value; relu at 0."""
    if x.role != "backward":
        return
    body = set(factors_of(s.body))
    for f in b.work.system.statements:
        if isinstance(f.body, Call) and f.body.function in ("sigmoid", "tanh", "relu"):
            used = [e for g in body for e in walk(g) if isinstance(e, Access)]
            applied = x.tensor.removeprefix("δ") in f.reads
            if applied and any(e.tensor == f.target for e in used):
                name, value = f.body.function, f.target
                rule = {
                    "sigmoid": f"sigmoid' = {value}*(1 - {value}), at its value {value}",
                    "tanh": f"tanh' = 1 - {value}**2, at its value {value}",
                }
                if name in rule:
                    yield rule[name]
    for e in walk(s.body):
        if isinstance(e, Compare) and e.op == ">" and e.right is ZERO:
            yield "relu' is 1 above 0, else 0; at 0 it is taken as 0"
            return


def bias(b: Builder, x: Explanation, s: Statement) -> Note:
    """Tied or untied: how many places share the one number."""
    if x.role != "backward" or len(x.parts) != 1:
        return
    made = [f for f in factors_of(s.body) if not isinstance(f, Reduce)]
    inside = s.body.body if isinstance(s.body, Reduce) else made[0] if made else None
    if not (isinstance(inside, Access) and inside.tensor.startswith("δ")):
        return
    t, reader = s.target.removeprefix("δ"), b.work.statement(inside.tensor.removeprefix("δ"))
    if reader is None or not _added(reader.body, t):
        return
    part = x.parts[0]
    if part.names:
        letters = ", ".join(part.names)
        yield (
            f"tied: one {x.name.removeprefix('δ')} is added at all {part.count:,} values of "
            f"{letters}, so all {part.count:,} δ are added up"
        )
    else:
        yield f"untied: every element of {inside.tensor.removeprefix('δ')} has its own {t}"


def _added(body: Expr, t: str) -> bool:
    return isinstance(body, Add) and any(
        isinstance(e, Access) and e.tensor == t for e in body.terms
    )


def cancelling(b: Builder, x: Explanation, s: Statement) -> Note:
    """A value that is nothing but the rounding of terms that cancel."""
    size = sum(abs(t.value) for t in x.terms)
    if x.value and len(x.terms) > 1 and abs(x.value) < 1e-13 * size:
        yield "its terms cancel: what is left is the rounding of float64"


def forks(b: Builder, x: Explanation, s: Statement) -> Note:
    """A value that is used several times."""
    through = {p.via for p in x.parts if p.via}
    if len(through) > 1:
        t = x.tensor.removeprefix("δ")
        yield f"{t} is used in {len(through)} places: the gradients of all of them are added"
    elif x.role == "backward" and len(x.parts) == 1 and x.parts[0].nonzero > 1:
        f = x.parts[0].terms[0].factors
        if any("argmax" in g.formula for g in f) or _windows_overlap(b, x):
            t = x.name.removeprefix("δ")
            yield f"{t} is in {x.parts[0].nonzero} windows that count: what they send is added"


def _windows_overlap(b: Builder, x: Explanation) -> bool:
    reads = {c.tensor for c in x.cells}
    return any(
        isinstance(s.body, Reduce) and s.body.op == "mean" and f"δ{s.target}" in reads and s.axes
        for s in b.work.system.statements
    ) and bool(x.index)


NOTES: tuple[Callable[[Builder, Explanation, Statement], Note], ...] = (
    flattening,
    correlation,
    padding,
    mean,
    ties,
    update,
    softmax,
    logarithm,
    activation,
    bias,
    cancelling,
    forks,
)
