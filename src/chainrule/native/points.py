"""Points of a tile, loops around them, and vectors: what every evaluation stands on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from chainrule.expr import Access, Expr
from chainrule.native.memory import Buffer
from chainrule.native.nest import Nest

Value = Any  # an ir.Value: a number, or a vector of them
Point = tuple[int, ...]

I1, I32, I64, PTR = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.PointerType()
FUSE = ("contract",)  # a product and a sum may become one multiply-add


def declared(
    module: ir.Module, name: str, result: ir.Type, kinds: Sequence[ir.Type]
) -> ir.Function:
    """A function that LLVM provides, declared once in a module."""
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(result, kinds), name)


@dataclass(frozen=True)
class Linear:
    """An index's value: a register (None is 0), a constant, and whether it differs by lane."""

    value: Value | None
    constant: int = 0
    lanes: int = 0


@dataclass
class Tile:
    """How a nest walks its points: the tile's sizes, the vector index and its width.

    counts  index -> values taken at once; of the vector index, vectors taken at once
    vector  the index whose neighbours share a register, and how many do
    tail    lanes of the last vector that hold a result, when not all do
    """

    counts: dict[str, int]
    vector: str | None = None
    width: int = 1
    tail: int = 0


class Points:
    """The points of one tile; `builder` stands where values at them are needed."""

    def __init__(
        self,
        builder: ir.IRBuilder,
        nest: Nest,
        real: ir.Type,
        buffers: Mapping[str, Buffer],
        pointers: Mapping[str, Value],
        arguments: Mapping[str, Value],
        methods: Mapping[tuple[Access, int], str],
    ) -> None:
        self.builder, self.nest, self.real = builder, nest, real
        self.buffers, self.pointers, self.arguments = buffers, pointers, arguments
        self.methods = methods
        self.env: dict[str, Linear] = {}
        self.tile = Tile({})
        self.names: tuple[str, ...] = ()
        self.memo: list[dict[Any, Any]] = [{}]
        self.one, self.zero = ir.Constant(real, 1.0), ir.Constant(real, 0.0)

    def value(self, e: Expr, point: Point) -> Value:
        """The value of e at a point, a number or a vector."""
        raise NotImplementedError

    # ------------------------------------------------------------ scopes and loops

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is computed inside does not reach the code outside."""
        self.memo.append({})
        try:
            yield
        finally:
            self.memo.pop()

    def remembered(self, key: Any) -> Any:
        for known in reversed(self.memo):
            if key in known:
                return known[key]
        return None

    def use(self, tile: Tile) -> None:
        """Take another tile; the values of indices are set in `env`."""
        self.tile = tile
        self.names = tuple(tile.counts)

    def loop(
        self,
        low: Any,
        high: Any,
        step: int,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """for i from low below high: carried = body(i, carried).  Bounds are ints or registers."""
        static = isinstance(low, int) and isinstance(high, int)
        if static and low >= high:
            return list(carried)
        b = self.builder
        low_, high_ = self.whole(low), self.whole(high)
        before = b.block
        inside, after = b.append_basic_block(), b.append_basic_block()
        if static:
            b.branch(inside)
        else:
            b.cbranch(b.icmp_signed("<", low_, high_), inside, after)
        b.position_at_end(inside)
        i = b.phi(I64)
        i.add_incoming(low_, before)
        phis = []
        for c in carried:
            phi = b.phi(c.type)
            phi.add_incoming(c, before)
            phis.append(phi)
        with self.scope():
            new = list(body(i, phis))
        following = b.add(i, ir.Constant(I64, step), flags=("nsw",))
        i.add_incoming(following, b.block)
        for phi, value in zip(phis, new, strict=True):
            phi.add_incoming(value, b.block)
        last = b.block
        b.cbranch(b.icmp_signed("<", following, high_), inside, after)
        b.position_at_end(after)
        results = []
        for c, value in zip(carried, new, strict=True):
            phi = b.phi(c.type)
            if not static:
                phi.add_incoming(c, before)
            phi.add_incoming(value, last)
            results.append(phi)
        return results

    def whole(self, n: Any) -> Value:
        return ir.Constant(I64, n) if isinstance(n, int) else n

    def extent(self, name: str) -> Any:
        """How many values an index has; the samples of this block, or of the whole batch."""
        n = self.nest.extents[name]
        if n is not None:
            return n
        return self.arguments["count" if name == self.nest.sample else "batch"]

    # ------------------------------------------------------------ points

    def coordinates(self, e: Expr) -> tuple[int, ...]:
        """The places in a point that matter to e."""
        key = ("places", e)
        found = self.remembered(key)
        if found is None:
            free = set(e.free)
            found = tuple(k for k, n in enumerate(self.names) if n in free)
            self.memo[-1][key] = found
        return found  # type: ignore[no-any-return]

    def points(self, e: Expr) -> list[Point]:
        """The points of the tile at which e may differ; other coordinates are 0."""
        places = set(self.coordinates(e))
        counts = [self.tile.counts[n] if k in places else 1 for k, n in enumerate(self.names)]
        return list(itertools.product(*map(range, counts)))

    def project(self, e: Expr, point: Point) -> Point:
        places = set(self.coordinates(e))
        return tuple(p if k in places else 0 for k, p in enumerate(point))

    def linear(self, terms: Sequence[tuple[str, int]], offset: int, point: Point) -> Linear:
        """Σ c*index + offset at a point."""
        constant, lanes, dynamic = offset, 0, []
        for name, c in terms:
            at = self.env[name]
            constant += c * at.constant
            if name in self.tile.counts:
                k = point[self.names.index(name)]
                constant += c * k * (self.tile.width if name == self.tile.vector else 1)
            if name == self.tile.vector:
                lanes += c
            if at.value is not None:
                dynamic.append((at.value, c))
        return Linear(self.combination(dynamic), constant, lanes)

    def combination(self, terms: list[tuple[Value, int]]) -> Value | None:
        key = ("linear", tuple((id(v), c) for v, c in terms))
        found = self.remembered(key)
        if found is not None or not terms:
            return found
        total = None
        for value, c in terms:
            part = value if c == 1 else self.builder.mul(value, self.whole(c), flags=("nsw",))
            total = part if total is None else self.builder.add(total, part, flags=("nsw",))
        self.memo[-1][key] = total
        return total

    # ------------------------------------------------------------ vectors

    def like(self, x: Value, model: Value) -> Value:
        if isinstance(model.type, ir.VectorType) and not isinstance(x.type, ir.VectorType):
            return self.splat(x, model.type.count)
        return x

    def matched(self, *values: Value) -> list[Value]:
        """All as vectors, if one of them is."""
        width = next((v.type.count for v in values if isinstance(v.type, ir.VectorType)), 0)
        if not width:
            return list(values)
        return [v if isinstance(v.type, ir.VectorType) else self.splat(v, width) for v in values]

    def splat(self, x: Value, width: int) -> Value:
        kind = ir.VectorType(x.type, width)
        if isinstance(x, ir.Constant):
            zero = x.constant == 0 and not str(x.constant).startswith("-")
            return ir.Constant(kind, None if zero else [x.constant] * width)
        single = self.builder.insert_element(ir.Constant(kind, ir.Undefined), x, I32(0))
        mask = ir.Constant(ir.VectorType(I32, width), None)
        return self.builder.shuffle_vector(single, ir.Constant(kind, ir.Undefined), mask)

    def spread(self, at: Linear) -> Value:
        """A Linear as one integer, or as a vector of them."""
        base = self.whole(at.constant)
        if at.value is not None:
            base = self.builder.add(at.value, base) if at.constant else at.value
        if not at.lanes:
            return base
        steps = [at.lanes * k for k in range(self.tile.width)]
        vector = ir.Constant(ir.VectorType(I64, self.tile.width), steps)
        return self.builder.add(self.splat(base, self.tile.width), vector)

    def float_of(self, x: Value) -> Value:
        kind = x.type.element if isinstance(x.type, ir.VectorType) else x.type
        if not isinstance(kind, ir.IntType):
            return x
        if isinstance(x.type, ir.VectorType):
            return self.builder.sitofp(x, ir.VectorType(self.real, x.type.count))
        return self.builder.sitofp(x, self.real)

    def lanes_used(self, point: Point) -> int:
        """How many lanes hold a result at this point."""
        t = self.tile
        if t.vector is None or not t.tail:
            return t.width
        if t.vector not in t.counts:
            return t.tail
        last = point[self.names.index(t.vector)] == t.counts[t.vector] - 1
        return t.tail if last else t.width

    def vector_of(self, kind: ir.Type) -> ir.Type:
        """The vector type of the tile."""
        return ir.VectorType(kind, self.tile.width)

    def mask(self, lanes: int) -> Value:
        bits = [int(k < lanes) for k in range(self.tile.width)]
        return ir.Constant(ir.VectorType(I1, self.tile.width), bits)

    def operate(self, op: str, a: Value, b: Value) -> Value:
        """An arithmetic instruction on numbers, vectors or one of each."""
        a, b = self.matched(a, b)
        return getattr(self.builder, op)(a, b, flags=FUSE)
