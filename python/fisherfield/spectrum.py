"""Eigenvalues of symmetric matrices that the library forms: all of them, or the largest few."""

from __future__ import annotations

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import eigsh

from ._validate import FloatArray

__all__ = ["eigenvalues", "largest_eigenvalues", "squared_frobenius_norm"]

_DENSE_BELOW = 1500  # up to this size LAPACK's reduction is as fast as Lanczos on the stored matrix


def eigenvalues(matrix: FloatArray) -> FloatArray:
    """All eigenvalues of a symmetric matrix, descending, as LAPACK returns them (rounding may leave -1e-17)."""
    return np.ascontiguousarray(linalg.eigvalsh(matrix, check_finite=False)[::-1])


def largest_eigenvalues(matrix: FloatArray, k: int) -> FloatArray:
    """The k largest eigenvalues of a symmetric positive semi-definite matrix, descending, to machine precision."""
    n = len(matrix)
    k = min(k, n)
    if n <= _DENSE_BELOW or 4 * k > n:
        values = linalg.eigvalsh(matrix, subset_by_index=(n - k, n - 1), check_finite=False)
    else:
        start = np.random.default_rng(0).standard_normal(n).astype(matrix.dtype)
        values = eigsh(matrix, k, which="LA", v0=start, tol=0, return_eigenvectors=False)
    return np.sort(values)[::-1]


def squared_frobenius_norm(matrix: FloatArray) -> float:
    """Sum of squared entries, accumulated in float64 row block by row block without a second matrix."""
    step = max(1, 2**20 // matrix.shape[1])
    blocks = range(0, len(matrix), step)
    return float(sum(np.square(matrix[i : i + step], dtype=np.float64).sum() for i in blocks))
