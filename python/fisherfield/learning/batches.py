"""Mini-batches: which samples each step sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._validate import as_generator, positive_int

__all__ = ["as_batch_size", "batches"]


def as_batch_size(batch_size: Any, num_samples: int) -> int:
    """Return how many samples a step takes, all where it is None."""
    size = num_samples if batch_size is None else positive_int(batch_size, "batch_size")
    if size > num_samples:
        raise ValueError(f"batch_size: expected at most {num_samples}, the number of samples, got {size}")
    return size


def batches(
    num_samples: int, batch_size: int, seed: int | np.random.Generator | None
) -> Iterator[npt.NDArray[np.int64]]:
    """Return indices of samples, batch after batch, from random orders of all: each comes as often as any other.

    A batch may reach from one order into the next.

    Examples
    --------
    >>> from itertools import islice
    >>> from fisherfield.learning.batches import batches
    >>> two_rounds = sorted(int(i) for batch in islice(batches(6, 4, seed=0), 3) for i in batch)
    >>> two_rounds == sorted([*range(6), *range(6)])
    True
    """
    return _cut(num_samples, batch_size, as_generator(seed, stream="batches"))


def _cut(num_samples: int, batch_size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    left = np.empty(0, np.int64)
    while True:
        while len(left) < batch_size:
            left = np.concatenate([left, rng.permutation(num_samples)])
        yield left[:batch_size]
        left = left[batch_size:]
