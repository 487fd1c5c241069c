"""How a nest is walked: its vector index, the register tile, the order of its loops.

Every nest goes the same way: loops, then a tile of points, whose values the evaluator works out
together, then their stores.  What is chosen here is which index shares a register and which loop
is outside which; and how reading outside a tensor is dealt with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chainrule.expr import ZERO, Access, Affine, Expr, Mul, Reduce, walk
from chainrule.native.nest import Nest, positions
from chainrule.native.tiles import BATCH, NEAR, Machine, apart_from, cheapest

_PARTS = 8  # of a loop that comes first for threads to share
_FEW = 4  # parts that are enough: as many as a layer of many weights has


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
    def shared_loop(self) -> str | None:
        """What threads share if the nest has no samples: the first loop with parts for many.

        If there is none, the one with the most.  A layer of many weights has theirs first.
        """
        loops = self.order[:1] if self.nest.spread else self.order
        parts = {i: min(self.units(i) or BATCH, _FEW) for i in loops if i != self.nest.carry}
        return max(parts, key=parts.__getitem__, default=None)

    def units(self, name: str) -> int | None:
        """How many tiles a loop has; None where the batch says it."""
        n, step = self.nest.extents[name], self.tile.get(name, 1)
        return None if n is None else -(-n // (step * (self.width if name == self.vector else 1)))

    @property
    def halos(self) -> set[str]:
        """The tensors around which zeros have to stand."""
        return {e.tensor for (e, _), method in self.methods.items() if method == "halo"}

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
    if nest.plain or nest.transform:  # a nest that hardly ever runs is not worth much code
        tile = {vector: 1} if vector else {}
    else:
        tile = cheapest(nest, machine, vector, width, block)
    tile |= {i: nest.extents[i] or 1 for i in nest.at_once}
    order = _order(nest, tile, vector, width)
    return with_methods(Plan(nest, order, tile, vector, width))


def with_methods(p: Plan) -> Plan:
    """The plan, with how each axis behind pad is dealt with."""
    return replace(p, methods=_methods(p.nest, {*p.tile, p.vector}))


def vector_index(nest: Nest) -> str | None:
    """The index of neighbouring results: the last on the last axis that has one."""
    last = next((a for a in reversed(nest.store) if a.terms), None)
    if last is None:
        return None
    unit = [n for n, c in last.terms if c == 1] or [n for n, _ in last.terms]
    name = unit[-1] if unit else None
    return None if name is None or nest.extents[name] is None else name


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


def _order(nest: Nest, tile: Mapping[str, int], vector: str | None, width: int) -> tuple[str, ...]:
    """Plain loops, then the vector's, then the tile's rows: what a vector reads stays near.

    Where all vectors together read more weights than the cache holds, their loop is the first,
    if it has parts for many.
    """
    apart = [n for n in apart_from(nest, vector) if n not in tile]
    plain = [n for n in nest.loops if n not in tile and n not in apart]
    rows = [n for n in nest.loops if n in tile and n != vector]
    if nest.carry:  # threads share another loop, and go through that one together
        first = vector or next(n for n in (*rows, *plain, *apart) if n != nest.carry)
        inner = [n for n in (*plain, *rows) if n not in (first, nest.carry)]
        return (first, *(n for n in apart if n != first), nest.carry, *inner)
    weights = _weights(nest, vector) if vector else 0
    if weights > NEAR * math.prod(nest.extents[n] or 1 for n in apart):
        assert vector is not None
        parts = (nest.extents[vector] or 0) // (tile[vector] * width)
        if not nest.spread or parts >= min([_PARTS, *(nest.extents[n] or BATCH for n in plain)]):
            return (*apart, vector, *plain, *rows)
    return (*apart, *plain, *([vector] if vector else []), *rows)


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
            for c in e.inside:
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
    return all(_same_sum(c, e, name) for c in body.inside)


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
        and not any(n.transform or n.guards or n.group for n in (a, b))
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
    sizes = [math.prod(nest.extents[n] or BATCH for n in e.names)
             for e in walk(nest.body) if isinstance(e, Reduce)]  # fmt: skip
    return max(sizes, default=1) > 16
