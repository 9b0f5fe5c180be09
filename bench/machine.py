"""Facts of the machine and its matrix-product rate."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np

import fisherfield as ff


def facts() -> dict[str, object]:
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu,
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "isa": ff._native.level,
    }


class Gemm:
    """A square product through NumPy's BLAS with all its threads: the machine's own rate, flops per second."""

    def __init__(self, dtype: str, size: int = 2048) -> None:
        rng = np.random.default_rng(0)
        self.a, self.b = (rng.standard_normal((size, size)).astype(dtype) for _ in range(2))
        self.out = np.empty_like(self.a)

    def __call__(self) -> None:
        np.matmul(self.a, self.b, out=self.out)

    @property
    def flops(self) -> float:
        return 2.0 * len(self.a) ** 3
