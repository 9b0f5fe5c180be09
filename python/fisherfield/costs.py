"""What an answer takes: bytes, operations, and seconds at the rate that this machine reaches."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _executor, devices
from ._memory import human
from ._validate import FloatArray

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


_rates: dict[tuple[str, str, int], float] = {}  # by device, precision and threads: executors are not kept alive


def operations_per_second(dtype: np.dtype[Any], executor: Executor | None, like: FloatArray) -> float:
    """Return the rate of a layer's product, measured once (in some ten milliseconds).

    Parameters
    ----------
    dtype : numpy.dtype
        Float32 or float64.
    executor : concurrent.futures.Executor or None
        Threads to use; None is the shared pool.
    like : array
        Of the device to measure.

    Returns
    -------
    float
        Floating-point operations per second.
    """
    kind = devices.name_of(like), dtype.name, _executor.workers(executor)
    if kind not in _rates:
        _rates[kind] = _measured(dtype, executor, like)
    return _rates[kind]


def _measured(dtype: np.dtype[Any], executor: Executor | None, like: FloatArray) -> float:
    if not devices.is_cuda(like):
        return _rate_at(512, dtype, executor, like)[0]
    for size in (512, 1024, 2048):
        rate, seconds = _rate_at(size, dtype, executor, like)
        if seconds > 5e-4:  # long beside the launch of a kernel
            break
    return rate


def _rate_at(size: int, dtype: np.dtype[Any], executor: Executor | None, like: FloatArray) -> tuple[float, float]:
    """Operations per second of a product of that size, and the seconds it takes."""
    h, W = (np.ones_like(like, dtype, "C", shape=(rows, size)) for rows in (2 * size, size))
    out = np.empty_like(h)

    def seconds() -> float:
        start = time.perf_counter()
        devices.of(h).layer_forward(h, W, None, None, out, executor=executor)
        float(out[-1, -1])  # waits for a GPU
        return time.perf_counter() - start

    fastest = min(seconds() for _ in range(4))
    return 2.0 * out.size * size / fastest, fastest
