"""Nests as functions.

Every nest becomes one function of the block's samples, the part of the loop that threads share, and
the addresses of its tensors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from chainrule.expr import Access, Affine, walk
from chainrule.native import tilecode
from chainrule.native.emit import Evaluator
from chainrule.native.memory import Buffer
from chainrule.native.nest import RESULT, Nest, positions
from chainrule.native.points import I1, I64, PTR, Linear, Tile, Value
from chainrule.native.schedule import Plan
from chainrule.native.stages import Layout
from chainrule.native.toom import guard_limit

INTEGERS = ("first", "count", "batch", "low", "high", "lanes")  # a function's first arguments
_VOID = ir.VoidType()


def tensors_of(layout: Layout, p: Plan) -> list[Buffer]:
    """The buffers a nest touches, its target first, each once."""
    names = [t for q in p.all for t in (q.nest.target, *q.nest.reads)]
    return list({layout.buffers[t].slot: layout.buffers[t] for t in names}.values())


def declared_nest(module: ir.Module, layout: Layout, p: Plan, name: str) -> ir.Function:
    """The function of a nest, without its code: integers, the order, the tensors."""
    kinds = [I64] * len(INTEGERS) + [PTR] * (1 + len(tensors_of(layout, p)))
    return ir.Function(module, ir.FunctionType(_VOID, kinds), name)


class NestFunction:
    """One nest as an LLVM function."""

    def __init__(
        self, module: ir.Module, layout: Layout, p: Plan, real: ir.Type, name: str
    ) -> None:
        self.layout, self.plan, self.nest, self.real = layout, p, p.nest, real
        touched = tensors_of(layout, p)
        self.function = declared_nest(module, layout, p, name)
        self.function.attributes.add("nounwind")
        # what does not fit into registers would straddle lines of the cache
        self.function.attributes.alignstack = layout.machine.vector_bytes
        arguments = dict(zip((*INTEGERS, "order"), self.function.args, strict=False))
        self.arguments = arguments
        by_slot = {}
        for b, a in zip(touched, self.function.args[len(INTEGERS) + 1 :], strict=True):
            a.add_attribute("noalias")
            by_slot[b.slot] = a
        names = [t for q in p.all for t in (q.nest.target, *q.nest.reads)]
        self.pointers = {t: by_slot[layout.buffers[t].slot] for t in names}

    def emit(self) -> ir.Function:
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        p = self.plan
        self.e = Evaluator(
            builder, p.nest, self.real, self.layout.buffers, self.pointers, self.arguments,
            p.methods,
        )  # fmt: skip
        m = self.layout.machine
        self.e.wide = m.vector_bytes // m.element
        if p.nest.guards:
            self.only_if(self.guarded())
        self.loops(0, {})
        self.e.builder.ret_void()
        return self.function

    def guarded(self) -> Value:
        """Whether all guards are small, for each of the block's samples."""
        e, n = self.e, self.nest
        limit = ir.Constant(self.real, guard_limit(self.layout.machine.element))

        def small(g: Access) -> Value:
            e.use(Tile({}))
            return e.builder.fcmp_ordered("<=", e.value(g, ()), limit)

        good: Value = I1(1)
        for g in n.guards:
            if not g.free:
                good = e.builder.and_(good, small(g))
                continue
            (name,) = g.free

            def one(i: Value, so_far: list[Value], g: Access = g, name: str = name) -> list[Value]:
                e.env[name] = Linear(i)
                return [e.builder.and_(so_far[0], small(g))]

            (good,) = e.loop(0, e.extent(name), 1, [good], one)
        return good

    def only_if(self, condition: Value) -> None:
        b = self.e.builder
        runs, returns = b.append_basic_block("runs"), b.append_basic_block("returns")
        b.cbranch(condition, *((returns, runs) if self.nest.plain else (runs, returns)))
        b.position_at_end(returns)
        b.ret_void()
        b.position_at_end(runs)

    # ------------------------------------------------------------ loops around a tile

    def loops(self, k: int, counts: dict[str, int], tail: int = 0) -> None:
        p, e = self.plan, self.e
        if k == len(p.order):
            self.tile(counts, tail)
            return
        name = p.order[k]
        count = p.tile.get(name, 1)
        shared = not self.nest.sample and name == p.shared_loop

        def inner(at: Linear, taken: int, tail_: int = 0) -> None:
            e.env[name] = at
            taken_ = {**counts, name: taken} if name in p.tile else counts
            with e.scope():
                self.loops(k + 1, taken_, tail_ or tail)

        if name == p.vector:
            self.vector_loop(name, count, shared, inner)
        else:
            self.row_loop(name, count, shared, inner)

    def row_loop(self, name: str, count: int, shared: bool, inner: Callable[..., None]) -> None:
        e, n = self.e, self.nest.extents[name]
        b = e.builder
        if n is None:  # a number of samples that is known when it runs
            total = e.extent(name)
            main = total
            if count > 1:
                size = ir.Constant(I64, count)
                main = b.mul(b.udiv(total, size), size)
            low: Any = 0
            if shared:
                low, main, total = self.share(count, main, total)
            e.loop(low, main, count, [], nothing(lambda i: inner(Linear(i), count)))
            if count > 1:
                start = main if not shared else self.clipped_start(low, main)
                e.loop(start, total, 1, [], nothing(lambda i: inner(Linear(i), 1)))
            return
        main_, rest = n // count * count, n % count
        if not shared and n == count:
            inner(Linear(None, 0), count)
            return
        if shared:
            low, high, _ = self.share(count, ir.Constant(I64, main_), ir.Constant(I64, n))
            e.loop(low, high, count, [], nothing(lambda i: inner(Linear(i), count)))
        else:
            e.loop(0, main_, count, [], nothing(lambda i: inner(Linear(i), count)))
        if rest:
            self.last(name, -(-n // count), shared, lambda: inner(Linear(None, main_), rest))

    def clipped_start(self, low: Value, main: Value) -> Value:
        b = self.e.builder
        return b.select(b.icmp_signed(">", low, main), low, main)

    def vector_loop(self, name: str, count: int, shared: bool, inner: Callable[..., None]) -> None:
        """Whole vectors, `count` at a time; then what is left, the last vector perhaps partly."""
        e, n, width = self.e, self.nest.extents[name], self.plan.width
        assert n is not None
        step, partial = count * width, n % width
        if partial and self.everything_fits(name):
            n, partial = n + width - partial, 0
        main = n // step * step
        if shared:
            low, high, _ = self.share(step, ir.Constant(I64, main), ir.Constant(I64, n))
            e.loop(low, high, step, [], nothing(lambda i: inner(Linear(i, 0, 1), count)))
        else:
            e.loop(0, main, step, [], nothing(lambda i: inner(Linear(i, 0, 1), count)))
        if main < n:
            left = -(-(n - main) // width)
            self.last(
                name, -(-n // step), shared, lambda: inner(Linear(None, main, 1), left, partial)
            )

    def everything_fits(self, name: str) -> bool:
        """Whether whole vectors at the end of the index stay inside every buffer they touch."""
        e, plans = self.e, self.plan.all
        e.use(Tile({name: 1}, name, self.plan.width, self.nest.extents[name] or 0))
        axes = [(q.nest.target, q.nest.store) for q in plans]
        axes += [(a.tensor, positions(a)) for q in plans for a in q.nest.accesses()]
        touched = [(t, a) for t, a in axes if any(name in x.names for x in a)]
        return all(e.has_room(self.layout.buffers[t], a) for t, a in touched)

    def last(self, name: str, units: int, shared: bool, emit: Callable[[], None]) -> None:
        """What does not fill a tile; of a shared loop, only the thread with the last unit."""
        if not shared:
            emit()
            return
        e = self.e
        mine = e.builder.icmp_signed("==", self.arguments["high"], ir.Constant(I64, units))
        low = e.builder.select(mine, ir.Constant(I64, 0), ir.Constant(I64, 1))
        e.loop(low, ir.Constant(I64, 1), 1, [], nothing(lambda _: emit()))

    def share(self, count: int, main: Value, total: Value) -> tuple[Value, Value, Value]:
        """This thread's part of a loop, in values of the index: [low, high) and its end."""
        b, size = self.e.builder, ir.Constant(I64, count)
        low = b.mul(self.arguments["low"], size)
        high = b.mul(self.arguments["high"], size)

        def below(limit: Value) -> Value:
            return b.select(b.icmp_signed("<", high, limit), high, limit)

        return low, below(main), below(total)

    def tile(self, counts: dict[str, int], tail: int) -> None:
        """The values at the points of one tile, and their stores."""
        e, p = self.e, self.plan
        e.use(Tile(dict(counts), p.vector, p.width, tail))
        results = []
        for q in p.all:
            e.nest, e.methods = q.nest, q.methods
            target = self.layout.buffers[q.nest.target]
            if q.nest.transform is not None:
                self.transformed(q.nest, target, counts)
                continue
            points = self.points(q.nest.store, counts)
            if target.whole:
                body = q.nest.body
                assert isinstance(body, Access)
                values = [e.access(body, at) for at in points]
            else:
                values = [e.value(q.nest.body, at) for at in points]
            results += [(q.nest, target, at, v) for at, v in zip(points, values, strict=True)]
        for nest, target, at, value in results:
            if nest.lane is not None:
                value = e.operate("fadd", self.old(target, at), value)
            elif nest.carry is not None:
                value = e.operate("fadd", self.carried(nest.carry, self.old(target, at)), value)
            e.store(target, nest.store, at, value)
        e.nest, e.methods = p.nest, p.methods

    def transformed(self, nest: Nest, target: Buffer, counts: dict[str, int]) -> None:
        """A tile's values through the nest's transform, and what is made of them."""
        e, t = self.e, nest.transform
        assert t is not None
        source, matrix = self.layout.buffers[t.source.tensor], t.matrix
        strides = [e.whole(source.strides[axis] * step) for axis, step in t.axes]
        vector, points = e.tile.vector, self.points(nest.store, counts)
        into = nest.products is not None
        lanes = e.lanes_used(points[0]) if vector else 1
        room = e.has_room(source, positions(t.source))
        room = room and (not into or e.has_room(target, nest.store))
        whole = not vector or lanes == e.tile.width or room
        kind = e.vector_of(e.real) if vector else e.real
        f = tilecode.function(e.builder.module, matrix, len(strides), kind, not whole)
        from_ = e.place(source, positions(t.source), points[0])
        mask = [] if whole else [e.mask(lanes)]
        if nest.products is not None:
            to, distance = e.place(target, nest.store, points[0]), target.strides[nest.products]
            e.builder.call(f, [from_, *strides, to, e.whole(distance), *mask])
            return
        to = e.scratch(kind, len(matrix) ** len(strides))
        e.builder.call(f, [from_, *strides, to, e.whole(e.tile.width), *mask])
        result = next(a for a in walk(nest.body) if isinstance(a, Access) and a.tensor == RESULT)
        for at in points:
            (number,) = positions(result)
            k = e.linear([(n, int(c)) for n, c in number.terms], int(number.offset), at).constant
            pointer = e.offset(to, e.whole(k * e.tile.width), source)
            value = e.builder.load(pointer, typ=kind, align=self.layout.machine.element)
            e.memo[-1][result, e.project(result, at)] = value
        values = [e.value(nest.body, at) for at in points]
        for at, value in zip(points, values, strict=True):
            e.store(target, nest.store, at, value)

    def points(self, store: Sequence[Affine], counts: dict[str, int]) -> list[tuple[int, ...]]:
        """The points of the tile that have results of their own."""
        places = {n for a in store for n in a.names}
        sizes = [counts[n] if n in places or n == self.plan.vector else 1 for n in self.e.names]
        return list(itertools.product(*map(range, sizes)))

    def carried(self, name: str, old: Value) -> Value:
        """What has been added up so far: nothing at the index's first value."""
        e = self.e
        first = e.builder.icmp_signed("==", e.env[name].value, ir.Constant(I64, 0))
        return e.builder.select(first, e.like(e.zero, old), old)

    def old(self, target: Buffer, point: tuple[int, ...]) -> Value:
        e = self.e
        at = e.address(target, self.nest.store, point)
        assert at is not None
        pointer = e.pointer(target, self.nest.store, point, at)
        return e.load(target, Access(target.name, self.nest.store, None), pointer, at, point)


def nothing(f: Callable[[Value], None]) -> Callable[[Value, list[Value]], Sequence[Value]]:
    def body(i: Value, _: list[Value]) -> Sequence[Value]:
        f(i)
        return ()

    return body
