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

from chainrule import range_errors as say
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
    place = {s: k for k, s in enumerate(system.statements)}
    try:
        for s in system.order:
            k = place[s]
            work = _StatementRanges(k, s, tensors, equal, concrete=known is not None)
            indices[k] = work.solve()
            shape = work.target_shape()
            if s.target in tensors:
                work.check_update(tensors[s.target], shape)
            else:
                tensors[s.target] = shape
                _match_cotangent(system, s.target, tensors, equal)
    except Problem as p:
        shown = {t: tuple(_int(d) for d in dims) for t, dims in tensors.items()} if known else None
        raise located(p, system, shown) from None
    return Ranges(tensors, tuple(indices), equal)


def _match_cotangent(
    system: System,
    t: str,
    tensors: Mapping[str, tuple[Dim, ...]],
    equal: dict[Size, Dim],
) -> None:
    """A cotangent that is given, δt, has the shape of the tensor t that is computed."""
    given = tensors.get(f"δ{t}") if f"δ{t}" in system.inputs else None
    if given is None:
        return
    reads = [
        (k, e)
        for k, s in enumerate(system.statements)
        for e in walk(s.body)
        if isinstance(e, Access) and e.tensor == f"δ{t}"
    ]
    if not reads:
        return
    have, needed = [d.value for d in given], [d.value for d in tensors[t]]
    if len(have) != len(needed) or (None not in [*have, *needed] and have != needed):
        message, hint = say.cotangent_of_another_shape(t, have, needed)
        raise Problem(message, *reads[0], hint)
    for a, b in zip(given, tensors[t], strict=True):
        _unify(_canonical(a, equal), _canonical(b, equal), equal)


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
        self.apart: str | None = None  # an index that no group may size
        self.sizes: dict[str, Dim] = {}
        self.why: dict[str, str] = {}
        self.shown = {
            u: o for o, u in zip(walk(s.body), walk(self.s.body), strict=True) if u is not o
        }

    # ------------------------------------------------------------ facts

    def solve(self) -> dict[str, Dim]:
        for name, size in self.binders():
            if size is not None:
                self.fix(name, self.explicit(name, size), "the size it was given", self.s)
        self.check_ranks()
        for e, k, axis in self.axes():
            alone = axis.bare if isinstance(axis, Affine) else None
            if alone is not None:
                self.fix(alone, self.size_of(e, k), say.axis_name(e, k), e)
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

    def size_of(self, e: Access | Grad, axis: int) -> Dim:
        return self.tensors[_tensor(e)][axis]

    def explicit(self, name: str, size: Expr) -> Dim:
        def size_atom(x: Size) -> Dim:
            dims = self.tensors.get(x.tensor)
            if dims is None:  # a tensor of which only sizes are asked, and none is known
                return atom(x)
            if x.axis >= len(dims):
                raise self.problem(x, say.no_such_axis(x.tensor, x.axis, len(dims)))
            return dims[x.axis]

        try:
            d = from_expr(size, size_atom)
        except ZeroDivisionError:
            raise self.problem(size, say.divides_by_zero(name)) from None
        if d.value is not None and d.value < 0:
            raise self.problem(size, say.negative(name, d.value))
        return d

    def check_ranks(self) -> None:
        """Given arrays may have another number of axes than the text reads."""
        for e in walk(self.s.body):
            if isinstance(e, Size):
                self.explicit("", e)
            if not isinstance(e, (Access, Grad)):
                continue
            have = len(self.tensors[_tensor(e)])
            if have != len(e.axes):
                raise self.problem(e, say.other_rank(_tensor(e), len(e.axes), have))

    def fix(self, name: str, size: Dim, why: str, node: Node) -> None:
        size = _canonical(size, self.equal)
        if name not in self.sizes:
            self.sizes[name], self.why[name] = size, why
            return
        old = _canonical(self.sizes[name], self.equal)
        if old == size:
            return
        if old.value is not None and size.value is not None:
            raise self.problem(node, say.conflict(name, old, self.why[name], size, why))
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
            n = self.size_of(e, k)
            unknown = [m for m in axis.names if m not in self.sizes]
            if len(unknown) != 1 or axis.names.count(unknown[0]) != 1 or unknown[0] == self.apart:
                continue
            rest = self.product(m for m in axis.names if m not in unknown)
            if rest.value == 0 and n.value == 0:
                continue  # an empty group says nothing of its other sizes
            if n.value is not None and rest.value is not None:
                if rest.value == 0 or n.value % rest.value:
                    where = say.axis_name(e, k)
                    raise self.problem(e, say.group_leaves_rest(axis, where, n, rest))
            self.sizes[unknown[0]] = _canonical(n // rest, self.equal)
            self.why[unknown[0]] = f"{say.axis_name(e, k)} divided by {rest.expr}"
            progress = True
        return progress

    def limit(self, name: str) -> Dim | None:
        """The largest range for which no access leaves; None while another index is open."""
        limits = []
        for e, k, axis in self.axes():
            if not self.bounds(e, axis) or name not in axis.names:
                continue
            assert isinstance(axis, Affine)
            if any(m not in self.sizes for m in axis.names if m != name):
                return None
            n = self.size_of(e, k)
            c = int(dict(axis.terms)[name])
            low, high = self.reach(axis, but=name)
            d = (n - 1 - high) // c + 1 if c > 0 else low // -c + 1
            if d.value is not None and d.value < 1:
                if n.value == 0 or any(self.sizes[m].value == 0 for m in axis.names if m != name):
                    d = number(0)
                else:
                    raise self.leaves(e, k, axis, high if c > 0 else low, first=name)
            limits.append(d)
        return _canonical(least(limits), self.equal) if limits else None

    def bounds(self, e: Access | Grad, axis: Axis) -> bool:
        """Does this axis hold its indices back?  Not behind pad, and a group spans its axis."""
        padded = isinstance(e, Access) and e.pad is not None
        return isinstance(axis, Affine) and not padded and axis.bare is None

    def reach(self, axis: Affine, but: str | None = None) -> tuple[Dim, Dim]:
        return reach(axis, self.sizes, but)

    def undetermined(self, name: str) -> Problem:
        def form(size: str) -> str:
            return say.bound_form(self.s, name, binder.op if binder else "", size)

        binder = next(
            (r for r in walk(self.s.body) if isinstance(r, Reduce) and name in r.names), None
        )
        for e, _, axis in self.axes():
            if self.bounds(e, axis) and name in axis.names:
                assert isinstance(axis, Affine)
                names = [name, *(m for m in axis.names if m not in self.sizes and m != name)]
                return self.problem(e, say.depend_on_each_other(names, axis, form("3")))
        for e, k, axis in self.axes():
            if name in axis.names and isinstance(axis, Group):
                return self.problem(e, say.open_in_group(name, axis, form("2")))
            if name in axis.names:
                return self.problem(e, say.open_behind_pad(name, form(f"size({_tensor(e)},{k})")))
        return self.problem(binder or self.s, say.open_everywhere(name, form("28")))

    # ------------------------------------------------------------ checks

    def check_inside(self) -> None:
        for e, k, axis in self.axes():
            n = self.size_of(e, k)
            if isinstance(axis, Group):
                have = self.product(iter(axis.names))
                if have.value is not None and n.value is not None and have != n:
                    where = say.axis_name(e, k)
                    raise self.problem(e, say.group_of_another_size(axis, where, n, have))
                if not self.concrete:
                    _unify(_canonical(have, self.equal), _canonical(n, self.equal), self.equal)
            elif isinstance(e, Grad) or e.pad is None:
                if axis.bare is not None and self.sizes[axis.bare] == n:
                    continue  # as is nearly every one
                if any(self.sizes[m].value == 0 for m in axis.names):
                    continue
                low, high = self.reach(axis)
                if low.value is not None and low.value < 0:
                    raise self.leaves(e, k, axis, low)
                if (high - n).value is not None and (high - n + 1).value > 0:  # type: ignore[operator]
                    raise self.leaves(e, k, axis, high)

    def leaves(
        self, e: Access | Grad, k: int, axis: Affine, position: Dim, first: str | None = None
    ) -> Problem:
        n, shown = self.size_of(e, k), self.shown.get(e, e)
        words = say.leaves(shown, _tensor(e), k, axis, n, position, self.sizes, first)
        return self.problem(e, words)

    def target_shape(self) -> tuple[Dim, ...]:
        return tuple(self.product(n for n, _ in axis) for axis in self.s.axes)

    def check_update(self, old: tuple[Dim, ...], new: tuple[Dim, ...]) -> None:
        for k, (a, b) in enumerate(zip(old, new, strict=True)):
            if a.value is not None and b.value is not None and a != b:
                raise self.problem(self.s, say.update_of_another_shape(self.s.target, k, a, b))
            _unify(_canonical(a, self.equal), _canonical(b, self.equal), self.equal)

    def product(self, names: Iterator[str]) -> Dim:
        total = number(1)
        for n in names:
            total = total * self.sizes[n]
        return _canonical(total, self.equal)

    def problem(self, node: Node, words: say.Words) -> Problem:
        message, hint = words
        node = self.given if node is self.s else self.shown.get(node, node)  # type: ignore[call-overload]
        return Problem(message, self.k, node, hint)


def _canonical(d: Dim, equal: Mapping[Size, Dim]) -> Dim:
    while not d.sizes.isdisjoint(equal):
        new = d.map(lambda a: equal.get(a, atom(a)))
        if new == d:
            return d
        d = new
    return d


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


def _tensor(e: Access | Grad) -> str:
    return e.tensor if isinstance(e, Access) else e.wrt


def statement_sizes(
    s: Statement,
    tensors: Mapping[str, tuple[Dim, ...]],
    equal: Mapping[Size, Dim],
    apart: str | None = None,
) -> dict[str, Dim]:
    """The sizes of one statement's indices, given those of the tensors; may raise Problem.

    apart   an index that must get its size without a group: a group of 0 elements gives none
    """
    known = dict(equal)
    work = _StatementRanges(0, s, tensors, known, concrete=False)
    work.apart = apart
    sizes = work.solve()
    return {n: _canonical(d, known) for n, d in sizes.items()}
