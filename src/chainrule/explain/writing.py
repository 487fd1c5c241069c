"""Expressions as text or LaTeX, numbers in place of tensors and of inner reductions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from chainrule.explain import numbers
from chainrule.explain.values import Numbers
from chainrule.expr import Access, Expr, Reduce, Size, rebuild
from chainrule.notation import expression
from chainrule.notation.latex import expression_latex

_MARK = "Vqz"  # a name that no program has: it stands where a number will be written


# an index form that begins with a minus and ends with a number: -m+1
_BACKWARDS = re.compile(
    r"(?<=[\[(,])((?:-(?:\d+\*)?[^\W\d]\w*)(?:[-+](?:\d+\*)?[^\W\d]\w*)*)\+(\d+)(?=[\]),])"
)


def formula(e: Expr) -> str:
    """Program text, without the primes that keep bound names apart; 1-m rather than -m+1."""
    return polished(expression(e))


def polished(text: str) -> str:
    return _BACKWARDS.sub(r"\2\1", text.replace("'", ""))


def latex(e: Expr, of: str | None) -> str:
    return expression_latex(e, of).replace("'", "")


def marked(e: Expr, values: Callable[[Expr], float | None]) -> tuple[Expr, list[float]]:
    """e with a mark for every subexpression that `values` knows, and the values in order."""
    found: list[float] = []

    def go(x: Expr) -> Expr:
        value = values(x)
        if value is None:
            return rebuild(x, go)
        found.append(value)
        return Access(f"{_MARK}{len(found) - 1}q", (), None)

    return go(e), found


def with_numbers(e: Expr, values: Callable[[Expr], float | None]) -> str:
    """0.28*0.565914*(1 - 0.565914)"""
    new, found = marked(e, values)
    text = formula(new)

    def number(m: re.Match[str]) -> str:
        x = found[int(m[1])]
        first = m.start() == 0 or text[m.start() - 1] in "(,["
        return (
            numbers.shown(x) if first and not text.startswith("**", m.end()) else numbers.factor(x)
        )

    return re.sub(rf"{_MARK}(\d+)q", number, text)


def latex_with_numbers(e: Expr, values: Callable[[Expr], float | None], of: str | None) -> str:
    new, found = marked(e, values)
    text = latex(new, of)

    def number(m: re.Match[str]) -> str:
        x = found[int(m[1])]
        shown = numbers.latex(x)
        return rf"\left({shown}\right)" if shown.startswith("-") or "times" in shown else shown

    text = re.sub(rf"\\mathrm\{{{_MARK}(\d+)q\}}", number, text)
    # between two numbers a thin space is no product sign
    return re.sub(r"(?<=[\d)]) \\, (?=[\d\\(])", r" \\cdot ", text)


def known(work: Numbers, t: str) -> Callable[[Expr], float | None]:
    """What is written as a number: a tensor's element, a size, a reduction."""

    def value(e: Expr) -> float | None:
        if isinstance(e, (Access, Size, Reduce)) and not e.free:
            return work.number(t, e)
        return None

    return value


def unpadded(work: Numbers, e: Expr) -> Expr:
    """pad(δx)[1,2] is written δx[1,2] where it is inside."""

    def go(x: Expr) -> Expr:
        if (
            isinstance(x, Access)
            and x.pad is not None
            and not x.free
            and work.inside(x) is not None
        ):
            return Access(x.tensor, x.axes, None)
        return rebuild(x, go)

    return go(e)


def accesses(e: Expr) -> Iterator[Access]:
    """The accesses of e that stand outside any reduction in it, left to right."""
    found: list[Access] = []

    def go(x: Expr) -> Expr:
        if isinstance(x, Access):
            found.append(x)
        return x if isinstance(x, Reduce) else rebuild(x, go)

    go(e)
    return iter(found)


def reductions(e: Expr) -> list[Reduce]:
    """The outermost reductions in e."""
    found: list[Reduce] = []

    def go(x: Expr) -> Expr:
        if isinstance(x, Reduce):
            found.append(x)
            return x
        return rebuild(x, go)

    go(e)
    return found
