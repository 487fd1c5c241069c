"""How a nest is walked: its vector index, the register tile, the order of its loops.

Every nest goes the same way: loops, then a tile of points, whose values the evaluator works out
together, then their stores.  What is chosen here is which index shares a register and which
neighbours share what they read.  The choice is the cheapest by a small model of one core: what a
reduction's step takes in multiply-adds and loads, and how much of the last tile is wasted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from chainrule.expr import (
    ZERO,
    Access,
    Affine,
    Expr,
    Mul,
    Reduce,
    children,
    walk,
)
from chainrule.native.loops import Nest, positions

_NEAR = 1 << 18  # numbers that the second level of the cache holds
_LATENCY = 4.0  # cycles until an accumulator can be added to again
_UNUSED = 4  # registers kept free of accumulators
_PARTS = 8  # of a loop that threads share
_BATCH = 64  # samples that a sum over the whole batch is taken to have
_ROWS = tuple(range(1, 17))


@dataclass(frozen=True)
class Machine:
    """What the choice depends on: bytes of a register, how many there are, bytes of a number."""

    vector_bytes: int
    registers: int
    element: int

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
        return max(0.5, width * self.element / 64)


@dataclass(frozen=True)
class Plan:
    """A nest and how it is walked.

    order     its loops, outermost first
    tile      index -> values taken together (of the vector index: vectors)
    vector    the index along registers, and how many values are in one
    methods   for an access's axis behind pad: how reading outside is dealt with
              "trim:m": the loop over m is shortened; "halo": zeros stand there; "test"
    others    plans of the same loops, whose results are worked out at the same points
    """

    nest: Nest
    order: tuple[str, ...]
    tile: Mapping[str, int]
    vector: str | None
    width: int
    methods: Mapping[tuple[Access, int], str] = field(default_factory=dict)
    others: tuple[Plan, ...] = ()

    @property
    def all(self) -> tuple[Plan, ...]:
        """This plan and the others that its loops carry along."""
        return (self, *self.others)


def plan(nest: Nest, machine: Machine, block: int) -> Plan:
    """The cheapest walk of a nest, where a block has so many samples."""
    vector = vector_index(nest)
    n = nest.extents[vector] if vector else None
    width = machine.width(n) if n is not None else 1
    if width == 1:
        vector = None
    tile = _cheapest(nest, machine, vector, width, block)
    order = _order(nest, tile, vector, width)
    return with_methods(Plan(nest, order, tile, vector, width))


def with_methods(p: Plan) -> Plan:
    """The plan, with how each axis behind pad is dealt with."""
    return replace(p, methods=_methods(p.nest, {*p.tile, p.vector}))


def vector_index(nest: Nest) -> str | None:
    """The index of neighbouring results: the last on the last axis."""
    if not nest.store:
        return None
    last = nest.store[-1]
    unit = [n for n, c in last.terms if c == 1] or [n for n, _ in last.terms]
    name = unit[-1] if unit else None
    return None if name is None or nest.extents[name] is None else name


# ---------------------------------------------------------------- the tile


@dataclass(frozen=True)
class _Work:
    """A nest as the cost model sees it: its reduction's length and what one step reads."""

    steps: int
    reads: tuple[_Read, ...]


@dataclass(frozen=True)
class _Read:
    """An access in the reduction: its indices, those of its last axis, and what runs along that.

    run   steps of the reduction that stay on one line of the cache
    """

    names: frozenset[str]
    last: frozenset[str]
    by_vector: bool
    run: int


def _cheapest(
    nest: Nest, machine: Machine, vector: str | None, width: int, block: int
) -> dict[str, int]:
    work = main_sum(nest, vector, block)
    base = {vector: 1} if vector else {}
    if work is None or work.steps < 4:
        row = _crossing(nest, vector)
        return {**base, row: width} if row is not None and width > 1 else base
    stored = {n for a in nest.store for n in a.names}
    # of equals, the nearest in memory
    rows = [n for n in reversed(nest.loops) if n != vector and n in stored]
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
        choices = [_counts(sizes[r], limit) for r in names]
        outside = _outside(nest, {*names, vector} if vector else set(names))
        for u in [u for u in (1, 2, 3, 4) if least <= u <= vectors] if vector else [1]:
            for counts in itertools.product(*choices):
                if math.prod(counts) * u > limit:
                    continue
                tile = dict(zip(names, counts, strict=True))
                if vector:
                    tile[vector] = u
                if _registers(work, tile) > machine.registers:
                    continue
                c = _cost(nest, machine, work, tile, sizes, vector, width, outside)
                if c < cost * 0.999:
                    best, cost = tile, c
    return best


def _crossing(nest: Nest, vector: str | None) -> str | None:
    """For a copy that turns a tensor: the index that runs along memory where it is read."""
    e = nest.body
    if not isinstance(e, Access) or not e.axes or e.pad is not None:
        return None
    last = positions(e)[-1].bare
    turns = vector is not None and vector in e.free and last not in (None, vector)
    return last if turns and nest.extents.get(last or "") is not None else None


def _registers(work: _Work, tile: Mapping[str, int]) -> int:
    """Registers a step takes: accumulators, and what is read for more than one of them."""
    points = math.prod(tile.values())
    total = points + 1
    for read in work.reads:
        distinct = math.prod(c for n, c in tile.items() if n in read.names)
        if distinct < points:
            total += distinct
    return total


def _counts(n: int, limit: int) -> list[int]:
    if n <= 1:
        return [1]
    return [r for r in _ROWS if 1 < r <= min(n, limit)] + ([n] if 16 < n <= limit else [])


def _cost(
    nest: Nest, machine: Machine, work: _Work, tile: Mapping[str, int],
    sizes: Mapping[str, int], vector: str | None, width: int, outside: float,
) -> float:  # fmt: skip
    """Cycles of the whole nest, roughly."""
    outer = math.prod(n for name, n in sizes.items() if name not in tile)
    shapes = []
    for name, count in tile.items():
        n = -(-sizes[name] // width) if name == vector else sizes[name]
        full, rest = divmod(n, count)
        shapes.append([(count, full)] * bool(full) + [(rest, 1)] * bool(rest))
    total = 0.0
    for combination in itertools.product(*shapes):
        counts = dict(zip(tile, (c for c, _ in combination), strict=True))
        times = math.prod(t for _, t in combination)
        points = math.prod(counts.values())
        per_load = machine.cycles(width)
        loads = 0.0
        lines = 0.0
        for read in work.reads:
            distinct = math.prod(c for n, c in counts.items() if n in read.names)
            loads += distinct * (per_load if read.by_vector else 0.5)
            along = math.prod(c for n, c in counts.items() if n in read.last)
            lines += distinct / (1 if read.by_vector else along) / read.run
        fma = points * machine.cycles(width)
        copies = 8 if points == 1 else 4 if points == 2 else 2 if points < 8 else 1
        step = max(fma, loads, _LATENCY / copies) + 0.4 + 0.6 * lines
        vectors = counts.get(vector, 0) if vector else 0
        if work.steps * vectors * width > _NEAR // 4 and nest.lane is None:
            # the weights come from further away, if they cannot be put together in panels
            step += (3 if sizes[vector or ""] % (vectors * width) else 1) * vectors * per_load
        total += times * (work.steps * step + 8 + 2 * points)
    return outer * total * outside


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


def main_sum(nest: Nest, vector: str | None, block: int) -> _Work | None:
    """The longest sum of products in the body."""
    best: _Work | None = None
    for e in walk(nest.body):
        if not isinstance(e, Reduce) or e.op != "sum":
            continue
        rows = block if nest.sample else max(block, _BATCH)
        steps = math.prod(nest.extents[n] or rows for n in e.names)
        reads = tuple(
            _read(nest, a, e, vector)
            for a in dict.fromkeys(x for x in walk(e.body) if isinstance(x, Access))
        )
        if best is None or steps > best.steps:
            best = _Work(steps, reads)
    return best


def _weights(nest: Nest, vector: str) -> int:
    """Elements of the largest tensor without samples that is read along the vector index."""
    sizes = [0]
    for e in nest.accesses():
        extents = [nest.extents[n] for n in e.free]
        if vector in e.free and _summed(nest, e) and None not in extents:
            sizes.append(math.prod(n for n in extents if n is not None))
    return max(sizes)


def _summed(nest: Nest, a: Access) -> bool:
    return any(isinstance(e, Reduce) and e.op == "sum" and any(x is a for x in walk(e.body))
               for e in walk(nest.body))  # fmt: skip


def _read(nest: Nest, a: Access, within: Reduce, vector: str | None) -> _Read:
    last = frozenset(a.axes[-1].names) if a.axes else frozenset()
    along = [nest.extents[n] or 1 for n in last if n in within.names]
    return _Read(frozenset(a.free), last, vector in a.free, max(1, min(16, *along, 16)))


def _order(nest: Nest, tile: Mapping[str, int], vector: str | None, width: int) -> tuple[str, ...]:
    """Plain loops, then the vector's, then the tile's rows: what a vector reads stays near.

    Where all vectors together read more weights than the cache holds, their loop is the first.
    Threads share the first loop of a nest without samples: it is one with parts for many.
    """
    plain = [n for n in nest.loops if n not in tile]
    rows = [n for n in nest.loops if n in tile and n != vector]
    if nest.sample is None:
        plain.sort(key=lambda n: -min(nest.extents[n] or _BATCH, _PARTS))
    if vector and _weights(nest, vector) > _NEAR // 4:
        parts = (nest.extents[vector] or 0) // (tile[vector] * width)
        if nest.sample or parts >= min(_PARTS, *(nest.extents[n] or _BATCH for n in plain)):
            return (vector, *plain, *rows)
    return (*plain, *([vector] if vector else []), *rows)


# ---------------------------------------------------------------- reading outside


def _methods(nest: Nest, taken: set[str | None]) -> dict[tuple[Access, int], str]:
    """How each axis behind pad is kept from reading outside; none where it cannot."""
    methods: dict[tuple[Access, int], str] = {}
    factors = dict(_zero_factors(nest.body))
    for e in nest.accesses():
        if e.pad is None:
            continue
        for k, a in enumerate(positions(e)):
            methods[e, k] = _method(nest, e, a, factors.get(e), taken)
    return methods


def _method(nest: Nest, e: Access, a: Affine, within: Reduce | None, taken: set[str | None]) -> str:
    if not a.whole:
        return "test"
    if e.pad is ZERO:
        if within is not None:
            for name in reversed(within.names):
                c = dict(a.terms).get(name)
                rest = [n for n in a.names if n != name]
                if c in (1, -1) and all(n in nest.loops and n not in taken for n in rest):
                    return f"trim:{name}"
        return "halo"
    return "test"


def _zero_factors(e: Expr, within: Reduce | None = None) -> Iterator[tuple[Access, Reduce | None]]:
    """Accesses that make a whole sum's term zero when they are."""
    match e:
        case Reduce("sum", _, body):
            yield from _zero_factors(body, e)
        case Mul(factors):
            for f in factors:
                if isinstance(f, Access):
                    yield f, within
                else:
                    yield from _zero_factors(f, None)
        case Access():
            yield e, within
        case _:
            for c in children(e):
                yield from _zero_factors(c, None)


def reach(nest: Nest, a: Affine) -> tuple[int, int]:
    """The smallest and the largest position of an axis."""
    low = high = int(a.offset)
    for name, c in a.terms:
        n = nest.extents[name]
        assert n is not None
        far = int(c) * (n - 1)
        low, high = low + min(far, 0), high + max(far, 0)
    return low, high


def settle(p: Plan, sizes: Mapping[str, Sequence[int | None]]) -> Plan:
    """Drop what stays inside its tensor anyhow, and what a trimmed loop keeps inside."""
    methods = dict(p.methods)
    trims = {
        (positions(e)[k], sizes[e.tensor][k]): m for (e, k), m in methods.items() if m[:4] == "trim"
    }
    for (e, k), method in p.methods.items():
        a, n = positions(e)[k], sizes[e.tensor][k]
        if not a.whole or n is None:
            if n is None:
                del methods[e, k]
            continue
        low, high = reach(p.nest, a)
        if low >= 0 and high < n:
            del methods[e, k]
        elif (
            method[:4] != "trim" and (a, n) in trims and _same_sum(p.nest.body, e, trims[a, n][5:])
        ):
            methods[e, k] = trims[a, n]
    return replace(p, methods=methods)


def _same_sum(body: Expr, e: Access, name: str) -> bool:
    """Whether every reading of e is inside the sums over the named index."""
    if body is e:
        return False
    if isinstance(body, Reduce) and name in body.names:
        return True
    return all(_same_sum(c, e, name) for c in children(body))


# ---------------------------------------------------------------- plans that share their loops


def fused(plans: Sequence[Plan]) -> list[Plan]:
    """Plans without long sums put together where their loops are the same.

    A plan may move up to an earlier one if nothing it reads is made in between.
    """
    made: list[Plan] = []
    for p in plans:
        home = next((k for k, q in enumerate(made) if _joins(p, q, made[k:])), None)
        if home is None:
            made.append(p)
        else:
            made[home] = replace(made[home], others=(*made[home].others, p))
    return made


def _joins(p: Plan, head: Plan, following: Sequence[Plan]) -> bool:
    a, b = p.nest, head.nest
    same = (
        (p.order, p.vector, p.width, dict(p.tile), a.lane is None)
        == (head.order, head.vector, head.width, dict(head.tile), True)
        and b.lane is None
        and (a.sample is None) == (b.sample is None)
        and all(a.extents[n] == b.extents[n] for n in a.extents if n in b.extents)
        and not any(
            q.methods and any(m[:4] == "trim" for m in q.methods.values()) for q in (p, head)
        )
    )
    if not same or any(_long(q.nest) for q in (p, head)) or len(head.others) >= 8:
        return False
    reads = set(a.reads)
    if any(q.nest.target in reads for f in following for q in f.all):
        return False
    # what is written must not be read by what it moves past, nor by what it joins
    return not any(a.target in q.nest.reads for f in following for q in f.all)


def _long(nest: Nest) -> bool:
    sizes = [math.prod(nest.extents[n] or _BATCH for n in e.names)
             for e in walk(nest.body) if isinstance(e, Reduce)]  # fmt: skip
    return max(sizes, default=1) > 16
