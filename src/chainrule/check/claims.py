"""A claim, "δw[m,n] = ...", against the derived formula: proved, or refuted by an example."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.check import samples
from chainrule.check.diagnose import diagnose
from chainrule.check.estimate import tolerance
from chainrule.check.judge import Judge
from chainrule.check.normal import Normal, TooLarge
from chainrule.check.report import CheckReport, Diagnosis, entry_text
from chainrule.check.work import Work, as_floats, near
from chainrule.derive import expand
from chainrule.derive.backward import differentiate
from chainrule.errors import FormulaError
from chainrule.evaluate import evaluate
from chainrule.expr import Size
from chainrule.functions import Array
from chainrule.notation import parse, statement
from chainrule.notation.indices import canonical
from chainrule.program import Program
from chainrule.ranges import Shape, numeric, symbolic
from chainrule.system import Problem, Statement, System

CLAIM = "claim__"  # a name that can be parsed again, where a message shows its place
_SHAPES, _SHRINK = 6, 15


@dataclass(frozen=True)
class _Example:
    """Numbers with which claim and derivation differ (or the largest with which they agree)."""

    given: dict[str, Array]
    claimed: Array
    derived: Array
    differ: bool
    exact: bool
    values: dict[str, Array]


def check_claim(text: str, p: Program, of: str, given: Mapping[str, Any]) -> CheckReport:
    """The verdict on a claim; raises FormulaError where it cannot be read."""
    of = canonical(of)
    claim = _read(text, p)
    target = claim.statements[-1].target
    gradient, made = _gradient(p, of, claim)
    if target not in made:
        raise FormulaError(f"this program does not compute {target}", hint=near(target, made))
    right = made[target]
    helpers = claim.statements[:-1]
    own = _sized(claim.statements[-1], target)
    try:
        system = System((*gradient.statements, *helpers, own))
    except Problem as e:
        raise FormulaError(f"the claim does not fit: {e.message}", hint=e.hint) from None
    unknown = [t for t in system.inputs if t not in gradient.inputs and t in own.mentions]
    if unknown:
        raise FormulaError(
            f"the claim reads {unknown[0]}, which this program does not have",
            hint=near(unknown[0], [*gradient.inputs, *made]),
        )
    formula = statement(right)
    how = _same_form(system, own, right)
    if how:
        return CheckReport(
            True, f"{target} is as claimed, proved {how}", target, formula, proof=how
        )
    return _by_numbers(p, of, system, target, formula, given)


def _read(text: str, p: Program) -> System:
    if "\\" in text:
        try:
            from chainrule.check.latex import read_claim
        except ImportError:
            raise FormulaError(
                "a claim in LaTeX cannot be read here", hint="write it as text: δw[m,n] = ..."
            ) from None
        return System((read_claim(text, p.system),))
    system = parse(re.sub(r"∂\s*\w+\s*/\s*∂\s*(\w+)", r"δ\1", text))
    if not system.statements:
        raise FormulaError("the claim is empty", hint="write it as  δw[m,n] = ...")
    return system


def _gradient(p: Program, of: str, claim: System) -> tuple[System, dict[str, Statement]]:
    """Forward and backward statements with every cotangent that the claim mentions."""
    kept = tuple(s for s in p.system.statements if not s.is_update)
    forward = expand(System(kept)) if kept else p.system
    mentioned = dict.fromkeys(t for s in claim.statements for t in (s.target, *s.mentions))
    wanted = [t[1:] for t in mentioned if t.startswith("δ") and t not in forward.names]
    wanted = [t for t in wanted if t in forward.ranks and t != of]
    statements = forward.statements
    if wanted:
        statements = (*statements, *differentiate(forward, of, tuple(wanted)).space.made)
    return System(statements), {s.target: s for s in statements}


def _sized(s: Statement, target: str) -> Statement:
    """The claim under a name of its own; its left side has the sizes of the claimed tensor."""
    axes = tuple(
        ((axis[0][0], axis[0][1] or Size(target, k)),) if len(axis) == 1 else axis
        for k, axis in enumerate(s.axes)
    )
    return Statement(CLAIM, axes, s.body)


def _same_form(system: System, own: Statement, right: Statement) -> str:
    try:
        ranges = symbolic(system)
        made = {s.target: s for s in system.statements if s.target != CLAIM}
        for known, how in (
            ({}, "by normal form"),
            (made, "by normal form, with the tensors on the way written out"),
        ):
            normal = Normal(known, ranges)
            if normal.form(own) == normal.form(right):
                return how
    except (TooLarge, Problem, FormulaError, RecursionError):
        return ""
    return ""


# ---------------------------------------------------------------- by numbers


def _by_numbers(
    p: Program, of: str, system: System, target: str, formula: str, given: Mapping[str, Any]
) -> CheckReport:
    derived = System(tuple(s for s in system.statements if s.target != CLAIM))
    shapes = samples.telling(derived, _SHAPES)
    if shapes and not given and (how := _by_themselves(system, target, shapes)):
        return _agreed(target, formula, how)
    found: list[_Example] = []
    misfit = ""
    if given:
        found.append(_on_data(system, target, given))
    for k, shape in enumerate(shapes):
        try:
            found.append(_example(system, target, samples.arrays(derived, shape, k)))
        except FormulaError as e:
            first, *rest = str(e).replace(CLAIM, target).splitlines()
            misfit = misfit or "\n".join([first, *(x for x in rest if "hint: " in x)])
    if misfit:  # then look among the shapes that the claim does fit
        for k, shape in enumerate(_fitting(system)):
            found.append(_example(system, target, samples.arrays(derived, shape, k)))
    if not found and not misfit:
        raise FormulaError("no small shapes fit this program", hint="give arrays of shapes that do")
    wrong = [e for e in found if e.differ]
    if not wrong and not misfit:
        exact = all(e.exact for e in found)
        how = f"at {len(found)} random points" + (", in exact fractions" if exact else "")
        return _agreed(target, formula, how)
    if not wrong:
        return CheckReport(
            False,
            f"the claim is not {target}: its sizes do not fit wherever the program's do",
            target,
            formula,
            digits=0,
            proof="by its sizes",
            example=misfit,
        )
    return _refuted(p, of, system, target, formula, wrong)


def _fitting(system: System) -> list[dict[str, Shape]]:
    try:
        return samples.telling(system, _SHAPES)
    except FormulaError:
        return []  # it fits none


def _agreed(target: str, formula: str, how: str) -> CheckReport:
    summary = f"{target} is as claimed {how} (this is no proof)"
    return CheckReport(True, summary, target, formula, proof=how)


def _refuted(
    p: Program, of: str, system: System, target: str, formula: str, wrong: list[_Example]
) -> CheckReport:
    clear = [e for e in wrong if e.exact or _apart(e)] or wrong
    smallest = min(clear, key=lambda e: sum(a.size for a in e.given.values()))
    smallest = _shrunk(system, target, smallest)
    largest = max(wrong, key=lambda e: (e.derived.size, sum(a.size for a in e.given.values())))
    gap = np.abs(_floats(smallest.claimed) - _floats(smallest.derived))
    at = tuple(int(i) for i in np.argwhere(np.nan_to_num(gap, nan=np.inf) > 0)[0])
    diagnosis = _diagnosed(p, of, target, largest)
    notes = () if diagnosis else ("none of the known slips, nor two of them, gives this formula",)
    return CheckReport(
        False,
        f"the claim is not {target}",
        target,
        formula,
        max_error=float(np.max(np.nan_to_num(gap, nan=np.inf))),
        worst=at,
        first=at,
        yours=_floats(smallest.claimed),
        right=_floats(smallest.derived),
        digits=0,
        diagnosis=diagnosis,
        proof="by an example",
        example=_shown(system, smallest, target, at),
        notes=notes,
    )


def _shrunk(system: System, target: str, example: _Example) -> _Example:
    """The example made smaller, one size at a time, while it still tells the two apart."""
    shapes = samples.Shapes(system)
    inputs = set(system.inputs)
    for _ in range(_SHRINK):
        start = {t: a.shape for t, a in example.given.items() if t in inputs}
        for k, shape in enumerate(shapes.smaller(start)):
            less = _example(system, target, samples.arrays(system, shape, k))
            if less.differ and (less.exact or _apart(less)):
                example = less
                break
        else:
            break
    return example


def _by_themselves(system: System, target: str, shapes: list[dict[str, Shape]]) -> str:
    """Do both formulas agree in exact fractions, whatever the tensors that they read hold?"""
    both = tuple(s for s in system.statements if s.target in (CLAIM, target))
    reads = {t for s in both for t in s.reads}
    if any(t.startswith("argmax") for t in reads) or target in reads:
        return ""  # winners' numbers are no free numbers
    part = System(both)
    try:
        for k, shape in enumerate(shapes):
            every = numeric(system, shape).shapes
            data = samples.arrays(part, {t: every[t] for t in part.inputs}, k)
            if _compared(part, target, data, exact=True).differ:
                return ""
    except FormulaError:
        return ""
    return f"at {len(shapes)} random points, in exact fractions"


def _on_data(system: System, target: str, given: Mapping[str, Any]) -> _Example:
    data = {canonical(t): as_floats(t, a) for t, a in given.items()}
    if missing := [t for t in system.inputs if t not in data]:
        raise FormulaError(f"missing: {', '.join(missing)}")
    return _compared(system, target, {t: data[t] for t in system.inputs}, exact=False)


def _example(system: System, target: str, arrays: dict[str, Array]) -> _Example:
    """Exact fractions where every formula is rational, else float64."""
    shapes = {t: a.shape for t, a in arrays.items()}
    numeric(system, shapes)  # sizes that do not fit are a matter of their own
    try:
        return _compared(system, target, arrays, exact=True)
    except FormulaError:
        floats = {t: _floats(a) for t, a in arrays.items()}
        return _compared(system, target, floats, exact=False)


def _compared(system: System, target: str, arrays: dict[str, Array], *, exact: bool) -> _Example:
    ranges = numeric(system, {t: a.shape for t, a in arrays.items()})
    values = evaluate(system, ranges, arrays, exact=exact)
    claimed, derived = values[CLAIM], values[target]
    if claimed.shape != derived.shape:
        raise FormulaError(
            f"the claim has shape {claimed.shape}, {target} has shape {derived.shape}"
        )
    if exact:
        differ = any(a != b for a, b in zip(claimed.flat, derived.flat, strict=True))
    else:
        every = arrays | values
        allowed = tolerance(system.needed_for([target]), every)
        allowed = allowed + tolerance(system.needed_for([CLAIM]), every)
        with np.errstate(invalid="ignore"):
            agree = (np.abs(claimed - derived) <= allowed) | (np.isnan(claimed) & np.isnan(derived))
        differ = not bool(agree.all())
    return _Example(arrays, claimed, derived, differ, exact, arrays | values)


def _apart(e: _Example) -> bool:
    """Is the difference one that a reader sees?"""
    size = max(float(np.max(np.abs(e.derived), initial=0.0)), 1e-3)
    return bool(np.max(np.abs(e.claimed - e.derived), initial=0.0) > 1e-3 * size)


def _floats(a: Array) -> Array:
    return np.asarray(a, dtype=np.float64)


def _diagnosed(p: Program, of: str, target: str, example: _Example) -> tuple[Diagnosis, ...]:
    wrt = target[1:] if target.startswith("δ") else None
    data = {t: _floats(a) for t, a in example.given.items()}
    try:
        work = Work(p, of if wrt else target, wrt, data)
        return diagnose(work, Judge(work, _floats(example.claimed)))
    except FormulaError:
        return ()


def _shown(system: System, example: _Example, target: str, at: tuple[int, ...]) -> str:
    """The tensors that the two formulas read, and the entry where they differ."""
    reads = dict.fromkeys(
        t for s in system.statements if s.target in (CLAIM, target) for t in s.reads if t != CLAIM
    )
    lines = ["smallest example found:"]
    for t in reads:
        a = example.values[t]
        if a.size <= 16:
            lines.append(f"  {t} = {_numbers(a.tolist())}")
        else:
            lines.append(f"  {t} of shape {a.shape}")
    lines.append(
        f"  {entry_text(target, at)}: the claim gives {_numbers(example.claimed[at])}, "
        f"right is {_numbers(example.derived[at])}"
    )
    return "\n".join(lines)


def _numbers(x: Any) -> str:
    if isinstance(x, list):
        return f"[{', '.join(map(_numbers, x))}]"
    return f"{float(x):.6g}"
