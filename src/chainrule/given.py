"""What a program is given: shapes and arrays, by name, checked before anything is computed."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from numbers import Number
from typing import Any, TypeVar

import numpy as np

from chainrule.errors import FormulaError
from chainrule.functions import Array
from chainrule.notation.indices import canonical

T = TypeVar("T")

_KINDS = {  # of NumPy's dtypes that hold no real numbers
    "c": "complex numbers",
    "U": "text",
    "S": "bytes",
    "M": "dates",
    "m": "time spans",
    "V": "records",
}
_REAL_HINT = "give integers or floats"
_EXACT_HINT = "give integers, fractions or finite floats"


def matched(
    given: Mapping[str, T],
    needed: Sequence[str],
    computed: Collection[str] = (),
    spare: Collection[str] = (),
) -> dict[str, T]:
    """What was given for each needed name (d_t is δt).

    computed   names that the program assigns
    spare      names that may be given and are not needed
    """
    named: dict[str, T] = {}
    for t, value in given.items():
        own = canonical(t)
        if own in named:
            raise FormulaError(f"{own} is given twice", hint=f"d_{own[1:]} is {own}: give one")
        named[own] = value
    if missing := [t for t in needed if t not in named]:
        raise FormulaError(
            f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            hint=_meant(missing, [t for t in named if t not in needed], needed),
        )
    for t in named:
        if t in needed or t in spare:
            continue
        if t in computed:
            raise FormulaError(
                f"{t} is computed by this program, it cannot be given",
                hint=f"leave {t} out, or remove the statement that assigns it",
            )
        raise FormulaError(f"this program has no tensor {t}", hint=_takes(needed))
    return {t: named[t] for t in needed}


def listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def near(name: str, known: Collection[str]) -> str | None:
    """The known name that was probably meant; X may be x."""
    lower = {t.lower(): t for t in known}
    found = difflib.get_close_matches(name.lower(), lower, 1, cutoff=0.5)
    return lower[found[0]] if found else None


def _meant(missing: Sequence[str], unused: Collection[str], needed: Sequence[str]) -> str:
    for t in missing:
        if (other := near(t, unused)) is not None:
            return f"{other} was given: is {t} meant?"
    return _takes(needed)


def _takes(needed: Sequence[str]) -> str:
    return f"this program takes {listed(needed)}" if needed else "this program takes nothing"


def shape(t: str, sizes: Any) -> tuple[int, ...]:
    """The shape given for t, as plain integers."""
    example = f"give whole numbers, as in  {t}=(5, 5)"
    try:
        whole = tuple(operator.index(n) for n in sizes)
    except TypeError:
        raise FormulaError(f"the shape of {t} is {_short(sizes)}", hint=example) from None
    if any(n < 0 for n in whole):
        raise FormulaError(f"the shape of {t} is {whole}", hint="a size is 0 or more")
    return whole


def floats(t: str, a: Any) -> Array:
    """The array given for t as float64, in row-major order."""
    array = numbers(t, a)
    return np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)


def numbers(t: str, a: Any) -> Array:
    """The array given for t, its floats or integers as they are, anything else as float64."""
    array = _real(t, a)
    try:
        return array.astype(np.float64) if array.dtype.kind == "O" else array
    except (TypeError, ValueError, OverflowError):
        raise FormulaError(f"{t} holds a number beyond float64", hint=_REAL_HINT) from None


def fractions(t: str, a: Any) -> Array:
    """The array given for t as exact fractions."""
    array = _real(t, a)
    out = np.empty(array.shape, dtype=object)
    for place in np.ndindex(*array.shape):
        value: Any = array[place]
        try:
            out[place] = Fraction(value if array.dtype == object else value.item())
        except (TypeError, ValueError, OverflowError):
            raise FormulaError(
                f"{t} holds {value}, which is not a fraction", hint=_EXACT_HINT
            ) from None
    return out


def _real(t: str, a: Any) -> Array:
    """An array of real numbers, of whatever type."""
    try:
        array = np.asarray(a)
    except Exception:  # whatever an object that claims to be an array may raise
        raise FormulaError(
            f"{t} is not an array: its rows differ in length", hint="give rows of one length"
        ) from None
    if array.dtype.kind == "O":
        for x in array.flat:
            if not isinstance(x, (Number, np.bool_)) or isinstance(x, complex):
                what = "None" if x is None else f"a value of type {type(x).__name__}"
                raise FormulaError(f"{t} holds {what}, not real numbers", hint=_REAL_HINT)
    elif array.dtype.kind not in "biuf":
        what = _KINDS.get(array.dtype.kind, f"values of dtype {array.dtype}")
        raise FormulaError(f"{t} holds {what}, not real numbers", hint=_REAL_HINT)
    return array


def check_labels(t: str, a: Array) -> None:
    """A tensor that is only compared with indices holds whole numbers."""
    with np.errstate(all="ignore"):
        wrong = a[np.asarray(a % 1 != 0, dtype=bool)]  # nan and inf too
    if wrong.size:
        raise FormulaError(
            f"{t} is compared with an index, so it holds whole numbers, but one is {wrong.flat[0]}",
            hint=f"give {t} as integers",
        )


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 60 else f"a {type(x).__name__}"
