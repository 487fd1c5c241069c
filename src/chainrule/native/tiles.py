"""The register tile of a nest: which neighbours are worked out together, and how many.

The choice is the cheapest by a small model of one core: what a step of the nest's sum takes in
multiply-adds and loads, lines of the cache, the latency of an accumulator, the registers there
are, and how much of the last tile is wasted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from chainrule.expr import ZERO, Access, Affine, Reduce, walk
from chainrule.native.nest import Nest, positions

NEAR = 1 << 16  # numbers that stay in the second level of the cache beside other things
_NEAREST = 1 << 13  # numbers that stay in the first level; from the second, a line takes two cycles
BATCH = 64  # samples that a sum over the whole batch is taken to have
_LATENCY = 4.0  # cycles until an accumulator can be added to again
_SHARES = 4  # parts that threads find in a layer which they share by its results
_UNUSED = 4  # registers kept free of accumulators
_ROWS = tuple(range(1, 17))


@dataclass(frozen=True)
class Machine:
    """What the choice depends on.

    vector_bytes, registers, element   bytes of a register, how many there are, bytes of a number
    pairs   whether two multiply-adds of whole registers start in a cycle, not two of half ones
    """

    vector_bytes: int
    registers: int
    element: int
    pairs: bool = False

    def width(self, n: int) -> int:
        """How many of n neighbours go into one register: the fewest cycles, then the widest."""
        best, cost = 1, math.inf
        width = self.vector_bytes // self.element
        while width >= 2:
            cycles = -(-n // width) * max(1.0, width * self.element / 32)
            if cycles < cost * 0.9 and (width <= n or width // 2 < n):
                best, cost = width, cycles
            width //= 2
        return best if n > 1 else 1

    def cycles(self, width: int) -> float:
        """Cycles of one vector multiply-add, or of one vector load."""
        return 0.5 if self.pairs else max(0.5, width * self.element / 64)


@dataclass(frozen=True)
class Work:
    """A nest as the cost model sees it: its reduction's length and what one step reads.

    whole   the sum is over all samples' images, which no cache near the core holds
    """

    steps: int
    reads: tuple[_Read, ...]
    whole: bool


@dataclass(frozen=True)
class _Read:
    """An access in the reduction: its indices, those of its last axis, and what runs along that.

    run   steps of the reduction that stay on one line of the cache
    """

    names: frozenset[str]
    last: frozenset[str]
    by_vector: bool
    run: int


def cheapest(
    nest: Nest, machine: Machine, vector: str | None, width: int, block: int
) -> dict[str, int]:
    """How many values of which indices to take together; of the vector index, how many vectors."""
    work = main_sum(nest, vector, block)
    base = {vector: 1} if vector else {}
    if work is None or work.steps < 4:
        row = _crossing(nest, vector)
        square = row is not None and 1 < width <= (nest.extents[row] or 0)
        return {**base, row: width} if row is not None and square else base
    stored = {n for a in nest.store for n in a.names}
    # of equals, the nearest in memory
    apart = apart_from(nest, vector)
    rows = [n for n in reversed(nest.loops) if n != vector and n in stored and n not in apart]
    sizes = {n: block if nest.extents[n] is None else (nest.extents[n] or 0) for n in nest.loops}
    vectors = -(-sizes[vector] // width) if vector else 1
    limit = machine.registers - _UNUSED
    least = 1
    if len(work.reads) > 1 and all(r.by_vector for r in work.reads):
        # A window slides over vectors (depthwise): neighbours share what they read, and it has to
        # stay in registers, too; both halves of a pair of lines are used at once.
        rows, limit, least = rows[:1], limit // 2, min(2, vectors)
    best, cost = base, math.inf
    for names in itertools.chain([()], ((r,) for r in rows), itertools.combinations(rows, 2)):
        order = (*names, vector) if vector else names
        units = [vectors if n == vector else sizes[n] for n in order]
        # how often a tile of all there is would be walked, zeros outside included
        times = _outside(nest, set(order))
        times *= math.prod(n for name, n in sizes.items() if name not in order)
        model = _Model(nest, machine, work, order, vector, width, sizes.get(vector or "", 0))
        choices = [_counts(sizes[r], limit) for r in names]
        if vector:
            others = any(n not in order and n != nest.carry for n in nest.loops)
            most = max(1, vectors // _SHARES) if nest.spread and not others else vectors
            choices.append([u for u in (1, 2, 3, 4) if least <= u <= most])
        for counts in itertools.product(*choices):
            points = math.prod(counts)
            if points > limit or model.registers(counts) > machine.registers:
                continue
            # at the least, every tile is a whole one
            if times * math.prod(units) / points * work.steps * model.step(counts) >= cost:
                continue
            c = times * model.cycles(counts, units)
            if c < cost * 0.999:
                best, cost = dict(zip(order, counts, strict=True)), c
    return best


class _Model:
    """What tiles over some indices cost; `counts` are their values taken together, in order."""

    def __init__(
        self, nest: Nest, machine: Machine, work: Work, order: Sequence[str],
        vector: str | None, width: int, size: int,
    ) -> None:  # fmt: skip
        self.work, self.width, self.size = work, width, size
        self.per_load = machine.cycles(width)
        self.line = width * machine.element / 64
        self.vectors = bool(vector)
        self.far = nest.lane is None
        # of products of matrices, one for each value of an index, each has its own
        self.weights = work.steps * size if not apart_from(nest, vector) else 0
        places = range(len(order))
        self.reads = [
            (
                [k for k in places if order[k] in r.names],
                [k for k in places if order[k] in r.last],
                r,
            )
            for r in work.reads
        ]
        self.known: dict[tuple[int, ...], float] = {}

    def registers(self, counts: tuple[int, ...]) -> int:
        """Registers a step takes: accumulators, and what is read for more than one of them."""
        points = math.prod(counts)
        distinct = (math.prod([counts[k] for k in by]) for by, _, _ in self.reads)
        return points + 1 + sum(n for n in distinct if n < points)

    def step(self, counts: tuple[int, ...]) -> float:
        """Cycles of one step of the sum for a tile."""
        found = self.known.get(counts)
        if found is not None:
            return found
        points = math.prod(counts)
        loads = lines = 0.0
        vectors = counts[-1] if self.vectors else 0
        panel = self.work.steps * vectors * self.width  # numbers that all tiles of rows read
        load = max(self.per_load, self.line * 2.0) if panel > _NEAREST else self.per_load
        for by, last, read in self.reads:
            distinct = math.prod([counts[k] for k in by])
            loads += distinct * (load if read.by_vector else 0.5)
            along = 1 if read.by_vector else math.prod([counts[k] for k in last])
            lines += distinct / along / read.run
        copies = 8 if points == 1 else 4 if points == 2 else 2 if points < 8 else 1
        cycles = max(points * self.per_load, loads, _LATENCY / copies) + 0.4 + 0.6 * lines
        if self.work.whole and self.far:
            cycles += 3
        if self.far and self.weights > NEAR:
            # they come from further away, or lie in many pages, if they have no panels
            divides = self.size % (vectors * self.width or 1) == 0
            cycles += ((panel > NEAR) + (0 if divides else 2)) * vectors * self.per_load
        self.known[counts] = cycles
        return cycles

    def cycles(self, counts: tuple[int, ...], units: Sequence[int]) -> float:
        """Cycles of a nest that has so many units of each index, the last tiles perhaps smaller."""
        shapes = []
        for n, count in zip(units, counts, strict=True):
            full, rest = divmod(n, count)
            shapes.append([(count, full)] * bool(full) + [(rest, 1)] * bool(rest))
        total = 0.0
        for combination in itertools.product(*shapes):
            each = tuple(c for c, _ in combination)
            times = math.prod(t for _, t in combination)
            total += times * (self.work.steps * self.step(each) + 8 + 2 * math.prod(each))
        return total


def _crossing(nest: Nest, vector: str | None) -> str | None:
    """For a copy that turns a tensor: the index that runs along memory where it is read."""
    e = nest.body
    if not isinstance(e, Access) or not e.axes or e.pad is not None:
        return None
    last = positions(e)[-1].bare
    turns = vector is not None and vector in e.free and last not in (None, vector)
    return last if turns and nest.extents.get(last or "") is not None else None


def apart_from(nest: Nest, vector: str | None) -> list[str]:
    """Loops over indices that everything in a sum has: a product of matrices for each value.

    Nothing is shared along them, and theirs are the first loops, so that each product's factors
    stay near.
    """
    e = nest.body
    if not isinstance(e, Reduce) or e.op != "sum":
        return []
    reads = [set(x.free) for x in walk(e.body) if isinstance(x, Access)]
    common = set.intersection(*reads) - {vector, nest.carry} if reads else set()
    return [n for n in nest.loops if n in common and nest.extents[n] is not None]


def _counts(n: int, limit: int) -> list[int]:
    if n <= 1:
        return [1]
    return [r for r in _ROWS if 1 < r <= min(n, limit)] + ([n] if 16 < n <= limit else [])


def _outside(nest: Nest, tile: set[str]) -> float:
    """How much more work there is with zeros outside, for axes whose loops can't be trimmed."""
    factor = 1.0
    for e in nest.accesses():
        for a in positions(e):
            if e.pad is ZERO and len(a.terms) == 2 and tile & set(a.names) and a.whole:
                factor *= _padded_share(nest, a)
    return factor


def _padded_share(nest: Nest, a: Affine) -> float:
    """All pairs of two indices over those whose position is inside."""
    (_, c), (_, d) = a.terms
    n, m = (nest.extents[name] or 1 for name in a.names)
    return _share(int(c), n, int(d), m, int(a.offset))


@lru_cache(maxsize=1024)
def _share(c: int, n: int, d: int, m: int, offset: int) -> float:
    high = max(c * (n - 1), d * (m - 1), 1)  # about the tensor's last position
    inside = sum(0 <= c * i + d * j + offset <= high for i in range(n) for j in range(m))
    return n * m / max(inside, 1)


def main_sum(nest: Nest, vector: str | None, block: int) -> Work | None:
    """The longest sum of products in the body."""
    best: Work | None = None
    for e in walk(nest.body):
        if not isinstance(e, Reduce) or e.op != "sum":
            continue
        rows = block if nest.sample else max(block, BATCH)
        steps = math.prod(nest.extents[n] or rows for n in e.names)
        reads = tuple(
            _read(nest, a, e, vector)
            for a in dict.fromkeys(x for x in walk(e.body) if isinstance(x, Access))
        )
        if best is None or steps > best.steps:
            whole = len(e.names) > 1 and any(nest.extents[n] is None for n in e.names)
            best = Work(steps, reads, whole)
    return best


def work_of(nest: Nest) -> tuple[int, int]:
    """Products that a nest sums, roughly: in a step, or for each row."""
    summed = main_sum(nest, None, 1)
    work = nest.values(nest.loops) * (summed.steps if summed else 2)
    by_row = nest.sample or None in nest.extents.values()
    return (0, work) if by_row else (work, 0)


def _read(nest: Nest, a: Access, within: Reduce, vector: str | None) -> _Read:
    last = frozenset(a.axes[-1].names) if a.axes else frozenset()
    along = [nest.extents[n] or 1 for n in last if n in within.names]
    return _Read(frozenset(a.free), last, vector in a.free, max(1, min(16, *along, 16)))
