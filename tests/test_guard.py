"""The guard pages themselves: inside is free, one byte outside ends the process."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import guard

pytestmark = pytest.mark.skipif(bool(guard.unavailable), reason=guard.unavailable)

TOUCH = """
import ctypes, sys
import numpy as np
import guard
side, size, offset, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if how == "array":
    kept = guard.guarded_array(np.zeros(size, np.int8), side)
    address = kept.ctypes.data
else:
    (address,), kept = guard.Guarded(side, 1)([size])
print(ctypes.c_char.from_address(address + offset).value)
ctypes.c_char.from_address(address + offset).value = b"x"
print("alive")
"""


def touch(
    side: str, size: int, offset: int, how: str = "memory"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TOUCH, side, str(size), str(offset), how],
        env={**os.environ, "PYTHONPATH": str(Path(guard.__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("side", "size", "offset"),
    [("end", 40, 40), ("end", guard.PAGE, guard.PAGE), ("start", 40, -1), ("end", guard.PAGE, -1)],
)
@pytest.mark.parametrize("how", ["memory", "array"])
def test_a_touch_outside_is_seen(side: str, size: int, offset: int, how: str) -> None:
    died = touch(side, size, offset, how)
    assert died.returncode < 0, died
    inside = touch(side, size, min(max(offset, 0), size - 1), how)
    assert inside.stdout == "b'\\x00'\nalive\n"


@pytest.mark.parametrize("side", ["end", "start"])
def test_buffers_are_zeroed_and_apart(side: guard.Side) -> None:
    sizes = [4, 0, 4096, 12, 100_000]
    addresses, kept = guard.Guarded(side)(sizes)
    for k, (address, size) in enumerate(zip(addresses, sizes, strict=True)):
        assert address % 4 == 0
        assert ctypes.string_at(address, size) == bytes(size)
        ctypes.memset(address, k, size)
    for k, (address, size) in enumerate(zip(addresses, sizes, strict=True)):
        assert ctypes.string_at(address, size) == bytes([k]) * size
    assert kept is not None


def test_an_array_keeps_its_values() -> None:
    given = np.arange(12.0).reshape(3, 4)
    for side in ("end", "start"):
        np.testing.assert_array_equal(guard.guarded_array(given.T, side), given.T)
    assert guard.guarded_array(np.zeros((0, 3))).shape == (0, 3)
