"""An explanation as plain text, to be followed line by line with pencil and paper."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.explain.explanation import Explanation
from chainrule.explain.numbers import factor, shown
from chainrule.explain.table import (
    because,
    number,
    plus,
    product,
    tables,
    ways,
    workings,
    zero_lines,
)
from chainrule.notation.show import left_side
from chainrule.system import Statement

CHILDREN = 4  # of one element and one tensor, those with a table
LARGE_CHILDREN = 2
LEVEL = 8  # on one level
SHORT = 3  # terms that fit on a line
_WIDTH = 96


def render(x: Explanation, depth: int) -> str:
    """The element, then the computed numbers it is made of, down to `depth` levels."""
    view = View()
    lines = [_title(x), ""]
    lines += _indent(view.element(x, root=True), 2)
    if notes := view.new_notes(x):
        lines += ["", *_indent(notes, 2)]
    level = [x]
    for k in range(depth):
        level = view.new_children(level)
        if not level:
            break
        lines += ["", "where" if k == 0 else "and in these"]
        for child in level:
            fresh = child.statement not in view.formulas
            lines += ["", *_indent(view.element(child, root=False), 2)]
            lines += _indent(view.new_notes(child), 4) if fresh else []
    lines += view.omitted(level if depth else [])
    return "\n".join(line.rstrip() for line in lines)


def _title(x: Explanation) -> str:
    if x.statement is None:
        return f"{x.name} = {shown(x.value)}, given"
    new = " after the step" if x.is_update else ""
    return f"{x.name} = {shown(x.value)}{new}"


class View:
    """What has been shown so far: no element twice, a formula with letters once."""

    def __init__(self) -> None:
        self.elements: set[str] = set()
        self.formulas: set[Statement] = set()
        self.hidden: dict[str, set[str]] = {}
        self.notes: set[str] = set()

    def new_children(self, level: Sequence[Explanation]) -> list[Explanation]:
        """The children to show next, grouped by tensor, none of them shown before."""
        found: dict[str, list[Explanation]] = {}
        total = 0
        for x in level:
            left: dict[str, int] = {}  # how many more of each tensor there is room for
            for c in x.children:
                if c.name in self.elements or c.statement is None:
                    continue
                if c.tensor not in left:
                    left[c.tensor] = LARGE_CHILDREN if _is_large(c) else CHILDREN
                if not left[c.tensor] or total == LEVEL:
                    self.hidden.setdefault(c.tensor, set()).add(c.name)
                    continue
                left[c.tensor] -= 1
                total += 1
                self.elements.add(c.name)
                found.setdefault(c.tensor, []).append(c)
        return [c for group in found.values() for c in group]

    def new_notes(self, x: Explanation) -> list[str]:
        """What has not been said yet."""
        found = [n for n in x.notes if n not in self.notes]
        self.notes.update(found)
        return [f"note: {n}" for n in found]

    def omitted(self, last: Sequence[Explanation]) -> list[str]:
        """What there is to ask for further."""
        counts = {t: len(names - self.elements) for t, names in self.hidden.items()}
        more = [f"{n:,} more of {t}" for t, n in counts.items() if n]
        deeper = dict.fromkeys(
            c.name
            for x in last
            for c in x.children
            if c.name not in self.elements and c.tensor not in self.hidden
        )
        if deeper:
            names = list(deeper)
            more.append(", ".join(names[:3]) + (", ..." if len(names) > 3 else ""))
        return ["", f"not shown: {'; '.join(more)}"] if more else []

    def element(self, x: Explanation, root: bool) -> list[str]:
        """The formula, with letters the first time, then with numbers, down to the value."""
        s = x.statement
        self.elements.add(x.name)
        if s is None:
            sizes = "x".join(map(str, x.shape))
            return [f"an element of {x.tensor}, which is {sizes}"] if sizes else []
        fresh = s not in self.formulas
        self.formulas.add(s)
        sums = [p for p in x.parts if p.names]
        few = all(p.nonzero <= SHORT for p in x.parts)
        steps = _written_out(x) if not sums or (few and not root) else []
        fits = max(map(len, steps), default=0) < _WIDTH
        brief = not sums or (few and fits and not root)
        steps = steps if brief else []
        if sums and (root or not brief):
            steps = [x.filled.removeprefix(x.name + " = "), *steps]
        if brief:
            steps.append(shown(x.value))
        lines = _equations(x, left_side(s) if fresh else "", list(dict.fromkeys(steps)))
        below: list[str] = []
        if not brief:
            below += tables(x)
        elif sums and (fresh or root):
            below += zero_lines(x.parts)
        elif not sums:
            named = [z for z in x.zeros[:1] if z.example and not z.reason.endswith(" is 0")]
            below += [f"0: {because(z)}" for z in named if x.value == 0]
        if brief:
            below += workings([t for p in x.parts for t in p.terms[:SHORT]])
            below += ways(x.parts)
        if root and x.value == 0:
            below += dict.fromkeys(z.share for z in x.zeros if z.share)
        return lines + _indent(below, 2)


def _is_large(x: Explanation) -> bool:
    """Does it take a table to show it?"""
    return any(p.nonzero > SHORT for p in x.parts if p.names)


def _equations(x: Explanation, letters: str, steps: Sequence[str]) -> list[str]:
    """name = step = step, one below the other; the formula with letters on top."""
    width = max(len(x.name), len(letters) if len(letters) < 24 else 0)
    lines: list[str] = []
    if letters:
        body = x.formula.removeprefix(letters + " = ")
        lines.append(f"{letters.ljust(width)} = {body}")
        if letters == x.name:
            steps = [step for step in steps if step != body]
    for k, step in enumerate(steps):
        left = x.name if k == 0 and letters != x.name else ""
        lines.append(f"{left.ljust(width)} = {step}")
    return lines


def _written_out(x: Explanation) -> list[str]:
    """The few terms written out: with names, with numbers, each worked out."""
    terms = [
        t
        for p in x.parts
        for t in sorted(p.terms, key=lambda t: tuple(t.indices.values()))
        if t.value != 0 or not p.names
    ]
    if not terms:
        return []
    names = [product([f.name for f in t.factors]) for t in terms]
    numbers = [
        product([factor(f.value) if f.kind == "bracket" else number(f) for f in t.factors])
        for t in terms
    ]
    worked = [
        product([f.name if f.kind == "constant" else factor(f.value) for f in t.factors])
        for t in terms
    ]
    return [*map(plus, (names, numbers, worked)), plus([factor(t.value) for t in terms])]


def _indent(lines: Sequence[str], n: int) -> list[str]:
    return [" " * n + line if line else "" for line in lines]
