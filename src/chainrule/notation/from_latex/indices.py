"""Indices: where they are bound, over what they run, and the axes that are read with them.

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
    Call,
    Expr,
    Group,
    Index,
    Node,
    Size,
    add,
    affine,
    const,
    mul,
    neg,
)
from chainrule.notation.from_latex import parts
from chainrule.notation.from_latex.names import Ambiguous, Names
from chainrule.notation.from_latex.parts import Unit, alone, factors, items, kids, kind, terms, unit
from chainrule.system import Span

FREE, FROM_0, FROM_1 = "?", "0", "1"
Found = tuple[str, "Expr | None", str]  # an index, its size, from where it counts
_BELOW = ("<", r"\lt")
_AT_MOST = (r"\le", r"\leq", "≤", r"\leqslant")
_SHIFT = "shift the index, so that it starts at 0 or 1"


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
        self.bodies: list[tuple[tuple[str, ...], parts.Node]] = []
        self.plain_products: list[parts.Node] = []
        self.wholes: dict[str, int] = {}

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
            numbers = kind(alone(found[0])) == "NUMBER"
            names = [unit(f) for f in found]
            plain = all(
                x is not None and (x.letter or kind(x.base) in ("NUMBER", "PI")) for x in names
            )
            if len(found) > 1 and plain and not numbers:
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

    # ------------------------------------------------------------ what a sum runs over

    def binders(self, around: Unit, head: parts.Node) -> list[Found]:
        """The indices of an operator; limits by symbols are what the shapes say anyway."""
        if len(around.sups) > 1:
            self.fail(around.sups[1], "two upper limits", "write one")
        upper = around.sups[0] if around.sups else None
        out: list[Found] = []
        waiting: list[str] = []  # i of  i, j = 0
        for c in around.subs:
            rel = kids(c)[1::2]
            sides = kids(c)[::2]
            if not rel:
                waiting += [self.new_index(n) for n in self.several(c)]
                continue
            low, name, size = self.limits(c, [str(r) for r in rel], sides, upper)
            if str(rel[0]) == "=":
                out += [(w, size, low) for w in waiting]
            else:
                out += [(w, None, FREE) for w in waiting]
            waiting = []
            out.append((name, size, low))
        if upper is not None and waiting:
            if self.limit(upper) is not None:
                self.fail(upper, "an upper limit needs a lower one", r"as in  \sum_{i=0}^{3}")
            low = FREE
        out += [(w, None, FREE) for w in waiting]
        return out

    def several(self, c: parts.Node) -> list[parts.Node]:
        u = unit(c)
        if u is not None and u.is_group and kind(kids(u.base)[0]) == "LPAR":
            return items(u.base)
        return self.spread([c])

    def new_index(self, n: parts.Node) -> str:
        u = unit(n)
        name = index_name(u) if u is not None and not u.sups else ""
        if not name:
            self.fail(
                n,
                f"a new index is a bare name, not {self.segment(n)}",
                r"as in  \sum_{i,j}, or  \sum_{i=0}^{3}",
            )
        return name

    def limits(
        self, c: parts.Node, rel: list[str], sides: list[parts.Node], upper: parts.Node | None
    ) -> tuple[str, str, Expr | None]:
        """Where an index starts, its name, its size."""
        if len(rel) == 2 and rel[0] in _AT_MOST and rel[1] in (*_BELOW, *_AT_MOST):
            low, name = self.low(sides[0]), self.new_index(sides[1])
            last = rel[1] in _AT_MOST
            return low, name, self.count(low, sides[2], last, name)
        if len(rel) == 1 and rel[0] == "=":
            name, low = self.new_index(sides[0]), self.low(sides[1])
            return low, name, None if upper is None else self.count(low, upper, True, name)
        if len(rel) == 1 and rel[0] in (r"\in", "∈"):
            return FREE, self.new_index(sides[0]), None
        if len(rel) == 1 and rel[0] in _BELOW:
            name = self.new_index(sides[0])
            return FROM_0, name, self.count(FROM_0, sides[1], False, name)
        if len(rel) == 1 and rel[0] in (r"\ne", r"\neq", "≠"):
            new = [s for s in sides if (u := unit(s)) is None or index_name(u) not in self.scope]
            if len(new) == 1:
                return FREE, self.new_index(new[0]), None
        self.fail(
            c,
            f"{self.segment(c)} says not what the index runs over",
            r"as in  \sum_{i=0}^{3}, or  \sum_{0 \leq i < 4}",
        )

    def sieves(self, around: Unit) -> list[parts.Node]:
        """Conditions below an operator that leave terms out: j \\neq i."""
        signs = (r"\ne", r"\neq", "≠")
        return [c for c in around.subs if len(kids(c)) == 3 and str(kids(c)[1]) in signs]

    def low(self, n: parts.Node) -> str:
        text = str(alone(n)) if kind(alone(n)) == "NUMBER" else ""
        if text not in ("0", "1"):
            self.fail(n, f"an index starts at 0 or 1, not at {self.segment(n)}", _SHIFT)
        return text

    def count(self, low: str, upper: parts.Node, last: bool, name: str) -> Expr | None:
        """How many values: from low to upper, the last included or not; None for a symbol."""
        if last and low == FROM_0 and (rest := _less_one(upper)) is not None:
            size = self.limit(rest)
        else:
            size = self.limit(upper)
            if size is not None and last and low == FROM_0:
                size = add(size, const(1))
            elif size is not None and not last and low == FROM_1:
                size = add(size, const(-1))
        symbol: parts.Node | None = upper if last == (low == FROM_1) else None
        if last and low == FROM_0:
            symbol = _less_one(upper)
        u = unit(symbol) if symbol is not None else None
        if size is None and u is not None and u.letter and not (u.sups or u.primes or u.subs):
            self.counts.setdefault(u.letter, name)
        return size

    def limit(self, n: parts.Node) -> Expr | None:
        """A size made of numbers, size, min and floor; None where it has other names in it."""
        n = alone(n)
        match kind(n):
            case "NUMBER":
                return const(int(str(n))) if str(n).isdigit() else None
            case "sum":
                pieces = [(sign, self.limit(t)) for sign, t in terms(n)]
                if any(e is None for _, e in pieces):
                    return None
                return add(*(neg(e) if s == "-" else e for s, e in pieces if e is not None))
            case "product":
                found = [(s, self.limit(f)) for s, f in factors(n)]
                if any(e is None or s == "SLASH" for s, e in found):
                    return None
                return mul(*(e for _, e in found if e is not None))
            case "unit" if kind(kids(n)[0]) == "FUNC":
                return self.limit_function(n)
        u = unit(n)
        if u is None or not u.is_group or u.subs or u.sups:
            return None
        if kind(kids(u.base)[0]) != "LFLOOR":
            return self.limit(items(u.base)[0]) if len(items(u.base)) == 1 else None
        inside = alone(items(u.base)[0])
        if kind(inside) != "frac":
            return None
        over, under = (self.limit(items(p)[0]) for p in kids(inside)[1:])
        return None if over is None or under is None else Call("//", (over, under))

    def limit_function(self, n: parts.Node) -> Expr | None:
        if str(kids(n)[0]) == "size":
            found = self.expr(n)
            return found if isinstance(found, Size) else None
        u = unit(kids(n)[-1])
        if str(kids(n)[0]) != "min" or u is None or not u.is_group:
            return None
        sizes = [self.limit(c) for c in items(u.base)]
        return None if None in sizes else Call("min", tuple(s for s in sizes if s is not None))


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


def _less_one(n: parts.Node) -> parts.Node | None:
    """N of N - 1."""
    n = alone(n)
    if kind(n) != "sum" or len(kids(n)) < 3:
        return None
    *rest, minus, one = kids(n)
    if kind(minus) == "MINUS" and kind(alone(one)) == "NUMBER" and str(alone(one)) == "1":
        assert isinstance(n, Tree)
        return Tree("sum", rest, n.meta)
    return None


def _plus(a: Affine, b: Affine, c: int) -> Affine:
    return affine([*a.terms, *((n, c * k) for n, k in b.terms)], a.offset + c * b.offset)


def _times(a: Affine, c: Fraction) -> Affine:
    return affine(((n, c * k) for n, k in a.terms), c * a.offset)
