"""One entry of a tensor with its numbers: the formula, its indices filled in, the largest terms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from chainrule.check.report import entry_text
from chainrule.check.work import Work, extents, run
from chainrule.errors import FormulaError
from chainrule.expr import (
    Access,
    Affine,
    Compare,
    Const,
    Expr,
    Reduce,
    factors_of,
    substitute,
    walk,
)
from chainrule.ranges import unique
from chainrule.system import Statement

_SHOWN = 4


def explained(work: Work, target: str, index: tuple[int, ...]) -> str:
    """The entry's formula with numbers, or "" where the statement has none of its own."""
    s = work.named.get(target)
    if s is None or any(len(axis) != 1 for axis in s.axes):
        return ""
    u = unique(s)
    sizes = extents(s, work.values)
    at = {n: Affine((), Fraction(k)) for n, k in zip(u.indices, index, strict=True)}
    try:
        body = substitute(u.body, at)
        lines = [f"{entry_text(target, index)} = {substitute(s.body, at)}"]
        whole = work.values[target][index]
        sums = [e for e in walk(body) if isinstance(e, Reduce) and e.op == "sum"]
        if body in sums:
            lines += _terms(work, body, sizes, whole)
        else:
            named = _named(work, body)
            lines.append(f"  = {whole:.9g}" + (f"   with {named}" if named else ""))
        return "\n".join(lines)
    except (FormulaError, ValueError, IndexError):
        return ""


def _terms(work: Work, body: Expr, sizes: dict[str, int], whole: float) -> list[str]:
    assert isinstance(body, Reduce)
    binders = tuple((n, Const(Fraction(sizes[n]))) for n in body.names)
    axes = tuple((b,) for b in binders)

    def table(e: Expr) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return run(Statement("terms°", axes, e), work.values)

    terms = table(body.body)
    flat = np.abs(np.nan_to_num(terms)).reshape(-1)
    order = np.argsort(-flat, kind="stable")
    nonzero = int(np.count_nonzero(flat))
    shown = [np.unravel_index(k, terms.shape) for k in order[: min(_SHOWN, nonzero)]]
    factors = [f for f in factors_of(body.body) if not isinstance(f, (Const, Compare))]
    tables = [table(f) for f in factors]
    lines = []
    total = 0.0
    for place in shown:
        at = {n: Affine((), Fraction(int(k))) for n, k in zip(body.names, place, strict=True)}
        product = " * ".join(
            f"{substitute(f, at)} {float(t[place]):.6g}"
            for f, t in zip(factors, tables, strict=True)
        )
        where = ", ".join(f"{n}={k}" for n, k in zip(body.names, place, strict=True))
        value = float(terms[place])
        total += value
        lines.append(f"  {value:+.6g}   {where}:  {product}")
    rest = nonzero - len(shown)
    if rest:
        lines.append(f"  {whole - total:+.6g}   the other {rest} terms")
    zeros = terms.size - nonzero
    note = f"   ({zeros} of {terms.size} terms are 0)" if zeros else ""
    lines.append(f"  = {whole:.9g}{note}")
    return lines


def _named(work: Work, body: Expr) -> str:
    """The numbers behind the names, where they are single entries."""
    out = []
    for x in dict.fromkeys(e for e in walk(body) if isinstance(e, Access)):
        if any(x.free):
            continue
        where = tuple(int(a.offset) for a in x.axes if isinstance(a, Affine) and a.whole)
        value = work.values.get(x.tensor)
        if value is None or len(where) != value.ndim:
            continue
        if all(0 <= k < n for k, n in zip(where, value.shape, strict=True)):
            out.append(f"{x} = {float(value[where]):.6g}")
    return ", ".join(out[:_SHOWN])
