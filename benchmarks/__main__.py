"""Measure everything, print it, write docs/results/benchmarks.json and docs/benchmarks.md.

python -m benchmarks                       # what `make bench` runs
python -m benchmarks --only lenet          # what `make bench ONLY=lenet` runs; writes nothing
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from benchmarks import alone, convolutions, ours, peers, report, timing
from benchmarks.networks import NETWORKS, Network, worked_arrays
from chainrule.native import host

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "docs" / "results" / "benchmarks.json"
BATCHES = (16, 64, 256)
PARTS = ("worked", "inference", "convolutions", "compile", "memory")
MEMORY_BATCH = 64


def attempt(what: str, make: Callable[[], Any]) -> Any:
    """What make() returns; None, with a line that says why, where a peer or a part fails."""
    try:
        return make()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(f"  {what}: {type(error).__name__}: {lines[0][:120]}", flush=True)
        return None


def network_row(network: Network, batch: int, given: argparse.Namespace) -> dict[str, Any]:
    """Samples per second of every candidate, interleaved."""
    threads = given.threads
    x, y = network.data(max(512, 4 * batch))
    state = network.state()
    made: dict[str, Any] = {}
    if peers.torch is not None:
        flat = len(network.image) == 1
        for variant in peers.VARIANTS:
            if (variant == "channels_last" and flat) or (variant == "compile" and given.no_compile):
                continue
            made[variant] = attempt(
                variant, lambda v=variant: _started(peers.trainer(network, state, x, y, batch, v))
            )
    made["chainrule"] = attempt(
        "chainrule", lambda: _started(ours.trainer(network, state, x, y, batch, threads))
    )
    runs = {name: run for name, (run, _) in ((k, v) for k, v in made.items() if v)}
    first = {name: loss for name, (_, loss) in ((k, v) for k, v in made.items() if v)}
    peak = timing.Peak(threads)
    rates = timing.interleave({**runs, "peak": peak.run}, given.rounds, given.seconds)
    middle = timing.medians(rates)
    limit = peak.flops(middle.pop("peak"))
    samples = {name: batch * rate for name, rate in middle.items()}
    theirs = {name: s for name, s in samples.items() if name != "chainrule"}
    best = max(theirs, key=lambda name: theirs[name], default=None)
    own = samples.get("chainrule")
    flops = 2.0 * network.multiply_adds()
    return {
        "network": network.name,
        "batch": batch,
        "samples_per_second": samples,
        "spread": {k: [batch * min(r), batch * max(r)] for k, r in rates.items() if k != "peak"},
        "best_peer": best,
        "ratio": own / theirs[best] if own and best else None,
        "gflops": {name: flops * s / 1e9 for name, s in samples.items()},
        "peak_gflops": limit / 1e9,
        "share_of_peak": flops * own / limit if own else None,
        "losses_after_2_steps": first,
    }


def _started(run: Callable[[int], Any]) -> tuple[Callable[[int], Any], float]:
    """The run, and its loss after two steps from the common start: the peers must agree.

    Later ones of untrained networks need not: a rounding error more or less moves them.
    """
    return run, float(run(2)[-1])


def worked_row(given: argparse.Namespace) -> dict[str, Any]:
    """The 5x5 example: steps per second, the Python call included."""
    arrays = worked_arrays()
    made = {"chainrule": attempt("chainrule", lambda: _started(ours.worked_example(arrays)))}
    if peers.torch is not None:
        made["eager"] = attempt("eager", lambda: _started(peers.worked_example(arrays)))
    runs = {name: pair[0] for name, pair in made.items() if pair}
    rates = timing.medians(timing.interleave(runs, given.rounds, given.seconds))
    own, theirs = rates.get("chainrule"), rates.get("eager")
    return {
        "steps_per_second": rates,
        "ratio": own / theirs if own and theirs else None,
        "losses_after_2_steps": {name: pair[1] for name, pair in made.items() if pair},
    }


def inference_row(given: argparse.Namespace) -> dict[str, Any]:
    """One lenet image at a time."""
    network = NETWORKS["lenet"]
    state, image = network.state(), network.data(1)[0][0]
    made: dict[str, Any] = {
        "chainrule": attempt(
            "chainrule", lambda: ours.inference(network, state, image, given.threads)
        )
    }
    if peers.torch is not None:
        for variant in ("eager", "channels_last", *(() if given.no_compile else ("compile",))):
            made[variant] = attempt(
                variant, lambda v=variant: peers.inference(network, state, image, v)
            )
        if made["channels_last"] and given.threads > 1:
            made["channels_last, 1 thread"] = _with_one_thread(made["channels_last"], given.threads)
    for threads in sorted({1, given.threads}):
        made[f"onnxruntime, {threads} thread{'s' * (threads > 1)}"] = attempt(
            "onnxruntime", lambda n=threads: peers.onnx_inference(network, state, image, n)
        )
    outputs = {name: attempt(name, run) for name, run in made.items() if run}
    made = {name: made[name] for name, out in outputs.items() if out is not None}
    values = [np.ravel(out) for out in outputs.values() if out is not None]
    runs = {name: _repeated(run) for name, run in made.items()}
    rates = timing.medians(timing.interleave(runs, given.rounds, given.seconds))
    own = rates.get("chainrule")

    def against(prefixes: tuple[str, ...]) -> float | None:
        best = max((r for name, r in rates.items() if name.startswith(prefixes)), default=None)
        return own / best if own and best else None

    return {
        "images_per_second": rates,
        "ratio_to_pytorch": against(peers.VARIANTS),
        "ratio_to_onnxruntime": against(("onnxruntime",)),
        "largest_difference": max(float(np.max(np.abs(v - values[0]))) for v in values),
    }


def _with_one_thread(run: Callable[[], Any], usual: int) -> Callable[[], Any]:
    """A small network may be faster without a second thread; the switch costs a microsecond."""

    def call() -> Any:
        peers.torch.set_num_threads(1)
        out = run()
        peers.torch.set_num_threads(usual)
        return out

    return call


def _repeated(run: Callable[[], Any]) -> Callable[[int], Any]:
    def repeat(n: int) -> Any:
        for _ in range(n):
            out = run()
        return out

    return repeat


def memory_rows(names: list[str]) -> list[dict[str, Any]]:
    """Peak resident MiB of each way to train each network."""
    rows = []
    for name in names:
        row = {who: alone.memory(who, name, MEMORY_BATCH) for who in ("chainrule", "eager")}
        rows.append({"network": name, "mebibytes": row})
        print(f"  {name:12} " + "  ".join(f"{k} {v and round(v)} MiB" for k, v in row.items()))
    return rows


def machine(threads: int) -> dict[str, Any]:
    """What it was measured on and with."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    versions = {
        "python": platform.python_version(),
        "llvm": ".".join(map(str, llvm.llvm_version_info)),
    }
    for package in ("chainrule", "numpy", "llvmlite", "torch", "onnxruntime"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu": model,
        "llvm_cpu": host.cpu_name(),
        "vector_bytes": host.vector_bytes(),
        "threads": threads,
        "system": platform.system(),
        "load_before": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--only", default="", help=", ".join([*NETWORKS, *PARTS]))
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--threads", type=int, default=host.cores())
    parser.add_argument("--rounds", type=int, default=timing.ROUNDS)
    parser.add_argument("--seconds", type=float, default=timing.SECONDS)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else [*NETWORKS, *PARTS]
    unknown = set(wanted) - {*NETWORKS, *PARTS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if peers.torch is None:
        print("PyTorch is not installed here: only chainrule's own columns", file=sys.stderr)
    else:
        peers.torch.set_num_threads(given.threads)
    names = [name for name in NETWORKS if name in wanted]
    found: dict[str, Any] = {"machine": machine(given.threads), "networks": []}
    print(report.machine_text(found["machine"]), flush=True)
    load = found["machine"]["load_before"]
    if load and load[0] > 0.5:
        print(
            f"this machine is busy (load {load[0]:.1f}): thread pools that wait for each other "
            "suffer most, so expect unfair ratios",
            file=sys.stderr,
        )
    for name in names:
        for batch in given.batches:
            found["networks"].append(network_row(NETWORKS[name], batch, given))
            print(report.network_text(found["networks"][-1]), flush=True)
    if "worked" in wanted:
        found["worked"] = worked_row(given)
        print(report.rates_text("5x5 example", found["worked"], "steps_per_second"), flush=True)
    if "inference" in wanted:
        found["inference"] = inference_row(given)
        print(report.rates_text("one image", found["inference"], "images_per_second"), flush=True)
    if "convolutions" in wanted:
        rows = convolutions.measure(given.threads, given.rounds + 2)
        found["convolutions"] = {"rows": rows, "summary": convolutions.summary(rows)}
        print(f"  {found['convolutions']['summary']}", flush=True)
    if "compile" in wanted:
        found["compile"] = {name: alone.compile_times(name, 64) for name in NETWORKS}
        print(f"  {found['compile']}", flush=True)
    if "memory" in wanted:
        found["memory"] = memory_rows(list(NETWORKS))
    if not given.only:
        before = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else []
        runs = [found, *before[:1]]
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps({"runs": runs}, indent=1) + "\n", encoding="utf-8")
        (ROOT / "docs" / "benchmarks.md").write_text(report.markdown(runs), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
