"""Where things stand in a program's text, and errors that point there."""

from __future__ import annotations

import ast
from typing import NoReturn

from chainrule.errors import FormulaError
from chainrule.expr import Node
from chainrule.system import Problem, Span


class Places:
    """A text as its author sees it (`lines`) and as Python reads it (`code`).

    The two differ by the margin of an indented block, or by the parenthesis put before a single
    expression: a column of ours is Python's plus `shift`.
    """

    def __init__(self, lines: tuple[str, ...], code: tuple[str, ...], shift: int) -> None:
        self.lines, self.code, self.shift = lines, code, shift
        self.spans: dict[tuple[int, Node], Span] = {}
        self.where = 0  # the statement being read

    def at(self, line: int, column: int, width: int = 1) -> Span:
        """The place of a 1-based column of the code."""
        return Span(line, max(1, column + self.shift), max(1, width))

    def span(self, node: ast.AST) -> Span:
        line, start = self.position(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        end = len(self.code[line - 1])
        if node.end_lineno == line:  # type: ignore[attr-defined]
            _, end = self.position(line, node.end_col_offset)  # type: ignore[attr-defined]
        return self.at(line, start + 1, end - start)

    def position(self, line: int, column: int) -> tuple[int, int]:
        """Python counts columns in bytes; this counts characters, from 0."""
        return line, len(self.code[line - 1].encode()[:column].decode())

    def segment(self, node: ast.AST) -> str:
        """The text of a node, its first line only."""
        line, column, width = self.span(node)
        return self.lines[line - 1][column - 1 : column - 1 + width]

    def remember(self, node: Node, place: ast.AST) -> None:
        """A node that stands in a statement several times is pointed at where it stands first."""
        self.spans.setdefault((self.where, node), self.span(place))

    def fail(self, node: ast.AST, message: str, hint: str) -> NoReturn:
        raise self.error(self.span(node), message, hint)

    def error(self, span: Span, message: str, hint: str) -> FormulaError:
        return FormulaError(
            message,
            line=span.line,
            column=span.column,
            width=span.width,
            source_line=self.lines[span.line - 1],
            hint=hint,
        )

    def located(self, p: Problem) -> FormulaError:
        span = self.spans.get((p.where, p.node)) if p.node else None
        return self.error(span or Span(1, 1, 1), p.message, p.hint)
