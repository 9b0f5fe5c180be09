"""A strict stand-in for CuPy, to test on machines without a GPU what is written for one.

Its arrays lie on simulated devices: in the host's memory, but they mix with no other arrays, and every function,
keyword and method is refused that CuPy does not have (signatures.pyi). Kernels run compiled for the host.
"""

import types

import numpy as _np

from . import cublas, cuda, linalg, simulation
from ._core import FUNCTIONS, UFUNCS, from_dlpack, ndarray, ufunc
from ._raw import RawKernel, RawModule

__all__ = ["RawKernel", "RawModule", "cublas", "cuda", "from_dlpack", "linalg", "ndarray", "simulation", "ufunc"]
__version__ = "14.2.0"

NUMPYS_OWN = (  # CuPy hands on NumPy's
    *("bool", "bool_", "broadcast_shapes", "complex64", "complex128", "dtype", "e", "finfo", "float16", "float32"),
    *("float64", "floating", "generic", "iinfo", "inf", "int8", "int16", "int32", "int64", "integer", "intp"),
    *("issubdtype", "nan", "newaxis", "pi", "promote_types", "uint8", "uint16", "uint32", "uint64"),
)
globals().update({name: getattr(_np, name) for name in NUMPYS_OWN})

globals().update(UFUNCS)
globals().update(FUNCTIONS)


def get_array_module(*args: object) -> types.ModuleType:
    """The stand-in for its arrays, else NumPy."""
    import cupy

    return cupy if any(isinstance(value, ndarray) for value in args) else _np


def get_default_memory_pool() -> cuda.memory.MemoryPool:
    """What arrays take."""
    return cuda.memory.MemoryPool()


def is_available() -> bool:
    """Whether there is a device."""
    return cuda.is_available()
