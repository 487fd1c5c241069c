"""The working of a reduction inside a factor: a window with its winner, a sum, a softmax's log."""

from __future__ import annotations

from chainrule.explain.model import Inner
from chainrule.explain.numbers import aligned, factor, shown

_LARGE = 64  # values; a larger window is told by its winner alone
_LONG = 6  # terms in a line


def inner_lines(i: Inner) -> list[str]:
    """A few lines that lead from what is reduced to the result."""
    if i.op in ("max", "min", "argmax"):
        return window(i)
    return [line(i)]


def window(i: Inner) -> list[str]:
    """The values that compete, the winner in brackets."""
    if not i.values.size:
        return [f"{i.formula}: an empty window"]
    lines = grid(i) if i.values.size <= _LARGE else []
    where = ", ".join(f"{n}={k}".replace("'", "") for n, k in zip(i.names, i.winner, strict=True))
    best = shown(float(i.values[i.winner]))
    what = "smallest" if i.op == "min" else "largest"
    tie = ""
    if i.ties > 1:
        kind = "minima" if i.op == "min" else "maxima"
        tie = f"; tie: {i.ties} equal {kind}, first taken"
    number = f", number {shown(i.value)} in row-major order" if i.op == "argmax" else ""
    lines.append(f"{what} of {i.values.size:,}: {i.winner_name} = {best} at {where}{number}{tie}")
    return lines


def grid(i: Inner) -> list[str]:
    """The window as rows and columns; indices of size 1 take no room."""
    axes = [k for k, n in enumerate(i.values.shape) if n > 1] or [i.values.ndim - 1]
    columns = axes[-1]
    values = i.values.reshape(-1)
    texts = aligned([shown(float(v)) for v in values])
    best = 0
    for k, n in zip(i.winner, i.values.shape, strict=True):
        best = best * n + k
    cells = [_marked(t) if k == best else f" {t} " for k, t in enumerate(texts)]
    wide = i.values.shape[columns]
    names = [n.rstrip("'") for n in i.names]
    lines = []
    for start in range(0, len(cells), wide):
        at: list[str] = []
        rest = start // wide
        for k in reversed(axes[:-1]):
            rest, place = divmod(rest, i.values.shape[k])
            at.insert(0, f"{names[k]}={place}")
        lines.append((" ".join(at) + "  " if at else "") + " ".join(cells[start : start + wide]))
    heads = [f"{names[columns]}={k}" for k in range(wide)]
    lead = " " * (len(lines[0]) - len(" ".join(cells[:wide])))
    width = len(cells[0])
    return [lead + " ".join(h.center(width) for h in heads), *lines]


def _marked(number: str) -> str:
    """The winner in brackets, at its place in the column."""
    bare = number.strip()
    before = number[: len(number) - len(number.lstrip())]
    return f"{before}[{bare}]{number[len(number.rstrip()) :]}"


def line(i: Inner) -> str:
    """logsumexp[l](u[0,l]) = log(exp(1.2) + exp(0.3)) = 1.54"""
    numbers = [f.value for f in i.entries]
    short = len(numbers) <= _LONG
    if i.op == "logsumexp":
        inside = " + ".join(f"exp({shown(x)})" for x in numbers[:_LONG])
        more = "" if short and i.values.size == len(numbers) else " + ..."
        return f"{i.formula} = log({inside}{more}) = {shown(i.value)}"
    sign = " * " if i.op == "prod" else " + "
    inside = sign.join(factor(x) for x in numbers[:_LONG]) or "0"
    inside = shown(numbers[0]) if len(numbers) == 1 else inside
    hidden = i.op in ("sum", "mean") and not short
    inside += f"{sign}..." if hidden or (i.op == "prod" and i.values.size > _LONG) else ""
    if i.op == "mean":
        inside = f"({inside})/{i.values.size}"
    steps = [i.formula, inside, shown(i.value)]
    return " = ".join(dict.fromkeys(steps))
