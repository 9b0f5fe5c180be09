"""Linear algebra of the stand-in: where LAPACK reports a failure, cuSOLVER's answer is not finite."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from . import _table
from ._core import answered, arrays_in, function, matmul, ndarray, on_current_device

state = {"linalg": None}  # "raise": failures are errors, as in cupyx.errstate(linalg="raise")


def solver(name: str, failed: Any) -> Any:
    """A function of matrices that are CuPy's; ``failed`` is its answer where LAPACK gives none."""

    @functools.wraps(getattr(np.linalg, name), updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        _table.check("linalg", name, args, kwargs)
        if not all(isinstance(value, ndarray) for value in args[:2] if not isinstance(value, str)):
            raise LinAlgError("cupy.linalg only supports cupy.ndarray")
        parents = arrays_in([*args, kwargs])
        on_current_device(parents)
        hosts = [value._host if isinstance(value, ndarray) else value for value in args]
        with np.errstate(all="ignore"):
            try:
                found = getattr(np.linalg, name)(*hosts, **kwargs)
            except LinAlgError as error:
                if state["linalg"] == "raise" or "dimension" in str(error) or "square" in str(error):
                    raise
                found = failed(*hosts)
        return answered(found, parents)

    return call


def eigh(a: Any, UPLO: str = "L") -> Any:
    """As NumPy's; ``UPLO`` in capitals."""
    if UPLO not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return solver("eigh", lambda a, _: (np.full_like(a[..., 0], np.nan), np.full_like(a, np.nan)))(a, UPLO)


def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """As NumPy's; ``UPLO`` in capitals."""
    if UPLO not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return solver("eigvalsh", lambda a, _: np.full_like(a[..., 0], np.nan))(a, UPLO)


def not_numbers(a: np.ndarray) -> np.ndarray:
    return np.full_like(a, np.nan)


cholesky = solver("cholesky", lambda a: np.tril(not_numbers(a)))
inv = solver("inv", not_numbers)
solve = solver("solve", lambda a, b: not_numbers(b))
_OWN = {"cholesky", "eigh", "eigvalsh", "inv", "matmul", "solve"}

for _name in _table.SIGNATURES["linalg"].keys() - _OWN:
    if hasattr(np.linalg, _name):
        globals()[_name] = function("linalg", _name, getattr(np.linalg, _name))
__all__ = ["LinAlgError", "cholesky", "eigh", "eigvalsh", "inv", "matmul", "solve"]
