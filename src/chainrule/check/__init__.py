"""A calculation done by hand, against the derived one: the verdict, and the slip.

check(candidate, program, of="E", wrt="w", **arrays) -> CheckReport
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from chainrule.check import differences, digits
from chainrule.check import steps as steps_module
from chainrule.check.diagnose import diagnose
from chainrule.check.entry import explained
from chainrule.check.estimate import HALF, SINGLE
from chainrule.check.grain import grain_of
from chainrule.check.judge import Judge
from chainrule.check.report import CheckReport, Diagnosis, Kink, StepReport, entry_text
from chainrule.check.table import EXPLANATIONS, SLIPS, Slip
from chainrule.check.work import Work, near
from chainrule.errors import FormulaError
from chainrule.notation.indices import canonical
from chainrule.program import Program

__all__ = ["SLIPS", "CheckReport", "Diagnosis", "Kink", "Slip", "StepReport", "check"]

_GOOD_QUOTIENT = 2e-4  # of the largest entry: what a well-chosen step may be off by


def check(
    candidate: Any,
    program: Program | str,
    /,
    of: str = "E",
    wrt: str | None = None,
    *,
    steps: Mapping[str, Any] | None = None,
    **arrays: Any,
) -> CheckReport:
    """Is this calculation right, and if not, where did it go wrong?

    candidate   an array; a function of the arrays, called by keyword with those it names; or a
                claim, "δw[m,n] = sum[i,j](δx[i,j]*o[i+m,j+n])", as text or LaTeX
    program     the network, as a Program or its text
    of, wrt     the candidate is ∂of/∂wrt.  Without wrt it is `of` itself; a name with a prime,
                "w'" or "E'", is a value after the program's update statements
    steps       intermediate results of yours by name, forward (h) or backward (δp), to be checked
                on the way; where no name clashes they can be given among the arrays
    arrays      the data, by name (d_x is δx)

    float32 candidates are judged by the rounding of float32, short numbers by their digits, and
    finite differences by their own error.  A claim needs no arrays; where some are given, their
    shapes are used.  Raises FormulaError where names or shapes do not fit.
    """
    p = Program(program) if isinstance(program, str) else program
    if isinstance(candidate, str):
        from chainrule.check.claims import check_claim

        return check_claim(candidate, p, of, arrays)
    data, mine = _sorted_out(p, of, wrt, arrays)
    mine |= {canonical(t): a for t, a in (steps or {}).items()}
    work = Work(p, of, wrt, data)
    if callable(candidate):
        candidate = _called(candidate, work)
    if candidate is None:
        raise FormulaError(
            "the candidate is None", hint="give an array, or a function that returns one"
        )
    return _judged(work, candidate, mine)


def _sorted_out(
    p: Program, of: str, wrt: str | None, arrays: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays that are data, and those of computed tensors: the user's own steps."""
    computed = set(p.outputs) - set(p.inputs)
    data: dict[str, Any] = {}
    mine: dict[str, Any] = {}
    for name, array in arrays.items():
        t = canonical(name)
        is_delta = t.startswith("δ") and t not in p.inputs and t != "δ" + canonical(of)
        (mine if t in computed or is_delta else data)[t] = array
    # the cotangent of a scalar objective is 1, that of any other tensor is data
    own = "δ" + canonical(of)
    scalar = any(s.target == canonical(of) and not s.axes for s in p.statements)
    if own in data and scalar and own not in p.inputs:
        mine[own] = data.pop(own)
    return data, mine


def _called(f: Callable[..., Any], work: Work) -> Any:
    """The candidate's own result, from the arrays that it asks for by name."""
    named = {t.replace("δ", "d_"): a for t, a in work.values.items()} | dict(work.values)
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return f(**{t: work.values[t].copy() for t in work.program.inputs if t in work.values})
    given: dict[str, Any] = {}
    for q in parameters:
        if q.kind is q.VAR_KEYWORD:
            given |= {t: work.values[t] for t in work.program.inputs if t in work.values}
        elif q.kind is not q.VAR_POSITIONAL:
            if q.name in named:
                given[q.name] = named[q.name]
            elif q.default is q.empty:
                raise FormulaError(
                    f"the candidate asks for {q.name}, which this program does not have",
                    hint=near(q.name, named),
                )
    return f(**{t: a.copy() for t, a in given.items()})


def _judged(work: Work, candidate: Any, mine: Mapping[str, Any]) -> CheckReport:
    judge = Judge(work, candidate)
    on_the_way, first_wrong = steps_module.checked(work, mine) if mine else ((), ())
    report = _verdict(work, judge)
    if not mine:
        return report
    return _with_steps(work, judge, report, mine, on_the_way, first_wrong)


def _verdict(work: Work, judge: Judge) -> CheckReport:
    name, formula = work.target, work.text(work.target)
    if not judge.same_shape:
        return CheckReport(
            False,
            f"your {name} has shape {judge.value.shape}, it should be {judge.right.shape}",
            name,
            formula,
            max_error=float("inf"),
            yours=judge.value,
            right=judge.right,
            digits=0,
            diagnosis=(found := diagnose(work, judge)),
            notes=_none_named(found, judge),
        )
    wrong = judge.differs()
    with np.errstate(invalid="ignore"):
        gap = np.abs(judge.value - judge.right)
    common: dict[str, Any] = {
        "target": name,
        "formula": formula,
        "max_error": float(np.max(gap, initial=0.0)),
        "worst": _place(np.where(np.isnan(gap), np.inf, gap)),
        "first": tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.any() else (),
        "yours": judge.value,
        "right": judge.right,
        "digits": digits.agreeing_digits(judge.value, judge.right),
    }
    if not wrong.any():
        kind = {SINGLE: " of float32", HALF: " of float16"}.get(judge.unit, "")
        return CheckReport(True, f"{name} agrees, to the rounding error{kind}", **common)
    if how := judge.rounding():
        cut = {"rounded": "", "cut": "; the last one was cut off, or came from rounded numbers"}
        return CheckReport(True, f"{name} agrees to the digits given{cut[how]}", **common)
    if (quotient := differences.recognised(work, judge)) is not None:
        return _of_quotient(judge, quotient, common)
    entry = explained(work, name, common["worst"])
    if (grain := grain_of(work, judge)) is not None:
        slip, digit, step = grain
        d = Diagnosis(
            slip,
            EXPLANATIONS[slip],
            note=f"every entry is a multiple of {work.of}'s last {digit} over 2h, h = {step:g}",
        )
        return CheckReport(False, f"{name} differs", diagnosis=(d,), entry=entry, **common)
    found = diagnose(work, judge)
    summary = f"{int(wrong.sum())} of {wrong.size} entries of {name} differ"
    if found and found[0].name == "rounded intermediate values":
        n = common["digits"]
        how = found[0].note
        for verb in (" rounded", " cut"):
            how = how.replace(verb, f" had been{verb}", 1)
        summary = f"{name} agrees to {n} digit{'s' if n != 1 else ''}, as if {how}"
    return CheckReport(
        False, summary, diagnosis=found, entry=entry, notes=_none_named(found, judge), **common
    )


def _none_named(found: tuple[Diagnosis, ...], judge: Judge) -> tuple[str, ...]:
    if found:
        return ()
    if judge.value.size and not judge.value.any():
        return ("every number of yours is 0: many slips leave nothing, so none is named",)
    return ("none of the known slips, nor two of them, gives these numbers",)


def _of_quotient(judge: Judge, q: differences.Difference, common: dict[str, Any]) -> CheckReport:
    name = common["target"]
    at_kinks = {k.index for k in q.kinks}
    smooth = np.array([i not in at_kinks for i in np.ndindex(*judge.right.shape)], dtype=bool)
    smooth = smooth.reshape(judge.right.shape)
    gap = np.abs(judge.value - judge.right)
    error = float(np.max(gap[smooth], initial=0.0))
    size = float(np.max(np.abs(judge.right), initial=0.0))
    what = f"{q.scheme} differences with h = {q.step:.3g}"
    if (
        error <= 4 * q.noise and not q.kinks
    ):  # rounding is all there is to see: the step itself is not
        what = f"finite differences with h = {q.step:.3g} or less"
    kinks = tuple(k for k in q.kinks if judge.differs()[k.index])
    if error <= max(_GOOD_QUOTIENT * size, 4 * q.noise):
        own = f"their own error is about {max(error, q.noise):.2g}"
        note = f"; {len(kinks)} at a kink" if kinks else ""
        return CheckReport(True, f"{name} agrees: {what}, {own}{note}", kinks=kinks, **common)
    d = Diagnosis(
        "step too large", EXPLANATIONS["step too large"], note=f"{what} are off by {error:.2g}"
    )
    return CheckReport(False, f"{name}: {what}", diagnosis=(d,), kinks=kinks, **common)


def _with_steps(
    work: Work,
    judge: Judge,
    report: CheckReport,
    mine: Mapping[str, Any],
    on_the_way: tuple[StepReport, ...],
    first_wrong: tuple[Diagnosis, ...],
) -> CheckReport:
    """The verdict with what is known of the steps: the first wrong one is what matters."""
    guilty = next((s for s in on_the_way if not s.ok and not s.follows), None)
    here = steps_module.aimed(steps_module.continued(work, mine), work.target)
    own = Judge(here, judge.raw)
    follows = own.same_shape and (not own.differs().any() or bool(own.rounding()))
    diagnosis, notes = report.diagnosis, report.notes
    ok, summary = report.ok and guilty is None, report.summary
    if guilty is not None:
        at = entry_text(guilty.name, guilty.worst)
        summary = f"the first wrong step is {guilty.name}"
        summary += ", by its shape" if guilty.shapes else f", at {at}" if guilty.worst else ""
        diagnosis = first_wrong
        notes = _none_named(diagnosis, judge)
        if follows and not report.ok:
            notes = (*notes, f"{work.target} follows from your own numbers: nothing else is wrong")
    elif follows and not report.ok:
        n = report.digits
        ok = True
        summary = (
            f"{work.target} follows from your own numbers; it agrees to {n} "
            f"digit{'s' if n != 1 else ''} with the exact one"
        )
        notes = ()
    elif not report.ok:
        summary += "; your numbers before it are right"
        if found := diagnose(here, own):
            diagnosis, notes = found, ()
    return replace(
        report, ok=ok, summary=summary, steps=on_the_way, diagnosis=diagnosis, notes=notes
    )


def _place(gap: Any) -> tuple[int, ...]:
    if not gap.size:
        return ()
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(gap)), gap.shape))


class _Check(ModuleType):
    """`chainrule.check` is this package and the function: calling the one calls the other."""

    __call__ = staticmethod(check)


sys.modules[__name__].__class__ = _Check
