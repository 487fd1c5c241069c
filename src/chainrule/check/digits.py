"""The digits that a person kept: 0.0446 stands for everything that is rounded or cut to it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from chainrule.functions import Array

_OWN = 4
_FULL = {2: 4, 4: 7, 8: 13}  # as many significant digits as this: nobody has rounded


@dataclass(frozen=True)
class Kept:
    """Numbers with at most `decimals` decimals and `significant` significant digits."""

    decimals: int
    significant: int
    unit: Array  # one unit of each number's last digit, by the coarser of the two readings

    def text(self) -> str:
        return f"{self.significant} significant digits"


def kept(candidate: Any) -> list[Kept]:
    """How the numbers may have been rounded: to decimals, to significant digits, or not at all."""
    array = np.asarray(candidate)
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    c = np.abs(array.astype(np.float64))
    if not c.size or not np.all(np.isfinite(c)) or not np.any(c):
        return []
    texts = [Decimal(str(x)).normalize() for x in array.reshape(-1)]
    decimals = max(0, *(-int(d.as_tuple().exponent) for d in texts), 0)
    significant = max(len(d.as_tuple().digits) for d in texts)
    if significant >= _FULL.get(array.dtype.itemsize, 13):
        return []
    out = []
    unit = np.full(c.shape, 10.0**-decimals)
    out.append(Kept(decimals, significant, unit))
    if significant >= 2:
        with np.errstate(divide="ignore"):
            lead = np.where(c > 0, np.floor(np.log10(np.where(c > 0, c, 1.0))), 0.0)
        relative = np.where(c > 0, 10.0 ** (lead - significant + 1), 0.0)
        out.append(Kept(decimals, significant, relative))
    own = [d.as_tuple() for d in texts if d]
    if min(len(d.digits) for d in own) >= _OWN:  # each number by its own digits
        last = [10.0 ** min(0, int(d.as_tuple().exponent)) for d in texts]
        out.append(Kept(decimals, significant, np.where(c > 0, np.reshape(last, c.shape), 0.0)))
    return out


def printed_decimals(x: Array) -> int:
    """The number of decimals that all of these numbers get by with."""
    texts = (Decimal(str(v)).normalize() for v in x.reshape(-1) if np.isfinite(v))
    return max((max(0, -int(d.as_tuple().exponent)) for d in texts), default=0)


def rounding_of(
    candidate: Any,
    value: Array,
    tolerance: Array,
    readings: list[Kept],
    forgiving: bool = False,
) -> tuple[str, Kept] | None:
    """How `candidate` came from `value`: "rounded", or "cut" (off by less than one last digit).

    A number that had no more digits to lose must be met exactly; but where the data is `forgiving`,
    itself printed with as many decimals and no more, its last digit may be one off.
    """
    c = np.asarray(candidate, dtype=np.float64)
    if c.shape != value.shape:
        return None
    for how, part, least in (("rounded", 0.5, 2), ("cut", 1.0, 3)):
        for k in readings:
            few = k.significant < least or float(np.max(np.abs(c))) < 20 * float(np.max(k.unit))
            if few and (how == "cut" or c.size > 1 or not _near(c, value)):
                continue  # one digit alone says too little
            with np.errstate(all="ignore"):
                steps = np.where(k.unit > 0, value / np.where(k.unit > 0, k.unit, 1.0), 0.0)
                whole = np.abs(steps - np.round(steps)) * k.unit <= tolerance
            whole &= not (forgiving and how == "cut" and k.significant >= _OWN)
            slack = np.where(whole, 0.0, part * k.unit * (1 + 1e-9))
            if np.all(np.abs(c - value) <= slack + tolerance):
                return how, k
    return None


def _near(a: Array, b: Array) -> bool:
    return float(np.max(np.abs(a - b), initial=0.0)) <= 0.05 * float(np.max(np.abs(b)))


def agreeing_digits(candidate: Array, value: Array) -> int:
    """The number of significant digits in which all entries agree (tiny ones left aside)."""
    size = float(np.max(np.abs(value), initial=0.0))
    if size == 0 or not np.all(np.isfinite(candidate)):
        return 16 if np.array_equal(candidate, value) else 0
    large = np.abs(value) >= 1e-2 * size
    lead = 10.0 ** np.floor(np.log10(np.abs(value[large])))
    gap = float(np.max(np.abs(candidate - value)[large] / lead))
    return 16 if gap == 0 else min(16, max(0, int(np.floor(1 - np.log10(2 * gap)))))
