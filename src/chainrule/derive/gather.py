"""A contribution with its Kronecker deltas -> a sum in gather form.

The indices of the statement are kept apart from the free ones by primes; plain_letters() gives
them plain names again when the statement is complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chainrule import dims
from chainrule.derive.adjoint import Contribution, guarded
from chainrule.derive.eliminate import Solution, equations, solve
from chainrule.derive.space import Space
from chainrule.dims import Dim
from chainrule.expr import (
    ONE,
    ZERO,
    Access,
    Affine,
    Axis,
    Call,
    Compare,
    Const,
    Expr,
    Group,
    Index,
    Pow,
    Reduce,
    add,
    const,
    mul,
    rebuild,
    reduce,
    rename_bound,
    split_coefficient,
    substitute,
    substitute_axis,
    terms_of,
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


def gather(space: Space, t: str, k: int, c: Contribution, free: Free) -> Gathered:
    """What statement k sends to t at the free indices."""
    names = apart(space.order[k], free)
    back = {v: n for n, v in names.items()}
    c = c.mapped(lambda e: space.sized(k, e)).renamed(names)
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
    sizes = {names.get(n, n): d for n, d in space.ranges.indices[k].items() if n not in values}
    for a, axis_names in enumerate(free):
        if len(axis_names) == 1:
            sizes[axis_names[0]] = space.dims[t][a]

    def inside(tensor: str, a: int, axis: Axis) -> bool:
        return _inside(space, tensor, a, axis, sizes)

    def read(e: Expr) -> Expr:
        return read_at(e, values, solved, inside)

    def can_read(e: Expr) -> bool:
        return can_substitute(e, values) and not _misread(space, e, values, sizes)

    def own_name(e: Expr) -> Expr:
        return rename_bound(space.part(k, rename_bound(e, back), "part"), names)

    plain: list[Expr] = []  # these three in this order, as a person would write the product
    padded: list[Expr] = []
    brackets: list[Expr] = list(solution.brackets)
    for f in c.factors:
        if solved.intersection(f.free) and not (is_total(f) and can_read(f)):
            f = own_name(f)
        new = read(f)
        if isinstance(new, Compare) and solved.intersection(f.free):
            brackets.append(new)
        elif isinstance(new, Access) and new.pad is not None and new is not f:
            padded.append(new)
        else:
            plain.append(new)
    for n in inner:
        if n in solved and n not in covered:
            ones = space.table(k, (back.get(n, n),), ONE, f"one_{n.rstrip(chr(39))}")
            padded.append(read(rename_bound(ones, names)))
    guards = tuple(read(g if can_read(g) else own_name(g)) for g in c.guards)
    term = guarded(guards, mul(*plain, *padded, *brackets))
    remaining = tuple((n, space.size(k, back.get(n, n))) for n in c.bound if n not in values)
    return Gathered(k, c, names, solution, reduce("sum", remaining, term))


def read_at(
    e: Expr,
    values: dict[str, Affine],
    solved: set[str],
    inside: Callable[[str, int, Axis], bool],
) -> Expr:
    """e at the solved indices; what may now be out of range is read through pad."""
    if isinstance(e, Index):
        return substitute(e, values)
    if not isinstance(e, Access):
        new = rebuild(e, lambda c: read_at(c, values, solved, inside))
        return without_fractions(new) if isinstance(new, Compare) else new
    axes = tuple(substitute_axis(a, values) for a in e.axes)
    may_leave = any(
        solved.intersection(old.names) and not inside(e.tensor, k, new)
        for k, (old, new) in enumerate(zip(e.axes, axes, strict=True))
    )
    return Access(e.tensor, axes, ZERO if may_leave and e.pad is None else e.pad)


def without_fractions(e: Compare) -> Compare:
    """(1/3*p + 2/3 == m) -> (p + 2 == 3*m): a bracket must not hang on how 1/3 is rounded."""
    terms = (*terms_of(e.left), *terms_of(e.right))
    plain = [t for t in terms if not any(isinstance(x, Access) for x in walk(t))]
    d = math.lcm(*(split_coefficient(t)[0].denominator for t in plain))
    if d == 1:
        return e
    left, right = (add(*(mul(const(d), t) for t in terms_of(x))) for x in (e.left, e.right))
    return Compare(e.op, left, right)


def _inside(space: Space, tensor: str, a: int, axis: Axis, sizes: Mapping[str, Dim]) -> bool:
    """Is it certain, from the sizes alone, that the axis never leaves the tensor?"""
    if isinstance(axis, Group):
        return True
    if not axis.whole or any(n not in sizes for n in axis.names):
        return False
    low, high = dims.reach(axis, sizes)
    beyond = space.ranges.canonical(high - space.dims[tensor][a] + 1).value
    return low.value is not None and low.value >= 0 and beyond is not None and beyond <= 0


def _misread(space: Space, e: Expr, values: dict[str, Affine], sizes: Mapping[str, Dim]) -> bool:
    """Would an index come to stand alone on an axis that is not its own, as p in j[p,p]?"""
    for x in walk(e):
        if not isinstance(x, Access):
            continue
        for a, axis in enumerate(x.axes):
            if isinstance(axis, Group) or not any(n in values for n in axis.names):
                continue
            new = substitute_axis(axis, values)
            name = new.bare if isinstance(new, Affine) else None
            own = space.dims[x.tensor][a]
            if name is not None and name in sizes and not space.ranges.same(sizes[name], own):
                return True
    return False


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
