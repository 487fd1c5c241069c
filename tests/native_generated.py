"""Native code on generated programs: python native_generated.py FIRST LAST [float32] [THREADS].

Each program and its gradient are compared statement by statement with the reference, every buffer
set against a page that nobody may touch, at its end for even seeds and at its start for odd ones.
"""

from __future__ import annotations

import sys

import numpy as np

import chainrule.native.compile as compile_
from chainrule import Program
from chainrule.native import memory
from generate import program
from guard import Guarded, guarded_array
from native_check import check


def main(first: int, last: int, dtype: str = "float64", threads: str = "2") -> None:
    compile_.WORTH_THREADS = 0  # small as they are, they run on several threads
    for seed in range(first, last):
        side = "start" if seed % 2 else "end"
        memory.allocate = Guarded(side, alignment=np.dtype(dtype).itemsize)

        def new(shape: tuple[int, ...], kind: np.dtype, side: str = side) -> np.ndarray:
            return guarded_array(np.zeros(shape, kind), side)

        memory.new_array = new
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
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
