r"""Traces of symmetric positive semi-definite operators from products with random vectors, with error bars.

Hutchinson's estimator and Hutch++ (Meyer, Musco, Musco, Woodruff 2021), of A and of A^2. Both are exactly unbiased.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from . import devices
from ._executor import Progress, reporter
from ._memory import require_memory
from ._validate import FloatArray, as_dtype, as_generator, positive_int
from .spectrum import orthonormal_basis

__all__ = ["Estimate", "as_operator", "example", "hutch_plus_plus", "hutchinson", "product"]

_BLOCK_BYTES = 2**26  # vectors multiplied at once; which ones does not depend on it, for they are drawn one by one
_PROVING = 64  # probes of a block that bound the largest eigenvalues


@dataclass(frozen=True)
class Estimate:
    """A random estimate with its standard error; ``float(estimate)`` is its value.

    Attributes
    ----------
    value : float
    standard_error : float
        Estimated standard deviation of ``value``.
    probes : int
        Random vectors that the standard error comes from.
    products : int
        Products of the matrix with one vector that it took.
    method : str
    """

    value: float
    standard_error: float
    probes: int
    products: int
    method: str

    def __float__(self) -> float:
        return self.value

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate of ``factor`` (not negative) times the quantity.

        Parameters
        ----------
        factor : float
            Not negative; not checked.

        Returns
        -------
        Estimate
            Value and standard error times the factor.
        """
        return Estimate(self.value * factor, self.standard_error * factor, self.probes, self.products, self.method)


def as_operator(operator: Any, name: str = "operator") -> LinearOperator:
    """Return ``operator`` as a square LinearOperator of float32 or float64; arrays and sparse matrices too.

    Of what belongs to CuPy it is CuPy's LinearOperator, otherwise SciPy's.

    Parameters
    ----------
    operator : LinearOperator, array or sparse matrix, shape (n, n)
    name : str
        What errors call it (default ``"operator"``).

    Returns
    -------
    LinearOperator, shape (n, n)

    Raises
    ------
    TypeError
        For something else, or another dtype than float32 and float64.
    ValueError
        If it is not square, or empty.
    """
    try:
        found = _as_operator_on_gpu(operator) if _is_of_cupy(operator) else aslinearoperator(operator)
    except TypeError as error:
        raise TypeError(
            f"{name}: expected a scipy.sparse.linalg.LinearOperator or a matrix, got {type(operator).__name__}"
        ) from error
    if found.shape[0] != found.shape[1] or found.shape[0] == 0:
        raise ValueError(f"{name}: expected a square matrix, got shape {found.shape}")
    as_dtype(found.dtype, f"{name}.dtype")
    return found


def _is_of_cupy(operator: Any) -> bool:
    """Whether it is an array, a sparse matrix or an operator of CuPy, which multiplies arrays of CuPy."""
    return any(kind.__module__.partition(".")[0] in ("cupy", "cupyx") for kind in type(operator).__mro__)


def _as_operator_on_gpu(operator: Any) -> Any:
    from cupyx.scipy.sparse.linalg import aslinearoperator as as_operator_on_gpu

    return as_operator_on_gpu(operator)


def example(operator: LinearOperator) -> FloatArray:
    """Return an empty array of the kind that the operator multiplies.

    Parameters
    ----------
    operator : LinearOperator
        Of SciPy or CuPy.

    Returns
    -------
    array, shape (0,)
        In its dtype, on its device.
    """
    empty = devices.import_cupy().empty if _is_of_cupy(operator) else np.empty
    nothing: FloatArray = empty(0, operator.dtype)
    return nothing


def product(operator: LinearOperator, vectors: FloatArray) -> FloatArray:
    """``operator @ vectors``, (n, k): one call for all, refused unless finite.

    Parameters
    ----------
    operator : LinearOperator, shape (n, n)
    vectors : array, shape (n, k)
        In the columns, on the device of the operator.

    Returns
    -------
    array, shape (n, k)

    Raises
    ------
    ValueError
        For a product of another shape, or with NaN or infinity.
    """
    result: FloatArray = devices.as_array(operator.matmat(devices.contiguous(vectors)))
    if result.shape != vectors.shape:
        raise ValueError(f"operator: expected products of shape {vectors.shape}, got {result.shape}")
    if not np.isfinite(result).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise ValueError(
            f"operator: expected finite products, got {result[row, column]} in row {row} of the product with a finite "
            f"vector; check the operator for NaN and overflow of {result.dtype}"
        )
    return result


def hutchinson(
    operator: Any,
    *,
    power: int = 1,
    probes: int = 30,
    seed: int | np.random.Generator | None = None,
    progress: Progress = None,
) -> Estimate:
    r"""Estimate tr A or tr A^2 of a symmetric positive semi-definite A by Hutchinson's estimator.

    .. math:: \mathrm{tr} A \approx \frac{1}{k} \sum_{i=1}^k z_i^\top A z_i, \qquad
        \mathrm{tr} A^2 \approx \frac{1}{k} \sum_{i=1}^k \|A z_i\|^2,

    with entries :math:`\pm 1` of the probes z. Exactly unbiased; the variance of one term of the first is
    :math:`2 (\|A\|_F^2 - \sum_i A_{ii}^2)`.

    Parameters
    ----------
    operator : LinearOperator or array, shape (n, n)
        Symmetric positive semi-definite, float32 or float64.
    power : {1, 2}
        Of A.
    probes : int
        k >= 2: the standard error comes from the spread of the terms; for A from that of the entries of each term.
    seed : int, numpy.random.Generator or None
    progress : None, True or callable
        Progress over probes: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    Estimate
        Of ``probes`` products.

    Raises
    ------
    ValueError, TypeError
        For a matrix that is not square, wrong dtypes, fewer than two probes, products that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.estimators import hutchinson
    >>> estimate = hutchinson(np.diag([1.0, 2.0, 3.0]) + 0.1, probes=100, seed=0)
    >>> abs(estimate.value - 6.3) < 4 * estimate.standard_error
    True
    """
    A, rng = as_operator(operator), as_generator(seed, stream="trace")
    p, k = _checked_power(power), positive_int(probes, "probes", minimum=2)
    report, close = reporter(progress, k, "trace")
    try:
        mean, error = _mean_of_probes(A, p, k, rng, None, _counter(report, k))
    finally:
        close()
    return Estimate(mean, error, k, k, "hutchinson")


def hutch_plus_plus(
    operator: Any,
    *,
    power: int = 1,
    probes: int = 10,
    seed: int | np.random.Generator | None = None,
    progress: Progress = None,
) -> Estimate:
    r"""Estimate tr A or tr A^2 of a symmetric positive semi-definite A by Hutch++.

    .. math:: \mathrm{tr} A = \mathrm{tr}\, Q^\top A Q + \mathrm{tr}\, (I - Q Q^\top) A (I - Q Q^\top)

    with an orthonormal basis Q of the range of A S, S of k random vectors: the first term is computed, the second
    estimated by Hutchinson's estimator with k probes (Meyer, Musco, Musco, Woodruff 2021, Algorithm 1). Exactly
    unbiased; exact for matrices of rank k, and far better than Hutchinson's estimator where a few eigenvalues carry
    the trace. For tr A^2 the same with A^2 in the place of A.

    Parameters
    ----------
    operator : LinearOperator or array, shape (n, n)
        Symmetric positive semi-definite, float32 or float64.
    power : {1, 2}
        Of A.
    probes : int
        k >= 2: random vectors of the sketch (at most n), and as many of Hutchinson's part, from whose spread the
        standard error comes.
    seed : int, numpy.random.Generator or None
    progress : None, True or callable
        Progress over products: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    Estimate
        Of ``3 * probes`` products, ``4 * probes`` for A^2 (fewer if n < probes).

    Raises
    ------
    ValueError, TypeError
        For a matrix that is not square, wrong dtypes, fewer than two probes, products that are not finite.
    MemoryError
        If the sketch cannot fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.estimators import hutch_plus_plus
    >>> vectors = np.random.default_rng(0).standard_normal((500, 4))
    >>> bool(np.isclose(float(hutch_plus_plus(vectors @ vectors.T, probes=5, seed=0)), (vectors**2).sum()))
    True
    """
    A, rng = as_operator(operator), as_generator(seed, stream="trace")
    p, k = _checked_power(power), positive_int(probes, "probes", minimum=2)
    sketch = min(k, A.shape[0])
    require_memory(
        4 * A.shape[0] * sketch * A.dtype.itemsize,
        f"the sketch of {sketch} vectors of length {A.shape[0]}",
        "use fewer probes",
        example(A),
    )
    products = (p + 1) * sketch + k
    report, close = reporter(progress, products, "trace")
    count = _counter(report, products)
    try:
        Q = _signs(A, sketch, rng)
        for _ in range(p):
            Q = product(A, Q)
            count(sketch)
        Q = orthonormal_basis(Q)
        AQ = product(A, Q)
        computed = float(_column_sums(Q if p == 1 else AQ, AQ).sum())
        count(sketch)

        def project(z: FloatArray) -> FloatArray:
            rest: FloatArray = z - Q @ (Q.T @ z)
            return rest

        mean, error = _mean_of_probes(A, p, k, rng, project, count)
    finally:
        close()
    return Estimate(computed + mean, error, k, products, "hutch++")


def _checked_power(power: int) -> int:
    if positive_int(power, "power") > 2:
        raise ValueError(f"power: expected 1 or 2, got {power}")
    return power


def _column_sums(a: FloatArray, b: FloatArray) -> FloatArray:
    """Products of the columns of a and b, summed in float64."""
    sums: FloatArray = np.einsum("ik,ik->k", a, b, dtype=np.float64)
    return sums


def _mean_of_probes(
    A: LinearOperator,
    power: int,
    k: int,
    rng: np.random.Generator,
    project: Callable[[FloatArray], FloatArray] | None,
    count: Callable[[int], object],
) -> tuple[float, float]:
    """Mean and standard error of ``z^T A^power z``, z = P s with signs s, blocks of probes at once.

    The variance of ``s^T B s`` is twice the sum of those of the n entries of ``s o B s``: estimated from these it
    varies far less than from k sums. Products with B = P A P are there; of B = P A^2 P there is but the sum. Where one
    eigenvalue carries B, all probes may have little of it, and their spread too: what they prove of the largest
    eigenvalues bounds the variance from below. (With P those are gone.)
    """
    terms, spread, proven = [], _Spread(example(A)), 0.0
    for signs in _sign_blocks(A, k, rng):
        z = signs if project is None else project(signs)
        y = product(A, z)
        terms.append(_column_sums(*((z, y) if power == 1 else (y, y))))
        if power == 1:
            spread.add(signs * (y if project is None else project(y)))
        if project is None:
            some = slice(min(_PROVING, *z.shape))
            proven = max(proven, float((_ritz_values(z[:, some], y[:, some]) ** (2 * power)).sum()))
        count(z.shape[1])
    all_terms = np.concatenate(terms)
    mean = float(all_terms.mean())
    if power == 1:
        variance = 2 * max(spread.squares, k * (proven - spread.squared_mean)) / (k - 1)
    else:
        variance = max(float(all_terms.var(ddof=1)), 2 * (proven - mean**2 / A.shape[0]))
    return mean, math.sqrt(variance / k)


def _ritz_values(z: FloatArray, Az: FloatArray) -> FloatArray:
    """Rayleigh quotients of A in the space of A^(1/2) z: they lie below its eigenvalues one by one, if A >= 0."""
    inner = devices.on_host(z.T.astype(np.float64) @ Az)
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    kept = values > math.sqrt(np.finfo(Az.dtype).eps) * values[-1]
    if not kept.any():
        return np.zeros(1)
    basis = Az @ devices.as_like(vectors[:, kept] / np.sqrt(values[kept]), Az)
    quotients: FloatArray = np.linalg.eigvalsh(devices.on_host(basis.T @ basis))
    return quotients


class _Spread:
    """Sum over columns of the squared distance to their mean, column block by column block."""

    def __init__(self, like: FloatArray) -> None:
        self.squares, self._count, self._mean = 0.0, 0, np.zeros(1, like=like)

    @property
    def squared_mean(self) -> float:
        return float(self._mean @ self._mean)

    def add(self, columns: FloatArray) -> None:
        count, mean = columns.shape[1], columns.mean(axis=1, dtype=np.float64)
        distances = columns - mean[:, None]
        total, shift = self._count + count, mean - self._mean
        self.squares += float(_column_sums(distances, distances).sum())
        self.squares += float(shift @ shift) * self._count * count / total
        self._mean = self._mean + shift * (count / total)
        self._count = total


def _sign_blocks(A: LinearOperator, k: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Probes of signs, (n, at most k): the same ones however they are cut into blocks."""
    n = A.shape[0]
    step = max(1, _BLOCK_BYTES // (n * A.dtype.itemsize))
    for begin in range(0, k, step):
        yield _signs(A, min(step, k - begin), rng)


def _signs(A: LinearOperator, k: int, rng: np.random.Generator) -> FloatArray:
    """Vectors of random signs, (n, k), drawn one after the other."""
    rows = [rng.integers(0, 2, A.shape[0], dtype=np.int8) for _ in range(k)]
    bits: FloatArray = devices.as_like(np.stack(rows, axis=1), example(A))
    return (2 * bits - 1).astype(A.dtype)


def _counter(report: Callable[[int, int], object], total: int) -> Callable[[int], object]:
    """Count finished products and report each."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        for _ in range(more):
            done += 1
            report(done, total)

    return count
