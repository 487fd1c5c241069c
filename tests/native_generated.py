"""Native code on generated programs: python native_generated.py FIRST LAST [float32] [THREADS].

With chosen for FIRST, on those of native_programs.py.  Each program and its gradient are compared
statement by statement with the reference, every buffer set against a page that nobody may touch,
at its end for even seeds and at its start for odd ones.
"""

from __future__ import annotations

import sys

import numpy as np

import chainrule.native.compile as compile_
import native_programs
from chainrule import Program
from chainrule.native import memory
from generate import program
from guard import Guarded, guarded_array
from native_check import check
from native_programs import PROGRAMS


def guard(side: str, dtype: str) -> None:
    """Set every buffer of native code against a forbidden page."""
    memory.allocate = Guarded(side, alignment=np.dtype(dtype).itemsize)
    memory.new_array = lambda shape, kind: guarded_array(np.zeros(shape, kind), side)


def chosen(dtype: str) -> None:
    for name in PROGRAMS:
        p, arrays = native_programs.case(name)
        for side in ("start", "end"):
            guard(side, dtype)
            check(
                p, dtype, 2, **{t: guarded_array(a.astype(dtype), side) for t, a in arrays.items()}
            )


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
    if sys.argv[1] == "chosen":
        chosen(sys.argv[2])
    else:
        main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
