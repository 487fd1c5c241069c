"""One number -> its formula, its terms and factors with their values, down to the data."""

from __future__ import annotations

from collections.abc import Mapping

from chainrule.explain.build import Builder
from chainrule.explain.explanation import Explanation
from chainrule.explain.model import Cell, Factor, Inner, Part, Sample, Term, Zeros
from chainrule.explain.target import (
    check_place,
    inputs_for,
    only_objective,
    part_for,
    read_target,
    system_for,
)
from chainrule.explain.values import Numbers
from chainrule.functions import Array
from chainrule.ranges import Ranges
from chainrule.system import System

__all__ = [
    "Cell",
    "Explanation",
    "Factor",
    "Inner",
    "Part",
    "Sample",
    "Term",
    "Zeros",
    "explain",
    "inputs_for",
    "part_for",
    "read_target",
    "system_for",
]


def explain(
    system: System,
    ranges: Ranges,
    arrays: Mapping[str, Array],
    target: str,
    depth: int = 2,
    of: str | None = None,
) -> Explanation:
    """One element of a System that has it, evaluated on float64 arrays; see Explanation."""
    name, index = read_target(target)
    work = Numbers(system, ranges, arrays)
    check_place(name, index, tuple(work.after[name].shape))
    of = only_objective(system) if of is None else of
    return Explanation(Builder(work, of), name, index, depth, of)
