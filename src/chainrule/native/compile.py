"""`compile_system`: a system as a native function of arrays."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.errors import FormulaError
from chainrule.given import numbers
from chainrule.native import cache, host, memory, report
from chainrule.native.driver import modules_of
from chainrule.native.loops import batch_axes
from chainrule.native.objects import optimised
from chainrule.native.request import Request
from chainrule.native.runtime import Code, Instance, address_of, machine_code
from chainrule.native.tiles import Machine
from chainrule.ranges import Ranges, Shape, numeric
from chainrule.system import System

Array = NDArray[Any]
DTYPES = ("float32", "float64")
_SMALL = 1 << 12  # bytes: arrays below are copied in, which costs less than asking where they are
_PROFILE_CALLS = 20
WORTH_THREADS = 3_000_000  # multiply-adds of a call: waking a thread takes as long


def machine_for(dtype: str) -> Machine:
    """What the host's registers hold of a type."""
    described = host.host()
    registers = 32 if described.vector_bytes == 64 or not _is_x86() else 16
    return Machine(described.vector_bytes, registers, np.dtype(dtype).itemsize, described.pairs)


def _is_x86() -> bool:
    return str(host.target().triple).startswith(("x86", "i686"))


def check_dtype(dtype: Any) -> str:
    """The name of a supported type."""
    try:
        name = str(np.dtype(dtype).name)
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        raise FormulaError(
            f"native code computes in float32 or float64, not {name}",
            hint='compile(dtype="float32")',
        )
    return name


def check_threads(threads: Any) -> int:
    """A number of threads; by default, the cores this process may use."""
    if threads is None:
        return host.cores()
    if not isinstance(threads, (int, np.integer)) or isinstance(threads, bool) or threads < 1:
        raise FormulaError(f"threads={threads!r} is not a number of threads", hint="threads=2")
    return int(threads)


def code_for(request: Request, dtype: str, use_cache: bool) -> Code:
    """Machine code for a request: from the cache on disk, or made and put there."""
    key = cache.key(request.text, dtype)
    blob = cache.load(key) if use_cache else None
    if blob is None:
        blob = machine_code(request, dtype)
        if use_cache:
            cache.store(key, blob)
    return Code(request, blob)


def checked_ranges(system: System, written: System, shapes: Mapping[str, Shape]) -> Ranges:
    """The ranges of a system; what is wrong with the shapes is said of it as it was written."""
    try:
        return numeric(system, {t: shapes[t] for t in system.inputs})
    except FormulaError:
        numeric(written, {t: shapes[t] for t in written.inputs})
        raise


def compile_system(
    system: System,
    *,
    dtype: Any = "float32",
    threads: int | None = None,
    cache: bool = True,
    winograd: bool = True,
    written: System | None = None,
    match: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
) -> Compiled:
    """A native function for a system without grad(...).

    winograd  whether sums over windows of three may be taken by tiles, with fewer products
    written   the system as its author wrote it, in which mistakes of shape are shown
    match     sorts out the names of what is given; raises FormulaError for wrong ones
    """
    return Compiled(
        system, check_dtype(dtype), check_threads(threads), cache, winograd, written, match
    )


class Compiled:
    """A program as machine code: call it with arrays, get arrays.

    Code is made for the sizes of the first call and kept; other sizes make their own.  The batch
    (the first axis that every access leaves alone) may have any size with the same code.
    """

    def __init__(
        self, system: System, dtype: str, threads: int, use_cache: bool, winograd: bool,
        written: System | None,
        match: Callable[[Mapping[str, Any]], dict[str, Any]] | None,
    ) -> None:  # fmt: skip
        self.system, self.dtype, self.threads, self.cache = system, dtype, threads, use_cache
        self.winograd = winograd
        self._written, self._match = written or system, match
        self._inputs = system.inputs
        self._batch = batch_axes(system)
        self._lock = threading.Lock()
        self._latest: Code | None = None
        self._recent: _Call | None = None
        self._calls: dict[Any, _Call] = {}
        self._codes: dict[str, Code] = {}

    def __call__(
        self, /, *, outputs: Sequence[str] | None = None, **arrays: Any
    ) -> dict[str, Array]:
        """The values of the program's tensors, or of those in `outputs`."""
        recent = self._recent
        if recent is not None and recent.asked == outputs and len(arrays) == len(recent.small):
            results = recent.quick(arrays)
            if results is not None:
                return results
        try:
            given = [arrays[t] for t in self._inputs]
            key = (outputs if outputs is None else tuple(outputs),
                   tuple([(a.shape, a.dtype.num) for a in given]))  # fmt: skip
            call = self._calls[key] if len(arrays) == len(given) else None
        except (KeyError, AttributeError, TypeError):
            call = None
        if call is None:
            matched = arrays if self._match is None else self._match(arrays)
            self._check_names(matched)
            given = [numbers(t, matched[t]) for t in self._inputs]
            call = self._prepare(given, outputs)
        if call.is_small:
            call.asked = outputs if outputs is None else list(outputs)
            self._recent = call
        with call.lock:
            return call.run(given)

    # ------------------------------------------------------------ a look inside

    @property
    def source(self) -> str:
        """The loop nests of the latest sizes, as readable text."""
        return report.source(self._code.layout)

    @property
    def llvm(self) -> str:
        """LLVM's intermediate code for them, after its passes."""
        modules = modules_of(self._code.layout, self.dtype)
        return "\n".join(str(optimised(str(module))[0]) for module in modules)

    @property
    def assembly(self) -> str:
        """The machine code for them, as text."""
        modules = (optimised(str(m)) for m in modules_of(self._code.layout, self.dtype))
        return "\n".join(str(machine.emit_assembly(module)) for module, machine in modules)

    def report(self, /, **arrays: Any) -> report.Report:
        """What each nest does; with arrays, it is run some times and each nest's time measured."""
        if not arrays:
            return report.report(self._code.layout)
        self(**arrays)
        request = self._code.request
        code = Code(request, machine_code(request, self.dtype, profile=True))
        given = [numbers(t, arrays[t]) for t in self._inputs]
        ranges = numeric(
            self.system, dict(zip(self._inputs, (a.shape for a in given), strict=True))
        )
        shapes, wanted = ranges.shapes, request.wanted
        call = _Call(self, code, self.threads, self._rows(given), shapes, wanted)
        for _ in range(_PROFILE_CALLS):
            call.run(given)
        return report.report(self._code.layout, list(call.instance.profile)[: code.outline.nests])

    @property
    def _code(self) -> Code:
        if self._latest is None:
            raise FormulaError(
                "nothing is compiled yet: the sizes are not known",
                hint="call it once with arrays",
            )
        return self._latest

    def _rows(self, given: Sequence[Array]) -> int:
        """The batch's rows among what is given."""
        batch = self._batch or {}
        return next((len(a) for t, a in zip(self._inputs, given, strict=True) if batch.get(t)), 1)

    def _check_names(self, arrays: Mapping[str, Any]) -> None:
        missing = [t for t in self._inputs if t not in arrays]
        if missing:
            raise FormulaError(
                f"missing: {', '.join(missing)}",
                hint=f"this program takes {', '.join(self._inputs)}",
            )

    def _prepare(self, given: list[Array], outputs: Sequence[str] | None) -> _Call:
        names = self._check_outputs(outputs)
        key = (outputs if outputs is None else tuple(outputs),
               tuple([(a.shape, a.dtype.num) for a in given]))  # fmt: skip
        with self._lock:
            if key not in self._calls:
                shapes = {t: a.shape for t, a in zip(self._inputs, given, strict=True)}
                ranges = checked_ranges(self.system, self._written, shapes)
                integers = frozenset(
                    t for t, a in zip(self._inputs, given, strict=True) if a.dtype.kind in "biu"
                )
                self._calls[key] = self._new_call(ranges, shapes, integers, names)
            return self._calls[key]

    def _check_outputs(self, outputs: Sequence[str] | None) -> tuple[str, ...]:
        names = self._written.outputs if outputs is None else tuple(outputs)
        for t in names:
            if t not in self.system.outputs:
                raise FormulaError(
                    f"this program does not compute {t}",
                    hint=f"it computes {', '.join(self._written.outputs)}",
                )
        return names

    def _new_call(
        self, ranges: Ranges, shapes: dict[str, Shape], integers: frozenset[str],
        names: tuple[str, ...],
    ) -> _Call:  # fmt: skip
        batch = self._batch or {}
        rows = next((shapes[t][0] for t, first in batch.items() if first), 1)
        request = Request(
            self.system, ranges, batch, names, integers, machine_for(self.dtype), rows,
            winograd=self.winograd,
        )  # fmt: skip
        code = self._codes.get(request.text)
        if code is None:
            code = self._codes[request.text] = code_for(request, self.dtype, self.cache)
        self._latest = code
        outline = code.outline
        threads = self.threads if outline.multiply_adds(rows) >= WORTH_THREADS else 1
        if rows <= outline.block and not outline.shared_out:
            threads = 1  # there is one block only
        return _Call(self, code, threads, rows, ranges.shapes, names)


def _nobody() -> None:
    return None


class _Call:
    """One specialisation at one batch size: where inputs go in and results come out."""

    def __init__(
        self, owner: Compiled, code: Code, threads: int, rows: int, shapes: dict[str, Shape],
        names: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.lock = threading.Lock()
        self.instance = Instance(code, threads)
        self.instance.place_rows(rows)
        self.instance.set(step=0, stop=1, rows=rows, batch=rows)
        buffers = code.outline.buffers
        self.real = np.dtype(owner.dtype)
        self.inputs: list[tuple[int, int, Array | None, Any, Shape]] = []
        self.seen: list[Callable[[], Any]] = [_nobody] * len(owner._inputs)
        for k, t in enumerate(owner._inputs):
            if t not in buffers:
                continue
            b = buffers[t]
            dtype = np.dtype(np.int64) if b.whole else self.real
            shape = shapes[t]
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            stage = memory.new_array(shape, dtype) if size <= _SMALL else None
            if stage is not None:
                self.instance.point(b.slot, address_of(stage))
            self.inputs.append((k, b.slot, stage, dtype, shape))
        self.results: list[tuple[str, int, Array | None, Shape]] = []
        for t in names:
            b = buffers[code.outline.results[t]]
            size = int(np.prod(shapes[t], dtype=np.int64)) * self.real.itemsize
            stage = memory.new_array(shapes[t], self.real) if size <= _SMALL else None
            if stage is not None:
                self.instance.point(b.slot, address_of(stage))
            self.results.append((t, b.slot, stage, shapes[t]))

        self.asked: Sequence[str] | None = None
        stages = [stage for *_, stage, _, _ in self.inputs]
        self.is_small = len(stages) == len(owner._inputs) and all(
            s is not None for s in (*stages, *(stage for _, _, stage, _ in self.results))
        )
        self.small = [
            (owner._inputs[k], stage, dtype, shape) for k, _, stage, dtype, shape in self.inputs
        ]

    def quick(self, arrays: Mapping[str, Any]) -> dict[str, Array] | None:
        """A call with small arrays just like the last one's; None where they are not."""
        with self.lock:
            try:
                for t, stage, dtype, shape in self.small:
                    a = arrays[t]
                    if a.dtype is not dtype or a.shape != shape:
                        return None
                    stage[...] = a  # type: ignore[index]
            except (KeyError, AttributeError):
                return None
            self.instance.run()
            return {t: stage.copy() for t, _, stage, _ in self.results}  # type: ignore[union-attr]

    def run(self, given: list[Array]) -> dict[str, Array]:
        instance, kept = self.instance, []
        for k, slot, stage, dtype, _ in self.inputs:
            if stage is not None:
                stage[...] = given[k]
                continue
            a = given[k]
            if a.dtype is dtype and self.seen[k]() is a:
                continue  # where it was at the last call
            plain = np.require(a, dtype, ("C", "A"))
            kept.append(plain)
            instance.point(slot, address_of(plain))
            self.seen[k] = weakref.ref(a) if plain is a else _nobody
        fresh: dict[str, Array] = {}
        for t, slot, stage, shape in self.results:
            if stage is None:
                out = fresh[t] = memory.new_array(shape, self.real)
                instance.point(slot, address_of(out))
        instance.run()
        return {t: fresh[t] if stage is None else stage.copy() for t, _, stage, _ in self.results}
