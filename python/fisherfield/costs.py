"""What an answer takes: bytes, operations, and seconds at the rate that this machine reaches."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _executor
from ._memory import human
from ._native import kernels

__all__ = ["Cost", "operations_per_second"]


@dataclass(frozen=True)
class Cost:
    """What an answer takes.

    Attributes
    ----------
    what : str
    bytes : int
        Memory at its peak, the answer included, the inputs not.
    flops : float
        Floating-point operations of the matrix products, and of LAPACK where it is used.
    seconds : float
        Predicted, at the rate of a matrix product that was measured on this machine in this process; what is not a
        product (activations, LAPACK's slower part) makes it longer.
    """

    what: str
    bytes: int
    flops: float
    seconds: float

    @property
    def work(self) -> str:
        """Operations and time, in words."""
        return f"{self.flops:.3g} operations, about {_duration(self.seconds)}"

    def __str__(self) -> str:
        return f"{self.what}: {human(self.bytes)}, {self.work}"


def _duration(seconds: float) -> str:
    for name, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.2g} s"


_rates: dict[tuple[str, int], float] = {}  # by precision and number of threads: executors are not kept alive


def operations_per_second(dtype: np.dtype[Any], executor: Executor | None) -> float:
    """Rate of a layer's product, measured once (in some ten milliseconds)."""
    kind = dtype.name, _executor.workers(executor)
    if kind not in _rates:
        _rates[kind] = _measured(dtype, executor)
    return _rates[kind]


def _measured(dtype: np.dtype[Any], executor: Executor | None) -> float:
    size = 512
    h = np.ones((2 * size, size), dtype)
    W, out = np.ones((size, size), dtype), np.empty((2 * size, size), dtype)
    flops = 2.0 * out.size * size
    blocks = _executor.column_blocks(size, out.itemsize, flops, executor)

    def seconds() -> float:
        start = time.perf_counter()
        _executor.run(lambda block: kernels.layer_forward(h, W, None, None, out, None, *block), blocks, executor)
        return time.perf_counter() - start

    return flops / min(seconds() for _ in range(4))
