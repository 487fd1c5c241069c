"""Two thousand and more random programs: text, values and gradients against the oracle.

A failure prints its seed and its text; `python scripts/fuzz.py --seed N` runs it alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from generate import Case, program
from generated_check import Mismatch, check, slope_name

CHUNK = 25
PLAIN, TIED = 2000, 400


@pytest.mark.parametrize("start", range(0, PLAIN, CHUNK))
def test_generated_programs(start: int) -> None:
    for seed in range(start, start + CHUNK):
        check(program(seed))


@pytest.mark.parametrize("start", range(0, TIED, CHUNK))
def test_generated_programs_with_ties(start: int) -> None:
    for seed in range(start, start + CHUNK):
        check(program(seed, ties=True))


def test_the_generator_covers_the_language() -> None:
    text = "\n".join(program(seed).text for seed in range(400))
    for form in (
        "pad(", ", -inf)", ")/2]", "sum[", "mean[", "max[", "min[", "prod[", "logsumexp[",
        "argmax[", "stop(", "where(", "relu(", "sigmoid(", "maximum(", "grad(", "size(", "//",
        "min(", "==", "**", "!=",
    ):  # fmt: skip
        assert form in text, form
    assert re.search(r"\[[^]]*\(\w+,\w+\)", text), "no tuple group"
    cases = [program(seed) for seed in range(400)]
    for kind in ("smooth", "rational", "dyadic", "upstream", "wrt"):
        values = [getattr(case, kind) for case in cases]
        share = sum(value is not None and value is not False for value in values) / len(cases)
        assert 0.02 < share < 0.98, (kind, share)
    assert any(case.updated for case in cases)
    assert any(array.size == 0 for case in cases for array in case.arrays.values())


def test_nothing_scatters() -> None:
    """Each entry is written once, as a sum: no code of the library adds into what is there."""
    for path in Path(cr.__file__).parent.rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        for call in ("add.at(", "bincount(", "put_along_axis(", "np.put("):
            assert call not in code, (path, call)


# The check itself must be able to fail: each fault below is one that a library could have.


class Faulty:
    """The library with a fault in what a gradient program gives back."""

    def __init__(self, fault: Any) -> None:
        self.fault = fault

    def Program(self, text: str) -> FaultyProgram:
        return FaultyProgram(cr.Program(text), self.fault)


class FaultyProgram:
    def __init__(self, program: cr.Program, fault: Any) -> None:
        self.program, self.fault = program, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self.program, name)

    def __str__(self) -> str:
        return str(self.program)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FaultyProgram) and self.program == other.program

    def __hash__(self) -> int:
        return hash(self.program)

    def gradient(self, **request: Any) -> FaultyProgram:
        return FaultyProgram(self.program.gradient(**request), self.fault)

    def run(self, **arrays: Any) -> Mapping[str, Any]:
        found: dict[str, Any] = self.program.run(**arrays)
        return {n: self.fault(a) if n.startswith("δ") else a for n, a in found.items()}


def a_little_too_large(array: Any) -> Any:
    factor = Fraction(1001, 1000) if np.asarray(array).dtype == object else 1.001
    return np.asarray(array) * factor


def backwards(array: Any) -> Any:
    return np.asarray(array)[::-1] if np.ndim(array) else np.asarray(array)


def first_entry_lost(array: Any) -> Any:
    out = np.array(array)
    if out.size:
        out.flat[0] = 0 * out.flat[0]
    return out


@pytest.mark.parametrize("fault", [a_little_too_large, backwards, first_entry_lost])
def test_a_wrong_gradient_is_caught(fault: Any) -> None:
    caught = tried = 0
    for seed in range(80):
        case = program(seed)
        slopes = true_slopes(case)
        if not case.rational or all(np.array_equal(fault(a), a) for a in slopes.values()):
            continue  # floats may be near a tie; or this fault changes nothing here
        tried += 1
        with pytest.raises(Mismatch, match=r"δ|difference"):
            check(case, Faulty(fault))
        caught += 1
    assert caught == tried > 20


def true_slopes(case: Case) -> dict[str, Any]:
    arrays: dict[str, Any] = dict(case.floats())
    if case.upstream is not None:
        arrays[f"δ{case.of}"] = case.upstream.astype(float)
    g = cr.Program(case.text).gradient(of=case.of, wrt=case.wrt)
    found = g.run(**{name: array for name, array in arrays.items() if name in g.inputs})
    asked = [slope_name(case, g, name) for name in case.wrt or case.reals]
    return {name: found[name] for name in asked if name in found}


RIGHT = "x[i] = sum[m](w[m] * pad(o)[(i-m)/2])\nE = sum[i,j](x[i] * v[i,j] * (x[j] + j))"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("[(i-m)/2]", "[(i+m)/2]"),
        ("v[i,j]", "v[j,i]"),
        ("w[m]", "w[1-m]"),
        ("(x[j] + j)", "stop(x[j] + j)"),
        ("x[j] +", "1.001*x[j] +"),
    ],
)
def test_a_changed_statement_is_caught(right: str, wrong: str) -> None:
    class Changed:
        @staticmethod
        def Program(text: str) -> cr.Program:
            return cr.Program(text.replace(right, wrong))

    text = RIGHT.replace("x[i] =", "x[i:4] =", 1)
    shapes = {"o": (2,), "w": (2,), "v": (4, 4)}
    arrays = {
        name: np.array([Fraction(n % 7 + 1) for n in range(int(np.prod(shape)))]).reshape(shape)
        for name, shape in shapes.items()
    }
    case = Case(-1, False, text, arrays, "E", None, [*shapes], True, True, True)
    check(case)
    with pytest.raises(Mismatch):
        check(case, Changed)
