"""What is asked of the library for one generated case; the oracle knows the answers.

check(case) raises AssertionError with the seed, the text and what differed. It takes the library
as an argument, so that a test can hand it a faulty one and see the fault caught.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

import chainrule
import oracle
from generate import Case, resized

TOLERANCE = 1e-9
TIE = 1e-9  # floats this near to a tie may fall on either side of it
STEP = 1e-5


class Mismatch(AssertionError):
    """The library and the oracle differ."""


def check(case: Case, library: Any = chainrule) -> None:
    try:
        # Nothing has no maximum, and a gradient program gives maxima names of their own.
        empty = any(array.size == 0 for array in case.arrays.values())
        short = len(case.text) < 160 and case.of != "G" and not empty
        examine(case, library, again=short and case.seed % 6 == 0)
        other = resized(case) if case.seed % 5 == 0 else None
        if other is not None:
            examine(other, library, again=False)
    except Exception as error:
        arrays = {n: [str(v) for v in a.flat] for n, a in case.arrays.items()}
        shapes = {n: a.shape for n, a in case.arrays.items()}
        raise Mismatch(
            f"seed {case.seed}, ties={case.ties}, of={case.of}, wrt={case.wrt}\n{case.text}\n"
            f"shapes {shapes}\narrays {arrays}\n{type(error).__name__}: {error}"
        ) from error


def slope_name(case: Case, g: Any, name: str) -> str:
    """δt; where the program has a tensor of that name already, δt_E for the gradient of E."""
    longer = f"δ{name}_{case.of}"
    return longer if longer in g.outputs else f"δ{name}"


def derived(case: Case, g: Any) -> Case:
    """The gradient program as a case of its own: the language is closed under differentiation."""
    names = [n for n in case.wrt or case.reals if f"δ{n}" in g.outputs]
    name = names[case.seed // 6 % len(names)]
    arrays = {n: array for n, array in case.arrays.items() if n in g.inputs}
    read = g.system.ranks  # what only a size is asked of (its gradient is 0) is left alone
    reals = [n for n in case.reals if n in arrays and n in read]
    if f"δ{case.of}" in g.inputs:
        arrays[f"δ{case.of}"] = case.upstream
        reals.append(f"δ{case.of}")
    shape = case.arrays[name].shape
    upstream = np.empty(shape, dtype=object)
    for k, point in enumerate(np.ndindex(shape)):
        upstream[point] = Fraction(k * 5 % 7 - 3, 2)
    return dataclasses.replace(
        case,
        text=str(g),
        arrays=arrays,
        of=f"δ{name}",
        wrt=reals,
        reals=reals,
        smooth=False,
        upstream=upstream if shape else None,
        updated=[],
    )


def examine(case: Case, library: Any, again: bool) -> None:
    p = library.Program(case.text)
    same_text(library, p)
    g = p.gradient(of=case.of, wrt=case.wrt)
    same_text(library, g)
    names = [re.split(r"[\[ ]", line)[0] for line in str(g).splitlines()]
    assert len(names) == len(set(names)), f"a tensor is written twice:\n{g}"
    for name in case.wrt or []:  # without wrt, what `of` does not read may be missing: see compare
        assert slope_name(case, g, name) in g.outputs, f"no {slope_name(case, g, name)} in\n{g}"
    floats = case.floats()
    upstream: dict[str, Any] = {}
    if f"δ{case.of}" in g.inputs:
        upstream = {f"δ{case.of}": case.upstream}
    machine = answers(case, floats, exact=False)
    if case.dyadic or machine.closest > TIE:
        plain = {n: a.astype(float) for n, a in upstream.items()}
        compare(case, machine, p.run(**floats), g, g.run(**floats, **plain))
    if case.rational and not mean_of_nothing(case):
        machine = answers(case, case.arrays, exact=True)
        values = p.run(exact=True, **case.arrays)
        compare(case, machine, values, g, g.run(exact=True, **case.arrays, **upstream))
    if case.smooth and case.upstream is None:
        differences(case, p, g, g.run(**floats))
    if again and any(f"δ{n}" in g.outputs for n in case.wrt or case.reals):
        examine(derived(case, g), library, again=False)


def mean_of_nothing(case: Case) -> bool:
    """Such a mean is 0/0, and so may be what it hands back: docs/language.md."""
    return "mean[" in case.text and any(a.size == 0 for a in case.arrays.values())


def same_text(library: Any, p: Any) -> None:
    again = library.Program(str(p))
    assert again == p, f"the text parses to another program:\n{p}\n-- then\n{again}"
    assert hash(again) == hash(p), f"equal programs, different hashes:\n{p}"


def answers(case: Case, arrays: Mapping[str, Any], exact: bool) -> oracle.Machine:
    """The oracle on the case, every real tensor seeded, be it given or assigned."""
    machine = oracle.Machine(case.text, arrays, exact)
    seeded = frozenset([*case.reals, *machine.assigned])
    machine.seeds = [(seeded, 1)]
    for name in machine.assigned:  # so that `closest` knows every decision
        machine.cells(name)
    return machine


def compare(
    case: Case,
    machine: oracle.Machine,
    values: Mapping[str, Any],
    g: Any,
    found: Mapping[str, Any],
) -> None:
    """Every tensor, and the gradient of every tensor whose δ the library has."""
    expected = {}
    for name in machine.assigned:  # of an updated tensor cells() has the old values
        cells = machine.result(name) if name in machine.given else machine.cells(name)
        expected[name] = oracle.array(machine, name, cells)
    names = {n: slope_name(case, g, n) for n in case.wrt or case.reals}
    if "grad(" not in case.text and "δ" not in case.text:  # δs of a gradient within are not ours
        names |= {n: f"δ{n}" for n in expected if n != case.of}
    seed = 1 if case.upstream is None else case.upstream
    slopes = oracle.slopes(machine, case.of, [*case.reals, *expected], seed)
    exact = machine.exact
    scale = magnitude([*expected.values(), *slopes.values()])
    for name, array in expected.items():
        same(f"{name} by the program", values[name], array, exact, scale, "")
        if name in found and name not in case.updated:
            same(name, found[name], array, exact, scale, g)
    for name, array in slopes.items():
        if name in names and names[name] in found:
            if mean_of_nothing(case) and np.isnan(np.asarray(found[names[name]], float)).all():
                continue
            same(names[name], found[names[name]], array, exact, scale, g)
        elif name in case.reals and case.wrt is None:
            assert not any(array.flat), f"no δ{name}, yet it is not all 0, in\n{g}"


def magnitude(arrays: list[Any]) -> float:
    return max([1.0, *(abs(float(v)) for a in arrays for v in a.flat if np.isfinite(float(v)))])


def same(what: str, found: Any, expected: Any, exact: bool, scale: float, by: Any) -> None:
    found = np.asarray(found)
    assert found.shape == expected.shape, f"{what}: {found.shape}, not {expected.shape} by\n{by}"
    for point in np.ndindex(expected.shape):
        a, b = found[point], expected[point]
        if exact:
            fits = a == b and isinstance(a, Fraction)
        else:
            fits = abs(a - b) <= TOLERANCE * abs(b) + 1e-3 * TOLERANCE * scale or a == b
        assert fits, f"{'exact ' * exact}{what} at {list(point)}: {a}, not {b} by\n{by}"


def differences(case: Case, p: Any, g: Any, found: Mapping[str, Any]) -> None:
    """Move all inputs a little, along fixed whole numbers: the slope is what the gradient says."""
    names = case.wrt or case.reals
    floats, said, largest = case.floats(), 0.0, 1.0
    moves = {}
    for k, name in enumerate(names):
        steps = (np.arange(floats[name].size) * 7 + k) % 5 - 2.0
        moves[name] = steps.reshape(floats[name].shape)
        slope = found.get(slope_name(case, g, name), np.zeros(()))
        said += float(np.sum(moves[name] * slope))
        largest = max([largest, *np.abs(np.ravel(slope))])

    def objective(step: float) -> float:
        moved = {name: floats[name] + step * moves[name] for name in names}
        return float(p.run(**{**floats, **moved})[case.of])

    coarse, rise = ((objective(h) - objective(-h)) / (2 * h) for h in (2 * STEP, STEP))
    bend = abs(coarse - rise)  # a third of it is the error that the step itself makes
    scale = max(largest, abs(objective(0.0)), abs(rise))
    if bend > 1e-2 * scale:  # cos(x**4) swings within a step: that says nothing
        return
    assert abs(rise - said) <= 1e-5 * scale + bend, f"central difference {rise}, gradient {said}"
