"""`Trainer`: many steps of a program in one native call, its state kept between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.errors import FormulaError
from chainrule.expr import Grad, walk
from chainrule.given import numbers
from chainrule.native import memory
from chainrule.native.compile import (
    check_dtype,
    check_threads,
    checked_ranges,
    code_for,
    machine_for,
)
from chainrule.native.loops import batch_axes
from chainrule.native.request import Request, blocks
from chainrule.native.runtime import Instance, address_of
from chainrule.system import System

Array = NDArray[Any]
WORTH_THREADS = 100_000  # multiply-adds of a step: meeting costs less than starting
_CHUNK = 0.05  # seconds in native code before Python may look at interrupts and progress


class Trainer:
    """Runs a program's step again and again on rows of data; its updates stay.

    state      an array for each tensor that the program updates, and for each that it only reads
    objective  the scalar whose value every step returns: by default, what the program's
               gradients are of
    """

    def __init__(
        self,
        system: System,
        state: Mapping[str, Any],
        *,
        dtype: Any = "float32",
        threads: int | None = None,
        cache: bool = True,
        winograd: bool = True,
        written: System | None = None,
        objective: str | None = None,
    ) -> None:
        self.system, self.dtype = system, np.dtype(check_dtype(dtype))
        self.threads, self.cache = check_threads(threads), cache
        self.winograd = winograd
        self._written = written or system
        self.objective = _objective(self._written, system) if objective is None else objective
        if self.objective is not None and system.ranks.get(self.objective) != 0:
            raise FormulaError(f"{self.objective} is not a scalar of this program")
        unknown = [t for t in state if t not in system.inputs]
        if unknown:
            raise FormulaError(
                f"this program has no tensor {unknown[0]} to be given",
                hint=f"it takes {', '.join(system.inputs)}",
            )
        missing = [t for t in system.updates if t not in state]
        if missing:
            raise FormulaError(f"the state lacks {', '.join(sorted(missing))}")
        given = {t: np.asarray(numbers(t, a), self.dtype) for t, a in state.items()}
        self._state, self._kept = memory.whole_lines(given)
        self._data = tuple(t for t in system.inputs if t not in state)
        self._batch = batch_axes(system, frozenset(self._data))
        self._lock = threading.Lock()
        self._instances: dict[Any, Instance] = {}

    def state(self) -> dict[str, Array]:
        """The tensors of the state as they are now, in the program's own shapes."""
        return {t: a.copy() for t, a in self._state.items()}

    def put(self, /, **arrays: Any) -> None:
        """Overwrite tensors of the state, a learning rate say; their shapes stay."""
        for t, a in arrays.items():
            array = numbers(t, a)
            if t not in self._state or array.shape != self._state[t].shape:
                shapes = ", ".join(f"{n}{list(x.shape)}" for n, x in self._state.items())
                raise FormulaError(
                    f"the state has no {t} of shape {list(array.shape)}", hint=f"it has {shapes}"
                )
            with self._lock:
                self._state[t][...] = array

    def run(
        self,
        data: Mapping[str, Any],
        order: Any = None,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        """Take a step for each batch of rows; the objective's value at each step.

        data      arrays whose first axis is the batch
        order     the rows in the order they are taken; by default all, as they stand
        progress  called with the steps done and their number, ten times a second or more often
        """
        arrays = self._arrays(data)
        rows = len(next(iter(arrays.values())))
        picked = _order(order, rows)
        if not _is_count(batch_size):
            raise FormulaError(f"batch_size={batch_size!r} is not a number of rows")
        steps = -(-len(picked) // int(batch_size))
        losses = np.zeros(steps)
        if not steps:
            return losses
        with self._lock:
            instance = self._instance(arrays, min(int(batch_size), len(picked)))
            for t, a in arrays.items():
                if t in instance.outline.buffers:
                    instance.point(instance.outline.buffers[t].slot, address_of(a))
            instance.set(
                order=address_of(picked),
                losses=address_of(losses),
                rows=len(picked),
                batch=int(batch_size),
            )
            self._steps(instance, steps, progress)
        return losses

    def _steps(
        self, instance: Instance, steps: int, progress: Callable[[int, int], None] | None
    ) -> None:
        """Whole chunks of steps, as many as fit into the time between two looks at Python."""
        done, chunk = 0, 1
        while done < steps:
            stop = min(done + chunk, steps)
            started = time.perf_counter()
            instance.set(step=done, stop=stop)
            instance.run()
            taken = (time.perf_counter() - started) / (stop - done)
            chunk = max(1, min(int(_CHUNK / max(taken, 1e-9)), 8 * chunk))
            done = stop
            if progress is not None:
                progress(done, steps)

    def _arrays(self, data: Mapping[str, Any]) -> dict[str, Array]:
        missing = [t for t in self._data if t not in data]
        if missing:
            raise FormulaError(
                f"missing: {', '.join(missing)}",
                hint="give it with the data, or with the state if it is not made of samples",
            )
        unknown = [t for t in data if t not in self._data]
        if unknown:
            raise FormulaError(f"this program takes no data {unknown[0]}")
        if not self._data or self._batch is None or not all(self._batch.get(t) for t in self._data):
            raise FormulaError(
                "the data of this program has no batch: no index stands alone on the first axis "
                f"of every one of {', '.join(self._data) or 'its tensors'}",
                hint="write an index for the samples, as in  x[b,i]",
            )
        arrays = {}
        for t in self._data:
            a = numbers(t, data[t])
            dtype = np.dtype(np.int64) if a.dtype.kind in "biu" else self.dtype
            arrays[t] = np.require(a, dtype, ("C", "A"))
            if a.ndim == 0:
                raise FormulaError(f"{t} has no axis for the samples")
        if len({len(a) for a in arrays.values()}) > 1:
            raise FormulaError(
                "the data's arrays differ in rows: "
                + ", ".join(f"{t} has {len(a)}" for t, a in arrays.items())
            )
        return arrays

    def _instance(self, arrays: Mapping[str, Array], rows: int) -> Instance:
        integers = frozenset(t for t, a in arrays.items() if a.dtype.kind == "i")
        shapes_key = tuple((t, a.shape[1:]) for t, a in arrays.items())
        key = shapes_key, integers, blocks(rows), rows > 1
        instance = self._instances.get(key)
        if instance is None:
            shapes = {t: (rows, *a.shape[1:]) for t, a in arrays.items()}
            shapes |= {t: a.shape for t, a in self._state.items()}
            ranges = checked_ranges(self.system, self._written, shapes)
            wanted = [t for t in self.system.outputs if t in self.system.updates]
            wanted += [self.objective] if self.objective is not None else []
            request = Request(
                self.system, ranges, self._batch or {}, tuple(wanted), integers,
                machine_for(str(self.dtype)), rows, True, self.objective, winograd=self.winograd,
            )  # fmt: skip
            code = code_for(request, str(self.dtype), self.cache)
            made = code.outline
            worth = made.multiply_adds(rows) >= WORTH_THREADS
            instance = Instance(code, self.threads if worth else 1)
            for t, a in self._state.items():
                if t in made.buffers:
                    instance.point(made.buffers[t].slot, address_of(a))
            if self.objective is not None:
                value = np.zeros((), self.dtype)
                instance.kept.append(value)
                instance.point(made.buffers[self.objective].slot, address_of(value))
            self._instances[key] = instance
        instance.place_rows(rows)
        return instance


def _objective(written: System, system: System) -> str | None:
    """The scalar that the program's gradients are of."""
    of = {e.of: None for s in written.statements for e in walk(s.body) if isinstance(e, Grad)}
    if of:
        return next(iter(of))
    scalars = [s.target for s in system.statements if not s.axes and not s.is_update]
    return scalars[0] if len(scalars) == 1 else None


def _order(order: Any, rows: int) -> NDArray[np.int64]:
    if order is None:
        return np.arange(rows, dtype=np.int64)
    picked = np.asarray(order)
    if picked.ndim != 1 or (picked.size and picked.dtype.kind not in "iu"):
        raise FormulaError("order is a list of row numbers", hint="order=rng.permutation(len(X))")
    picked = np.require(picked, np.int64, ("C", "A"))
    if picked.size and (picked.min() < 0 or picked.max() >= rows):
        raise FormulaError(
            f"order names row {int(picked.min() if picked.min() < 0 else picked.max())}, "
            f"the data has rows 0 to {rows - 1}"
        )
    return picked


def _is_count(n: Any) -> bool:
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool) and int(n) >= 1
