"""What code is made for: the host, or a processor named in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chainrule.errors import FormulaError
from chainrule.native import host

X86 = str(host.target().triple).startswith("x86_64")
only_x86 = pytest.mark.skipif(not X86, reason="the names are of x86 processors")


def test_the_host_has_vectors_and_cores() -> None:
    assert host.vector_bytes() in (16, 32, 64)
    assert host.cpu_name()
    assert 1 <= host.cores() <= (os.cpu_count() or 1)
    assert host.target_machine(opt=2).triple == host.target().triple


@only_x86
@pytest.mark.parametrize(
    ("name", "width", "fused"),
    [("x86-64", 16, False), ("x86-64-v2", 16, False), ("x86-64-v3", 32, True)],
)
def test_a_processor_can_be_forced(
    name: str, width: int, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = host.host()
    if width > here.vector_bytes or (fused and not here.fused):
        pytest.skip("this host has less")
    monkeypatch.setenv("CHAINRULE_CPU", name)
    assert host.cpu_name() == name
    assert host.vector_bytes() == width
    assert host.host().fused == fused


@only_x86
def test_a_forced_processor_uses_nothing_the_host_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    here = host.host()
    monkeypatch.setenv("CHAINRULE_CPU", "graniterapids")  # has nearly everything
    assert host.vector_bytes() <= here.vector_bytes
    lacking = {word for word in here.features.split(",") if word.startswith("-")}
    assert lacking <= set(host.features().split(","))


@pytest.mark.parametrize("name", ["nonsense", "pentium3", "-mcpu", "x86-64 "])
def test_an_unknown_processor_is_an_error_not_a_crash(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAINRULE_CPU", name)
    if name.strip() == "x86-64" and X86:
        assert host.cpu_name() == "x86-64"
        return
    with pytest.raises(FormulaError, match="CHAINRULE_CPU names the processor"):
        host.host()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_follow_the_affinity() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from chainrule.native import host; print(host.cores())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(host.__file__).parents[2])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("max", "100000", None), ("200000", "100000", 2.0), ("-1", "100000", None), ("x", "0", None)],
)
def test_a_quota_is_read(quota: str, period: str, cores: float | None) -> None:
    assert host._ratio(quota, period) == cores
