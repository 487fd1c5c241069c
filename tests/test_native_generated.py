"""Generated programs, forward and backward, with every buffer against a page out of bounds.

They run in a process of their own: an access outside ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from guard import unavailable

HERE = os.path.dirname(__file__)
PROGRAMS = 30  # of each type in a test run; python native_generated.py FIRST LAST for more
TILED = 16  # of each type, with sums over windows by tiles
NARROW = 12  # with few channels


def run(*words: str) -> None:
    command = [sys.executable, "native_generated.py", *words]
    done = subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.skipif(bool(unavailable), reason=unavailable or "-")
@pytest.mark.parametrize(("dtype", "first"), [("float64", 0), ("float32", 500)])
def test_generated_programs(dtype: str, first: int) -> None:
    run(str(first), str(first + PROGRAMS), dtype)


@pytest.mark.skipif(bool(unavailable), reason=unavailable or "-")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_chosen_programs(dtype: str) -> None:
    run("chosen", dtype)


@pytest.mark.skipif(bool(unavailable), reason=unavailable or "-")
@pytest.mark.parametrize(("dtype", "first"), [("float64", 0), ("float32", 500)])
def test_sums_by_tiles(dtype: str, first: int) -> None:
    run("tiles", str(first), str(first + TILED), dtype)


@pytest.mark.skipif(bool(unavailable), reason=unavailable or "-")
def test_two_results_in_a_register() -> None:
    run("narrow", "0", str(NARROW))


@pytest.mark.skipif(bool(unavailable), reason=unavailable or "-")
@pytest.mark.parametrize(("dtype", "first"), [("float64", 0), ("float32", 500)])
def test_all_taps_side_by_side(dtype: str, first: int) -> None:
    run("overlap", str(first), str(first + NARROW), dtype)


@pytest.mark.skipif(bool(unavailable), reason=unavailable or "-")
@pytest.mark.parametrize(("dtype", "first"), [("float64", 0), ("float32", 500)])
def test_data_in_panels(dtype: str, first: int) -> None:
    run("panels", str(first), str(first + TILED), dtype)
