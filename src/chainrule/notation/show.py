"""System -> program text that parses back to the same System."""

from __future__ import annotations

from fractions import Fraction

from chainrule.expr import (
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
    split_coefficient,
)
from chainrule.system import LeftAxis, Statement, System

# How tightly an expression holds together: an operand that binds less than its place gets ( ).
_COMPARE, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(6)


def text(system: System) -> str:
    """The whole program, one statement a line."""
    return "\n".join(map(statement, system.statements))


def statement(s: Statement) -> str:
    return f"{left_side(s)} = {expression(s.body)}"


def left_side(s: Statement) -> str:
    return s.target + (f"[{','.join(map(_left_axis, s.axes))}]" if s.axes else "")


def _left_axis(axis: LeftAxis) -> str:
    shown = ",".join(map(binder, axis))
    return shown if len(axis) == 1 else f"({shown})"


def binder(b: Binder) -> str:
    name, size = b
    return name if size is None else f"{name}:{expression(size)}"


def expression(e: Expr) -> str:
    return _show(e, _COMPARE)


def _show(e: Expr, place: int) -> str:
    shown, strength = _render(e)
    return f"({shown})" if strength < place else shown


def _render(e: Expr) -> tuple[str, int]:
    match e:
        case Const(value):
            return _number(value)
        case Symbol(name) | Index(name):
            return name, _ATOM
        case Size(t, axis):
            return f"size({t},{axis})", _ATOM
        case Access(t, axes, pad):
            return _padded(t, pad) + _brackets(axes), _ATOM
        case Grad(of, wrt, axes):
            return f"grad({of}, {wrt})" + _brackets(axes), _ATOM
        case Add(terms):
            return _sum(terms), _SUM
        case Mul(factors):
            return _product(factors)
        case Pow(base, Const(value)) if value == -1:
            return f"1/{_show(base, _UNARY)}", _PRODUCT
        case Pow(base, exponent):
            return f"{_show(base, _ATOM)}**{_show(exponent, _ATOM)}", _POWER
        case Call("//", (a, b)):
            return f"{_show(a, _PRODUCT)}//{_show(b, _UNARY)}", _PRODUCT
        case Call(name, args):
            return f"{name}({', '.join(map(expression, args))})", _ATOM
        case Compare(op, a, b):
            return f"{_show(a, _SUM)} {op} {_show(b, _SUM)}", _COMPARE
        case Reduce(op, binders, body):
            return f"{op}[{','.join(map(binder, binders))}]({expression(body)})", _ATOM
        case Partial(body, wrt):
            return f"∂{_show(body, _ATOM)}/∂{expression(wrt)}", _ATOM
    raise AssertionError(type(e))


def _number(value: Fraction) -> tuple[str, int]:
    """Finite decimals as decimals where that is shorter to read, else p/q."""
    if value.denominator == 1:
        return str(value.numerator), _ATOM if value >= 0 else _UNARY
    twos_and_fives = value.denominator
    for prime in (2, 5):
        while twos_and_fives % prime == 0:
            twos_and_fives //= prime
    decimal = str(abs(float(value)))
    if twos_and_fives == 1 and value.denominator > 8 and Fraction(decimal) == abs(value):
        return ("-" if value < 0 else "") + decimal, _ATOM if value >= 0 else _UNARY
    return f"{value.numerator}/{value.denominator}", _PRODUCT


def _padded(tensor: str, pad: Expr | None) -> str:
    match pad:
        case None:
            return tensor
        case Const(value) if value == 0:
            return f"pad({tensor})"
        case _:
            return f"pad({tensor}, {expression(pad)})"


def _brackets(axes: tuple[Axis, ...]) -> str:
    return f"[{','.join(map(show_axis, axes))}]" if axes else ""


def show_axis(axis: Axis) -> str:
    if isinstance(axis, Group):
        inside = ",".join(axis.names)
        return f"({inside},)" if len(axis.names) == 1 else f"({inside})"
    if axis.whole:
        return affine_text(axis)
    # a fraction: the common denominator is written once, as in (p-m)/2
    d = axis.denominator
    scaled = axis.times(d)
    inner = affine_text(scaled)
    alone = scaled.bare is not None or not scaled.terms
    return f"{inner}/{d}" if alone else f"({inner})/{d}"


def affine_text(a: Affine) -> str:
    """2*i+m-1, with no spaces: it stands between brackets."""
    out = ""
    for name, c in a.terms:
        size = "" if abs(c) == 1 else f"{abs(c)}*"
        sign = "-" if c < 0 else "+" if out else ""
        out += f"{sign}{size}{name}"
    if a.offset or not out:
        out += f"{'-' if a.offset < 0 else '+' if out else ''}{abs(a.offset)}"
    return out


def _sum(terms: tuple[Expr, ...]) -> str:
    out = ""
    for k, term in enumerate(terms):
        c, rest = split_coefficient(term)
        if c < 0:
            positive = _negated(term, c, rest)
            out += f" - {_show(positive, _PRODUCT)}" if k else f"-{_show(positive, _PRODUCT)}"
        else:
            out += (" + " if k else "") + _show(term, _PRODUCT)
    return out


def _negated(term: Expr, c: Fraction, rest: Expr) -> Expr:
    """-term, for printing behind a minus sign."""
    if isinstance(term, Const):
        return Const(-c)
    if c == -1:
        return rest
    assert isinstance(term, Mul)
    return Mul((Const(-c), *term.factors[1:]))


def _product(factors: tuple[Expr, ...]) -> tuple[str, int]:
    """Factors joined by *, those to the power -1 by /."""
    first, *rest = factors
    out = ""
    strength = _PRODUCT
    if isinstance(first, Const) and first.value < 0:
        strength = _SUM  # -2*x needs brackets inside a product or a power, not inside a sum
        out = "-"
        first = Const(-first.value)
        if first.value == 1:
            first, *rest = rest
    if _reciprocal(first) is not None:
        out += "1"
        rest = [first, *rest]
    else:
        out += _show(first, _PRODUCT)
    for f in rest:
        under = _reciprocal(f)
        out += f"*{_show(f, _UNARY)}" if under is None else f"/{_show(under, _UNARY)}"
    return out, strength


def _reciprocal(e: Expr) -> Expr | None:
    return e.base if isinstance(e, Pow) and e.exponent is Const(Fraction(-1)) else None


# The view registers itself with the nodes: expr.py imports nothing that stands above it.
setattr(Expr, "__str__", expression)  # noqa: B010
setattr(Expr, "__repr__", expression)  # noqa: B010
setattr(Statement, "__str__", statement)  # noqa: B010
