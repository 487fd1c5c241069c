"""What a differentiation works in: the forward pass, its sizes, and the statements made so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chainrule.derive.tidy import drop_sizes, plain_letters
from chainrule.dims import Dim, atom, from_expr
from chainrule.expr import (
    ONE,
    Access,
    Add,
    Affine,
    Axis,
    Binder,
    Const,
    Expr,
    Group,
    Index,
    Mul,
    Reduce,
    Size,
    bare,
    mul,
    rebuild,
    rename_bound,
    walk,
)
from chainrule.ranges import symbolic, unique
from chainrule.simplify import simplify
from chainrule.system import LeftAxis, Statement, System


class Space:
    """Statements are known by their position k in the forward pass, and always in their `unique`
    form, so an index name means one index within a statement."""

    def __init__(self, forward: System, taken: frozenset[str]) -> None:
        self.forward = forward
        self.ranges = symbolic(forward)
        self.unique = tuple(map(unique, forward.statements))
        self.dims: dict[str, tuple[Dim, ...]] = dict(self.ranges.tensors)
        self.taken = set(taken | forward.names)
        self.made: list[Statement] = []
        self.order = tuple(tuple(_index_names(s)) for s in self.unique)
        self._bodies = {pattern(s.body)[0]: k for k, s in self._named_bodies()}
        self._parts: dict[tuple[int, str, Expr], Access] = {}

    def _named_bodies(self) -> Iterator[tuple[int, Statement]]:
        for k, s in reversed(list(enumerate(self.unique))):  # the first of equals wins
            simple = isinstance(s.body, (Access, Const, Size, Index))
            if not simple and set(s.indices) == set(s.body.free):
                yield k, s

    def know(self, t: str, rank: int) -> None:
        """A tensor that this part of the forward pass does not read has sizes all the same."""
        self.dims.setdefault(t, tuple(atom(Size(t, k)) for k in range(rank)))

    # ------------------------------------------------------------ names

    def fresh(self, name: str) -> str:
        """name, or name_2, name_3, ... where that is taken."""
        n, out = 1, name
        while out in self.taken:
            n += 1
            out = f"{name}_{n}"
        return out

    def name(self, k: int, e: Expr, label: str = "") -> Expr:
        """Part e of statement k by the name that the forward pass has for it.

        Where there is none: e itself or, given a label, a new statement label_target.
        """
        key, here = pattern(e)
        if (found := self._bodies.get(key)) is not None:
            s = self.unique[found]
            to_here = dict(zip(pattern(s.body)[1], here, strict=True))
            there, own = self.ranges.indices[found], self.ranges.indices[k]
            if all(self.ranges.same(there[n], own[to_here[n]]) for n in s.indices):
                axes = (axis_of([to_here[n] for n in a]) for a in left_names(s))
                return Access(s.target, tuple(axes), None)
        return self.part(k, e, label) if label else e

    def part(self, k: int, e: Expr, label: str) -> Access:
        """Part e of statement k as a statement of its own, read at the indices it depends on."""
        if (known := self._parts.get((k, label, e))) is not None:
            return known
        free = [n for n in self.order[k] if n in e.free]
        made = self.table(k, free, e, f"{label}_{self.forward.statements[k].target}")
        self._parts[k, label, e] = made
        return made

    def table(self, k: int, free: Sequence[str], e: Expr, name: str) -> Access:
        """A statement name[free] = e in the index space of statement k."""
        axes = tuple(((n, self.size(k, n)),) for n in free)
        dims = tuple(self.ranges.indices[k][n] for n in free)
        s = self.append(Statement(self.fresh(name), axes, self.sized(k, e)), dims)
        return Access(s.target, tuple(map(bare, free)), None)

    # ------------------------------------------------------------ sizes

    def size(self, k: int, name: str) -> Expr:
        """The size of an index of statement k, as a person would write it."""
        d = self.ranges.canonical(self.ranges.indices[k][name])
        if d.value is not None:
            return d.expr
        u = self.unique[k]
        for binders in (*u.axes, *(e.binders for e in walk(u.body) if isinstance(e, Reduce))):
            for n, size in binders:
                if n == name and size is not None:
                    return size
        for e in walk(u.body):
            if isinstance(e, Access):
                for a, axis in enumerate(e.axes):
                    if isinstance(axis, Affine) and axis.bare == name:
                        return Size(e.tensor, a)
        for a, left in enumerate(u.axes):
            if len(left) == 1 and left[0][0] == name:
                return Size(u.target, a)
        return d.expr

    def sized(self, k: int, e: Expr) -> Expr:
        """e with every reduction of statement k carrying the sizes of its indices."""
        own = self.ranges.indices[k]

        def go(x: Expr) -> Expr:
            if isinstance(x, Reduce):
                binders = tuple(
                    (n, self.size(k, n) if size is None and n in own else size)
                    for n, size in x.binders
                )
                return Reduce(x.op, binders, go(x.body))
            return rebuild(x, go)

        return go(e)

    def count(self, k: int, binders: tuple[Binder, ...]) -> Expr:
        """The number of terms of a reduction in statement k."""
        sizes = tuple((n, self.size(k, n)) for n, _ in binders)
        plain = (Const, Size, Add, Mul)  # // and min stand in sizes only
        if all(isinstance(x, plain) for _, size in sizes for x in walk(size)):
            return mul(*(size for _, size in sizes))
        return self.part(k, Reduce("sum", sizes, ONE), "count")

    # ------------------------------------------------------------ statements

    def append(self, s: Statement, dims: tuple[Dim, ...]) -> Statement:
        """Simplify, drop the sizes that say nothing, and add the statement.

        Raises Problem where a size cannot be said (an index of a group on the left).
        """
        avoid = frozenset(self.taken)
        s = plain_letters(Statement(s.target, s.axes, simplify(s.body)), avoid)
        s = Statement(s.target, s.axes, simplify(s.body))  # equal sums have equal letters now
        s = plain_letters(drop_sizes(s, self.dims, self.ranges.equal), avoid)
        self.dims[s.target] = dims
        self.taken.add(s.target)
        self.made.append(s)
        return s

    def dims_of(self, axes: tuple[LeftAxis, ...]) -> tuple[Dim, ...]:
        """The sizes of axes that are written out, one index each."""

        def size(x: Size) -> Dim:
            return self.dims[x.tensor][x.axis]

        return tuple(from_expr(s, size) for ((_, s),) in axes if s is not None)


def pattern(e: Expr) -> tuple[Expr, tuple[str, ...]]:
    """e with its indices numbered in order of appearance, and the index behind each number."""
    seen: dict[str, None] = {}
    for x in walk(e):
        seen.update(dict.fromkeys(x.free))
        if isinstance(x, Reduce):
            seen.update(dict.fromkeys(x.names))
    return rename_bound(e, {n: f"#{k}" for k, n in enumerate(seen)}), tuple(seen)


def left_names(s: Statement) -> tuple[tuple[str, ...], ...]:
    """Index names of the left side, axis by axis."""
    return tuple(tuple(n for n, _ in axis) for axis in s.axes)


def axis_of(names: Sequence[str]) -> Axis:
    return bare(names[0]) if len(names) == 1 else Group(tuple(names))


def here(s: Statement) -> tuple[Axis, ...]:
    """The axes that read a statement's target at its own indices."""
    return tuple(map(axis_of, left_names(s)))


def _index_names(s: Statement) -> Iterator[str]:
    yield from s.indices
    for e in walk(s.body):
        if isinstance(e, Reduce):
            yield from e.names
