"""How many samples a block has: eight, where much is done once for all of them, or fewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chainrule.native.nest import Nest
from chainrule.native.tiles import work_of

if TYPE_CHECKING:
    from chainrule.native.copies import Copies

CACHE = 1 << 22  # bytes that a block's tensors may fill: prefetching hides the third level
_FINE = 4  # samples of a block that threads share out evenly, and that stay nearer than eight
# What is done once for a block, in multiply-adds: to start a nest, and for each number that is
# summed over samples (it is cleared, read, added to, added up).  A weight counts one.
_STARTED, _SUMMED = 512, 8
_ONCE = 6  # where a sample's own work is this many times what is done once, four are no worse


def worthwhile(blocks: Sequence[int], nests: Sequence[Nest], context: Copies) -> list[int]:
    """Of the numbers of samples that blocks may have, those to try, the largest first."""
    made = {n.target for n in nests} - context.local
    numbers = sum(_numbers(t, context) for t in made if context.has_batch(t))
    # most of what is made will have to be in a block
    most = 2 * CACHE // max(1, numbers * context.machine.element)
    if _independent(nests, context):
        most = min(most, _FINE)
    return [b for b in blocks if b <= max(1, most)]


def _independent(nests: Sequence[Nest], context: Copies) -> bool:
    """Whether hardly anything is done once for all samples of a block."""
    once = each = 0
    for n in nests:
        if n.sample and not (n.spread or n.plain):
            weights = sum(_numbers(t, context) for t in n.reads if not context.has_batch(t))
            sums = _numbers(n.target, context) if n.lane else 0
            once += _STARTED + weights + _SUMMED * sums
            each += work_of(n)[1]
    return 0 < _ONCE * once <= each


def _numbers(t: str, context: Copies) -> int:
    """How many numbers a tensor has, or a sample's part of it."""
    return math.prod(d or 1 for d in context.shapes[t])
