"""Buffers: where each tensor lives while a program runs, and how its elements are laid out.

    given    an array of the caller's, in its own row-major layout
    rows     the same, but the batch's rows are picked by an order: row b is order[b]
    static   one copy that all threads share
    batch    one copy, as many rows as the batch has
    block    each thread's own, as many rows as a block of samples has
    group    the same, of as many rows as a group of nests takes at a time; groups share memory
    lanes    sums over samples: one partial sum in each lane

Layouts are row-major.  Tensors of the engine's own may have a halo: elements before and behind
an axis that stay zero, so that reading outside needs no test; and their last axis may be padded
to whole vectors.  Each buffer ends with a vector's worth of room.
"""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Extent = int | None
OWN = frozenset({"static", "batch", "block", "group", "lanes"})
ALIGNMENT = 64
_PAGE, _SKEW = 4096, 1088
_MANY = 8  # lines of the cache


@dataclass
class Buffer:
    """One tensor's place and layout; offsets and strides count elements.

    sizes     of the tensor's axes; None is the batch
    low, high elements of the halo before and behind each axis
    padded    elements of the last axis that are there, halo apart, for whole vectors
    element   bytes of an element; `whole` when it holds integers
    slot      its number in the table of addresses
    lane_offset, lane_bytes  of partial sums: where in a lane they are, and a lane's size
    plane  an axis whose neighbours are spread over the sets of the cache
    rows, start  of what a group of nests alone uses: its rows, and where it is in their memory
    """

    name: str
    place: str
    sizes: tuple[Extent, ...]
    element: int
    whole: bool = False
    low: list[int] = field(default_factory=list)
    high: list[int] = field(default_factory=list)
    padded: int = 0
    slot: int = -1
    lane_offset: int = 0
    lane_bytes: int = 0
    plane: int = -1
    rows: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        self.low = self.low or [0] * len(self.sizes)
        self.high = self.high or [0] * len(self.sizes)
        if self.sizes and not self.padded:
            self.padded = self.sizes[-1] or 0

    @property
    def batched(self) -> bool:
        """Whether the first axis is the batch."""
        return bool(self.sizes) and self.sizes[0] is None

    def stored(self, axis: int) -> int:
        """Elements of an axis as stored, its halo included; 1 for the batch."""
        n = self.sizes[axis]
        if n is None:
            return 1
        n = self.padded if axis == len(self.sizes) - 1 else n
        return self.low[axis] + n + self.high[axis]

    @property
    def strides(self) -> tuple[int, ...]:
        """The distance of neighbours on each axis."""
        steps, _ = self._steps()
        return (self.row, *steps[1:]) if self.batched else tuple(steps)

    def _steps(self) -> tuple[list[int], int]:
        """The distance of neighbours on each axis, and of samples if there were no gap."""
        out, step = [], 1
        for axis in reversed(range(len(self.sizes))):
            if axis == self.plane:
                step = spread(step, self.element)
            out.append(step)
            step *= self.stored(axis)
        return out[::-1], step

    @property
    def origin(self) -> int:
        """Where element [0, 0, ...] is."""
        return sum(s * n for s, n in zip(self.strides, self.low, strict=True))

    @property
    def row(self) -> int:
        """Elements of one sample, or of the whole tensor where it has no batch axis."""
        _, n = self._steps()
        return spread(n, self.element) if self.batched and self.place in OWN else n

    def room(self, axis: int) -> int:
        """Elements that may be written behind an axis' size without touching another element."""
        last = axis == len(self.sizes) - 1
        return self.padded - (self.sizes[axis] or 0) if last and self.place in OWN else 0

    def bytes(self, rows: int, slack: int = 0) -> int:
        """What it takes for so many samples."""
        return (self.row * (rows if self.batched else 1) + slack) * self.element


def spread(n: int, element: int) -> int:
    """So many elements or a few more: of many lines of the cache, an odd number.

    Elements that are so far apart do not fall into the same few sets of the cache.
    """
    line = ALIGNMENT // element
    return n if n < _MANY * line else (-(-n // line) | 1) * line


Allocator = Callable[[Sequence[int]], tuple[list[int], object]]


def allocate(sizes: Sequence[int]) -> tuple[list[int], object]:
    """Zeroed memory for buffers of these sizes in bytes: their addresses, and what keeps them.

    They stand one behind the other, but no two at the same place in a page: a processor takes
    addresses that agree in their last twelve bits for the same at first sight.  A test puts each
    against a page that cannot be touched.
    """
    offsets, total = [], 0
    for k, size in enumerate(sizes):
        total += (k * _SKEW - total) % _PAGE
        offsets.append(total)
        total += size
    block = np.zeros(total + ALIGNMENT, np.uint8)  # pages that are never touched take no memory
    start = -(-address_of(block) // ALIGNMENT) * ALIGNMENT
    return [start + o for o in offsets], block


def whole_lines(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], object]:
    """Copies that begin with a line of the cache, so that no register's numbers lie in two."""
    addresses, kept = allocate([a.nbytes for a in arrays.values()])
    made = {}
    for (t, a), address in zip(arrays.items(), addresses, strict=True):
        memory = (ctypes.c_char * a.nbytes).from_address(address)
        made[t] = np.ndarray(a.shape, a.dtype, memoryview(memory))
        made[t][...] = a
    return made, kept


def address_of(array: NDArray[Any]) -> int:
    """Where an array's elements are."""
    return int(array.__array_interface__["data"][0])


def new_array(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array that native code reads or writes.  A test puts it against such a page, too."""
    size = math.prod(shape) * dtype.itemsize
    if size < _REUSED:
        return np.empty(shape, dtype)
    # The array and all its views keep the loan; when the last is gone, the memory comes back.
    return np.asarray(_Loan(_taken(size), size)).view(dtype).reshape(shape)


class _Loan:
    """Memory lent to one result.  Fresh pages would cost more than many a convolution."""

    def __init__(self, memory: _Memory, size: int) -> None:
        self.memory = memory
        start = -address_of(memory.bytes) % ALIGNMENT
        self.__array_interface__ = memory.bytes[start : start + size].__array_interface__

    def __del__(self) -> None:
        if self.memory.bytes.nbytes <= _KEPT:
            _spare.append(self.memory)


@dataclass(frozen=True, eq=False)
class _Memory:
    bytes: NDArray[np.uint8]


_REUSED, _KEPT = 1 << 18, 1 << 25  # bytes: smaller results are not worth it, larger ones not kept
_spare: deque[_Memory] = deque(maxlen=4)


def _taken(size: int) -> _Memory:
    for memory in list(_spare):
        if memory.bytes.nbytes == size + ALIGNMENT:
            try:
                _spare.remove(memory)
            except ValueError:  # another thread was faster
                continue
            return memory
    return _Memory(np.empty(size + ALIGNMENT, np.uint8))
