"""Panels of data: what one tile reads of each place of a tensor, put together.

    oₚ[b,cₚ,i,j,c] = o[b,i,j,16*cₚ+c]

The gradient of many weights reads a few channels at a time, always the same of each place.  With
hundreds of channels these come from as many pages of memory as there are places, and from few
sets of the cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from chainrule.expr import Access, bare, substitute
from chainrule.native.borders import COPY_USES, uses
from chainrule.native.copies import PANEL, Copies, inside_reduction, part_of, split
from chainrule.native.memory import ALIGNMENT
from chainrule.native.nest import Nest, positions, replaced
from chainrule.native.schedule import Plan, with_methods

_NEAR_SETS = 1024  # bytes: places that far apart share a sixteenth of the sets of a cache
_KEPT = 0.75  # of a tile, at least, where panels have to be whole tiles


def in_panels(plans: list[Plan], context: Copies) -> list[Plan]:
    """Plans that read copies of what lies badly, and before them those that make the copies."""
    made: dict[tuple[str, int], str] = {}
    out = []
    for p in plans:
        names = {}
        for e in p.nest.accesses():
            size = _panel(p, e, context) if _lies_badly(p.nest, e, context) else 0
            if size and (e.tensor, size) not in made:
                name = made[e.tensor, size] = context.fresh(e.tensor + PANEL)
                copy = context.copy(e.tensor, name)  # goes through memory as it is read
                copy = context.copy_in_panels(copy, size, axis=1, loop=len(copy.loops) - 1)
                out.append(context.plan(copy))
            if size:
                names[e] = made[e.tensor, size]
        out.append(_by_panels(p, names, context) if names else p)
    return out


def _lies_badly(n: Nest, e: Access, context: Copies) -> bool:
    """Whether a sum goes often through places of a tensor that share few sets of the cache."""
    tiles = context.local.union(context.transforms.values())  # they lie as their sums like them
    if not context.has_batch(e.tensor) or e.tensor in context.integers or e.tensor in tiles:
        return False
    if n.plain or n.transform or n.group:  # the first hardly ever runs, the others go by tiles
        return False
    row, i = context.shapes[e.tensor][-1] or 0, positions(e)[-1].bare
    return (
        row * context.machine.element % _NEAR_SETS == 0
        and len(e.axes) > 2
        and i is not None
        and i in n.loops
        and n.extents[i] == row
        and inside_reduction(n.body, e)
        and uses(n, e, context.shapes) > COPY_USES
    )


def _panel(p: Plan, e: Access, context: Copies) -> int:
    """How many neighbours on a last axis to put together: a tile's or a line.

    0 where they are all there is, or where the tile would lose too much.
    """
    i, size = positions(e)[-1].bare, context.shapes[e.tensor][-1] or 0
    assert i is not None
    count, unit = p.tile.get(i, 1), p.width if i == p.vector else 1
    panel = math.gcd(size, ALIGNMENT // context.machine.element)
    if i == p.vector:
        panel = unit * part_of(size // unit, count) if size % unit == 0 else 0
    if not panel or panel == size or part_of(panel // unit, count) < _KEPT * count:
        return 0
    return panel


def _by_panels(p: Plan, copies: Mapping[Access, str], context: Copies) -> Plan:
    """A plan that reads copies in panels."""
    sizes = {}
    for e, name in copies.items():
        sizes[positions(e)[-1].bare or ""] = context.shapes[name][-1] or 0
    p, parts = split(p, sizes)
    n = p.nest
    for e, name in copies.items():
        sample, *rest, last = positions(e)
        axes = (sample, bare((last.bare or "") + PANEL), *rest, last)
        read = Access(name, axes, e.pad)
        n = replace(n, body=replaced(n.body, {substitute(e, parts): read}))
    return with_methods(replace(p, nest=n))
