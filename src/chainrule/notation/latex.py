"""System -> textbook LaTeX, which from_latex/ reads back as the same System.

x[i,j] is x_{i,j}, w1[m] is w^{(1)}_{m}, δx[i] is ∂E/∂x_i where the objective is known, a
comparison is an Iverson bracket, `where` is a cases environment.  Where two programs would look
alike the writer is the more explicit one: factors are a thin space apart, since σ(x) is a
function; a power of anything with marks of its own gets brackets; sums within sums too, since
Σ_i Σ_j is one sum over i and j.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from chainrule.expr import (
    MINUS_ONE,
    ONE,
    ZERO,
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
    factors_of,
    mul,
    split_coefficient,
    walk,
)
from chainrule.functions import COMPARISONS, FUNCTIONS, REDUCTIONS
from chainrule.notation.greek import TO_TEX
from chainrule.system import Statement, System

_SUM, _PRODUCT, _POWER, _ATOM = range(4)


def system_latex(system: System, of: str | None = None) -> str:
    """An `align*` block, one line a statement; `of` names the objective of its δ tensors."""
    of = of if of is not None and _is_objective(system, of) else None
    rows = []
    for s in system.statements:
        left, right = statement_latex(s, of)
        rows.append((left, right, ""))
    return align(rows)


def _is_objective(system: System, of: str) -> bool:
    """Is δt certainly ∂of/∂t?  Not where `of` is no scalar, or itself made of gradients."""
    made = system.by_target.get(of)
    if made is None or made.axes or of.startswith("δ"):
        return False
    return not any(t.startswith("δ") for s in system.needed_for([of]) for t in s.mentions)


def statement_latex(s: Statement, of: str | None = None) -> tuple[str, str]:
    """Left and right side; sizes given on the left become a condition behind the formula."""
    axes = [[n for n, _ in axis] for axis in s.axes]
    inside = ",".join(n[0] if len(n) == 1 else f"({','.join(n)})" for n in map(_indices, axes))
    indices = {*s.indices, *(n for e in walk(s.body) if isinstance(e, Reduce) for n in e.names)}
    right = _Writer(of, frozenset(indices)).show(s.body, _SUM)
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
    match = re.fullmatch(r"([^\W\d_])([0-9]*)('*)", name)
    if match and name not in _NUMBERS:
        return _letter(match[1]) + match[3], match[2]
    return _word(name), ""


# Alone, \pi is the number and \delta the beginning of a cotangent.
_NUMBERS = ("π", "δ")


def _word(name: str) -> str:
    """A name of several letters."""
    out = ""
    for c in name:
        if out and c.isascii() and c.isalpha() and re.search(r"\\[A-Za-z]+$", out):
            out += " "
        out += r"\_" if c == "_" else _letter(c)
    return rf"\mathrm{{{out}}}"


def _letter(c: str) -> str:
    """Greek letters by their TeX names."""
    return "\\" + TO_TEX[c] if c in TO_TEX else c


def _indices(names: Sequence[str]) -> list[str]:
    return [_index(n) for n in names]


def _index(name: str) -> str:
    symbol, layer = _symbol(name)
    return f"{symbol}_{{{layer}}}" if layer else symbol


def _axis(axis: Axis) -> str:
    if isinstance(axis, Group):
        comma = "," if len(axis.names) == 1 else ""
        return f"({','.join(_indices(axis.names))}{comma})"
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

    def __init__(self, of: str | None, indices: frozenset[str] = frozenset()) -> None:
        self.of, self.indices = of, indices

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
                return f"{self.base(base, exponent)}^{{{self.show(exponent, _SUM)}}}", _POWER
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

    def base(self, e: Expr, exponent: Expr) -> str:
        """What a power is of, in brackets where something of its own stands above it."""
        shown = self.show(e, _ATOM)
        match e:
            case Access(t, _, None) | Index(t):
                plain = isinstance(exponent, Const) and t != "e" and not t.startswith("δ")
                closed = plain and "^" not in shown.split("_")[0] and "'" not in shown
            case Const(value):
                closed = value.denominator == 1 and value >= 0
            case Access() | Symbol() | Compare():
                closed = True
            case Call(name, _):
                closed = name != "where"
            case _:
                closed = False
        bare = closed or shown.startswith(r"\left( ")
        return shown if bare else rf"\left( {shown} \right)"

    def number(self, value: Fraction) -> tuple[str, int]:
        shown = _fraction(abs(value))
        return (f"-{shown}", _SUM) if value < 0 else (shown, _ATOM)

    def access(self, t: str, axes: tuple[Axis, ...], pad: Expr | None) -> str:
        inside = ",".join(map(_axis, axes))
        if pad is None and t + inside in self.indices and len(t) == 1:  # k_{2} is index k2 here
            return rf"\mathrm{{{_letter(t)}}}_{{{inside}}}"
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
        """Factors in their order; a divisor takes those before it into one fraction."""
        c, rest = split_coefficient(e)
        sign = "-" if c < 0 else ""
        lead = "" if abs(c) == 1 else _fraction(abs(c))
        pieces: list[str] = []
        over: list[Expr] = []
        items = [f for f in (rest.factors if isinstance(rest, Mul) else (rest,)) if f is not ONE]
        for f in items:
            if not (isinstance(f, Pow) and f.exponent is MINUS_ONE):
                over.append(f)
                continue
            top = self.show(over[0], _SUM) if len(over) == 1 else self.factors(over)
            if not top and not pieces and lead and abs(c).denominator == 1:
                top, lead = lead, ""  # 2/n is one fraction
            pieces.append(rf"\frac{{{top or 1}}}{{{self.show(f.base, _SUM)}}}")
            over = []
        if over:
            pieces.append(self.factors(over))
        shown = r" \, ".join(pieces)
        if lead and shown:
            lead += r" \cdot " if shown[0].isdigit() else " "
        return sign + (lead + shown or "1"), _SUM if sign else _PRODUCT

    def factors(self, items: list[Expr]) -> str:
        """Juxtaposed; a sum over indices in front of others gets brackets, last it needs none."""
        out = []
        for k, f in enumerate(items):
            last = k == len(items) - 1
            out.append(self.show(f, _PRODUCT if last or not isinstance(f, Reduce) else _POWER))
        return r" \, ".join(out)

    def reduction(self, op: str, binders: tuple[Binder, ...], body: Expr) -> str:
        sign = REDUCTIONS[op].latex
        whole = "".join(rf",\; {f} \in \mathbb{{Z}}" for f in _fractions(op, binders, body))
        if op in ("sum", "prod") and any(size is not None for _, size in binders):
            first = "".join(self.one_sign(sign, b) for b in binders[:-1])
            signs = first + self.one_sign(sign, binders[-1], whole)
        else:
            inside = [_index(b[0]) if b[1] is None else _range(b, self.of) for b in binders]
            signs = f"{sign}_{{{','.join(inside)}{whole}}}"
        again = isinstance(body, Reduce) and body.op == op and op in ("sum", "prod")
        return f"{signs} {self.show(body, _POWER if again else _PRODUCT)}"

    def one_sign(self, sign: str, b: Binder, whole: str = "") -> str:
        name, size = b
        if size is None:
            return f"{sign}_{{{_index(name)}{whole}}}"
        last = str(size.value - 1) if isinstance(size, Const) else f"{self.show(size, _SUM)}-1"
        return f"{sign}_{{{_index(name)}=0{whole}}}^{{{last}}}"


def _fractions(op: str, binders: tuple[Binder, ...], body: Expr) -> list[str]:
    """The indices that must be whole for a term to be there: (p-m)/2 behind a pad of 0."""
    if op != "sum":
        return []
    names = {n for n, _ in binders}
    found = (
        _axis(a)
        for f in factors_of(body)
        if isinstance(f, Access) and f.pad is ZERO
        for a in f.axes
        if isinstance(a, Affine) and not a.whole and names.intersection(a.names)
    )
    return list(dict.fromkeys(found))
