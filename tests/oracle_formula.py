"""One statement for the oracle: Python's syntax tree turned into closures that loop and add.

Closures read where each index stands (`Index.at`) and ask the machine for tensors by name.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from oracle_numbers import apply, plain
from oracle_ranges import Affine, Group, Index, OracleError, loop, settle

if TYPE_CHECKING:
    from oracle import Machine

Number = Any  # Fraction | float | Dual
Thunk = Callable[[], Number]
Scope = dict[str, Index]

COMPARISONS: dict[str, Callable[[Number, Number], bool]] = {
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
}
SIZES: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def base(node: ast.expr) -> str:
    """The name that an access, a call or a target starts with."""
    while not isinstance(node, ast.Name):
        node = node.func if isinstance(node, ast.Call) else node.value  # type: ignore[attr-defined]
    return node.id


def subscripts(node: ast.expr) -> list[ast.expr]:
    """The axes between the brackets. `x[i,j]` has two, `x[(i,j)]` one, yet both parse to a tuple:
    only where it starts and ends tells that the second has parentheses of its own."""
    if not isinstance(node, ast.Subscript):
        return []
    inside = node.slice
    if not isinstance(inside, ast.Tuple):
        return [inside]
    first, last = inside.elts[0], inside.elts[-1]
    starts = (first.lineno, first.col_offset) > (inside.lineno, inside.col_offset)
    ends = (last.end_lineno, last.end_col_offset) < (inside.end_lineno, inside.end_col_offset)
    return [inside] if starts and ends else inside.elts


class Formula:
    """One statement, made ready: the indices of its axes, and its body as a closure."""

    def __init__(self, machine: Machine, target: ast.expr, body: ast.expr) -> None:
        self.machine = machine
        self.indices: list[Index] = []
        self.axes: list[Affine | Group] = []
        self.left: list[Index | Group] = []
        scope: Scope = {}
        for axis in subscripts(target):
            if isinstance(axis, ast.Tuple):
                self.left.append(Group([self.bind(name, scope) for name in axis.elts]))
            else:
                self.left.append(self.bind(axis, scope))
        if base(target) in machine.given:  # an update: the old tensor's axes are its axes
            for left, extent in zip(self.left, machine.shape(base(target)), strict=True):
                old = left if isinstance(left, Group) else Affine(Fraction(0), {left: Fraction(1)})
                old.extent = extent
                self.axes.append(old)
        self.body = self.compile(body, scope)
        settle(self.indices, self.axes)
        self.shape = tuple(
            len(a.span()) if isinstance(a, Index) else math.prod(len(i.span()) for i in a.members)
            for a in self.left
        )

    def bind(self, node: ast.expr, scope: Scope) -> Index:
        """A new index, `i` or `i:size`, in a scope."""
        name, size = node, None
        if isinstance(node, ast.Slice):
            assert node.lower
            assert node.upper
            name, size = node.lower, self.whole(node.upper)
        scope[base(name)] = index = Index(base(name), size)
        self.indices.append(index)
        return index

    def whole(self, node: ast.expr) -> int:
        """A size: an integer expression of numbers and size(tensor, axis)."""
        if isinstance(node, ast.Constant):
            return int(str(node.value))
        if isinstance(node, ast.UnaryOp):
            return -self.whole(node.operand)
        if isinstance(node, ast.BinOp):
            a, b = self.whole(node.left), self.whole(node.right)
            return SIZES[type(node.op)](a, b)
        assert isinstance(node, ast.Call)
        if base(node) == "min":
            return min(self.whole(part) for part in node.args)
        assert base(node) == "size"
        return self.machine.shape(base(node.args[0]))[self.whole(node.args[1])]

    def affine(self, node: ast.expr, scope: Scope) -> Affine:
        if isinstance(node, ast.Name):
            if node.id not in scope:
                raise OracleError(f"{node.id} is no index here")
            return Affine(Fraction(0), {scope[node.id]: Fraction(1)})
        if isinstance(node, ast.UnaryOp):
            return self.affine(node.operand, scope).times(Fraction(-1))
        if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.FloorDiv):
            a, b = self.affine(node.left, scope), self.affine(node.right, scope)
            if isinstance(node.op, (ast.Add, ast.Sub)):
                return a.plus(b, 1 if isinstance(node.op, ast.Add) else -1)
            if isinstance(node.op, ast.Div):
                return a.times(1 / b.offset)
            return b.times(a.offset) if not a.terms else a.times(b.offset)
        return Affine(Fraction(self.whole(node)), {})

    def access(self, node: ast.expr, scope: Scope) -> Thunk:
        """A tensor, an entry of it, an entry of pad(tensor) or of grad(E, tensor)."""
        head = node.value if isinstance(node, ast.Subscript) else node
        padded, fill = base(head) == "pad", Fraction(0)
        machine, name, of = self.machine, base(head), ""
        if isinstance(head, ast.Call):
            name = base(head.args[-1 if base(head) == "grad" else 0])
            of = base(head.args[0]) if base(head) == "grad" else ""
            if padded and len(head.args) > 1:
                fill = plain(self.compile(head.args[1], {})())
        axes: list[Affine | Group] = []
        for part in subscripts(node):
            if isinstance(part, ast.Tuple):
                axes.append(Group([scope[base(e)] for e in part.elts]))
            else:
                affine = self.affine(part, scope)
                affine.padded = padded
                axes.append(affine)
        shape = machine.shape(name)
        if len(shape) != len(axes):
            raise OracleError(f"{name} has {len(shape)} axes, read with {len(axes)}")
        for axis, extent in zip(axes, shape, strict=True):
            axis.extent = extent
        self.axes += axes

        def read() -> Number:
            point = tuple(at for at in (axis.position() for axis in axes) if at is not None)
            if len(point) < len(axes):  # an axis had no place there: outside
                return machine.number(fill)
            return machine.slope(of, name, point) if of else machine.cells(name)[point]

        return read

    def compile(self, node: ast.expr, scope: Scope) -> Thunk:
        machine = self.machine
        if isinstance(node, ast.Constant):
            value = machine.number(Fraction(repr(node.value)))
            return lambda: value
        if isinstance(node, ast.Name) and node.id in scope:
            index = scope[node.id]
            return lambda: machine.number(index.at)
        if isinstance(node, ast.Name) and node.id in ("pi", "inf"):
            special = math.pi if node.id == "pi" else math.inf
            return lambda: special
        if isinstance(node, (ast.Name, ast.Subscript)):
            return self.access(node, scope)
        if isinstance(node, ast.UnaryOp):
            operand, sign = self.compile(node.operand, scope), isinstance(node.op, ast.USub)
            return lambda: -operand() if sign else operand()
        if isinstance(node, ast.BinOp):
            return self.call(type(node.op).__name__, [node.left, node.right], scope)
        if isinstance(node, ast.Compare):
            return self.call(type(node.ops[0]).__name__, [node.left, node.comparators[0]], scope)
        assert isinstance(node, ast.Call), ast.dump(node)
        if isinstance(node.func, ast.Subscript):
            return self.reduce(base(node.func), subscripts(node.func), node.args[0], scope)
        if base(node) == "size":
            return lambda: machine.number(self.whole(node))
        if base(node) == "grad":  # of a scalar tensor: nothing to index
            return self.access(node, scope)
        return self.call(base(node), node.args, scope)

    def call(self, name: str, nodes: Sequence[ast.expr], scope: Scope) -> Thunk:
        args = [self.compile(node, scope) for node in nodes]
        machine = self.machine
        if name == "where":  # lazy: the other branch is not even looked at
            test, yes, no = args
            bracket = isinstance(nodes[0], ast.Compare)

            def either() -> Number:
                holds = plain(test())
                if not bracket:
                    machine.decided(holds, 0)
                return yes() if holds else no()

            return either
        if name == "stop":
            return lambda: plain(args[0]())
        if name in COMPARISONS:
            holds = COMPARISONS[name]
            names = {n.id for side in nodes for n in ast.walk(side) if isinstance(n, ast.Name)}
            real = any(machine.is_real(n) for n in names - scope.keys() if machine.knows(n))

            def iverson() -> Number:
                a, b = plain(args[0]()), plain(args[1]())
                if real:  # between whole numbers a tie is no accident of rounding
                    machine.decided(a, b)
                return machine.number(int(holds(a, b)))

            return iverson
        if name in ("maximum", "minimum"):
            return lambda: machine.best([arg() for arg in args], name == "maximum")[1]
        if name in ("relu", "abs", "sign"):
            return lambda: machine.kink(name, args[0]())
        return lambda: apply(name, *(arg() for arg in args))

    def reduce(self, name: str, binders: Sequence[ast.expr], node: ast.expr, scope: Scope) -> Thunk:
        scope = dict(scope)
        indices = [self.bind(binder, scope) for binder in binders]
        body, machine = self.compile(node, scope), self.machine

        def fold() -> Number:
            values = [body() for _ in loop(indices)]
            if name in ("max", "min"):
                return machine.best(values, name == "max")[1]
            if name == "argmax":
                return machine.number(machine.best(values, True)[0])
            if name == "prod":
                return math.prod(values, start=machine.number(1))
            if name == "logsumexp":
                top = plain(machine.best(values, True)[1])
                return top + apply("log", sum(apply("exp", v - top) for v in values))
            total = sum(values, start=machine.number(0))
            return total / machine.number(len(values)) if name == "mean" else total

        return fold
