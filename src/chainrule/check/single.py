"""Differences of float32 numbers, known by their grain: every entry is a multiple of one ulp."""

from __future__ import annotations

import numpy as np

from chainrule.check.differences import STEPS
from chainrule.check.judge import Judge
from chainrule.check.work import Work


def single_quotient(work: Work, judge: Judge) -> float | None:
    """The step of a quotient of float32 numbers: all entries are multiples of one ulp over it."""
    if work.values[work.of].ndim or judge.value.size < 2 or not judge.same_shape:
        return None
    e = abs(float(work.values[work.of]))
    ulp = float(np.spacing(np.float32(e)))
    nonzero = judge.value != 0
    if nonzero.sum() < 2:
        return None
    if not np.all(np.isfinite(judge.value)):
        return None
    gap = np.abs(judge.value - judge.right)
    for h in STEPS:
        for width in (2 * h, h):
            q = judge.value * width / ulp * 2
            top = float(np.max(np.abs(q)))
            whole = np.abs(q - np.round(q)) <= 1e-6 * np.abs(q) + 1e-3
            whole &= (np.round(q) != 0) == nonzero
            if top < 2e4 and whole.all() and np.all(gap <= 8 * ulp / width):
                return h
    return None
