"""The largest eigenvalues and eigenvectors of a symmetric positive semi-definite matrix through products with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from ._validate import FloatArray

__all__ = ["EigenPairs", "block_lanczos", "dense_eigenpairs"]

# A residual within this many roundings of the eigenvalue is as small as the products allow.
_ROUNDINGS = 50


@dataclass(frozen=True)
class EigenPairs:
    r"""The k largest eigenvalues of a metric G, with what is known of their accuracy.

    Attributes
    ----------
    values : array, shape (k,)
        Eigenvalues, descending.
    vectors : array, shape (P, k), or None
        Orthonormal eigenvectors in the columns, where they were asked for.
    residuals : array, shape (k,)
        :math:`\|G v - \lambda v\|`: an eigenvalue of G lies so close to every value.
    iterations : int
        Steps, of one block of products each; 0 for a dense method.
    products : float
        Products with one vector; those with a subsample of the data count by its share of the samples.
    method : str
        ``"dense"`` (LAPACK on the smaller of G and its dual), ``"dual matrix"`` (block Lanczos on the dual that was
        there) or ``"matrix-free"`` (block Lanczos through the layers).
    tol : float
        Asked for.
    converged : bool
        Whether every residual is at most ``tol`` times its value, or as small as rounding of the products lets it be.
    """

    values: FloatArray
    vectors: FloatArray | None
    residuals: FloatArray
    iterations: int
    products: float
    method: str
    tol: float
    converged: bool

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.6g}" for value in self.values[:4]) + (", ..." if len(self.values) > 4 else "")
        state = "converged" if self.converged else "NOT converged"
        worst = float(np.max(self.residuals / np.maximum(self.values, np.finfo(self.values.dtype).tiny)))
        return (
            f"EigenPairs(values=[{shown}], {state}: relative residuals <= {worst:.1e}, tol={self.tol:g}, "
            f"{self.products:.3g} products, {self.method})"
        )


def dense_eigenpairs(matrix: FloatArray, k: int, tol: float) -> EigenPairs:
    """The k largest eigenpairs of a symmetric matrix, by LAPACK."""
    n = len(matrix)
    values, vectors = linalg.eigh(matrix, subset_by_index=(n - k, n - 1), check_finite=False)
    values, vectors = np.ascontiguousarray(values[::-1]), np.ascontiguousarray(vectors[:, ::-1])
    residuals = np.linalg.norm(matrix @ vectors - vectors * values, axis=0)
    return EigenPairs(values, vectors, residuals, 0, 0.0, "dense", tol, True)


def block_lanczos(
    times: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    k: int,
    *,
    tol: float,
    max_products: int,
    max_basis: int,
    rng: np.random.Generator,
    method: str,
    report: Callable[[int, float], object] = lambda products, residual: None,
) -> EigenPairs:
    r"""The k largest eigenpairs by block Lanczos with full reorthogonalisation and thick restarts.

    The residuals of the pairs that are not yet converged extend the basis; each step is one block of products. They
    span what block Lanczos spans (Golub and Van Loan, *Matrix Computations*, 4th ed., section 10.3) and let converged
    pairs rest; restarts keep the best Ritz vectors (Wu and Simon 2000).

    Parameters
    ----------
    times : callable
        Products with vectors in the rows: (m, n) to (m, n).
    start : array, shape (m, n)
        First block; random vectors fill it up to k.
    max_products : int
        After so many it stops, converged or not.
    max_basis : int
        Vectors held, twice (with their products); at least 2 k.
    rng : numpy.random.Generator
        Of the random vectors.
    report : callable
        Called with the products so far and the largest relative residual.
    """
    n, dtype = start.shape[1], start.dtype
    fill = rng.standard_normal((max(0, k - len(start)), n)).astype(dtype)
    basis, moved = np.empty((0, n), dtype), np.empty((0, n), dtype)
    block = _orthonormal(np.concatenate([start, fill]), basis, rng, at_least=k)
    limit = max(tol, _ROUNDINGS * float(np.finfo(dtype).eps))
    products = iterations = 0
    while True:
        basis, moved = np.concatenate([basis, block]), np.concatenate([moved, times(block)])
        products, iterations = products + len(block), iterations + 1
        values, mix = _ritz(basis, moved)
        wanted = mix[:, :k].T
        vectors, images = wanted @ basis, wanted @ moved
        residuals = images - values[:k, None].astype(dtype) * vectors
        norms = np.linalg.norm(residuals.astype(np.float64), axis=1)
        floor = limit * np.maximum(values[:k], np.finfo(dtype).eps * values[0])
        open_ = norms > floor
        report(products, float(np.max(norms / np.maximum(values[:k], np.finfo(np.float64).tiny))))
        done = not open_.any() or len(basis) == n
        if done or products >= max_products:
            values, norms = values[:k].astype(dtype), norms.astype(dtype)
            vectors = np.ascontiguousarray(vectors.T)
            return EigenPairs(values, vectors, norms, iterations, float(products), method, tol, bool(done))
        if len(basis) + int(open_.sum()) > max_basis:
            kept = mix[:, : max(k + 1, max_basis // 2)].T
            basis, moved = kept @ basis, kept @ moved
        block = _orthonormal(residuals[open_], basis, rng, at_least=1)


def _ritz(basis: FloatArray, moved: FloatArray) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """Ritz values, descending, in float64, and the coefficients of the Ritz vectors, in columns."""
    projected = (basis @ moved.T).astype(np.float64)
    values, mix = np.linalg.eigh(0.5 * (projected + projected.T))
    return values[::-1], np.ascontiguousarray(mix[:, ::-1].astype(basis.dtype))


def _orthonormal(block: FloatArray, basis: FloatArray, rng: np.random.Generator, *, at_least: int) -> FloatArray:
    """An orthonormal basis of what the block adds to an orthonormal basis.

    Of at least so many vectors if there is room: directions that are lost to rounding are replaced by random ones.
    """
    n, dtype = block.shape[1], block.dtype
    missing = min(at_least, n - len(basis))
    candidates = list(block)
    found = np.empty((0, n), dtype)
    while candidates or len(found) < missing:
        vector = candidates.pop(0) if candidates else rng.standard_normal((n,)).astype(dtype)
        shrunk = 0.0
        for _ in range(3):  # twice is enough unless rounding is all that is left, which the third time shows
            length = np.linalg.norm(vector)
            if length == 0:
                break
            vector = vector / np.asarray(length, dtype)
            for others in (basis, found):
                vector = vector - (others @ vector) @ others
            shrunk = float(np.linalg.norm(vector))
        if shrunk > 0.5 and len(basis) + len(found) < n:
            found = np.concatenate([found, vector[None] / np.asarray(shrunk, dtype)])
    return found
