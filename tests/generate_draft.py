"""A random program while it grows: names, shapes, and the text of each statement.

Blocks (see generate_blocks) write statements with index tokens, `⟦3⟧`. Only when a statement is
whole do tokens become letters, and letters that name tensors elsewhere are welcome: `b` may be a
bias in one statement and the batch in the next, which is where a careless derivative goes wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np

import oracle
from oracle_ranges import OracleError

Point = tuple[int, ...]
LETTERS = [*"ijklmnpqrsabcdxyhouvwtfzeg", "row", "k2", "ι", "i0"]
INPUTS = [*"owvbftkmac", "η", "θ", "img", "w2", "bias", "q_1"]
ASSIGNED = [*"xyzhpusgijn", "φ", "z1", "act"]
COST = 700  # how many innermost steps a statement may take in the oracle


class Rejected(Exception):
    """This draft leads nowhere: too large, or its numbers leave the comfortable range."""


class Draft:
    def __init__(self, rng: Random, ties: bool = False) -> None:
        self.rng, self.ties = rng, ties
        self.shapes: dict[str, Point] = {}
        self.kinds: dict[str, str] = {}  # inputs only: real, positive, or how many labels
        self.lines: list[str] = []
        self.smooth = self.rational = self.dyadic = True
        self.tokens = 0
        self.updated: list[str] = []

    # Choices.

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, weighted: dict[str, float]) -> str:
        return self.rng.choices([*weighted], weights=[*weighted.values()])[0]

    def shuffled(self, items: Iterable[Any]) -> list[Any]:
        items = list(items)
        self.rng.shuffle(items)
        return items

    def kinked(self) -> None:
        self.smooth = False

    def rounded(self) -> None:
        """Floats no longer hold the numbers exactly, fractions do."""
        self.dyadic = False

    def irrational(self) -> None:
        self.rational = self.dyadic = False

    # Names.

    def index(self) -> str:
        self.tokens += 1
        return f"⟦{self.tokens}⟧"

    def fresh(self, names: Sequence[str]) -> str:
        free = [name for name in names if name not in self.shapes]
        if not free:
            raise Rejected
        return self.rng.choice(free)

    def input(self, shape: Point, kind: str = "real") -> str:
        """An input of that shape; now and then one the program has already."""
        if math.prod(shape) > 48:
            raise Rejected
        known = [n for n, k in self.kinds.items() if k == kind and self.shapes[n] == shape]
        if known and self.chance(0.3):
            return self.rng.choice(known)
        name = self.fresh(INPUTS)
        self.shapes[name], self.kinds[name] = shape, kind
        return name

    def source(self, ranks: Sequence[int]) -> str:
        """A tensor to build on: the newest, or any other, or a new input."""
        fit = [name for name, shape in self.shapes.items() if len(shape) in ranks]
        fit = [name for name in fit if self.kinds.get(name, "real") in ("real", "positive")]
        assigned = [name for name in fit if name not in self.kinds]
        if assigned and self.chance(0.75):
            return assigned[-1] if self.chance(0.8) else self.rng.choice(assigned)
        if fit and self.chance(0.4):
            return self.rng.choice(fit)
        rank = self.rng.choice(list(ranks))
        return self.input(tuple(self.length(axis) for axis in range(rank)))

    def length(self, axis: int) -> int:
        if axis == 0 and self.chance(0.04):
            return 0  # an empty batch
        return self.rng.choice([1, 2, 2, 3, 3, 4, 5, 6])

    def number(self) -> str:
        text = self.rng.choice(["2", "3", "1/2", "0.25", "1.5", "0.1", "1/3", "(-1)", "pi"])
        if text in ("0.1", "1/3"):
            self.rounded()
        if text == "pi":
            self.irrational()
        return text

    # Statements.

    def assign(self, left: Sequence[str], body: str, name: str = "") -> str:
        """Write `name[left] = body`, and find its shape."""
        name = name or self.fresh(ASSIGNED)
        line = self.lettered(f"{name}[{', '.join(left)}] = {body}" if left else f"{name} = {body}")
        zeros = {n: np.zeros(shape) for n, shape in self.shapes.items() if n != name}
        try:
            formula = oracle.Machine(line, zeros).formula(name)
        except OracleError:
            raise Rejected from None
        if math.prod(len(index.span()) for index in formula.indices) > COST:
            raise Rejected
        if math.prod(formula.shape) > 40:
            raise Rejected
        self.shapes[name] = formula.shape
        self.lines.append(line)
        return name

    def update(self, name: str, line: str) -> None:
        self.lines.append(self.lettered(line))
        self.updated.append(name)

    def lettered(self, line: str) -> str:
        taken = set(re.findall(r"\w+", line))
        free = [letter for letter in LETTERS if letter not in taken]
        self.rng.shuffle(free)
        if self.chance(0.5):  # letters that name a tensor elsewhere come first
            free.sort(key=lambda letter: letter not in self.shapes)
        for token in sorted(set(re.findall(r"⟦\d+⟧", line))):
            line = line.replace(token, free.pop(0))
        return line

    # Numbers.

    def values(self, name: str) -> np.ndarray[Any, Any]:
        shape, kind = self.shapes[name], self.kinds[name]
        if kind not in ("real", "positive"):
            labels = [self.rng.randrange(int(kind)) for _ in range(math.prod(shape))]
            return np.array(labels, dtype=np.int64).reshape(shape)
        pool = [-1, 0, 1] if self.ties else [n for n in range(-9, 10) if n]
        if kind == "positive":
            pool = [1, 2] if self.ties else list(range(1, 10))
        entries = np.empty(shape, dtype=object)
        for point in np.ndindex(shape):
            entries[point] = Fraction(self.rng.choice(pool), 1 if self.ties else 4)
        return entries
