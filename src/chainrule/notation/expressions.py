"""Expressions: numbers, arithmetic, functions, reductions, and tensors read at indices."""

from __future__ import annotations

import ast
import functools
import math
from fractions import Fraction
from typing import NoReturn

from chainrule.expr import (
    INF,
    PI,
    Access,
    Axis,
    Call,
    Compare,
    Const,
    Expr,
    Grad,
    Index,
    Mul,
    Pow,
    Reduce,
    add,
    const,
    divide,
    mul,
    neg,
    power,
    walk,
)
from chainrule.functions import COMPARISONS, FUNCTIONS, REDUCTIONS
from chainrule.notation.indices import ALIASES, IndexReader, canonical, items
from chainrule.notation.words import (
    ATTRIBUTES,
    FORMS,
    INSTEAD,
    MODULES,
    NUMBERS_HINT,
    OPERATORS,
    functions_hint,
    suggest,
    word,
)

_COMPARE = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
assert set(_COMPARE.values()) == set(COMPARISONS)

_SEVERAL = ("maximum", "minimum")  # take two arguments or more


class ExpressionReader(IndexReader):
    """Gives Python's expressions their meaning as formulas."""

    def expression(self, node: ast.expr) -> Expr:
        result = self._expression(node)
        self.check_range(node, result)
        self.remember(result, node)
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
            case ast.BinOp():
                return self.arithmetic(node)
            case ast.Compare(left=left, ops=ops, comparators=rest):
                return self.comparison(node, [left, *rest], ops)
            case ast.Call():
                return self.call(node)
            case ast.Subscript():
                return self.subscript(node)
            case ast.BoolOp(op=op):
                self.fail(node, *word("and" if isinstance(op, ast.And) else "or"))
            case ast.UnaryOp(op=ast.Not()):
                self.fail(node, *word("not"))
            case ast.IfExp():
                self.fail(node, *word("if"))
            case ast.Lambda():
                self.fail(node, *word("lambda"))
            case ast.Attribute():
                self.attribute(node, node)
        self.fail(
            node,
            f"{self.segment(node)} is not part of the language",
            "a formula is made of numbers, tensors, functions, brackets and reductions",
        )

    def arithmetic(self, node: ast.BinOp) -> Expr:
        a, b = node.left, node.right
        if type(node.op) in OPERATORS:
            self.fail(node, *OPERATORS[type(node.op)])
        x, y = self.expression(a), self.expression(b)
        match node.op:
            case ast.Add():
                return add(x, y)
            case ast.Sub():
                return add(x, neg(y))
            case ast.Mult():
                return mul(x, y)
            case ast.Div():
                if y is const(0):
                    self.fail(node, "division by zero", "infinity is written inf")
                return divide(x, y)
            case ast.Pow():
                if x is const(0) and isinstance(y, Const) and y.value < 0:
                    self.fail(node, "division by zero", "infinity is written inf")
                return power(x, y)
        self.fail(node, "this operator is not part of the language", "the operators are + - * / **")

    def constant(self, node: ast.Constant) -> Expr:
        match node.value:
            case bool() | str() | bytes() | complex() | None:
                pass
            case int(v):
                return const(v)
            case float():
                return const(self.decimal(node))
        self.fail(node, f"{self.segment(node)} is not a real number", NUMBERS_HINT)

    def check_range(self, node: ast.expr, e: Expr) -> None:
        """Numbers stay within float64: every back end has them, and folding them is quick."""
        first = e.factors[0] if isinstance(e, Mul) else e
        match first:
            case Const(value):
                size = _log2(value)
            case Pow(Const(base), Const(exponent)) if base:
                size = _log2(base) * max(-1e4, min(1e4, float(exponent)))
            case _:
                return
        if size >= 1024:
            self.fail(
                node,
                f"{_clipped(self.segment(node))} is beyond the range of float64",
                "numbers reach from 5e-324 to 1.8e308; more than that is inf",
            )

    def name(self, node: ast.Name) -> Expr:
        name = node.id
        if self.is_index(name):
            return Index(canonical(name))
        if name == "pi":
            return PI
        if name == "inf":
            return INF
        if name in FUNCTIONS or name in REDUCTIONS or name in ("pad", "size", "grad"):
            form = f"{name}[i](...)" if name in REDUCTIONS else f"{name}(...)"
            self.fail(node, f"{name} is a word of the language, not a tensor", f"write  {form}")
        self.refuse_lost_index(node)
        return Access(canonical(name), (), None)

    def comparison(self, node: ast.expr, parts: list[ast.expr], ops: list[ast.cmpop]) -> Expr:
        for op in ops:
            if isinstance(op, (ast.In, ast.NotIn)):
                self.fail(node, *word("in"))
            if isinstance(op, (ast.Is, ast.IsNot)):
                self.fail(node, *word("is"))
        values = [self.expression(x) for x in parts]
        pairs = zip(ops, values, values[1:], strict=False)
        return mul(*(Compare(_COMPARE[type(op)], a, b) for op, a, b in pairs))

    def attribute(self, place: ast.expr, node: ast.Attribute) -> NoReturn:
        owner = self.segment(node.value)
        if owner in MODULES:
            form = f"{node.attr}[i](...)" if node.attr in REDUCTIONS else f"{node.attr}(...)"
            hint = f"write  {form if node.attr not in ('pi', 'inf') else node.attr}"
            hint = INSTEAD.get(node.attr, hint)
        elif node.attr in FUNCTIONS:
            hint = f"write  {node.attr}({owner})"
        else:
            hint = ATTRIBUTES.get(node.attr, "use a plain name, as in  {0}_" + node.attr)
            hint = hint.format(owner)
        self.fail(place, "names have no dots", hint)

    # -------------------------------------------------------- functions and reductions

    def call(self, node: ast.Call) -> Expr:
        match node.func:
            case ast.Subscript(value=ast.Name(id=op), slice=indices):
                return self.reduction(node, ALIASES.get(op, op), indices)
            case ast.Name(id="size"):
                return self.size(node)
            case ast.Name(id="grad"):
                return self.grad(node, node, ())
            case ast.Name(id="pad"):
                self.fail(node, "pad(t) is read at indices", "as in  pad(o)[i-1]")
            case ast.Name(id=name):
                return self.function(node, name)
            case ast.Attribute() as attribute:
                self.attribute(node, attribute)
            case ast.Constant() | ast.BinOp() | ast.Call() | ast.Subscript() as value:
                text = self.segment(value)
                self.fail(node, f"{text} cannot be called", "a product is written with *")
        self.fail(node, f"{self.segment(node.func)} cannot be called", functions_hint())

    def function(self, node: ast.Call, name: str) -> Expr:
        if name in REDUCTIONS or name in ALIASES:
            other = {
                "max": "; of two values: maximum(a, b)",
                "min": "; of two values: minimum(a, b)",
            }
            self.fail(
                node,
                f"{name} needs the indices that it runs over",
                f"write  {name}[i](...)" + other.get(name, ""),
            )
        if name not in FUNCTIONS:
            hint = suggest(name) or f"to multiply, write  {name}*(...); {functions_hint()}"
            self.fail(node, f"there is no function {name}", hint)
        arity = FUNCTIONS[name].arity
        form = "as in  " + FORMS[arity].format(name)
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self.fail(node, f"{name} takes plain arguments only", form)
        if name in _SEVERAL and len(node.args) > arity:  # of equal arguments still the first
            several = [self.expression(a) for a in node.args]
            return functools.reduce(lambda a, b: Call(name, (a, b)), several)
        if len(node.args) != arity:
            takes = "1 argument" if arity == 1 else f"{arity} arguments"
            self.fail(node, f"{name} takes {takes}, not {len(node.args)}", form)
        args = tuple(self.expression(a) for a in node.args)
        return power(*args) if name == "pow" else Call(name, args)

    def reduction(self, node: ast.Call, op: str, indices: ast.expr) -> Expr:
        form = f"as in  {op}[i](x[i])"
        if op in FUNCTIONS:
            self.fail(node, f"{op} takes no indices", f"write  {op}(...)")
        if op not in REDUCTIONS:
            hint = f"the reductions are {', '.join(REDUCTIONS)}"
            product = f"to multiply, write  {self.segment(node.func)}*(...); "
            self.fail(node, f"there is no reduction {op}", suggest(op) or product + hint)
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            self.fail(node, f"{op}[...] takes a plain expression only", form)
        if len(node.args) != 1:
            count = len(node.args) or "none"
            self.fail(node, f"{op}[...] takes one expression, not {count}", form)
        binders = tuple(self.binder(x) for x in items(indices))
        names = [n for n, _ in binders]
        for n in names:
            if self.is_index(n) or names.count(n) > 1:
                inner = "give the inner reduction an index letter of its own"
                once = "name each index once"
                hint = once if names.count(n) > 1 else inner
                self.fail(node.func, f"index {n} is bound twice", hint)
        self.scope.append(set(names))
        body = self.expression(node.args[0])
        self.scope.pop()
        return Reduce(op, binders, body)

    # -------------------------------------------------------- reading tensors

    def subscript(self, node: ast.Subscript) -> Expr:
        match node.value:
            case ast.Name(id=name) as t:
                self.refuse_subscript(node, name)
                tensor = self.tensor_name(t)
                return Access(tensor, self.axes(node.slice, tensor, fractions=False), None)
            case ast.Call(func=ast.Name(id="pad")) as call:
                return self.padded(node, call)
            case ast.Call(func=ast.Name(id="grad")) as call:
                return self.grad(node, call, self.axes(node.slice, "x", fractions=False))
            case ast.Attribute() as attribute:
                self.attribute(node, attribute)
        self.fail(
            node,
            f"{self.segment(node.value)} cannot be read at indices",
            "only a named tensor can: give the expression a name in a statement of its own",
        )

    def refuse_subscript(self, node: ast.Subscript, name: str) -> None:
        if self.is_index(name):
            self.fail(
                node,
                f"{name} is an index here, so {self.segment(node)} has no meaning",
                f"rename the index or the tensor {name}",
            )
        if name in REDUCTIONS or name in ALIASES:
            self.fail(node, f"{name}[...] reduces an expression", f"write  {name}[i](...)")
        if name in FUNCTIONS:
            self.fail(node, f"{name} is a function, not a tensor", f"write  {name}(...)")
        if name in ("pi", "inf"):
            self.fail(node, f"{name} is a number, it has no indices", f"write  {name}")

    def padded(self, node: ast.Subscript, call: ast.Call) -> Expr:
        match call.args:
            case [ast.Name() as t] if not call.keywords:
                value: Expr = const(0)
            case [ast.Name() as t, v] if not call.keywords:
                value = self.expression(v)
                if any(isinstance(x, (Access, Grad, Index, Reduce)) for x in walk(value)):
                    self.fail(v, "what pad reads outside is a number", "as in  pad(o, -inf)[i-1]")
            case [ast.expr() as t, *_] if not isinstance(t, ast.Starred):
                self.fail(
                    call,
                    f"pad takes a named tensor, not {self.segment(t)}",
                    f"give it a name first: t[i] = {self.segment(t)}, then  pad(t)[i-1]",
                )
            case _:
                self.fail(
                    call,
                    "pad takes a tensor, and perhaps the value outside it",
                    "as in  pad(o)[i-1], or  pad(o, -inf)[i-1]",
                )
        tensor = self.tensor_name(t)
        return Access(tensor, self.axes(node.slice, tensor, fractions=True), value)

    def grad(self, node: ast.expr, call: ast.Call, axes: tuple[Axis, ...]) -> Expr:
        match call.args:
            case [ast.Name() as of, ast.Name() as wrt] if not call.keywords:
                return Grad(self.tensor_name(of), self.tensor_name(wrt), axes)
        self.fail(call, "grad takes the names of a scalar and a tensor", "as in  grad(E, w)[m,n]")


def _log2(value: Fraction) -> float:
    if not value:
        return 0.0
    return math.log2(abs(value.numerator)) - math.log2(value.denominator)


def _clipped(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:12]}...{text[-12:]}"
