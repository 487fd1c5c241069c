"""Reading and writing tensors at the points of a tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from chainrule.expr import Access, Affine
from chainrule.native import tilecode
from chainrule.native.memory import ALIGNMENT, Buffer
from chainrule.native.nest import positions
from chainrule.native.points import I1, I32, I64, PTR, Linear, Point, Points, Value, declared


class Accesses(Points):
    """Addresses, loads and stores; positions behind pad, tested where nothing better is known."""

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
        if buffer.place in ("block", "group"):
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

    def place(self, buffer: Buffer, axes: Sequence[Affine], point: Point) -> Value:
        """The address of an element that is inside, or in the halo."""
        at = self.address(buffer, axes, point)
        assert at is not None
        return self.pointer(buffer, axes, point, at)

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

    def load(
        self, buffer: Buffer, e: Access, pointer: Value, at: Linear, point: Point,
        *, by_squares: bool = True,
    ) -> Value:  # fmt: skip
        """A number or a vector; against the grain, in squares if the address is e's own."""
        b, kind = self.builder, self.element(buffer)
        if not at.lanes:
            return b.load(pointer, typ=kind, align=buffer.element)
        used = self.lanes_used(point)
        if at.lanes != 1:
            squares = by_squares and used == self.tile.width
            row = self.crossing_row(buffer, e, point) if squares else None
            if row is not None:
                return self.turned(buffer, e, at, point, row)
            vector = ir.Constant(self.vector_of(kind), ir.Undefined)
            for k in range(used):
                place = self.offset(pointer, self.whole(at.lanes * k), buffer) if k else pointer
                vector = b.insert_element(
                    vector, b.load(place, typ=kind, align=buffer.element), I32(k)
                )
            return vector
        if used == self.tile.width or self.has_room(buffer, positions(e)):
            return b.load(pointer, typ=self.vector_of(kind), align=buffer.element)
        return self.masked_load(buffer, pointer, self.mask(used))

    def crossing_row(self, buffer: Buffer, e: Access, point: Point) -> str | None:
        """A row of the tile, as long as a vector, along which the tensor lies in memory."""
        terms = self._terms(buffer, positions(e))
        for name in self.names:
            if self.tile.counts[name] == self.tile.width and terms.get(name) == 1:
                return name
        return None

    def turned(self, buffer: Buffer, e: Access, at: Linear, point: Point, row: str) -> Value:
        """A square of a tensor, read along its rows and turned in registers."""
        k = self.names.index(row)
        corner = (*point[:k], 0, *point[k + 1 :])
        key = ("turned", e, corner)
        square = self.remembered(key)
        if square is None:
            first = self.address(buffer, positions(e), corner)
            assert first is not None
            pointer = self.pointer(buffer, positions(e), corner, first)
            kind, n = self.vector_of(self.element(buffer)), self.tile.width
            columns, align = self.scratch(kind, n), min(n * buffer.element, ALIGNMENT)
            turn = tilecode.turn(self.builder.module, kind)
            self.builder.call(turn, [pointer, self.whole(at.lanes), columns])
            square = self.memo[-1][key] = [
                self.builder.load(
                    self.offset(columns, self.whole(i * n), buffer), typ=kind, align=align
                )
                for i in range(n)
            ]
        return square[point[k]]

    def scratch(self, kind: ir.Type, n: int) -> Value:
        """Memory of the function's own for so many values; it begins with a line of the cache."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(ir.ArrayType(kind, n))
            place.align, place.type = ALIGNMENT, PTR
        return place

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
        kind = self.vector_of(self.element(buffer))
        f = self.intrinsic("masked.load", kind, [PTR, I32, mask.type, kind], "p0")
        return self.builder.call(f, [pointer, I32(buffer.element), mask, ir.Constant(kind, None)])

    def intrinsic(self, name: str, kind: ir.Type, args: Sequence[ir.Type], tail: str = "") -> Any:
        module = self.builder.module
        full = f"llvm.{name}.{_suffix(kind)}" + (f".{tail}" if tail else "")
        result = ir.VoidType() if name == "masked.store" else kind
        return declared(module, full, result, args)

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
                d = a.denominator
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
        start = self.load(buffer, e, first, at, point, by_squares=False)

        def more(i: Value, carried: list[Value]) -> list[Value]:
            step = b.mul(i, self.whole(buffer.lane_bytes))
            place = b.gep(first, [step], source_etype=ir.IntType(8))
            read = self.load(buffer, e, place, at, point, by_squares=False)
            return [self.operate("fadd", carried[0], read)]

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


def _suffix(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    return {"float": "f32", "double": "f64", "i64": "i64"}[str(kind)]
