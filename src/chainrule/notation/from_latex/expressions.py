"""Parse trees -> expressions: what a letter, a bracket, an operator means where it stands."""

from __future__ import annotations

from fractions import Fraction

from lark import Tree

from chainrule.expr import (
    INF,
    PI,
    Call,
    Compare,
    Expr,
    add,
    const,
    divide,
    mul,
    neg,
    power,
)
from chainrule.notation.from_latex.operators import OperatorReader
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
    terms,
    unit,
)

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


class ExpressionReader(OperatorReader):
    """Gives sums, products, fractions, cases and brackets their meaning."""

    with_arguments: set[str]

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


def _opposite(a: Expr | None, b: Expr) -> bool:
    """x > 0 and x <= 0"""
    return (
        isinstance(a, Compare)
        and isinstance(b, Compare)
        and (b.op == _OPPOSITE[a.op] and b.left is a.left and b.right is a.right)
    )
