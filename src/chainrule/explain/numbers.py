"""Numbers as they are shown: six significant digits, and never fed back into a product."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

DIGITS = 6


def shown(x: float, digits: int = DIGITS) -> str:
    """Six significant digits; no sign on zero.

    >>> shown(0.03649573809), shown(1437.0), shown(-0.0), shown(1e-9)
    ('0.0364957', '1437', '0', '1e-9')
    """
    text = f"{x:.{digits}g}"
    text = re.sub(r"e([+-])0*(\d+)", lambda m: f"e{m[1].replace('+', '')}{m[2]}", text)
    return "0" if text == "-0" else text


def factor(x: float) -> str:
    """A number where it may follow an operator: a negative one in brackets."""
    text = shown(x)
    return f"({text})" if text.startswith("-") else text


def latex(x: float) -> str:
    r"""The same in LaTeX.

    >>> print(latex(1.5e-7), latex(math.inf))
    1.5 \times 10^{-7} \infty
    """
    if math.isinf(x):
        return r"\infty" if x > 0 else r"-\infty"
    if math.isnan(x):
        return r"\mathrm{NaN}"
    text, _, exponent = shown(x).partition("e")
    if not exponent:
        return text
    return rf"{text} \times 10^{{{exponent}}}" if text != "1" else rf"10^{{{exponent}}}"


def aligned(numbers: Sequence[str]) -> list[str]:
    """Texts padded to one width, decimal points under each other.

    >>> aligned(["0.25", "-12", "1e-9"])
    ['  0.25', '-12   ', '  1e-9']
    """
    split = [re.match(r"([^.e]*)(.*)", n) for n in numbers]
    parts = [(m[1], m[2]) if m else (n, "") for m, n in zip(split, numbers, strict=True)]
    before = max((len(a) for a, _ in parts), default=0)
    after = max((len(b) for _, b in parts), default=0)
    return [a.rjust(before) + b.ljust(after) for a, b in parts]
