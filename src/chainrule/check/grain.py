"""Differences with few digits left, known by their grain: every entry is a multiple of one ulp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chainrule.check.differences import STEPS
from chainrule.check.judge import Judge
from chainrule.check.work import Work
from chainrule.functions import Array

SMALL = tuple(float(f"1e-{k}") for k in range(14, 8, -1))


@dataclass(frozen=True)
class Grain:
    """slip, digit   what the report says
    grain         of the objective: the numbers it can be are multiples of this
    steps         the steps that are tried
    most          so many grains at most: beyond, every number is nearly a multiple
    slack         from a whole number of them, relative
    error         that the objective may have, in grains
    """

    slip: str
    digit: str
    grain: float
    steps: tuple[float, ...]
    most: float
    slack: float
    error: float


def grain_of(work: Work, judge: Judge) -> tuple[str, str, float] | None:
    """The slip, the kind of digit, and the step of a quotient that is all rounding error."""
    if work.values[work.of].ndim or judge.value.size < 2 or not judge.same_shape:
        return None
    nonzero = judge.value != 0
    if nonzero.sum() < 2 or not np.all(np.isfinite(judge.value)):
        return None
    e = abs(float(work.values[work.of]))
    single, double = float(np.spacing(np.float32(e))), float(np.spacing(e))
    for g in (
        Grain("float32 differences", "float32 digit", single / 2, STEPS, 2e4, 1e-6, 16),
        Grain("step too small", "digit", double, SMALL, 1e7, 1e-10, 64),
    ):
        for h in g.steps:
            if any(_multiples(judge, nonzero, g, width) for width in (2 * h, h)):
                return g.slip, g.digit, h
    return None


def _multiples(judge: Judge, nonzero: Array, g: Grain, width: float) -> bool:
    q = judge.value * width / g.grain
    whole = np.abs(q - np.round(q)) <= g.slack * np.abs(q) + 1e-3
    whole &= (np.round(q) != 0) == nonzero
    gap = np.abs(judge.value - judge.right)
    few = float(np.max(np.abs(q))) < g.most
    return few and bool(whole.all() and np.all(gap <= g.error * g.grain / width))
