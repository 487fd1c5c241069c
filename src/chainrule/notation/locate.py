"""A Problem found by any pass -> a FormulaError that points into the program's text."""

from __future__ import annotations

from collections.abc import Mapping

from chainrule.errors import FormulaError
from chainrule.notation.parse import parse
from chainrule.notation.show import text
from chainrule.system import Problem, Span, System


def located(
    problem: Problem, system: System, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> FormulaError:
    """The error with line, caret and shapes; a derived System is pointed at in its own text."""
    source = system.source or parse(text(system)).source
    assert source is not None
    statement = system.statements[problem.where]
    span = source.spans.get((problem.where, problem.node)) if problem.node else None
    span = span or source.spans.get((problem.where, statement)) or Span(1, 1, 1)
    known = {t: tuple(s) for t, s in (shapes or {}).items() if t in statement.mentions}
    return FormulaError(
        problem.message,
        line=span.line,
        column=span.column,
        width=span.width,
        source_line=source.lines[span.line - 1],
        hint=problem.hint,
        shapes=known,
    )
