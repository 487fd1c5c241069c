"""Indices: their names, from where they count, and the axes that are read with them.

Text counts from 0.  A formula in which a sum starts at 1 counts from 1: its subscripts and its
indices are each one more than ours, and x_i is x[i] all the same.  Where a formula has sums that
start at 0 and sums that start at 1, an index without limits must mean the same either way.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NoReturn

from lark import Tree

from chainrule.expr import (
    Affine,
    Axis,
    Expr,
    Group,
    Index,
    Node,
    add,
    affine,
    const,
)
from chainrule.notation.from_latex import parts
from chainrule.notation.from_latex.names import Ambiguous, Names
from chainrule.notation.from_latex.parts import Unit, alone, factors, items, kids, kind, terms, unit
from chainrule.system import Span

FREE, FROM_0, FROM_1 = "?", "0", "1"


class IndexReader:
    """Reads subscripts, limits and conditions; knows the indices in scope."""

    def __init__(self, lines: tuple[str, ...], names: Names) -> None:
        self.lines, self.names = lines, names
        self.spans: dict[tuple[int, Node], Span] = {}
        self.where = 0
        self.scope: dict[str, str] = {}
        self.bound: frozenset[str] = frozenset()  # every index of the formula
        self.from_1 = self.mixed = False  # how the formula counts
        self.counts: dict[str, str] = {}  # N of \sum_{i=1}^N -> i
        self.wholes: frozenset[str] = frozenset()  # computed tensors that have indices

    # ------------------------------------------------------------ places

    def span(self, n: parts.Node) -> Span:
        at: Any = n.meta if isinstance(n, Tree) else n
        if getattr(at, "line", None) is None:
            return Span(1, 1, 1)
        line, column = at.line, at.column
        end = at.end_column if at.end_line == line else len(self.lines[line - 1]) + 1
        return Span(line, column, max(1, (end or column + 1) - column))

    def segment(self, n: parts.Node) -> str:
        line, column, width = self.span(n)
        return self.lines[line - 1][column - 1 : column - 1 + width]

    def remember(self, node: Node, n: parts.Node) -> None:
        self.spans.setdefault((self.where, node), self.span(n))

    def fail(self, n: parts.Node, message: str, hint: str) -> NoReturn:
        raise NotImplementedError

    def expr(self, n: parts.Node) -> Expr:
        raise NotImplementedError

    def tensor(self, u: Unit) -> str:
        try:
            return self.names.name(u, self.bound)
        except Ambiguous as a:
            self.fail(a.node, a.message, a.hint)

    # ------------------------------------------------------------ index names

    def index_of(self, u: Unit) -> str | None:
        """The index in scope that a unit is: i, i', i_{0} for i0."""
        name = index_name(u)
        if any((found := parts.label(sup)[0]) and found.number for sup in u.sups):
            return None  # w^{(2)} is the tensor w2, even where w is an index
        return name if name in self.scope and kind(u.base) != "TEXT" else None

    def index_value(self, name: str) -> Expr:
        shift = self.from_1 and self.scope[name] != FROM_0
        return add(Index(name), const(1)) if shift else Index(name)

    def spread(self, subs: list[parts.Node], u: Unit | None = None) -> list[parts.Node]:
        """One node an axis: ij is two, a word that is part of the name is none."""
        out: list[parts.Node] = []
        for s in subs:
            if u is not None and self.names.is_suffix(u, s, self.bound):
                continue
            n = alone(s)
            if kind(n) == "TEXT":
                continue
            found = [f for _, f in factors(n)]
            beside = {sign for sign, _ in factors(n)} <= {"", "JUXT", "SPACE"}
            numbers = kind(alone(found[0])) == "NUMBER"
            names = [unit(f) for f in found]
            plain = all(
                x is not None and (x.letter or kind(x.base) in ("NUMBER", "PI")) for x in names
            )
            if len(found) > 1 and plain and beside and not numbers:
                out += found
            else:
                out.append(s)
        return out

    # ------------------------------------------------------------ axes

    def axes(
        self, subs: list[parts.Node], *, fractions: bool, u: Unit | None = None
    ) -> tuple[Axis, ...]:
        return tuple(self.axis(n, fractions) for n in self.spread(subs, u))

    def axis(self, n: parts.Node, fractions: bool) -> Axis:
        u = unit(n)
        if u is not None and u.is_group and kind(kids(u.base)[0]) == "LPAR" and not u.sups:
            inside = items(u.base)
            comma = any(kind(c) == "COMMA" for c in kids(kids(u.base)[1]))
            if len(inside) > 1 or comma:
                return Group(tuple(self.index_here(c) for c in inside))
        found = self.affine(n)
        if not fractions and not found.whole:
            self.fail(
                n,
                f"{self.segment(n)} is not always a whole number",
                r"behind pad an index may be a fraction, \operatorname{pad}(x)_{i/2}",
            )
        return self.counted(n, found)

    def counted(self, n: parts.Node, a: Affine) -> Affine:
        """An axis of a formula that counts from 1, counted from 0."""
        if not self.from_1:
            return a
        if a.bare is not None:
            return a
        one = sum((c for name, c in a.terms if self.scope.get(name) == FROM_1), Fraction(0))
        free = sum((c for name, c in a.terms if self.scope.get(name) == FREE), Fraction(0))
        shift = one + free - 1
        if self.mixed and shift != one - (1 if one else 0):
            self.fail(
                n,
                "is this counted from 0 or from 1? The formula has sums of both kinds",
                "let every sum start at 0",
            )
        return affine(a.terms, a.offset + shift)

    def index_here(self, n: parts.Node) -> str:
        u = unit(n)
        name = index_name(u) if u is not None else ""
        if not name:
            self.fail(n, f"{self.segment(n)} is not an index", "as in  x_{i,j}")
        if name not in self.scope:
            letter = name[0]
            self.fail(
                n,
                f"{self.segment(n)} is not an index here: nothing binds it",
                rf"bind it on the left side or in a sum, as in  \sum_{letter}; "
                rf"a word in a name is written  \text{{{name}}}",
            )
        return name

    def affine(self, n: parts.Node) -> Affine:
        n = alone(n)
        match kind(n):
            case "NUMBER":
                return affine((), Fraction(str(n)))
            case "sum":
                total = affine((), 0)
                for sign, t in terms(n):
                    total = _plus(total, self.affine(t), -1 if sign == "-" else 1)
                return total
            case "negative":
                return _plus(affine((), 0), self.affine(kids(n)[1]), -1)
            case "frac" | "product":
                return self.scaled(n)
            case "place" | "list":
                return self.affine(items(n)[0])
        u = unit(n)
        if u is not None and u.is_group and len(items(u.base)) == 1 and not (u.subs or u.sups):
            return self.affine(items(u.base)[0])
        if u is None or u.sups or not index_name(u):
            self.fail(
                n,
                f"{self.segment(n)} is not an affine index",
                "an index is a sum of index names times numbers, as in  2i+m-1",
            )
        return affine([(self.index_here(n), 1)])

    def scaled(self, n: parts.Node) -> Affine:
        if kind(n) == "frac":
            pieces: list[tuple[str, parts.Node]] = [("", kids(n)[1]), ("SLASH", kids(n)[2])]
        else:
            pieces = factors(n)
        total = affine((), 1)
        for sign, piece in pieces:
            x = self.affine(piece)
            if sign == "SLASH" and not x.terms and x.offset:
                total = _times(total, 1 / x.offset)
            elif sign != "SLASH" and not x.terms:
                total = _times(total, x.offset)
            elif sign != "SLASH" and not total.terms:
                total = _times(x, total.offset)
            else:
                self.fail(
                    n,
                    f"{self.segment(n)} is not an affine index",
                    "an index is a sum of index names times numbers, as in  2i+m-1",
                )
        return total


def index_name(u: Unit) -> str:
    """i, i' and i_{0}, which is i0."""
    if kind(u.base) == "PI" and not u.subs:
        return "π"
    if not u.letter or len(u.subs) > 1:
        return ""
    if u.subs:
        n = alone(u.subs[0])
        if kind(n) != "NUMBER" or not str(n).isdigit() or kind(u.base) != "LETTER":
            return ""
        return u.letter + str(n) + "'" * u.primes
    return u.letter + "'" * u.primes


def _plus(a: Affine, b: Affine, c: int) -> Affine:
    return affine([*a.terms, *((n, c * k) for n, k in b.terms)], a.offset + c * b.offset)


def _times(a: Affine, c: Fraction) -> Affine:
    return affine(((n, c * k) for n, k in a.terms), c * a.offset)
