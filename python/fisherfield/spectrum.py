"""Eigenvalues of symmetric positive semi-definite matrices and operators: all of them, or the largest few."""

from __future__ import annotations

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, eigsh

from ._validate import FloatArray

__all__ = ["eigenvalues", "largest_eigenvalues", "largest_of_operator", "squared_frobenius_norm"]

_DENSE_BELOW = 1500  # up to this size LAPACK's reduction is as fast as Lanczos on the stored matrix
_CHECK = 1e-3  # residual, relative, of the search for repeated eigenvalues; its square is the error of the value


def eigenvalues(matrix: FloatArray) -> FloatArray:
    """All eigenvalues of a symmetric matrix, descending, as LAPACK returns them (rounding may leave -1e-17)."""
    return np.ascontiguousarray(linalg.eigvalsh(matrix, check_finite=False)[::-1])


def largest_eigenvalues(matrix: FloatArray, k: int) -> FloatArray:
    """The k largest eigenvalues of a symmetric positive semi-definite matrix, descending, to machine precision."""
    n = len(matrix)
    k = min(k, n)
    if n <= _DENSE_BELOW or 4 * k > n:
        values = linalg.eigvalsh(matrix, subset_by_index=(n - k, n - 1), check_finite=False)
        return np.ascontiguousarray(values[::-1])
    if not matrix.diagonal().any():  # the zero matrix, on which ARPACK stops
        return np.zeros(k, matrix.dtype)
    return largest_of_operator(LinearOperator(matrix.shape, matvec=matrix.__matmul__, dtype=matrix.dtype), k)


def largest_of_operator(operator: LinearOperator, k: int) -> FloatArray:
    """The k largest eigenvalues of a symmetric positive semi-definite operator other than zero, descending.

    Krylov spaces hold one copy of a repeated eigenvalue: what is found is deflated until nothing larger is left.
    """
    n, dtype = operator.shape[0], operator.dtype
    rng = np.random.default_rng(0)
    values, vectors = np.empty(0, dtype), np.empty((n, 0), dtype)

    def deflated(x: FloatArray) -> FloatArray:
        x = x.ravel()
        product: FloatArray = operator.matvec(x) - vectors @ (values * (vectors.T @ x))
        return product

    def largest(count: int, tol: float) -> tuple[FloatArray, FloatArray]:
        start = rng.standard_normal(n).astype(dtype)
        remainder = LinearOperator((n, n), matvec=deflated, dtype=dtype)
        pair: tuple[FloatArray, FloatArray] = eigsh(remainder, count, which="LA", v0=start, tol=tol)
        return pair

    while True:
        more, directions = largest(k, 0)
        values, vectors = np.append(values, more), np.hstack([vectors, directions])
        top = np.sort(values)[: -k - 1 : -1]
        if k == 1 or largest(1, _CHECK)[0][0] <= top[-1]:
            return np.ascontiguousarray(top)


def squared_frobenius_norm(matrix: FloatArray) -> float:
    """Sum of squared entries, accumulated in float64 row block by row block without a second matrix."""
    step = max(1, 2**20 // matrix.shape[1])
    blocks = range(0, len(matrix), step)
    return float(sum(np.square(matrix[i : i + step], dtype=np.float64).sum() for i in blocks))
