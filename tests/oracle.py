"""The formula language, read literally: nested loops over plain Python numbers, nothing else.

Written from the language's definition alone, so that it shares no code and no idea of how to be
quick with the library. A number is a Fraction (exact), a float, or a Dual: a value with the slope
along every seeded tensor entry. Derivatives are forward mode and exact; a Dual may hold Duals, so
that gradients of gradients need no further rule.

    oracle_ranges    indices, and the sizes the rules give them
    oracle_numbers   Duals and the derivative of each scalar function
    oracle_formula   one statement as closures over its indices
    oracle           a program on its data, and what tests ask of it
"""

from __future__ import annotations

import ast
import math
import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from oracle_formula import Formula, base
from oracle_numbers import Dual, plain, slope
from oracle_ranges import Group, OracleError, Point, loop

Number = Any  # Fraction | float | Dual


class Machine:
    """A program and its data. Tensors come about when they are asked for, so order is free."""

    def __init__(
        self,
        text: str,
        arrays: Mapping[str, Any],
        exact: bool = False,
        seeds: Sequence[tuple[frozenset[str], int]] = (),
    ) -> None:
        self.text, self.arrays, self.exact, self.seeds = text, arrays, exact, seeds
        self.given = {name: np.asarray(a) for name, a in arrays.items()}
        self.assigned: dict[str, tuple[ast.expr, ast.expr]] = {}
        for node in ast.parse(textwrap.dedent(text)).body:
            assert isinstance(node, ast.Assign), "only assignments"
            if base(node.targets[0]) in self.assigned:
                raise OracleError(f"{base(node.targets[0])} is assigned twice")
            self.assigned[base(node.targets[0])] = (node.targets[0], node.value)
        self.formulas: dict[str, Formula | None] = {}
        self.memory: dict[str, dict[Point, Number]] = {}
        self.inner: dict[str, Machine] = {}
        self.closest = math.inf  # how near a decision (a max, a sign) was to a tie, short of one

    def number(self, value: Any) -> Number:
        if isinstance(value, float) and not math.isfinite(value):
            return value
        return Fraction(value) if self.exact else float(value)

    def formula(self, name: str) -> Formula:
        if name not in self.formulas:
            if name not in self.assigned:
                raise OracleError(f"no tensor {name}")
            self.formulas[name] = None
            self.formulas[name] = Formula(self, *self.assigned[name])
        found = self.formulas[name]
        if found is None:
            raise OracleError(f"{name} needs itself")
        return found

    def shape(self, name: str) -> Point:
        return self.given[name].shape if name in self.given else self.formula(name).shape

    def cells(self, name: str) -> dict[Point, Number]:
        """What reading a tensor gives: of an updated one, always the old values."""
        if name not in self.memory:
            if name in self.given:
                array = self.given[name].astype(object)
                cells = {p: self.number(array[p]) for p in np.ndindex(array.shape)}
            else:
                cells = self.result(name)
            for names, level in self.seeds:
                if name in names:
                    cells = {p: v + Dual(0, {(name, p): 1}, level) for p, v in cells.items()}
            self.memory[name] = cells
        return self.memory[name]

    def result(self, name: str) -> dict[Point, Number]:
        """What the statement of a tensor says, entry by entry."""
        formula, cells = self.formula(name), {}
        indices = [i for a in formula.left for i in (a.members if isinstance(a, Group) else [a])]
        for _ in loop(indices):
            point = tuple(a.position() if isinstance(a, Group) else a.at for a in formula.left)
            cells[point] = formula.body()
        return cells

    def slope(self, of: str, wrt: str, point: Point) -> Number:
        """grad(of, wrt)[point], by a machine that runs the same program one level of Duals up."""
        level = max([0, *(level for _, level in self.seeds)]) + 1
        if wrt not in self.inner:
            seeds = [*self.seeds, (frozenset([wrt]), level)]
            self.inner[wrt] = Machine(self.text, self.arrays, self.exact, seeds)
        found = slope(self.inner[wrt].cells(of)[()], (wrt, point), level)
        self.closest = min(self.closest, self.inner[wrt].closest)
        return found + self.number(0)

    def knows(self, name: str) -> bool:
        return name in self.assigned or name in self.given

    def is_real(self, name: str) -> bool:
        return name not in self.given or self.given[name].dtype.kind not in "iu"

    def decided(self, a: Number, b: Number) -> None:
        gap = abs(a - b)
        if gap != 0:
            self.closest = min(self.closest, gap if gap == gap else 0)

    def best(self, values: Sequence[Number], largest: bool) -> tuple[int, Number]:
        """The first of the largest (or smallest), and its place; a NaN wins, for it propagates."""
        at = 0
        for i, value in enumerate(values):
            a, b = plain(value), plain(values[at])
            if b != b:
                break
            if i:
                self.decided(a, b)
            if a != a or (a > b if largest else a < b):
                at = i
        return at, values[at]

    def kink(self, name: str, x: Number) -> Number:
        """relu, abs, sign: at 0 their slope is 0."""
        at = plain(x)
        self.decided(at, self.number(0))
        if at != at:
            return x
        side = (at > 0) - (at < 0)
        if name == "sign" or side == 0:
            return self.number(side)
        return x * side if name == "abs" or side > 0 else self.number(0)


def array(machine: Machine, name: str, cells: Mapping[Point, Number]) -> np.ndarray[Any, Any]:
    out = np.empty(machine.shape(name), dtype=object)
    for point, value in cells.items():
        out[point] = plain(value)
    return out


def run(text: str, arrays: Mapping[str, Any], exact: bool = False) -> dict[str, Any]:
    """Every assigned tensor, as an object array of Fractions or floats."""
    machine = Machine(text, arrays, exact)
    return {name: array(machine, name, machine.result(name)) for name in machine.assigned}


def shapes(text: str, arrays: Mapping[str, Any]) -> dict[str, Point]:
    machine = Machine(text, arrays)
    return {name: machine.formula(name).shape for name in machine.assigned}


def gradient(
    text: str,
    arrays: Mapping[str, Any],
    of: str,
    wrt: Sequence[str],
    exact: bool = False,
    seed: Any = 1,
) -> dict[str, Any]:
    """For each tensor of wrt, entry by entry: the sum over `of` of seed times the derivative."""
    return slopes(Machine(text, arrays, exact, [(frozenset(wrt), 1)]), of, wrt, seed)


def slopes(machine: Machine, of: str, wrt: Sequence[str], seed: Any = 1) -> dict[str, Any]:
    """The same from a machine that was made with the tensors of wrt seeded at level 1."""
    zero = machine.number(0)
    weights = np.broadcast_to(np.asarray(seed, dtype=object), machine.shape(of))
    total = sum((machine.number(weights[p]) * v for p, v in machine.cells(of).items()), zero)
    return {
        name: array(
            machine, name, {p: slope(total, (name, p), 1) + zero for p in machine.cells(name)}
        )
        for name in wrt
    }


def directional(
    text: str,
    arrays: Mapping[str, Any],
    of: str,
    direction: Mapping[str, Any],
    exact: bool = False,
) -> Number:
    """The derivative of the scalar `of` along a direction in the given tensors."""
    found = gradient(text, arrays, of, list(direction), exact)
    return sum(
        found[name][point] * np.asarray(step, dtype=object)[point]
        for name, step in direction.items()
        for point in np.ndindex(found[name].shape)
    )
