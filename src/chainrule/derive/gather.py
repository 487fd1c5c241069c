"""A contribution with its Kronecker deltas -> a sum in gather form.

The indices of the statement are kept apart from the free ones by primes; plain_letters() gives
them plain names again when the statement is complete.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.derive.adjoint import Contribution, guarded
from chainrule.derive.eliminate import Solution, equations, solve
from chainrule.derive.space import Space
from chainrule.expr import (
    ONE,
    ZERO,
    Access,
    Affine,
    Call,
    Compare,
    Const,
    Expr,
    Group,
    Index,
    Pow,
    Reduce,
    bare,
    mul,
    rebuild,
    reduce,
    rename_bound,
    substitute,
    substitute_axis,
    walk,
)

# Functions that are finite wherever their arguments are.  A factor made of these may be read
# out of range (where pad gives 0): the cotangent beside it is 0 there, and 0 * finite is 0.
TOTAL = frozenset("abs sign sigmoid tanh relu erf sin cos maximum minimum stop where".split())

Free = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Gathered:
    """k, contribution   where it came from, its indices kept apart from the free ones
    names             how those were renamed
    solution, term    the equations solved, and the sum that is left
    """

    k: int
    contribution: Contribution
    names: dict[str, str]
    solution: Solution
    term: Expr


def apart(names: tuple[str, ...], free: Free) -> dict[str, str]:
    """Primes for those names that are also free indices."""
    flat = {n for axis in free for n in axis}
    taken = flat | set(names)
    out: dict[str, str] = {}
    for n in names:
        if n in flat:
            fresh = n + "'"
            while fresh in taken:
                fresh += "'"
            taken.add(fresh)
            out[n] = fresh
    return out


def gather(space: Space, k: int, c: Contribution, free: Free) -> Gathered:
    names = apart(space.order[k], free)
    back = {v: n for n, v in names.items()}
    c = c.renamed(names)
    left = [names.get(n, n) for n in space.unique[k].indices]
    covered = {
        axis.bare
        for f in c.factors
        if isinstance(f, Access) and (f.pad is None or f.pad is ZERO)
        for axis in f.axes
        if isinstance(axis, Affine) and axis.bare
    }
    outer = [n for n in c.bound if n in left]
    inner = [n for n in c.bound if n not in left]
    solution = solve(equations(c.access.axes, free), outer, inner, covered)
    values, solved = solution.values, solution.solved

    def own_name(e: Expr) -> Expr:
        return rename_bound(space.part(k, rename_bound(e, back), "part"), names)

    inside: list[Expr] = []  # these three in this order, as a person would write the product
    padded: list[Expr] = []
    brackets: list[Expr] = list(solution.brackets)
    for f in c.factors:
        if solved.intersection(f.free) and not (is_total(f) and can_substitute(f, values)):
            f = own_name(f)
        read = read_at(f, values, solved)
        if isinstance(read, Compare) and solved.intersection(f.free):
            brackets.append(read)
        elif isinstance(read, Access) and read.pad is not None and read is not f:
            padded.append(read)
        else:
            inside.append(read)
    for n in inner:
        if n in solved and n not in covered:
            ones = space.table(k, (back.get(n, n),), ONE, f"one_{n.rstrip(chr(39))}")
            padded.append(read_at(rename_bound(ones, names), values, solved))
    guards = tuple(
        read_at(g if can_substitute(g, values) else own_name(g), values, solved) for g in c.guards
    )
    term = guarded(guards, mul(*inside, *padded, *brackets))
    remaining = tuple(
        (n, space.size(k, back.get(n, n))) for n in c.bound if n not in values
    )
    sized = rename_bound(space.sized(k, rename_bound(term, back)), names) if _reduces(term) else term
    return Gathered(k, c, names, solution, reduce("sum", remaining, sized))


def _reduces(e: Expr) -> bool:
    return any(isinstance(x, Reduce) for x in walk(e))


def read_at(e: Expr, values: dict[str, Affine], solved: set[str]) -> Expr:
    """e at the solved indices; what may now be out of range is read through pad."""
    if isinstance(e, Index):
        return substitute(e, values)
    if not isinstance(e, Access):
        return rebuild(e, lambda c: read_at(c, values, solved))
    axes = tuple(substitute_axis(a, values) for a in e.axes)
    may_leave = any(
        solved.intersection(old.names) and isinstance(new, Affine)
        for old, new in zip(e.axes, axes, strict=True)
    )
    return Access(e.tensor, axes, ZERO if may_leave and e.pad is None else e.pad)


def is_total(f: Expr) -> bool:
    """Is f a finite number for any finite values of the tensors it reads?"""
    for x in walk(f):
        match x:
            case Call(name, _) if name not in TOTAL:
                return False
            case Pow(_, Const(n)) if n >= 0 and n.denominator == 1:
                pass
            case Pow() | Reduce():
                return False
            case Access(_, _, pad) if pad is not None and pad is not ZERO:
                return False
    return True


def can_substitute(f: Expr, values: dict[str, Affine]) -> bool:
    """Grouped indices take a name, not a formula."""
    return all(
        n not in values or values[n].bare is not None
        for x in walk(f)
        if isinstance(x, Access)
        for a in x.axes
        if isinstance(a, Group)
        for n in a.names
    )
