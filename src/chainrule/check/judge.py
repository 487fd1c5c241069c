"""The verdict on an array: is it this value, up to what rounding explains?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.check.digits import Kept, kept, printed_decimals, rounding_of
from chainrule.check.estimate import DOUBLE, SINGLE, tolerance, unit_of
from chainrule.check.work import Work, as_floats
from chainrule.functions import Array


class Judge:
    """One candidate, held against the right value and against wrong ones.

    value       the candidate in float64
    right       what it should be
    tolerance   the error that is allowed in each element of it
    """

    def __init__(self, work: Work, raw: Any, name: str = "the candidate") -> None:
        self.raw = np.asarray(raw)
        self.value = as_floats(name, raw)
        self.right = work.values[work.target]
        if self.value.shape != self.right.shape and _squeezed(self.value) == _squeezed(self.right):
            self.value = self.value.reshape(self.right.shape)  # an axis of length 1 is no mistake
            self.raw = self.raw.reshape(self.right.shape)
        self.unit = unit_of(self.raw.dtype)
        self.kept: list[Kept] = kept(self.raw)
        self.tolerance = tolerance(work.path, work.values, self.unit)
        self.as_single = False
        self.forgiving = bool(self.kept) and self._printed_data(work)
        if self.unit == DOUBLE and self.same_shape and not self.kept and self.differs().any():
            self._try_single(work)

    def _printed_data(self, work: Work) -> bool:
        """Is the data itself printed, with as many decimals as the candidate?"""
        given = {t for s in work.path for t in s.reads if t not in work.by_target}
        most = max((printed_decimals(work.values[t]) for t in given), default=0)
        return 3 <= most == self.kept[0].decimals

    def _try_single(self, work: Work) -> None:
        """float64 that holds nothing but float32 numbers was computed in float32."""
        with np.errstate(over="ignore"):
            single = self.value.astype(np.float32).astype(np.float64)
        if np.array_equal(single, self.value, equal_nan=True):
            self.unit, self.as_single = SINGLE, True
            self.tolerance = tolerance(work.path, work.values, SINGLE)

    @property
    def same_shape(self) -> bool:
        return self.value.shape == self.right.shape

    def differs(self) -> Array:
        """Where the candidate is not the right value."""
        return _differs(self.value, self.right, self.tolerance)

    def rounding(self) -> str:
        """ "rounded" or "cut" where the candidate is the right value to the digits given."""
        if not self.kept:
            return ""
        found = rounding_of(self.raw, self.right, self.tolerance, self.kept, self.forgiving)
        return found[0] if found else ""

    def fits(self, value: Array | None, *, loose: Array | None = None) -> bool:
        """Is the candidate this value, up to rounding and to the digits that it has?"""
        if value is None or value.shape != self.value.shape:
            return False
        if self.same_shape and loose is None:
            top = float(np.max(self.tolerance, initial=0.0))
            allowed = 4 * self.tolerance + 4 * top + 512 * self.unit * np.abs(value)
        else:
            size = float(np.max(np.abs(value), initial=0.0))
            allowed = 1024 * self.unit * (np.abs(value) + size)
        if not _differs(self.value, value, allowed).any():
            return True
        return rounding_of(self.raw, value, allowed, self.kept) is not None

    def tells(self, value: Array | None) -> bool:
        """Can a wrong value be told from the right one at all?"""
        if value is None or value.shape != self.right.shape:
            return True
        return bool(_differs(value, self.right, 2 * self.tolerance).any())


def _differs(a: Array, b: Array, allowed: Array) -> Array:
    with np.errstate(invalid="ignore"):
        same = (np.abs(a - b) <= allowed) | (a == b) | (np.isnan(a) & np.isnan(b))
    return np.asarray(~same)


def _squeezed(a: Array) -> Sequence[int]:
    return [n for n in a.shape if n != 1]
