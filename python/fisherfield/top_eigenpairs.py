r"""The largest eigenvalues of a metric: which method, and from where it starts.

Theory says where to look. In a wide network that is not centred the top eigenvectors lie in the span of the C mean
gradients (Karakida, Akaho, Amari 2021, Theorem 3.2), of which one transposed sweep gives a random combination; and what
belongs to the mean over samples a subsample shows as well, at its share of the cost. So the search runs on a subsample
first, from mean gradients, and on all samples from what it found there.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import devices
from ._executor import Progress, reporter
from ._memory import available_beside
from ._validate import FloatArray, as_generator, boolean, choice, non_negative, positive_int
from .eigenpairs import EigenPairs, Search, block_lanczos
from .spectrum import dense_eigenpairs

if TYPE_CHECKING:
    from .matrixfree import MatrixFreeMetric

__all__ = ["METHODS", "top_eigenpairs"]

METHODS = ("auto", "dense", "dual matrix", "matrix-free")

_COARSE_SHARE = 20  # one sample in so many is in the subsample
_COARSE_SAMPLES = 50  # below so many a subsample says little
_COARSE_TOL = 1e-3  # far below the sampling error, lest the C close eigenvalues at the top be mixed up
_BELIEVED = 0.1  # relative error of a subsample's eigenvalues up to which it is taken to show the right ones
_DENSE_SIZE = 1000  # up to this size LAPACK is as fast as anything
_EXPECTED_PRODUCTS = 6  # for one pair, from where the search starts
_ROW_BYTES = 2**26  # of a matrix in a file, read at once


def top_eigenpairs(
    metric: MatrixFreeMetric,
    k: int,
    tol: float,
    *,
    vectors: bool,
    start: Any,
    max_products: int | None,
    method: str,
    seed: int | np.random.Generator | None,
    progress: Progress,
) -> EigenPairs:
    """See :meth:`MatrixFreeMetric.top_eigenpairs`."""
    if positive_int(k, "k") > metric.rank_bound:
        raise ValueError(
            f"k: expected at most min(P, R T) = {metric.rank_bound}, for no more differ from zero, got {k}"
        )
    non_negative(tol, "tol", strict=True)
    boolean(vectors, "vectors")
    limit = 300 + 30 * k if max_products is None else positive_int(max_products, "max_products")
    chosen = choice(method, "method", METHODS)
    if start is not None and chosen not in ("auto", "matrix-free"):
        raise ValueError(f"start: expected only together with method='matrix-free', got start with method={method!r}")
    if chosen == "auto":
        chosen = _cheapest(metric, k) if start is None else "matrix-free"
    rng = as_generator(seed, stream="eigenpairs")
    first = None if start is None else metric._as_vectors(start, "start")
    if first is not None and first.ndim == 2 and first.shape[1] > metric.rank_bound:
        raise ValueError(f"start: expected at most {metric.rank_bound} vectors, got {first.shape[1]}")
    if chosen == "dense":
        found = _dense(metric, k, tol, vectors)
    elif chosen == "dual matrix":
        found = _on_dual_matrix(metric, k, tol, vectors, limit, rng, progress)
    else:
        found = _matrix_free(
            metric, k, tol, None if first is None else _rows(first.reshape(len(first), -1)), limit, rng, progress
        )
    return found if vectors else replace(found, vectors=None)


def _cheapest(metric: MatrixFreeMetric, k: int) -> str:
    """The method with the least operations, of those whose matrix fits."""
    size = min(metric.dimension, metric.num_seeds * metric.num_samples)
    if size <= max(_DENSE_SIZE, 4 * k):
        return "dense"
    if metric._has_dual:
        return "dual matrix"
    room = available_beside(metric.X)
    fits = room is None or 3 * size**2 * metric.dtype.itemsize < room
    lapack = 8 / 3 * size**3  # its reduction, at half the rate of products
    dense = metric.estimate("dual").flops + lapack
    products = metric.estimate("product").flops * _EXPECTED_PRODUCTS * k
    return "dense" if fits and dense < products else "matrix-free"


def _dense(metric: MatrixFreeMetric, k: int, tol: float, vectors: bool) -> EigenPairs:
    matrix = metric._smaller
    found = _moved(dense_eigenpairs(matrix, k, tol), metric)
    if not vectors or not metric._dual_is_smaller:
        return found
    return _from_dual(metric, found)


def _on_dual_matrix(
    metric: MatrixFreeMetric,
    k: int,
    tol: float,
    vectors: bool,
    max_products: int,
    rng: np.random.Generator,
    progress: Progress,
) -> EigenPairs:
    matrix = metric.dual()

    def times(rows: FloatArray) -> FloatArray:
        return np.concatenate([block @ rows.T for block in _row_blocks(matrix)]).T

    start = _random_rows(min(k + 1, len(matrix)), matrix, rng)
    found = _moved(_searched(times, start, k, tol, max_products, rng, "dual matrix", progress).pairs, metric)
    return _from_dual(metric, found) if vectors else found


def _moved(found: EigenPairs, metric: MatrixFreeMetric) -> EigenPairs:
    """Eigenpairs of a matrix, which lies in the memory of the processor if it comes from a file, on the device of X."""
    values, vectors, residuals = (
        devices.as_like(array, metric.X) for array in (found.values, found.vectors, found.residuals)
    )
    return replace(found, values=values, vectors=vectors, residuals=residuals)


def _row_blocks(matrix: FloatArray) -> Iterator[FloatArray]:
    """A matrix by blocks of rows; of one in a file, what has been read is let go, lest it count as memory in use."""
    rows = max(1, _ROW_BYTES // (matrix.shape[1] * matrix.itemsize))
    mapped: Any = getattr(matrix, "_mmap", None)
    for begin in range(0, len(matrix), rows):
        yield devices.as_array(matrix[begin : begin + rows])
        if hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)


def _from_dual(metric: MatrixFreeMetric, found: EigenPairs) -> EigenPairs:
    """Eigenvectors of G from those of its dual: J^T u, normalised."""
    assert found.vectors is not None
    if not found.values[-1] > len(found.vectors) * np.finfo(metric.dtype).eps * found.values[0]:
        raise ValueError(
            f"vectors: expected eigenvalues above rounding, got {float(found.values[-1]):g} beside "
            f"{float(found.values[0]):g}; ask for fewer pairs, or take method='matrix-free'"
        )
    shape = (len(found.values), metric.num_seeds, metric.num_samples)
    rows = metric._gradients.transposed_times(_rows(found.vectors).reshape(shape))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return replace(found, vectors=devices.contiguous(rows.T))


def _matrix_free(
    metric: MatrixFreeMetric,
    k: int,
    tol: float,
    start: FloatArray | None,
    max_products: int,
    rng: np.random.Generator,
    progress: Progress,
) -> EigenPairs:
    """From what a subsample shows, if all samples have about its eigenvalues; otherwise, or with a start, guarded."""
    seen, spent = _subsampled(metric, k, max_products, rng)

    def searched(first: FloatArray, guarded: bool) -> EigenPairs:
        left = max(1.0, max_products - spent)
        return _searched(metric._times, first, k, tol, left, rng, "matrix-free", progress, guarded).pairs

    if start is None and seen is not None:
        found = searched(_rows(seen.pairs.vectors), guarded=False)
        if np.all(np.abs(found.values - seen.pairs.values) <= _BELIEVED * np.abs(seen.pairs.values)):
            return replace(found, products=found.products + spent)
        spent += found.products
        start = _rows(found.vectors)
    elif start is None:
        start, spent = _mean_gradients(metric, k, rng), 0.5 * k
    guards = [_random_rows(1, start, rng)] + ([] if seen is None else [seen.rest[None]])
    found = searched(np.concatenate([start, *guards]), guarded=True)
    return replace(found, products=found.products + spent)


def _subsampled(
    metric: MatrixFreeMetric, k: int, max_products: int, rng: np.random.Generator
) -> tuple[Search | None, float]:
    """What a subsample shows, if it is large enough, and its cost in products with all samples."""
    few = metric.num_samples // _COARSE_SHARE
    if few < _COARSE_SAMPLES or few * metric.num_seeds < 4 * (k + 1):
        return None, 0.0
    coarse = metric._subsample(np.sort(rng.choice(metric.num_samples, few, replace=False)))
    gradients = _mean_gradients(coarse, k, rng)
    block = np.concatenate([gradients, _random_rows(1, gradients, rng)])
    seen = _searched(coarse._times, block, k, _COARSE_TOL, max_products, rng, "matrix-free", None)
    per_sample = metric._scale * metric.num_samples / (coarse._scale * few)  # T / few of the tangent kernel, which sums
    values = (seen.pairs.values * per_sample).astype(metric.dtype)
    spent = (seen.pairs.products + 0.5 * k) * few / metric.num_samples
    return replace(seen, pairs=replace(seen.pairs, values=values)), spent


def _rows(vectors: FloatArray | None) -> FloatArray:
    assert vectors is not None
    rows: FloatArray = devices.contiguous(vectors.T)
    return rows


def _random_rows(count: int, like: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Rows as long as those of ``like``, on its device and in its precision."""
    rows: FloatArray = devices.as_like(rng.standard_normal((count, like.shape[1])).astype(like.dtype), like)
    return rows


def _mean_gradients(metric: MatrixFreeMetric, k: int, rng: np.random.Generator) -> FloatArray:
    """Random combinations of the mean gradients, (k, P): half a product each; random vectors where they vanish."""
    drawn = rng.standard_normal((k, metric.net.num_outputs)).astype(metric.dtype)
    u = metric._seed_products(devices.as_like(drawn, metric.X))
    found = metric._gradients.transposed_times(u)
    largest = np.abs(found).max(axis=1, keepdims=True)
    usable = np.isfinite(largest).all() and (largest > 0).all()
    return found / largest if usable else _random_rows(k, found, rng)


def _searched(
    times: Callable[[FloatArray], FloatArray],
    start: FloatArray,
    k: int,
    tol: float,
    max_products: float,
    rng: np.random.Generator,
    method: str,
    progress: Progress,
    guarded: bool = True,
) -> Search:
    total = math.ceil(max_products)
    report, close = reporter(progress, total, "products")
    try:
        return block_lanczos(
            times,
            start,
            k,
            tol=tol,
            max_products=max_products,
            max_basis=max(20, 4 * (k + 1)),
            rng=rng,
            method=method,
            guarded=guarded,
            report=lambda products, residual: report(min(products, total), total),
        )
    finally:
        close()
