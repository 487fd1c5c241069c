"""Fit the polynomials of src/chainrule/native/mathfn.py and write coefficients.py beside it.

Each row of FITS is a function on an interval and the weight its error is divided by; Remez's
exchange finds the polynomial whose largest weighted error is least (E. Remez, 1934; the linear
form of Cheney, "Introduction to Approximation Theory", chapter 3).  Needs mpmath.

    python scripts/fit_functions.py            # prints the errors, writes the table
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath as mp

mp.mp.dps = 80
OUT = Path(__file__).parents[1] / "src" / "chainrule" / "native" / "coefficients.py"
Real = Any  # an mpf


@dataclass(frozen=True)
class Fit:
    """P of `degree` so that |target(x) - P(x)| / weight(x) is least on [low, high]."""

    name: str
    grade: str
    low: Real
    high: Real
    target: Callable[[Real], Real]
    weight: Callable[[Real], Real]
    degree: int
    fixed: Callable[[Real], Real] = lambda x: x  # the polynomial's variable as a function of x


def remez(fit: Fit) -> tuple[list[Real], Real]:
    """The coefficients, lowest power first, and the largest weighted error."""
    n = fit.degree
    low, high = mp.mpf(fit.low), mp.mpf(fit.high)
    points = [
        (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / (n + 1)) for k in range(n + 2)
    ]
    coefficients: list[Real] = []
    worst = mp.inf
    for _ in range(40):
        rows = []
        for k, x in enumerate(points):
            v = fit.fixed(x)
            rows.append([v**j for j in range(n + 1)] + [(-1) ** k * fit.weight(x)])
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([fit.target(x) for x in points]))
        coefficients = [solution[j] for j in range(n + 1)]
        levelled = abs(solution[n + 1])

        def error(x: Real, c: list[Real] = coefficients) -> Real:
            return (fit.target(x) - mp.polyval(c[::-1], fit.fixed(x))) / fit.weight(x)

        points, worst = extrema(error, points, low, high)
        if worst <= levelled * mp.mpf("1.001"):
            break
    return coefficients, worst


def extrema(
    error: Callable[[Real], Real], points: list[Real], low: Real, high: Real
) -> tuple[list[Real], Real]:
    """The new reference: in each gap between sign changes, the point of largest error."""
    zeros = [low]
    for a, b in pairwise(points):
        fa, fb = error(a), error(b)
        if fa * fb > 0:
            zeros.append((a + b) / 2)
            continue
        for _ in range(60):
            middle = (a + b) / 2
            fm = error(middle)
            if fa * fm <= 0:
                b = middle
            else:
                a, fa = middle, fm
        zeros.append((a + b) / 2)
    zeros.append(high)
    found = []
    for a, b in pairwise(zeros):
        grid = [a + (b - a) * k / 12 for k in range(13)]
        best = max(range(13), key=lambda k: abs(error(grid[k])))
        left, right = grid[max(0, best - 1)], grid[min(12, best + 1)]
        for _ in range(40):  # golden-section search in the bracket
            third = (right - left) * mp.mpf("0.381966")
            if abs(error(left + third)) < abs(error(right - third)):
                left += third
            else:
                right -= third
        ends = [(left + right) / 2, grid[best]]
        found.append(max(ends, key=lambda x: abs(error(x))))
    return found, max(abs(error(x)) for x in found)


HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.002")
ROOT_LOW, ROOT_HIGH = mp.sqrt(mp.mpf(1) / 2) * mp.mpf("0.9999"), mp.sqrt(2) * mp.mpf("1.0001")
TINY = mp.mpf(10) ** -18


def _exp_tail(r: Real) -> Real:
    """(exp(r) - 1 - r) / r**2, by its series: the closed form cancels near 0."""
    return sum(r**k / mp.factorial(k + 2) for k in range(40))


def _log1p_tail(f: Real) -> Real:
    """(log(1 + f) - f + f**2/2) / f**3."""
    if abs(f) < mp.mpf("1e-15"):
        return mp.mpf(1) / 3 - f / 4
    return (mp.log1p(f) - f + f * f / 2) / f**3


def _atanh_tail(z: Real) -> Real:
    """(2*atanh(s) - 2*s) / (s * z) at z = s**2."""
    return sum(2 * z**k / (2 * k + 3) for k in range(60))


def _atanh_rest(z: Real) -> Real:
    """(2*atanh(s) - 2*s - 2/3*s**3) / (s * z**2) at z = s**2."""
    return sum(2 * z**k / (2 * k + 5) for k in range(60))


def _tanh_tail(z: Real) -> Real:
    """(tanh(x) - x) / x**3 at z = x**2."""
    x = mp.sqrt(z)
    return (mp.tanh(x) - x) / x**3 if x > mp.mpf("1e-15") else -mp.mpf(1) / 3 + 2 * z / 15


def _erf_even(z: Real) -> Real:
    """erf(x)/x - 1 at z = x**2."""
    x = mp.sqrt(z)
    return (mp.erf(x) / x if x > 0 else 2 / mp.sqrt(mp.pi)) - 1


def _log_erfc(x: Real) -> Real:
    return mp.log(mp.erfc(x))


def _mills(u: Real, centre: Real) -> Real:
    """(t + centre) * exp(t*t/2) * P(N > t), t = centre*(1+u)/(1-u): between 2 and 1/2."""
    t = centre * (1 + u) / (1 - u)
    return (t + centre) * mp.exp(t * t / 2) * mp.erfc(t / mp.sqrt(2)) / 2


def _log1p_square(e: Real) -> Real:
    """(log(1 + e) - e) / e**2."""
    return (mp.log1p(e) - e) / e**2 if e > mp.mpf("1e-15") else e / 3 - mp.mpf(1) / 2


def _sin_tail(z: Real) -> Real:
    """(sin(r) - r) / r**3 at z = r**2."""
    return sum((-1) ** (k + 1) * z**k / mp.factorial(2 * k + 3) for k in range(30))


def _cos_tail(z: Real) -> Real:
    """(cos(r) - 1 + r**2/2) / r**4 at z = r**2."""
    return sum((-1) ** k * z**k / mp.factorial(2 * k + 4) for k in range(30))


MILLS_CENTRE = mp.mpf(4)
QUARTER = mp.pi / 4 * mp.mpf("1.0001")
ATANH_TOP = ((ROOT_HIGH - 1) / (ROOT_HIGH + 1)) ** 2


def one(x: Real) -> Real:
    """An absolute error."""
    return mp.mpf(1)


def fits() -> list[Fit]:
    """Every polynomial; the weights make each error relative to the function's value."""
    rows: list[Fit] = []

    def add(name: str, low: Any, high: Any, target: Any, weight: Any, **degrees: int) -> None:
        rows.extend(Fit(name, g, low, high, target, weight, d) for g, d in degrees.items())

    # exp(r) = 1 + r + r**2 * P(r)
    add(
        "exp",
        -HALF_LN2,
        HALF_LN2,
        _exp_tail,
        lambda r: mp.exp(r) / max(r * r, TINY),
        f32=4,
        mid=6,
        f64=9,
    )
    # log(1 + f) = f - f**2/2 + f**3 * P(f)
    add(
        "log",
        ROOT_LOW - 1,
        ROOT_HIGH - 1,
        _log1p_tail,
        lambda f: (mp.log1p(f) if f else 1) / (f**3 if abs(f) > TINY else TINY),
        f32=8,
    )
    # log(1 + f) = 2*s + s**3 * P(s**2), s = f/(2 + f)
    add("atanh", 0, ATANH_TOP, _atanh_tail, lambda z: 2 / max(z, TINY), mid=4, f64=6)
    # the same with one more term apart: 2*s + 2/3*s**3 + s**5 * P(s**2)
    add("atanh5", 0, ATANH_TOP, _atanh_rest, lambda z: 2 / max(z * z, TINY), f64=6)
    # tanh(x) = x + x**3 * P(x**2), |x| < 5/8
    add(
        "tanh",
        0,
        mp.mpf("0.625") ** 2,
        _tanh_tail,
        lambda z: mp.tanh(mp.sqrt(z)) / mp.sqrt(z) / z if z > TINY else 1 / TINY,
        f32=4,
        f64=11,
    )
    # erf(x) = x + x * P(x**2), |x| < 1
    add("erf", 0, 1, _erf_even, one, f32=6, f64=12)
    # log(erfc(x)) = P(x), 1 <= x <= 4 (float32), 6 (float64); error relative to erfc
    rows.append(
        Fit(
            "log_erfc", "f32", mp.mpf("0.99"), mp.mpf("4.1"), _log_erfc, lambda x: 1 / mp.erfc(x), 6
        )
    )
    rows.append(
        Fit(
            "log_erfc",
            "f64",
            mp.mpf("0.99"),
            mp.mpf("6.1"),
            _log_erfc,
            lambda x: 1 / mp.erfc(x),
            18,
        )
    )
    # P(N > t) = exp(-t*t/2) * P(u)/(t + c), u = (t - c)/(t + c)
    rows.append(
        Fit(
            "mills",
            "mid",
            -1,
            (15 - MILLS_CENTRE) / (15 + MILLS_CENTRE),
            lambda u: _mills(u, MILLS_CENTRE),
            lambda u: _mills(u, MILLS_CENTRE),
            12,
        )
    )
    rows.append(
        Fit(
            "mills",
            "f64",
            -1,
            (40 - MILLS_CENTRE) / (40 + MILLS_CENTRE),
            lambda u: _mills(u, MILLS_CENTRE),
            lambda u: _mills(u, MILLS_CENTRE),
            24,
        )
    )
    # log(1 + e) = e + e**2 * P(e), 0 <= e <= 1
    add(
        "log1p",
        0,
        1,
        _log1p_square,
        lambda e: mp.log1p(max(e, TINY)) / max(e, TINY) ** 2,
        mid=11,
        f64=20,
    )
    # sin(r) = r + r**3 * P(r**2), cos(r) = 1 - r**2/2 + r**4 * P(r**2), |r| <= pi/4
    add(
        "sin",
        0,
        QUARTER**2,
        _sin_tail,
        lambda z: mp.sin(mp.sqrt(z)) / mp.sqrt(z) / z if z > TINY else 1 / TINY,
        mid=3,
        f64=5,
    )
    add(
        "cos",
        0,
        QUARTER**2,
        _cos_tail,
        lambda z: mp.cos(mp.sqrt(z)) / max(z * z, TINY),
        mid=3,
        f64=5,
    )
    return rows


def _float32(value: Real) -> float:
    return float(struct.unpack("f", struct.pack("f", float(value)))[0])


def main() -> None:
    """Fit, report, write."""
    lines = [
        '"""Minimax polynomials for mathfn.py, lowest power first.',
        "",
        "Written by scripts/fit_functions.py, which says what each one approximates and where.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "MILLS_CENTRE = " + repr(float(MILLS_CENTRE)),
        "",
        "POLYNOMIALS: dict[tuple[str, str], tuple[float, ...]] = {",
    ]
    for fit in fits():
        coefficients, worst = remez(fit)
        print(f"{fit.name:9} {fit.grade}  degree {fit.degree:2}  2**{mp.nstr(mp.log(worst, 2), 4)}")
        exact = _float32 if fit.grade == "f32" else float
        lines.append(f'    ("{fit.name}", "{fit.grade}"): (')
        lines += [f'        float.fromhex("{exact(c).hex()}"),' for c in coefficients]
        lines.append("    ),")
    lines.append("}")
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
