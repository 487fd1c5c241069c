"""Memory whose end, or start, touches a page that nobody may read or write.

    allocate = Guarded("end")            # or "start"
    addresses, kept = allocate([40, 12]) # as chainrule.native.memory.allocate
    a = guarded_array(np.arange(10.0), "end")

Native code that reads or writes one element outside ends the process with a segmentation fault,
so tests run it in a process of its own.  Only POSIX systems have the call: see `unavailable`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["end", "start"]
PAGE = mmap.PAGESIZE
_NO_ACCESS = 0  # PROT_NONE of every POSIX system

unavailable = "" if os.name == "posix" else "this system has no mprotect()"


class Guarded:
    """An allocator of zeroed buffers, each between two untouchable pages.

    side       which side of the buffer touches its page
    alignment  of the buffers' addresses, as far as the touching side leaves a choice
    """

    def __init__(self, side: Side = "end", alignment: int = 4) -> None:
        self.side, self.alignment = side, alignment

    def __call__(self, sizes: Sequence[int]) -> tuple[list[int], object]:
        """The addresses of buffers of so many bytes, and the object that keeps them."""
        made = [self._one(size) for size in sizes]
        return [address for address, _ in made], [kept for _, kept in made]

    def _one(self, size: int) -> tuple[int, object]:
        inner = max(1, -(-size // PAGE)) * PAGE
        region = mmap.mmap(-1, inner + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(region))
        for page in (start, start + PAGE + inner):
            _forbid(page)
        if self.side == "start":
            return start + PAGE, region
        end = start + PAGE + inner
        return (end - size) // self.alignment * self.alignment, region


def _forbid(page: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if library.mprotect(page, PAGE, _NO_ACCESS):
        raise OSError(ctypes.get_errno(), "mprotect")


class _Kept(np.ndarray[Any, Any]):
    """An array that keeps the mapping its elements are in."""

    kept: object = None


def guarded_array(array: Any, side: Side = "end") -> NDArray[Any]:
    """A row-major copy of an array, against an untouchable page."""
    given = np.asarray(array)
    (address,), kept = Guarded(side, given.itemsize)([given.nbytes])
    room = (ctypes.c_char * given.nbytes).from_address(address)
    copy = np.frombuffer(room, given.dtype).reshape(given.shape).view(_Kept)
    copy.kept = kept
    copy[...] = given
    return copy
