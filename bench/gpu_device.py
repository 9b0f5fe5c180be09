"""The GPU of the benchmarks: its facts, its products by cuBLAS and its copies, and how calls on it are timed.

All of it also runs on the stand-in for CuPy of ``tests/simulated``, where times mean nothing.
"""

from __future__ import annotations

import math
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

import machine

Contestants = dict[str, Callable[[], object]]

SIMULATED = hasattr(cupy, "simulation")
SINGLE_CALL = 1.0  # seconds; calls this long are not repeated within a round
WINDOW = 0.03  # seconds that the calls of a contestant take in a round, at least


def facts() -> dict[str, object]:
    runtime = cupy.cuda.runtime
    device = cupy.cuda.Device()
    found = runtime.getDeviceProperties(device.id)
    return machine.facts() | {
        "gpu": found["name"].decode(),
        "compute_capability": device.compute_capability,
        "multiprocessors": found["multiProcessorCount"],
        "gpu_memory_GB": round(device.mem_info[1] / 1e9, 1),
        "driver": _driver(device.id),
        "cuda_driver_api": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "simulated": SIMULATED,
    }


def _driver(device: int) -> str | None:
    """Version of the driver, limit of the power, and the highest clock, where ``nvidia-smi`` tells."""
    program = shutil.which("nvidia-smi")
    if program is None or SIMULATED:
        return None
    bus = cupy.cuda.Device(device).pci_bus_id
    query = "--query-gpu=driver_version,power.limit,clocks.max.sm"
    done = subprocess.run([program, query, "--format=csv,noheader", "-i", bus], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def synchronize() -> None:
    cupy.cuda.Device().synchronize()


def free() -> None:
    """Give back what CuPy keeps of memory that nothing refers to."""
    cupy.get_default_memory_pool().free_all_blocks()


def seconds_of(call: Callable[[], object], repeats: int = 1) -> float:
    """Seconds a call, from an idle GPU to an idle GPU."""
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronize()
    return (time.perf_counter() - start) / repeats


def interleave(contestants: Contestants, rounds: int) -> dict[str, float]:
    """Median seconds of each contestant; they take turns within each round.

    Each is called twice beforehand: the first call compiles, the second tells how often it is repeated within a round.
    A round begins with a call that is not measured, for the clocks and the caches, unless calls are long. On the
    stand-in, where times mean nothing, a round is one call and nothing comes before.
    """
    repeats, warmed = dict.fromkeys(contestants, 1), dict.fromkeys(contestants, False)
    for name, call in contestants.items() if not SIMULATED else ():
        call()
        seconds = seconds_of(call)
        repeats[name], warmed[name] = math.ceil(min(1000, max(1, WINDOW / seconds))), seconds < SINGLE_CALL
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            if warmed[name]:
                call()
            times[name].append(seconds_of(call, repeats[name]))
    return {name: statistics.median(values) for name, values in times.items()}


# --- ceilings -----------------------------------------------------------------------------------------------

KINDS = ("float64", "float32", "tf32", "bf16")
"""Products by cuBLAS; ``tf32`` takes float32 and ``bf16`` takes the bits of bf16 as uint16, both give float32."""


def product(kind: str, X: Any, Y: Any, out: Any) -> None:
    """``out = X Y^T``, all contiguous by rows."""
    assert all(array.flags.c_contiguous for array in (X, Y, out))
    if SIMULATED:
        decode = from_bf16 if kind == "bf16" else lambda array: array
        np.matmul(decode(X), decode(Y).T, out=out)
        return
    cublas, runtime = cupy.cuda.cublas, cupy.cuda.runtime
    compute, taken, given = {
        "float64": (cublas.CUBLAS_COMPUTE_64F, runtime.CUDA_R_64F, runtime.CUDA_R_64F),
        "float32": (cublas.CUBLAS_COMPUTE_32F, runtime.CUDA_R_32F, runtime.CUDA_R_32F),
        "tf32": (cublas.CUBLAS_COMPUTE_32F_FAST_TF32, runtime.CUDA_R_32F, runtime.CUDA_R_32F),
        "bf16": (cublas.CUBLAS_COMPUTE_32F, runtime.CUDA_R_16BF, runtime.CUDA_R_32F),
    }[kind]
    (rows, depth), columns = X.shape, len(Y)
    one, zero = (np.array(value, out.dtype) for value in (1, 0))
    cublas.gemmEx(  # it counts along columns: of the transposed matrices, out^T = Y X^T
        cupy.cuda.device.get_cublas_handle(),
        cublas.CUBLAS_OP_T,
        cublas.CUBLAS_OP_N,
        *(columns, rows, depth, one.ctypes.data),
        *(Y.data.ptr, taken, depth, X.data.ptr, taken, depth),
        *(zero.ctypes.data, out.data.ptr, given, columns, compute, cublas.CUBLAS_GEMM_DEFAULT),
    )


def to_bf16(x: Any) -> Any:
    """The nearest bf16 of float32, ties to even: its bits."""
    bits = x.view(np.uint32)
    odd = cupy.right_shift(bits, 16) & 1
    return cupy.right_shift(bits + 0x7FFF + odd, 16).astype(np.uint16)


def from_bf16(bits: Any) -> Any:
    return cupy.left_shift(bits.astype(np.uint32), 16).view(np.float32)


def halves(x: Any, kind: str) -> tuple[Any, Any]:
    """Two numbers of tf32 or bf16 whose sum is the float32 number, nearly."""
    if kind == "bf16":
        high = to_bf16(x)
        return high, to_bf16(x - from_bf16(high))
    high = ((x.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)
    return high, x - high


class Gemm:
    """A square product by cuBLAS: the GPU's own rate, flops per second."""

    def __init__(self, kind: str, size: int) -> None:
        rng = np.random.default_rng(0)
        dtype = "float64" if kind == "float64" else "float32"
        factors = [cupy.asarray(rng.standard_normal((size, size), dtype)) for _ in range(2)]
        self.out = cupy.empty((size, size), dtype)
        self.kind = kind
        self.a, self.b = (to_bf16(factor) if kind == "bf16" else factor for factor in factors)
        self()
        row = (factors[0][:1] @ factors[1].T).get()
        error = np.abs(self.out[0].get() - row).max() / np.abs(row).max()
        assert error < {"float64": 1e-12, "float32": 1e-4, "tf32": 5e-3, "bf16": 3e-2}[kind], f"{kind}: {error:.1e}"

    def __call__(self) -> None:
        product(self.kind, self.a, self.b, self.out)

    @property
    def flops(self) -> float:
        return 2.0 * len(self.out) ** 3


class Copy:
    """A copy from device to device: bytes read and written."""

    def __init__(self, size: int) -> None:
        self.source, self.target = cupy.zeros(size, np.uint8), cupy.empty(size, np.uint8)

    def __call__(self) -> None:
        cupy.copyto(self.target, self.source)

    @property
    def bytes(self) -> float:
        return 2.0 * self.source.nbytes
