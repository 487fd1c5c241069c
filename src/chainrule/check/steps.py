"""The intermediate arrays that a person has: which is the first wrong one?"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.check.diagnose import diagnose
from chainrule.check.judge import Judge
from chainrule.check.report import Diagnosis, StepReport
from chainrule.check.work import Work, near, needed_for, run
from chainrule.errors import FormulaError
from chainrule.notation.indices import canonical


def split(
    work_names: set[str], inputs: set[str], arrays: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was given as data, and what is an intermediate result to be checked."""
    data, steps = {}, {}
    for name, array in arrays.items():
        t = canonical(name)
        if t in inputs or t not in work_names:
            data[t] = array
        else:
            steps[t] = array
    return data, steps


def aimed(work: Work, target: str) -> Work:
    """The same work with another tensor as what is checked."""
    if target not in work.named:
        raise FormulaError(f"this program does not compute {target}", hint=near(target, work.named))
    if target not in work.values:
        raise FormulaError(f"{target} cannot be computed from the arrays given")
    out = copy.copy(work)
    out.target = target
    out.by_target = {**work.by_target, target: work.named[target]}
    kept = [s for s in work.order if s.target in out.by_target]
    out.path = needed_for(kept, target)
    return out


def continued(work: Work, steps: Mapping[str, Any]) -> Work:
    """The work as it goes on from the user's own numbers."""
    out = copy.copy(work)
    out.values = dict(work.values)
    for t, a in steps.items():
        array = np.asarray(a, dtype=np.float64)
        if array.shape == work.values[t].shape:
            out.values[t] = array
    for s in work.order:
        if s.target in work.values and s.target not in steps:
            out.values[s.target] = run(s, out.values)
    out.by_target = {t: s for t, s in work.named.items() if t not in steps}
    return out


def checked(
    work: Work, steps: Mapping[str, Any]
) -> tuple[tuple[StepReport, ...], tuple[Diagnosis, ...]]:
    """A verdict on each step, and what is wrong with the first that is wrong by itself."""
    order = [s.target for s in work.order if s.target in steps]
    for t in steps:
        aimed(work, t)  # raises where there is no such tensor
    out: list[StepReport] = []
    diagnosis: tuple[Diagnosis, ...] = ()
    wrong = False
    before: dict[str, Any] = {}
    for t in order:
        right = Judge(aimed(work, t), steps[t], t)
        ok = right.same_shape and (not right.differs().any() or bool(right.rounding()))
        follows = ok
        if not ok:
            here = aimed(continued(work, before), t) if before else aimed(work, t)
            own = Judge(here, steps[t], t) if before else right
            follows = (
                bool(before)
                and own.same_shape
                and (not own.differs().any() or bool(own.rounding()))
            )
            if not follows and not wrong:
                found = diagnose(here, own)
                follows = {d.name for d in found} == {"rounded intermediate values"}
                if not follows:
                    wrong, diagnosis = True, found
        out.append(_report(work, t, right, ok, follows))
        before[t] = steps[t]
    return tuple(out), diagnosis


def _report(work: Work, t: str, judge: Judge, ok: bool, follows: bool) -> StepReport:
    worst: tuple[int, ...] = ()
    error, yours, right = float("inf"), float("nan"), float("nan")
    if judge.same_shape:
        gap = np.abs(judge.value - judge.right)
        error = float(np.max(gap, initial=0.0))
        if gap.size:
            k = int(np.argmax(np.where(np.isnan(gap), np.inf, gap)))
            worst = tuple(int(i) for i in np.unravel_index(k, gap.shape))
            yours, right = float(judge.value[worst]), float(judge.right[worst])
    shapes = "" if judge.same_shape else f"{judge.value.shape}, it should be {judge.right.shape}"
    return StepReport(t, ok, follows, error, worst, yours, right, work.text(t), shapes)
