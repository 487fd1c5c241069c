"""Measure the error of the native functions, in units in the last place of the true value.

float32: every one of the 2**32 inputs, against float64 functions of NumPy and SciPy, whose own
error is some 2**-29 of a float32 unit.  float64: random samples of every magnitude, against mpmath.
Each for every processor named: the host's and the oldest x86-64 take different instructions.

    python scripts/function_accuracy.py                     # all of it; some 20 minutes on one core
    python scripts/function_accuracy.py --stride 1009       # every 1009th float, in seconds
    python scripts/function_accuracy.py exp tanh --cpu host
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray
from scipy import special

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from chainrule.native import host, mathfn

RESULT = Path(__file__).parents[1] / "docs" / "results" / "function_accuracy.json"
CHUNK = 1 << 16  # what is worked on stays in the cache
Array = NDArray[Any]


class Native:
    """A function of mathfn compiled to run over arrays: out[i] = f(a[i], b[i], ...)."""

    def __init__(
        self,
        name: str,
        dtype: str,
        arity: int = 1,
        constant: float | None = None,
        lanes: int | None = None,
    ) -> None:
        element = ir.FloatType() if dtype == "float32" else ir.DoubleType()
        if lanes is None:
            lanes = host.vector_bytes() // (4 if dtype == "float32" else 8)
        vector = ir.VectorType(element, lanes) if lanes else element
        module = ir.Module(name)
        i64 = ir.IntType(64)
        pointer = element.as_pointer()
        kernel = ir.Function(
            module, ir.FunctionType(ir.VoidType(), [i64] + [pointer] * (arity + 1)), "kernel"
        )
        builder = ir.IRBuilder(kernel.append_basic_block())
        entry = builder.block
        loop, done = kernel.append_basic_block(), kernel.append_basic_block()
        builder.branch(loop)
        builder.position_at_end(loop)
        position = builder.phi(i64)
        position.add_incoming(i64(0), entry)

        def at(argument: Any) -> Any:
            return builder.bitcast(builder.gep(argument, [position]), vector.as_pointer())

        size = 4 if dtype == "float32" else 8
        args = [builder.load(at(kernel.args[k + 1]), align=size) for k in range(arity)]
        if constant is not None:
            args.append(ir.Constant(vector, [constant] * lanes if lanes else constant))
        builder.store(mathfn.emit(builder, name, args), at(kernel.args[-1]), align=size)
        following = builder.add(position, i64(lanes or 1))
        position.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_unsigned("<", following, kernel.args[0]), loop, done)
        builder.position_at_end(done)
        builder.ret_void()

        machine = host.target_machine(opt=2)
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        self.assembly = machine.emit_assembly(parsed)
        self.engine = llvm.create_mcjit_compiler(parsed, machine)
        self.engine.finalize_object()
        address = self.engine.get_function_address("kernel")
        self.kernel = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (arity + 1))(
            address
        )
        self.dtype = np.dtype(dtype)
        self.lanes = lanes or 1

    def __call__(self, *arrays: Array) -> Array:
        """The values; arrays of any length, padded to whole vectors inside."""
        count = len(arrays[0])
        if count % self.lanes:
            pad = np.zeros(self.lanes - count % self.lanes, self.dtype)
            arrays = tuple(np.concatenate([a, pad]) for a in arrays)
        held = [np.ascontiguousarray(a, self.dtype) for a in arrays]
        out = np.empty(len(held[0]), self.dtype)
        self.kernel(len(out), *(a.ctypes.data for a in held), out.ctypes.data)
        return out[:count]


def _gelu(x: Array) -> Array:
    return np.where(np.isneginf(x), 0.0, x * special.ndtr(x))


def _silu(x: Array) -> Array:
    return np.where(np.isneginf(x), 0.0, x * special.expit(x))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


REFERENCE: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "erf": special.erf,
    "sin": np.sin,
    "cos": np.cos,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": _silu,
    "sqrt": np.sqrt,
}


MIRRORED = {"tanh": -1, "erf": -1, "sin": -1, "cos": 1}  # f(-x) as a multiple of f(x)


def float32_errors(value: Array, true: Array) -> Array:
    """|value - true| in float32 units of the true value; infinite where a special value differs.

    Past the largest float, the next power of two stands for infinity, as in IEEE rounding.
    """
    ends = 2.0**128
    reached = np.clip(value.astype(np.float64), -ends, ends)
    true = np.clip(true, -ends, ends)
    power = (true.view(np.int64) & 0x7FF0_0000_0000_0000).view(np.float64)  # 2**floor(log2|true|)
    error = np.abs(reached - true) / (np.clip(power, 2.0**-126, 2.0**127) * 2.0**-23)
    missing = np.isnan(error)
    if missing.any():
        error[missing] = np.where(np.isnan(value[missing]) & np.isnan(true[missing]), 0.0, np.inf)
    return error


@contextmanager
def processor(cpu: str) -> Iterator[None]:
    """Code made inside is for this processor; "host" is the one at hand."""
    before = os.environ.get("CHAINRULE_CPU", "")
    os.environ["CHAINRULE_CPU"] = "" if cpu == "host" else cpu
    try:
        yield
    finally:
        os.environ["CHAINRULE_CPU"] = before


@dataclass
class Worst:
    """The largest error so far, and how many were beyond a unit or wrong altogether."""

    error: float = 0.5
    at: float = 0.0
    above_one: int = 0
    wrong: int = 0

    def add(self, x: Array, value: Array, true: Array, nearest: Array) -> None:
        """Count in the values at these inputs; `nearest` are the floats nearest to the true ones.

        A value that is the nearest float is at most half a unit off, and most are.
        """
        other = np.flatnonzero(value.view(np.int32) != nearest.view(np.int32))
        if not len(other):
            return
        error = float32_errors(value[other], true[other])
        self.wrong += int(np.count_nonzero(np.isinf(error)))
        self.above_one += int(np.count_nonzero(error > 1))
        k = int(np.argmax(error))
        if error[k] > self.error:
            self.error, self.at = float(error[k]), float(x[other[k]])

    def row(self, count: int) -> dict[str, Any]:
        """As the JSON has it."""
        return {
            "inputs": count,
            "worst_ulp": round(self.error, 4) if not self.wrong else "special value wrong",
            "at": float.hex(self.at),
            "share_above_1_ulp": self.above_one / count,
            "special_values_wrong": self.wrong,
        }


def exhaustive(name: str, stride: int, cpus: Sequence[str] = ("host",)) -> dict[str, Any]:
    """The largest error over all float32 inputs (or every stride-th) for each processor.

    The true values are what takes the time, so each serves all processors, and both signs of the
    input where the function is odd or even.
    """
    natives = {}
    for cpu in cpus:
        with processor(cpu):
            natives[cpu] = Native(name, "float32")
    found = {cpu: Worst() for cpu in cpus}
    count = 0
    steps = np.arange(CHUNK, dtype=np.uint32) * np.uint32(stride)
    mirrored = MIRRORED.get(name, 0)
    end = 1 << 31 if mirrored else 1 << 32
    for start in range(0, end, CHUNK * stride):
        inside = (end - start + stride - 1) // stride
        x = (steps[:inside] + np.uint32(start)).view(np.float32)
        with np.errstate(all="ignore"):
            true = REFERENCE[name](x.astype(np.float64))
            for _ in range(2 if mirrored else 1):
                nearest = true.astype(np.float32)
                for cpu, native in natives.items():
                    found[cpu].add(x, native(x), true, nearest)
                count += len(x)
                x, true = -x, mirrored * true
    return {cpu: worst.row(count) for cpu, worst in found.items()}


MPMATH: dict[str, Callable[[Any, Any], Any]] = {
    "exp": lambda mp, x: mp.exp(x),
    "log": lambda mp, x: mp.log(x),
    "tanh": lambda mp, x: mp.tanh(x),
    "sigmoid": lambda mp, x: 1 / (1 + mp.exp(-x)),
    "erf": lambda mp, x: mp.erf(x),
    "sin": lambda mp, x: mp.sin(x),
    "cos": lambda mp, x: mp.cos(x),
    "softplus": lambda mp, x: mp.log1p(mp.exp(-abs(x))) + max(x, mp.mpf(0)),
    "gelu": lambda mp, x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "silu": lambda mp, x: x / (1 + mp.exp(-x)),
}
# Where the function is neither constant nor out of range: low and high of the samples.
RANGES = {
    "exp": (-745.0, 709.7),
    "log": (5e-324, 1.7e308),
    "tanh": (-20.0, 20.0),
    "sigmoid": (-745.0, 40.0),
    "erf": (-6.0, 6.0),
    "sin": (-1e300, 1e300),
    "cos": (-1e300, 1e300),
    "softplus": (-745.0, 40.0),
    "gelu": (-38.0, 38.0),
    "silu": (-740.0, 40.0),
}


def sampled(name: str, count: int) -> dict[str, Any]:
    """The largest float64 error over samples: even over the range, and of every magnitude in it."""
    import mpmath as mp

    mp.mp.dps = 60
    low, high = RANGES[name]
    draw = np.random.default_rng(1980)
    even = draw.uniform(max(low, -1e4), min(high, 1e4), count // 2)
    top, bottom = math.log(high), math.log(max(low, 1e-300) if low > 0 else 1e-12)
    sizes = np.exp(draw.uniform(bottom, top, count - count // 2))
    signs = draw.choice([-1.0, 1.0], len(sizes)) if low < 0 else 1.0
    x = np.clip(np.concatenate([even, sizes * signs]), low, high)
    got = Native(name, "float64")(x)
    worst, where = 0.0, 0.0
    for a, y in zip(x.tolist(), got.tolist(), strict=True):
        with mp.workdps(700 if name in ("sin", "cos") and abs(a) > 1e15 else 60):
            true = MPMATH[name](mp, mp.mpf(a))
            unit = math.ulp(float(abs(true)))
            error = float(abs(mp.mpf(y) - true) / unit)
        if not error <= worst:
            worst, where = error, a
    return {"inputs": count, "worst_ulp": round(worst, 3), "at": float.hex(where)}


def power_errors(dtype: str, count: int) -> dict[str, Any]:
    """pow over random pairs whose result is a finite number, and the table of special cases."""
    import mpmath as mp

    mp.mp.dps = 60
    limit = 87.0 if dtype == "float32" else 708.0
    draw = np.random.default_rng(1971)
    base = np.exp(draw.uniform(-20, 20, count)).astype(dtype)
    exponent = (draw.uniform(-limit, limit, count) / np.log(base.astype(np.float64))).astype(dtype)
    got = Native("pow", dtype, 2)(base, exponent)
    worst, where = 0.0, (0.0, 0.0)
    for a, b, y in zip(base.tolist(), exponent.tolist(), got.tolist(), strict=True):
        true = mp.mpf(a) ** mp.mpf(b)
        size = float(true)
        unit = float(np.spacing(np.float32(size))) if dtype == "float32" else math.ulp(size)
        error = float(abs(mp.mpf(y) - true) / unit)
        if not error <= worst:
            worst, where = error, (a, b)
    return {"inputs": count, "worst_ulp": round(worst, 3), "at": [float.hex(w) for w in where]}


def main() -> int:
    """Measure, print, write the JSON; non-zero if a float32 function misses 2 ULP."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--cpu", nargs="*", default=["host", "x86-64"])
    parser.add_argument("--no-write", action="store_true")
    given = parser.parse_args()
    names = given.names or [*REFERENCE, "pow"]
    missed = False
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}

    def keep(cpu: str, dtype: str, name: str, row: dict[str, Any]) -> None:
        with processor(cpu):
            entry = found.setdefault(host.cpu_name(), {"float32": {}, "float64": {}})
            entry["vector_bytes"] = host.vector_bytes()
        entry[dtype][name] = row
        print(f"{cpu:8} {dtype} {name:9} {row}", flush=True)

    for name in names:
        began = time.time()
        if name in REFERENCE:
            for cpu, row in exhaustive(name, given.stride, given.cpu).items():
                keep(cpu, "float32", name, row)
                missed |= row["special_values_wrong"] > 0 or row["worst_ulp"] > 2
        for cpu in given.cpu:
            with processor(cpu):
                if name in MPMATH:
                    keep(cpu, "float64", name, sampled(name, given.samples))
                if name == "pow":
                    for dtype in ("float32", "float64"):
                        keep(cpu, dtype, name, power_errors(dtype, given.samples))
        print(f"  {time.time() - began:.0f} s", flush=True)
        if not given.no_write:
            found["versions"] = {
                "llvm": ".".join(map(str, llvm.llvm_version_info)),
                "llvmlite": llvmlite.__version__,
                "numpy": np.__version__,
            }
            RESULT.parent.mkdir(parents=True, exist_ok=True)
            RESULT.write_text(json.dumps(found, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
