"""What an explanation is made of.  Plain values; the views (text, latex, html, record) read them.

    Explanation  one element of one tensor
      Part...      the terms of its formula's outermost sum: a sum over indices, or one product
        Term...      one product with its indices bound to numbers
          Factor...    one factor: its value, the tensor elements it reads, and, where it holds a
                       reduction, that reduction's Inner working
        Zeros...     the terms that are 0, counted by reason

Numbers are full float64; nothing in here is rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from chainrule.explain.values import Floats, Place
from chainrule.expr import Expr


@dataclass(frozen=True)
class Cell:
    """One element of one tensor; role is given, forward, backward or helper."""

    tensor: str
    index: Place
    value: float
    role: str

    @property
    def name(self) -> str:
        return element_name(self.tensor, self.index)


@dataclass(frozen=True)
class Factor:
    """One factor of a term.

    formula   with letters, as in o[i+m,j+n]
    name      with numbers, as in o[0,2]
    numbers   with values in place of tensors, as in (0.3 - 0.5)**2
    value     full precision
    kind      constant, tensor, bracket or expression
    cells     the tensor elements it reads
    inner     the reductions inside it
    """

    formula: str
    name: str
    numbers: str
    value: float
    kind: str
    expr: Expr
    cells: tuple[Cell, ...] = ()
    inner: tuple[Inner, ...] = ()


@dataclass(frozen=True)
class Term:
    """A product: its value is not rounded anywhere on the way."""

    indices: dict[str, int]
    factors: tuple[Factor, ...]
    value: float


@dataclass(frozen=True)
class Zeros:
    """Terms that are 0 for one reason, with the first of them as an example.

    share    how much of the tensor that holds the zeros is 0 for this reason
    cells    of the example: the computed elements that are 0
    """

    count: int
    reason: str
    example: str
    share: str = ""
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Sample:
    """What one sample of the batch adds to a sum."""

    index: int
    value: float
    nonzero: int


@dataclass(frozen=True)
class Part:
    """Σ over `names` of a product; without names, a single product.

    formula   with letters; filled: the left indices bound to numbers
    terms     the largest terms that are not 0, largest first
    rest      how many more are not 0, and what they add up to
    zeros     those that are 0
    batch     the summed index that counts samples, "" if none does; samples are its totals
    via       the statement through which this part of a gradient comes back
    """

    formula: str
    filled: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    value: float
    terms: tuple[Term, ...]
    rest: tuple[int, float]
    zeros: tuple[Zeros, ...]
    batch: str = ""
    samples: tuple[Sample, ...] = ()
    via: str = ""

    @property
    def count(self) -> int:
        return math.prod(self.sizes)

    @property
    def nonzero(self) -> int:
        return sum(t.value != 0 for t in self.terms) + self.rest[0]


@dataclass(frozen=True)
class Inner:
    """A reduction other than the outermost sum, worked out: a window, a softmax's log, a sum.

    values   what is reduced, one axis for each name
    winner   of a max, min or argmax: where the first of the equals stands
    ties     how many equals there are
    cells    the elements read at the winner, or by the largest of what is reduced
    """

    op: str
    formula: str
    value: float
    names: tuple[str, ...]
    values: Floats
    winner: Place = ()
    ties: int = 0
    winner_name: str = ""
    cells: tuple[Cell, ...] = ()
    entries: tuple[Factor, ...] = field(default=(), repr=False)


def element_name(tensor: str, index: Place) -> str:
    """o[0,2]; a scalar has no brackets."""
    return tensor + (f"[{','.join(map(str, index))}]" if index else "")
