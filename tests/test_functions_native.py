"""The native functions: accuracy on a sample of all floats, special values, every width.

scripts/function_accuracy.py measures all 2**32 floats; here every few thousandth must do.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llvmlite import ir

from chainrule.functions import FUNCTIONS
from chainrule.native import host, mathfn

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import function_accuracy as accuracy

X86 = str(host.target().triple).startswith("x86_64")
# The oldest has neither a fused multiply-add nor rounding; the middle one has vectors of 32 bytes.
CPUS = ["", "x86-64", "x86-64-v3"] if X86 else [""]


@pytest.fixture(params=CPUS, ids=lambda cpu: cpu or "host")
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CHAINRULE_CPU", request.param)
    return str(request.param)


def test_every_scalar_function_has_an_emitter() -> None:
    assert set(mathfn.EMITTERS) == set(FUNCTIONS)


@pytest.mark.parametrize("name", accuracy.REFERENCE)
def test_float32_errors_stay_within_two_units(name: str) -> None:
    for cpu, found in accuracy.exhaustive(name, 8191, [cpu or "host" for cpu in CPUS]).items():
        assert found["special_values_wrong"] == 0, cpu
        assert found["worst_ulp"] <= 2, (cpu, found)


def test_the_measure_sees_an_error() -> None:
    true = np.array([1.0, 2.0**-149, 2.0**127, np.inf, np.nan, 1e39, -0.0])
    value = np.array([1.0, 2.0**-149, 2.0**127, np.inf, np.nan, np.inf, 0.0], np.float32)
    assert not accuracy.float32_errors(value, true).any()
    off = np.nextafter(value, np.float32(np.inf))
    off[3:6] = [2.0**127, 0.0, 2.0**127]
    errors = accuracy.float32_errors(off, true)
    np.testing.assert_array_equal(errors[:3], 1)
    assert (errors[3:6] >= 1).all()
    off[6] = np.nan
    assert np.isinf(accuracy.float32_errors(off, true)[[4, 6]]).all()


@pytest.mark.parametrize("name", accuracy.RANGES)
def test_float64_agrees_with_other_libraries(name: str, cpu: str) -> None:
    low, high = accuracy.RANGES[name]
    draw = np.random.default_rng(3)
    x = np.concatenate([draw.uniform(max(low, -30.0), min(high, 30.0), 3000), [high]])
    with np.errstate(all="ignore"):
        true = accuracy.REFERENCE[name](x)
    tolerance = 2e-13 if name == "gelu" else 3e-15  # SciPy's normal tail is itself off by some
    np.testing.assert_allclose(accuracy.Native(name, "float64")(x), true, rtol=tolerance, atol=0)


def special(dtype: str) -> Any:
    tiny, huge = (1e-44, 1e38) if dtype == "float32" else (1e-320, 1e300)
    plain = [0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 7.0, tiny, huge, 2.0**40, 2.0**60, np.inf]
    return np.array([*plain, *(-p for p in plain), np.nan], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [n for n, f in FUNCTIONS.items() if f.arity == 1])
def test_special_values(name: str, dtype: str, cpu: str) -> None:
    x = special(dtype)
    with np.errstate(all="ignore"):
        true = FUNCTIONS[name].value(x.astype(np.float64)).astype(dtype)
    found = accuracy.Native(name, dtype)(x)
    least = float(np.finfo(dtype).smallest_subnormal)
    # FUNCTIONS' gelu loses digits in its lower tail: it subtracts
    rtol = 1e-5 if name == "gelu" else 3e-7 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(found, true, rtol=rtol, atol=least)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["pow", "maximum", "minimum"])
def test_special_pairs(name: str, dtype: str, cpu: str) -> None:
    a, b = map(np.array, zip(*itertools.product(special(dtype), repeat=2), strict=True))
    with np.errstate(all="ignore"):
        true = FUNCTIONS[name].value(a, b)
    found = accuracy.Native(name, dtype, 2)(a, b)
    rtol = 3e-7 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(found, true, rtol=rtol, atol=0)
    if name == "pow":
        number = ~np.isnan(true)
        np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(true[number]))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, 4.0, 0.5, -1.0, -2.0, 2.5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_exponents(exponent: float, dtype: str) -> None:
    x = special(dtype)
    short = accuracy.Native("pow", dtype, 1, exponent)(x)
    general = accuracy.Native("pow", dtype, 2)(x, np.full_like(x, exponent))
    rtol = 3e-7 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(short, general, rtol=rtol, atol=0)


def test_a_tie_takes_the_first() -> None:
    a, b = np.array([0.0, -0.0], np.float32), np.array([-0.0, 0.0], np.float32)
    for name in ("maximum", "minimum"):
        found = accuracy.Native(name, "float32", 2)(a, b)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(a))


def test_angles_of_every_size() -> None:
    x = np.array([1e22, 2.0**1000, 3.0, 1e300, 2.0**20, -1e22, 1.7e308])
    np.testing.assert_allclose(accuracy.Native("sin", "float64")(x), np.sin(x), rtol=1e-15, atol=0)
    np.testing.assert_allclose(accuracy.Native("cos", "float64")(x), np.cos(x), rtol=1e-15, atol=0)
    # The double nearest to an odd multiple of pi/2 (J.-M. Muller, "Elementary Functions", ch. 11).
    nearest = accuracy.Native("cos", "float64")(np.array([6381956970095103 * 2.0**797]))
    np.testing.assert_allclose(nearest, [-4.68716592425462761112e-19], rtol=2e-16, atol=0)


@pytest.mark.parametrize("name", sorted(accuracy.REFERENCE))
@pytest.mark.parametrize("lanes", [0, 2, 4, 16, 32])
def test_a_value_alone_gives_the_bits_of_a_vector(name: str, lanes: int) -> None:
    x = np.random.default_rng(0).normal(scale=3, size=64).astype("f4")
    if name == "sin":
        x[5] = 1e30  # one lane needs the long reduction, its neighbours do not
    found = accuracy.Native(name, "float32", lanes=lanes)(x)
    np.testing.assert_array_equal(found, accuracy.Native(name, "float32")(x))


def test_a_function_ends_where_the_builder_stands() -> None:
    function = ir.Function(ir.Module(), ir.FunctionType(ir.FloatType(), [ir.FloatType()]), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    value = mathfn.emit(builder, "sin", [function.args[0]])
    assert not builder.block.is_terminated
    builder.ret(mathfn.emit(builder, "cos", [value]))
    accuracy.llvm.parse_assembly(str(function.module)).verify()
