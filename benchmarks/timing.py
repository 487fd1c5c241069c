"""Rates measured side by side, and the processor's multiply-add limit beside them."""

from __future__ import annotations

import ctypes
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from chainrule.native import host

ROUNDS = 7
SECONDS = 0.25  # of each measurement
PAUSE = 0.03  # before it, in seconds: OpenMP's threads spin for some 8 ms, then sleep


def interleave(
    runs: Mapping[str, Callable[[int], Any]],
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> dict[str, list[float]]:
    """Repetitions per second of each candidate, one after the other, round by round.

    `run(n)` does n repetitions.  How many fill `seconds` is found first, which also warms up.
    Each turn begins when the threads of the one before have gone to sleep.
    """
    counts = {name: _repetitions(run, seconds) for name, run in runs.items()}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(PAUSE)
            began = time.perf_counter()
            run(counts[name])
            rates[name].append(counts[name] / (time.perf_counter() - began))
    return rates


def _repetitions(run: Callable[[int], Any], seconds: float) -> int:
    run(1)
    count = 1
    while True:
        began = time.perf_counter()
        run(count)
        spent = time.perf_counter() - began
        if spent > seconds / 8:
            return max(1, round(count * seconds / spent))
        count *= 4


def medians(rates: Mapping[str, list[float]]) -> dict[str, float]:
    """The middle rate of each."""
    return {name: statistics.median(found) for name, found in rates.items()}


class Peak:
    """A loop of independent fused multiply-adds on all cores: run(n) does n million of vectors."""

    CHAINS = 16  # enough to cover the latency of two units; fits the registers of every processor
    STEPS = 10_000

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.lanes = host.vector_bytes() // 4
        vector = ir.VectorType(ir.FloatType(), self.lanes)
        chains = self.CHAINS if self.lanes == 16 else self.CHAINS - 4
        self.chains = chains
        module = ir.Module("peak")
        i64 = ir.IntType(64)
        kernel = ir.Function(
            module, ir.FunctionType(ir.FloatType(), [i64, ir.FloatType()]), "kernel"
        )
        builder = ir.IRBuilder(kernel.append_basic_block())
        fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3),
                          f"llvm.fmuladd.v{self.lanes}f32")  # fmt: skip
        undefined = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(undefined, kernel.args[1], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        factor = builder.shuffle_vector(one, undefined, zeros)
        entry = builder.block
        loop, done = kernel.append_basic_block(), kernel.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(i64)
        k.add_incoming(i64(0), entry)
        sums = [builder.phi(vector) for _ in range(chains)]
        added = [builder.call(fma, [s, factor, factor]) for s in sums]
        following = builder.add(k, i64(1))
        k.add_incoming(following, loop)
        for c, (s, a) in enumerate(zip(sums, added, strict=True)):
            s.add_incoming(ir.Constant(vector, [float(c)] * self.lanes), entry)
            s.add_incoming(a, loop)
        builder.cbranch(builder.icmp_unsigned("<", following, kernel.args[0]), loop, done)
        builder.position_at_end(done)
        total = added[0]
        for a in added[1:]:
            total = builder.fadd(total, a)
        builder.ret(builder.extract_element(total, ir.Constant(ir.IntType(32), 0)))
        parsed = llvm.parse_assembly(str(module))
        self.engine = llvm.create_mcjit_compiler(parsed, host.target_machine(opt=2))
        self.engine.finalize_object()
        self.kernel = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float)(
            self.engine.get_function_address("kernel")
        )

    def run(self, count: int) -> None:
        """The loop on every thread, count * STEPS times."""
        others = [
            threading.Thread(target=self.kernel, args=(count * self.STEPS, 0.5))
            for _ in range(self.threads - 1)
        ]
        for thread in others:
            thread.start()
        self.kernel(count * self.STEPS, 0.5)
        for thread in others:
            thread.join()

    def flops(self, repetitions_per_second: float) -> float:
        """What a rate of run() means in floating-point operations per second."""
        return 2.0 * self.lanes * self.chains * self.STEPS * self.threads * repetitions_per_second
