"""Names where they stand: an index, a tensor at its indices, δx, a derivative."""

from __future__ import annotations

from typing import NoReturn

from lark import Token

from chainrule.errors import FormulaError
from chainrule.expr import (
    Access,
    Call,
    Const,
    Expr,
    Grad,
    Partial,
    const,
    power,
)
from chainrule.notation.from_latex.limits import LimitReader
from chainrule.notation.from_latex.parts import (
    Node,
    Unit,
    alone,
    factors,
    items,
    kids,
    kind,
    unit,
)
from chainrule.system import System


class TensorReader(LimitReader):
    """Reads names; `expr` and what the whole text says come from above."""

    objective: str | None
    defined: dict[str, str]  # t of ∂E/∂t on a left side -> E
    assigned: set[str]
    known: System | None

    def chain(self, n: Node) -> Expr:
        raise NotImplementedError

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

    def is_layer_number(self, sup: Node) -> bool:
        u = unit(sup)
        return u is not None and u.is_group and kind(alone(items(u.base)[0])) == "NUMBER"

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
        result: Expr = Access(tensor, self.axes([*axes, *u.subs], fractions=False, u=u), None)
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

    def raised(self, base: Expr, sup: Node) -> Expr:
        if kind(alone(sup)) in ("TOP", "STAR", "INFTY"):
            self.fail(sup, "this is no power", "a transpose is another order of indices, w_{j,i}")
        exponent = self.expr(sup)
        if base is const(0) and isinstance(exponent, Const) and exponent.value < 0:
            self.fail(sup, "division by zero", r"infinity is written \infty")
        return power(base, exponent)

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
