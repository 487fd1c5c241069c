"""Parse trees -> expressions: what a letter, a bracket, an operator means where it stands."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any, NoReturn

from lark import Token, Tree

from chainrule.errors import FormulaError
from chainrule.expr import (
    INF,
    MINUS_ONE,
    PI,
    Access,
    Binder,
    Call,
    Compare,
    Const,
    Expr,
    Grad,
    Partial,
    Reduce,
    Size,
    add,
    const,
    divide,
    mul,
    neg,
    power,
    rebuild,
)
from chainrule.functions import FUNCTIONS
from chainrule.notation.from_latex.indices import IndexReader
from chainrule.notation.from_latex.parts import (
    Node,
    Unit,
    alone,
    derivative,
    differential,
    factors,
    items,
    kids,
    kind,
    scripts,
    terms,
    unit,
)
from chainrule.notation.parse import parse_expression
from chainrule.system import System

COMPARE = {
    "=": "==",
    r"\equiv": "==",
    "<": "<",
    r"\lt": "<",
    ">": ">",
    r"\gt": ">",
    r"\le": "<=",
    r"\leq": "<=",
    r"\leqslant": "<=",
    "≤": "<=",
    r"\ge": ">=",
    r"\geq": ">=",
    r"\geqslant": ">=",
    "≥": ">=",
    r"\ne": "!=",
    r"\neq": "!=",
    "≠": "!=",
}
_OPPOSITE = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
_MAYBE_FUNCTIONS = "fgφψFG"


class ExpressionReader(IndexReader):
    """Gives the trees their meaning; `index names in scope` and 1-based counting are inherited."""

    objective: str | None
    defined: dict[str, str]  # t of ∂E/∂t on a left side -> E
    assigned: set[str]
    with_arguments: set[str]
    known: System | None

    def expr(self, n: Node) -> Expr:
        result = self._expr(n)
        self.remember(result, n)
        return result

    def _expr(self, n: Node) -> Expr:
        match kind(n):
            case "chain":
                return self.chain(n)
            case "sum":
                parts = [(sign, self.expr(t)) for sign, t in terms(n)]
                return add(*(neg(e) if sign == "-" else e for sign, e in parts))
            case "product":
                return self.product(n)
            case "negative":
                return neg(self.expr(kids(n)[1]))
            case "big":
                return self.big(n)
            case "frac":
                return self.fraction(n)
            case "root":
                return self.root(n)
            case "cases":
                return self.cases(n)
            case "place" | "list":
                return self.expr(items(n)[0])
            case "unit":
                return self.unit(n)
        return self.scripted(unit(n) or Unit(n, n))

    # ------------------------------------------------------------ comparisons, sums, products

    def chain(self, n: Node) -> Expr:
        parts = kids(n)
        if len(parts) == 1:
            return self.expr(parts[0])
        found = []
        values = [self.expr(x) for x in parts[::2]]
        for k, op in enumerate(parts[1::2]):
            if str(op) not in COMPARE:
                self.fail(op, f"{op} has no meaning here", "brackets hold a comparison, [i = j]")
            found.append(Compare(COMPARE[str(op)], values[k], values[k + 1]))
        return mul(*found)

    def product(self, n: Node) -> Expr:
        parts = factors(n)
        out: Expr | None = None
        k = 0
        while k < len(parts):
            sign, node = parts[k]
            value, used = self.factor(parts, k)
            if out is None:
                out = value
            elif sign == "SLASH":
                out = self.divided(out, value, node)
                if k + used < len(parts) and parts[k + used][0] == "JUXT":
                    self.refuse_long_denominator(node, parts[k + used][1])
            else:
                self.check_sign(sign, node, parts[k - 1][1])
                out = mul(out, value)
            k += used
        assert out is not None
        return out

    def factor(self, parts: list[tuple[str, Node]], k: int) -> tuple[Expr, int]:
        """One factor, and how many parts it took: ∂E/∂w is three signs but one factor."""
        node = parts[k][1]
        over = differential(node)
        if over is not None and kind(node) == "unit" and k + 1 < len(parts):
            under = differential(parts[k + 1][1])
            if parts[k + 1][0] == "SLASH" and under is not None:
                return self.slope(node, over, under), 2
        u = unit(node)
        if u is not None and u.letter and not u.subs and not u.sups and k + 1 < len(parts):
            after = unit(parts[k + 1][1])
            bracket = after is not None and after.is_group and parts[k + 1][0] == "JUXT"
            if bracket and u.letter in self.with_arguments:
                return self.expr(node), 2
            if bracket and u.letter in _MAYBE_FUNCTIONS and u.letter not in self.assigned:
                self.fail(
                    node,
                    f"is {u.letter}(...) a function or a product?",
                    rf"a product is  {u.letter} \cdot (...); the functions are \sigma, \exp, ...",
                )
        return self.expr(node), 1

    def check_sign(self, sign: str, node: Node, before: Node) -> None:
        u = unit(node)
        if sign == "JUXT" and u is not None and kind(u.base) == "NUMBER":
            self.fail(
                node, "two values stand side by side", r"a product with a number is  a \cdot 2"
            )
        if kind(before) == "unit" and kind(kids(before)[0]) == "FUNC" and sign == "JUXT":
            last = unit(kids(before)[-1])
            if last is not None and not last.is_group and kind(alone(kids(before)[-1])) != "frac":
                name = str(kids(before)[0])
                self.fail(
                    node,
                    f"how far does {name} reach?",
                    rf"write  \{name}(...), or  \cdot  behind its argument",
                )
        if sign in ("STAR", "TIMES", "JUXT", "SPACE"):
            self.plain_products.append(node)

    def divided(self, a: Expr, b: Expr, node: Node) -> Expr:
        if b is const(0):
            self.fail(node, "division by zero", r"infinity is written \infty")
        return divide(a, b)

    def refuse_long_denominator(self, under: Node, after: Node) -> None:
        u = unit(after)
        number = kind(alone(under)) == "NUMBER" and (u is None or u.is_group)
        if not number:
            self.fail(after, "does the denominator go on here?", r"write  \frac{a}{b}")

    def fraction(self, n: Node) -> Expr:
        if (found := derivative(n)) is not None:
            return self.slope(n, *found)
        over, under = kids(n)[1:]
        if (
            kind(alone(items(over)[0])) == "unit"
            and kind(kids(alone(items(over)[0]))[0]) == "PARTIAL"
        ):
            self.fail(
                n, "this derivative cannot be read", r"as in  \frac{\partial E}{\partial w_i}"
            )
        if kind(alone(items(over)[0])) == "PARTIAL":
            self.fail(
                n, "this derivative cannot be read", r"as in  \frac{\partial E}{\partial w_i}"
            )
        return self.divided(self.expr(items(over)[0]), self.expr(items(under)[0]), under)

    def root(self, n: Node) -> Expr:
        inside = [c for c in kids(n) if kind(c) in ("chain", "place")]
        value = self.expr(inside[-1])
        if len(inside) == 1:
            return Call("sqrt", (value,))
        return power(value, self.divided(const(1), self.expr(inside[0]), inside[0]))

    def cases(self, n: Node) -> Expr:
        rows = [[c for c in kids(r) if kind(c) != "AMP"] for r in kids(n) if kind(r) == "row"]
        rows = [r for r in rows if r]
        if not rows or len(rows[-1]) != 2:
            self.fail(
                n,
                "cases have a value and a condition in each row",
                r"as in  a & x > 0 \\ b & \text{otherwise}",
            )
        value, condition = rows[-1]
        result = self.expr(value)
        if kind(condition) != "OTHERWISE":
            last = self.expr(condition)
            first = self.expr(rows[0][1]) if len(rows) == 2 and len(rows[0]) == 2 else None
            if not _opposite(first, last):
                self.fail(
                    condition, "the last row must be what is left", r"write  \text{otherwise}"
                )
        for row in reversed(rows[:-1]):
            if len(row) != 2 or kind(row[1]) == "OTHERWISE":
                self.fail(row[0], "this row has no condition", r"as in  a & x > 0 \\")
            result = Call("where", (self.expr(row[1]), self.expr(row[0]), result))
        return result

    # ------------------------------------------------------------ operators and functions

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
        found = self.binders(around, head)
        for name, _, _ in found:
            if name in self.scope:
                self.fail(head, f"index {name} is bound twice", "give the inner one another letter")
        outer = dict(self.scope)
        for name, _, base in found:
            self.scope[name] = base
        conditions = [self.chain(c) for c in self.sieves(around)]
        body_node = kids(n)[-1]
        self.bodies.append((tuple((b[0]) for b in found), body_node))
        body = mul(*conditions, self.expr(body_node)) if conditions else self.expr(body_node)
        self.scope = outer
        binders: tuple[Binder, ...] = tuple((name, size) for name, size, _ in found)
        inner = alone(body_node)
        same = kind(inner) == "big" and str(kids(inner)[0]) == op and not conditions
        if op in ("sum", "prod") and same and isinstance(body, Reduce) and body.op == op:
            return Reduce(op, (*binders, *body.binders), body.body)
        return Reduce(op, binders, body)

    def unit(self, n: Node) -> Expr:
        head = kids(n)[0]
        match kind(head):
            case "PREFIX":
                return self.prefixed(n)
            case "PARTIAL":
                self.fail(
                    n, "∂ stands in a derivative only", r"as in  \frac{\partial E}{\partial w}"
                )
            case "FUNC":
                assert isinstance(n, Tree)
                return self.function(n, str(head))
        found = unit(n)
        assert found is not None
        return self.scripted(found)

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

    # ------------------------------------------------------------ atoms

    def scripted(self, u: Unit) -> Expr:
        base = u.base
        if u.letter:
            return self.named(u)
        if u.subs or u.primes:
            self.fail(u.node, "only a name has indices", "give the expression a name of its own")
        result = self.atom(base)
        for sup in u.sups:
            result = self.raised(result, sup)
        return result

    def raised(self, base: Expr, sup: Node) -> Expr:
        if kind(alone(sup)) in ("TOP", "STAR", "INFTY"):
            self.fail(sup, "this is no power", "a transpose is another order of indices, w_{j,i}")
        exponent = self.expr(sup)
        if base is const(0) and isinstance(exponent, Const) and exponent.value < 0:
            self.fail(sup, "division by zero", r"infinity is written \infty")
        return power(base, exponent)

    def atom(self, n: Node) -> Expr:
        match kind(n):
            case "NUMBER":
                return const(self.number_value(n))
            case "PI":
                return PI
            case "INFTY":
                return INF
            case "group":
                return self.group(n)
            case "frac" | "root" | "cases" | "unit":
                return self.expr(n)
        self.fail(n, f"{self.segment(n)} has no value", "write the whole formula out")

    def number_value(self, n: Node) -> Fraction:
        text = str(n)
        if len(text) > 1000:
            self.fail(
                n, "this number has too many digits", "numbers are written 2, 0.1, \\frac{1}{3}"
            )
        return Fraction(text)

    def group(self, n: Node) -> Expr:
        inside = items(n)
        opening = kind(kids(n)[0])
        if len(inside) != 1:
            self.fail(n, "several values in one bracket", r"two values are taken by \max(a, b)")
        if opening == "LFLOOR":
            self.fail(n, "only a size is rounded down", "sizes stand in limits and conditions")
        value = self.expr(inside[0])
        return Call("abs", (value,)) if opening == "BARL" else value

    def named(self, u: Unit) -> Expr:
        name = u.letter
        lone = not u.subs and not u.primes
        if name == "e" and lone and u.sups and "e" not in self.assigned and "e" not in self.scope:
            if self.names.role(u, u.sups[0], frozenset())[0] == "power" or len(u.sups) == 1:
                found = u.sups[0]
                if not self.is_layer_number(found):
                    return Call("exp", (self.expr(found),))
        index = self.index_of(u)
        if index is not None:
            result: Expr = self.index_value(index)
            for sup in u.sups:
                result = self.raised(result, sup)
            return result
        return self.read(u)

    def read(self, u: Unit, prefix: str = "") -> Expr:
        """A tensor at its indices, raised to what stands above."""
        powers: list[Node] = []
        axes: list[Node] = []
        for sup in u.sups:
            role, found = self.names.role(u, sup, self.bound)
            if role == "power":
                powers.append(sup)
            elif role == "axis":
                axes.append(sup)
            elif role == "delta":
                whole = Unit(u.node, Token("LETTER", found.text), u.subs, [], 0)
                return self.read(whole, "δ")
        if len(powers) > 1:
            self.fail(powers[1], "two powers above one name", "use brackets")
        tensor = prefix + self.tensor(u)
        if tensor == "δ" and "δ" not in self.assigned and kind(u.base) == "LETTER":
            if len(self.spread(u.subs)) == 2:
                self.fail(
                    u.node,
                    "is this Kronecker's δ or an error term?",
                    r"Kronecker's δ is  [i = j], the δ of x is  \delta x_{i,j}",
                )
        result: Expr = Access(tensor, self.axes([*axes, *u.subs], fractions=False), None)
        for sup in powers:
            result = self.raised(result, sup)
        return result

    def prefixed(self, n: Node) -> Expr:
        """δx and Δw are names."""
        prefix = str(kids(n)[0])
        inner = kids(n)[1]
        if kind(inner) == "unit" and kind(kids(inner)[0]) == "PREFIX":
            found = self.prefixed(inner)
            if isinstance(found, Access):
                return Access(prefix + found.tensor, found.axes, found.pad)
        u = unit(inner)
        if u is None or not u.letter:
            self.fail(n, f"{prefix} has no name behind it", r"as in  \delta x_{i}")
        return self.read(u, prefix)

    # ------------------------------------------------------------ derivatives

    def slope(self, n: Node, over: Node, under: Node) -> Expr:
        """∂E/∂w is δw where the text defines it, else grad(E, w); ∂x_i/∂w_m stays a Partial."""
        top, bottom = self.value_of(over), self.expr(under)
        if not isinstance(top, Access) or not isinstance(bottom, Access) or bottom.pad is not None:
            self.fail(
                n,
                "a derivative is of one tensor by another",
                r"as in  \frac{\partial E}{\partial w_{m,n}}",
            )
        if top.axes or top.tensor in self.wholes:
            return Partial(top, bottom)
        t, e = bottom.tensor, top.tensor
        if self.defined.get(t) == e or e not in self.assigned or self.known is not None:
            return Access("δ" + t, bottom.axes, None)
        return Grad(e, t, bottom.axes)

    def value_of(self, over: Node) -> Expr:
        parts = factors(over)
        if len(parts) == 2 and parts[1][0] == "JUXT":
            u = unit(parts[1][1])
            if u is not None and u.is_group:  # ∂J(θ)
                return self.expr(parts[0][1])
        return self.expr(over)

    def is_layer_number(self, sup: Node) -> bool:
        u = unit(sup)
        return u is not None and u.is_group and kind(alone(items(u.base)[0])) == "NUMBER"

    def fail(self, n: Node, message: str, hint: str) -> NoReturn:
        raise self.error(n, message, hint)

    def error(self, n: Node, message: str, hint: str) -> FormulaError:
        span = self.span(n)
        line = self.lines[span.line - 1]
        return FormulaError(
            message,
            line=span.line,
            column=span.column,
            width=span.width,
            source_line=line,
            hint=hint,
        )


def scripts_before(n: Tree[Any]) -> Unit:
    """The scripts of a function itself, its argument left out."""
    return scripts(Tree(n.data, n.children[:-1], n.meta))


def _opposite(a: Expr | None, b: Expr) -> bool:
    """x > 0 and x <= 0"""
    return (
        isinstance(a, Compare)
        and isinstance(b, Compare)
        and (b.op == _OPPOSITE[a.op] and b.left is a.left and b.right is a.right)
    )
