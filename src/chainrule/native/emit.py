"""A formula's value at a tile of points, as LLVM instructions.

One evaluator serves every kind of statement.  It is asked for the value of an expression at each
point of a tile: some indices take a few neighbouring values at once, and one of them, the vector
index, takes a register's worth in each instruction.  What does not depend on an index of the tile
is computed once for all its values.  So the register tile of a contraction needs no code of its
own: sum[m,c](w[m,c,k] * x[i+m,c]) over a tile of 8 values of i and 2 vectors of k loads each
vector of w and each number of x once, and adds their 16 products to 16 accumulators.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import prod
from typing import Any

from llvmlite import ir

from chainrule.expr import (
    Access,
    Add,
    Affine,
    Call,
    Compare,
    Const,
    Expr,
    Index,
    Mul,
    Pow,
    Reduce,
    Symbol,
    walk,
)
from chainrule.native import mathfn
from chainrule.native.loops import Nest, positions
from chainrule.native.memory import Buffer

Value = Any  # an ir.Value: a number, or a vector of them
Point = tuple[int, ...]

I1, I32, I64, PTR = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.PointerType()
_FUSE = ("contract",)  # a product and a sum may become one multiply-add
_ORDERED = {"==": "==", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_SYMBOLS = {"pi": 3.141592653589793, "inf": float("inf")}
_PARALLEL = 8  # accumulators that hide the latency of an addition


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


class Evaluator:
    """Values of expressions at the points of one tile; `builder` stands where they are needed."""

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

    # ------------------------------------------------------------ scopes and loops

    @contextmanager
    def scope(self, **unused: Any) -> Iterator[None]:
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

    # ------------------------------------------------------------ expressions

    def value(self, e: Expr, point: Point) -> Value:
        """The value of e at a point, a number or a vector."""
        point = self.project(e, point)
        key = (e, point)
        found = self.remembered(key)
        if found is None:
            found = self._value(e, point)
            self.memo[-1][key] = found
        return found

    def _value(self, e: Expr, point: Point) -> Value:
        match e:
            case Const(value):
                return ir.Constant(self.real, _nearest(value, self.real))
            case Symbol("batch"):
                return self.builder.sitofp(self.arguments["batch"], self.real)
            case Symbol(name):
                return ir.Constant(self.real, _nearest(_SYMBOLS[name], self.real))
            case Index(name):
                return self.float_of(self.spread(self.linear([(name, 1)], 0, point)))
            case Access():
                return self.float_of(self.access(e, point))
            case Add(terms):
                return self.sum(terms, point)
            case Mul(factors):
                return self.product(factors, point)
            case Pow(base, exponent):
                return self.power(base, exponent, point)
            case Compare():
                return self.builder.select(*self.matched(self.truth(e, point), self.one, self.zero))
            case Call("where", (condition, a, b)):
                chosen = self.truth(condition, point)
                return self.builder.select(
                    *self.matched(chosen, self.value(a, point), self.value(b, point))
                )
            case Call("stop", (a,)):
                return self.value(a, point)
            case Call("relu", (a,)):
                x = self.value(a, point)
                zero = self.like(self.zero, x)
                return self.builder.select(self.builder.fcmp_ordered("<", x, zero), zero, x)
            case Call(name, args):
                values = self.matched(*(self.value(a, point) for a in args))
                return mathfn.emit(self.builder, name, values)
            case Reduce():
                self.reduce(e)
                return self.remembered((e, point))
        raise AssertionError(type(e))

    def sum(self, terms: Sequence[Expr], point: Point) -> Value:
        total = self.value(terms[0], point)
        for t in terms[1:]:
            if isinstance(t, Mul) and isinstance(t.factors[0], Const) and t.factors[0].value == -1:
                rest = t.factors[1:]
                total = self.operate("fsub", total, self.product(rest, point))
            else:
                total = self.operate("fadd", total, self.value(t, point))
        return total

    def product(self, factors: Sequence[Expr], point: Point) -> Value:
        above: list[Value] = []
        below: list[Value] = []
        for f in factors:
            if isinstance(f, Pow) and isinstance(f.exponent, Const) and f.exponent.value == -1:
                below.append(self.value(f.base, point))
            else:
                above.append(self.value(f, point))
        # numbers first, so that a vector is multiplied as late as can be
        above.sort(key=lambda v: isinstance(v.type, ir.VectorType))
        total = above[0] if above else self.one
        for v in above[1:]:
            total = self.operate("fmul", total, v)
        for v in below:
            total = self.operate("fdiv", total, v)
        return total

    def power(self, base: Expr, exponent: Expr, point: Point) -> Value:
        x = self.value(base, point)
        n = exponent.value if isinstance(exponent, Const) else Fraction(1, 3)
        if n.denominator != 1 or not 0 < abs(n) <= 64:
            args = self.matched(x, self.value(exponent, point))
            return mathfn.emit(self.builder, "pow", args)
        result, square, k = None, x, abs(int(n))
        while k:
            if k & 1:
                result = square if result is None else self.operate("fmul", result, square)
            k >>= 1
            if k:
                square = self.operate("fmul", square, square)
        return result if n > 0 else self.operate("fdiv", self.one, result)

    def operate(self, op: str, a: Value, b: Value) -> Value:
        a, b = self.matched(a, b)
        return getattr(self.builder, op)(a, b, flags=_FUSE)

    def truth(self, e: Expr, point: Point) -> Value:
        """e as a condition: whether a bracket holds, or a number differs from 0."""
        if not isinstance(e, Compare):
            x = self.value(e, point)
            return self.builder.fcmp_unordered("!=", x, self.like(self.zero, x))
        left, right = self.integer(e.left, point), self.integer(e.right, point)
        if left is not None and right is not None:
            return self.builder.icmp_signed(e.op, *self.matched(left, right))
        a, b = self.matched(self.value(e.left, point), self.value(e.right, point))
        if e.op == "!=":
            return self.builder.fcmp_unordered("!=", a, b)
        return self.builder.fcmp_ordered(_ORDERED[e.op], a, b)

    def integer(self, e: Expr, point: Point) -> Value | None:
        """e as a whole number, where it plainly is one."""
        match e:
            case Const(value) if value.denominator == 1 and abs(value) < 2**62:
                return ir.Constant(I64, int(value))
            case Index(name):
                return self.spread(self.linear([(name, 1)], 0, point))
            case Access(t, _, None) if self.buffers[t].whole:
                return self.access(e, point)
            case Mul(factors) | Add(factors) if len(factors) <= 8:
                values = [self.integer(f, point) for f in factors]
                if any(v is None for v in values):
                    return None
                total = values[0]
                op = self.builder.mul if isinstance(e, Mul) else self.builder.add
                for v in values[1:]:
                    total = op(*self.matched(total, v))
                return total
        return None

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

    def mask(self, lanes: int) -> Value:
        bits = [int(k < lanes) for k in range(self.tile.width)]
        return ir.Constant(ir.VectorType(I1, self.tile.width), bits)

    # ------------------------------------------------------------ memory

    def base(self, buffer: Buffer, mine: bool) -> Value:
        """The address of a buffer's origin; of this block's first sample, if `mine`."""
        key = ("base", buffer.name, mine)
        found = self.remembered(key)
        if found is None:
            found = self.pointers[buffer.name]
            if buffer.origin:
                found = self.offset(found, self.whole(buffer.origin), buffer)
            self.memo[-1][key] = found
        return found

    def element(self, buffer: Buffer) -> ir.Type:
        return I64 if buffer.whole else self.real

    def offset(self, pointer: Value, n: Value, buffer: Buffer) -> Value:
        return self.builder.gep(pointer, [n], source_etype=self.element(buffer))

    def address(self, buffer: Buffer, axes: Sequence[Affine], point: Point) -> Linear | None:
        """Where an access goes, counted from its base; None where a position may be a fraction."""
        terms: dict[str, int] = {}
        constant = 0
        for a, stride in zip(axes, buffer.strides, strict=True):
            if not a.whole:
                return None
            constant += int(a.offset) * stride
            for name, c in a.terms:
                terms[name] = terms.get(name, 0) + int(c) * stride
        return self.linear([t for t in terms.items() if t[1]], constant, point)

    def row_base(self, buffer: Buffer, axes: Sequence[Affine], point: Point) -> Value:
        """The base, moved to this block's first sample, or to the row that the order names."""
        base = self.base(buffer, mine=False)
        if not buffer.batched:
            return base
        name = axes[0].bare
        if name != self.nest.sample:
            return base
        b = self.builder
        if buffer.place == "rows":
            row_key = (
                "row",
                buffer.name,
                point[self.names.index(name)] if name in self.names else 0,
            )
            found = self.remembered(row_key)
            if found is None:
                assert name is not None
                at = self.spread(self.linear([(name, 1)], 0, point))
                place = b.gep(self.arguments["order"], [at], source_etype=I64)
                row = b.load(place, typ=I64)
                row = b.mul(row, self.whole(buffer.strides[0]))
                found = self.memo[-1][row_key] = self.offset(base, row, buffer)
            return found
        if buffer.place == "block":
            return base
        key = ("mine", buffer.name)
        found = self.remembered(key)
        if found is None:
            start = b.mul(self.arguments["first"], self.whole(buffer.strides[0]))
            found = self.memo[-1][key] = self.offset(base, start, buffer)
        return found

    def pointer(self, buffer: Buffer, axes: Sequence[Affine], point: Point, at: Linear) -> Value:
        base = self.row_base(buffer, axes, point)
        value, constant = at.value, at.constant
        if buffer.place == "rows":  # the row is in the base already
            name = axes[0].bare
            rest = [(n, c) for n, c in self._terms(buffer, axes).items() if n != name]
            offset = sum(int(x.offset) * s for x, s in zip(axes, buffer.strides, strict=True))
            inner = self.linear(rest, offset, point)
            value, constant = inner.value, inner.constant
        if value is not None:
            key = ("at", id(base), id(value))
            found = self.remembered(key)
            if found is None:
                found = self.memo[-1][key] = self.offset(base, value, buffer)
            base = found
        return self.offset(base, self.whole(constant), buffer) if constant else base

    def _terms(self, buffer: Buffer, axes: Sequence[Affine]) -> dict[str, int]:
        terms: dict[str, int] = {}
        for a, stride in zip(axes, buffer.strides, strict=True):
            for name, c in a.terms:
                terms[name] = terms.get(name, 0) + int(c) * stride
        return terms

    def access(self, e: Access, point: Point) -> Value:
        buffer = self.buffers[e.tensor]
        tested = [k for k in range(len(positions(e))) if self.methods.get((e, k)) == "test"]
        if any(n == 0 for n in buffer.sizes):
            if buffer.whole:
                return I64(0)
            return self.value(e.pad, point) if e.pad is not None else self.zero
        if buffer.place == "lanes":
            return self.lane_sum(e, point)
        at = self.address(buffer, positions(e), point)
        if at is None or (tested and at.lanes not in (0, 1)):
            return self.one_by_one(e, point)
        conditions = [self.inside(e, k, point) for k in tested]
        pointer = self.pointer(buffer, positions(e), point, at)
        if not conditions:
            return self.load(buffer, e, pointer, at, point)
        outside = self.value(e.pad, point) if e.pad is not None else self.zero
        condition = conditions[0]
        for c in conditions[1:]:
            condition = self.builder.and_(*self.matched(condition, c))
        if at.lanes == 0 and not isinstance(condition.type, ir.VectorType):
            safe = self.builder.select(condition, pointer, self.base(buffer, mine=False))
            read = self.float_of(self.builder.load(safe, typ=self.element(buffer)))
            return self.builder.select(condition, read, outside)
        if at.lanes == 0:  # the address is one, the condition is not: the padding differs by lane
            return self.one_by_one(e, point)
        lanes = self.mask(self.lanes_used(point))
        lanes = self.builder.and_(*self.matched(lanes, condition))
        read = self.masked_load(buffer, pointer, lanes)
        return self.builder.select(*self.matched(condition, self.float_of(read), outside))

    def load(self, buffer: Buffer, e: Access, pointer: Value, at: Linear, point: Point) -> Value:
        b, kind = self.builder, self.element(buffer)
        if not at.lanes:
            return b.load(pointer, typ=kind, align=buffer.element)
        used = self.lanes_used(point)
        if at.lanes != 1:
            vector = ir.Constant(ir.VectorType(kind, self.tile.width), ir.Undefined)
            for k in range(used):
                place = self.offset(pointer, self.whole(at.lanes * k), buffer) if k else pointer
                vector = b.insert_element(
                    vector, b.load(place, typ=kind, align=buffer.element), I32(k)
                )
            return vector
        if used == self.tile.width or self.has_room(buffer, positions(e)):
            return b.load(pointer, typ=ir.VectorType(kind, self.tile.width), align=buffer.element)
        return self.masked_load(buffer, pointer, self.mask(used))

    def has_room(self, buffer: Buffer, axes: Sequence[Affine]) -> bool:
        """Whether a whole vector at the end of the vector index stays on the axis as stored."""
        v = self.tile.vector
        n = self.nest.extents.get(v) if v else None
        places = [k for k, a in enumerate(axes) if v in a.names]
        if n is None or len(places) != 1 or axes[places[0]].bare != v:
            return False
        short = -n % self.tile.width
        return buffer.room(places[0]) >= short

    def masked_load(self, buffer: Buffer, pointer: Value, mask: Value) -> Value:
        kind = ir.VectorType(self.element(buffer), self.tile.width)
        f = self.intrinsic("masked.load", kind, [PTR, I32, mask.type, kind], "p0")
        return self.builder.call(f, [pointer, I32(buffer.element), mask, ir.Constant(kind, None)])

    def intrinsic(self, name: str, kind: ir.Type, args: Sequence[ir.Type], tail: str = "") -> Any:
        module = self.builder.module
        full = f"llvm.{name}.{_suffix(kind)}" + (f".{tail}" if tail else "")
        result = ir.VoidType() if name == "masked.store" else kind
        found = module.globals.get(full)
        return found or ir.Function(module, ir.FunctionType(result, args), full)

    def inside(self, e: Access, axis: int, point: Point) -> Value:
        """Whether the position on this axis is in the tensor."""
        a, n = positions(e)[axis], self.buffers[e.tensor].sizes[axis]
        at = self.linear([(m, int(c)) for m, c in a.terms], int(a.offset), point)
        position = self.spread(at)
        limit = self.like(self.whole(n), position)
        # as an unsigned number, a negative position is beyond every limit
        return self.builder.icmp_unsigned("<", position, limit)

    def one_by_one(self, e: Access, point: Point) -> Value:
        """An access whose every lane finds its own address, or that there is none."""
        buffer, b = self.buffers[e.tensor], self.builder
        used = self.lanes_used(point) if self.tile.vector in e.free else 1
        outside = self.value(e.pad, point) if e.pad is not None else self.zero
        results = []
        for lane in range(used):
            offset, inside = self.whole(0), I1(1)
            for k, (a, stride) in enumerate(zip(positions(e), buffer.strides, strict=True)):
                d = 1
                for c in (a.offset, *(c for _, c in a.terms)):
                    d = d * c.denominator // _gcd(d, c.denominator)
                at = self.linear([(m, int(c * d)) for m, c in a.terms], int(a.offset * d), point)
                position = self.spread(Linear(at.value, at.constant + at.lanes * lane))
                if d > 1:
                    rest = b.srem(position, self.whole(d))
                    inside = b.and_(inside, b.icmp_signed("==", rest, self.whole(0)))
                    position = b.sdiv(position, self.whole(d))
                n = buffer.sizes[k]
                if n is not None:
                    inside = b.and_(inside, b.icmp_unsigned("<", position, self.whole(n)))
                offset = b.add(offset, b.mul(position, self.whole(stride)))
            offset = b.select(inside, offset, self.whole(0))
            base = self.row_base(buffer, positions(e), point)
            read = b.load(self.offset(base, offset, buffer), typ=self.element(buffer))
            results.append(b.select(inside, self.float_of(read), outside))
        if self.tile.vector not in e.free:
            return results[0]
        vector = ir.Constant(ir.VectorType(self.real, self.tile.width), ir.Undefined)
        for k, r in enumerate(results):
            vector = b.insert_element(vector, r, I32(k))
        return vector

    def lane_sum(self, e: Access, point: Point) -> Value:
        """The sum of a tensor's partial sums, lane after lane."""
        buffer, b = self.buffers[e.tensor], self.builder
        at = self.address(buffer, positions(e), point)
        assert at is not None
        first = self.pointer(buffer, positions(e), point, at)
        start = self.load(buffer, e, first, at, point)

        def more(i: Value, carried: list[Value]) -> list[Value]:
            step = b.mul(i, self.whole(buffer.lane_bytes))
            place = b.gep(first, [step], source_etype=ir.IntType(8))
            return [self.operate("fadd", carried[0], self.load(buffer, e, place, at, point))]

        return self.loop(1, self.arguments["lanes"], 1, [start], more)[0]

    def store(self, buffer: Buffer, axes: Sequence[Affine], point: Point, value: Value) -> None:
        """Write a value at a point of the tile."""
        b = self.builder
        at = self.address(buffer, axes, point)
        assert at is not None
        pointer = self.pointer(buffer, axes, point, at)
        if not at.lanes:
            b.store(value, pointer, align=buffer.element)
            return
        value = value if isinstance(value.type, ir.VectorType) else self.splat(
            value, self.tile.width)  # fmt: skip
        used = self.lanes_used(point)
        if at.lanes != 1:
            for k in range(used):
                place = self.offset(pointer, self.whole(at.lanes * k), buffer)
                b.store(b.extract_element(value, I32(k)), place, align=buffer.element)
        elif used == self.tile.width or self.has_room(buffer, axes):
            b.store(value, pointer, align=buffer.element)
        else:
            mask = self.mask(used)
            f = self.intrinsic("masked.store", value.type, [value.type, PTR, I32, mask.type], "p0")
            b.call(f, [value, pointer, I32(buffer.element), mask])

    # ------------------------------------------------------------ reductions

    def reduce(self, e: Reduce) -> None:
        """Compute a reduction at every point of the tile, in one nest of loops."""
        self.settle_invariants(e)
        if e.op == "logsumexp":
            self.logsumexp(e)
            return
        for point, value in zip(self.points(e), self.run(e, e.op, self.body_of(e)), strict=True):
            self.memo[-1][e, point] = value

    def settle_invariants(self, e: Reduce) -> None:
        """Inner reductions that the loops don't change are computed before them."""
        bound = set(e.names)

        def visit(x: Expr) -> None:
            if isinstance(x, Reduce) and not bound & set(x.free):
                for point in self.points(x):
                    self.value(x, point)
                return
            for c in _children(x):
                visit(c)

        visit(e.body)

    def body_of(self, e: Reduce) -> Callable[[Point], Value]:
        return lambda point: self.value(e.body, point)

    def logsumexp(self, e: Reduce) -> None:
        peaks = self.run(e, "max", self.body_of(e))
        infinite = ir.Constant(self.real, float("inf"))
        shifts: dict[Point, Value] = {}
        for point, peak in zip(self.points(e), peaks, strict=True):
            size = mathfn.emit(self.builder, "abs", [peak])
            finite = self.builder.fcmp_ordered("<", size, self.like(infinite, size))
            shifts[point] = self.builder.select(finite, peak, self.like(self.zero, peak))

        def shifted(point: Point) -> Value:
            x = self.value(e.body, point)
            d = self.operate("fsub", x, shifts[self.project(e, point)])
            return mathfn.emit(self.builder, "exp", [d])

        for point, total in zip(self.points(e), self.run(e, "sum", shifted), strict=True):
            log = mathfn.emit(self.builder, "log", [total])
            self.memo[-1][e, point] = self.operate("fadd", log, shifts[point])

    def run(self, e: Reduce, op: str, body: Callable[[Point], Value]) -> list[Value]:
        """The reduction's value at each of its points."""
        rule = _RULES[op]
        points = self.points(e)
        names = self.binder_order(e)
        lanes_over = self.vector_binder(e, names) if rule.identity is not None else None
        if lanes_over is not None:
            return self.across_lanes(e, op, names, lanes_over, body)
        width = self.tile.width if self.tile.vector in e.free else 0
        start = [self.start(rule, width) for _ in points]
        copies = self.copies(e, op, names, len(points))
        carried = [v for _ in range(copies) for s in start for v in s]

        def step(carried: list[Value], copy: int) -> list[Value]:
            size = len(start[0]) if start else 1
            new = list(carried)
            for k, point in enumerate(points):
                place = (copy * len(points) + k) * size
                state = carried[place : place + size]
                new[place : place + size] = self.combine(e, op, state, body, point)
            return new

        final = self.binders(e, names, carried, step, copies)
        size = len(start[0]) if start else 1
        parts = [final[k : k + size] for k in range(0, len(final), size)]
        while copies > 1:  # a fixed tree
            half = copies // 2 * len(points)
            parts = [
                [self.operate(rule.op, a[0], b[0])]
                for a, b in zip(parts[:half], parts[half:], strict=True)
            ]
            copies //= 2
        return [p[-1] for p in parts]

    def start(self, rule: _Rule, width: int) -> list[Value]:
        values = [rule.identity] if rule.identity is not None else [float("-inf"), 0.0]
        constants = [ir.Constant(self.real, v) for v in values]
        return [self.splat(c, width) for c in constants] if width else list(constants)

    def combine(
        self, e: Reduce, op: str, state: list[Value], body: Callable[[Point], Value], point: Point
    ) -> list[Value]:
        x = body(point)
        if op in ("sum", "prod"):
            return [self.operate(_RULES[op].op, state[0], x)]
        x, *state = self.matched(x, *state)
        b = self.builder
        best = state[0]
        better = b.fcmp_ordered("<" if op == "min" else ">", x, best)
        lost = b.and_(b.fcmp_unordered("uno", x, x), b.fcmp_ordered("ord", best, best))
        take = b.or_(better, lost)
        if op != "argmax":
            return [b.select(take, x, best)]
        number = self.like(self.float_of(self.spread_number(e, point)), x)
        return [b.select(take, x, best), b.select(take, number, state[1])]

    def spread_number(self, e: Reduce, point: Point) -> Value:
        """The row-major number of the values that the bound indices have now."""
        weight, terms = 1, []
        for name in reversed(e.names):
            terms.append((name, weight))
            weight *= self.nest.extents[name] or 1
        return self.spread(self.linear(terms, 0, point))

    def binder_order(self, e: Reduce) -> list[str]:
        """The bound indices, outermost loop first: those that end early, then as written."""
        trimmed = {self.methods[k][5:] for k in self.methods if self.methods[k].startswith("trim:")}
        if e.op == "argmax":
            return list(e.names)
        return sorted(e.names, key=lambda n: n not in trimmed)

    def copies(self, e: Reduce, op: str, names: list[str], points: int) -> int:
        """Accumulators per point: several where few points would leave the adders waiting."""
        n = self.nest.extents[names[-1]]
        trimmed = any(m == f"trim:{names[-1]}" for m in self.methods.values())
        if op != "sum" or trimmed or n is None or n < 8 or points >= _PARALLEL:
            return 1
        return 8 if points == 1 and n >= 16 else 4 if points <= 2 else 2

    def binders(
        self,
        e: Reduce,
        names: list[str],
        carried: list[Value],
        step: Callable[[list[Value], int], list[Value]],
        copies: int,
    ) -> list[Value]:
        """The loops over bound indices, around the step that combines one more value."""
        if not names:
            with self.scope():
                return step(carried, 0)
        name, *rest = names
        n = self.nest.extents[name]
        low, high = self.bounds(e, name)
        static = isinstance(low, int) and isinstance(high, int)
        outer = self.env.get(name)

        def at(value: Value | None, constant: int, carried: list[Value], copy: int) -> list[Value]:
            self.env[name] = Linear(value, constant)
            with self.scope():
                if rest:
                    return self.binders(e, rest, carried, step, copies)
                return step(carried, copy)

        if copies > 1 and not rest:
            assert n is not None
            main = n - n % copies

            def several(i: Value, carried: list[Value]) -> list[Value]:
                for copy in range(copies):
                    carried = at(i, copy, carried, copy)
                return carried

            result = self.loop(0, main, copies, carried, several)
            for k in range(main, n):
                result = at(None, k, result, k - main)
        elif static and self.unrolled(e, name, high - low, not rest, len(carried)):
            result = carried
            for k in range(low, high):
                result = at(None, k, result, 0)
        else:
            result = self.loop(low, high, 1, carried, lambda i, c: at(i, 0, c, 0))
        if outer is not None:
            self.env[name] = outer
        else:
            self.env.pop(name, None)
        return result

    def unrolled(self, e: Reduce, name: str, n: int, innermost: bool, carried: int) -> bool:
        sizes = [self.nest.extents[m] for m in e.names]
        if None not in sizes and prod(d for d in sizes if d is not None) * carried <= 32:
            return True
        return innermost and n * carried <= 160 and n <= 8

    def bounds(self, e: Reduce, name: str) -> tuple[Any, Any]:
        """The values of a bound index for which the accesses that trim it stay inside."""
        low: list[Any] = [0]
        high: list[Any] = [self.extent(name)]
        seen: set[tuple[Affine, Any]] = set()
        inside = dict.fromkeys(x for x in walk(e.body) if isinstance(x, Access))
        for access in inside:
            for k, a in enumerate(positions(access)):
                if self.methods.get((access, k)) != f"trim:{name}":
                    continue
                n = self.buffers[access.tensor].sizes[k]
                if (a, n) in seen:
                    continue
                seen.add((a, n))
                c = dict(a.terms)[name]
                rest = [(m, int(q)) for m, q in a.terms if m != name]
                at = self.linear(rest, int(a.offset), (0,) * len(self.names))
                assert n is not None
                if c > 0:  # 0 <= m + rest < n
                    low.append(self.plus(at, 0, -1))
                    high.append(self.plus(at, n, -1))
                else:  # 0 <= rest - m < n
                    low.append(self.plus(at, 1 - n, 1))
                    high.append(self.plus(at, 1, 1))
        return self.extreme(low, ">"), self.extreme(high, "<")

    def plus(self, at: Linear, n: int, sign: int) -> Any:
        """sign * at + n."""
        if at.value is None:
            return sign * at.constant + n
        constant = self.whole(sign * at.constant + n)
        return (self.builder.add if sign > 0 else self.builder.sub)(
            *((at.value, constant) if sign > 0 else (constant, at.value))
        )

    def extreme(self, values: list[Any], op: str) -> Any:
        numbers = [v for v in values if isinstance(v, int)]
        registers = [v for v in values if not isinstance(v, int)]
        best = (max(numbers) if op == ">" else min(numbers)) if numbers else None
        for r in registers:
            if best is None:
                best = r
                continue
            c = self.whole(best)
            best = self.builder.select(self.builder.icmp_signed(op, r, c), r, c)
        return best

    # ------------------------------------------------------------ vectors along a bound index

    def vector_binder(self, e: Reduce, names: list[str]) -> str | None:
        """A bound index to take a vector of values of, where no outer index is the vector."""
        n = self.nest.extents[names[-1]]
        if self.tile.vector is not None or self.wide < 2 or n is None or n < self.wide:
            return None
        if any(m == f"trim:{names[-1]}" for m in self.methods.values()):
            return None
        steps = [self._terms(self.buffers[a.tensor], positions(a)).get(names[-1], 0)
                 for a in walk(e.body) if isinstance(a, Access)
                 and all(x.whole for x in positions(a))]  # fmt: skip
        if any(s not in (0, 1) for s in steps) or 1 not in steps:
            return None
        return names[-1]

    wide: int = 1

    def across_lanes(
        self, e: Reduce, op: str, names: list[str], name: str, body: Callable[[Point], Value]
    ) -> list[Value]:
        """A reduction whose last index is walked by vectors, their lanes combined at the end."""
        rule, points, before = _RULES[op], self.points(e), self.tile
        n = self.nest.extents[name]
        assert n is not None
        assert rule.identity is not None
        identity = self.splat(ir.Constant(self.real, rule.identity), self.wide)
        outer = names[:-1]

        def combined(state: Value, point: Point) -> Value:
            return self.combine(e, op, [state], body, point)[0]

        def vectors(carried: list[Value], copy: int) -> list[Value]:
            full = n // self.wide * self.wide

            def one(at: Linear, tail: int, carried: list[Value]) -> list[Value]:
                self.tile = Tile(before.counts, name, self.wide, tail)
                self.env[name] = at
                with self.scope():
                    new = []
                    for state, point in zip(carried, points, strict=True):
                        value = self.matched(combined(state, point), identity)[0]
                        if tail:
                            value = self.builder.select(self.mask(tail), value, state)
                        new.append(value)
                self.tile = before
                return new

            carried = self.loop(0, full, self.wide, carried, lambda i, c: one(Linear(i), 0, c))
            return one(Linear(None, full), n - full, carried) if full < n else carried

        carried = self.binders(e, outer, [identity] * len(points), vectors, 1)
        return [self.across(op, v) for v in carried]

    def across(self, op: str, vector: Value) -> Value:
        """The lanes of a vector combined by halves."""
        b, width = self.builder, vector.type.count
        while width > 1:
            width //= 2
            kind = ir.VectorType(I32, width)
            low = b.shuffle_vector(vector, vector, ir.Constant(kind, list(range(width))))
            high = b.shuffle_vector(
                vector, vector, ir.Constant(kind, list(range(width, 2 * width)))
            )
            vector = self.combine(_NO_REDUCE, op, [low], partial(_same, high), ())[0]
        return b.extract_element(vector, I32(0))


@dataclass(frozen=True)
class _Rule:
    identity: float | None
    op: str


_RULES = {
    "sum": _Rule(0.0, "fadd"),
    "prod": _Rule(1.0, "fmul"),
    "max": _Rule(float("-inf"), ""),
    "min": _Rule(float("inf"), ""),
    "argmax": _Rule(None, ""),
}
_NO_REDUCE = Reduce("sum", (), Const(Fraction(0)))


def _same(value: Value, _: Point) -> Value:
    return value


def _children(e: Expr) -> tuple[Expr, ...]:
    from chainrule.expr import children

    return children(e)


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def _suffix(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    return {"float": "f32", "double": "f64", "i64": "i64"}[str(kind)]


def _nearest(value: Any, real: ir.Type) -> float:
    import numpy as np

    x = float(value)
    return float(np.float32(x)) if isinstance(real, ir.FloatType) else x
