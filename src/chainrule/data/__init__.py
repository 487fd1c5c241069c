"""The handwritten digits that the demo learns from; source and licence are in README.md here."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["digits"]


def digits(dtype: DTypeLike = np.float64) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the 1,797 UCI digits: images (1797, 8, 8) scaled to 0..1, and their labels.

    >>> images, labels = digits()
    >>> images.shape, float(images.max()), labels[:5].tolist()
    ((1797, 8, 8), 1.0, [0, 1, 2, 3, 4])
    """
    file = resources.files(__name__).joinpath("digits.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        # 16 is the darkest value, so the division is exact in every float type.
        images = arrays["images"].astype(dtype) / np.asarray(16, dtype)
        labels = arrays["labels"].astype(np.int64)
    return images, labels
