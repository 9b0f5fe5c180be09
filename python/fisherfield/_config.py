"""What this installation is made of."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any, Literal, overload

import numpy as np
import scipy

from . import _executor, _native, devices
from .devices.cuda_kernels import compiled_file

__all__ = ["config_text", "show_config", "version"]


def version() -> str:
    """Version of the installed package."""
    try:
        return importlib.metadata.version("fisherfield")
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


@overload
def show_config(*, as_dict: Literal[False] = ...) -> None: ...
@overload
def show_config(*, as_dict: Literal[True]) -> dict[str, dict[str, Any]]: ...
def show_config(*, as_dict: bool = False) -> dict[str, dict[str, Any]] | None:
    """Print versions, the instruction set in use, threads, BLAS and CUDA.

    Parameters
    ----------
    as_dict : bool
        Return a dictionary instead of printing.

    Returns
    -------
    dict of str to dict, or None
        By group (as in the example); None where it is printed.

    Examples
    --------
    >>> import fisherfield as ff
    >>> sorted(ff.show_config(as_dict=True)["threads"])
    ['blas', 'fisherfield']
    """
    if as_dict:
        return _configuration()
    print(config_text())
    return None


def config_text() -> str:
    """Return what :func:`show_config` prints."""
    lines = []
    for title, entries in _configuration().items():
        lines.append(f"{title}:")
        for name, value in entries.items():
            lines.append(f"  {name:<12} {', '.join(value) if isinstance(value, list) else value}")
    return "\n".join(lines)


def _configuration() -> dict[str, dict[str, Any]]:
    blas = _blas()
    return {
        "versions": {
            "fisherfield": version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "eigen": _native.kernels.eigen,
            "compiler": _native.kernels.compiler,
        },
        "instruction set": {
            "in use": _native.level,
            "usable": _native.usable_levels(),
            "chosen by": "FISHERFIELD_ISA" if os.environ.get("FISHERFIELD_ISA") else "processor",
        },
        "threads": {"fisherfield": _executor.num_threads(), "blas": blas.pop("threads")},
        "BLAS": blas,
        "CUDA": _cuda(),
    }


def _cuda() -> dict[str, Any]:
    """Return what work on a GPU needs, and the GPUs that are there."""
    spec = importlib.util.find_spec("cupy")
    if spec is None or spec.origin is None:  # a folder of that name is no package
        return {"cupy": "not installed (pip install fisherfield[cuda13])"}
    cupy = devices.import_cupy()
    kernels = "compiled on first use (NVRTC)" if compiled_file() is None else "built"
    found = {"cupy": cupy.__version__, "kernels": kernels}
    runtime = cupy.cuda.runtime
    try:
        gpus = [runtime.getDeviceProperties(index) for index in range(runtime.getDeviceCount())]
    except runtime.CUDARuntimeError as error:
        return found | {"GPUs": f"no GPU found: {error}"}
    driver = runtime.driverGetVersion()
    return found | {"driver": f"for CUDA {driver // 1000}.{driver % 1000 // 10}", "GPUs": [_gpu(gpu) for gpu in gpus]}


def _gpu(properties: dict[str, Any]) -> str:
    name, memory = properties["name"].decode(), properties["totalGlobalMem"] / 2**30
    return f"{name} (compute capability {properties['major']}.{properties['minor']}, {memory:.4g} GiB)"


def _blas() -> dict[str, Any]:
    """Return the BLAS of the eigenvalues: as loaded if threadpoolctl is there, else as NumPy was built."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return {
            "library": str(built.get("name", "unknown")),
            "version": str(built.get("version", "unknown")),
            "threads": "unknown (pip install threadpoolctl)",
        }
    loaded = [library for library in threadpool_info() if library["user_api"] == "blas"]
    if not loaded:
        return {"library": "unknown", "version": "unknown", "threads": "unknown"}
    return {
        "library": loaded[0]["internal_api"],
        "version": str(loaded[0]["version"]),
        "threads": loaded[0]["num_threads"],
    }
