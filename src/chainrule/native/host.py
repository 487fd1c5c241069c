"""The processor that machine code is made for, as LLVM reports it, and the cores to run on.

`CHAINRULE_CPU` names another processor than the host's: `x86-64`, `x86-64-v3`, or any name that
LLVM knows.  Whatever the name promises, an instruction set that this host lacks stays switched
off, so a forced processor can be slower than the host but never crashes it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import llvmlite.binding as llvm

from chainrule.errors import FormulaError

# The levels of the x86-64 ABI are known to every LLVM; other names are tried first (_is_known).
_ABI_LEVELS = frozenset({"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"})

# What a vector multiply-add compiles to tells the register width and whether it is fused: LLVM
# splits the sixteen floats into the registers it prefers, and calls fmaf where it must.
_PROBE = """
define <16 x float> @probe(<16 x float> %a, <16 x float> %b) {
  %r = call <16 x float> @llvm.fma.v16f32(<16 x float> %a, <16 x float> %a, <16 x float> %b)
  ret <16 x float> %r
}
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
"""
_REGISTERS = (("zmm", 64), ("ymm", 32))  # x86 names; NEON and SSE2 both hold 16 bytes

# AVX-512 processors with two whole units (Intel's and AMD's optimization manuals); others have
# one, or two of half the width.
_PAIRS = frozenset({
    "skylake-avx512", "cascadelake", "cooperlake", "icelake-server", "sapphirerapids",
    "emeraldrapids", "graniterapids", "graniterapids-d", "znver5",
})  # fmt: skip

# Some AVX-512 processors are set to prefer 256-bit vectors; dense loops gain from all 512.
_WIDEST = "-prefer-256-bit"

_NAME_CHECK = (
    "import sys, llvmlite.binding as b; b.initialize_native_target(); "
    "b.initialize_native_asmprinter(); t = b.Target.from_default_triple(); "
    "b.parse_assembly(''); t.create_target_machine(cpu=sys.argv[1])"
    ".emit_assembly(b.parse_assembly('define void @f() { ret void }'))"
)


@dataclass(frozen=True)
class Host:
    """What code is made for: LLVM's processor name and feature string, and what they amount to.

    vector_bytes  the widest register: 64 with AVX-512, 32 with AVX, 16 with SSE2 or NEON
    fused         whether a multiply-add is one instruction that rounds once
    pairs         whether two multiply-adds of the widest registers start in a cycle
    """

    cpu: str
    features: str
    vector_bytes: int
    fused: bool
    pairs: bool


def cpu_name() -> str:
    """LLVM's name of the processor that code is made for."""
    return host().cpu


def features() -> str:
    """The feature string that goes with it, as `+avx2,-avx512f,...`."""
    return host().features


def vector_bytes() -> int:
    """The width in bytes of a vector register of that processor."""
    return host().vector_bytes


def host() -> Host:
    """The processor that code is made for: the host, or the one `CHAINRULE_CPU` names."""
    return _describe(os.environ.get("CHAINRULE_CPU", "").strip())


def target_machine(opt: int = 2) -> llvm.TargetMachine:
    """A new LLVM target machine for that processor; one serves one thread at a time."""
    described = host()
    return _machine(described.cpu, described.features, opt)


@lru_cache(maxsize=1)
def target() -> llvm.Target:
    """The native target, its back end initialised once per process."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple()


def _machine(cpu: str, feature_string: str, opt: int) -> llvm.TargetMachine:
    return target().create_target_machine(cpu=cpu, features=feature_string, opt=opt, jit=True)


@lru_cache(maxsize=8)
def _describe(forced: str) -> Host:
    known = llvm.get_host_cpu_features()
    extra = [_WIDEST] if _on_x86() else []
    if forced and forced != llvm.get_host_cpu_name():
        if forced not in _ABI_LEVELS or not _on_x86():
            _require_known(forced)
        cpu = forced
        words = [f"-{name}" for name, present in sorted(known.items()) if not present]
    else:
        cpu = llvm.get_host_cpu_name()
        words = [f"{'+' if present else '-'}{name}" for name, present in sorted(known.items())]
    feature_string = ",".join(words + extra)
    module = llvm.parse_assembly(_PROBE)
    module.triple = target().triple
    assembly = _machine(cpu, feature_string, 0).emit_assembly(module)
    width = next((bytes_ for name, bytes_ in _REGISTERS if name in assembly), 16)
    pairs = width < 64 or cpu in _PAIRS
    return Host(cpu, feature_string, width, fused="fmaf" not in assembly, pairs=pairs)


def _require_known(name: str) -> None:
    """Raise for a processor LLVM doesn't know.

    LLVM has no call that asks: it warns on the standard error stream, or ends the process.  So
    another process asks.
    """
    asked = subprocess.run(
        [sys.executable, "-c", _NAME_CHECK, name], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0 or "not a recognized processor" in asked.stderr:
        raise FormulaError(
            f"CHAINRULE_CPU names the processor {name!r}, which LLVM does not know on this machine",
            hint=f"leave CHAINRULE_CPU unset for {llvm.get_host_cpu_name()!r}"
            + (", or use one of " + ", ".join(sorted(_ABI_LEVELS)) if _on_x86() else ""),
        )


def _on_x86() -> bool:
    return str(target().triple).startswith(("x86", "i686"))


def cores() -> int:
    """The physical cores this process may use: its affinity, within its container's quota.

    Two hardware threads of one core share its multiply-add units, so they count once.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed: Iterable[int] = os.sched_getaffinity(0)
    else:
        allowed = range(_physical_elsewhere() or os.cpu_count() or 1)
    physical = len({_siblings(cpu) for cpu in allowed})
    quota = _cgroup_quota()
    return max(1, physical if quota is None else min(physical, int(quota)))


def _siblings(cpu: int) -> str:
    """The hardware threads that share a core with this one, in the kernel's notation."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    for name in ("core_cpus_list", "thread_siblings_list"):
        text = _read(topology / name)
        if text:
            return text
    return str(cpu)


def _physical_elsewhere() -> int | None:
    """The number of physical cores where the system says it in a call: macOS."""
    if platform.system() != "Darwin":
        return None
    import ctypes  # only here, and only on macOS

    count, size = ctypes.c_int(0), ctypes.c_size_t(4)
    library = ctypes.CDLL(None)
    failed = library.sysctlbyname(
        b"hw.physicalcpu", ctypes.byref(count), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return count.value if not failed and count.value > 0 else None


def _cgroup_quota() -> float | None:
    """The processors' time per time that the innermost limited control group grants (Linux)."""
    quotas = []
    for line in (_read(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2: one hierarchy, every ancestor may limit
            folder = Path("/sys/fs/cgroup") / group.lstrip("/")
            chain = [folder, *folder.parents]
            quotas += [_ratio(*(_read(f / "cpu.max") or "max 1").split()[:2]) for f in chain]
        elif "cpu" in controllers.split(","):
            for base in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu") / group[1:]):
                limit = _read(base / "cpu.cfs_quota_us") or "-1"
                quotas.append(_ratio(limit, _read(base / "cpu.cfs_period_us") or "100000"))
    limited = [q for q in quotas if q is not None]
    return min(limited, default=None)


def _ratio(quota: str, period: str) -> float | None:
    try:
        value = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max", or a file of another shape
    return value if value > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
