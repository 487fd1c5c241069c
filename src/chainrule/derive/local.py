"""∂x[i,j]/∂w[m',n'] between two tensors of a program -> a formula, from the statement of x.

The body of x is differentiated as it stands; where w was read at other indices than those asked
for, a Kronecker delta, an Iverson bracket here, says that nothing comes from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from chainrule.derive.adjoint import Adjoint, as_sum
from chainrule.derive.space import Space, left_names
from chainrule.derive.tidy import fresh_letter
from chainrule.errors import FormulaError
from chainrule.expr import (
    ONE,
    Access,
    Affine,
    Axis,
    Compare,
    Expr,
    Group,
    Index,
    Partial,
    Reduce,
    Size,
    add,
    bare,
    mul,
    number,
    rebuild,
    rename_bound,
    substitute,
    walk,
)
from chainrule.system import LeftAxis, Statement, System


def written_out(system: System, s: Statement) -> Statement:
    """s with every ∂x/∂w in it written out."""
    taken = {n for e in walk(s.body) for n in e.free} | set(s.indices)
    taken |= {*system.inputs, *system.outputs}
    taken |= {n for e in walk(s.body) if isinstance(e, Reduce) for n in e.names}

    def go(e: Expr) -> Expr:
        if isinstance(e, Partial) and isinstance(e.body, Access):
            return local_derivative(system, e.body, e.wrt, taken)
        return rebuild(e, go)

    body = go(s.body)
    if body is s.body:
        return s
    return Statement(s.target, tuple(_sized(system, s, body)), body)


def _sized(system: System, s: Statement, body: Expr) -> Iterator[LeftAxis]:
    """The left side, with the sizes of the tensor that it is a cotangent of.

    An index that only a ∂x/∂w read alone stands in brackets now, and those fix no range.
    """
    alone = {
        a.bare for e in walk(body) if isinstance(e, Access) for a in e.axes if isinstance(a, Affine)
    }
    for k, axis in enumerate(s.axes):
        name, size = axis[0]
        known = s.target.startswith("δ") and s.target[1:] in system.ranks
        if len(axis) == 1 and size is None and known and name not in alone:
            axis = ((name, Size(s.target[1:], k)),)
        yield axis


def local_derivative(system: System, x: Access, w: Access, taken: set[str]) -> Expr:
    """∂x/∂w; `taken` are names that its sums must not bind, and get those that they do."""
    what = f"∂{x}/∂{w}"
    forward = System(tuple(s for s in system.statements if not s.is_update))
    if x.tensor not in forward.by_target:
        raise FormulaError(f"{what}: this program does not compute {x.tensor}")
    k = forward.outputs.index(x.tensor)
    space = Space(forward, frozenset(taken))
    u = space.unique[k]
    sizes = {n: space.size(k, n) for n in space.order[k]}
    adjoint = Adjoint(
        frozenset({w.tensor}),
        lambda e, _: e,
        lambda binders: mul(*(sizes[n] for n, _ in binders)),
        lambda n: sizes[n],
    )
    if len(x.axes) != len(u.axes):
        raise FormulaError(f"{what}: {x.tensor} has {len(u.axes)} indices")
    # the statement's own indices get names that no text has, until they are replaced at the end
    own = {n: f"{n}°" for n in u.indices}
    parts: list[Expr] = []
    for c in adjoint.contributions(u.body, ONE, ()):
        if len(c.access.axes) != len(w.axes):
            raise FormulaError(f"{what}: {w.tensor} has {len(c.access.axes)} indices")
        fresh = {n: _letter(n, taken) for n in c.bound}
        c = c.renamed(own | {n: f"{n}°" for n in c.bound})
        renamed = c.mapped(lambda e: _apart(e, taken)).renamed(
            {f"{n}°": f for n, f in fresh.items()}
        )
        kronecker = mul(*chain.from_iterable(map(_kronecker, renamed.access.axes, w.axes)))
        term = as_sum(renamed, kronecker)
        if isinstance(term, Reduce) and renamed.bound:  # w, which gave them their range, is gone
            known = {f: sizes[n] for n, f in fresh.items()}
            term = Reduce(term.op, tuple((n, known[n]) for n in term.names), term.body)
        parts.append(term)
    if not parts:
        raise FormulaError(
            f"{what}: the statement of {x.tensor} does not read {w.tensor}",
            hint="a local derivative is of a tensor by one that its own formula reads",
        )
    return substitute(add(*parts), {own[n]: a for n, a in _places(u, x, what).items()})


def _letter(name: str, taken: set[str]) -> str:
    """The name itself, or another letter, taken from now on."""
    plain = name.rstrip("'°")
    fresh = plain if plain not in taken else fresh_letter(taken)
    taken.add(fresh)
    return fresh


def _apart(e: Expr, taken: set[str]) -> Expr:
    """e with letters of its own for every reduction inside."""
    inner = rebuild(e, lambda x: _apart(x, taken))
    if not isinstance(inner, Reduce):
        return inner
    return rename_bound(inner, {n: _letter(n, taken) for n in inner.names})


def _kronecker(a: Axis, b: Axis) -> Iterator[Expr]:
    """a == b, as brackets; none where the two are the same."""
    if isinstance(a, Affine) and isinstance(b, Affine):
        if a is not b:
            yield Compare("==", number(a), number(b))
    elif isinstance(a, Group) and isinstance(b, Group) and len(a.names) == len(b.names):
        yield from (
            Compare("==", Index(m), Index(n)) for m, n in zip(a.names, b.names, strict=True)
        )
    else:
        raise FormulaError("a grouped axis is asked for by an index of another kind")


def _places(u: Statement, x: Access, what: str) -> dict[str, Affine]:
    """Where the statement's own indices stand in what was asked."""
    out: dict[str, Affine] = {}
    for names, axis in zip(left_names(u), x.axes, strict=True):
        if len(names) == 1 and isinstance(axis, Affine):
            out[names[0]] = axis
        elif isinstance(axis, Group) and len(axis.names) == len(names):
            out |= {n: bare(i) for n, i in zip(names, axis.names, strict=True)}
        else:
            raise FormulaError(f"{what}: write the indices as the statement of {x.tensor} does")
    return out
