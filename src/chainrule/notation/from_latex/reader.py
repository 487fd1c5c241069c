"""LaTeX -> System: the text is parsed, its names settled, then each formula read."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from chainrule.errors import FormulaError
from chainrule.expr import (
    Access,
    Affine,
    Expr,
    Grad,
    Mul,
    Reduce,
    Size,
    bare,
    rebuild,
    rename_bound,
    walk,
)
from chainrule.notation.from_latex.expressions import ExpressionReader
from chainrule.notation.from_latex.grammar import GRAMMAR
from chainrule.notation.from_latex.indices import FREE, FROM_0, FROM_1, index_name
from chainrule.notation.from_latex.names import Ambiguous, Formula, Names
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
from chainrule.notation.from_latex.tokens import Misread, Postlex, error
from chainrule.notation.parse import parse
from chainrule.system import LeftAxis, Problem, Source, Statement, System

_ASSIGN = ("=", ":=", r"\leftarrow", r"\gets", r"\coloneqq")
_LETTERS = "ijklmnpqrsuvwabcdfgh"


@lru_cache(maxsize=1)
def _lark() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="basic", postlex=Postlex(), propagate_positions=True)


def read(text: str, known: System | None = None) -> Reader:
    """The formulas of a text, read; `known` is the program that they speak of, if any."""
    if not isinstance(text, str):
        raise FormulaError(
            f"LaTeX is a text, not {type(text).__name__}", hint=r"as in  r'y_i = 2 x_i'"
        )
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    lines = tuple(text.split("\n"))
    reader = Reader(lines, _formulas(_tree(text, lines), lines), known)
    reader.run()
    return reader


def _tree(text: str, lines: tuple[str, ...]) -> Tree[Token]:
    try:
        return _lark().parse(text)
    except Misread as m:
        width = len(m.at.value.split("\n")[0]) if m.at.end_line == m.at.line else 1
        raise error(lines, m.at, m.message, m.hint, width) from None
    except UnexpectedCharacters as e:
        c = lines[e.line - 1][e.column - 1 : e.column]
        raise error(lines, e, f"{c} means nothing in a formula", "remove it") from None
    except UnexpectedToken as e:
        raise _unexpected(e, lines) from None
    except (UnexpectedInput, RecursionError):
        raise FormulaError(
            "this cannot be read as formulas", hint="write one formula a line"
        ) from None


def _unexpected(e: UnexpectedToken, lines: tuple[str, ...]) -> FormulaError:
    token = e.token
    if token.type == "$END":
        last = max((k for k, x in enumerate(lines) if x.strip()), default=0)
        place = Token("END", "", line=last + 1, column=len(lines[last].rstrip()) + 1)
        return error(lines, place, "the formula ends too early", "something is missing at the end")
    shown = str(token).strip() or token.type
    hint = (
        "a value is missing before it"
        if token.type in _NEEDS_VALUE
        else ("something is missing before it, or it is one too many")
    )
    if token.type == "SEP":
        return error(lines, token, "the formula ends too early", "something is missing before this")
    if token.type in ("SUB", "SUP"):
        hint = "scripts stand behind a name or a bracket; a second index goes into the same braces"
    if token.type == "AMP":
        hint = "a row of cases is  value & condition"
    return error(lines, token, f"{shown} cannot stand here", hint, len(shown))


_NEEDS_VALUE = ("PLUS", "TIMES", "SLASH", "STAR", "REL", "RPAR", "RSQ", "RBRACE", "COMMA", "BARR")


# ------------------------------------------------------------ formulas and their conditions


def _formulas(tree: Tree[Token], lines: tuple[str, ...]) -> list[Formula]:
    found: list[Formula] = []
    for chain in (c for c in tree.children if kind(c) == "chain"):
        rel = [str(r) for r in kids(chain)[1::2]]
        if found and _is_condition(chain, rel, found[-1]):
            found[-1].conditions.append(chain)
        elif not rel or rel[0] not in _ASSIGN:
            at: Any = chain.meta if isinstance(chain, Tree) else chain
            raise error(lines, at, "nothing is assigned here", "a formula is  name = expression")
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
    for f in found:
        f.bound = _bound(f)
    return found


def _is_condition(chain: Node, rel: list[str], f: Formula) -> bool:
    """0 <= i < 3, i = 1, ..., n: said of the indices on the left."""
    n = alone(chain)
    if not rel:
        u = unit(n)
        return kind(n) == "DOTS" or bool(f.conditions) or (u is not None and bool(u.letter))
    if rel[0] not in _ASSIGN:
        return True
    u = unit(kids(chain)[0])
    return (
        u is not None
        and index_name(u) != ""
        and kind(alone(kids(chain)[2])) == "NUMBER"
        and index_name(u) in map(index_name, _left_units(f.left))
    )


def _left_units(left: Node) -> list[Unit]:
    """The units below (or in brackets above) the name on the left."""
    u = _left_unit(left)
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


def _left_unit(left: Node) -> Unit | None:
    n = alone(left)
    found = derivative(n) or _slashed(n)
    n = found[1] if found is not None else n
    while kind(n) == "unit" and kind(kids(n)[0]) == "PREFIX":
        n = kids(n)[1]
    if kind(n) == "product":
        n = factors(n)[0][1]
    return unit(n)


def _slashed(n: Node) -> tuple[Node, Node] | None:
    parts = factors(n)
    if len(parts) == 2 and parts[1][0] == "SLASH":
        a, b = differential(parts[0][1]), differential(parts[1][1])
        return None if a is None or b is None else (a, b)
    return None


def _bound(f: Formula) -> frozenset[str]:
    """Every index that a formula binds: on the left, or below an operator."""
    inner = set()
    for n in (f.right, *f.conditions):
        for b in bigs(n):
            for script in kids(b)[1:-1]:
                if kind(kids(script)[0]) == "SUB":
                    inner |= _mentioned(script)
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


def _superscripts(left: Node) -> list[Node]:
    u = _left_unit(left)
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


# ------------------------------------------------------------ the reader


class Reader(ExpressionReader):
    """Reads all formulas of a text into `statements`; `objective` is E where it has ∂E/∂w = ..."""

    def __init__(
        self, lines: tuple[str, ...], formulas: list[Formula], known: System | None
    ) -> None:
        names = known.names if known is not None else ()
        try:
            super().__init__(lines, Names(formulas, names))
        except Ambiguous as a:
            self.lines = lines
            raise self.error(a.node, a.message, a.hint) from None
        self.formulas, self.known = formulas, known
        self.defined: dict[str, str] = {}
        self.assigned: set[str] = set()
        self.with_arguments: set[str] = set()
        self.statements: list[Statement] = []
        self.places: list[Node] = []
        self.objective: str | None = None

    def run(self) -> None:
        if not self.formulas:
            raise FormulaError("there is no formula", hint="as in  y_i = 2 x_i")
        self._look_at_left_sides()
        for k, f in enumerate(self.formulas):
            self.where = k
            try:
                self.statements.append(self.statement(f))
            except Ambiguous as a:
                self.fail(a.node, a.message, a.hint)
            except RecursionError:
                self.fail(f.left, "the formula is nested too deeply", "split it into several")
        self._complete()

    def _look_at_left_sides(self) -> None:
        """What the text assigns, before anything is read."""
        for f in self.formulas:
            self.bound = f.bound
            n = alone(f.left)
            found = derivative(n) or _slashed(n)
            if found is not None:
                top, bottom = unit(self.without_arguments(found[0])), _left_unit(f.left)
                if top is not None and bottom is not None and top.letter and bottom.letter:
                    of = self.tensor(top)
                    prefix = ""
                    inner = found[1]
                    while kind(inner) == "unit" and kind(kids(inner)[0]) == "PREFIX":
                        prefix += str(kids(inner)[0])
                        inner = kids(inner)[1]
                    self.defined[prefix + self.tensor(bottom)] = of
                    self.objective = of
                continue
            u = _left_unit(f.left)
            if u is not None and u.letter:
                if kind(n) == "product":
                    self.with_arguments.add(u.letter)
                if kind(n) != "unit" or kind(kids(n)[0]) != "PREFIX":
                    self.assigned.add(self.tensor(u))
        if self.known is not None:
            self.assigned |= set(self.known.outputs)

    def without_arguments(self, n: Node) -> Node:
        parts = factors(n)
        return parts[0][1] if len(parts) == 2 else n

    # ------------------------------------------------------------ one formula

    def statement(self, f: Formula) -> Statement:
        self.bound, self.scope, self.counts = f.bound, {}, {}
        self.plain_products, self.bodies = [], []
        starts = {_start(b) for b in bigs(f.right)} | {_start(c) for c in f.conditions}
        self.from_1 = FROM_1 in starts
        self.mixed = self.from_1 and FROM_0 in starts
        target, axes = self.left_side(f)
        self.scope = {i: FREE for axis in axes for i in axis}
        sizes = self.conditions(f)
        body = self.expr(f.right)
        body = self.counted_sizes(target, axes, body)
        primed = {n: n for s in (axes,) for a in s for n in a} | {
            n: n for e in walk(body) if isinstance(e, Reduce) for n in e.names
        }
        fresh = self.unprimed(primed)
        body = rename_bound(body, fresh)
        left: tuple[LeftAxis, ...] = tuple(
            tuple((fresh.get(n, n), sizes.get(n)) for n in axis) for axis in axes
        )
        result = Statement(target, left, body)
        self.remember(result, f.left)
        self.places.append(f.left)
        return result

    def unprimed(self, names: Iterable[str]) -> dict[str, str]:
        """m' is m2 where that is free: a name has no primes in a program."""
        taken = {n for n in names if "'" not in n} | set(self.names.names.values())
        fresh: dict[str, str] = {}
        for n in names:
            if "'" in n:
                k = 1 + n.count("'")
                while f"{n.rstrip(chr(39))}{k}" in taken:
                    k += 1
                fresh[n] = f"{n.rstrip(chr(39))}{k}"
                taken.add(fresh[n])
        return fresh

    def left_side(self, f: Formula) -> tuple[str, list[list[str]]]:
        n = alone(f.left)
        prefix = ""
        if (found := derivative(n) or _slashed(n)) is not None:
            top = self.value_of(found[0])
            if not isinstance(top, Access) or top.axes:
                self.fail(
                    n,
                    "the derivative of a scalar stands on the left",
                    r"as in  \frac{\partial E}{\partial w_{m,n}} = ...",
                )
            prefix, n = "δ", found[1]
        while kind(n) == "unit" and kind(kids(n)[0]) == "PREFIX":
            prefix += str(kids(n)[0])
            n = alone(kids(n)[1])
        if kind(n) == "product" and len(parts := factors(n)) == 2:
            after = unit(parts[1][1])
            if after is not None and after.is_group:
                n = parts[0][1]
        u = unit(n)
        if u is None or not u.letter:
            self.fail(f.left, "the left side is a name with its indices", "as in  y_{i} = 2 x_{i}")
        target = self.tensor(u)
        axes: list[list[str]] = []
        for sup in u.sups:
            role, layer = self.names.role(u, sup, self.bound)
            if role == "axis":
                axes.append([layer.text])
            elif role == "delta":
                target = "δ" + layer.text
            elif role == "power":
                self.fail(sup, "a power cannot be assigned", r"a layer's name is written  x^{(1)}")
        for s in self.spread(u.subs, u):
            axes.append(self.left_axis(s, target))
        flat = [i for axis in axes for i in axis]
        for i in flat:
            if flat.count(i) > 1:
                self.fail(
                    f.left,
                    f"index {i} stands twice on the left",
                    f"a diagonal is  {target}_{{{i},k}} = o_{i} [{i} = k]",
                )
        return prefix + target, axes

    def left_axis(self, s: Node, target: str) -> list[str]:
        u = unit(s)
        if u is not None and u.is_group and not (u.subs or u.sups):
            return [self.new_index(c) for c in items(u.base)]
        name = index_name(u) if u is not None else ""
        if not name or (u is not None and u.sups):
            self.fail(
                s,
                f"{self.segment(s)} on the left is not a bare index",
                f"shift on the right side instead, as in  {target}_{{i}} = x_{{i-1}}",
            )
        return [name]

    def conditions(self, f: Formula) -> dict[str, Expr]:
        """The sizes that the conditions behind a formula give to indices on the left."""
        sizes: dict[str, Expr] = {}
        dots, last, low = False, "", FREE
        for c in f.conditions:
            n, rel = alone(c), [str(r) for r in kids(c)[1::2]]
            if kind(n) == "DOTS":
                dots = True
                continue
            if not rel:
                if dots and last:
                    size = self.count(low, n, True, last)
                    if size is not None:
                        sizes[last] = size
                dots = False
                continue
            if rel[0] in _ASSIGN:
                last, low = self.new_index(kids(c)[0]), self.low(kids(c)[2])
                found: tuple[str, str, Expr | None] = (low, last, None)
            else:
                found = self.limits(c, rel, kids(c)[::2], None)
            low, last, size = found
            if last not in self.scope:
                self.fail(c, f"{last} is not an index on the left", "sizes are given to those")
            self.scope[last] = low
            if size is not None:
                sizes[last] = size
        return sizes

    def counted_sizes(self, target: str, axes: list[list[str]], body: Expr) -> Expr:
        """N of \\sum_{i=1}^{N}, where it stands in the formula as well, is the size of i."""
        given = {n: i for n, i in self.counts.items() if n not in self.assigned}
        found: dict[str, Size] = {}
        for n, i in given.items():
            for e in walk(body):
                if isinstance(e, Access):
                    for k, axis in enumerate(e.axes):
                        if isinstance(axis, Affine) and axis.bare == i:
                            found.setdefault(n, Size(e.tensor, k))
        if not found:
            return body

        def go(e: Expr) -> Expr:
            if isinstance(e, Access) and not e.axes and e.tensor in found:
                return found[e.tensor]
            return rebuild(e, go)

        return go(body)

    # ------------------------------------------------------------ tensors without their indices

    def _complete(self) -> None:
        """w = w - η ∂E/∂w: each tensor gets the indices that it has elsewhere."""
        known = self._indexed()
        for k, s in enumerate(self.statements):
            self.where = k
            bare_reads = [
                e
                for e in walk(s.body)
                if isinstance(e, (Access, Grad))
                and not e.axes
                and _named(e) in known
                and not (isinstance(e, Access) and e.pad is not None)
            ]
            if s.axes or not (bare_reads or s.target in known):
                continue
            if any(isinstance(e, Reduce) for e in walk(s.body)) and s.target not in known:
                continue
            self.statements[k] = self._whole(s, bare_reads, known)

    def _indexed(self) -> dict[str, tuple[str, ...]]:
        """Tensors that are written with indices somewhere, and letters for them."""
        known: dict[str, tuple[str, ...]] = {}
        old = self.known.statements if self.known is not None else ()
        for s in (*old, *self.statements):
            if s.axes and all(len(a) == 1 for a in s.axes):
                known[s.target] = s.indices
        for s in (*old, *self.statements):
            for e in walk(s.body):
                if isinstance(e, (Access, Grad)) and e.axes:
                    names = [a.bare if isinstance(a, Affine) else None for a in e.axes]
                    plain = tuple(n for n in names if n)
                    if len(plain) != len(e.axes) or len(set(plain)) != len(plain):
                        plain = tuple(_LETTERS[: len(e.axes)])
                        known.setdefault(_named(e), plain)
                    elif _named(e) not in known:
                        known[_named(e)] = plain
        for t in list(known):
            if not t.startswith("δ"):
                known.setdefault("δ" + t, known[t])
        return known

    def _whole(
        self, s: Statement, reads: list[Access | Grad], known: dict[str, tuple[str, ...]]
    ) -> Statement:
        names = known.get(s.target) or known[_named(reads[0])]
        inner = {n for e in walk(s.body) if isinstance(e, Reduce) for n in e.names}
        if inner.intersection(names):
            names = tuple(n for n in _LETTERS if n not in inner)[: len(names)]
        place = self.places[self.where]
        for e in reads:
            rank = len(known[_named(e)])
            if rank != len(names):
                self.fail(
                    place,
                    f"{_named(e)} has {rank} indices elsewhere, {s.target} has {len(names)}",
                    "write the indices of this formula",
                )
        whole = set(reads)
        for m in walk(s.body):
            if isinstance(m, Mul) and sum(f in whole for f in m.factors) > 1:
                if self._plain_product():
                    self.fail(
                        place,
                        "is this a product of elements, or of matrices?",
                        r"write the indices, or  \odot  for elements",
                    )
        axes = tuple(map(bare, names))

        def go(e: Expr) -> Expr:
            if e in whole and isinstance(e, Access):
                return Access(e.tensor, axes, None)
            if e in whole and isinstance(e, Grad):
                return Grad(e.of, e.wrt, axes)
            return rebuild(e, go)

        result = Statement(s.target, tuple(((n, None),) for n in names), go(s.body))
        self.spans.setdefault((self.where, result), self.span(place))
        return result

    def _plain_product(self) -> bool:
        """No sign in the text says that it is a product of elements."""
        text = "\n".join(self.lines)
        return not (r"\odot" in text or r"\circ" in text)

    # ------------------------------------------------------------ results

    def system(self, statements: Iterable[Statement]) -> System:
        """The System, with the text's places; also checked as a program's text is."""
        made = tuple(statements)
        source = Source(self.lines, self.spans)
        try:
            system = System(made, source)
        except Problem as p:
            raise self.located(p) from None
        self._check(made)
        return system

    def _check(self, made: tuple[Statement, ...]) -> None:
        """What the language itself refuses: its words as names, numbers beyond float64, ..."""
        try:
            same = parse("\n".join(map(str, made))).statements
        except FormulaError as e:
            place = self.places[min((e.line or 1), len(self.places)) - 1]
            raise self.error(place, e.message, e.hint) from None
        assert same == made, "\n".join(map(str, made))

    def located(self, p: Problem) -> FormulaError:
        span = self.spans.get((p.where, p.node)) if p.node else None
        if span is None:
            return self.error(self.places[p.where], p.message, p.hint)
        return FormulaError(
            p.message,
            line=span.line,
            column=span.column,
            width=span.width,
            source_line=self.lines[span.line - 1],
            hint=p.hint,
        )


def _start(n: Node) -> str:
    """Where an operator, or a condition, says that its index starts."""
    for script in kids(n)[1:-1] if kind(n) == "big" else [n]:
        chains = items(kids(script)[1]) if kind(script) == "script" else [script]
        for c in chains:
            rel, sides = [str(r) for r in kids(c)[1::2]], kids(c)[::2]
            if rel == ["="] and kind(alone(sides[1])) == "NUMBER":
                return str(alone(sides[1]))
            if len(rel) == 2 and kind(alone(sides[0])) == "NUMBER":
                return str(alone(sides[0]))
    return ""


def _named(e: Access | Grad) -> str:
    return e.tensor if isinstance(e, Access) else e.wrt
