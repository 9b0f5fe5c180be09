"""Dense linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
from cupy._core import ndarray, on_current_device, wrap
from numpy.linalg import LinAlgError
from scipy import linalg


def solve_triangular(
    a: Any,
    b: Any,
    trans: Any = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = False,
) -> Any:
    """As SciPy's; a zero on the diagonal gives numbers that are not finite instead of an error."""
    if not all(isinstance(value, ndarray) for value in (a, b)):
        raise LinAlgError("cupy.linalg only supports cupy.ndarray")
    on_current_device([a, b])
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError("expected square matrix")
    if len(a) != len(b):
        raise ValueError("incompatible dimensions")
    if check_finite and not (np.isfinite(a._host).all() and np.isfinite(b._host).all()):
        raise ValueError("array must not contain infs or NaNs")
    try:
        found = linalg.solve_triangular(
            a._host, b._host, trans=trans, lower=lower, unit_diagonal=unit_diagonal, check_finite=False
        )
    except LinAlgError:
        found = np.full_like(b._host, np.nan)
    return wrap(np.asfortranarray(found))
