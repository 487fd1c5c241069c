"""Shapes -> index ranges, by the rules of the language.  Every shape error is born here.

An index that stands alone on an axis runs over that axis; a size given where the index is bound
says it outright; a group (i,j) spans its axis; any other index runs over the largest range for
which no access leaves its tensor.  The same walk serves numbers (all sizes known: every rule is
checked) and symbols (no sizes known: sizes come out as formulas, what cannot be decided passes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

from chainrule.dims import Dim, atom, from_expr, least, number, reach
from chainrule.expr import (
    Access,
    Affine,
    Axis,
    Expr,
    Grad,
    Group,
    Node,
    Reduce,
    Size,
    rebuild,
    rename_bound,
    walk,
)
from chainrule.notation import located
from chainrule.notation.show import show_axis
from chainrule.system import Problem, Statement, System

Shape: TypeAlias = "tuple[int, ...]"


@lru_cache(maxsize=4096)
def unique(s: Statement) -> Statement:
    """The statement with every index name bound once: a second `l` becomes l'."""
    taken = set(s.indices)

    def go(e: Expr) -> Expr:
        if isinstance(e, Reduce):
            names: dict[str, str] = {}
            for name in e.names:
                fresh = name
                while fresh in taken:
                    fresh += "'"
                taken.add(fresh)
                if fresh != name:
                    names[name] = fresh
            e = Reduce(
                e.op,
                tuple((names.get(n, n), size) for n, size in e.binders),
                rename_bound(e.body, names) if names else e.body,
            )
        return rebuild(e, go)

    return Statement(s.target, s.axes, go(s.body))


@dataclass(frozen=True)
class Ranges:
    """What is known of a System's sizes.

    tensors   the sizes of each tensor's axes
    indices   for each statement, the size of each index of unique(statement)
    equal     sizes of given tensors that the program forces to be equal to others
    """

    tensors: dict[str, tuple[Dim, ...]]
    indices: tuple[dict[str, Dim], ...]
    equal: dict[Size, Dim]

    def same(self, a: Dim, b: Dim) -> bool:
        return self.canonical(a) == self.canonical(b)

    def canonical(self, d: Dim) -> Dim:
        return _canonical(d, self.equal)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Plain integers, where all sizes are known."""
        return {t: tuple(_int(d) for d in dims) for t, dims in self.tensors.items()}

    @cached_property
    def extents(self) -> tuple[dict[str, int], ...]:
        return tuple({n: _int(d) for n, d in sizes.items()} for sizes in self.indices)


def symbolic(system: System) -> Ranges:
    """Sizes as formulas in the sizes of the inputs; raises FormulaError for what can never fit."""
    return _analyse(system, None)


def numeric(system: System, shapes: Mapping[str, Shape]) -> Ranges:
    """Sizes as numbers.  Raises FormulaError with the line, a caret, the shapes and a mend."""
    return _analyse(system, tuple(sorted((t, tuple(s)) for t, s in shapes.items())))


@lru_cache(maxsize=512)
def _analyse(system: System, shapes: tuple[tuple[str, Shape], ...] | None) -> Ranges:
    known = None if shapes is None else dict(shapes)
    tensors: dict[str, tuple[Dim, ...]] = {}
    equal: dict[Size, Dim] = {}
    for t in system.inputs:
        if known is None:
            rank = system.ranks.get(t)
            if rank is not None:
                tensors[t] = tuple(atom(Size(t, k)) for k in range(rank))
        else:
            tensors[t] = tuple(map(number, known[t]))
    indices: list[dict[str, Dim]] = [{} for _ in system.statements]
    try:
        for s in system.order:
            k = system.statements.index(s)
            work = _StatementRanges(k, s, tensors, equal, concrete=known is not None)
            indices[k] = work.solve()
            shape = work.target_shape()
            if s.target in tensors:
                work.check_update(tensors[s.target], shape)
            else:
                tensors[s.target] = shape
    except Problem as p:
        shown = {t: tuple(_int(d) for d in dims) for t, dims in tensors.items()} if known else None
        raise located(p, system, shown) from None
    return Ranges(tensors, tuple(indices), equal)


class _StatementRanges:
    """The sizes of one statement's indices: facts first, then what they leave open."""

    def __init__(
        self,
        k: int,
        s: Statement,
        tensors: Mapping[str, tuple[Dim, ...]],
        equal: dict[Size, Dim],
        *,
        concrete: bool,
    ) -> None:
        self.k, self.given, self.s = k, s, unique(s)
        self.tensors, self.equal, self.concrete = tensors, equal, concrete
        self.sizes: dict[str, Dim] = {}
        self.why: dict[str, str] = {}
        self.shown = {
            u: o for o, u in zip(walk(s.body), walk(self.s.body), strict=True) if u is not o
        }

    # ------------------------------------------------------------ facts

    def solve(self) -> dict[str, Dim]:
        for name, size in self.binders():
            if size is not None:
                self.fix(name, self.explicit(name, size), "it was given", self.s)
        self.check_ranks()
        for e, k, axis in self.axes():
            name = axis.bare if isinstance(axis, Affine) else None
            if name is not None:
                tensor, n = self.size_of(e, k)
                self.fix(name, n, f"axis {k} of {tensor}", e)
        self.solve_open()
        self.check_inside()
        return self.sizes

    def binders(self) -> Iterator[tuple[str, Expr | None]]:
        for axis in self.s.axes:
            yield from axis
        for e in walk(self.s.body):
            if isinstance(e, Reduce):
                yield from e.binders

    def axes(self) -> Iterator[tuple[Access | Grad, int, Axis]]:
        for e in walk(self.s.body):
            if isinstance(e, (Access, Grad)):
                for k, axis in enumerate(e.axes):
                    yield e, k, axis

    def size_of(self, e: Access | Grad, axis: int) -> tuple[str, Dim]:
        tensor = e.tensor if isinstance(e, Access) else e.wrt
        return tensor, self.tensors[tensor][axis]

    def explicit(self, name: str, size: Expr) -> Dim:
        def size_atom(x: Size) -> Dim:
            dims = self.tensors.get(x.tensor)
            if dims is None:  # a tensor of which only sizes are asked, and none is known
                return atom(x)
            if x.axis >= len(dims):
                raise self.problem(
                    f"size({x.tensor},{x.axis}): {x.tensor} has {_axes_count(len(dims))}",
                    x,
                    "axes are counted from 0",
                )
            return dims[x.axis]

        try:
            d = from_expr(size, size_atom)
        except ZeroDivisionError:
            raise self.problem(f"the size of index {name} divides by zero", self.s) from None
        if d.value is not None and d.value < 0:
            raise self.problem(f"the size of index {name} comes out as {d.value}", self.s)
        return d

    def check_ranks(self) -> None:
        """Given arrays may have another number of axes than the text reads."""
        for e in walk(self.s.body):
            if not isinstance(e, (Access, Grad)):
                continue
            tensor = e.tensor if isinstance(e, Access) else e.wrt
            have = len(self.tensors[tensor])
            if have != len(e.axes):
                raise self.problem(
                    f"{tensor} is read with {_indices_count(len(e.axes))}, "
                    f"but the {tensor} given has {_axes_count(have)}",
                    e,
                    f"give {tensor} with {_axes_count(len(e.axes))}, or write "
                    f"{_indices_count(have)}",
                )
            for x in walk(e):
                if isinstance(x, Size):
                    self.explicit("", x)

    def fix(self, name: str, size: Dim, why: str, node: Node) -> None:
        size = _canonical(size, self.equal)
        if name not in self.sizes:
            self.sizes[name], self.why[name] = size, why
            return
        old = _canonical(self.sizes[name], self.equal)
        if old == size:
            return
        if old.value is not None and size.value is not None:
            raise self.problem(
                f"index {name} runs over {old.value} values ({self.why[name]}) "
                f"and over {size.value} ({why})",
                node,
                "make the two sizes agree, or use two index names",
            )
        _unify(old, size, self.equal)

    # ------------------------------------------------------------ what the facts leave open

    def solve_open(self) -> None:
        names = [n for n, _ in self.binders()]
        while True:
            progress = self.solve_groups()
            for name in names:
                if name not in self.sizes and (limit := self.limit(name)) is not None:
                    self.sizes[name] = limit
                    self.why[name] = "the largest range that stays inside"
                    progress = True
            if not progress:
                break
        for name in names:
            if name not in self.sizes:
                raise self.undetermined(name)

    def solve_groups(self) -> bool:
        progress = False
        for e, k, axis in self.axes():
            if not isinstance(axis, Group):
                continue
            tensor, n = self.size_of(e, k)
            unknown = [m for m in axis.names if m not in self.sizes]
            if len(unknown) != 1 or axis.names.count(unknown[0]) != 1:
                continue
            rest = self.product(m for m in axis.names if m not in unknown)
            if n.value is not None and rest.value is not None:
                if rest.value == 0 or n.value % rest.value:
                    raise self.group_problem(e, k, axis, tensor, n, rest)
            self.sizes[unknown[0]] = _canonical(n // rest, self.equal)
            self.why[unknown[0]] = f"axis {k} of {tensor} divided by {rest.expr}"
            progress = True
        return progress

    def group_problem(
        self, e: Node, k: int, axis: Group, tensor: str, n: Dim, rest: Dim
    ) -> Problem:
        return self.problem(
            f"the group {show_axis(axis)} cannot fill axis {k} of {tensor}, "
            f"which has {n.value} elements: its other indices make {rest.value}",
            e,
            "the sizes of a group multiply to the size of its axis",
        )

    def limit(self, name: str) -> Dim | None:
        """The largest range for which no access leaves; None while another index is open."""
        limits = []
        for e, k, axis in self.axes():
            if not self.bounds(e, axis) or name not in axis.names:
                continue
            assert isinstance(axis, Affine)
            if any(m not in self.sizes for m in axis.names if m != name):
                return None
            tensor, n = self.size_of(e, k)
            c = int(dict(axis.terms)[name])
            low, high = self.reach(axis, but=name)
            d = (n - 1 - high) // c + 1 if c > 0 else low // -c + 1
            if d.value is not None and d.value < 1:
                if n.value == 0 or any(self.sizes[m].value == 0 for m in axis.names if m != name):
                    d = number(0)
                else:
                    raise self.leaves(e, k, axis, tensor, n, "even at its first value")
            limits.append(d)
        return _canonical(least(limits), self.equal) if limits else None

    def bounds(self, e: Access | Grad, axis: Axis) -> bool:
        """Does this axis hold its indices back?  Not behind pad, and a group spans its axis."""
        padded = isinstance(e, Access) and e.pad is not None
        return isinstance(axis, Affine) and not padded and axis.bare is None

    def reach(self, axis: Affine, but: str | None = None) -> tuple[Dim, Dim]:
        return reach(axis, self.sizes, but)

    def undetermined(self, name: str) -> Problem:
        plain = name.rstrip("'")
        for e, _, axis in self.axes():
            if self.bounds(e, axis) and name in axis.names:
                others = [m.rstrip("'") for m in axis.names if m not in self.sizes and m != name]
                return self.problem(
                    f"the ranges of {' and '.join([plain, *others])} depend on each other in "
                    f"{show_axis(axis)}",
                    e,
                    f"give one its size where it is bound, as in  {plain}:3",
                )
        for e, _, axis in self.axes():
            if name in axis.names:
                return self.problem(
                    f"nothing fixes the range of index {plain}: behind pad, or in a group, "
                    "it could run on",
                    e,
                    f"give it a size where it is bound, as in  {plain}:size(t, 0)",
                )
        return self.problem(
            f"nothing fixes the range of index {plain}",
            next((r for r in walk(self.s.body) if isinstance(r, Reduce) and name in r.names), self.s),
            f"give it a size where it is bound, as in  {plain}:28",
        )

    # ------------------------------------------------------------ checks

    def check_inside(self) -> None:
        for e, k, axis in self.axes():
            tensor, n = self.size_of(e, k)
            if isinstance(axis, Group):
                have = self.product(iter(axis.names))
                if have.value is not None and n.value is not None and have != n:
                    raise self.problem(
                        f"the group {show_axis(axis)} makes {have.value} values, "
                        f"but axis {k} of {tensor} has {n.value} elements",
                        e,
                        "the sizes of a group multiply to the size of its axis",
                    )
                if not self.concrete:
                    _unify(_canonical(have, self.equal), _canonical(n, self.equal), self.equal)
            elif isinstance(e, Grad) or e.pad is None:
                if any(self.sizes[m].value == 0 for m in axis.names):
                    continue
                low, high = self.reach(axis)
                if low.value is not None and low.value < 0:
                    raise self.leaves(e, k, axis, tensor, n, f"it reaches {low.value}")
                if (high - n).value is not None and (high - n + 1).value > 0:  # type: ignore[operator]
                    raise self.leaves(e, k, axis, tensor, n, f"it reaches {high.expr}")

    def leaves(
        self, e: Access | Grad, k: int, axis: Affine, tensor: str, n: Dim, how: str
    ) -> Problem:
        elements = "1 element" if n.value == 1 else f"{n.expr} elements"
        return self.problem(
            f"index {show_axis(axis).replace(chr(39), '')} leaves {tensor}, whose axis {k} has "
            f"{elements}: {how}",
            e,
            f"read {tensor} through pad, as in  pad({tensor})[...], or make the ranges smaller",
        )

    def target_shape(self) -> tuple[Dim, ...]:
        return tuple(self.product(n for n, _ in axis) for axis in self.s.axes)

    def check_update(self, old: tuple[Dim, ...], new: tuple[Dim, ...]) -> None:
        for k, (a, b) in enumerate(zip(old, new, strict=True)):
            if a.value is not None and b.value is not None and a != b:
                raise self.problem(
                    f"the update of {self.s.target} makes {b.value} elements on axis {k}, "
                    f"but {self.s.target} has {a.value}",
                    self.s,
                    "an update keeps the shape of the tensor it updates",
                )
            _unify(_canonical(a, self.equal), _canonical(b, self.equal), self.equal)

    def product(self, names: Iterator[str]) -> Dim:
        total = number(1)
        for n in names:
            total = total * self.sizes[n]
        return _canonical(total, self.equal)

    def problem(self, message: str, node: Node, hint: str = "") -> Problem:
        node = self.given if node is self.s else self.shown.get(node, node)  # type: ignore[call-overload]
        return Problem(message, self.k, node, hint)


def _canonical(d: Dim, equal: Mapping[Size, Dim]) -> Dim:
    while True:
        new = d.map(lambda a: equal.get(a, atom(a))) if equal and d.value is None else d
        if new == d:
            return d
        d = new


def _unify(a: Dim, b: Dim, equal: dict[Size, Dim]) -> None:
    """Note that two sizes are equal, where one of them is the free size of a given tensor."""
    if a == b:
        return
    for x, y in ((b, a), (a, b)):
        match x.terms:
            case (((Size() as size,), 1),) if not y.contains(size):
                equal[size] = y
                return


def _int(d: Dim) -> int:
    assert d.value is not None
    return d.value


def _axes_count(n: int) -> str:
    return {0: "no axes", 1: "1 axis"}.get(n, f"{n} axes")


def _indices_count(n: int) -> str:
    return {0: "no index", 1: "1 index"}.get(n, f"{n} indices")


def statement_sizes(
    s: Statement, tensors: Mapping[str, tuple[Dim, ...]], equal: Mapping[Size, Dim]
) -> dict[str, Dim]:
    """The sizes of one statement's indices, given those of the tensors; may raise Problem."""
    known = dict(equal)
    sizes = _StatementRanges(0, s, tensors, known, concrete=False).solve()
    return {n: _canonical(d, known) for n, d in sizes.items()}
