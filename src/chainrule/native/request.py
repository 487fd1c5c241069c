"""What machine code is asked for: a program, its sizes, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from chainrule.native.tiles import Machine
from chainrule.ranges import Ranges
from chainrule.system import System

SHARES = 2  # blocks that a batch has at least, so that several threads find work
_BLOCKS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Request:
    """All that code depends on, but for the processor's name and the versions of its makers.

    ranges     the program's sizes
    batch      the inputs whose first axis is the batch (True) and the tensors made with it
    wanted     the results
    integers   the inputs that are arrays of integers
    rows       of a batch: the code serves any number, but is best for as many or more
    train      updates go back to the tensors they update, and the batch's rows come in an order
               that is given at run time
    objective  the scalar that is kept of each step
    winograd   whether sums over windows of three may be taken by tiles
    """

    system: System
    ranges: Ranges
    batch: Mapping[str, bool]
    wanted: tuple[str, ...]
    integers: frozenset[str]
    machine: Machine
    rows: int
    train: bool = False
    objective: str | None = None
    winograd: bool = True

    @property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of samples that blocks may have, the largest first."""
        return blocks(self.rows) if self.batch else (1,)

    @property
    def single(self) -> bool:
        """Whether the batch is of one sample, which threads can only share by its results."""
        return bool(self.batch) and self.rows == 1

    @property
    def least(self) -> int:
        """Rows that a batch has at least: all that code which serves more may count on."""
        return self.blocks[0] * SHARES if self.batch and not self.single else 1

    @cached_property
    def text(self) -> str:
        """The request in words: what reads the same has the same code.

        Of the batch's size, only the blocks count and whether it is one sample.
        """
        shapes = {
            t: ("batch", *s[1:]) if t in self.batch else s
            for t, s in self.ranges.shapes.items() if t in self.system.inputs
        }  # fmt: skip
        said = (shapes, sorted(self.batch.items()), self.wanted, sorted(self.integers),
                self.machine, self.blocks, self.single, self.train, self.objective,
                self.winograd)  # fmt: skip
        return "\n".join([*map(str, self.system.statements), *map(repr, said)])


def blocks(rows: int) -> tuple[int, ...]:
    """Numbers of samples that a batch of so many rows may be cut into, the largest first."""
    return tuple(b for b in _BLOCKS if b * SHARES <= rows) or (1,)
