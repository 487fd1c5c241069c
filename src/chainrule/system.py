"""A system of formulas: statements, what they read and assign, and the order they run in.

    Statement = target[axes] = body         axes: one tuple of binders an axis, several = a group
    System    = Statement...                single assignment; updates return a given tensor anew

This is the plain value that every pass takes and returns.  `chainrule.Program` is a System with
the library's methods on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeAlias

from chainrule.expr import (
    Access,
    Add,
    Binder,
    Compare,
    Const,
    Expr,
    Grad,
    Index,
    Mul,
    Node,
    Size,
    tensors,
    walk,
)

LeftAxis: TypeAlias = "tuple[Binder, ...]"


class Span(NamedTuple):
    """Where a node stands in the text: 1-based line and column, and its width on that line."""

    line: int
    column: int
    width: int


@dataclass(frozen=True)
class Source:
    """The text a System was read from, and where each node stands in it."""

    lines: tuple[str, ...]
    spans: dict[tuple[int, Node], Span]


@dataclass(frozen=True, eq=False)
class Statement(Node):
    """target[axes] = body.  Immutable and interned, as expressions are."""

    target: str
    axes: tuple[LeftAxis, ...]
    body: Expr

    @property
    def indices(self) -> tuple[str, ...]:
        return tuple(name for axis in self.axes for name, _ in axis)

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Tensors whose values the body needs, in order of first use."""
        seen: dict[str, None] = {}
        for e in walk(self.body):
            if isinstance(e, Access):
                seen[e.tensor] = None
            elif isinstance(e, Grad):
                seen[e.of] = seen[e.wrt] = None
        return tuple(seen)

    @cached_property
    def mentions(self) -> tuple[str, ...]:
        """`reads`, and the tensors of which only a size is asked."""
        seen = dict.fromkeys(self.reads)
        for e in walk(self.body):
            if isinstance(e, Size):
                seen[e.tensor] = None
        for axis in self.axes:
            for _, size in axis:
                if size is not None:
                    seen.update(dict.fromkeys(e.tensor for e in walk(size) if isinstance(e, Size)))
        return tuple(seen)

    @property
    def is_update(self) -> bool:
        """An update reads the old value of the tensor that it assigns."""
        return self.target in tensors(self.body)


class Problem(Exception):
    """A mistake found in a System, before it is known where in the text that is."""

    def __init__(self, message: str, where: int, node: Node | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.where, self.node, self.hint = message, where, node, hint


@dataclass(frozen=True)
class System:
    """Statements in the order they were written; raises Problem where they do not fit together."""

    statements: tuple[Statement, ...]
    source: Source | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        self._check_assignments()
        self._check_ranks()
        _ = self.order

    def __hash__(self) -> int:
        return hash(self.statements)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names assigned, in order."""
        return tuple(s.target for s in self.statements)

    @cached_property
    def updates(self) -> frozenset[str]:
        return frozenset(s.target for s in self.statements if s.is_update)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names read but not computed first: the data, and the tensors that are updated."""
        seen = dict.fromkeys(t for s in self.statements for t in s.mentions)
        computed = set(self.outputs) - self.updates
        return tuple(t for t in seen if t not in computed)

    @cached_property
    def by_target(self) -> dict[str, Statement]:
        return {s.target: s for s in self.statements}

    @cached_property
    def names(self) -> frozenset[str]:
        """Every tensor and index name in use."""
        found = set(self.inputs) | set(self.outputs)
        for s in self.statements:
            found.update(s.indices)
            for e in walk(s.body):
                found.update(e.free)
        return frozenset(found)

    @cached_property
    def ranks(self) -> dict[str, int]:
        ranks: dict[str, int] = {}
        for s in self.statements:
            for e in walk(s.body):
                if isinstance(e, Access):
                    ranks.setdefault(e.tensor, len(e.axes))
                elif isinstance(e, Grad):
                    ranks.setdefault(e.wrt, len(e.axes))
        for s in self.statements:  # an assignment is the norm, whatever the reads say
            ranks[s.target] = len(s.axes)
        return ranks

    @cached_property
    def labels(self) -> frozenset[str]:
        """Given tensors that are only ever compared (== or !=) with index names: integers."""
        compared: set[str] = set()
        otherwise: set[str] = set()

        def visit(e: Expr) -> None:
            if isinstance(e, Access):
                otherwise.add(e.tensor)
            elif isinstance(e, Compare) and e.op in ("==", "!="):
                for side, other in ((e.left, e.right), (e.right, e.left)):
                    if isinstance(side, Access) and _is_index(other):
                        compared.add(side.tensor)
                    else:
                        visit(side)
            else:
                for child in e.inside:
                    visit(child)

        for s in self.statements:
            visit(s.body)
        return frozenset(compared - otherwise) & frozenset(self.inputs)

    @cached_property
    def order(self) -> tuple[Statement, ...]:
        """The statements so that each comes after what it reads; as written where that allows."""
        done: dict[Statement, None] = {}
        for s in self.statements:
            path = {s: iter(self._sources(s))}  # the statements being visited, innermost last
            while path:
                last, sources = next(reversed(path.items()))
                source = next((x for x in sources if x not in done), None)
                if source is None:
                    del path[last]
                    done[last] = None
                elif source in path:
                    raise self._cycle(source, list(path))
                else:
                    path[source] = iter(self._sources(source))
        return tuple(done)

    def _sources(self, s: Statement) -> Iterator[Statement]:
        """The statements whose results s reads."""
        for name in s.mentions:
            if name in self.by_target and name not in self.updates:
                yield self.by_target[name]

    def _cycle(self, source: Statement, path: list[Statement]) -> Problem:
        loop = [x.target for x in path[path.index(source) :]] + [source.target]
        of = {e.of for x in path for e in walk(x.body) if isinstance(e, Grad)}
        left = _left_side(source)
        return Problem(
            f"{source.target} depends on itself: " + " <- ".join(loop),
            self.statements.index(source),
            source,
            hint=f"{source.target} must not depend on its own gradient"
            if source.target in of
            else "to update a given tensor, read its old value in its own statement: "
            f"{left} = {left} + ...",
        )

    def needed_for(self, targets: Iterable[str]) -> tuple[Statement, ...]:
        """The statements, in running order, that computing the targets takes."""
        wanted = set(targets)
        kept: list[Statement] = []
        for s in reversed(self.order):
            if s.target in wanted:
                kept.append(s)
                wanted.update(t for t in s.mentions if t not in self.updates)
        return tuple(reversed(kept))

    def _check_assignments(self) -> None:
        seen: dict[str, Statement] = {}
        for k, s in enumerate(self.statements):
            if s.target in seen:
                hint = "give the second value a name of its own"
                if s.is_update or seen[s.target].is_update:
                    hint = f"one statement updates {s.target}: put both changes into it"
                raise Problem(f"{s.target} is assigned twice", k, s, hint)
            seen[s.target] = s

    def _check_ranks(self) -> None:
        for k, s in enumerate(self.statements):
            for e in walk(s.body):
                if isinstance(e, Access) and len(e.axes) != self.ranks[e.tensor]:
                    raise self._rank_problem(k, e)
                if isinstance(e, Grad):
                    self._check_grad(k, s, e)

    def _rank_problem(self, k: int, e: Access) -> Problem:
        """A read that disagrees with the assignment, or with the first read of a given tensor."""
        t, found = e.tensor, _indices(len(e.axes))
        if t in self.by_target:
            made = self.by_target[t]
            return Problem(
                f"{t} has {_axes(len(made.axes))}, but is read with {found}",
                k,
                e,
                hint=f"{self._line(made)} assigns {_left_side(made)}",
            )
        first, s = next(
            (x, s)
            for s in self.statements
            for x in walk(s.body)
            if isinstance(x, Access) and x.tensor == t
        )
        return Problem(
            f"{t} is read with {found} here, but with {_indices(len(first.axes))} before",
            k,
            e,
            hint=f"{self._line(s)} reads {first}; a tensor always has the same number of axes",
        )

    def _line(self, s: Statement) -> str:
        k = self.statements.index(s)
        span = self.source.spans.get((k, s)) if self.source else None
        return f"line {span.line if span else k + 1}"

    def _check_grad(self, k: int, s: Statement, e: Grad) -> None:
        made = self.by_target.get(e.of)
        if made is None or e.of in self.updates:
            raise Problem(
                f"grad({e.of}, {e.wrt}): {e.of} is not computed by this program",
                k,
                e,
                hint="the first name in grad is a scalar that a statement assigns",
            )
        if made.axes:
            raise Problem(
                f"grad({e.of}, {e.wrt}): {e.of} is not a scalar, it has {_axes(len(made.axes))}",
                k,
                e,
                hint=f"reduce it first, as in  E = sum[...]({e.of}[...])",
            )
        if e.wrt not in self.ranks or (e.wrt not in self.by_target and e.wrt not in self.inputs):
            raise Problem(
                f"grad({e.of}, {e.wrt}): no statement reads {e.wrt}",
                k,
                e,
                hint="the tensors are " + ", ".join(dict.fromkeys([*self.inputs, *self.outputs])),
            )
        if len(e.axes) != self.ranks[e.wrt]:
            names = s.indices if len(s.indices) == self.ranks[e.wrt] else "ijklmnpqrstuvw"
            indices = ",".join(names[: self.ranks[e.wrt]])
            raise Problem(
                f"grad({e.of}, {e.wrt}) has {_indices(len(e.axes))}, "
                f"but {e.wrt} has {_axes(self.ranks[e.wrt])}",
                k,
                e,
                hint=f"as in  grad({e.of}, {e.wrt})" + (f"[{indices}]" if indices else ""),
            )


def _is_index(e: Expr) -> bool:
    """An expression of index names and numbers, with an index in it."""
    parts = list(walk(e))
    plain = all(isinstance(x, (Index, Const, Size, Add, Mul)) for x in parts)
    return plain and any(isinstance(x, Index) for x in parts)


def _axes(n: int) -> str:
    return {0: "no axes", 1: "1 axis"}.get(n, f"{n} axes")


def _indices(n: int) -> str:
    return {0: "no indices", 1: "1 index"}.get(n, f"{n} indices")


def _left_side(s: Statement) -> str:
    """The left side without its sizes."""
    axes = [
        axis[0][0] if len(axis) == 1 else f"({','.join(n for n, _ in axis)})" for axis in s.axes
    ]
    return s.target + (f"[{','.join(axes)}]" if axes else "")
