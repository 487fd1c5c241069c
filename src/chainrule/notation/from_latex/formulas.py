"""A parsed text as formulas: left side, right side, conditions, and the indices that each binds."""

from __future__ import annotations

from itertools import pairwise

from lark import Token, Tree

from chainrule.notation.from_latex.indices import index_name
from chainrule.notation.from_latex.names import Formula
from chainrule.notation.from_latex.parts import (
    Node,
    Unit,
    alone,
    bigs,
    derivative,
    differential,
    factors,
    items,
    kids,
    kind,
    unit,
)
from chainrule.notation.from_latex.vocabulary import error

ASSIGN = ("=", ":=", r"\leftarrow", r"\gets", r"\coloneqq")


def formulas(tree: Tree[Token], lines: tuple[str, ...]) -> list[Formula]:
    found: list[Formula] = []
    same_line = False
    for chain in tree.children:
        if isinstance(chain, Token):
            same_line = str(chain) not in ("\n", "$", "$$") and not str(chain).startswith("\\\\")
            continue
        rel = [str(r) for r in kids(chain)[1::2]]
        if found and _is_condition(chain, rel, found[-1], same_line):
            found[-1].conditions.append(chain)
        elif not rel or rel[0] not in ASSIGN:
            raise error(
                lines, chain.meta, "nothing is assigned here", "a formula is  name = expression"
            )
        elif len(rel) > 1:
            raise error(
                lines,
                kids(chain)[3],
                "a second = in one formula",
                r"write one formula a line, or a comparison in brackets, [i = j]",
            )
        else:
            left, _, right = kids(chain)
            found.append(Formula(left, right, [], frozenset()))
    samples = {x for f in found for x in _inner(f) & _bracketed(f.right)}
    for f in found:
        f.bound = _bound(f) | (samples & _bracketed(f.left))
    return found


def _is_condition(chain: Node, rel: list[str], f: Formula, same_line: bool) -> bool:
    """0 <= i < 3, i = 1, ..., n: said of the indices on the left."""
    n = alone(chain)
    if not rel:
        u = unit(n)
        return kind(n) == "DOTS" or bool(f.conditions) or (u is not None and bool(u.letter))
    if rel[0] not in ASSIGN:
        return True
    u = unit(kids(chain)[0])
    return (
        same_line
        and u is not None
        and index_name(u) != ""
        and kind(alone(kids(chain)[2])) == "NUMBER"
        and index_name(u) in map(index_name, _left_units(f.left))
    )


def _left_units(left: Node) -> list[Unit]:
    """The units below (or in brackets above) the name on the left."""
    u = left_unit(left)
    if u is None:
        return []
    nodes = list(u.subs)
    for sup in u.sups:
        s = unit(sup)
        if s is not None and s.is_group:
            nodes += items(s.base)
    out: list[Unit] = []
    for n in nodes:
        for _, f in factors(n):
            inner = unit(f)
            if inner is not None and inner.is_group:
                out += [x for c in items(inner.base) if (x := unit(c)) is not None]
            elif inner is not None:
                out.append(inner)
    return out


def left_unit(left: Node) -> Unit | None:
    n = alone(left)
    found = derivative(n) or slashed(n)
    n = found[1] if found is not None else n
    while kind(n) == "unit" and kind(kids(n)[0]) == "PREFIX":
        n = kids(n)[1]
    if kind(n) == "product":
        n = factors(n)[0][1]
    return unit(n)


def slashed(n: Node) -> tuple[Node, Node] | None:
    parts = factors(n)
    if len(parts) == 2 and parts[1][0] == "SLASH":
        a, b = differential(parts[0][1]), differential(parts[1][1])
        return None if a is None or b is None else (a, b)
    return None


def _bound(f: Formula) -> frozenset[str]:
    """Every index that a formula binds: on the left, or below an operator."""
    inner = _inner(f)
    used = inner | {x for n in (f.right, *f.conditions) for x in _in_scripts(n)}
    for c in f.conditions:
        used |= _mentioned(c)
    left = {
        index_name(u)
        for u in _left_units(f.left)
        if u.letter
        and (kind(u.base) == "LETTER" or u.letter in used)
        and not (u.node in _superscripts(f.left) and u.letter not in used)
    }
    return frozenset((left | inner) - {""})


def _bracketed(n: Node) -> set[str]:
    """i of x^{(i)}, a letter in parentheses above a name."""
    if kind(n) == "script" and kind(kids(n)[0]) == "SUP":
        u = unit(kids(n)[1])
        inside = alone(items(u.base)[0]) if u is not None and u.is_group else None
        return {str(inside)} if isinstance(inside, Token) and inside.type == "LETTER" else set()
    return {x for c in kids(n) for x in _bracketed(c)}


def _inner(f: Formula) -> set[str]:
    """The indices that operators bind."""
    return {
        x
        for n in (f.right, *f.conditions)
        for b in bigs(n)
        for script in kids(b)[1:-1]
        if kind(kids(script)[0]) == "SUB"
        for x in _mentioned(script)
    }


def _superscripts(left: Node) -> list[Node]:
    u = left_unit(left)
    out: list[Node] = []
    for sup in u.sups if u is not None else []:
        s = unit(sup)
        if s is not None and s.is_group:
            out += [x.node for c in items(s.base) if (x := unit(c)) is not None]
    return out


def _in_scripts(n: Node) -> set[str]:
    """Words in subscripts."""
    if kind(n) == "script" and kind(kids(n)[0]) == "SUB":
        return _mentioned(n)
    return {x for c in kids(n) for x in _in_scripts(c)}


def _mentioned(n: Node) -> set[str]:
    found = set()
    if kind(n) in ("unit", "LETTER", "WORD"):
        u = unit(n)
        if u is not None and u.letter:
            found.add(index_name(u))
            found.add(u.letter)
    for c in kids(n):
        found |= _mentioned(c)
    return found


def start(n: Node) -> str:
    """Where an operator, or a condition, says that its index starts."""
    for script in kids(n)[1:-1] if kind(n) == "big" else [n]:
        if kind(script) == "script" and kind(kids(script)[0]) != "SUB":
            continue
        chains = items(kids(script)[1]) if kind(script) == "script" else [script]
        for c in chains:
            rel, sides = [str(r) for r in kids(c)[1::2]], kids(c)[::2]
            if rel == ["="] and kind(alone(sides[1])) == "NUMBER":
                return str(alone(sides[1]))
            if len(rel) == 2 and kind(alone(sides[0])) == "NUMBER":
                return str(alone(sides[0]))
    return ""


def calls(n: Node) -> list[tuple[Unit, Unit]]:
    """Letters with a bracket directly behind them."""
    out: list[tuple[Unit, Unit]] = []
    if kind(n) == "product":
        parts = factors(n)
        for (_, x), (sign, y) in pairwise(parts):
            a, b = unit(x), unit(y)
            if a is not None and b is not None and a.letter and not a.subs and b.is_group:
                if sign == "JUXT" and kind(kids(b.base)[0]) in ("LPAR", "LSQ"):
                    out.append((a, b))
    for c in kids(n):
        out += calls(c)
    return out
