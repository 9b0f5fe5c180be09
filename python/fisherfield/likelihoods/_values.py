"""Numbers that a dtype must hold, and targets as the likelihoods take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from .. import devices
from .._validate import FloatArray, as_float_array, same_device

__all__ = [
    "as_float_targets",
    "as_integers",
    "beside",
    "diagonal_matrices",
    "exponentials",
    "rounded",
    "special_functions",
]


def special_functions(array: FloatArray) -> Any:
    """Return SciPy's special functions, or CuPy's of the same names for an array on a GPU."""
    if not devices.is_cuda(array):
        return special
    from cupyx.scipy import special as special_on_gpu

    return special_on_gpu


def exponentials(exponents: FloatArray, dtype: np.dtype[Any], what: str, first: int = 0) -> FloatArray:
    """Exponentials in float64 that ``dtype`` can hold too; ``first`` is the output of the first column."""
    with np.errstate(over="ignore"):
        result: FloatArray = np.exp(exponents)
    too_large = result > np.finfo(dtype).max
    if too_large.any():
        t, k = (int(i) for i in np.argwhere(too_large)[0])
        raise ValueError(
            f"outputs: expected {what} that {dtype} can hold, got exp({float(exponents[t, k]):g}) at sample {t}, "
            f"output {first + k}; scale the weights of the last layer down"
            + (", or use float64" * (dtype == np.float32))
        )
    return result


def rounded(values: FloatArray, dtype: np.dtype[Any], name: str) -> FloatArray:
    """Round to the dtype of the outputs, C-contiguous; refuse what it cannot hold."""
    with np.errstate(over="ignore"):
        result: FloatArray = np.ascontiguousarray(values, dtype, like=values)
    if not np.isfinite(result).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise ValueError(
            f"{name}: expected finite numbers, got {result[where]} at index {where}: it overflows {dtype}; "
            "scale outputs and targets" + (", or use float64" if dtype == np.float32 else "")
        )
    return result


def diagonal_matrices(values: FloatArray, dtype: np.dtype[Any], name: str) -> FloatArray:
    """Diagonals (T, C) to matrices (T, C, C)."""
    diagonal = np.arange(values.shape[1], like=values)
    result = np.zeros((*values.shape, len(diagonal)), dtype, like=values)
    result[:, diagonal, diagonal] = rounded(values, dtype, name)
    return result


def as_float_targets(targets: Any, shape: tuple[int, int], dtype: npt.DTypeLike) -> FloatArray:
    if (isinstance(targets, np.ndarray) or devices.is_cuda(targets)) and targets.ndim == 1:
        classes = "class indices are targets of 'categorical' and 'cross_entropy'"
        hint = "write targets[:, None]" if shape[1] == 1 else classes
        raise ValueError(f"targets: expected 2 dimensions, got shape {targets.shape}; {hint}")
    array = as_float_array(targets, "targets", ndim=2, shape=shape)
    if array.dtype != dtype:
        raise TypeError(
            f"targets: expected {np.dtype(dtype)} like the outputs, got {array.dtype}; convert with .astype"
        )
    return array


def as_integers(
    targets: Any, shape: tuple[int, ...], expected: str, most: int, *, kinds: str, hint: str = ""
) -> npt.NDArray[np.int64]:
    """Targets from 0 to ``most`` as int64, from an array of one of the ``kinds`` of dtypes that holds integers only."""
    if np.ma.is_masked(targets):
        raise ValueError(f"targets: expected {expected}, got masked entries; fill or remove them")
    try:
        array: npt.NDArray[Any] = devices.as_array(targets)
    except ValueError as error:
        raise ValueError(f"targets: expected shape {shape}, got rows of different lengths") from error
    if array.dtype.kind not in kinds:
        raise TypeError(f"targets: expected {expected}, got dtype {array.dtype}; convert with .astype{hint}")
    if array.shape != shape:
        raise ValueError(f"targets: expected {expected}, shape {shape}, got shape {array.shape}{hint}")
    if array.dtype.kind == "f":
        array = array.astype(np.float64, copy=False)
    if array.dtype.kind in "iu":  # CuPy takes a Python integer in the dtype of the array, whether it fits or not
        most = min(most, int(np.iinfo(array.dtype).max))
    wrong = ~((array >= 0) & (array <= most) & (array == np.floor(array)))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"targets: expected {expected}, got {array[where]} at index {where}")
    return array.astype(np.int64, copy=False)


def beside(outputs: FloatArray, targets: Any, checked: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return checked targets on the device of the outputs: an array must lie there, numbers in a list are moved."""
    if hasattr(targets, "dtype"):
        same_device(("the outputs", outputs), ("targets", checked))
    moved: npt.NDArray[Any] = devices.as_like(checked, outputs)
    return moved
