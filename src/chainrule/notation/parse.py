"""Program text -> System.

Python's `ast` module reads the text; this file gives its trees the meaning of formulas.  A name is
an index where the left side or an enclosing reduction binds it, else a tensor.
"""

from __future__ import annotations

import ast
import difflib
import functools
import textwrap
import warnings
from fractions import Fraction
from typing import NoReturn

from chainrule.errors import FormulaError
from chainrule.expr import (
    INF,
    PI,
    Access,
    Affine,
    Axis,
    Binder,
    Call,
    Compare,
    Expr,
    Grad,
    Group,
    Index,
    Node,
    Reduce,
    Size,
    add,
    affine,
    const,
    divide,
    mul,
    neg,
    power,
    walk,
)
from chainrule.functions import COMPARISONS, FUNCTIONS, REDUCTIONS, RESERVED
from chainrule.system import LeftAxis, Problem, Source, Span, Statement, System

_COMPARE = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
assert set(_COMPARE.values()) == set(COMPARISONS)

_INSTEAD = {  # what people write, and what the language has for it
    "ln": "log",
    "σ": "sigmoid",
    "avg": "mean",
    "average": "mean",
    "softmax": "exp(u[k] - logsumexp[l](u[l]))",
    "clip": "minimum(maximum(e, low), high)",
    "product": "prod",
    "log10": "log(e)/log(10)",
    "log2": "log(e)/log(2)",
    "square": "e**2",
    "lse": "logsumexp",
}
_ALIASES = {"Σ": "sum"}
_SEVERAL = ("maximum", "minimum")  # take two arguments or more
_MAX_DEPTH_HINT = "split the formula into several statements"


def parse(text: str) -> System:
    """The System that the text describes; raises FormulaError with line, column and hint."""
    text = textwrap.dedent(text.expandtabs(4))
    lines = tuple(text.splitlines())
    tree = _python_tree(text, lines)
    reader = _Reader(lines)
    try:
        statements = tuple(reader.statement(k, node) for k, node in enumerate(tree.body))
    except RecursionError:
        raise FormulaError("the formula is nested too deeply", hint=_MAX_DEPTH_HINT) from None
    if not statements:
        raise FormulaError(
            "the program has no statement", hint="write at least one, as in  y[i] = 2 * x[i]"
        )
    source = Source(lines, reader.spans)
    try:
        return System(statements, source)
    except Problem as p:
        raise reader.located(p) from None


def parse_expression(text: str, indices: tuple[str, ...] = ()) -> Expr:
    """A single expression, with the given names taken as indices."""
    lines = (text,)
    tree = _python_tree(f"({text}\n)", lines)
    node = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(node, ast.Expr):
        raise FormulaError(f"expected one expression, got: {text}")
    reader = _Reader(lines, shift=1)
    reader.scope = [set(indices)]
    return reader.expression(node.value)


def canonical(name: str) -> str:
    """δt for d_t, which is accepted wherever δt is."""
    return "δ" + canonical(name[2:]) if name.startswith("d_") and len(name) > 2 else name


def _python_tree(text: str, lines: tuple[str, ...]) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as e:
        line = min(e.lineno or 1, max(len(lines), 1))
        source_line = lines[line - 1] if lines else ""
        column = min(e.offset or 1, len(source_line) + 1)
        raise FormulaError(
            f"this is not a formula: {e.msg}",
            line=line,
            column=max(column, 1),
            source_line=source_line,
            hint=_syntax_hint(source_line, e.msg or ""),
        ) from None
    except (ValueError, RecursionError, MemoryError) as e:
        raise FormulaError(f"this text cannot be read: {e}", hint=_MAX_DEPTH_HINT) from None


def _syntax_hint(line: str, message: str) -> str:
    if "^" in line:
        return "a power is written **"
    if "'" in line or "′" in line:
        return "primes are not part of a name: call it w2 or w_new"
    if "assign" in message or "=" not in line:
        return "a statement is  name[indices] = expression"
    return "a statement is  name[indices] = expression, in Python's syntax"


class _Reader:
    """Turns Python's trees into nodes, keeping track of scopes and of where each node stood."""

    def __init__(self, lines: tuple[str, ...], shift: int = 0) -> None:
        self.lines = lines
        self.shift = shift  # characters put before the text on its first line
        self.spans: dict[tuple[int, Node], Span] = {}
        self.scope: list[set[str]] = []
        self.bound_somewhere: set[str] = set()
        self.where = 0

    # -------------------------------------------------------- places and errors

    def span(self, node: ast.AST) -> Span:
        line = node.lineno  # type: ignore[attr-defined]
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        shift = self.shift if line == 1 else 0
        start = len(text.encode()[: max(0, node.col_offset - shift)].decode())  # type: ignore[attr-defined]
        end = len(text)
        if node.end_lineno == line:  # type: ignore[attr-defined]
            end = len(text.encode()[: max(0, node.end_col_offset - shift)].decode())  # type: ignore[attr-defined]
        return Span(line, start + 1, max(1, end - start))

    def fail(self, node: ast.AST, message: str, hint: str = "") -> NoReturn:
        raise self.error(self.span(node), message, hint)

    def error(self, span: Span, message: str, hint: str) -> FormulaError:
        return FormulaError(
            message,
            line=span.line,
            column=span.column,
            width=span.width,
            source_line=self.lines[span.line - 1] if self.lines else "",
            hint=hint,
        )

    def located(self, p: Problem) -> FormulaError:
        span = self.spans.get((p.where, p.node)) if p.node else None
        return self.error(span or Span(1, 1, 1), p.message, p.hint)

    def segment(self, node: ast.AST) -> str:
        s = self.span(node)
        return self.lines[s.line - 1][s.column - 1 : s.column - 1 + s.width]

    # -------------------------------------------------------- statements

    def statement(self, k: int, node: ast.stmt) -> Statement:
        self.where, self.scope = k, []
        match node:
            case ast.Assign(targets=[target], value=value):
                pass
            case ast.Assign():
                self.fail(node, "one statement assigns one name", "write two statements")
            case ast.AugAssign(target=target):
                name = self.segment(target)
                self.fail(node, "there is no += or -=", f"write  {name} = {name} + ...")
            case ast.AnnAssign():
                self.fail(node, "a size stands inside the brackets", "as in  x[i:28, j:28] = ...")
            case _:
                self.fail(
                    node, "this is not a statement", "a statement is  name[indices] = expression"
                )
        name, axes = self.left_side(target)
        bound = {i for axis in axes for i, _ in axis}
        self.bound_somewhere = bound | {
            n.id
            for call in ast.walk(value)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Subscript)
            for item in _items(call.func.slice)
            for n in [item.lower if isinstance(item, ast.Slice) else item]
            if isinstance(n, ast.Name)
            and isinstance(call.func.value, ast.Name)
            and _ALIASES.get(call.func.value.id, call.func.value.id) in REDUCTIONS
        }
        self.scope = [bound]
        result = Statement(name, axes, self.expression(value))
        self.spans.setdefault((k, result), self.span(target))
        return result

    def left_side(self, target: ast.expr) -> tuple[str, tuple[LeftAxis, ...]]:
        if isinstance(target, ast.Name):
            return self.tensor_name(target), ()
        if not (isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name)):
            self.fail(
                target,
                "the left side is a name with its indices",
                "a statement is  name[indices] = expression",
            )
        name = self.tensor_name(target.value)
        axes: list[LeftAxis] = []
        for item in self.axis_items(target.slice):
            if isinstance(item, ast.Tuple):
                axes.append(tuple(self.binder(x) for x in item.elts))
                if not item.elts:
                    self.fail(item, "an empty group", "write the indices of the group, as in (i,j)")
            else:
                axes.append((self.binder(item),))
        names = [i for axis in axes for i, _ in axis]
        for i in names:
            if names.count(i) > 1:
                self.fail(
                    target,
                    f"index {i} stands twice on the left",
                    f"use another letter and a bracket, as in  * ({i} == k)",
                )
            if i == name:
                self.fail(target, f"{i} is the tensor here, so it cannot be an index as well")
        return name, tuple(axes)

    def binder(self, node: ast.expr) -> Binder:
        size = None
        if isinstance(node, ast.Slice):
            if node.lower is None or node.upper is None or node.step is not None:
                self.fail(node, "an index with its size is written i:28")
            size = self.size_expression(node.upper)
            node = node.lower
        if not isinstance(node, ast.Name):
            self.fail(
                node,
                f"a new index is a bare name, not {self.segment(node)}",
                "shift on the right side: y[i] = x[i-1] writes through pad(x)[i-1]",
            )
        if node.id in RESERVED:
            self.fail(node, f"{node.id} is a word of the language", "choose another index name")
        return canonical(node.id), size

    def tensor_name(self, node: ast.Name) -> str:
        if node.id in RESERVED or node.id in _ALIASES:
            self.fail(node, f"{node.id} is a word of the language", "choose another tensor name")
        return canonical(node.id)

    def size_expression(self, node: ast.expr) -> Expr:
        """Numbers, size(t, axis), + - * // and min(...)."""
        match node:
            case ast.Constant(value=int(v)) if not isinstance(v, bool):
                return const(v)
            case ast.BinOp(left=a, op=op, right=b):
                x, y = self.size_expression(a), self.size_expression(b)
                match op:
                    case ast.Add():
                        return add(x, y)
                    case ast.Sub():
                        return add(x, neg(y))
                    case ast.Mult():
                        return mul(x, y)
                    case ast.FloorDiv():
                        return Call("//", (x, y))
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return neg(self.size_expression(a))
            case ast.Call(func=ast.Name(id="min"), args=args, keywords=[]) if args:
                return Call("min", tuple(self.size_expression(a) for a in args))
            case ast.Call(func=ast.Name(id="size")):
                return self.size(node)
        self.fail(
            node,
            f"{self.segment(node)} is not a size",
            "a size is made of whole numbers, size(tensor, axis), + - * // and min(...)",
        )

    def size(self, node: ast.Call) -> Size:
        match node.args:
            case [ast.Name() as t, ast.Constant(value=int(k))] if k >= 0 and not node.keywords:
                result = Size(self.tensor_name(t), k)
                self.spans.setdefault((self.where, result), self.span(node))
                return result
        self.fail(node, "size takes a tensor and the number of an axis", "as in  size(o, 0)")

    # -------------------------------------------------------- expressions

    def expression(self, node: ast.expr) -> Expr:
        result = self._expression(node)
        self.spans.setdefault((self.where, result), self.span(node))
        return result

    def _expression(self, node: ast.expr) -> Expr:
        match node:
            case ast.Constant():
                return self.constant(node)
            case ast.Name():
                return self.name(node)
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return neg(self.expression(a))
            case ast.UnaryOp(op=ast.UAdd(), operand=a):
                return self.expression(a)
            case ast.BinOp(left=a, op=op, right=b):
                x, y = self.expression(a), self.expression(b)
                match op:
                    case ast.Add():
                        return add(x, y)
                    case ast.Sub():
                        return add(x, neg(y))
                    case ast.Mult():
                        return mul(x, y)
                    case ast.Div():
                        if y is const(0):
                            self.fail(node, "division by zero")
                        return divide(x, y)
                    case ast.Pow():
                        return power(x, y)
                hint = {
                    ast.BitXor: "a power is written **",
                    ast.MatMult: "write the sum: sum[k](a[i,k] * b[k,j])",
                }.get(type(op), "the operators are + - * / **")
                self.fail(node, "this operator is not part of the language", hint)
            case ast.Compare(left=left, ops=ops, comparators=rest):
                return self.comparison(node, [left, *rest], ops)
            case ast.Call():
                return self.call(node)
            case ast.Subscript():
                return self.subscript(node)
            case ast.BoolOp():
                self.fail(node, "there is no `and` or `or`", "multiply the brackets: (a > 0)*(b > 0)")
            case ast.IfExp():
                self.fail(node, "there is no `if`", "write where(condition, a, b)")
            case ast.Attribute():
                self.fail(node, "names have no dots", "use a plain name")
        self.fail(
            node,
            f"{self.segment(node)} is not part of the language",
            "an expression is made of numbers, tensors, functions, brackets and reductions",
        )

    def constant(self, node: ast.Constant) -> Expr:
        text = self.segment(node).replace("_", "")
        match node.value:
            case bool() | str() | bytes() | complex() | None:
                pass
            case int(v):
                return const(v)
            case float():
                return const(self.decimal(node))
        self.fail(node, f"{text} is not a real number")

    def decimal(self, node: ast.expr) -> Fraction:
        """The literal exactly as written: 0.1 is 1/10."""
        text = self.segment(node).replace("_", "")
        _, _, exponent = text.lower().partition("e")
        if exponent and abs(int(exponent)) > 400:
            self.fail(node, f"{text} is out of the range of float64")
        return Fraction(text)

    def name(self, node: ast.Name) -> Expr:
        name = node.id
        if any(name in names for names in self.scope):
            return Index(name)
        if name == "pi":
            return PI
        if name == "inf":
            return INF
        if name in FUNCTIONS or name in REDUCTIONS or name in ("pad", "size", "grad"):
            form = f"{name}[i](...)" if name in REDUCTIONS else f"{name}(...)"
            self.fail(node, f"{name} is a word of the language, not a tensor", f"write  {form}")
        self.refuse_lost_index(node)
        return Access(canonical(name), (), None)

    def refuse_lost_index(self, node: ast.Name) -> None:
        if node.id in self.bound_somewhere:
            self.fail(
                node,
                f"index {node.id} is used outside the reduction that binds it",
                "move it inside the brackets of the reduction, or rename one of the two",
            )

    def comparison(self, node: ast.expr, items: list[ast.expr], ops: list[ast.cmpop]) -> Expr:
        values = [self.expression(x) for x in items]
        brackets = []
        for op, a, b in zip(ops, values, values[1:], strict=False):
            if type(op) not in _COMPARE:
                self.fail(node, "only == != < <= > >= compare", "write a bracket such as (i == j)")
            brackets.append(Compare(_COMPARE[type(op)], a, b))
        return mul(*brackets)

    def call(self, node: ast.Call) -> Expr:
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self.fail(node, "functions take plain arguments only")
        match node.func:
            case ast.Subscript(value=ast.Name(id=op), slice=indices):
                return self.reduction(node, _ALIASES.get(op, op), indices)
            case ast.Name(id="size"):
                return self.size(node)
            case ast.Name(id="grad"):
                return self.grad(node, ())
            case ast.Name(id="pad"):
                self.fail(node, "pad(t) is read at indices", "as in  pad(o)[i-1]")
            case ast.Name(id=name):
                return self.function(node, name)
        self.fail(node, f"{self.segment(node.func)} cannot be called")

    def function(self, node: ast.Call, name: str) -> Expr:
        if name in REDUCTIONS or name in _ALIASES:
            other = {"max": "; of two values: maximum(a, b)", "min": "; of two values: minimum(a, b)"}
            self.fail(
                node,
                f"{name} needs the indices that it runs over",
                f"write  {name}[i](...)" + other.get(name, ""),
            )
        if name not in FUNCTIONS:
            self.fail(node, f"there is no function {name}", self.suggest(name))
        arity = FUNCTIONS[name].arity
        if name in _SEVERAL and len(node.args) > arity:  # of equal arguments still the first
            args = [self.expression(a) for a in node.args]
            return functools.reduce(lambda a, b: Call(name, (a, b)), args)
        if len(node.args) != arity:
            args = "1 argument" if arity == 1 else f"{arity} arguments"
            self.fail(node, f"{name} takes {args}, not {len(node.args)}")
        args_ = tuple(self.expression(a) for a in node.args)
        return power(*args_) if name == "pow" else Call(name, args_)

    def suggest(self, name: str) -> str:
        if name in _INSTEAD:
            return f"write  {_INSTEAD[name]}"
        near = difflib.get_close_matches(name.lower(), [*FUNCTIONS, *REDUCTIONS], 1)
        if near:
            return f"did you mean {near[0]}?"
        return f"the functions are {', '.join(FUNCTIONS)}; a product is written with *"

    def reduction(self, node: ast.Call, op: str, indices: ast.expr) -> Expr:
        if op not in REDUCTIONS:
            self.fail(
                node,
                f"there is no reduction {op}[...](...)",
                f"the reductions are {', '.join(REDUCTIONS)}",
            )
        if len(node.args) != 1:
            self.fail(node, f"{op}[...] takes one expression, not {len(node.args)}")
        binders = tuple(self.binder(x) for x in _items(indices))
        names = [n for n, _ in binders]
        for n in names:
            if any(n in bound for bound in self.scope) or names.count(n) > 1:
                self.fail(
                    node.func,
                    f"index {n} is bound twice",
                    "give the inner reduction an index letter of its own",
                )
        self.scope.append(set(names))
        body = self.expression(node.args[0])
        self.scope.pop()
        return Reduce(op, binders, body)

    def subscript(self, node: ast.Subscript) -> Expr:
        match node.value:
            case ast.Name(id=name) as t:
                if any(name in names for names in self.scope):
                    self.fail(
                        node,
                        f"{name} is an index here, so {self.segment(node)} has no meaning",
                        f"rename the index or the tensor {name}",
                    )
                if name in REDUCTIONS or name in _ALIASES:
                    self.fail(node, f"{name}[...] reduces an expression", f"write  {name}[i](...)")
                return Access(self.tensor_name(t), self.axes(node.slice, fractions=False), None)
            case ast.Call(func=ast.Name(id="pad")) as call:
                return self.padded(node, call)
            case ast.Call(func=ast.Name(id="grad")) as call:
                return self.grad(call, self.axes(node.slice, fractions=False))
        self.fail(
            node,
            f"{self.segment(node.value)} cannot be read at indices",
            "only a named tensor can: give the expression a name in a statement of its own",
        )

    def padded(self, node: ast.Subscript, call: ast.Call) -> Expr:
        match call.args:
            case [ast.Name() as t]:
                value: Expr = const(0)
            case [ast.Name() as t, v]:
                value = self.expression(v)
                if any(isinstance(x, (Access, Index, Reduce)) for x in walk(value)):
                    self.fail(v, "the value that pad reads outside is a number", "pad(o, -inf)")
            case _:
                self.fail(call, "pad takes a tensor, and the value outside it", "pad(o, -inf)[i-1]")
        return Access(self.tensor_name(t), self.axes(node.slice, fractions=True), value)

    def grad(self, call: ast.Call, axes: tuple[Axis, ...]) -> Expr:
        match call.args:
            case [ast.Name() as of, ast.Name() as wrt]:
                return Grad(self.tensor_name(of), self.tensor_name(wrt), axes)
        self.fail(call, "grad takes a scalar and a tensor of the program", "as in  grad(E, w)[m,n]")

    # -------------------------------------------------------- indices

    def axis_items(self, node: ast.expr) -> list[ast.expr]:
        """The axes in brackets.  x[(i,j)] is one axis: Python's tree hides its parentheses."""
        if isinstance(node, ast.Tuple) and self.parenthesised(node):
            return [node]
        return _items(node)

    def parenthesised(self, node: ast.Tuple) -> bool:
        text = "\n".join(self.lines)
        start = self._position(text, node.lineno, node.col_offset)
        end = self._position(text, node.end_lineno or 0, node.end_col_offset or 0)
        if text[start] != "(":
            return False
        depth = 0
        for k in range(start, end):
            depth += (text[k] == "(") - (text[k] == ")")
            if depth == 0:
                return k == end - 1
        return False

    def _position(self, text: str, line: int, column: int) -> int:
        before = sum(len(x) + 1 for x in self.lines[: line - 1])
        shift = self.shift if line == 1 else 0
        return before + len(self.lines[line - 1].encode()[: column - shift].decode())

    def axes(self, node: ast.expr, *, fractions: bool) -> tuple[Axis, ...]:
        return tuple(self.axis(item, fractions) for item in self.axis_items(node))

    def axis(self, node: ast.expr, fractions: bool) -> Axis:
        if isinstance(node, ast.Tuple):
            for x in node.elts:
                if not isinstance(x, ast.Name):
                    self.fail(x, "a group is made of bare index names", "as in  (i,j)")
                self.index_name(x)
            if not node.elts:
                self.fail(node, "an empty group", "write the indices of the group, as in (i,j)")
            return Group(tuple(x.id for x in node.elts if isinstance(x, ast.Name)))
        if isinstance(node, ast.Slice):
            self.fail(
                node,
                "an index gets its size where it is bound, not where it is used",
                "on the left side, x[i:28] = ..., or in a reduction, sum[m:5](...)",
            )
        result = self.affine(node)
        if not fractions and not result.whole:
            self.fail(
                node,
                f"{self.segment(node)} is not always a whole number",
                "inside pad an index may be a fraction: pad(x)[(p-m)/2]",
            )
        return result

    def index_name(self, node: ast.Name) -> str:
        if any(node.id in names for names in self.scope):
            return node.id
        self.refuse_lost_index(node)
        self.fail(
            node,
            f"{node.id} is not an index here: nothing binds it",
            f"bind it on the left side or in a reduction, as in  sum[{node.id}](...)",
        )

    def affine(self, node: ast.expr) -> Affine:
        match node:
            case ast.Constant(value=int(v)) if not isinstance(v, bool):
                return affine((), v)
            case ast.Constant(value=float()):
                return affine((), self.decimal(node))
            case ast.Name():
                return affine([(self.index_name(node), 1)])
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return _scaled(self.affine(a), Fraction(-1))
            case ast.UnaryOp(op=ast.UAdd(), operand=a):
                return self.affine(a)
            case ast.BinOp(left=a, op=ast.Add() | ast.Sub() as op, right=b):
                x, y = self.affine(a), self.affine(b)
                y = y if isinstance(op, ast.Add) else _scaled(y, Fraction(-1))
                return affine([*x.terms, *y.terms], x.offset + y.offset)
            case ast.BinOp(left=a, op=ast.Mult() | ast.Div() as op, right=b):
                x, y = self.affine(a), self.affine(b)
                if isinstance(op, ast.Div):
                    if not y.terms and y.offset:
                        return _scaled(x, 1 / y.offset)
                elif not x.terms:
                    return _scaled(y, x.offset)
                elif not y.terms:
                    return _scaled(x, y.offset)
        self.fail(
            node,
            f"{self.segment(node)} is not an affine index",
            "an index is a sum of index names times whole numbers, as in  2*i+m-1",
        )


def _scaled(a: Affine, c: Fraction) -> Affine:
    return affine(((n, c * k) for n, k in a.terms), c * a.offset)


def _items(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]
