r"""LaTeX, as people typeset it and as we print it -> formulas.

    read(text).statements           of one formula a line; .system(...) checks and places them
    read(text, program's System)    a claim: names and indices are those of the program

What LaTeX leaves open is read so; where a guess could be wrong there is an error instead.

Formulas    One a line, or a row of align, gather, ...; `$`, `\[`, `&`, sizes of brackets and
            spacing are layout.  A line that begins with + or - goes on with the one before.
            `0 \leq i < 3` or `i = 1, \dots, n` behind a formula: the size of an index.
Letters     Letters are names, each by itself; \mathrm{act}, \mathbf{x} are names too, and so are
            \hat{y} (y_hat), z_{\text{out}} (z_out), \delta x, \Delta w.  h_1 on a left side makes
            h_1 a name; else x_1 is an element, counted from 0.  e^x is the exponential unless a
            formula assigns e; \pi is the number.
Subscripts  ij is i,j.  i' is an index of its own (i2).  (i,j) is one axis, row-major.
Above       An integer is a power, on names and brackets alike; so is a fraction, or a letter that
            is an index or a tensor elsewhere.  l, L, l-1, a word, and what stands in ( ) or [ ]
            name a layer: dropped where the letter has no other; W^{(2)} is W2; a^{l-1} beside a^l
            is a_prev.  x^{(i)} with i bound in the formula is an axis, the first.
Sums        A sum takes the rest of its product.  \sum_i \sum_j is one sum over i and j.  Limits
            by symbols are what the shapes say; limits by numbers give the size.  Where a formula's
            sums start at 1 it counts from 1, and is read as the same formula counted from 0: x_1
            is then the first element.  N of \sum_{i=1}^N elsewhere in it is that size.
Brackets    With a comparison inside they are 1 or 0, else they only group.  \sigma(...) and
            \text{ReLU}(...) are functions, b(...) is a product; \log x takes one factor.
Slopes      \frac{\partial E}{\partial w_i} is δw[i] where the text defines it or assigns no E, else
            grad(E, w)[i].  ∂x_i/∂w_m, of a tensor with indices, is worked out from the statement
            of x.
Updates     w^{(t+1)} = w^{(t)} - ..., w' = w - ..., w \leftarrow w - ...
Whole       Without indices a tensor has those that it has elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule.errors import FormulaError
from chainrule.expr import Partial, walk
from chainrule.system import Statement, System

if TYPE_CHECKING:
    from chainrule.notation.from_latex.reader import Reader

__all__ = ["has_partial", "read"]


def read(text: str, known: System | None = None) -> Reader:
    """The formulas of a text; raises FormulaError, for a missing parser library as well."""
    try:
        from chainrule.notation.from_latex import reader
    except ModuleNotFoundError as e:
        if e.name != "lark":
            raise
        raise FormulaError(
            "reading LaTeX needs the parser library lark",
            hint="pip install 'chainrule[latex]'",
        ) from None
    return reader.read(text, known)


def has_partial(s: Statement) -> bool:
    """Is there a local derivative in it, still to be worked out?"""
    return any(isinstance(e, Partial) for e in walk(s.body))
