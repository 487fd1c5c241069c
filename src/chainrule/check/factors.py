"""What can be seen from the numbers alone: a constant factor, other axes, another shape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np

from chainrule.check.judge import Judge
from chainrule.check.work import Work, extents
from chainrule.expr import Reduce, walk
from chainrule.functions import Array
from chainrule.ranges import unique


@dataclass(frozen=True)
class Seen:
    """A slip by name, and what was seen."""

    name: str
    note: str
    factor: float = 1.0


def constant_factor(work: Work, judge: Judge, right: Array) -> Seen | None:
    """yours = c * right, with the name of the mistake that makes such a c."""
    if right.shape != judge.value.shape or not judge.value.size:
        return None
    big = np.abs(right) > 1e-3 * float(np.max(np.abs(right), initial=0.0))
    if not big.any() or not np.all(np.isfinite(judge.value)):
        return None
    with np.errstate(all="ignore"):
        weight = float(np.sum(right[big] ** 2))
        c = float(np.sum(judge.value[big] * right[big])) / weight if weight else 0.0
    if c == 0 or not math.isfinite(c):
        return None
    for name, note, factor in _named(work):
        if _same(c, factor, judge) and judge.fits(factor * right):
            return Seen(name, f"yours = {_ratio(factor)} * right{note}", factor)
    if big.sum() > 1 and judge.fits(c * right):
        return Seen("constant factor", f"yours = {_ratio(c)} * right", c)
    return None


def _same(c: float, factor: float, judge: Judge) -> bool:
    return abs(c - factor) <= (0.1 if judge.kept else 1e-3) * abs(factor)


def _ratio(c: float) -> str:
    q = Fraction(c).limit_denominator(1000)
    if abs(float(q) - c) <= 1e-6 * abs(c):
        return str(q)
    return f"{c:.6g}"


def whole_numbers(judge: Judge) -> list[Seen]:
    """An array of integers keeps what is before the point."""
    with np.errstate(invalid="ignore"):
        kept = judge.raw.dtype.kind in "iu" and np.array_equal(judge.value, np.trunc(judge.right))
    return [Seen("whole numbers", f"its dtype is {judge.raw.dtype}")] if kept else []


def _named(work: Work) -> Iterator[tuple[str, str, float]]:
    yield "sign", "", -1.0
    yield "doubled", "", 2.0
    yield "halved", "", 0.5
    ln10 = math.log(10)
    yield "log10 for log", " = right/ln(10)", 1 / ln10
    yield "log10 for log", " = right*ln(10)", ln10
    counts = _counts(work)
    means = any(
        isinstance(e, Reduce) and e.op == "mean"
        for s in work.forward.statements
        for e in walk(s.body)
    )
    for n, why in counts.items():
        more, less = "sum for mean", "mean for sum"
        yield more if means else "constant factor", f": N = {n} is {why}", float(n)
        yield less, f": N = {n} is {why}", 1.0 / n
        yield more if means else "constant factor", f": 2N, N = {n} is {why}", 2.0 * n
        yield less, f": 2/N, N = {n} is {why}", 2.0 / n
    for t in work.forward.inputs + tuple(work.program.inputs):
        if t in work.values and work.values[t].ndim == 0 and t not in work.forward.inputs:
            rate = float(work.values[t])
            if rate not in (0.0, 1.0, -1.0):
                yield "times the learning rate", f" ({t})", rate
                yield "times the learning rate", f" (-{t})", -rate
    yield "sign", " and doubled", -2.0
    yield "sign", " and halved", -0.5
    for n, why in counts.items():
        yield "sign", f", and N = {n} is {why}", -float(n)
        yield "sign", f", and N = {n} is {why}", -1.0 / n


def _counts(work: Work) -> dict[int, str]:
    """Numbers of terms that a mean may be taken over: in the statements that make the objective."""
    out: dict[int, str] = {}
    of = work.backward.of if work.backward else work.of
    statements = [s for s in work.forward.statements if s.target == of]
    statements += [s for s in work.forward.statements if s not in statements]
    for s in statements:
        u = unique(s)
        if not all(t in work.shapes for t in u.mentions):
            continue
        sizes = extents(u, work.values)
        for e in walk(u.body):
            if isinstance(e, Reduce) and e.op in ("sum", "mean"):
                for r in range(1, len(e.names) + 1):
                    for names in combinations(e.names, r):
                        n = math.prod(sizes[m] for m in names)
                        if n > 2:
                            what = ", ".join(m.rstrip("'") for m in names)
                            out.setdefault(n, f"the number of values of {what}")
        for r in range(1, len(u.indices) + 1):
            for names in combinations(u.indices, r):
                n = math.prod(sizes[m] for m in names)
                if n > 2:
                    what = ", ".join(names)
                    out.setdefault(n, f"the number of values of {what} in {s.target}")
        if u.axes == () and len(out) > 12:
            break
    return out


# ---------------------------------------------------------------- axes and shapes


def other_axes(judge: Judge, right: Array) -> Iterator[Seen]:
    """The right numbers at other places: transposed, read back to front, reshaped."""
    c = judge.value
    if right.ndim > 1:
        for order in permutations(range(right.ndim)):
            if order == tuple(range(right.ndim)):
                continue
            moved = right.transpose(order)
            if moved.shape == c.shape and not _equal(moved, right) and judge.fits(moved):
                yield Seen("transposed", f"your array is the right one with axes {order}")
    for r in range(1, right.ndim + 1):
        for axes in combinations(range(right.ndim), r):
            turned = np.flip(right, axes)
            if turned.shape == c.shape and not _equal(turned, right) and judge.fits(turned):
                which = "" if r == right.ndim else f" on axis {', '.join(map(str, axes))}"
                yield Seen("kernel not flipped", f"the right numbers back to front{which}")


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b))


def shapes(work: Work, judge: Judge) -> Iterator[Seen]:
    """How numbers of another shape may come from the right ones."""
    c, right = judge.value, judge.right
    if c.size == right.size and judge.fits(right.reshape(c.shape)):
        yield Seen("other shape", f"your shape is {c.shape}, the tensor's {right.shape}")
    for r in range(1, c.ndim + 1):
        for axes in combinations(range(c.ndim), r):
            total = c.sum(axis=axes)
            if total.shape == right.shape and _near(total, right, judge):
                what = ", ".join(map(str, axes))
                yield Seen("bias untied", f"the sum of yours over axis {what} is right")
    for r in range(1, right.ndim + 1):
        for axes in combinations(range(right.ndim), r):
            total = right.sum(axis=axes)
            if total.shape == c.shape and _near(total, c, judge):
                yield Seen("bias tied", f"yours is the sum over axis {', '.join(map(str, axes))}")
    if c.ndim == right.ndim and c.size > right.size:
        extra = [a - b for a, b in zip(c.shape, right.shape, strict=True)]
        if all(e >= 0 for e in extra):
            for front in np.ndindex(*(e + 1 for e in extra)):
                cut = c[tuple(slice(f, f + n) for f, n in zip(front, right.shape, strict=True))]
                if _near(cut, right, judge):
                    yield Seen("padding not cut off", f"without a border of {front} it is right")
                    break


def summed(judge: Judge) -> Iterator[Seen]:
    """Every entry holds the sum over some axes: a bias tied that has an entry for each place."""
    right = judge.right
    for r in range(1, right.ndim + 1):
        for axes in combinations(range(right.ndim), r):
            total = np.broadcast_to(right.sum(axis=axes, keepdims=True), right.shape)
            if not _equal(total, right) and judge.fits(total):
                yield Seen(
                    "bias tied", f"every entry is the sum over axis {', '.join(map(str, axes))}"
                )


def _near(a: Array, b: Array, judge: Judge) -> bool:
    size = float(np.max(np.abs(b), initial=0.0))
    terms = max(judge.value.size, judge.right.size)
    allowed = 4096 * judge.unit * math.sqrt(terms) * max(size, float(np.abs(judge.value).max()))
    if judge.kept:
        allowed += terms * float(np.max(judge.kept[0].unit))
    return bool(np.all(np.abs(a - b) <= allowed)) and size > 0
