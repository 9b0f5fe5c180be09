"""Kernels: compiled for the host from the same sources, and launched as a GPU's driver would, with its checks."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import _device
from ._core import arrays_in, ndarray, on_current_device
from .cuda.compiler import CompileException
from .cuda.driver import CUDADriverError

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "tests" / "native" / "cuda_host.cpp"
COMPILE = ["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
SUFFIXES = {".cpp", ".hpp", ".h", ".cuh", ".cu"}
_one_at_a_time = threading.Lock()


class RawModule:
    """Kernels of one source; it is compiled when a first function is asked for."""

    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Sequence[str] | None = None,
        jitify: bool | None = None,
    ) -> None:
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if not isinstance(options, tuple) or not all(isinstance(option, str) for option in options):
            raise TypeError(f"options: expected a tuple of str, got {options!r}")
        if path is not None and not Path(path).is_file():
            raise CUDADriverError("CUDA_ERROR_FILE_NOT_FOUND: file not found")
        self.code, self.file_path, self.options, self.backend = code, path, options, backend
        self.name_expressions = None if name_expressions is None else list(name_expressions)

    def get_function(self, name: str) -> RawKernel:
        if "<" in name and name not in (self.name_expressions or []):
            raise CUDADriverError(f"CUDA_ERROR_NOT_FOUND: named symbol not found ({name})")
        return RawKernel(name, host_library())


class RawKernel:
    """A kernel; a call runs it to its end."""

    max_threads_per_block = _device.ATTRIBUTES["MaxThreadsPerBlock"]

    def __init__(self, name: str, library: ctypes.CDLL) -> None:
        self.name, self._library = name, library
        self._dynamic = _device.ATTRIBUTES["MaxSharedMemoryPerBlock"]

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._dynamic

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if not 0 <= size <= _device.ATTRIBUTES["MaxSharedMemoryPerBlockOptin"]:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self._dynamic = size

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple, *, shared_mem: int = 0) -> None:
        if not all(isinstance(given, tuple) for given in (grid, block, args)):
            raise TypeError("grid, block and args: expected tuples")
        grid, block = ((*given, 1, 1)[:3] for given in (grid, block))
        largest = [_device.ATTRIBUTES[f"MaxGridDim{axis}"] for axis in "XYZ"]
        if not all(0 < size <= most for size, most in zip(grid, largest, strict=True)):
            raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: invalid argument (grid {grid})")
        if min(block) < 1 or int(np.prod(block)) > self.max_threads_per_block or block[2] > 64:
            raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: invalid argument (block {block})")
        if shared_mem > max(self._dynamic, _device.ATTRIBUTES["MaxSharedMemoryPerBlock"]):
            raise CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: invalid argument (shared_mem {shared_mem})")
        on_current_device(arrays_in(args))
        values = [as_argument(value) for value in args]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = [ctypes.c_uint(int(size)) for size in (*grid, *block)]
        launched = (ctypes.c_size_t(shared_mem), pointers, ctypes.c_int(_device.settings.reversed_order))
        with _one_at_a_time:
            if self._library.fisherfield_host_launch(self.name.encode(), *sizes, *launched):
                raise CUDADriverError(self._library.fisherfield_host_error().decode())


def as_argument(value: Any) -> np.ndarray:
    """An argument as the driver reads it: the pointer of an array, or the scalar in its own precision."""
    if isinstance(value, ndarray):
        if not value.flags.c_contiguous:  # CuPy hands on the pointer; our kernels know of no strides
            raise ValueError(f"expected arrays in the order of C, got shape {value.shape} with strides {value.strides}")
        return np.array(value.data.ptr, np.uintp)
    if isinstance(value, np.generic):
        return np.array(value)
    if isinstance(value, bool):
        return np.array(value, np.bool_)
    if isinstance(value, int):
        return np.array(value, np.int64)
    if isinstance(value, (float, complex)):
        return np.array(value)
    raise TypeError(f"Unsupported type {type(value)}")


def source_folders() -> list[Path]:
    """Folders of the kernels' sources: of the repository, or of the installed package where the tests are alone."""
    folders = [ROOT / "cpp" / "include", ROOT / "cuda" / "include", ROOT / "cuda" / "src"]
    if not all(folder.is_dir() for folder in folders):
        from fisherfield.devices.cuda_kernels import source_folder

        folders = [source_folder()]
    return [*folders, SOURCE.parent]


@functools.cache
def host_library() -> ctypes.CDLL:
    """The kernels compiled for the host, once for every state of the sources."""
    if not SOURCE.is_file():
        raise CompileException(f"no kernels for the host: expected {SOURCE}")
    folders = source_folders()
    sources = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES)
    flags = os.environ.get("FISHERFIELD_HOST_FLAGS", "").split()  # of a sanitizer, say
    content = b"".join(path.read_bytes() for path in sources) + " ".join(flags).encode()
    digest = hashlib.sha256(content).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"fisherfield-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{digest}.so"
    if not target.exists():
        made = folder / f"{digest}.{os.getpid()}.so"
        command = [*COMPILE, *flags, *(f"-I{path}" for path in folders), str(SOURCE), "-o", str(made)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise CompileException(result.stderr)
        made.replace(target)
    library = ctypes.CDLL(str(target))
    library.fisherfield_host_error.restype = ctypes.c_char_p
    return library
