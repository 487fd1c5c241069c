"""Program text -> System.

Python's `ast` module reads the text; here its trees get the meaning of formulas.  A name is an
index where the left side or an enclosing reduction binds it, else a tensor.  Statements are read
in this file, what they compute in expressions.py, what stands in brackets in indices.py; what
Python cannot read is explained in syntax.py.
"""

from __future__ import annotations

import ast
from typing import NoReturn

from chainrule.errors import FormulaError
from chainrule.expr import Expr
from chainrule.functions import REDUCTIONS
from chainrule.notation.expressions import ExpressionReader
from chainrule.notation.indices import ALIASES, GROUP_HINT, canonical, items
from chainrule.notation.syntax import MAX_NESTING, python_tree
from chainrule.notation.words import (
    GO_ON_HINT,
    NESTING_HINT,
    NOT_A_SIDE,
    STATEMENT_HINT,
    TOO_DEEP,
    word,
)
from chainrule.system import LeftAxis, Problem, Source, Statement, System

_MAX_INDICES = 32  # in one statement: an array over all of them must exist in NumPy


def parse(text: str) -> System:
    """The System that the text describes; raises FormulaError with line, column and hint."""
    if not isinstance(text, str):
        raise FormulaError(
            f"a program is a text, not {type(text).__name__}", hint="as in  'y[i] = 2 * x[i]'"
        )
    text = text.removeprefix("\ufeff").expandtabs(4)  # editors put a byte order mark first
    for end in ("\r\n", "\r", "\f"):
        text = text.replace(end, "\n")
    lines = tuple(text.split("\n"))
    margin = min((len(x) - len(x.lstrip(" ")) for x in lines if x.strip(" ")), default=0)
    reader = _Reader(lines, tuple(x[margin:] for x in lines), margin)
    tree = python_tree(reader)
    statements = tuple(reader.statement(k, node) for k, node in enumerate(tree.body))
    if not statements:
        raise FormulaError(
            "the program has no statement", hint="write at least one, as in  y[i] = 2 * x[i]"
        )
    try:
        return System(statements, Source(lines, reader.spans))
    except Problem as p:
        raise reader.located(p) from None


def parse_expression(text: str, indices: tuple[str, ...] = ()) -> Expr:
    """A single expression, with the given names taken as indices."""
    reader = _Reader((text,), (f"({text})",), -1)
    tree = python_tree(reader)
    node = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(node, ast.Expr):
        raise FormulaError(f"{text} is not one expression", hint="as in  2 * x[i]")
    reader.scope = [set(indices)]
    return reader.expression(node.value)


class _Reader(ExpressionReader):
    """Turns Python's statements into formulas."""

    def statement(self, k: int, node: ast.stmt) -> Statement:
        self.where, self.scope = k, []
        match node:
            case ast.Assign(targets=[target], value=value):
                pass
            case _:
                self.refuse_statement(node)
        name, axes = self.left_side(target)
        bound = {i for axis in axes for i, _ in axis}
        self.bound_somewhere = bound | _bound_in(value)
        self.scope = [bound]
        try:
            body = self.expression(value)
        except RecursionError:
            self.fail(value, TOO_DEEP, NESTING_HINT)
        if _depth(body) > MAX_NESTING:
            self.fail(value, TOO_DEEP, NESTING_HINT)
        if len(self.bound_somewhere) > _MAX_INDICES:
            self.fail(
                value,
                f"{len(self.bound_somewhere)} indices in one statement are too many",
                f"a statement has at most {_MAX_INDICES} indices: split it into several",
            )
        result = Statement(name, axes, body)
        self.remember(result, target)
        return result

    def refuse_statement(self, node: ast.stmt) -> NoReturn:
        match node:
            case ast.Assign():
                self.fail(node, "one statement assigns one name", "write two statements")
            case ast.AugAssign(target=target, op=op):
                name = self.segment(target)
                sign = {ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}.get(type(op), "+")
                self.fail(node, f"there is no {sign}=", f"write  {name} = {name} {sign} ...")
            case ast.AnnAssign():
                self.fail(node, "a size stands inside the brackets", "as in  x[i:28, j:28] = ...")
            case ast.Expr(value=ast.Compare(left=a, ops=[ast.Eq()], comparators=[b])):
                mend = f"write  {self.segment(a)} = {self.segment(b)}"
                self.fail(node, "= assigns, == compares", mend)
            case ast.Expr(value=ast.UnaryOp() | ast.BinOp(left=ast.UnaryOp())):
                self.fail(node, "nothing is assigned here", GO_ON_HINT)
            case ast.Expr():
                self.fail(node, "nothing is assigned here", STATEMENT_HINT)
        first = self.segment(node).split()[0].rstrip(":")
        self.fail(node, *word(first))

    def left_side(self, target: ast.expr) -> tuple[str, tuple[LeftAxis, ...]]:
        if isinstance(target, ast.Name):
            return self.tensor_name(target), ()
        if not (isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name)):
            self.fail(target, NOT_A_SIDE, STATEMENT_HINT)
        name = self.tensor_name(target.value)
        axes: list[LeftAxis] = []
        for item in self.axis_items(target.slice):
            if isinstance(item, ast.Tuple):
                axes.append(tuple(self.binder(x, name) for x in item.elts))
                if not item.elts:
                    self.fail(item, "this group is empty", GROUP_HINT)
            else:
                axes.append((self.binder(item, name),))
        names = [i for axis in axes for i, _ in axis]
        for i in names:
            if names.count(i) > 1:
                other = "k" if i != "k" else "l"
                self.fail(
                    target,
                    f"index {i} stands twice on the left",
                    f"a diagonal is  {name}[{i},{other}] = o[{i}] * ({i} == {other})",
                )
            if i == name:
                self.fail(
                    target,
                    f"{i} is the tensor here, so it cannot be an index as well",
                    "choose another index name",
                )
        return name, tuple(axes)


def _bound_in(value: ast.expr) -> set[str]:
    """The names that reductions in a Python tree bind."""
    return {
        canonical(n.id)
        for call in ast.walk(value)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Subscript)
        for item in items(call.func.slice)
        for n in [item.lower if isinstance(item, ast.Slice) else item]
        if isinstance(n, ast.Name)
        and isinstance(call.func.value, ast.Name)
        and ALIASES.get(call.func.value.id, call.func.value.id) in REDUCTIONS
    }


def _depth(e: Expr) -> int:
    """How deeply expressions stand in expressions, counted without recursion."""
    depth, level = 0, {e: None}
    while level:
        depth += 1
        level = dict.fromkeys(c for x in level for c in x.inside)
        if depth > MAX_NESTING:
            break
    return depth
