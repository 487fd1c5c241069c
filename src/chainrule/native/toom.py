"""F(m, r): m neighbouring results of r taps from fewer than m*r products.

The results y_i = Σ_l g_l d_{i+l}, i < m, take n = m+r-1 products instead of m*r.  Let D be the
linear map from polynomials of degree below n to numbers with D(x^j) = d_j; then y_i = D(x^i g(x))
for g(x) = Σ g_l x^l.  A polynomial q of degree n-1 is, for any n-1 points p,

    q(x) = Σ_p q(p) L_p(x) / f_p + lead(q) M(x),     M = Π_p (x-p),  L_p = M/(x-p),  f_p = L_p(p)

so with the numbers B_p = D(L_p), B_∞ = D(M), G_p = g(p), G_∞ = g_{r-1}

    y_i = Σ_p (p^i / f_p) G_p B_p + [i = m-1] G_∞ B_∞

(A. L. Toom, 1963; S. A. Cook, 1966; as filters S. Winograd, 1980; in networks A. Lavin and S. Gray,
2016.)  The points are 0, ±1 for four products and 0, ±1/2, ±2 for six: all coefficients of B and G
have a few bits only, and of such points these make κ, below, small: 4, and 15 1/4 (F(4, 3)) or
16 1/4 (F(3, 4)), where the usual 0, ±1, ±2 makes it 29 1/3.

Rounding.  With u the unit of roundoff, κ = max_i Σ_p |A_ip| max_l |G_pl| Σ_j |B_pj| for each axis
of a window, and N the roundings on the longest way (n in a transform, and the terms of the sum
over channels c):

    |error of y_i|  <=  N u κ₁κ₂ Σ_c (Σ_l |g_lc|) max_j |d_jc|  +  O(u²)

since every product is at most max_l |G_pl| Σ_l |g_l| times Σ_j |B_pj| max_j |d_j|.  The maximum is
over a whole tile: a result next to huge numbers is less exact than if it were summed by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias, TypeVar

V = TypeVar("V")

_POINTS = {
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    6: (Fraction(0), Fraction(1, 2), Fraction(-1, 2), Fraction(2), Fraction(-2)),
}

Matrix: TypeAlias = "tuple[tuple[Fraction, ...], ...]"


def guard_limit(element: int) -> float:
    """Sums of squares up to this say that nothing in here overflows.

    Then no number is above 2**40, no transformed one above 2**49, no product above 2**98; with
    numbers of eight bytes there is as much room.
    """
    return 2.0**80 if element == 4 else 2.0**640


@lru_cache
def matrices(m: int, r: int) -> tuple[Matrix, Matrix, Matrix]:
    """A (m by n), B (n by n) and G (n by r) of F(m, r)."""
    points = _POINTS[m + r - 1]
    a: list[list[Fraction]] = []
    b: list[list[Fraction]] = []
    g: list[list[Fraction]] = []
    for p in points:
        others = [q for q in points if q != p]
        f = math.prod((p - q for q in others), start=Fraction(1))
        a.append([p**i / f for i in range(m)])
        b.append([*_polynomial(others), Fraction(0)])
        g.append([p**k for k in range(r)])
    a.append([Fraction(i == m - 1) for i in range(m)])
    b.append(_polynomial(points))
    g.append([Fraction(k == r - 1) for k in range(r)])
    return tuple(zip(*a, strict=True)), tuple(map(tuple, b)), tuple(map(tuple, g))


def _polynomial(roots: Iterable[Fraction]) -> list[Fraction]:
    """Coefficients of Π (x - root), the constant first."""
    made = [Fraction(1)]
    for root in roots:
        shifted, same = [Fraction(0), *made], [*made, Fraction(0)]
        made = [low - root * high for low, high in zip(shifted, same, strict=True)]
    return made


def growth(m: int, r: int) -> Fraction:
    """κ of one axis."""
    a, b, g = matrices(m, r)
    sizes = [max(map(abs, gs)) * sum(map(abs, bs)) for gs, bs in zip(g, b, strict=True)]
    return max(sum((abs(x) * s for x, s in zip(row, sizes, strict=True)), Fraction(0)) for row in a)


# ---------------------------------------------------------------- a matrix along each axis


def applied(
    matrix: Matrix,
    axes: int,
    value: Callable[[Sequence[int]], V],
    line: Callable[[Sequence[Fraction], Sequence[V]], V],
) -> list[V]:
    """A matrix times values along one axis or two, row by row.

    value   the one at a place
    line    Σ of numbers times values
    """
    n = len(matrix[0])
    if axes == 1:
        return _times(matrix, [value((j,)) for j in range(n)], line)
    columns = [_times(matrix, [value((i, j)) for i in range(n)], line) for j in range(n)]
    return [e for row in zip(*columns, strict=True) for e in _times(matrix, row, line)]


def _times(
    matrix: Matrix, values: Sequence[V], line: Callable[[Sequence[Fraction], Sequence[V]], V]
) -> list[V]:
    """A matrix times a vector.

    Two columns that differ in signs only, as those of p and -p in A, take the sum and the
    difference of their values; two rows that do, as in B and G, are a sum and a difference.
    """
    columns, terms = [list(c) for c in zip(*matrix, strict=True)], list(values)
    for i, j in itertools.combinations(range(len(terms)), 2):
        if _only_signs(columns[i], columns[j], 2):
            columns[i], columns[j] = _split(columns[i], columns[j])
            pair = terms[i], terms[j]
            terms[i], terms[j] = line(_SUM, pair), line(_DIFFERENCE, pair)
    rows = [list(row) for row in zip(*columns, strict=True)]
    found: dict[int, V] = {}
    for i, j in itertools.combinations(range(len(rows)), 2):
        if not {i, j} & found.keys() and _only_signs(rows[i], rows[j], 3):
            parts = [line(row, terms) for row in _split(rows[i], rows[j])]
            found[i], found[j] = line(_SUM, parts), line(_DIFFERENCE, parts)
    return [found[i] if i in found else line(row, terms) for i, row in enumerate(rows)]


_SUM, _DIFFERENCE = (Fraction(1), Fraction(1)), (Fraction(1), Fraction(-1))


def _only_signs(a: Sequence[Fraction], b: Sequence[Fraction], least: int) -> bool:
    """Whether two lines of so many numbers at least differ in signs, and in nothing else."""
    return a != b and sum(map(bool, a)) >= least and list(map(abs, a)) == list(map(abs, b))


def _split(a: Sequence[Fraction], b: Sequence[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """What two such lines have in common, and what the first has and the second has negated."""
    pairs = list(zip(a, b, strict=True))
    return [x if x == y else Fraction(0) for x, y in pairs], [
        x if x != y else Fraction(0) for x, y in pairs
    ]
