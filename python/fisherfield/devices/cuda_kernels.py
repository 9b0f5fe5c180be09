"""The CUDA kernels by name: compiled beforehand for several GPUs, or on first use for the one that is there.

A build with ``FISHERFIELD_CUDA=ON`` has them as ``kernels.fatbin``; otherwise CuPy compiles the sources that every
installation has, with NVRTC, and keeps what it compiled in its cache folder.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from . import import_cupy

__all__ = ["MINIMUM_CAPABILITY", "TILES", "compiled_file", "kernel", "shared_bytes", "source_folder"]

MINIMUM_CAPABILITY = 80  # asynchronous copies, tensor cores for float64, tf32 and bf16


@dataclass(frozen=True)
class Tile:
    """Shape of a block's part of the Gram matrix: ``engines.cuh``.

    Attributes
    ----------
    rows, columns, threads, stride, itemsize : int
        ``stride`` numbers of a row in shared memory.
    """

    rows: int
    columns: int
    threads: int
    stride: int
    itemsize: int


TILES = {
    "float64": Tile(128, 64, 256, 20, 8),
    "float32": Tile(128, 128, 256, 20, 4),
    "tf32": Tile(128, 128, 256, 20, 4),
    "tf32x3": Tile(128, 128, 256, 20, 4),
    "bf16x3": Tile(128, 128, 256, 24, 4),
}

_STAGES = 3  # of copies to shared memory


def shared_bytes(mode: str) -> int:
    """Shared memory of a block of the Gram kernel: the panels of all stages, and two tables of the tile's rows."""
    tile = TILES[mode]
    lines = tile.rows + tile.columns
    return _STAGES * lines * tile.stride * tile.itemsize + 2 * lines * 4


def kernel(name: str, mode: Any) -> Any:
    """Return a kernel of ``kernels.cu``, to be called as ``kernel(grid, block, arguments)``.

    ``mode`` is a dtype or the name of a precision.

    Raises
    ------
    RuntimeError
        On a GPU that is too old.
    """
    full_name = f"{name}_{mode if isinstance(mode, str) else np.dtype(mode).name}"
    return _kernel(full_name, int(import_cupy().cuda.Device().id))


@cache
def _kernel(name: str, device: int) -> Any:
    return _module(device).get_function(name)


@cache
def _module(device: int) -> Any:
    """All kernels, for one GPU."""
    cupy = import_cupy()
    capability = int(cupy.cuda.Device(device).compute_capability)
    if capability < MINIMUM_CAPABILITY:
        raise RuntimeError(
            f"cuda:{device}: expected a GPU of compute capability 8.0 (Ampere) or later, got "
            f"{capability / 10:.1f}; use the CPU, net.to('cpu')"
        )
    compiled = compiled_file()
    if compiled is not None:
        return cupy.RawModule(path=str(compiled))
    folder = source_folder()
    options = ("-std=c++17", f"-I{folder}", f"-DFISHERFIELD_SOURCES={_fingerprint(folder)}")
    return cupy.RawModule(code=(folder / "kernels.cu").read_text(), options=options)


def compiled_file() -> Path | None:
    """Where the compiled kernels are, if this build has them."""
    return _find("kernels.fatbin")


def source_folder() -> Path:
    """Where the sources of the kernels are."""
    found = _find("sources")
    if found is None:
        raise RuntimeError("fisherfield: the sources of the CUDA kernels are missing; reinstall the package")
    return found


def _find(name: str) -> Path | None:
    """A file or folder of this package, wherever its parts are installed."""
    folders = sys.modules[__package__ or ""].__path__
    return next((path for folder in folders if (path := Path(folder) / name).exists()), None)


def _fingerprint(folder: Path) -> str:
    """Of all sources: CuPy's cache knows the text of one file and the options alone."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
