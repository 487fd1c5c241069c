"""The one error that a mistake in a formula, a shape or an array raises."""

from __future__ import annotations

from collections.abc import Mapping

WIDTH = 100  # characters of a line that a message shows


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
            shown, start = _clipped(source_line, column)
            width = max(1, min(width, len(shown) - start + 1))
            parts += [lead + shown, " " * (len(lead) + start - 1) + "^" * width]
        if shapes:
            parts.append("  shapes: " + ", ".join(f"{t}{list(s)}" for t, s in shapes.items()))
        if hint:
            parts.append("  hint: " + hint)
        super().__init__("\n".join(parts))


def _clipped(line: str, column: int) -> tuple[str, int]:
    """At most WIDTH characters of a long line, around a column; and where the column then is."""
    if len(line) <= WIDTH:
        return line, column
    first = max(0, min(column - 1 - WIDTH // 3, len(line) - WIDTH))
    before = "..." if first else ""
    after = "..." if first + WIDTH < len(line) else ""
    return before + line[first : first + WIDTH] + after, column - first + len(before)
