"""Which slip makes the user's numbers?  One of the table, or two together; else none is named."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from chainrule.check import factors, rounding
from chainrule.check.judge import Judge
from chainrule.check.report import Diagnosis
from chainrule.check.table import EXPLANATIONS, SLIPS
from chainrule.check.variants import Variant, numbers
from chainrule.check.whole import RATE
from chainrule.check.work import Work
from chainrule.expr import Binder, Expr, Reduce, rebuild, walk
from chainrule.functions import Array
from chainrule.notation import statement
from chainrule.ranges import unique
from chainrule.system import Statement

_PAIRS = 1500
# multiply-adds up to which roundings, and pairs of slips, are tried
_ROUNDED, _PAIRED = 500_000, 50_000


def variants(work: Work) -> tuple[Variant, ...]:
    """Every slip of the table at every place in the program."""
    return _found(_Key(work))


class _Key:
    """What the variants of a Work depend on: formulas and shapes, not the numbers."""

    def __init__(self, work: Work) -> None:
        self.work = work
        shapes = tuple(sorted((t, a.shape) for t, a in work.values.items()))
        self.key = (work.order, frozenset(work.by_target), work.target, work.of, work.wrt, shapes)
        self.hash = hash(self.key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key


@lru_cache(maxsize=32)
def _found(key: _Key) -> tuple[Variant, ...]:
    finders = dict.fromkeys(s.find for s in SLIPS if s.find is not None and not s.by_data)
    return tuple(v for find in finders for v in find(key.work))


def diagnose(work: Work, judge: Judge) -> tuple[Diagnosis, ...]:
    """The slips that reproduce the candidate; () where none does."""
    if not np.all(np.isfinite(judge.value)):
        return ()
    mostly = judge.same_shape and _mostly_right(judge)
    cost = work.cost()
    close = judge.same_shape and not mostly and cost < _ROUNDED and _close(judge)
    if close and (found := rounding.rounded(work, judge)):
        named = [_diagnosis(work, replace(v, note=note)) for v, note in found]
        return _grouped(_simplest(named))
    out = list(_seen(work, judge))
    every = variants(work) + tuple(v for s in SLIPS if s.find and s.by_data for v in s.find(work))
    values = [(v, numbers(work, v)) for v in every]
    values = [(v, x) for v, x in values if judge.tells(x)]
    if not judge.value.any():  # many a slip leaves nothing: only those that are about nothing
        values = [(v, x) for v, x in values if v.slip in _NOTHING]
    for v, x in values:
        if v.given.get(RATE) is not None:
            fitted = _fitted_rate(work, judge, v, x)
            if fitted is not None:
                out.append(_diagnosis(work, fitted))
        elif judge.fits(x):
            out.append(_diagnosis(work, v))
    if not out and close and (found := rounding.rounded_twice(work, judge)):
        named = [_diagnosis(work, replace(v, note=note)) for v, note in found]
        return _grouped(_simplest(named))
    if not out:
        out = list(_with_factor(work, judge, values))
    if (
        not out and not mostly and cost < _PAIRED
    ):  # one local mistake is not two that cancel elsewhere
        out = list(_pairs(work, judge, [v for v, _ in values]))
    return _grouped(out)


_NOTHING = ("δ to no tied maximum", "another slope at the kink")


def _mostly_right(judge: Judge) -> bool:
    return bool(2 * np.sum(~judge.differs() & (judge.right != 0)) > judge.right.size)


def _close(judge: Judge) -> bool:
    size = float(np.max(np.abs(judge.right), initial=0.0))
    return float(np.max(np.abs(judge.value - judge.right), initial=0.0)) <= 0.2 * size


def _seen(work: Work, judge: Judge) -> Iterator[Diagnosis]:
    found: list[factors.Seen] = []
    if judge.same_shape and not judge.value.any():
        found += factors.whole_numbers(judge)
    elif judge.same_shape:
        factor = factors.constant_factor(work, judge, judge.right)
        found += [factor] if factor else []
        found += factors.summed(judge)
        found += factors.whole_numbers(judge)
    else:
        found += factors.shapes(work, judge)
    if judge.value.any():
        found += factors.other_axes(judge, judge.right)
    for s in found:
        yield Diagnosis(s.name, EXPLANATIONS[s.name], _where(work, work.target), note=s.note)


def _with_factor(
    work: Work, judge: Judge, values: Iterable[tuple[Variant, Array | None]]
) -> Iterator[Diagnosis]:
    """A slip, and a constant factor besides."""
    if judge.value.size < 3:
        return
    for v, x in values:
        if x is None or RATE in v.given or np.count_nonzero(x) < 3:
            continue
        factor = factors.constant_factor(work, judge, x)
        if factor is not None and judge.tells(factor.factor * x):
            second = Diagnosis(
                factor.name,
                EXPLANATIONS[factor.name],
                note=factor.note.replace("right", "that", 1),
            )
            yield replace(_diagnosis(work, v), also=second)


def _pairs(work: Work, judge: Judge, every: list[Variant]) -> Iterator[Diagnosis]:
    """Two slips at once.  With one or two numbers to go by, too many pairs would fit: none is."""
    if judge.value.size < 3:
        return
    tried = 0
    for slipped, second in _in_turn(every):
        if tried >= _PAIRS:
            return
        both = slipped.with_(second)
        if both is None or RATE in both.given:
            continue
        tried += 1
        value = numbers(work, both)
        if judge.tells(value) and judge.fits(value):
            yield replace(_diagnosis(work, slipped), also=_diagnosis(work, second))


def _in_turn(every: list[Variant]) -> Iterator[tuple[Variant, Variant]]:
    """Pairs of different slips; those that happen most often first."""
    common = [v for v in every if v.slip in _COMMON]
    for i, a in enumerate(common):
        for b in common[i + 1 :]:
            if a.slip != b.slip or a.where != b.where:
                yield a, b
    for a in common:
        for b in every:
            if b.slip not in _COMMON:
                yield a, b


_COMMON = frozenset(
    {
        "activation derivative missing",
        "activation derivative doubled",
        "kernel not flipped",
        "transposed",
        "sum for mean",
        "mean for sum",
        "a path left out",
        "overlapping windows overwritten",
        "stride ignored",
        "δ to every tied maximum",
        "updated weights in the backward pass",
    }
)


def _fitted_rate(work: Work, judge: Judge, v: Variant, x: Array | None) -> Variant | None:
    """The learning rate with which weights must have been updated to give these numbers."""
    if x is None or x.shape != judge.value.shape or judge.value.size < 2:
        return None
    rate = 1.0
    wanted = judge.value - judge.right
    for _ in range(8):  # the effect of the rate is nearly linear: a few secant steps
        effect = x - judge.right
        weight = float(np.sum(effect**2))
        if weight == 0 or not math.isfinite(weight):
            return None
        rate *= float(np.sum(effect * wanted)) / weight
        if not 1e-6 < rate <= 1:
            return None
        fitted = replace(v, given={**v.given, RATE: np.array(rate)})
        x = numbers(work, fitted)
        if x is None:
            return None
        if judge.fits(x):
            return replace(fitted, note=f"{v.note}, with a learning rate of {rate:.6g}")
    return None


# ---------------------------------------------------------------- words


def _diagnosis(work: Work, v: Variant) -> Diagnosis:
    changed = v.changed.get(v.where)
    name = next((t for t in v.changed if t.startswith("δ")), "")
    if changed is None and name:
        changed = v.changed[name]
    also = _diagnosis(work, v.also[0]) if v.also else None
    return Diagnosis(
        v.slip,
        EXPLANATIONS[v.slip],
        _where(work, v.where),
        "" if changed is None or _internal(changed) else _shown(work, changed),
        v.note,
        _rule(work, v.where),
        also=also,
    )


def _shown(work: Work, s: Statement) -> str:
    """A changed statement, the sizes that its right form does not need left out again."""
    right = work.named.get(s.target)
    if right is None:
        return statement(s)
    right = unique(right)
    reductions = [e for e in walk(right.body) if isinstance(e, Reduce)]
    written = {n: size for axis in right.axes for n, size in axis}
    written |= {n: size for e in reductions for n, size in e.binders}

    def stripped(binders: tuple[Binder, ...]) -> tuple[Binder, ...]:
        return tuple((n, written.get(n, size)) for n, size in binders)

    def go(e: Expr) -> Expr:
        if isinstance(e, Reduce):
            return Reduce(e.op, stripped(e.binders), go(e.body))
        return rebuild(e, go)

    return statement(Statement(s.target, tuple(map(stripped, s.axes)), go(s.body)))


def _internal(s: Statement) -> bool:
    return "°" in statement(s)


def _where(work: Work, target: str) -> str:
    return work.text(target)


def _rule(work: Work, target: str) -> str:
    """What the derivation says it did where this statement was made."""
    if work.backward is None:
        return ""
    for stage in work.backward.stages:
        if stage.target.tensor == target:
            notes = [s.note for s in stage.steps if s.rule == "differentiate" and s.note]
            return "derivation: " + (notes[0] if notes else stage.steps[-1].rule)
    return "the forward formula" if target in work.forward.outputs else ""


def _simplest(found: list[Diagnosis]) -> list[Diagnosis]:
    """Of roundings that give the same numbers, the coarsest: it is the one that was made."""
    return found[:6]


def _grouped(found: list[Diagnosis]) -> tuple[Diagnosis, ...]:
    """One entry for each slip (or pair of slips); its other places are mentioned."""
    out: dict[tuple[str, str], Diagnosis] = {}
    for d in found:
        key = (d.name, d.also.name if d.also else "")
        if key not in out:
            out[key] = d
            continue
        kept = out[key]
        other = d.where.split(" = ")[0]
        if other and other != kept.where.split(" = ")[0] and other not in kept.places:
            out[key] = replace(kept, places=(*kept.places, other))
    return tuple(out.values())
