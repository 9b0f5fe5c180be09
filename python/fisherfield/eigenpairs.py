"""The largest eigenvalues and eigenvectors of a symmetric positive semi-definite matrix through products with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import devices
from ._validate import FloatArray

__all__ = ["EigenPairs", "Search", "block_lanczos", "residual_limits"]

# A residual within this many roundings of the eigenvalue is as small as the products allow.
_ROUNDINGS = 50
_FAIR = 0.1  # relative residual of a Ritz pair that is about where an eigenvalue is


@dataclass(frozen=True, eq=False)
class EigenPairs:
    r"""The k largest eigenvalues of a metric G, with what is known of their accuracy; arrays lie where its inputs do.

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
        ``"dense"`` (LAPACK or cuSOLVER on the smaller of G and its dual), ``"dual matrix"`` (block Lanczos on the dual
        that was there) or ``"matrix-free"`` (block Lanczos through the layers).
    tol : float
        Asked for.
    converged : bool
        Whether every residual is at most ``tol`` times its value, or 50 roundings of the largest: products are no
        better. It says that there are such eigenvalues; that none is larger rests, as in every method of products, on
        the vectors from which the search started.
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
        shown = ", ".join(f"{value:.6g}" for value in devices.on_host(self.values[:4])) + (
            ", ..." if len(self.values) > 4 else ""
        )
        state = "converged" if self.converged else "NOT converged"
        worst = float(np.max(self.residuals / np.maximum(self.values, np.finfo(self.values.dtype).tiny)))
        return (
            f"EigenPairs(values=[{shown}], {state}: relative residuals <= {worst:.1e}, tol={self.tol:g}, "
            f"{self.products:.3g} products, {self.method})"
        )


def residual_limits(values: FloatArray, tol: float) -> FloatArray:
    """Return the residuals that converged pairs have at most.

    Parameters
    ----------
    values : array, shape (k,)
        Eigenvalues, descending.
    tol : float
        Relative.

    Returns
    -------
    array, shape (k,)
        The larger of ``tol`` times each value and 50 roundings of the largest.
    """
    limits: FloatArray = np.maximum(tol * values, _ROUNDINGS * np.finfo(values.dtype).eps * abs(values[0]))
    return limits


@dataclass(frozen=True)
class Search:
    """What a search found, and a random vector of what else it saw, mostly of the next eigenvalues.

    Attributes
    ----------
    pairs : EigenPairs
    rest : array, shape (n,)
    """

    pairs: EigenPairs
    rest: FloatArray


def block_lanczos(
    times: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    k: int,
    *,
    tol: float,
    max_products: float,
    max_basis: int,
    rng: np.random.Generator,
    method: str,
    guarded: bool = True,
    report: Callable[[int, float], object] = lambda products, residual: None,
) -> Search:
    r"""The k largest eigenpairs by block Lanczos with full reorthogonalisation and thick restarts.

    The residuals of the pairs that are not yet converged extend the basis; each step is one block of products. They
    span what block Lanczos spans (Golub and Van Loan, *Matrix Computations*, 4th ed., section 10.3) and let converged
    pairs rest; restarts keep the best Ritz vectors (Wu and Simon 2000).

    A start can lie in an invariant subspace without the largest eigenvalue, and its residuals vanish all the same.
    A guard, the next Ritz pair that has not converged, is extended until it is a fair one and its value and residual
    together stay below the k-th value. It is worth what the start holds beyond the first k vectors.

    Parameters
    ----------
    times : callable
        Products with vectors in the rows: (m, n) to (m, n).
    start : array, shape (m, n)
        First block; random vectors fill it up to k. All vectors lie on its device.
    k : int
        Pairs to find.
    tol : float
        Residual at which a pair has converged, relative to its value.
    max_products : float
        After so many it stops, converged or not.
    max_basis : int
        Vectors held, twice (with their products); at least 2 (k + 1).
    rng : numpy.random.Generator
        Of the random vectors.
    method : str
        What the result names as its method.
    guarded : bool
        Whether to go by the guard.
    report : callable
        Called with the products so far and the largest relative residual.

    Returns
    -------
    Search
        Vectors of its pairs in the columns, (n, k).
    """
    n, dtype = start.shape[1], start.dtype
    fill = devices.as_like(rng.standard_normal((max(0, k - len(start)), n)).astype(dtype), start)
    block = _orthonormal(np.concatenate([start, fill]), np.empty_like(start[:0]), rng, at_least=k)
    moved = times(block)
    scale = dtype.type(float(np.abs(moved).max()) or 1.0)  # of what follows: no square of it leaves the range
    basis = _Basis(max(max_basis, len(block)), start)
    basis.append(block, moved / scale)
    products, iterations = len(block), 1
    while True:
        values, mix = basis.ritz()
        vectors, residuals = basis.pairs(values[:k], mix[:, :k])
        norms = devices.on_host(_norms(residuals))
        limits = residual_limits(values[:k].astype(dtype), tol)
        extension: FloatArray = residuals[devices.as_like(norms > limits, residuals)]
        report(products, float(np.max(norms / np.maximum(values[:k], np.finfo(np.float64).tiny))))
        if len(extension) == 0 and guarded:
            extension = _guard(basis, values, mix, k, limits[-1])
        done = len(extension) == 0 or basis.size == n
        if done or products >= max_products:
            found = EigenPairs(
                devices.as_like((values[:k] * float(scale)).astype(dtype), start),
                devices.contiguous(vectors.T),
                devices.as_like((norms * float(scale)).astype(dtype), start),
                iterations,
                float(products),
                method,
                tol,
                bool(done),
            )
            others = rng.standard_normal(basis.size - k) * np.maximum(values[k:], 0)
            return Search(found, (mix[:, k:] @ devices.as_like(others.astype(dtype), start)) @ basis.vectors)
        if basis.size + len(extension) > max_basis:
            kept = max(k + 2, max_basis // 2)
            basis.compress(values[:kept], mix[:, :kept])
        block = _orthonormal(extension, basis.vectors, rng, at_least=1)
        basis.append(block, times(block) / scale)
        products, iterations = products + len(block), iterations + 1


class _Basis:
    """Orthonormal vectors in rows, their products with the matrix, and the matrix projected on them (float64).

    The vectors lie where those of ``like`` do; the small matrix is NumPy's.
    """

    def __init__(self, capacity: int, like: FloatArray) -> None:
        shape = (capacity, like.shape[1])
        self._vectors, self._moved = (np.empty(shape, like.dtype, like=like) for _ in range(2))
        self._projected = np.empty((capacity, capacity))
        self.size = 0

    @property
    def vectors(self) -> FloatArray:
        return self._vectors[: self.size]

    def append(self, block: FloatArray, moved: FloatArray) -> None:
        old, new = slice(0, self.size), slice(self.size, self.size + len(block))
        self._vectors[new], self._moved[new] = block, moved
        self.size = new.stop
        columns = devices.on_host(self.vectors @ moved.T).astype(np.float64)
        self._projected[old, new], self._projected[new, old] = columns[old], columns[old].T
        self._projected[new, new] = 0.5 * (columns[new] + columns[new].T)

    def ritz(self) -> tuple[npt.NDArray[np.float64], FloatArray]:
        """Ritz values, descending, and the coefficients of the Ritz vectors, in columns."""
        values, mix = np.linalg.eigh(self._projected[: self.size, : self.size])
        mix = np.ascontiguousarray(mix[:, ::-1].astype(self._vectors.dtype))
        return values[::-1], devices.as_like(mix, self._vectors)

    def pairs(self, values: npt.NDArray[np.float64], mix: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Ritz vectors and their residuals, in rows."""
        vectors = mix.T @ self.vectors
        residuals = mix.T @ self._moved[: self.size]
        residuals -= devices.as_like(values[:, None].astype(vectors.dtype), vectors) * vectors
        return vectors, residuals

    def compress(self, values: npt.NDArray[np.float64], mix: FloatArray) -> None:
        """Keep these Ritz vectors alone."""
        kept = mix.T @ self.vectors, mix.T @ self._moved[: self.size]
        self.size = len(values)
        self._vectors[: self.size], self._moved[: self.size] = kept
        self._projected[: self.size, : self.size] = np.diag(values)


def _guard(basis: _Basis, values: npt.NDArray[np.float64], mix: FloatArray, k: int, limit: float) -> FloatArray:
    """The residual, as one row, of the first Ritz pair after k that has not converged, unless it is below the k-th."""
    for j in range(k, len(values)):
        _, residual = basis.pairs(values[j : j + 1], mix[:, j : j + 1])
        size = float(_norms(residual)[0])
        if size > limit:
            below = size <= _FAIR * values[j] and values[j] + size <= values[k - 1] + limit
            return residual[:0] if below else residual
    return basis.vectors[:0]


def _norms(rows: FloatArray) -> FloatArray:
    norms: FloatArray = np.linalg.norm(rows.astype(np.float64), axis=1)
    return norms


def _orthonormal(block: FloatArray, basis: FloatArray, rng: np.random.Generator, *, at_least: int) -> FloatArray:
    """An orthonormal basis of what the block adds to an orthonormal basis.

    Of at least so many vectors if there is room: directions that are lost to rounding are replaced by random ones.
    """
    n, dtype = block.shape[1], block.dtype
    missing = min(at_least, n - len(basis))
    candidates = list(block)
    found = np.empty_like(block[:0])
    while candidates or len(found) < missing:
        vector = candidates.pop(0) if candidates else _random_vector(block, rng)
        shrunk = 0.0
        for _ in range(3):  # once is enough where little is taken away, and rounding alone is left where three are not
            length = float(np.linalg.norm(vector))
            if length == 0:
                break
            vector = vector / dtype.type(length)
            for others in (basis, found):
                vector = vector - (others @ vector) @ others
            shrunk = float(np.linalg.norm(vector))
            if shrunk > 0.9:
                break
        if shrunk > 0.5 and len(basis) + len(found) < n:
            found = np.concatenate([found, vector[None] / dtype.type(shrunk)])
    return found


def _random_vector(rows: FloatArray, rng: np.random.Generator) -> FloatArray:
    """One more of them."""
    vector: FloatArray = devices.as_like(rng.standard_normal((rows.shape[1],)).astype(rows.dtype), rows)
    return vector
