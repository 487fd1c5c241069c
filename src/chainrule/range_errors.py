"""What to say of sizes that do not fit: each function gives a message and what would mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from chainrule.dims import Dim
from chainrule.expr import Access, Affine, Expr, Grad, Group
from chainrule.notation.show import show_axis
from chainrule.system import Statement

Words: TypeAlias = "tuple[str, str]"

_GROUP_HINT = "the sizes of a group multiply to the size of its axis"
_SIZE_HINT = "a size is 0 or more"


def axis_name(e: Access | Grad, k: int) -> str:
    read = e.tensor if isinstance(e, Access) else f"grad({e.of}, {e.wrt})"
    return f"axis {k} of {read}"


def axes_count(n: int) -> str:
    return {0: "no axes", 1: "1 axis"}.get(n, f"{n} axes")


def indices_count(n: int) -> str:
    return {0: "no index", 1: "1 index"}.get(n, f"{n} indices")


# ------------------------------------------------------------ sizes that are said


def no_such_axis(tensor: str, axis: int, have: int) -> Words:
    return f"size({tensor},{axis}): {tensor} has {axes_count(have)}", "axes are counted from 0"


def divides_by_zero(name: str) -> Words:
    return f"the size of index {name} divides by zero", "divide by 1 or more"


def negative(name: str, size: int) -> Words:
    return f"the size of index {name} comes out as {size}", _SIZE_HINT


def other_rank(tensor: str, read: int, have: int) -> Words:
    return (
        f"{tensor} is read with {indices_count(read)}, but the {tensor} given has "
        f"{axes_count(have)}",
        f"give {tensor} with {axes_count(read)}, or read it with {indices_count(have)}",
    )


def conflict(name: str, a: Dim, why_a: str, b: Dim, why_b: str) -> Words:
    return (
        f"index {_plain(name)} runs over {a.value} values ({why_a}) and over {b.value} ({why_b})",
        "make the two sizes agree, or use two index names",
    )


def update_of_another_shape(target: str, axis: int, old: Dim, new: Dim) -> Words:
    return (
        f"the update of {target} makes {_elements(new)} on axis {axis}, but {target} has "
        f"{old.value}",
        "an update keeps the shape of the tensor it updates",
    )


def cotangent_of_another_shape(t: str, have: list[int | None], needed: list[int | None]) -> Words:
    return (
        f"δ{t} has the shape {have}, but {t} has {needed}",
        f"the gradient with respect to {t} has the shape of {t}",
    )


# ------------------------------------------------------------ groups


def group_leaves_rest(axis: Group, where: str, n: Dim, rest: Dim) -> Words:
    return (
        f"the group {_shown(axis)} cannot fill {where}, which has {_elements(n)}: "
        f"its other indices make {rest.value}",
        _GROUP_HINT,
    )


def group_of_another_size(axis: Group, where: str, n: Dim, have: Dim) -> Words:
    return (
        f"the group {_shown(axis)} makes {have.value} values, but {where} has {_elements(n)}",
        _GROUP_HINT,
    )


# ------------------------------------------------------------ ranges that nothing fixes


def depend_on_each_other(names: Sequence[str], axis: Affine, form: str) -> Words:
    return (
        f"the ranges of {_and([_plain(n) for n in names])} depend on each other in {_shown(axis)}",
        f"give one its size where it is bound, as in  {form}",
    )


def open_in_group(name: str, axis: Group, form: str) -> Words:
    return (
        f"the group {_shown(axis)} fixes only the product of its sizes",
        f"give {_plain(name)} a size where it is bound, as in  {form}",
    )


def open_behind_pad(name: str, form: str) -> Words:
    return (
        f"nothing fixes the range of index {_plain(name)}: behind pad it could run on",
        f"give it a size where it is bound, as in  {form}",
    )


def open_everywhere(name: str, form: str) -> Words:
    return (
        f"nothing fixes the range of index {_plain(name)}",
        f"give it a size where it is bound, as in  {form}",
    )


def bound_form(s: Statement, name: str, op: str, size: str) -> str:
    """How an index gets its size: y[i:28,j], or sum[m:28](...) where a reduction binds it."""
    if name not in s.indices:
        return f"{op}[{_plain(name)}:{size}](...)"
    axes = []
    for axis in s.axes:
        shown = ",".join(f"{n}:{size}" if n == name else n for n, _ in axis)
        axes.append(shown if len(axis) == 1 else f"({shown})")
    return f"{s.target}[{','.join(axes)}]"


# ------------------------------------------------------------ reads outside a tensor


def leaves(
    e: Expr,
    tensor: str,
    k: int,
    axis: Affine,
    n: Dim,
    position: Dim,
    sizes: Mapping[str, Dim],
    first: str | None = None,
) -> Words:
    """The read e is at `position` on axis k, outside; `first`: already where that index is 0."""
    below = position.value is not None and position.value < 0
    edge = "begins at 0" if below else f"ends at {(n - 1).expr}"
    if n.value == 0:
        edge = "has no elements"
    edge = f"axis {k} of {tensor} {edge}"
    if not axis.terms:
        last = f": the last is {(n - 1).expr}" if n.value else ""
        hint = "places count from 0" + ("; none is counted from the end" if below else last)
        return f"{e} leaves {tensor}: {edge}", hint
    ranges = _and([_range(m, sizes[m]) for m in axis.names if m != first])
    already = f" even where {_plain(first)} is 0" if first else ""
    so = f"{ranges}, so " if ranges else ""
    return (
        f"{e} leaves {tensor}: {so}{_shown(axis)} reaches {position.expr}{already}, and {edge}",
        f"read {tensor} through pad, as in  pad({tensor})[...], or make the ranges smaller",
    )


def _range(name: str, size: Dim) -> str:
    last = (size - 1).expr
    return f"{_plain(name)} is 0" if size.value == 1 else f"{_plain(name)} runs over 0..{last}"


def _elements(n: Dim) -> str:
    return "1 element" if n.value == 1 else f"{n.expr} elements"


def _plain(name: str) -> str:
    """Without the marks that keep two indices of one letter apart."""
    return name.rstrip("'")


def _shown(axis: Affine | Group) -> str:
    return show_axis(axis).replace("'", "")


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
