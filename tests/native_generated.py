"""Native code on generated programs: python native_generated.py FIRST LAST [float32] [THREADS].

With chosen for FIRST, on those of native_programs.py; with tiles for FIRST, on generated
convolutions whose sums are taken by tiles of windows: tiles FIRST LAST [float32]; with narrow, on
layers of few channels: narrow FIRST LAST; with overlap, on the convolutions of both, with all
taps' products side by side: overlap FIRST LAST [float32]; with panels, on generated convolutions
whose data is copied panel by panel: panels FIRST LAST [float32].  Each program and its gradient are
compared statement by statement with the reference, every buffer set against a page that nobody may
touch, at its end for even seeds and at its start for odd ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

import chainrule.native.compile as compile_
import native_programs
from chainrule import Program
from chainrule.native import memory, overlap, panels, runtime, windows
from generate import program
from guard import Guarded, guarded_array
from native_check import check, native
from native_programs import PROGRAMS


def guard(side: str, dtype: str) -> None:
    """Set every buffer of native code against a forbidden page."""
    memory.allocate = Guarded(side, alignment=np.dtype(dtype).itemsize)
    runtime.APART = True
    memory.new_array = lambda shape, kind: guarded_array(np.zeros(shape, kind), side)


def chosen(dtype: str) -> None:
    for name in PROGRAMS:
        p, arrays = native_programs.case(name)
        for side in ("start", "end"):
            guard(side, dtype)
            check(
                p, dtype, 2, **{t: guarded_array(a.astype(dtype), side) for t, a in arrays.items()}
            )


def same(found: dict[str, Any], expected: dict[str, Any], names: Iterable[str]) -> None:
    """The same values that are not finite, and the others near enough."""
    for t in names:
        a = expected[t]
        with np.errstate(over="ignore"):  # as it would be in the other's type
            a = a.astype(found[t].dtype)
        finite = np.isfinite(a)
        np.testing.assert_array_equal(found[t][~finite], a[~finite], err_msg=t)
        size = np.max(np.abs(a), initial=1e-30, where=finite)
        assert np.all(np.abs(found[t][finite] - a[finite]) <= 1e-4 * size), t


def tiles(first: int, last: int, dtype: str = "float64") -> None:
    """Sums over windows of three.

    Where a value is not finite, or huge, only tensors are compared whose sums read inside: what
    is outside counts as nothing in native sums, as 0 in the reference.
    """
    for seed in range(first, last):
        guard("start" if seed % 2 else "end", dtype)
        windows._TILES = ((4,), (2,))[seed // 2 % 2]
        p, arrays = native_programs.window_case(seed, 1e30 if dtype == "float32" else 1e200)
        given = {t: guarded_array(a.astype(dtype), "end") for t, a in arrays.items()}
        try:
            if all(np.max(np.abs(a)) < 1e20 for a in arrays.values()):
                check(p, dtype, 1 + seed % 3, tiles=True, **given)
            else:
                inside = [t for t in ("y", "w", "δw") if t in p.expanded.system.outputs]
                with np.errstate(all="ignore"):
                    same(native(p, dtype, **given), p.expanded.run(**given), inside)
        except Exception:
            print(f"seed {seed}\n{p}\n{ {t: a.shape for t, a in arrays.items()} }",
                  file=sys.stderr)  # fmt: skip
            raise


def narrow(first: int, last: int) -> None:
    """Layers whose channels fill half a register."""
    for seed in range(first, last):
        guard("start" if seed % 2 else "end", "float64")
        p, arrays = native_programs.narrow_case(seed)
        given = {t: guarded_array(a, "end") for t, a in arrays.items()}
        try:
            for t, a in p.run(**arrays).items():
                if t not in ("h", "δh"):  # what is asked for lies as its reader expects it
                    f = p.compile(cache=False, dtype="float64", threads=2)
                    found = f(outputs=[t], **given)[t]
                    np.testing.assert_allclose(
                        found, a, rtol=0, atol=1e-10 * np.max(np.abs(a), initial=1), err_msg=t
                    )
        except Exception:
            print(f"seed {seed}\n{p}", file=sys.stderr)
            raise


def main(first: int, last: int, dtype: str = "float64", threads: str = "2") -> None:
    for seed in range(first, last):
        guard("start" if seed % 2 else "end", dtype)
        case = program(seed, ties=seed % 3 == 0)
        arrays = case.floats()
        if case.upstream is not None:
            arrays[f"δ{case.of}"] = case.upstream.astype(float)
        p = Program(case.text)
        for q in (p, p.gradient(of=case.of, wrt=case.wrt)):
            try:
                check(q, dtype, int(threads), **{t: arrays[t] for t in q.inputs})
            except Exception:
                print(f"seed {seed}\n{q}", file=sys.stderr)
                raise


if __name__ == "__main__":
    compile_.WORTH_THREADS = 0  # small as they are, they run on several threads
    mode, *numbers = sys.argv[1:]
    if mode == "chosen":
        chosen(*numbers)
    elif mode == "tiles":  # whatever it costs
        windows.LEAST, windows.GAIN = 1, float("inf")
        tiles(int(numbers[0]), int(numbers[1]), *numbers[2:])
    elif mode == "narrow":  # two results at once, on any processor
        real = compile_.machine_for
        compile_.machine_for = lambda dtype: replace(real(dtype), pairs=True)
        narrow(int(numbers[0]), int(numbers[1]))
    elif mode == "panels":  # short ones, of tensors that are small and seldom read
        panels._NEAR_SETS, panels.COPY_USES, panels.ALIGNMENT, panels._KEPT = 4, 0, 16, 0.0
        windows.LEAST, overlap.GAIN = 1, 0.0
        for windows.GAIN in (0.0, float("inf")):  # without tiles, and beside them
            tiles(int(numbers[0]), int(numbers[1]), *numbers[2:])
    elif mode == "overlap":
        windows.GAIN, overlap.GAIN = 0.0, float("inf")
        tiles(int(numbers[0]), int(numbers[1]), *numbers[2:])
        overlap._Maker.cost = lambda self, e, found, some: -len(some)  # of all windows
        narrow(int(numbers[0]), int(numbers[1]))
    else:
        main(int(mode), int(numbers[0]), *numbers[1:])
