"""System -> textbook LaTeX.

x[i,j] is x_{i,j}, w1[m] is w^{(1)}_{m}, δx[i] is ∂E/∂x_i where the objective is known, a
comparison is an Iverson bracket, `where` is a cases environment.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction

from chainrule.expr import (
    MINUS_ONE,
    ONE,
    Access,
    Add,
    Affine,
    Axis,
    Binder,
    Call,
    Compare,
    Const,
    Expr,
    Grad,
    Group,
    Index,
    Mul,
    Partial,
    Pow,
    Reduce,
    Size,
    Symbol,
    mul,
    split_coefficient,
)
from chainrule.functions import COMPARISONS, FUNCTIONS, REDUCTIONS
from chainrule.system import Statement, System

_SUM, _PRODUCT, _POWER, _ATOM = range(4)


def system_latex(system: System, of: str | None = None) -> str:
    """An `align*` block, one line a statement; `of` names the objective of its δ tensors."""
    rows = []
    for s in system.statements:
        left, right = statement_latex(s, of)
        rows.append((left, right, ""))
    return align(rows)


def statement_latex(s: Statement, of: str | None = None) -> tuple[str, str]:
    """Left and right side; sizes given on the left become a condition behind the formula."""
    axes = [[n for n, _ in axis] for axis in s.axes]
    inside = ",".join(n[0] if len(n) == 1 else f"({','.join(n)})" for n in map(_indices, axes))
    right = _Writer(of).show(s.body, _SUM)
    sized = [_range(b, of) for axis in s.axes for b in axis if b[1] is not None]
    if sized:
        right += r" \qquad " + r",\; ".join(sized)
    return tensor_latex(s.target, inside, of), right


def expression_latex(e: Expr, of: str | None = None) -> str:
    return _Writer(of).show(e, _SUM)


def cotangent_latex(wrt: Access, of: str) -> str:
    """∂of/∂wrt"""
    return expression_latex(Grad(of, wrt.tensor, wrt.axes))


def align(rows: Sequence[tuple[str, str, str]], environment: str = "align*") -> str:
    """Rows (left, right, reason) of an aligned block."""
    lines = []
    for left, right, why in rows:
        note = rf" && \text{{{why}}}" if why else ""
        lines.append(f"{left} &= {right}{note}")
    body = " \\\\\n".join(lines)
    return f"\\begin{{{environment}}}\n{body}\n\\end{{{environment}}}"


def tensor_latex(name: str, inside: str, of: str | None = None) -> str:
    """A tensor with its indices; a cotangent as a partial derivative."""
    if name.startswith("δ") and len(name) > 1:
        rest = name[1:]
        if of is not None:
            below = tensor_latex(rest, inside)
            return rf"\frac{{\partial {tensor_latex(of, '')}}}{{\partial {below}}}"
        return rf"\delta {tensor_latex(rest, inside)}"
    symbol, layer = _symbol(name)
    upper = f"^{{({layer})}}" if layer else ""
    lower = f"_{{{inside}}}" if inside else ""
    return symbol + upper + lower


def _symbol(name: str) -> tuple[str, str]:
    """A name as a letter and what stands on top: w1 -> (w, 1)."""
    match = re.fullmatch(r"([^\W\d_])(\d*)('*)", name)
    if match:
        return _letter(match[1]) + match[3], match[2]
    return rf"\mathrm{{{''.join(_escape(c) for c in name)}}}", ""


def _escape(c: str) -> str:
    if c == "_":
        return r"\_"
    return c if c.isascii() else rf"\({_letter(c)}\)" if c.isalpha() else c


def _letter(c: str) -> str:
    """Greek letters by their TeX names."""
    if c.isascii():
        return c
    words = unicodedata.name(c, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        name = words[-1].lower().replace("lamda", "lambda")
        name = {"omicron": "o"}.get(name, name)
        return "\\" + (name.capitalize() if "CAPITAL" in words else name)
    return c


def _indices(names: Sequence[str]) -> list[str]:
    return [_index(n) for n in names]


def _index(name: str) -> str:
    symbol, layer = _symbol(name)
    return f"{symbol}_{{{layer}}}" if layer else symbol


def _axis(axis: Axis) -> str:
    if isinstance(axis, Group):
        return f"({','.join(_indices(axis.names))})"
    if axis.whole:
        return _affine(axis)
    d = max(c.denominator for c in (axis.offset, *(c for _, c in axis.terms)))
    scaled = Affine(tuple((n, c * d) for n, c in axis.terms), axis.offset * d)
    return rf"\frac{{{_affine(scaled)}}}{{{d}}}" if scaled.whole else _affine(axis)


def _affine(a: Affine) -> str:
    out = ""
    for name, c in a.terms:
        size = "" if abs(c) == 1 else _fraction(abs(c)) + " "
        out += f"{'-' if c < 0 else '+' if out else ''}{size}{_index(name)}"
    if a.offset or not out:
        out += f"{'-' if a.offset < 0 else '+' if out else ''}{_fraction(abs(a.offset))}"
    return out


def _fraction(q: Fraction) -> str:
    if q.denominator == 1:
        return str(q.numerator)
    return rf"\frac{{{q.numerator}}}{{{q.denominator}}}"


def _range(b: Binder, of: str | None) -> str:
    name, size = b
    assert size is not None
    return rf"0 \leq {_index(name)} < {_Writer(of).show(size, _SUM)}"


class _Writer:
    """Renders expressions; `of` is the objective that δ tensors are derivatives of."""

    def __init__(self, of: str | None) -> None:
        self.of = of

    def show(self, e: Expr, place: int) -> str:
        shown, strength = self.render(e)
        return rf"\left( {shown} \right)" if strength < place else shown

    def render(self, e: Expr) -> tuple[str, int]:
        match e:
            case Const(value):
                return self.number(value)
            case Symbol("pi"):
                return r"\pi", _ATOM
            case Symbol():
                return r"\infty", _ATOM
            case Index(name):
                return _index(name), _ATOM
            case Size(t, axis):
                return rf"\operatorname{{size}}_{{{axis}}}({tensor_latex(t, '', self.of)})", _ATOM
            case Access(t, axes, pad):
                return self.access(t, axes, pad), _ATOM
            case Grad(of, wrt, axes):
                below = tensor_latex(wrt, ",".join(map(_axis, axes)))
                return rf"\frac{{\partial {tensor_latex(of, '')}}}{{\partial {below}}}", _ATOM
            case Partial(body, wrt):
                over, under = self.show(body, _ATOM), self.show(wrt, _ATOM)
                if isinstance(body, Access):
                    return rf"\frac{{\partial {over}}}{{\partial {under}}}", _ATOM
                return rf"\frac{{\partial}}{{\partial {under}}} {over}", _PRODUCT
            case Add(terms):
                return self.sum(terms), _SUM
            case Mul() | Pow(_, Const(Fraction(numerator=-1, denominator=1))):
                return self.product(e)
            case Pow(base, exponent):
                return f"{self.show(base, _ATOM)}^{{{self.show(exponent, _SUM)}}}", _POWER
            case Call("//", (a, b)):
                fraction = rf"\frac{{{self.show(a, _SUM)}}}{{{self.show(b, _SUM)}}}"
                return rf"\left\lfloor {fraction} \right\rfloor", _ATOM
            case Call("min", args):
                inside = ", ".join(self.show(a, _SUM) for a in args)
                return rf"\min\left({inside}\right)", _ATOM
            case Call(name, args):
                return FUNCTIONS[name].latex.format(*(self.show(a, _SUM) for a in args)), _ATOM
            case Compare(op, a, b):
                sign = COMPARISONS[op][1]
                return rf"\left[ {self.show(a, _SUM)} {sign} {self.show(b, _SUM)} \right]", _ATOM
            case Reduce(op, binders, body):
                return self.reduction(op, binders, body), _PRODUCT
        raise AssertionError(type(e))

    def number(self, value: Fraction) -> tuple[str, int]:
        shown = _fraction(abs(value))
        return (f"-{shown}", _SUM) if value < 0 else (shown, _ATOM)

    def access(self, t: str, axes: tuple[Axis, ...], pad: Expr | None) -> str:
        inside = ",".join(map(_axis, axes))
        if pad is None:
            return tensor_latex(t, inside, self.of)
        value = "" if isinstance(pad, Const) and pad.value == 0 else f", {self.show(pad, _SUM)}"
        name = tensor_latex(t, "", self.of)
        return rf"\operatorname{{pad}}\left({name}{value}\right)_{{{inside}}}"

    def sum(self, terms: tuple[Expr, ...]) -> str:
        out = ""
        for k, term in enumerate(terms):
            c, rest = split_coefficient(term)
            shown = self.show(mul(Const(abs(c)), rest), _PRODUCT)
            out += (" - " if k else "-") if c < 0 else (" + " if k else "")
            out += shown
        return out

    def product(self, e: Expr) -> tuple[str, int]:
        c, rest = split_coefficient(e)
        factors = rest.factors if isinstance(rest, Mul) else (rest,)
        under = [f.base for f in factors if isinstance(f, Pow) and f.exponent is MINUS_ONE]
        over = [f for f in factors if not (isinstance(f, Pow) and f.exponent is MINUS_ONE)]
        over = [f for f in over if f is not ONE]
        sign = "-" if c < 0 else ""
        lead = "" if abs(c) == 1 else _fraction(abs(c))
        if under:
            top = self.factors(over) or "1"
            if len(over) == 1:
                top = self.show(over[0], _SUM)
            bottom = self.factors(under) if len(under) > 1 else self.show(under[0], _SUM)
            shown = f"{lead} \\frac{{{top}}}{{{bottom}}}".strip()
        else:
            shown = f"{lead} {self.factors(over)}".strip() if over else lead or "1"
        return sign + shown, _SUM if sign else _PRODUCT

    def factors(self, items: list[Expr]) -> str:
        """Juxtaposed; a sum over indices in front of others gets brackets, last it needs none."""
        out = []
        for k, f in enumerate(items):
            last = k == len(items) - 1
            out.append(self.show(f, _PRODUCT if last or not isinstance(f, Reduce) else _POWER))
        return r" \, ".join(out)

    def reduction(self, op: str, binders: tuple[Binder, ...], body: Expr) -> str:
        sign = REDUCTIONS[op].latex
        if op in ("sum", "prod") and any(size is not None for _, size in binders):
            signs = "".join(self.one_sign(sign, b) for b in binders)
        else:
            inside = [_index(b[0]) if b[1] is None else _range(b, self.of) for b in binders]
            signs = f"{sign}_{{{','.join(inside)}}}"
        return f"{signs} {self.show(body, _PRODUCT)}"

    def one_sign(self, sign: str, b: Binder) -> str:
        name, size = b
        if size is None:
            return f"{sign}_{{{_index(name)}}}"
        last = str(size.value - 1) if isinstance(size, Const) else f"{self.show(size, _SUM)}-1"
        return f"{sign}_{{{_index(name)}=0}}^{{{last}}}"
