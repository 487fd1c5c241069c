"""From modules to object code: LLVM's passes, in a thread of its own."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterable

import llvmlite.binding as llvm
from llvmlite import ir

from chainrule.native import host

_TURN = 0.0005  # seconds


def optimised(module: str) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    """The module after LLVM's passes.

    Vectors, unrolled loops and accumulators are in it already, and what is computed twice is rare.
    What is left is to fold addresses; the usual pipelines take four times as long, and the code is
    no faster.  (Not NewGVN, which could find the rest: LLVM 22's miscompiles tests of positions.)
    """
    machine = host.target_machine()
    parsed = llvm.parse_assembly(module)
    parsed.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_rotate_pass()
    passes.add_instruction_combine_pass()
    passes.run(parsed, builder)
    return parsed, machine


def compiled(modules: Iterable[ir.Module]) -> list[bytes]:
    """Each module's object code.  LLVM is at one in a thread while the next is being written."""
    worker = _Compiler()
    try:
        worker.start()
    except RuntimeError:  # the interpreter is about to end: no more threads
        return [_object_code(str(module)) for module in modules]
    with _quick_turns:
        try:
            for module in modules:
                worker.texts.put(str(module))
        except BaseException:
            worker.stops = True
            raise
        finally:
            worker.finish()
    if worker.failed is not None:
        raise worker.failed
    return worker.made


class _Compiler(threading.Thread):
    """LLVM's thread: from modules as text to object code, in order."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.made: list[bytes] = []
        self.failed: BaseException | None = None
        self.stops = False
        self.ended = threading.Event()  # an interrupted join() takes a thread for one that ended

    def run(self) -> None:
        try:
            while (text := self.texts.get()) is not None and not self.stops:
                self.made.append(_object_code(text))
        except BaseException as e:  # raised where the caller waits
            self.failed = e
        self.ended.set()

    def finish(self) -> None:
        """Wait for it, interrupted or not: a process that ends while LLVM is at work crashes."""
        self.texts.put(None)
        interrupt: KeyboardInterrupt | None = None
        while not self.ended.is_set():
            try:
                self.ended.wait()
            except KeyboardInterrupt as e:
                interrupt, self.stops = e, True
        if interrupt is not None:
            raise interrupt


class _QuickTurns:
    """While code is compiled, threads that want Python's lock get it sooner.

    LLVM's thread wants it after each of its calls, and would wait five milliseconds every time.
    """

    def __init__(self) -> None:
        self.lock, self.users, self.before = threading.Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self.lock:
            if not self.users:
                self.before = sys.getswitchinterval()
                sys.setswitchinterval(min(self.before, _TURN))
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                sys.setswitchinterval(self.before)


_quick_turns = _QuickTurns()


def _object_code(module: str) -> bytes:
    parsed, machine = optimised(module)
    return bytes(machine.emit_object(parsed))
