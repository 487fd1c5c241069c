"""From a request to running code: threads, memory, the call itself.

Threads enter the same native function together, each with its own number, and meet at barriers
inside it; ctypes lets go of Python's lock for as long as they run.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import llvmlite.binding as llvm

from chainrule.native import host, memory
from chainrule.native.driver import CALL, COUNTERS, modules_of, slots
from chainrule.native.memory import Buffer, address_of
from chainrule.native.objects import compiled
from chainrule.native.outline import outline, packed, unpacked
from chainrule.native.request import Request
from chainrule.native.stages import LANES, Layout, layout

_RUN = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)
APART = False  # for tests: no two buffers share memory, so that each can stand before a guard page
_SLACK = 0  # elements behind each buffer that may be touched: none


class Code:
    """Machine code made for a request, ready to run; `run(call, thread)` starts it.

    `outline` says all that running it takes.
    """

    def __init__(self, request: Request, blob: bytes) -> None:
        self.request = request
        self.outline, objects = unpacked(blob)
        host.target()
        backing = llvm.parse_assembly("")
        self.engine = llvm.create_mcjit_compiler(backing, host.target_machine())
        for part in objects:
            self.engine.add_object_file(llvm.ObjectFileRef.from_data(part))
        self.engine.finalize_object()
        self.run = _RUN(self.engine.get_function_address("run"))

    @cached_property
    def layout(self) -> Layout:
        """The nests, laid out again when somebody looks."""
        return layout(self.request)


def machine_code(request: Request, dtype: str, profile: bool = False) -> bytes:
    """The machine code for a request, with its outline."""
    nests = layout(request)
    return packed(outline(nests), compiled(modules_of(nests, dtype, profile)))


# ---------------------------------------------------------------- threads


class _Worker:
    """A thread that waits for work; it enters native code and comes back."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self.work, daemon=True, name="chainrule").start()

    def work(self) -> None:
        while True:
            self.tasks.get()()  # nothing of a task is kept while the next is waited for


class _Pool:
    """Idle workers of this process.  A fork's child starts with none."""

    def __init__(self) -> None:
        self.lock, self.idle, self.process = threading.Lock(), list[_Worker](), os.getpid()

    def run(self, instance: Instance) -> None:
        """This thread and workers run the code together; returns when all of it is done."""
        enter, call = instance.code.run, instance.address
        if instance.threads == 1:
            enter(call, 0)
            return
        if self.process != os.getpid():
            self.__init__()  # type: ignore[misc]
        with self.lock:
            others = [self.idle.pop() if self.idle else _Worker()
                      for _ in range(instance.threads - 1)]  # fmt: skip
        starts: list[partial[None]] = [
            partial(worker.tasks.put, partial(_enter, instance, k))
            for k, worker in enumerate(others, 1)
        ]
        try:
            # They wait for each other inside, so an interrupt must find all on their way or none.
            # It can come between two of Python's own instructions only: here is just one.
            deque(map(partial.__call__, [*starts, partial(enter, call, 0)]), maxlen=0)
        finally:
            with self.lock:
                self.idle += others  # the last of them may still be on their way out


def _enter(instance: Instance, thread: int) -> None:
    """A worker's part; it keeps the memory alive until it is out."""
    instance.code.run(instance.address, thread)


_pool = _Pool()


def _rest_address() -> int:
    """A C function of no arguments that lets other threads run."""
    try:
        library = ctypes.CDLL(None)
        return ctypes.cast(library.sched_yield, ctypes.c_void_p).value or 0
    except (OSError, TypeError, AttributeError):
        kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
        return ctypes.cast(kernel.SwitchToThread, ctypes.c_void_p).value or 0


_REST = _rest_address()


# ---------------------------------------------------------------- one program in memory


class Instance:
    """Code with its buffers and tables of addresses.  One call at a time."""

    def __init__(self, code: Code, threads: int) -> None:
        self.code, self.threads = code, threads
        self.outline = code.outline
        self.by_place: dict[str, list[Buffer]] = {}
        for b in {b.slot: b for b in self.outline.buffers.values()}.values():
            self.by_place.setdefault(b.place, []).append(b)
        self.slots = slots(self.outline.buffers)
        self.tables = (ctypes.c_int64 * (self.slots * threads))()
        self.call = (ctypes.c_int64 * len(CALL))()
        self.kept: list[object] = []
        self.rows = -1
        self.batch_memory: object = None
        (sync,), kept = memory.allocate([8 * (COUNTERS + threads * self.outline.shared_out)])
        self.kept.append(kept)
        self.set(tables=ctypes.addressof(self.tables), sync=sync, rest=_REST, threads=threads)
        # cycles in each nest, in all and the fewest of a call
        count = self.outline.nests
        self.profile = (ctypes.c_int64 * (2 * count))(*[0] * count, *[-1] * count)
        self.set(profile=ctypes.addressof(self.profile))
        self.place_static()
        self.address = ctypes.addressof(self.call)

    def set(self, **values: int) -> None:
        """Fields of what `run` is told."""
        for name, value in values.items():
            self.call[CALL.index(name)] = value

    def point(self, slot: int, address: int, thread: int | None = None) -> None:
        """Enter a buffer's address, in every thread's table or in one."""
        for t in range(self.threads) if thread is None else (thread,):
            self.tables[t * self.slots + slot] = address

    def place_static(self) -> None:
        shared = self.by_place.get("static", [])
        addresses, kept = memory.allocate([b.bytes(1, _SLACK) for b in shared])
        self.kept.append(kept)
        for b, address in zip(shared, addresses, strict=True):
            self.point(b.slot, address)
        if lanes := self.by_place.get("lanes"):
            size = self.outline.lane_bytes * LANES + _SLACK * lanes[0].element
            (start,), kept = memory.allocate([size])
            self.kept.append(kept)
            for b in lanes:
                self.point(b.slot, start + b.lane_offset)
        own = self.by_place.get("block", [])
        for thread in range(self.threads):
            addresses, kept = memory.allocate([b.bytes(self.outline.block, _SLACK) for b in own])
            self.kept.append(kept)
            for b, address in zip(own, addresses, strict=True):
                self.point(b.slot, address, thread)
            self.place_groups(thread)

    def place_groups(self, thread: int) -> None:
        """Memory for what groups of nests alone use: the same for all, as they take turns."""
        own = self.by_place.get("group", [])
        sizes = [b.bytes(b.rows, _SLACK) for b in own]
        if not APART:
            sizes = [max((b.start + n for b, n in zip(own, sizes, strict=True)), default=0)]
        addresses, kept = memory.allocate(sizes)
        self.kept.append(kept)
        for k, b in enumerate(own):
            self.point(b.slot, addresses[k] if APART else addresses[0] + b.start, thread)

    def place_rows(self, rows: int) -> None:
        """Memory for tensors that hold the whole batch."""
        if rows <= self.rows:
            return
        buffers = self.by_place.get("batch", [])
        addresses, self.batch_memory = memory.allocate([b.bytes(rows, _SLACK) for b in buffers])
        for b, address in zip(buffers, addresses, strict=True):
            self.point(b.slot, address)
        self.rows = rows

    def run(self) -> None:
        """Enter native code with the tables as they are."""
        _pool.run(self)


__all__: Sequence[str] = ["Code", "Instance", "address_of", "machine_code"]
