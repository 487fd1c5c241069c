"""Results as lines for the terminal and as docs/benchmarks.md."""

from __future__ import annotations

from typing import Any

# What the engine is to reach: the ratio to PyTorch's best at batch 16, 64 and 256, and the share
# of the multiply-add limit.
FLOORS: dict[str, tuple[float, float, float]] = {
    "lenet": (5, 3.5, 3.5),
    "mnist-small": (2.5, 2.2, 2.2),
    "mnist-keras": (1.6, 1.45, 1.45),
    "cifar-vgg": (1.2, 1.2, 1.3),
    "mlp": (3, 2, 1.3),
}
SHARES = {"cifar-vgg": 0.85, "mnist-keras": 0.80, "mnist-small": 0.70, "lenet": 0.55}
WORKED_FLOOR, INFERENCE_FLOOR, ONNX_FLOOR, CONV_MEAN, CONV_LEAST = 20, 8, 1, 1.0, 0.7
BATCHES = (16, 64, 256)

HOW = """\
How it was measured: all candidates live in one process and take turns, round after round, with a
pause before each turn in which the threads of the one before go to sleep; the table has the median
of the rounds. Threads are the cores the process may use, for everyone. A step is forward, softmax
cross-entropy, backward and plain gradient descent in float32. PyTorch takes batches as views that
cost nothing, with its fused optimizer; chainrule gathers rows by an order, as training does. All
start from the same values, and their losses after two steps are compared before any time counts.
`torch.compile` compiles the model and the loss for the one batch size. GFLOP/s count only the
multiply-adds that the formulas ask for: none on padding, no input gradient of the first layer.
Sums over windows of three take fewer (docs/native.md), so the rate may pass the limit. The limit
is a loop of independent multiply-adds on all cores, timed in the same rounds. Times to derive (from
the program's text) and to compile (until the first step, whose own time is taken off) are of new
processes, imports apart; warm is with the object code in the cache on disk. Memory is the peak
resident size of a process that only trains, imports and data included.
"""


def machine_text(machine: dict[str, Any]) -> str:
    """One line: processor and versions."""
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    return (
        f"{machine['cpu']} (LLVM: {machine['llvm_cpu']}, vectors of {machine['vector_bytes']} "
        f"bytes), {machine['threads']} threads; {versions}"
    )


def network_text(row: dict[str, Any]) -> str:
    """One line a network and batch size."""
    speeds = "  ".join(f"{k} {v:,.0f}" for k, v in row["samples_per_second"].items())
    share = f"{row['share_of_peak']:.0%}" if row["share_of_peak"] else "-"
    floor = FLOORS[row["network"]][BATCHES.index(row["batch"])] if row["batch"] in BATCHES else None
    return (
        f"{row['network']:12} batch {row['batch']:3}  {_times(row['ratio'], floor):>14}  "
        f"{share:>4} of {row['peak_gflops']:.0f} GFLOP/s   samples/s: {speeds}"
        f"   losses {_spread(row['losses_after_2_steps'])}"
    )


def rates_text(name: str, row: dict[str, Any], key: str) -> str:
    """One line of rates and ratios."""
    speeds = "  ".join(f"{k} {v:,.0f}" for k, v in row[key].items())
    ratios = "  ".join(f"{k} {_times(v)}" for k, v in row.items() if k.startswith("ratio"))
    return f"{name:12} {ratios}   per second: {speeds}"


def _spread(losses: dict[str, float]) -> str:
    """How far the losses of the candidates are apart."""
    if not losses:
        return "-"
    return f"agree to {max(losses.values()) - min(losses.values()):.1e}"


def _times(ratio: float | None, floor: float | None = None) -> str:
    if ratio is None:
        return "-"
    text = f"{ratio:.2f}x"
    if floor is None:
        return text
    return f"{text} ({floor:g}x)" if ratio >= floor else f"{text} (<{floor:g}x)"


def markdown(runs: list[dict[str, Any]]) -> str:
    """The page, from the latest run and, for the ratios, the one before."""
    run = runs[0]
    parts = [
        "# Benchmarks\n",
        "`make bench` writes this page; `make bench ONLY=lenet` prints one network.\n",
        f"{machine_text(run['machine'])}; {run['machine']['date']}.\n",
        HOW,
        "## Training, samples per second\n",
        _networks(runs),
        _short(run),
        "## Single convolutions\n",
        _convolutions(run.get("convolutions")),
        "## Compile time and memory\n",
        _alone(run),
    ]
    missed = _missed(run)
    parts += ["## What falls short\n", "\n".join(f"- {m}" for m in missed) or "Nothing.", ""]
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)]) + "\n"


def _networks(runs: list[dict[str, Any]]) -> str:
    before = {(r["network"], r["batch"]): r["ratio"] for run in runs[1:] for r in run["networks"]}
    names = ["eager", "channels_last", "compile", "chainrule"]
    rows = []
    for r in runs[0]["networks"]:
        speeds = [
            f"{r['samples_per_second'][n]:,.0f}" if n in r["samples_per_second"] else "-"
            for n in names
        ]
        floor = FLOORS[r["network"]][BATCHES.index(r["batch"])]
        rows.append(
            [
                r["network"],
                str(r["batch"]),
                *speeds,
                _times(r["ratio"]),
                _times(before.get((r["network"], r["batch"]))),
                f"{floor:g}x",
                f"{r['gflops'].get('chainrule', 0):,.0f}",
                f"{r['share_of_peak']:.0%}" if r["share_of_peak"] else "-",
            ]
        )
    head = ["network", "batch", "PyTorch", "channels last", "torch.compile", "chainrule"]
    return _table([*head, "ratio", "run before", "goal", "GFLOP/s", "of the limit"], rows)


def _short(run: dict[str, Any]) -> str:
    lines = []
    if "worked" in run:
        lines.append(
            f"The 5x5 example with a sigmoid, one sample a Python call: "
            f"{_rates(run['worked']['steps_per_second'])} steps per second, "
            f"{_times(run['worked']['ratio'])} (goal {WORKED_FLOOR}x).\n"
        )
    if "inference" in run:
        row = run["inference"]
        lines.append(
            f"Inference of one lenet image: {_rates(row['images_per_second'])} images per second; "
            f"{_times(row['ratio_to_pytorch'])} PyTorch's best (goal {INFERENCE_FLOOR}x), "
            f"{_times(row['ratio_to_onnxruntime'])} ONNX Runtime's (goal {ONNX_FLOOR}x).\n"
        )
    return "\n".join(lines)


def _rates(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())


def _convolutions(found: dict[str, Any] | None) -> str:
    if not found:
        return "Not measured.\n"
    rows = [
        [
            r["shape"],
            r["pass"],
            *(f"{r['gflops'][n]:.1f}" if n in r["gflops"] else "-"
              for n in ("eager", "channels_last", "chainrule")),
            _times(r["ratio"]),
            f"{r['share_of_peak']:.0%}" if r["share_of_peak"] else "-",
        ]
        for r in found["rows"]
    ]  # fmt: skip
    s = found["summary"]
    head = ["layer", "pass", "PyTorch", "channels last", "chainrule", "ratio", "of the limit"]
    return (
        f"GFLOP/s; geometric mean of the ratios {_times(s['geometric_mean'])} (goal "
        f"{CONV_MEAN:g}x), least {_times(s['least'])} (goal {CONV_LEAST:g}x).\n\n"
        + _table(head, rows)
    )


def _alone(run: dict[str, Any]) -> str:
    memory = {r["network"]: r["mebibytes"] for r in run.get("memory", [])}
    compiled = run.get("compile", {})
    rows = []
    for name in FLOORS:
        times = compiled.get(name) or {}
        seconds = [times.get(f"{kind}_seconds") for kind in ("derive", "cold", "warm")]
        used = memory.get(name, {})
        rows.append(
            [name]
            + [f"{s:.2f} s" if s is not None else "-" for s in seconds]
            + [f"{v:,.0f} MiB" if v else "-" for v in (used.get("chainrule"), used.get("eager"))]
        )
    return _table(["network", "derive", "compile, cold", "warm", "memory", "PyTorch's"], rows)


def _missed(run: dict[str, Any]) -> list[str]:
    """Every goal that this run missed."""
    out = []
    for r in run["networks"]:
        floor = FLOORS[r["network"]][BATCHES.index(r["batch"])]
        if r["ratio"] is not None and r["ratio"] < floor:
            out.append(f"{r['network']}, batch {r['batch']}: {_times(r['ratio'])}, goal {floor:g}x")
        losses = r["losses_after_2_steps"].values()
        if losses and max(losses) - min(losses) > 1e-3 * max(losses):
            out.append(f"{r['network']}, batch {r['batch']}: the losses differ, so do the programs")
        share = SHARES.get(r["network"], 0)
        if r["share_of_peak"] is not None and r["share_of_peak"] < share:
            out.append(
                f"{r['network']}, batch {r['batch']}: {r['share_of_peak']:.0%} of the limit, "
                f"goal {share:.0%}"
            )
    single = [
        ("the 5x5 example", run.get("worked", {}).get("ratio"), WORKED_FLOOR),
        ("inference against PyTorch", run.get("inference", {}).get("ratio_to_pytorch"),
         INFERENCE_FLOOR),
        ("inference against ONNX Runtime", run.get("inference", {}).get("ratio_to_onnxruntime"),
         ONNX_FLOOR),
        ("convolutions, geometric mean",
         run.get("convolutions", {}).get("summary", {}).get("geometric_mean"), CONV_MEAN),
    ]  # fmt: skip
    out += [f"{n}: {_times(r)}, goal {g:g}x" for n, r, g in single if r is not None and r < g]
    out += [
        f"{r['shape']}, {r['pass']}: {_times(r['ratio'])}, goal {CONV_LEAST:g}x"
        for r in run.get("convolutions", {}).get("rows", [])
        if r["ratio"] is not None and r["ratio"] < CONV_LEAST
    ]
    for name, times in run.get("compile", {}).items():
        for kind, goal in (("cold", 1.5), ("warm", 0.1)):
            if times and times[f"{kind}_seconds"] > goal:
                out.append(f"{name}: {times[f'{kind}_seconds']:.2f} s {kind}, goal {goal:g} s")
    for r in run.get("memory", []):
        own, theirs = r["mebibytes"].get("chainrule"), r["mebibytes"].get("eager")
        if own and theirs and own > theirs:
            out.append(f"{r['network']}: {own:,.0f} MiB, PyTorch {theirs:,.0f} MiB")
    return out
