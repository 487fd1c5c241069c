"""`run`: every step and every stage of a program, on many threads.

The driver calls the nests' functions stage by stage.  Blocks of samples are dealt out by lanes:
lane l takes the blocks l, l+L, l+2L, ... in this order and adds to its own partial sums, whichever
thread it is that runs it; so no result depends on the number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

from llvmlite import ir

from chainrule.expr import Access, const
from chainrule.native import host
from chainrule.native.emit import Evaluator
from chainrule.native.kernel import (
    INTEGERS,
    NestFunction,
    declared_nest,
    nothing,
    tensors_of,
)
from chainrule.native.memory import Buffer
from chainrule.native.nest import Nest
from chainrule.native.points import I64, PTR, Value, declared
from chainrule.native.schedule import Plan
from chainrule.native.stages import LANES, Layout, Stage
from chainrule.native.tiles import BATCH, work_of

_VOID, _I8, _I32 = ir.VoidType(), ir.IntType(8), ir.IntType(32)
_FIRST, _PART = 6, 24  # nests of a module: while LLVM compiles one, the next is written
_SPINS = 2000  # tests of a barrier before a thread offers its core to others
ARRIVED, GENERATION, TICKET = 0, 16, 32  # where they are in the block of memory threads share
COUNTERS = 64  # from here on, one for each thread's part of each nest that is shared out
_CHUNKS = 8  # that a thread's part is taken in
_LARGE = 1 << 17  # multiply-adds of a nest from which on threads help each other
# What `run` is told, eight bytes each: addresses first, then numbers.
CALL = ("tables", "sync", "order", "losses", "rest", "profile",
        "threads", "step", "stop", "rows", "batch")  # fmt: skip
_POINTERS = 6


def modules_of(layout: Layout, dtype: str, profile: bool = False) -> Iterator[ir.Module]:
    """A program's LLVM modules: a function for each nest, some in each module, then `run`.

    With `profile`, `run` adds up the processor's cycles in each nest.
    """
    real = {"float32": ir.FloatType(), "float64": ir.DoubleType()}[dtype]
    # asked for once: LLVM, and so all that asks it, is busy with one module at a time
    triple, data_layout = host.target().triple, str(host.target_machine().target_data)

    def new() -> ir.Module:
        module = ir.Module(name="program")
        module.triple, module.data_layout = triple, data_layout
        return module

    named = {f"nest{k}": p for k, p in enumerate(layout.plans)}
    # Most that share functions go together, after a few: then LLVM soon has something to do.
    shares = [name for name, p in named.items()
              if p.nest.transform or isinstance(p.nest.body, Access)]  # fmt: skip
    alone = [name for name in named if name not in set(shares)]
    some = [alone[k : k + _PART] for k in range(_FIRST, len(alone), _PART)]
    for part in filter(None, [alone[:_FIRST], shares, *some]):
        module = new()
        for name in part:
            NestFunction(module, layout, named[name], real, name).emit()
        yield module
    module = new()
    functions = [declared_nest(module, layout, p, name) for name, p in named.items()]
    _Driver(module, layout, real, functions, profile).emit()
    yield module


def slots(buffers: Mapping[str, Buffer]) -> int:
    """Entries of a thread's table of addresses."""
    return max((b.slot for b in buffers.values()), default=0) + 1


class _Driver:
    """`run`: every step, every stage; called by each thread with its own table of addresses."""

    def __init__(
        self, module: ir.Module, layout: Layout, real: ir.Type, functions: list[ir.Function],
        profile: bool,
    ) -> None:  # fmt: skip
        self.module, self.layout, self.real, self.profile = module, layout, real, profile
        self.functions = dict(zip(map(id, layout.plans), functions, strict=True))
        self.numbers = {id(p): k for k, p in enumerate(layout.plans)}

    def emit(self) -> None:
        f = ir.Function(self.module, ir.FunctionType(_VOID, [PTR, I64]), "run")
        for attribute in ("noinline", "optnone"):  # it only calls: no faster when LLVM works on it
            f.attributes.add(attribute)
        call, thread = f.args
        barrier = self.barrier()
        self.b = b = ir.IRBuilder(f.append_basic_block("entry"))
        a: dict[str, Value] = {"thread": thread}
        for k, name in enumerate(CALL):
            place = b.gep(call, [self.constant(k)], source_etype=I64)
            a[name] = b.load(place, typ=PTR if k < _POINTERS else I64)
        own = b.mul(thread, self.constant(slots(self.layout.buffers)))
        a["table"] = b.gep(a["tables"], [own], source_etype=I64)
        self.a = a
        # of an evaluator, the driver needs its loops only
        self.e = Evaluator(b, _NO_NEST, self.real, {}, {}, {}, {})
        self.e.loop(a["step"], a["stop"], 1, [], nothing(lambda s: self.step(s, barrier)))
        self.b.ret_void()

    def constant(self, n: int) -> ir.Constant:
        return ir.Constant(I64, n)

    def step(self, s: Value, barrier: ir.Function) -> None:
        b, a, c = self.b, self.a, self.constant
        start = b.mul(s, a["batch"])
        left = b.sub(a["rows"], start)
        batch = b.select(b.icmp_signed("<", left, a["batch"]), left, a["batch"])
        size = c(self.layout.block)
        blocks = b.udiv(b.add(batch, b.sub(size, c(1))), size)
        lanes = b.select(b.icmp_signed("<", blocks, c(LANES)), blocks, c(LANES))
        lanes = b.select(b.icmp_signed("<", lanes, c(1)), c(1), lanes)
        order = b.gep(a["order"], [start], source_etype=I64)
        values = {"batch": batch, "blocks": blocks, "lanes": lanes, "order": order}
        for k, stage in enumerate(self.layout.stages):
            if stage.samples:
                self.samples(stage, values)
            for number, p in enumerate(stage.shared):
                self.shared(p, number, values)
            b.call(barrier, [a["sync"], a["threads"], a["rest"]])
            if k == len(self.layout.stages) - 1:
                self.keep_objective(s, k == 0, barrier)

    def keep_objective(self, s: Value, single: bool, barrier: ir.Function) -> None:
        if self.layout.objective is None:
            return
        b, a = self.b, self.a
        buffer = self.layout.buffers[self.layout.objective]
        with b.if_then(b.icmp_signed("==", a["thread"], self.constant(0))):
            value = b.load(self.address(buffer), typ=self.real)
            if isinstance(self.real, ir.FloatType):
                value = b.fpext(value, ir.DoubleType())
            b.store(value, b.gep(a["losses"], [s], source_etype=ir.DoubleType()))
        if single:
            b.call(barrier, [a["sync"], a["threads"], a["rest"]])

    def address(self, buffer: Buffer) -> Value:
        place = self.b.gep(self.a["table"], [self.constant(buffer.slot)], source_etype=I64)
        return self.b.load(place, typ=PTR)

    def call(
        self, p: Plan, values: dict[str, Value], lane: Value | None = None,
        begin: Value | None = None,
    ) -> None:  # fmt: skip
        """Call a nest's function: for a lane, from a sample of the block on."""
        b = self.b
        pointers = []
        for buffer in tensors_of(self.layout, p):
            pointer = self.address(buffer)
            if begin is not None and buffer.place == "block" and buffer.batched:
                row = b.mul(begin, self.constant(buffer.row * buffer.element))
                pointer = b.gep(pointer, [row], source_etype=_I8)
            if buffer.place == "lanes" and lane is not None and buffer.name == p.nest.target:
                pointer = b.gep(pointer, [lane], source_etype=_I8)
            pointers.append(pointer)
        zero = self.constant(0)
        numbers = [values.get(n, zero) for n in INTEGERS]
        before = self.cycles() if self.profile else None
        b.call(self.functions[id(p)], [*numbers, values["order"], *pointers])
        if before is not None:
            place = b.gep(self.a["profile"], [self.constant(self.numbers[id(p)])],
                          source_etype=I64)  # fmt: skip
            taken = b.sub(self.cycles(), before)
            b.atomic_rmw("add", place, taken, "monotonic")
            least = b.gep(place, [self.constant(len(self.numbers))], source_etype=I64)
            b.atomic_rmw("umin", least, taken, "monotonic")

    def cycles(self) -> Value:
        name = "llvm.readcyclecounter"
        return self.b.call(declared(self.module, name, I64, []), [])

    def samples(self, stage: Stage, values: dict[str, Value]) -> None:
        """Lanes, as this thread gets hold of them; of each, its blocks in order."""
        b, c = self.b, self.constant
        ticket = b.gep(self.a["sync"], [c(TICKET)], source_etype=I64)
        again, work, done = (b.append_basic_block(n) for n in ("again", "work", "done"))
        b.branch(again)
        b.position_at_end(again)
        lane = b.atomic_rmw("add", ticket, c(1), "monotonic")
        b.cbranch(b.icmp_signed("<", lane, values["lanes"]), work, done)
        b.position_at_end(work)
        offset = b.mul(lane, c(self.layout.lane_bytes))
        if stage.lane_bytes:
            self.clear(stage, offset)

        def one(q: Value) -> None:
            size = c(self.layout.block)
            first = b.mul(q, size)
            mine = {**self.some(values, first, size, values["batch"]), "first": first}
            for group, plans in itertools.groupby(stage.samples, lambda p: p.nest.group):
                self.group(list(plans), self.layout.groups.get(group, size.constant), mine, offset)

        self.block_loop(lane, values, one)
        b.branch(again)
        b.position_at_end(done)

    def group(self, plans: list[Plan], few: int, values: dict[str, Value], lane: Value) -> None:
        """Nests one after another, for so many of a block's samples at a time."""
        b, size = self.b, self.constant(few)
        if few >= self.layout.block:
            for p in plans:
                self.call(p, values, lane)
            return

        def part(begin: Value) -> None:
            mine = self.some(values, begin, size, values["count"])
            mine["first"] = b.add(values["first"], begin)
            for p in plans:
                self.call(p, mine, lane, begin)

        self.e.loop(self.constant(0), values["count"], few, [], nothing(part))

    def some(
        self, values: dict[str, Value], begin: Value, size: Value, total: Value
    ) -> dict[str, Value]:
        """`size` samples from one on, or as many as there are in all."""
        b = self.b
        left = b.sub(total, begin)
        count = b.select(b.icmp_signed("<", left, size), left, size)
        order = b.gep(values["order"], [begin], source_etype=I64)
        return {**values, "count": count, "order": order}

    def block_loop(self, lane: Value, values: dict[str, Value], one: Callable[..., None]) -> None:
        b = self.b
        head, body, after = (b.append_basic_block(n) for n in ("blocks", "block", "lane_done"))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        q = b.phi(I64)
        q.add_incoming(lane, before)
        b.cbranch(b.icmp_signed("<", q, values["blocks"]), body, after)
        b.position_at_end(body)
        one(q)
        q.add_incoming(b.add(q, values["lanes"]), b.block)
        b.branch(head)
        b.position_at_end(after)

    def clear(self, stage: Stage, offset: Value) -> None:
        """Set a lane's partial sums to zero."""
        b = self.b
        targets = (self.layout.buffers[p.nest.target] for p in stage.samples)
        first = min((t for t in targets if t.place == "lanes"), key=lambda t: t.lane_offset)
        start = b.gep(self.address(first), [offset], source_etype=_I8)
        b.call(self.memset(), [start, _I8(0), self.constant(stage.lane_bytes), ir.IntType(1)(0)])

    def memset(self) -> ir.Function:
        kinds = [PTR, _I8, I64, ir.IntType(1)]
        return declared(self.module, "llvm.memset.p0.i64", _VOID, kinds)

    def shared(self, p: Plan, number: int, values: dict[str, Value]) -> None:
        """This thread's part of a nest that is shared out by results; then what is left of others'.

        Parts of large nests are taken in chunks, so that a thread whose core is slow, or taken by
        another process, leaves some of its part to the rest.
        """
        b, a, c = self.b, self.a, self.constant
        count = p.units(p.shared_loop) if p.shared_loop else 1
        if count is None:
            assert p.shared_loop is not None
            size = c(p.tile.get(p.shared_loop, 1))
            total = b.udiv(b.add(values["batch"], b.sub(size, c(1))), size)
        else:
            total = c(count)

        def part(thread: Value) -> tuple[Value, Value]:
            return (b.udiv(b.mul(total, thread), a["threads"]),
                    b.udiv(b.mul(total, b.add(thread, c(1))), a["threads"]))  # fmt: skip

        step, row = work_of(p.nest)
        if step + BATCH * row < _LARGE:
            low, high = part(a["thread"])
            with b.if_then(b.icmp_signed("<", low, high)):
                self.call(p, {**values, "low": low, "high": high})
            return
        chunk = b.udiv(total, b.mul(a["threads"], c(_CHUNKS)))
        chunk = b.select(b.icmp_signed("<", chunk, c(1)), c(1), chunk)
        chunk = b.select(b.icmp_signed("==", a["threads"], c(1)), total, chunk)

        def help_(turn: Value) -> None:
            thread = b.urem(b.add(a["thread"], turn), a["threads"])
            low, high = part(thread)
            place = b.add(b.mul(a["threads"], c(number)), b.add(thread, c(COUNTERS)))
            counter = b.gep(a["sync"], [place], source_etype=I64)
            again, work, done = (b.append_basic_block(n) for n in ("take", "chunk", "taken"))
            b.branch(again)
            b.position_at_end(again)
            start = b.add(low, b.atomic_rmw("add", counter, chunk, "monotonic"))
            b.cbranch(b.icmp_signed("<", start, high), work, done)
            b.position_at_end(work)
            stop = b.add(start, chunk)
            stop = b.select(b.icmp_signed("<", stop, high), stop, high)
            self.call(p, {**values, "low": start, "high": stop})
            b.branch(again)
            b.position_at_end(done)

        self.e.loop(c(0), a["threads"], 1, [], nothing(help_))

    def barrier(self) -> ir.Function:
        """Wait until every thread is here; the last to come readies the counters and opens."""
        kind = ir.FunctionType(_VOID, [PTR, I64, PTR])
        f = ir.Function(self.module, kind, "barrier")
        f.linkage = "internal"
        sync, threads, rest = f.args
        c = self.constant
        b = ir.IRBuilder(f.append_basic_block("entry"))
        arrived = b.gep(sync, [c(ARRIVED)], source_etype=I64)
        generation = b.gep(sync, [c(GENERATION)], source_etype=I64)
        ticket = b.gep(sync, [c(TICKET)], source_etype=I64)
        opens, waits, spin, tired, out = (
            b.append_basic_block(n) for n in ("opens", "waits", "spin", "tired", "out")
        )
        now = b.load_atomic(generation, "acquire", 8, typ=I64)
        before = b.atomic_rmw("add", arrived, c(1), "acq_rel")
        b.cbranch(b.icmp_signed("==", before, b.sub(threads, c(1))), opens, waits)
        b.position_at_end(opens)
        b.atomic_rmw("xchg", arrived, c(0), "monotonic")
        b.atomic_rmw("xchg", ticket, c(0), "monotonic")
        counters = b.gep(sync, [c(COUNTERS)], source_etype=I64)
        size = b.mul(threads, c(8 * self.layout.shared_out))
        b.call(self.memset(), [counters, _I8(0), size, ir.IntType(1)(0)])
        b.atomic_rmw("xchg", generation, b.add(now, c(1)), "release")
        b.branch(out)
        b.position_at_end(waits)
        b.branch(spin)
        b.position_at_end(spin)
        n = b.phi(I64)
        n.add_incoming(c(0), waits)
        self.pause(b)
        seen = b.load_atomic(generation, "acquire", 8, typ=I64)
        more = b.add(n, c(1))
        check = b.append_basic_block("check")
        b.cbranch(b.icmp_signed("!=", seen, now), out, check)
        b.position_at_end(check)
        n.add_incoming(more, check)
        b.cbranch(b.icmp_signed("<", more, c(_SPINS)), spin, tired)
        b.position_at_end(tired)
        _call_pointer(b, rest)
        n.add_incoming(more, tired)
        b.branch(spin)
        b.position_at_end(out)
        b.ret_void()
        return f

    def pause(self, b: ir.IRBuilder) -> None:
        """Tell a processor that has an instruction for it that this loop only waits."""
        if str(self.module.triple).startswith(("x86", "i686")):
            kind = ir.FunctionType(_VOID, [])
            b.call(ir.Function(self.module, kind, "llvm.x86.sse2.pause"), [])


def _call_pointer(b: ir.IRBuilder, pointer: Value) -> None:
    """Call a function of no arguments by its address."""
    kind = ir.FunctionType(_I32, [])
    typed = b.inttoptr(b.ptrtoint(pointer, I64), ir.PointerType(kind))
    b.call(typed, [])


_NO_NEST = Nest("", (), (), const(0), {})
