r"""Where arrays live and where the work on them is done: the processor, or a CUDA GPU through CuPy.

Arrays decide. Those of NumPy are worked on by the compiled kernels, spread over threads; those of CuPy by kernels of
our own on the GPU and by cuBLAS and cuSOLVER through CuPy. Both modules, :mod:`.cpu` and :mod:`.cuda`, have the same
functions; ``of(array)`` is the one for an array. Whatever is not a kernel is written in NumPy's functions, which CuPy
answers for its own arrays (NEP 18); an array that is made from nothing names its device by ``like=`` (NEP 35).

CuPy is imported when a first array of a GPU comes in, never before.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "PRECISIONS",
    "as_array",
    "as_like",
    "contiguous",
    "identity",
    "import_cupy",
    "is_cuda",
    "moved",
    "name_of",
    "num_gpus",
    "of",
    "on_host",
    "read_only",
    "require_current",
]

PRECISIONS = ("tf32", "tf32x3", "bf16x3")
"""Reduced precisions of the Gram matrix of float32 factors, on tensor cores that accumulate in float32.

======  ===============================  ==============================================================================
name    a float32 number becomes         error of an entry, relative to the root of the product of its diagonal entries
======  ===============================  ==============================================================================
tf32    one tf32 number                  at most 2e-3
tf32x3  the sum of two tf32 numbers      at most 2e-6, besides float32's own accumulation
bf16x3  the sum of two bf16 numbers      at most 1e-4
======  ===============================  ==============================================================================

Two factors are rounded, inputs and seeds, of two numbers each: four relative roundings of 2^-11, and of 2^-17 in bf16x3
with as much again for the smallest product left out.
"""

_DLPACK_CUDA = 2  # kDLCUDA


def is_cuda(array: Any) -> bool:
    """Whether it is an array of CuPy."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def of(array: Any) -> ModuleType:
    """Return the module that works on arrays like this one: :mod:`.cpu` or :mod:`.cuda`.

    Raises
    ------
    ValueError
        For an array on another GPU than CuPy's current one: kernels would read memory that is not there.
    """
    from . import cpu

    if not is_cuda(array):
        return cpu
    from . import cuda

    require_current(array, "device")
    return cuda


def name_of(array: Any) -> str:
    """``"cpu"`` or ``"cuda:0"``."""
    return f"cuda:{array.device.id}" if is_cuda(array) else "cpu"


def import_cupy() -> Any:
    """Return CuPy, or say how to get it."""
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            "arrays on a GPU need CuPy: pip install fisherfield[cuda13] (or [cuda12], after the driver's CUDA version)"
        ) from error
    return cupy


def as_array(value: Any) -> Any:
    """Return an array-like as an array of NumPy, or of CuPy if it lies on a GPU (of whatever library; no copy)."""
    if is_cuda(value):
        return value
    if hasattr(value, "__cuda_array_interface__"):
        return import_cupy().asarray(value)
    if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] == _DLPACK_CUDA:
        return import_cupy().from_dlpack(value)
    return np.asarray(value)


def moved(array: Any, device: str) -> Any:
    """Return an array on ``"cpu"``, ``"cuda"`` (the current GPU) or ``"cuda:1"``, itself where it lies there already.

    Raises
    ------
    ValueError, TypeError
        For other names, or a GPU that is not there.
    ImportError
        Without CuPy.
    """
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", device) if isinstance(device, str) else None
    if found is None:
        raise ValueError(f"device: expected 'cpu', 'cuda' or 'cuda:0', got {device!r}")
    if device == "cpu":
        return on_host(array)
    cupy = import_cupy()
    count = num_gpus(cupy)
    index = cupy.cuda.Device().id if found[1] is None else int(found[1])
    if index >= count:
        raise ValueError(f"device: expected one of {count} GPUs, 'cuda:0' to 'cuda:{count - 1}', got {device!r}")
    with cupy.cuda.Device(index):
        return cupy.asarray(array)


def num_gpus(cupy: Any) -> int:
    """How many GPUs there are, at least one."""
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ValueError(f"device: expected a machine with a CUDA GPU and its driver, got {error}") from error
    return count


def on_host(array: Any) -> Any:
    """Return a CuPy array as one of NumPy; others as they are."""
    return array.get() if is_cuda(array) else array


def read_only(array: Any) -> Any:
    """Return the array, marked read-only if it can be: those of CuPy cannot."""
    if not is_cuda(array):
        array.flags.writeable = False
    return array


def require_current(array: Any, name: str) -> None:
    """Refuse an array on another GPU than CuPy's current one, on which it works and makes its arrays."""
    if not is_cuda(array):
        return
    current = import_cupy().cuda.Device().id
    if array.device.id != current:
        raise ValueError(
            f"{name}: expected an array on CuPy's current GPU, cuda:{current}, got one on {name_of(array)}; work on it "
            f'inside "with cupy.cuda.Device({array.device.id}):"'
        )


def identity(size: int, like: Any) -> Any:
    """Return the identity matrix on the device and in the precision of an array.

    NumPy's ``eye``, ``ones`` and ``full`` with ``like=`` hand on a keyword that CuPy does not have;
    ``ones_like(array, shape=...)`` does not.
    """
    found = np.zeros((size, size), like.dtype, like=like)
    np.fill_diagonal(found, 1)
    return found


def contiguous(array: Any) -> Any:
    """Return a C-contiguous array on the same device, itself if it is one."""
    return np.ascontiguousarray(array, like=array)


def as_like(array: Any, like: Any, dtype: npt.DTypeLike | None = None) -> Any:
    """Return an array on the device of ``like``, itself where it lies there already."""
    if is_cuda(array) == is_cuda(like):
        return array if dtype is None else array.astype(dtype, copy=False)
    if is_cuda(array):
        return as_like(array.get(), like, dtype)
    return np.asarray(array, dtype=dtype, like=like)
