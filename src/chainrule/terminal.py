"""Writing to the screen: colour, tables and progress on a terminal, plain text elsewhere.

Everything that the command line shows goes through `Screen`.  `rich` is imported only where
standard output is a terminal, so a pipe costs nothing; it honours NO_COLOR by itself.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# What is coloured in a formula: comment or reason, number, the name before ( or [, operators.
_PARTS = re.compile(
    r"(?P<comment>\#.*|^ {8}\(.*\)$)"
    r"|(?P<number>\b\d+(?:\.\d+)?\b)|(?P<reduction>\b\w+(?=\[[^\]]*\]\())"
    r"|(?P<function>\b\w+(?=\())|(?P<sign>[=+\-*/<>!Σ∂·]+)"
)
_STYLES = {
    "comment": "dim",
    "number": "cyan",
    "reduction": "bold magenta",
    "function": "magenta",
    "sign": "yellow",
}


class Screen:
    """One place to print to: `console` is set where it is a terminal, None where it is not."""

    def __init__(self, stream: TextIO | None = None) -> None:
        # A process may be started with its standard output closed: then there is none.
        self.stream = stream or sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        self.console: Console | None = None
        if self.stream.isatty():
            from rich.console import Console

            self.console = Console(file=self.stream, highlight=False, soft_wrap=True)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one piece of text; `style` is a rich style and does nothing in plain text."""
        if self.console is None:
            print(text, file=self.stream)
        else:
            self.console.print(text, style=style or None, markup=False)

    def heading(self, text: str) -> None:
        """Print a section's title, underlined, and show at once whatever was printed before."""
        self.line()
        if self.console is None:
            self.line(text)
            self.line("-" * len(text))
            self.stream.flush()
        else:
            self.console.rule(f"[bold]{text}[/bold]", align="left", style="cyan")

    def formulas(self, text: str, indent: str = "  ") -> None:
        """Print program text, indented, its parts coloured."""
        for row in text.rstrip("\n").split("\n"):
            if self.console is None:
                self.line((indent + row).rstrip())
            else:
                self.console.print(indent, _coloured(row), sep="", markup=False)

    def labelled(self, label: str, formula: str) -> None:
        """Print one formula with a word before it that is no part of it."""
        if self.console is None:
            self.line(label + formula)
        else:
            from rich.text import Text

            self.console.print(Text(label, "dim") + _coloured(formula))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows under a header; cells may have several lines."""
        if self.console is None:
            for row in plain_table(header, rows):
                self.line(row)
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, header_style="bold")
        for title in header:
            table.add_column(title, no_wrap=True)
        for cells in rows:
            # Text objects, so that a bracket in a cell is never taken for markup.
            table.add_row(*(_plain(cell) for cell in cells))
        self.console.print(table)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Progress]:
        """Show a bar that `Progress.step` moves; without a terminal, a line for each message."""
        if self.console is None:
            yield Progress(self)
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=32),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}"),
        )
        with Bar(*columns, console=self.console) as bar:
            task = bar.add_task(label, total=total, message="")

            def move(message: str | None) -> None:
                bar.advance(task)
                if message is not None:
                    bar.update(task, message=message)

            yield Progress(self, move)


class Progress:
    """What a long loop reports to."""

    def __init__(self, screen: Screen, move: Callable[[str | None], None] | None = None) -> None:
        self._screen = screen
        self._move = move

    def step(self, message: str | None = None) -> None:
        """One more part of the work is done; `message` replaces the text beside the bar."""
        if self._move is not None:
            self._move(message)
        elif message is not None:
            self._screen.line("  " + message)
            self._screen.stream.flush()


@contextmanager
def busy(label: str, delay: float = 1.0) -> Iterator[None]:
    """Show a spinner on standard error if the work inside takes longer than `delay` seconds."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    status = Console(stderr=True).status(label)
    timer = threading.Timer(delay, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a table as lines of text.

    >>> print(*plain_table(["name", "value"], [["x", "1"], ["long", "2\\n3"]]), sep="\\n")
    name  value
    x     1
    long  2
          3
    """
    grid = [[cell.split("\n") for cell in row] for row in [header, *rows]]
    widths = [max(len(line) for row in grid for line in row[i]) for i in range(len(header))]
    lines = []
    for row in grid:
        for depth in range(max(map(len, row))):
            parts = [cell[depth] if depth < len(cell) else "" for cell in row]
            padded = (part.ljust(width) for part, width in zip(parts, widths, strict=True))
            lines.append("  ".join(padded).rstrip())
    return lines


def beside(*blocks: str, gap: str = "    ") -> str:
    """Put blocks of text next to each other, tops aligned.

    >>> print(beside("a\\nb", "c"))
    a    c
    b
    """
    split = [block.split("\n") for block in blocks]
    widths = [max(map(len, lines)) for lines in split]
    rows = []
    for depth in range(max(map(len, split))):
        cells = (
            (lines[depth] if depth < len(lines) else "").ljust(width)
            for lines, width in zip(split, widths, strict=True)
        )
        rows.append(gap.join(cells).rstrip())
    return "\n".join(rows)


def _coloured(text: str) -> Text:
    from rich.text import Text

    result = Text(text)
    for part in _PARTS.finditer(text):
        result.stylize(_STYLES[str(part.lastgroup)], part.start(), part.end())
    return result


def _plain(cell: str) -> Text:
    from rich.text import Text

    return Text(cell)
