"""The one error that a mistake in a formula, a shape or an array raises."""

from __future__ import annotations

from collections.abc import Mapping


class FormulaError(ValueError):
    """What is wrong, where, and what would fix it.

    line, column   1-based position in the program's text, None where there is no text to point at
    hint           what would fix it, or ""
    """

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        width: int = 1,
        source_line: str = "",
        hint: str = "",
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.message = message
        self.line = line
        self.column = column
        self.hint = hint
        parts = [message]
        if line is not None and column is not None:
            lead = f"  line {line}: "
            width = max(1, min(width, len(source_line) - column + 1))
            parts += [lead + source_line, " " * (len(lead) + column - 1) + "^" * width]
        if shapes:
            parts.append("  shapes: " + ", ".join(f"{t}{list(s)}" for t, s in shapes.items()))
        if hint:
            parts.append("  hint: " + hint)
        super().__init__("\n".join(parts))
