"""Functions, and operators that run over indices."""

from __future__ import annotations

import functools
from typing import Any

from lark import Tree

from chainrule.expr import (
    MINUS_ONE,
    Access,
    Binder,
    Call,
    Expr,
    Reduce,
    Size,
    const,
    mul,
    power,
    rebuild,
)
from chainrule.functions import FUNCTIONS
from chainrule.notation.from_latex.parts import (
    Node,
    Unit,
    alone,
    items,
    kids,
    kind,
    scripts,
    unit,
)
from chainrule.notation.from_latex.tensors import TensorReader
from chainrule.notation.parse import parse_expression


class OperatorReader(TensorReader):
    """Reads \\sum_i, \\max(a, b), \\sigma'(z), and pad and size."""

    def big(self, n: Node) -> Expr:
        head = kids(n)[0]
        if kind(head) == "FUNC":
            assert isinstance(n, Tree)
            return self.applied(str(head), scripts(n), [self.expr(kids(n)[-1])], n)
        op = str(head)
        assert isinstance(n, Tree)
        around = scripts(n)
        if not around.subs:
            self.fail(head, f"{op} runs over no index", f"as in  \\{op}_{{i}} x_i")
        if around.primes:
            self.fail(head, f"a prime behind {op} says nothing", "remove it")
        found = self.binders(around, head)
        for name, _, _ in found:
            if name in self.scope:
                self.fail(head, f"index {name} is bound twice", "give the inner one another letter")
        outer = dict(self.scope)
        for name, _, base in found:
            self.scope[name] = base
        conditions = [self.chain(c) for c in self.sieves(around)]
        body_node = kids(n)[-1]
        body = mul(*conditions, self.expr(body_node)) if conditions else self.expr(body_node)
        self.scope = outer
        binders: tuple[Binder, ...] = tuple((name, size) for name, size, _ in found)
        inner = alone(body_node)
        same = kind(inner) == "big" and str(kids(inner)[0]) == op and not conditions
        if op in ("sum", "prod") and same and isinstance(body, Reduce) and body.op == op:
            return Reduce(op, (*binders, *body.binders), body.body)
        return Reduce(op, binders, body)

    def function(self, n: Tree[Any], name: str) -> Expr:
        argument = kids(n)[-1]
        own, u = scripts_before(n), unit(argument)
        if name == "size":
            return self.size(n, own, argument)
        if name == "pad":
            return self.pad(n, u)
        sups: list[Node] = []
        if u is not None and u.is_group and kind(kids(u.base)[0]) not in ("BARL", "LFLOOR"):
            if u.subs:
                self.fail(
                    u.node,
                    "a function's value has no indices",
                    f"give it a name of its own, or write  {name}(x_i)",
                )
            arguments = [self.expr(c) for c in items(u.base)]
            sups = u.sups
        else:
            arguments = [self.expr(argument)]
        result = self.applied(name, own, arguments, n)
        for sup in sups:
            result = self.raised(result, sup)
        return result

    def applied(self, name: str, own: Unit, arguments: list[Expr], n: Node) -> Expr:
        if own.subs:
            hint = "write  \\frac{\\log x}{\\log 2}" if name == "log" else "it takes no indices"
            self.fail(own.subs[0], f"{name} cannot have a subscript", hint)
        if name in ("max", "min"):
            if len(arguments) < 2:
                self.fail(n, f"{name} of one value", f"as in  \\{name}(a, b), or  \\{name}_i x_i")
            whole = {"max": "maximum", "min": "minimum"}[name]
            result = functools.reduce(lambda a, b: Call(whole, (a, b)), arguments)
        elif len(arguments) != 1:
            self.fail(n, f"{name} takes 1 argument, not {len(arguments)}", f"as in  \\{name}(a)")
        elif own.primes:
            result = self.derived(name, arguments[0], n)
        else:
            result = Call(name, (arguments[0],))
        for sup in own.sups:
            exponent = self.expr(sup)
            if exponent is MINUS_ONE:
                self.fail(
                    sup,
                    f"{name}^{{-1}} may be an inverse function or a quotient",
                    r"a quotient is  \frac{1}{...}",
                )
            result = power(result, exponent)
        return result

    def derived(self, name: str, a: Expr, n: Node) -> Expr:
        """σ'(z), from the table of derivatives."""
        row = FUNCTIONS[name]
        if row.derivative is None:
            self.fail(n, f"{name} has no derivative here", "write it out")
        letters = {"a": a, "y": Call(name, (a,))}

        def go(x: Expr) -> Expr:
            return letters[x.tensor] if isinstance(x, Access) else rebuild(x, go)

        return go(parse_expression(row.derivative[0]))

    def pad(self, n: Node, u: Unit | None) -> Expr:
        inside = items(u.base) if u is not None and u.is_group else []
        if u is None or not 1 <= len(inside) <= 2:
            self.fail(
                n,
                "pad takes a tensor, and perhaps the value outside it",
                r"as in  \operatorname{pad}(o)_{i-1}",
            )
        read = self.expr(inside[0])
        if not isinstance(read, Access) or read.axes:
            self.fail(
                inside[0], "pad takes the name of a tensor", r"as in  \operatorname{pad}(o)_{i-1}"
            )
        value = self.expr(inside[1]) if len(inside) == 2 else const(0)
        result: Expr = Access(read.tensor, self.axes(u.subs, fractions=True), value)
        for sup in u.sups:
            result = self.raised(result, sup)
        return result

    def size(self, n: Node, own: Unit, argument: Node) -> Expr:
        read = self.expr(argument)
        axis = alone(own.subs[0]) if own.subs else None
        if not isinstance(read, Access) or axis is None or not str(axis).isdigit():
            self.fail(
                n,
                "size takes the number of an axis and a tensor",
                r"as in  \operatorname{size}_{0}(o)",
            )
        return Size(read.tensor, int(str(axis)))


def scripts_before(n: Tree[Any]) -> Unit:
    """The scripts of a function itself, its argument left out."""
    return scripts(Tree(n.data, n.children[:-1], n.meta))
