"""Kronecker deltas, eliminated: Σ over i, m of term * (2*i+m == p)  ->  Σ over m, i = (p-m)/2.

Each equation `affine form of the bound indices = free index` is solved exactly for one bound
index.  An index that stood alone is only renamed.  Any other is replaced by its solution, which
may be a fraction or out of range: reading through pad gives 0 there, so the term vanishes exactly
where the solution is not an index.  This needs, and `solve` reports, for every solved index a
factor that was read at that index alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from chainrule.expr import Affine, Axis, Compare, Expr, Group, affine, bare, number


@dataclass
class Solution:
    """values    bound index -> its value in terms of free indices and the bound ones that remain
    renamed    those that are merely renamed: they run over exactly the range of the free index
    brackets   equations left between indices that were solved already
    log        one line for each equation, for the derivation
    """

    values: dict[str, Affine] = field(default_factory=dict)
    renamed: set[str] = field(default_factory=set)
    brackets: list[Expr] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def solved(self) -> set[str]:
        return set(self.values) - self.renamed


@dataclass(frozen=True)
class Equation:
    """form(bound indices) = free index"""

    form: Affine
    free: str


def equations(axes: Sequence[Axis], free: Sequence[tuple[str, ...]]) -> list[Equation]:
    """One equation for each axis, one for each member of a group."""
    out = []
    for axis, names in zip(axes, free, strict=True):
        if isinstance(axis, Group):
            out += [Equation(bare(i), p) for i, p in zip(axis.names, names, strict=True)]
        else:
            out.append(Equation(axis, names[0]))
    return out


def solve(
    system: list[Equation], outer: Sequence[str], inner: Sequence[str], covered: set[str]
) -> Solution:
    """Solve for bound indices: `outer` ones (of the statement's left side) before `inner` ones.

    A solution for an outer index vanishes out of range by itself, because the cotangent is read
    at it; of the inner indices those in `covered` have such a factor too and come first.
    """
    out = Solution()
    rest = []
    for eq in system:  # renamings first: they cost nothing
        name = eq.form.bare
        if name is not None and name not in out.values:
            out.values[name] = bare(eq.free)
            out.renamed.add(name)
        else:
            rest.append(eq)
    inner_order = sorted(inner, key=lambda n: n not in covered)
    for eq in rest:
        form = eq.form.at(out.values)
        left = affine([*form.terms, (eq.free, -1)], form.offset)
        unknown = dict(left.terms)
        name = _choose(unknown, outer, inner_order, out.values)
        if name is None:
            out.brackets.append(Compare("==", number(form), number(bare(eq.free))))
            continue
        c = unknown[name]
        value = affine(
            ((n, -k / c) for n, k in _free_first(left, eq.free) if n != name), -left.offset / c
        )
        for other, old in out.values.items():
            out.values[other] = old.at({name: value})
        out.values[name] = value
    return out


def _free_first(a: Affine, free: str) -> list[tuple[str, Fraction]]:
    """Terms with the free index in front, so that a solution reads p-m and not -m+p."""
    return sorted(a.terms, key=lambda t: t[0] != free)


def _choose(
    unknown: dict[str, Fraction],
    outer: Sequence[str],
    inner: Sequence[str],
    values: dict[str, Affine],
) -> str | None:
    for names in (outer, inner):
        open_ = [n for n in names if n in unknown and n not in values]
        unit = [n for n in open_ if abs(unknown[n]) == 1]
        if open_:
            return (unit or open_)[0]
    return None
