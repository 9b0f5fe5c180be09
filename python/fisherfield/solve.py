r"""Damped linear systems with a metric, without its P x P matrix.

The inverse of :math:`G + \lambda I` with :math:`G = s J^\top J` is known through the dual :math:`G^* = s J J^\top`,

.. math:: (G + \lambda I)^{-1} g = \frac{1}{\lambda} \left( g - s J^\top (G^* + \lambda I)^{-1} J g \right)

(Woodbury): one Cholesky factorisation of size R T, and products with J and with its transpose. The difference loses
digits where G is large beside the damping; one step of refinement brings them back. Where the dual is too large,
conjugate gradients need products alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import devices
from ._executor import Progress, reporter
from ._memory import available_beside, require_memory
from ._validate import FloatArray, boolean, choice, non_negative, positive_int, require_finite
from .spectrum import cholesky, cholesky_solve

if TYPE_CHECKING:
    from .matrixfree import MatrixFreeMetric

__all__ = ["METHODS", "Solution", "solve"]

METHODS = ("auto", "dense", "matrix-free")

_SMALL_SIZE = 1000  # up to this size a factorisation is as fast as anything


@dataclass(frozen=True, eq=False)
class Solution:
    r"""The solution of a damped system, and how it was found.

    Attributes
    ----------
    x : array, shape (P,) or (P, k)
    residual : float
        Largest :math:`|g - (G + \lambda I) x| / |g|` of the k systems, from products.
    method : {"dense", "matrix-free"}
    products : int
        With G, of one vector.
    converged : bool
        Whether the residual is within what was asked; that of a factorisation within rounding.
    """

    x: FloatArray
    residual: float
    method: str
    products: int
    converged: bool

    def __repr__(self) -> str:
        state = "" if self.converged else ", not converged"
        return (
            f"Solution(shape={self.x.shape}, residual={self.residual:.1e}, method={self.method!r}, "
            f"products={self.products}{state})"
        )


def solve(
    metric: MatrixFreeMetric,
    g: Any,
    damping: float,
    *,
    method: str,
    tol: float,
    max_products: int | None,
    details: bool,
    progress: Progress,
) -> FloatArray | Solution:
    """See :meth:`MatrixFreeMetric.solve`.

    Parameters
    ----------
    metric : MatrixFreeMetric
    g : array, shape (P,) or (P, k)
    damping : float
        Above 0.
    method : {"auto", "dense", "matrix-free"}
    tol : float
        Relative residual for conjugate gradients, above 0.
    max_products : int or None
        At most, of conjugate gradients; None is 1000 per system.
    details : bool
        Whether to return a :class:`Solution`.
    progress : None, True or callable
        Progress over products.

    Returns
    -------
    array, of the shape of g, or Solution

    Raises
    ------
    ValueError, TypeError
        For other arguments, and a damping below rounding.
    MemoryError
        If the matrix of the dense method cannot fit.

    Warns
    -----
    RuntimeWarning
        If conjugate gradients stopped early.
    """
    vectors = metric._as_vectors(g, "g")
    rows: FloatArray = devices.contiguous(vectors.T).reshape(-1, metric.dimension)
    size = non_negative(damping, "damping", strict=True)
    rtol = non_negative(tol, "tol", strict=True)
    boolean(details, "details")
    limit = 1000 * len(rows) if max_products is None else positive_int(max_products, "max_products")
    chosen = choice(method, "method", METHODS)
    if chosen == "auto":
        chosen = _cheaper(metric, size, rtol, len(rows))
    if chosen == "dense":
        x, products, reached = _dense(metric, rows, size), len(rows), True
    else:
        x, products, reached = _conjugate_gradients(metric, rows, size, rtol, limit, progress)
    shaped: FloatArray = devices.contiguous(x.T).reshape(vectors.shape)
    if not (details or not reached):
        return shaped
    residual = _residual(metric, rows, x, size)
    if not reached:
        warnings.warn(
            f"solve(): reached a residual of {residual:.1e} in {products} products, not {rtol:g}; allow more with "
            "max_products, or take more damping",
            RuntimeWarning,
            stacklevel=3,
        )
    return Solution(shaped, residual, chosen, products + len(rows), reached) if details else shaped


def _cheaper(metric: MatrixFreeMetric, damping: float, tol: float, count: int) -> str:
    """The method with the fewer operations, of those whose matrix fits."""
    size = min(metric.dimension, metric.num_seeds * metric.num_samples)
    if size <= _SMALL_SIZE:
        return "dense"
    room = available_beside(metric.X)
    if room is not None and 3 * size**2 * metric.dtype.itemsize > room:
        return "matrix-free"
    dual = 0.0 if metric._has_dual and metric._dual_is_smaller else metric.estimate("dual").flops
    steps = 0.5 * math.sqrt(1 + metric._trace / damping) * math.log(2 / tol)  # at most, of conjugate gradients
    return "dense" if dual + size**3 / 3 < metric.estimate("product").flops * count * steps else "matrix-free"


def _dense(metric: MatrixFreeMetric, rows: FloatArray, damping: float) -> FloatArray:
    """By Cholesky's factors of the smaller of G and its dual."""
    matrix = metric._smaller
    size = len(matrix)
    require_memory(matrix.nbytes, f"the factor of a {size} x {size} matrix", "take method='matrix-free'", rows)
    damped = devices.as_like(matrix, rows).copy()
    damped[np.diag_indices_from(damped)] += damped.dtype.type(damping)
    try:
        factor = cholesky(damped)
    except np.linalg.LinAlgError as error:
        top = float(matrix.diagonal().max())
        raise ValueError(
            f"damping: expected enough to make the matrix positive definite beside rounding in {metric.dtype} (its "
            f"largest entry is {top:.1e}), got {damping:g}; take more" + ", or float64" * (metric.dtype == np.float32)
        ) from error
    if not metric._dual_is_smaller:
        return cholesky_solve(factor, rows.T).T
    x = _through_dual(metric, rows, factor, damping)
    x += _through_dual(metric, _remainder(metric, rows, x, damping), factor, damping)
    require_finite(x, "solve()")
    return x


def _through_dual(metric: MatrixFreeMetric, rows: FloatArray, factor: Any, damping: float) -> FloatArray:
    """``(g - s J^T (G* + damping)^-1 J g) / damping``, from the factor of the dual."""
    moved = metric._gradients.times(rows)  # (k, R, T)
    inner = cholesky_solve(factor, moved.reshape(len(rows), -1).T).T
    back = metric._gradients.transposed_times(devices.contiguous(inner).reshape(moved.shape))
    back *= back.dtype.type(-metric._scale)
    back += rows
    back /= back.dtype.type(damping)
    return back


def _conjugate_gradients(
    metric: MatrixFreeMetric, rows: FloatArray, damping: float, tol: float, limit: int, progress: Progress
) -> tuple[FloatArray, int, bool]:
    """Solutions, products taken, and whether all are within the tolerance."""
    done = 0
    report, close = reporter(progress, limit, "products")

    def damped(v: FloatArray) -> FloatArray:
        nonlocal done
        done += 1
        report(done, limit)
        product: FloatArray = metric._times(v[None])[0] + v.dtype.type(damping) * v
        return product

    x, reached = np.zeros_like(rows), True
    try:
        for row, solution in zip(rows, x, strict=True):
            if row.any():
                reached = _conjugate_gradient(damped, row, solution, tol, max(1, limit - done)) and reached
    finally:
        close()
    return x, done, reached


def _conjugate_gradient(
    times: Callable[[FloatArray], FloatArray], g: FloatArray, x: FloatArray, tol: float, max_products: int
) -> bool:
    """Solve for one g into x, which is zero (Hestenes, Stiefel 1952); whether the residual fell below the tolerance."""
    enough = tol * float(np.linalg.norm(g))
    remainder, direction, before = g.copy(), np.zeros_like(g), 1.0
    for _ in range(max_products):
        if np.linalg.norm(remainder) < enough:
            return True
        square = np.dot(remainder, remainder)
        direction *= square / before
        direction += remainder
        moved = times(direction)
        step = square / np.dot(direction, moved)
        x += step * direction
        remainder -= step * moved
        before = square
    return False


def _remainder(metric: MatrixFreeMetric, rows: FloatArray, x: FloatArray, damping: float) -> FloatArray:
    """``g - (G + damping) x``."""
    return rows - metric._times(x) - x.dtype.type(damping) * x


def _residual(metric: MatrixFreeMetric, rows: FloatArray, x: FloatArray, damping: float) -> float:
    """The largest relative residual."""
    sizes = (np.linalg.norm(vectors, axis=1) for vectors in (rows, _remainder(metric, rows, x, damping)))
    norms, left = (devices.on_host(size) for size in sizes)
    return float(np.max(left[norms > 0] / norms[norms > 0], initial=0.0))
