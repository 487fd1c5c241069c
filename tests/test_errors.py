"""Every mistake gets a FormulaError that says what, where, and what would fix it.

The exact messages are golden files, to be read as a learner reads them:
    UPDATE_GOLDENS=1 pytest tests/test_errors.py        writes them anew
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import wrong_programs as programs
import wrong_uses as uses
from wrong_programs import Wrong

GOLDENS = Path(__file__).parent / "goldens" / "errors"
TEXTS = [
    *programs.SYNTAX,
    *programs.STATEMENTS,
    *programs.NAMES,
    *programs.OPERATORS,
    *programs.FUNCTIONS,
    *programs.INDICES,
    *programs.RANKS,
]
USES = [*uses.RANGES, *uses.DATA, *uses.EXACT, *uses.GRADIENTS]
WRONG = TEXTS + USES


def unmarked(text: str) -> str:
    return text.replace("«", "").replace("»", "")


def mark(text: str) -> tuple[int, int] | None:
    """Line and column, from 1, of what « stands before."""
    before, found, _ = text.partition("«")
    return (before.count("\n") + 1, len(before) - before.rfind("\n")) if found else None


def error(wrong: Wrong) -> cr.FormulaError:
    with pytest.raises(cr.FormulaError) as caught:
        program = cr.Program(unmarked(wrong.text))
        if wrong.call is not None:
            getattr(program, wrong.call.method)(**wrong.call.arguments)
    return caught.value


def report(wrong: Wrong, message: str) -> str:
    text = unmarked(wrong.text)
    shown = text if len(text) < 400 else text[:30] + " ... " + text[-30:]
    call = f"\n.{wrong.call}" if wrong.call else ""
    return f"{shown}{call}\n{'-' * 60}\n{message}\n".replace("\0", "\\0")


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_message(wrong: Wrong) -> None:
    golden = GOLDENS / f"{wrong.name}.txt"
    found = report(wrong, str(error(wrong)))
    if os.environ.get("UPDATE_GOLDENS"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_place_and_hint(wrong: Wrong) -> None:
    found = error(wrong)
    lines = unmarked(wrong.text).splitlines() or [""]
    assert (found.line is None) == (found.column is None)
    if found.line is not None and found.column is not None:
        assert 1 <= found.line <= len(lines)
        assert 1 <= found.column <= len(lines[found.line - 1]) + 1
    if (place := mark(wrong.text)) is not None:
        assert (found.line, found.column) == place
    assert found.hint
    assert len(str(found).splitlines()) <= 8
    assert max(map(len, str(found).splitlines())) <= 240


def test_every_golden_has_its_program() -> None:
    """A renamed row would leave its old golden behind."""
    assert len({w.name for w in WRONG}) == len(WRONG)
    assert {p.stem for p in GOLDENS.glob("*.txt")} == {w.name for w in WRONG}


DENSE = "y[i] = sum[j](w[i,j] * x[j])"


@pytest.mark.parametrize(
    ("upstream", "message"),
    [({}, "δy"), ({"δy": np.zeros(3)}, "δy"), ({"d_y": np.zeros(2), "δy": np.zeros(2)}, "δy")],
    ids=["missing", "of another shape", "given by both names"],
)
def test_upstream_gradient(upstream: dict[str, Any], message: str) -> None:
    """What flows into y is given, and has y's shape."""
    backward = cr.Program(DENSE).gradient(of="y", wrt=["w"])
    with pytest.raises(cr.FormulaError, match=message):
        backward.run(w=np.zeros((2, 3)), x=np.zeros(3), **upstream)


@pytest.mark.parametrize("text", [None, 5, b"x = 1"], ids=["none", "number", "bytes"])
def test_a_program_is_text(text: Any) -> None:
    with pytest.raises((TypeError, cr.FormulaError)):
        cr.Program(text)


def test_the_order_of_statements_is_free_however_many_there_are() -> None:
    lines = [f"x{k + 1} = 2 * x{k}" for k in range(3000)]
    assert cr.Program("\n".join(reversed(lines))).inputs == ("x0",)
    assert cr.Program("\n".join(reversed(lines[:100]))).run(x0=1)["x100"] == 2.0**100


@pytest.mark.parametrize(
    ("text", "first"),
    [("\ufeffx = 2", "x = 2"), ("x = 2\r\ny = x\r\n", "x = 2"), ("  x = 2\n  y = x", "x = 2")],
    ids=["byte order mark", "Windows line ends", "indented block"],
)
def test_what_editors_leave_in_a_file_is_no_mistake(text: str, first: str) -> None:
    assert str(cr.Program(text)).splitlines()[0] == first
