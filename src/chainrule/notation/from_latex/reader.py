"""LaTeX -> System: the text is parsed, its names settled, then each formula read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from chainrule.errors import FormulaError
from chainrule.expr import (
    Access,
    Affine,
    Expr,
    Reduce,
    Size,
    rebuild,
    rename_bound,
    walk,
)
from chainrule.notation.from_latex.formulas import (
    ASSIGN,
    calls,
    formulas,
    left_unit,
    slashed,
    start,
)
from chainrule.notation.from_latex.indices import FREE, FROM_0, FROM_1, index_name
from chainrule.notation.from_latex.names import Ambiguous, Formula, Names
from chainrule.notation.from_latex.parsing import tree
from chainrule.notation.from_latex.parts import (
    Node,
    Unit,
    alone,
    bigs,
    derivative,
    factors,
    items,
    kids,
    kind,
    unit,
    units,
)
from chainrule.notation.from_latex.whole import WholeReader
from chainrule.notation.parse import parse
from chainrule.system import LeftAxis, Problem, Source, Statement, System


def read(text: str, known: System | None = None) -> Reader:
    """The formulas of a text, read; `known` is the program that they speak of, if any."""
    if not isinstance(text, str):
        raise FormulaError(
            f"LaTeX is a text, not {type(text).__name__}", hint=r"as in  r'y_i = 2 x_i'"
        )
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    lines = tuple(text.split("\n"))
    reader = Reader(lines, formulas(tree(text, lines), lines), known)
    reader.run()
    return reader


class Reader(WholeReader):
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
            found = derivative(n) or slashed(n)
            if found is not None:
                top, bottom = unit(self.without_arguments(found[0])), left_unit(f.left)
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
            u = left_unit(f.left)
            if u is not None and u.letter:
                if kind(n) == "product":
                    self.with_arguments.add(u.letter)
                if kind(n) != "unit" or kind(kids(n)[0]) != "PREFIX":
                    self.assigned.add(self.tensor(u))
        if self.known is not None:
            self.assigned |= set(self.known.outputs)
            made = self.known.by_target.items()
            self.wholes = frozenset(t for t, s in made if s.axes)

    def without_arguments(self, n: Node) -> Node:
        parts = factors(n)
        return parts[0][1] if len(parts) == 2 else n

    # ------------------------------------------------------------ one formula

    def statement(self, f: Formula) -> Statement:
        self.bound, self.scope, self.counts = f.bound, {}, {}
        starts = {start(b) for b in bigs(f.right)} | {start(c) for c in f.conditions}
        self.from_1 = FROM_1 in starts
        self.mixed = self.from_1 and FROM_0 in starts
        target, axes = self.left_side(f)
        self.scope = {i: FREE for axis in axes for i in axis}
        sizes = self.conditions(f)
        self.refuse_indices_behind(f.right)
        body = self.expr(f.right)
        body = self.counted_sizes(body)
        used = [n for axis in axes for n in axis]
        used += [n for e in walk(body) if isinstance(e, Reduce) for n in e.names]
        fresh = self.unprimed(dict.fromkeys(used))
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
        if (found := derivative(n) or slashed(n)) is not None:
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
                if kind(kids(after.base)[0]) == "LSQ":
                    self.not_below(after, unit(parts[0][1]))
                self.refuse_round_indices(after, f.right)
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

    def refuse_round_indices(self, arguments: Unit, right: Node) -> None:
        """S(i,j) = ... I(i+m, j+n): these are indices, not the arguments of a function."""
        names = {x.letter for c in items(arguments.base) if (x := unit(c)) is not None}
        for a, b in calls(right):
            inside = {x.letter for c in items(b.base) for x in units(c)}
            if inside & names:
                self.not_below(b, a)

    def refuse_indices_behind(self, right: Node) -> None:
        """h[k] and h(k): where all that stands in the bracket are indices."""
        for a, b in calls(right):
            inside = {x.letter for c in items(b.base) for x in units(c)}
            related = any(len(kids(c)) > 1 for c in items(b.base))
            if inside and inside <= self.bound and not related:
                self.not_below(b, a)

    def not_below(self, b: Unit, a: Unit | None) -> NoReturn:
        self.fail(
            b.node,
            f"are these indices of {a.letter if a else 'it'}, or is it a product?",
            r"indices stand below, as in  x_{i,j}; a product is  a \cdot (b + c)",
        )

    def left_axis(self, s: Node, target: str) -> list[str]:
        u = unit(s)
        if u is not None and u.is_group and not (u.subs or u.sups):
            return [self.new_index(c) for c in items(u.base)]
        name = index_name(u) if u is not None else ""
        if kind(alone(s)) == "NUMBER":
            self.fail(s, "a number is no new index", r"in a name it is written  \text{o1}")
        if not name or (u is not None and u.sups):
            self.fail(
                s,
                f"{self.segment(s)} on the left is not a bare index",
                f"shift on the right side, {target}_{{i}} = x_{{i-1}}; time: {target}^{{(t+1)}}",
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
            if rel[0] in ASSIGN:
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

    def counted_sizes(self, body: Expr) -> Expr:
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

    # ------------------------------------------------------------ results

    def system(self, statements: Iterable[Statement]) -> System:
        """The System, with the text's places; also checked as a program's text is."""
        made = tuple(statements)
        for k, s in enumerate(made):
            self.spans.setdefault((k, s), self.span(self.places[min(k, len(self.places) - 1)]))
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
