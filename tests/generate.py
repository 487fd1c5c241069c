"""Random valid programs with data: what the library is tried on besides chosen examples.

program(seed) -> Case        the same seed gives the same case, on every machine
program(seed, ties=True)     data of -1, 0 and 1 only, so that maxima tie and kinks are hit
resized(case)                the same program on data of other sizes
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

import oracle
from generate_blocks import BLOCKS, objective, updates
from generate_draft import Draft, Rejected
from oracle_ranges import OracleError


@dataclass
class Case:
    """A program, its data, and what to ask of it."""

    seed: int
    ties: bool
    text: str
    arrays: dict[str, np.ndarray[Any, Any]]  # Fractions; labels are int64
    of: str
    wrt: list[str] | None  # None: all of `reals`
    reals: list[str]
    smooth: bool  # no kink anywhere: central differences hold
    rational: bool  # exact fractions are possible
    dyadic: bool  # floats make no rounding error that could turn a decision
    upstream: np.ndarray[Any, Any] | None = None  # what δof is given, where `of` is no scalar
    updated: list[str] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)

    def floats(self) -> dict[str, np.ndarray[Any, Any]]:
        return {n: a if a.dtype == np.int64 else a.astype(float) for n, a in self.arrays.items()}


def program(seed: int, ties: bool = False) -> Case:
    for attempt in range(200):
        rng = Random(f"chainrule {seed} {attempt} {ties}")
        try:
            return draft(seed, rng, ties)
        except Rejected:
            continue
    raise AssertionError(f"no program for seed {seed}")


def draft(seed: int, rng: Random, ties: bool) -> Case:
    d = Draft(rng, ties)
    wanted = rng.choice([1, 1, 2, 2, 3])
    misses = 0
    while len(d.lines) < wanted:
        before = dict(d.shapes), dict(d.kinds), list(d.lines), d.smooth, d.rational, d.dyadic
        try:
            BLOCKS[d.pick({name: weight for name, (weight, _) in BLOCKS.items()})][1](d)
        except Rejected:
            d.shapes, d.kinds, d.lines, d.smooth, d.rational, d.dyadic = before
            misses += 1
            if misses > 40:
                raise
    of, updated = next(n for n in reversed(d.shapes) if n not in d.kinds), list[str]()
    if d.chance(0.8):
        of = objective(d)
        if d.chance(0.15):
            of, updated = updates(d, of)
    if d.chance(0.2):  # statements may stand in any order
        rng.shuffle(d.lines)
    reals = [name for name, kind in d.kinds.items() if kind in ("real", "positive")]
    used = " ".join(d.lines)
    reals = [name for name in reals if name in used]
    if not reals:
        raise Rejected
    wrt = None if d.chance(0.7) else sorted(rng.sample(reals, rng.randint(1, len(reals))))
    case = Case(
        seed,
        ties,
        "\n".join(d.lines),
        {name: d.values(name) for name in d.kinds},
        of,
        wrt,
        reals,
        d.smooth and not any("stop(" in line for line in d.lines),
        d.rational,
        d.dyadic,
        updated=updated,
        kinds=dict(d.kinds),
    )
    if d.shapes[of]:
        d.shapes["δ"], d.kinds["δ"] = d.shapes[of], "real"
        case.upstream = d.values("δ")
    comfortable(case)
    return case


def comfortable(case: Case) -> None:
    """Reject a case whose numbers overflow, or that asks for the mean or maximum of nothing."""
    try:
        found = oracle.run(case.text, case.floats())
    except (OracleError, ArithmeticError, IndexError, ValueError):
        raise Rejected from None
    for array in found.values():
        if any(not math.isfinite(value) or abs(value) > 1e5 for value in array.flat):
            raise Rejected


def resized(case: Case) -> Case | None:
    """The same program on data of other sizes, if it has any: formulas hold for all that fit."""
    rng = Random(f"resized {case.seed} {case.ties}")
    shapes = {name: array.shape for name, array in case.arrays.items()}
    places = [(name, axis) for name, shape in shapes.items() for axis in range(len(shape))]
    for _ in range(12 if places else 0):
        name, axis = rng.choice(places)
        size = shapes[name][axis]
        other = max(1, size + rng.choice([-1, 1, 1, 2]))
        alone = rng.random() < 0.5  # this axis only, or all of its size: a batch is in many tensors
        fresh = {
            n: tuple(
                other if s == size and (not alone or (n, at) == (name, axis)) else s
                for at, s in enumerate(shape)
            )
            for n, shape in shapes.items()
        }
        if fresh == shapes or any(math.prod(shape) > 60 for shape in fresh.values()):
            continue
        try:
            found = oracle.shapes(case.text, {n: np.zeros(shape) for n, shape in fresh.items()})
        except OracleError:
            continue
        if any(math.prod(shape) > 60 for shape in found.values()):
            continue
        return refilled(case, rng, {**fresh, **found})
    return None


def refilled(case: Case, rng: Random, shapes: dict[str, tuple[int, ...]]) -> Case | None:
    d = Draft(rng, case.ties)
    for name in case.arrays:
        d.kinds[name] = case.kinds[name]
    d.shapes = {**shapes, "δ": shapes[case.of]}
    d.kinds["δ"] = "real"
    arrays = {name: d.values(name) for name in case.arrays}
    upstream = d.values("δ") if shapes[case.of] else None
    other = dataclasses.replace(case, arrays=arrays, upstream=upstream)
    try:
        comfortable(other)
    except Rejected:
        return None
    return other
