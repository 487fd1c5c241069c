"""The parse tree seen as a reader of formulas sees it: units, their scripts, what a superscript is.

A unit is an atom with what stands above and below it.  A superscript is a power where it is a
number, a fraction, a sum of several things; it may be a layer's name where it is a letter, a
letter plus or minus a number, a word, or anything short in parentheses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from lark import Token, Tree

Node: TypeAlias = "Tree[Any] | Token"


class Label(NamedTuple):
    """A layer's name: (letter or word, offset), a number, or '' for none."""

    text: str = ""
    offset: int = 0
    number: bool = False
    word: bool = False


@dataclass
class Unit:
    """base_{subs}^{sups} with primes; base is a Token, or a tree such as a group or a fraction."""

    node: Node
    base: Node
    subs: list[Node] = field(default_factory=list)
    sups: list[Node] = field(default_factory=list)
    primes: int = 0

    @property
    def letter(self) -> str:
        """The name, where the base is one."""
        if isinstance(self.base, Token) and self.base.type in ("LETTER", "WORD", "TEXT"):
            return str(self.base)
        return ""

    @property
    def is_group(self) -> bool:
        return isinstance(self.base, Tree) and self.base.data == "group"


def kind(n: Node | None) -> str:
    """The name of a rule or of a token."""
    if n is None:
        return ""
    return n.type if isinstance(n, Token) else str(n.data)


def kids(n: Node) -> list[Node]:
    return list(n.children) if isinstance(n, Tree) else []


def items(n: Node) -> list[Node]:
    """The chains of a list, an argument or a group."""
    found = [c for c in kids(n) if kind(c) == "list"]
    if found:
        return [c for c in kids(found[0]) if kind(c) == "chain"]
    return [c for c in kids(n) if kind(c) not in _BRACKETS] or [n]


_BRACKETS = frozenset(
    "LPAR RPAR LSQ RSQ LBRACE RBRACE LCURL RCURL BARL BARR LFLOOR RFLOOR COMMA SUB SUP".split()
)


def alone(n: Node) -> Node:
    """What stands alone in a chain, a sum, a product: the unit inside."""
    while isinstance(n, Tree) and n.data in _WRAPPERS and len(n.children) == 1:
        n = n.children[0]
    return n


_WRAPPERS = ("chain", "sum", "list", "arg", "unit")


def unit(n: Node) -> Unit | None:
    """The unit that a node is, braces around it taken away; None where it is something else."""
    n = alone(n)
    if isinstance(n, Token):
        return Unit(n, n) if n.type not in ("SEP", "REL") else None
    if n.data == "group" and kind(n.children[0]) == "LBRACE":
        return _inside(n, Unit(n, n))
    if n.data != "unit":
        return Unit(n, n) if n.data in ("group", "frac", "root", "cases") else None
    first = n.children[0]
    if kind(first) in ("FUNC", "PARTIAL", "PREFIX"):
        return None
    found = Unit(n, first)
    for script in n.children[1:]:
        _attach(found, script)
    return _inside(first, found)


def _inside(base: Node, found: Unit) -> Unit:
    """{x_i}^2 is x_i^2."""
    if kind(base) == "group" and kind(kids(base)[0]) == "LBRACE" and len(items(base)) == 1:
        inner = unit(items(base)[0])
        if inner is not None and inner.letter:
            return Unit(
                found.node,
                inner.base,
                inner.subs + found.subs,
                inner.sups + found.sups,
                inner.primes + found.primes,
            )
    return found


def scripts(n: Tree[Any]) -> Unit:
    """What stands above and below the operator of a `big` or of a function."""
    found = Unit(n, n.children[0])
    for script in n.children[1:]:
        if kind(script) == "script":
            _attach(found, script)
    return found


def _attach(found: Unit, script: Node) -> None:
    sign, *rest = kids(script)
    if kind(sign) == "PRIME":
        text = str(sign)
        found.primes += text.count("'") + text.count("prime")
    elif kind(sign) == "SUB":
        found.subs += items(rest[0])
    else:
        found.sups += [alone(rest[0])] if kind(rest[0]) != "arg" else items(rest[0])


def factors(n: Node) -> list[tuple[str, Node]]:
    """The factors of a product, each with the operator before it ("" where there is none)."""
    n = alone(n)
    if kind(n) != "product":
        return [("", n)]
    first, *rest = kids(n)
    sign = kind(rest[0]) if len(rest) == 2 else "JUXT"
    if sign == "TIMES" and "times" not in str(rest[0]) and "cdot" not in str(rest[0]):
        sign = "ELEMENTWISE" if str(rest[0]) in (r"\odot", r"\circ") else sign
    return [*factors(first), (sign, rest[-1])]


def terms(n: Node) -> list[tuple[str, Node]]:
    """The terms of a sum with their signs."""
    n = alone(n)
    if kind(n) != "sum":
        return [("", n)]
    out: list[tuple[str, Node]] = []
    sign = ""
    for c in kids(n):
        if kind(c) == "sign":
            sign = "-" if kind(kids(c)[0]) == "MINUS" else ""
        elif kind(c) in ("PLUS", "MINUS"):
            sign = "-" if kind(c) == "MINUS" else "+"
        else:
            out.append((sign, c))
    return out


def label(sup: Node) -> tuple[Label | None, bool]:
    """A superscript as a layer's name, if it can be one; and was it in parentheses?"""
    n = alone(sup)
    found = unit(n)
    if found is not None and found.is_group and not (found.subs or found.sups):
        if kind(kids(found.base)[0]) in ("LPAR", "LSQ") and len(items(found.base)) == 1:
            inside = alone(items(found.base)[0])
            if kind(inside) == "NUMBER" and str(inside).isdigit():
                return Label(str(inside), number=True), True
            name, _ = label(inside)
            return name, True
    if found is not None and found.letter and not (found.subs or found.sups or found.primes):
        word = kind(found.base) != "LETTER"
        return Label(found.letter, word=word), False
    if kind(n) == "sum" and len(parts := terms(n)) == 2:
        (s, a), (t, b) = parts
        first, second = unit(a), alone(b)
        plain = first is not None and first.letter and not (first.subs or first.sups)
        if plain and first is not None and not s and kind(second) == "NUMBER":
            if str(second).isdigit():
                return Label(first.letter, int(str(second)) * (-1 if t == "-" else 1)), False
    return None, False


def derivative(n: Node) -> tuple[Node, Node] | None:
    """(what, with respect to what) where n is ∂a/∂b or da/db as a fraction."""
    n = alone(n)
    if kind(n) != "frac":
        return None
    over, under = (alone(items(p)[0]) for p in kids(n)[1:])
    a, b = differential(over), differential(under)
    return (a, b) if a is not None and b is not None else None


def differential(n: Node) -> Node | None:
    """x of ∂x, or of dx."""
    n = alone(n)
    if kind(n) == "unit" and kind(kids(n)[0]) == "PARTIAL" and len(kids(n)) == 2:
        return kids(n)[1]
    if kind(n) == "product" and len(kids(n)) == 2:
        d = unit(kids(n)[0])
        if d is not None and d.letter == "d" and not (d.subs or d.sups):
            return kids(n)[1]
    return None


def units(n: Node) -> Iterator[Unit]:
    """Every unit with a name in a tree, those inside scripts left out."""
    found = unit(n) if kind(n) in ("unit", "group") or isinstance(n, Token) else None
    if found is not None and found.letter:
        yield found
        return
    if kind(n) in ("script", "arg"):
        return
    for c in kids(n):
        yield from units(c)


def names_within(n: Node) -> Iterator[Unit]:
    """Every unit with a name in a tree, and those in its scripts."""
    for u in units(n):
        yield u
        for s in (*u.subs, *u.sups):
            yield from names_within(s)


def bigs(n: Node) -> Iterator[Tree[Any]]:
    """Every reduction in a tree."""
    if isinstance(n, Tree):
        if n.data == "big" and kind(n.children[0]) == "BIG":
            yield n
        for c in n.children:
            yield from bigs(c)
