"""Which tensors count samples on their first axis.

An index of samples is one that every layer merely carries along: it stands alone on the first
axis of whatever is read, and is on the left of every layer, until the objective reduces it.
"""

from __future__ import annotations

from functools import lru_cache

from chainrule.expr import Access, Affine, Grad, Reduce, walk
from chainrule.system import Statement, System


@lru_cache(maxsize=128)
def batch_axis(system: System) -> frozenset[str]:
    """The tensors whose first axis is the batch; empty where there is none."""
    layers = [s for s in system.order if _is_layer(system, s)]
    for t in system.inputs:
        carried = _carried(layers, t)
        if carried is not None:
            return carried
    return frozenset()


def _is_layer(system: System, s: Statement) -> bool:
    backward = s.target.startswith("δ") or any(r.startswith("δ") for r in s.reads)
    grads = any(isinstance(e, Grad) for e in walk(s.body))
    return not (backward or grads or s.is_update)


def _carried(layers: list[Statement], seed: str) -> frozenset[str] | None:
    """What carries the first axis of `seed` along; None where that axis is used in another way."""
    found = {seed}
    reduced = False
    for s in layers:
        firsts = {_first(e) for e in walk(s.body) if isinstance(e, Access) and e.tensor in found}
        if not firsts:
            continue
        if len(firsts) > 1 or None in firsts:
            return None
        (name,) = firsts
        if s.axes and s.axes[0][0][0] == name and len(s.axes[0]) == 1:
            found.add(s.target)
        elif any(isinstance(e, Reduce) and name in e.names for e in walk(s.body)):
            reduced = reduced or not s.axes
        else:
            return None
    reads_late = {s.target for s in layers if s.axes} - found
    statistics = {s.target for s in layers if s.target in reads_late and set(s.reads) & found}
    if not reduced or len(found) < 2 or reads_late - statistics:
        return None
    labels = {
        e.tensor
        for s in layers
        for e in walk(s.body)
        if isinstance(e, Access) and _shares(s, e, found)
    }
    return frozenset(found | labels)


def _first(e: Access) -> str | None:
    axis = e.axes[0] if e.axes else None
    return axis.bare if isinstance(axis, Affine) else None


def _shares(s: Statement, e: Access, found: set[str]) -> bool:
    """Is e read with the index that counts the samples in this statement?"""
    names = {_first(x) for x in walk(s.body) if isinstance(x, Access) and x.tensor in found}
    return bool(e.axes) and _first(e) in names
