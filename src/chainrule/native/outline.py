"""What is kept of a program beside its machine code: all that it takes to run it.

Together they fill an entry of the disk cache, so that a program that has been compiled before
starts without its nests being laid out again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass

from chainrule.native.memory import Buffer
from chainrule.native.stages import Layout

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Outline:
    """A layout without its nests.

    buffers     of each tensor; two tensors may have one
    results     wanted tensor -> the buffer that holds it at the end
    block       samples of a block
    lane_bytes  of all partial sums in a lane
    nests       how many there are
    shared_out  the most nests of a stage that threads share out by their results
    work        products summed in a step, and for each row besides
    """

    buffers: dict[str, Buffer]
    results: dict[str, str]
    block: int
    lane_bytes: int
    nests: int
    shared_out: int
    work: tuple[int, int]

    def multiply_adds(self, rows: int) -> int:
        """Products summed in one step, roughly: what decides whether more threads are worth it."""
        return self.work[0] + rows * self.work[1]


def outline(made: Layout) -> Outline:
    """A layout's."""
    return Outline(
        made.buffers, made.results, made.block, made.lane_bytes, len(list(made.plans)),
        made.shared_out, made.work,
    )  # fmt: skip


def packed(kept: Outline, objects: Iterable[bytes]) -> bytes:
    """An outline and object files, one behind the other, each after its length."""
    slots = {t: b.slot for t, b in kept.buffers.items()}
    buffers = [astuple(b) for b in {b.slot: b for b in kept.buffers.values()}.values()]
    fields = {**vars(kept), "buffers": [slots, buffers]}
    parts = [json.dumps(fields).encode(), *objects]
    return b"".join(_LENGTH.pack(len(p)) + p for p in parts)


def unpacked(blob: bytes) -> tuple[Outline, list[bytes]]:
    """The outline and the object files in that."""
    head, *objects = _parts(blob)
    fields = json.loads(head)
    slots, buffers = fields["buffers"]
    by_slot = {b.slot: b for b in (Buffer(t, place, tuple(sizes), *rest)
                                   for t, place, sizes, *rest in buffers)}  # fmt: skip
    fields["buffers"] = {t: by_slot[k] for t, k in slots.items()}
    return Outline(**{**fields, "work": tuple(fields["work"])}), objects


def _parts(blob: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(blob):
        (n,) = _LENGTH.unpack_from(blob, start)
        start += _LENGTH.size
        yield blob[start : start + n]
        start += n
