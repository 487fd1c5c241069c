"""Over what an index runs: limits of sums, and the conditions behind a formula."""

from __future__ import annotations

from collections.abc import Collection

from lark import Tree

from chainrule.expr import (
    Call,
    Expr,
    Size,
    add,
    const,
    mul,
    neg,
)
from chainrule.notation.from_latex import parts
from chainrule.notation.from_latex.indices import FREE, FROM_0, FROM_1, IndexReader, index_name
from chainrule.notation.from_latex.parts import (
    Unit,
    alone,
    factors,
    items,
    kids,
    kind,
    names_within,
    terms,
    unit,
)

Found = tuple[str, "Expr | None", str]  # an index, its size, from where it counts
_BELOW = ("<", r"\lt")
_AT_MOST = (r"\le", r"\leq", "≤", r"\leqslant")
_NOT = (r"\ne", r"\neq", "≠")


class LimitReader(IndexReader):
    """Reads limits.  Those by symbols are what the shapes say anyway."""

    def binders(self, around: Unit, head: parts.Node) -> list[Found]:
        """The indices of an operator; limits by symbols are what the shapes say anyway."""
        if len(around.sups) > 1:
            self.fail(around.sups[1], "two upper limits", "write one")
        upper = around.sups[0] if around.sups else None
        out: list[Found] = []
        waiting: list[str] = []  # i of  i, j = 0
        start: str | None = None
        for c in around.subs:
            rel = kids(c)[1::2]
            sides = kids(c)[::2]
            if not rel:
                waiting += [self.new_index(n) for n in self.several(c)]
                continue
            signs = [str(r) for r in rel]
            if waiting and signs == [r"\in"] and self.is_formula(sides[0]):
                out += [(w, None, FREE) for w in waiting]
                waiting = []
            if len(signs) == 1 and signs[0] in _AT_MOST and kind(alone(sides[0])) == "NUMBER":
                start = self.low(sides[0])  # 0 <= a, c < 2
                waiting.append(self.new_index(sides[1]))
                continue
            if signs[0] in (r"\in", "∈") and out and self.is_formula(sides[0]):
                continue  # (p-m)/2 \in \mathbb{Z}: where it is not, pad gives 0 anyway
            low, name, size = self.limits(c, signs, sides, upper, start)
            if signs[0] not in _NOT:
                for n in (*sides, *([upper] if upper is not None else [])):
                    self.same_for_all(n, name, {*waiting, *(o[0] for o in out)})
            shared = signs[0] in ("=", r"\in", "∈") or start is not None
            out += [(w, size if shared else None, low if shared else FREE) for w in waiting]
            waiting, start = [], None
            out.append((name, size, low))
        if upper is not None and waiting:
            if self.limit(upper) is not None:
                self.fail(upper, "an upper limit needs a lower one", r"as in  \sum_{i=0}^{3}")
        out += [(w, None, FREE) for w in waiting]
        return out

    def is_formula(self, n: parts.Node) -> bool:
        """More than the name of an index."""
        u = unit(n)
        return u is None or bool(u.sups) or not index_name(u)

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
        self,
        c: parts.Node,
        rel: list[str],
        sides: list[parts.Node],
        upper: parts.Node | None,
        start: str | None = None,
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
            name = self.new_index(sides[0])
            low, size = self.members(sides[1], name)
            return low, name, size
        if len(rel) == 1 and (rel[0] in _BELOW or (start and rel[0] in _AT_MOST)):
            name, low = self.new_index(sides[0]), start or FROM_0
            return low, name, self.count(low, sides[1], rel[0] in _AT_MOST, name)
        if len(rel) == 1 and rel[0] in _NOT:
            new = [s for s in sides if (u := unit(s)) is None or index_name(u) not in self.scope]
            if len(new) == 1:
                return FREE, self.new_index(new[0]), None
        self.fail(
            c,
            f"{self.segment(c)} says not what the index runs over",
            r"as in  \sum_{i=0}^{3}, or  \sum_{0 \leq i < 4}",
        )

    def same_for_all(self, n: parts.Node, name: str, beside: Collection[str] = ()) -> None:
        """An index runs equally far whatever the others are: not in j < i, not in j \\in R_i."""
        for found in map(index_name, names_within(n)):
            if found != name and (found in self.scope or found in beside):
                self.fail(
                    n,
                    f"how far {name} runs depends on {found} here",
                    "a sum leaves terms out by a factor, as in  "
                    rf"\sum_{{{name}}} [{name} < {found}] ..., "
                    rf"a window shifts:  x_{{{found}+{name}}}",
                )

    def members(self, n: parts.Node, name: str) -> tuple[str, Expr | None]:
        """{0, 1, 2}, {0, ..., n-1}: where it starts how many; a set by name says nothing."""
        u = unit(n)
        if u is None or not u.is_group or kind(kids(u.base)[0]) != "LCURL":
            return FREE, None
        inside = items(u.base)
        low = self.low(inside[0])
        dots = [kind(alone(x)) == "DOTS" for x in inside]
        numbers = [str(alone(x)) for x in inside]
        if not any(dots) and numbers != [str(int(low) + k) for k in range(len(inside))]:
            self.fail(n, f"{self.segment(n)} is no range", r"as in  \{0, 1, 2\}, \{0, \dots, 2\}")
        return low, self.count(low, inside[-1], True, name)

    def sieves(self, around: Unit) -> list[parts.Node]:
        """Conditions below an operator that leave terms out: j \\neq i."""
        return [c for c in around.subs if len(kids(c)) == 3 and str(kids(c)[1]) in _NOT]

    def low(self, n: parts.Node) -> str:
        text = str(alone(n)) if kind(alone(n)) == "NUMBER" else ""
        if text not in ("0", "1"):
            self.fail(
                n,
                f"an index starts at 0 or 1, not at {self.segment(n)}",
                "shift the index, so that it starts at 0 or 1",
            )
        return text

    def count(self, low: str, upper: parts.Node, last: bool, name: str) -> Expr | None:
        """How many values: from low to upper, the last included or not; None for a symbol."""
        self.same_for_all(upper, name)
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
