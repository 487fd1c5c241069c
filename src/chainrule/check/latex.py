"""A claim in LaTeX, about a given program."""

from __future__ import annotations

from chainrule.derive import written_out
from chainrule.errors import FormulaError
from chainrule.notation import from_latex
from chainrule.system import Statement, System


def read_claim(latex: str, system: System) -> Statement:
    """The statement that a formula in LaTeX makes about the tensors of a program.

    ∂E/∂x is the tensor δx.  A local derivative, ∂x_{i,j}/∂w_{m,n}, is worked out from the
    program's statement of x, its Kronecker deltas written as brackets.  Raises FormulaError with
    line, column and hint.
    """
    found = from_latex.read(latex, system)
    if len(found.statements) != 1:
        raise FormulaError(
            f"a claim is one formula, not {len(found.statements)}",
            hint=r"as in  \frac{\partial E}{\partial w_{m}} = \sum_{i} ...",
        )
    try:
        statement = written_out(system, found.statements[0])
    except FormulaError as e:
        raise found.error(found.places[0], e.message, e.hint) from None
    found.system([statement])
    return statement
