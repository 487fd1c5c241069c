"""Run every example of docs/questions.md and write what it prints below it.

    python scripts/write_questions.py            rewrite the outputs
    python scripts/write_questions.py --check    exit 1 where one has changed

A python block is an example; the text block after it is what it printed.  The blocks of one
question share their names, so a later block may go on where an earlier one stopped.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import sys
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "questions.md"
_EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n.*?```\n)?", re.S)


def rewritten(document: str) -> str:
    """The document with the output of every example as it is now."""
    return "".join(map(_question, re.split(r"(?m)^(?=## )", document)))


def _question(section: str) -> str:
    names: dict[str, Any] = {}

    def example(m: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(m["code"], "docs/questions.md", "exec"), names)
        output = printed.getvalue().rstrip("\n")
        shown = f"\n```text\n{output}\n```\n" if output else ""
        return f"```python\n{m['code']}```\n{shown}"

    return _EXAMPLE.sub(example, section)


def main(arguments: list[str]) -> int:
    before = DOCUMENT.read_text(encoding="utf-8")
    after = rewritten(before)
    if "--check" not in arguments:
        DOCUMENT.write_text(after, encoding="utf-8")
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), "written", "now")
    )
    return int(before != after)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
