"""Measurements that need a process of their own: peak memory, and compile times cold and warm.

python -m benchmarks.alone memory chainrule lenet 64
python -m benchmarks.alone compile lenet 64
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.networks import NETWORKS

SECONDS = 1.5  # of training, for memory


def _memory(who: str, name: str, batch: int) -> dict[str, Any]:
    """Peak resident memory of a training run, imports and data included."""
    network = NETWORKS[name]
    x, y = network.data(8 * batch)
    state = network.state()
    if who == "chainrule":
        from benchmarks import ours
        from chainrule.native import host

        run: Any = ours.trainer(network, state, x, y, batch, host.cores())
    else:
        from benchmarks import peers

        run = peers.trainer(network, state, x, y, batch, who)
    run(1)
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        run(4)
    return {"mebibytes": _peak()}


def _peak() -> float:
    """Peak resident MiB of this process alone."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage there counts what the parent had when it started this one, too
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _compile(name: str, batch: int) -> dict[str, Any]:
    """Seconds to derive the program from its text, and then to have its code; imports apart."""
    from benchmarks import ours

    network = NETWORKS[name]
    x, y = network.data(batch)
    state = network.state()
    import chainrule.native.compile
    import chainrule.native.trainer  # noqa: F401

    began = time.perf_counter()
    program = network.training()
    derived = time.perf_counter()
    run = ours.trainer_of(program, state, x, y, batch)
    run(1)
    ready = time.perf_counter()
    run(1)
    step = time.perf_counter() - ready
    return {"derive": derived - began, "compile": ready - derived - step}


def memory(who: str, name: str, batch: int) -> float | None:
    """MiB of a process that trains with `who`: chainrule, or a variant of PyTorch."""
    found = _ask("memory", who, name, str(batch))
    return None if found is None else float(found["mebibytes"])


def compile_times(name: str, batch: int, times: int = 3) -> dict[str, float] | None:
    """The middle of a few: cold with an empty cache, warm with what the cold run left."""
    derive, cold, warm = [], [], []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            for found in (cold, warm):
                answer = _ask("compile", name, str(batch), CHAINRULE_CACHE=folder)
                if answer is None:
                    return None
                found.append(answer["compile"])
                derive.append(answer["derive"])
    return {
        "derive_seconds": statistics.median(derive),
        "cold_seconds": statistics.median(cold),
        "warm_seconds": statistics.median(warm),
    }


def _ask(*words: str, **environment: str) -> dict[str, Any] | None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.alone", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"{' '.join(words)}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "memory":
        print(json.dumps(_memory(rest[0], rest[1], int(rest[2]))))
    else:
        print(json.dumps(_compile(rest[0], int(rest[1]))))
