"""Numbers that are right but for a value that was rounded on the way: which one, and how far?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from chainrule.check.judge import Judge
from chainrule.check.local import sites
from chainrule.check.variants import Variant, numbers, spots, with_body
from chainrule.check.work import Values, Work, extents, run
from chainrule.expr import (
    Access,
    Const,
    Mul,
    bare,
    const,
    mul,
    tensors,
)
from chainrule.functions import Array
from chainrule.system import Statement

NAME = "rounded intermediate values"
_PAIRS = 1000


def shortened(x: Array, digits: int, how: str) -> Array:
    """x with that many decimals (rounded, cut) or significant digits."""
    if how == "significant":
        with np.errstate(divide="ignore", invalid="ignore"):
            lead = np.where(x != 0, np.floor(np.log10(np.abs(x))), 0.0)
        unit = 10.0 ** (lead - digits + 1)
        return np.asarray(np.round(x / unit) * unit)
    if how == "cut":
        return np.asarray(np.trunc(x * 10.0**digits) / 10.0**digits)
    return np.asarray(np.round(x, digits))


def rounded(work: Work, judge: Judge) -> list[tuple[Variant, str]]:
    """Every rounding, of one intermediate result or of all, that gives the candidate's numbers."""
    return _fitting(work, judge, [*_singles(work), *_all_at_once(work)])


def rounded_twice(work: Work, judge: Judge) -> list[tuple[Variant, str]]:
    """Every pair of roundings: whoever writes few digits down does so more than once."""
    if not judge.kept or judge.value.size < 3:
        return []
    forward = set(work.forward.outputs)
    singles = list(_singles(work))
    first = [v for v in singles if v.where in forward and v.note.endswith(_FIRST)]
    then = [v for v in singles if v.where not in forward and not v.note.endswith(_TINY)]
    then = [v for v in then if not v.changed]  # tensors with a name, as a person writes down
    pairs = (p for a in first for b in then if (p := a.with_(b)) is not None)
    return _fitting(work, judge, [p for p, _ in zip(pairs, range(_PAIRS), strict=False)])


_FIRST = ("rounded to 1 decimal", *(f"rounded to {n} decimals" for n in (2, 3, 4)))
_TINY = ("1 decimal", "1 significant digit", "6 decimals", "6 significant digits")


def _all_at_once(work: Work) -> Iterator[Variant]:
    """Every intermediate result shortened alike."""
    path = [s for s in work.path[:-1] if not s.target.startswith("argmax")]
    if len(path) < 2:
        return
    for how in ("rounded", "cut", "significant"):
        for digits in range(1, 7):
            short = {s.target: partial(_shortened, s, digits, how) for s in path}
            note = f"every intermediate result {_said(how, digits)}"
            yield Variant(NAME, path[0].target, override=short, note=note)


def _said(how: str, digits: int) -> str:
    unit = "significant digit" if how == "significant" else "decimal"
    verb = "cut" if how == "cut" else "rounded"
    return f"{verb} to {digits} {unit}{'s' if digits > 1 else ''}"


def _fitting(work: Work, judge: Judge, found: list[Variant]) -> list[tuple[Variant, str]]:
    out = []
    for v in found:
        value = numbers(work, v)
        if judge.tells(value) and judge.fits(value):
            out.append((v, _as_if(work, v)))
    return out


def _as_if(work: Work, v: Variant) -> str:
    """as if h[0,0] had been 0.58 and not 0.576689978"""
    name = next(iter(v.override))
    if name not in work.values:
        return v.note
    exact = numbers(work, Variant(NAME, name), name)
    short = numbers(work, v, name)
    if exact is None or short is None or not exact.size:
        return v.note
    k = int(np.argmax(exact.reshape(-1) != short.reshape(-1)))
    return f"{v.note}: {short.reshape(-1)[k]:.10g} for {exact.reshape(-1)[k]:.9g}"


def _singles(work: Work) -> Iterator[Variant]:
    for s in work.path[:-1]:
        if s.target.startswith("argmax"):
            continue
        yield from _each(s.target, s.target, s, {})
    for s in sites(work):
        yield from _parts(work, s)


def _parts(work: Work, s: Statement) -> Iterator[Variant]:
    """A product inside a statement, worked out and rounded by itself: the slope y*(1-y), say."""
    sizes = extents(s, work.values)
    for e, put in spots(s.body):
        if not isinstance(e, Mul):
            continue
        n = len(e.factors)
        for i in range(n):
            for j in range(i + 1, n + 1):
                part = mul(*e.factors[i:j])
                if (j - i == n and e is s.body) or isinstance(part, (Const, Access)):
                    continue
                if not tensors(part):
                    continue
                name = f"part{i}{j}_{s.target}°"
                axes = tuple(((m, const(sizes[m])),) for m in part.free)
                own = Statement(name, axes, part)
                read = Access(name, tuple(map(bare, part.free)), None)
                body = put(mul(*e.factors[:i], read, *e.factors[j:]))
                yield from _each(name, s.target, own, {s.target: with_body(s, body)}, str(part))


def _each(
    name: str, where: str, s: Statement, changed: dict[str, Statement], label: str = ""
) -> Iterator[Variant]:
    for how in ("rounded", "cut", "significant"):
        for digits in range(1, 7):
            yield Variant(
                NAME,
                where,
                changed,
                {name: partial(_shortened, s, digits, how)},
                note=f"{label or name} {_said(how, digits)}",
            )


def _shortened(s: Statement, digits: int, how: str, values: Values) -> Array:
    return shortened(run(s, {t: values[t] for t in s.mentions}), digits, how)
