"""Eigenvalues of symmetric positive semi-definite matrices and operators, and Cholesky's factors.

LAPACK and ARPACK work on arrays in the memory of the processor, cuSOLVER and products in blocks on those on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, eigsh

from . import devices
from ._validate import FloatArray
from .eigenpairs import EigenPairs, block_lanczos, residual_limits

__all__ = [
    "cholesky",
    "cholesky_solve",
    "dense_eigenpairs",
    "eigenvalues",
    "largest_eigenvalues",
    "largest_of_operator",
    "orthonormal_basis",
    "squared_frobenius_norm",
]

_DENSE_BELOW = 1500  # up to this size LAPACK's reduction is as fast as Lanczos on the stored matrix
_MOST_PRODUCTS = 1000  # for one eigenvalue, where LAPACK's reduction of a stored matrix is left at last
_CHECK = 1e-3  # residual, relative, of the search for repeated eigenvalues; its square is the error of the value


def eigenvalues(matrix: FloatArray) -> FloatArray:
    """Return all eigenvalues of a symmetric matrix, as LAPACK returns them (rounding may leave -1e-17).

    Parameters
    ----------
    matrix : array, shape (n, n)

    Returns
    -------
    array, shape (n,)
        Descending.
    """
    ascending = np.linalg.eigvalsh(matrix) if devices.is_cuda(matrix) else linalg.eigvalsh(matrix, check_finite=False)
    return _descending(ascending)


def largest_eigenvalues(matrix: FloatArray, k: int) -> FloatArray:
    """Return the k largest eigenvalues of a symmetric positive semi-definite matrix, to machine precision.

    Parameters
    ----------
    matrix : array, shape (n, n)
    k : int
        More than n counts as n.

    Returns
    -------
    array, shape (min(k, n),)
        Descending.
    """
    n = len(matrix)
    k = min(k, n)
    if n <= _DENSE_BELOW or 4 * k > n:
        if devices.is_cuda(matrix):
            return eigenvalues(matrix)[:k]
        return _descending(linalg.eigvalsh(matrix, subset_by_index=(n - k, n - 1), check_finite=False))
    if not matrix.diagonal().any():  # the zero matrix, on which ARPACK stops
        return np.zeros(k, matrix.dtype, like=matrix)
    if devices.is_cuda(matrix):
        return _largest_by_blocks(matrix, k)
    return largest_of_operator(LinearOperator(matrix.shape, matvec=matrix.__matmul__, dtype=matrix.dtype), k)


def _largest_by_blocks(matrix: FloatArray, k: int) -> FloatArray:
    """By products with blocks of vectors, which find as many copies of a repeated eigenvalue as are asked for."""
    rng = np.random.default_rng(0)
    search = block_lanczos(
        lambda rows: rows @ matrix,
        devices.as_like(rng.standard_normal((k + 1, len(matrix))).astype(matrix.dtype), matrix),
        k,
        tol=float(np.finfo(matrix.dtype).eps),
        max_products=_MOST_PRODUCTS * k,
        max_basis=max(20, 4 * (k + 1)),
        rng=rng,
        method="dual matrix",
    )
    return search.pairs.values if search.pairs.converged else eigenvalues(matrix)[:k]


def dense_eigenpairs(matrix: FloatArray, k: int, tol: float) -> EigenPairs:
    """The k largest eigenpairs of a symmetric matrix, by LAPACK or cuSOLVER.

    Parameters
    ----------
    matrix : array, shape (n, n)
    k : int
        At most n.
    tol : float
        Relative residual that ``converged`` goes by.

    Returns
    -------
    EigenPairs
    """
    n = len(matrix)
    if devices.is_cuda(matrix):
        values, vectors = (found[..., n - k :] for found in np.linalg.eigh(matrix))
    else:
        values, vectors = linalg.eigh(matrix, subset_by_index=(n - k, n - 1), check_finite=False)
    values, vectors = _descending(values), _descending(vectors)
    scale = np.abs(values).max() or 1.0
    residuals = scale * np.linalg.norm(matrix / scale @ vectors - vectors * (values / scale), axis=0)
    done = bool((residuals <= residual_limits(values, tol)).all())
    return EigenPairs(values, vectors, residuals.astype(values.dtype), 0, 0.0, "dense", tol, done)


def _descending(ascending: FloatArray) -> FloatArray:
    """Reverse the last axis."""
    reversed_: FloatArray = devices.contiguous(ascending[..., ::-1])
    return reversed_


def largest_of_operator(operator: LinearOperator, k: int) -> FloatArray:
    """Return the k largest eigenvalues of a symmetric positive semi-definite operator other than zero.

    Krylov spaces hold one copy of a repeated eigenvalue: what is found is deflated until nothing larger is left.

    Parameters
    ----------
    operator : scipy.sparse.linalg.LinearOperator, shape (n, n)
    k : int
        Less than n.

    Returns
    -------
    ndarray, shape (k,)
        Descending.
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


def orthonormal_basis(columns: FloatArray) -> FloatArray:
    """Return orthonormal columns, as many, whose span contains those given.

    Parameters
    ----------
    columns : array, shape (n, k)
        With k <= n.

    Returns
    -------
    array, shape (n, k)
    """
    if devices.is_cuda(columns):
        return np.linalg.qr(columns)[0]
    basis: FloatArray = linalg.qr(columns, mode="economic", check_finite=False)[0]
    return basis


def cholesky(matrix: FloatArray) -> Any:
    """Factor a positive definite matrix, which may be overwritten, for :func:`cholesky_solve`.

    Parameters
    ----------
    matrix : array, shape (n, n)

    Returns
    -------
    object
        Its factor, for :func:`cholesky_solve` alone.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite beside rounding.
    """
    if not devices.is_cuda(matrix):
        return linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    import cupyx

    with cupyx.errstate(linalg="raise"):  # otherwise it returns what it has got to
        return np.linalg.cholesky(matrix)


def cholesky_solve(factor: Any, columns: FloatArray) -> FloatArray:
    """Solve a system with what :func:`cholesky` returned.

    Parameters
    ----------
    factor : object
        Of an n x n matrix.
    columns : array, shape (n, k)
        Right-hand sides.

    Returns
    -------
    array, shape (n, k)
    """
    if not devices.is_cuda(columns):
        return np.asarray(linalg.cho_solve(factor, columns))
    from cupyx.scipy.linalg import solve_triangular

    upper = factor.T  # in the order of Fortran, which is not copied
    solved: FloatArray = solve_triangular(upper, solve_triangular(upper, columns, trans="T"))
    return solved


def squared_frobenius_norm(matrix: FloatArray) -> float:
    """Return the sum of squared entries, accumulated in float64 row block by row block without a second matrix.

    Parameters
    ----------
    matrix : array, shape (n, m)

    Returns
    -------
    float
    """
    step = max(1, 2**20 // matrix.shape[1])
    blocks = range(0, len(matrix), step)
    return float(sum(np.square(matrix[i : i + step], dtype=np.float64).sum() for i in blocks))
