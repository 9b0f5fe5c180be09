r"""Spectral densities and counts of symmetric operators from products with vectors: stochastic Lanczos quadrature.

A start vector z and m steps of Lanczos give a tridiagonal matrix whose eigenvalues and first components of
eigenvectors are the nodes and weights of the Gauss quadrature of the measure :math:`\mu_z` with
:math:`z^\top f(A) z = \int f \, d\mu_z`; the average over random z is the density of eigenvalues
(Golub, Meurant 2010; Lin, Saad, Yang 2016; Ubaru, Chen, Saad 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from . import devices
from ._executor import Progress, reporter
from ._memory import human, require_memory
from ._validate import FloatArray, as_float_array, as_generator, non_negative, number, positive_int, same_device
from .estimators import Estimate, as_operator, example, product

__all__ = ["Band", "SpectralDensity", "Tridiagonals", "spectral_density", "tridiagonalize"]

_ROUNDINGS = 64  # of the largest eigenvalue: what a product leaves in the place of zero
_RESIDUAL = 1e-4  # relative to the eigenvalue, of eigenpairs taken as known: their values are right to its square
_RADAU_BYTES = 2**24  # tridiagonal matrices diagonalised at once
_FAR = 1e6  # in units of the spectrum, where a node that lies at infinity is put
_NEGATIVE = 1e-3  # relative to the largest, of eigenvalues that cannot be rounding of zero
_SHARPEST = 0.03  # decades, width of what is known to be one eigenvalue

_Product = Callable[[FloatArray], FloatArray]  # of a matrix with columns


class Band(NamedTuple):
    """A curve with its standard error: two arrays of one shape.

    Attributes
    ----------
    value : array
        Float64, of the shape of the points asked for.
    standard_error : array
        Float64, of the same shape.
    """

    value: FloatArray
    standard_error: FloatArray


@dataclass(frozen=True, eq=False)
class Tridiagonals:
    r"""What Lanczos made of k start vectors: :math:`A Q_i = Q_i T_i + \beta_{i, s_i} q e^\top` for each.

    The arrays are NumPy's, of an operator on a GPU too.

    Attributes
    ----------
    diagonal : array, shape (k, m)
        :math:`\alpha`, float64; zero beyond ``steps``.
    off_diagonal : array, shape (k, m)
        :math:`\beta`, float64; the last of each, at ``steps - 1``, couples to the rest of the space and is 0 if the
        Krylov space is exhausted.
    steps : array, shape (k,)
        How many steps were taken: fewer than asked for where the Krylov space is smaller, 0 for a vector of zeros.
    squared_norms : array, shape (k,)
        Of the start vectors.
    """

    diagonal: FloatArray
    off_diagonal: FloatArray
    steps: npt.NDArray[np.intp]
    squared_norms: FloatArray

    def matrix(self, i: int) -> FloatArray:
        """Return T of start vector i, shape (steps[i], steps[i]).

        Parameters
        ----------
        i : int
            From 0 to k - 1.

        Returns
        -------
        array, shape (steps[i], steps[i])

        Raises
        ------
        IndexError
            If there is no such vector.
        """
        m = self.steps[i]
        return _tridiagonal(self.diagonal[i, :m], self.off_diagonal[i, : max(m - 1, 0)])

    def quadrature(self, i: int) -> tuple[FloatArray, FloatArray]:
        r"""Return nodes (ascending) and weights of start vector i.

        Their sum :math:`\sum_j w_j \theta_j^p` is :math:`z_i^\top A^p z_i` for all p < 2 ``steps[i]``, and for all p
        where the Krylov space is exhausted.

        Parameters
        ----------
        i : int
            From 0 to k - 1.

        Returns
        -------
        nodes, weights : array, shape (steps[i],)

        Raises
        ------
        IndexError
            If there is no such vector.
        """
        if self.steps[i] == 0:
            return np.empty(0), np.empty(0)
        nodes, vectors = np.linalg.eigh(self.matrix(i))
        return nodes, self.squared_norms[i] * vectors[0] ** 2


def _tridiagonal(diagonal: FloatArray, off_diagonal: FloatArray) -> FloatArray:
    return np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)


def tridiagonalize(operator: Any, start: Any, steps: int, *, progress: Progress = None) -> Tridiagonals:
    """Run Lanczos with full reorthogonalisation from k start vectors at once.

    Each start vector has a Krylov space of its own; a step multiplies the operator with all k vectors together. A
    space that is exhausted (an eigenvalue problem solved exactly) ends early, the others go on. The bases are kept in
    the precision of the operator, coefficients in float64.

    Parameters
    ----------
    operator : LinearOperator or array, shape (n, n)
        Symmetric, float32 or float64.
    start : array, shape (n, k)
        In the operator's precision.
    steps : int
        At most n are taken.
    progress : None, True or callable
        Progress over steps: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    Tridiagonals

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, mixed precision, products that are not finite.
    MemoryError
        If the bases (``n * steps * k`` numbers) cannot fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.lanczos import tridiagonalize
    >>> lanczos = tridiagonalize(np.diag([1.0, 2.0, 2.0, 5.0]), np.ones((4, 1)), 10)
    >>> lanczos.steps  # three different eigenvalues
    array([3])
    >>> nodes, weights = lanczos.quadrature(0)
    >>> nodes.round(12), weights.round(12)
    (array([1., 2., 5.]), array([1., 2., 1.]))
    """
    A = as_operator(operator)
    vectors = as_float_array(start, "start", ndim=2, shape=(A.shape[0], None))
    if vectors.dtype != A.dtype:
        raise TypeError(
            f"start: expected {A.dtype} like the operator, got {vectors.dtype}; convert it, for instance with .astype"
        )
    same_device(("operator", example(A)), ("start", vectors))
    m = min(positive_int(steps, "steps"), A.shape[0])
    require_memory(
        _basis_bytes(A, m) * vectors.shape[1],
        f"the Krylov bases of {vectors.shape[1]} vectors of length {A.shape[0]} and {m} steps",
        "take fewer steps, or fewer start vectors at a time",
        vectors,
    )
    steps_done = _Steps(progress, m)
    try:
        return _run(partial(product, A), devices.contiguous(vectors.T), m, steps_done.count)[0]
    finally:
        steps_done.close()


class _Steps:
    """Report steps done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.done, self.total = 0, total
        self._report, self.close = reporter(progress, total, "Lanczos")

    def count(self) -> None:
        self.done += 1
        self._report(self.done, self.total)


def _basis_bytes(A: LinearOperator, steps: int) -> int:
    return int(A.shape[0] * A.dtype.itemsize) * steps


def _run(
    times: _Product,
    start: FloatArray,
    steps: int,
    step_done: Callable[[], object],
    enough: Callable[[Tridiagonals], bool] = lambda found: False,
) -> tuple[Tridiagonals, FloatArray]:
    """Lanczos from the rows of ``start`` (k, n): the tridiagonals, and the bases (k, steps, n).

    What is taken for the end of a Krylov space is a residual of the size of rounding; going on from a somewhat larger
    one does no harm, for the vectors stay orthogonal and the weights of what follows are its square. No more products
    are made once what is found is ``enough``. Vectors lie on the device of ``start``, coefficients are NumPy's.
    """
    k, n = start.shape
    basis = np.zeros((k, steps, n), start.dtype, like=start)
    diagonal, off_diagonal = np.zeros((k, steps)), np.zeros((k, steps))
    taken, size = np.zeros(k, np.intp), np.zeros(k)
    norms = devices.on_host(_norms(start))
    found = Tridiagonals(diagonal, off_diagonal, taken, norms**2)
    active = np.flatnonzero(norms)
    q = _divided(start[devices.as_like(active, start)], norms[active])
    for j in range(steps):
        if active.size:
            basis[devices.as_like(active, start), j] = q
            rest = devices.contiguous(times(devices.contiguous(q.T)).T)
            diagonal[active, j] = devices.on_host(np.einsum("ij,ij->i", q, rest, dtype=np.float64))
            for row, w in zip(active, rest, strict=True):
                _orthogonalize(w, basis[row, : j + 1])
            beta = devices.on_host(_norms(rest))
            size[active] = np.maximum(size[active], np.maximum(np.abs(diagonal[active, j]), beta))
            taken[active] = j + 1
            beta[beta <= 4 * np.finfo(start.dtype).eps * size[active]] = 0
            if j + 1 < n:
                off_diagonal[active, j] = beta
            goes_on = beta > 0
            q = _divided(rest[devices.as_like(goes_on, rest)], beta[goes_on])
            active = active[goes_on]
            if enough(found):
                active = active[:0]
        step_done()
    return found, basis


def _norms(rows: FloatArray) -> FloatArray:
    """Norms of rows, in float64; scaled, so that no square leaves the range."""
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    scale = np.where(largest > 0, largest, 1.0)
    scaled = rows / scale[:, None]
    norms: FloatArray = scale * np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
    return norms


def _divided(rows: FloatArray, norms: FloatArray) -> FloatArray:
    divided: FloatArray = (rows / devices.as_like(norms[:, None], rows)).astype(rows.dtype)
    return divided


def _orthogonalize(w: FloatArray, basis: FloatArray) -> None:
    """Take from w, in place, what lies in the span of orthonormal rows; twice is enough."""
    for _ in range(2):
        w -= (basis @ w) @ basis


def _largest_pairs(
    A: LinearOperator, k: int, steps: int, rng: np.random.Generator, step_done: Callable[[], object]
) -> tuple[FloatArray, FloatArray, int]:
    """Up to k largest eigenpairs, as far as one Krylov space knows them, and the steps it took."""
    eps = float(np.finfo(A.dtype).eps)
    precise = min(_RESIDUAL, np.sqrt(eps))
    start, times = _spheres(rng, 1, _no_vectors(A)), partial(product, A)
    lanczos, basis = _run(
        times,
        start,
        steps,
        step_done,
        lambda so_far: so_far.steps[0] % 4 == 0 and _converged(so_far, precise)[0].size >= k,
    )
    values, vectors = _converged(lanczos, _RESIDUAL)
    nonzero = values > _ROUNDINGS * eps * values.max(initial=0.0)
    values, vectors = values[nonzero], vectors[:, nonzero]
    pairs = basis[0, : lanczos.steps[0]].T @ devices.as_like(vectors[:, :k].astype(A.dtype), basis)
    return values[:k].copy(), pairs, int(lanczos.steps[0])


def _converged(lanczos: Tridiagonals, tolerance: float) -> tuple[FloatArray, FloatArray]:
    """The largest Ritz values, descending, down to the first whose residual is too large, and their eigenvectors."""
    values, vectors, residuals = _ritz(lanczos, 0)
    good = (residuals <= tolerance * values) & (values > 0)
    count = int(np.argmin(np.append(good[::-1], False)))
    return values[::-1][:count], vectors[:, ::-1][:, :count]


def _ritz(lanczos: Tridiagonals, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Ritz values, ascending, eigenvectors of T and residuals: some eigenvalue is at least so close."""
    m = lanczos.steps[i]
    values, vectors = np.linalg.eigh(lanczos.matrix(i))
    return values, vectors, lanczos.off_diagonal[i, m - 1] * np.abs(vectors[-1])


def _spheres(rng: np.random.Generator, k: int, known: FloatArray) -> FloatArray:
    """Rows uniform on the unit sphere of the complement of ``known`` (n, d), drawn one after the other."""
    rows = devices.as_like(np.stack([rng.standard_normal(len(known)) for _ in range(k)]), known)
    for _ in range(2):
        rows -= (rows @ known) @ known.T
    norms = _norms(rows)
    rows /= np.where(norms > 0, norms, 1.0)[:, None]
    spheres: FloatArray = rows.astype(known.dtype)
    return spheres


# --- stochastic Lanczos quadrature ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    r"""How the eigenvalues of a positive semi-definite matrix are distributed, estimated from random probes.

    Numbers are counts: of all P eigenvalues, known outliers and zeros included; arrays are NumPy's. The probes are
    uniform on the sphere of radius :math:`\sqrt N` in the N dimensions where no eigenvector is known, so that for any
    function f the mean over probes of :math:`z^\top f(A) z` has exactly the variance

    .. math:: \frac{2 N}{N + 2} \left( \mathrm{tr} f(A)^2 - \frac{(\mathrm{tr} f(A))^2}{N} \right)

    over the number of probes; the standard errors are this with the traces estimated from the same probes. Those of
    counts contain, besides, how far the quadrature resolves the threshold: half the distance of the bounds of
    Chebyshev, Markov and Stieltjes. If more probes do not make them smaller, more steps do.

    Attributes
    ----------
    dimension : int
        P.
    known : array, shape (d,)
        Eigenvalues put back exactly, descending.
    lanczos : Tridiagonals
        Of the probes, of squared norm N.
    products : int
        Products of the matrix with one vector that it took.
    size : int
        n of the operator; P - n eigenvalues are zero.
    floor : float
        What is at or below it is rounding of zero: ``64 * eps * maximum``.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.lanczos import spectral_density
    >>> eigenvalues = np.append(np.linspace(0.5, 1.5, 400), 50.0)
    >>> basis = np.linalg.qr(np.random.default_rng(0).standard_normal((401, 401)))[0]
    >>> density = spectral_density((basis * eigenvalues) @ basis.T, deflate=1, dimension=1000, seed=0)
    >>> density.known.round(6)
    array([50.])
    >>> above = density.count_above(1.0)  # 201, out of 1000
    >>> abs(above.value - 201) < 4 * above.standard_error < 40
    True
    >>> x = density.grid(200)
    >>> integral = np.trapezoid(density.density(x).value, np.log10(x))
    >>> bool(abs(integral - 401) < 4)
    True
    """

    dimension: int
    known: FloatArray
    lanczos: Tridiagonals = field(repr=False)
    products: int
    size: int
    floor: float

    @property
    def probes(self) -> int:
        """Number of random vectors."""
        return len(self.lanczos.steps)

    @cached_property
    def _quadratures(self) -> list[tuple[FloatArray, FloatArray]]:
        return [self.lanczos.quadrature(i) for i in range(self.probes)]

    @property
    def nodes(self) -> tuple[FloatArray, ...]:
        """Ritz values of each probe, ascending."""
        return tuple(nodes for nodes, _ in self._quadratures)

    @property
    def weights(self) -> tuple[FloatArray, ...]:
        """How many eigenvalues each node stands for: they sum to N for every probe."""
        return tuple(weights for _, weights in self._quadratures)

    @property
    def _rest(self) -> int:
        """N, the dimensions in which nothing is known."""
        return self.size - len(self.known)

    # --- moments --------------------------------------------------------------------------------------------

    @property
    def maximum(self) -> float:
        """Largest known or Ritz value: a lower bound of the largest eigenvalue, soon exact."""
        tops = [nodes[-1] for nodes in self.nodes if len(nodes)]
        return float(max([*self.known, *tops], default=0.0))

    @property
    def mean(self) -> Estimate:
        """Mean of all P eigenvalues: tr G / P."""
        return self._moment(1)

    @property
    def second_moment(self) -> Estimate:
        """Mean square of all P eigenvalues: tr G^2 / P."""
        return self._moment(2)

    def _moment(self, power: int) -> Estimate:
        # Ritz values lie below the eigenvalues one by one, so their squares bound the trace of squares from below
        sums = [float(weights @ nodes**power) for nodes, weights in self._quadratures]
        squares = [float(weights @ nodes ** (2 * power)) for nodes, weights in self._quadratures]
        at_least = max(float((nodes ** (2 * power)).sum()) for nodes in self.nodes)
        total, error = np.mean(sums), self._error(np.mean(sums), max(float(np.mean(squares)), at_least))
        return self._estimate(total + (self.known**power).sum(), error).scaled(1 / self.dimension)

    def _error(self, sums: npt.ArrayLike, squares: npt.ArrayLike) -> FloatArray:
        """Standard error of tr f(A), from estimates of tr f(A) and tr f(A)^2."""
        N = max(self._rest, 1)
        variance = 2 * N / (N + 2) * (np.asarray(squares) - np.square(sums) / N)
        error: FloatArray = np.sqrt(np.maximum(variance, 0.0) / self.probes)
        return error

    def _estimate(self, value: Any, error: Any) -> Estimate:
        return Estimate(float(value), float(error), self.probes, self.products, "lanczos")

    # --- counts ---------------------------------------------------------------------------------------------

    def count_above(self, threshold: float) -> Estimate:
        """Estimate the number of eigenvalues >= ``threshold`` among all P; all of them are >= 0.

        Parameters
        ----------
        threshold : float
            Any finite number; at or below 0 the answer is P, exactly.

        Returns
        -------
        Estimate
            The number of eigenvalues and its standard error.

        Raises
        ------
        ValueError, TypeError
            If ``threshold`` is not a finite number.
        """
        x = number(threshold, "threshold")
        if x <= 0:
            return self._estimate(self.dimension, 0.0)
        below, error = self._count_below(np.array([x]))
        return self._estimate(self._rest - below[0] + (self.known >= x).sum(), error[0])

    def cumulative(self, x: npt.ArrayLike) -> Band:
        """Estimate the number of eigenvalues <= x among all P, for every entry of x; with standard errors.

        Parameters
        ----------
        x : float or array
            Where.

        Returns
        -------
        Band
            Numbers of eigenvalues and their standard errors, of the shape of x, in float64.

        Raises
        ------
        ValueError, TypeError
            If entries of x are not finite numbers.
        """
        points = _points(x)
        flat = points.ravel()
        below, error = self._count_below(np.maximum(flat, 0.0))
        exact = (self.known <= flat[:, None]).sum(axis=1) + self.dimension - self.size
        count, error = np.where(flat >= 0, below + exact, 0.0), np.where(flat >= 0, error, 0.0)
        return Band(count.reshape(points.shape), error.reshape(points.shape))

    @property
    def num_zero(self) -> Estimate:
        """How many of all P eigenvalues are zero: at or below ``floor``."""
        count = self.cumulative(0.0)
        return self._estimate(count.value, count.standard_error)

    def _count_below(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Of the unknown eigenvalues, how many lie below each x >= 0 (half of those at x), and the standard error.

        No polynomial tells zero from what is tiny: at and below the floor, zeros are the Ritz values that have come
        there, and the upper bound of their number says how sure that is.
        """
        tiny = x <= self.floor
        splits = [self._radau(i, np.maximum(x, self.floor)) for i in range(self.probes)]
        least = np.mean([split[0] for split in splits], axis=0)
        at = np.mean([split[1] for split in splits], axis=0)
        zeros = float(np.mean([weights[nodes <= self.floor].sum() for nodes, weights in self._quadratures]))
        count = np.where(tiny, zeros, least + at / 2)
        unresolved = np.where(tiny, np.abs(least + at - zeros), at / 2)
        # Cauchy's interlacing: there are at least as many eigenvalues on either side as there are Ritz values
        sides = [np.searchsorted(nodes, np.maximum(x, self.floor), "right") for nodes in self.nodes]
        fewest = np.max(sides, axis=0)
        most = self._rest - np.max([len(nodes) - side for nodes, side in zip(self.nodes, sides, strict=True)], axis=0)
        supposed = np.clip(count, fewest, np.maximum(fewest, most))
        return count, np.hypot(self._error(supposed, supposed), unresolved)

    def _radau(self, i: int, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weight below x and at x of the quadrature that has a node at x, and is exact otherwise as Gauss's is.

        They bound the measure of what lies below from both sides (Chebyshev, Markov, Stieltjes).
        """
        m = int(self.lanczos.steps[i])
        coupling = self.lanczos.off_diagonal[i, m - 1] if m else 0.0
        if coupling == 0:
            return _split_discrete(*self._quadratures[i], x, self.floor / 8)
        alpha, beta = self.lanczos.diagonal[i, :m], self.lanczos.off_diagonal[i, :m]
        size = float(np.abs(self.nodes[i]).max() + coupling)
        pivots, negative = _last_pivots(alpha, beta, x, np.finfo(np.float64).eps * size)
        ends = np.clip(x + coupling**2 / pivots, -_FAR * size, _FAR * size)
        below, at = np.empty(len(x)), np.empty(len(x))
        step = max(1, _RADAU_BYTES // (8 * (m + 1) ** 2))
        for begin in range(0, len(x), step):
            part = slice(begin, begin + step)
            matrices = np.repeat(_tridiagonal(np.append(alpha, 0.0), beta)[None], len(x[part]), axis=0)
            matrices[:, m, m] = ends[part]
            weights = self.lanczos.squared_norms[i] * np.linalg.eigh(matrices)[1][:, 0] ** 2
            sums = np.hstack([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)])
            rows = np.arange(len(weights))
            below[part] = sums[rows, negative[part]]
            at[part] = weights[rows, negative[part]]
        return below, at

    # --- density --------------------------------------------------------------------------------------------

    def grid(self, num: int = 200) -> FloatArray:
        """Return ``num`` points, equally far on a logarithmic axis, over all that lies above ``floor``.

        Parameters
        ----------
        num : int
            At least 2 (default 200).

        Returns
        -------
        array, shape (num,), float64
            Ascending.

        Raises
        ------
        ValueError, TypeError
            If nothing lies above ``floor``, or for another ``num``.
        """
        values = np.concatenate([self.known, *self.nodes])
        values = values[values > self.floor]
        if values.size == 0:
            raise ValueError("grid(): expected eigenvalues above 0, got a zero matrix")
        low, high = np.log10(float(values.min())), np.log10(float(values.max()))
        margin = max(0.05 * (high - low), 4 * _SHARPEST)
        low = max(low - margin, np.log10(self.floor))
        points: FloatArray = np.logspace(low, high + margin, positive_int(num, "num", minimum=2))
        return points

    def density(self, x: npt.ArrayLike, width: float | None = None) -> Band:
        r"""Estimate the density of the eigenvalues above ``floor`` on a logarithmic axis, in eigenvalues per decade.

        .. math:: \frac{d N}{d \log_{10} \lambda}(x) = \sum_j w_j\, g(\log_{10} x - \log_{10} \theta_j)

        with Gaussians g around the nodes. Zeros have no place on the axis: :attr:`num_zero` counts them.

        Parameters
        ----------
        x : float or array
            Where, > 0.
        width : float, optional
            Standard deviation of the Gaussians in decades. Default: for each node by the distance to its neighbours,
            so that the bulk is smooth at the resolution of the quadrature; a node that is one sharp eigenvalue
            (or a known one) stays sharp, 0.03 decades wide.

        Returns
        -------
        Band
            Values and standard errors, of the shape of x. The error is that of the smoothed density.

        Raises
        ------
        ValueError, TypeError
            If entries of x are not finite numbers > 0, or ``width`` is none.
        """
        points = _points(x)
        if (points <= 0).any():
            raise ValueError(f"x: expected numbers > 0, got {points.min()}")
        given = None if width is None else non_negative(width, "width", strict=True)
        log_x = np.log10(points.ravel())
        total, squares = np.zeros(len(log_x)), np.zeros(len(log_x))
        for i in range(self.probes):
            log_nodes, weights, widths = self._log_nodes(i)
            kernel = _gaussians(log_x, log_nodes, widths if given is None else np.full_like(widths, given))
            total += kernel @ weights / self.probes
            squares += kernel**2 @ weights / self.probes
        error = self._error(total, squares)
        known = np.log10(self.known[self.known > self.floor])
        total += _gaussians(log_x, known, np.full_like(known, given or _SHARPEST)).sum(axis=1)
        return Band(total.reshape(points.shape), error.reshape(points.shape))

    def _log_nodes(self, i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Decimal logarithms of a probe's nodes above the floor, their weights and default widths."""
        nodes, weights = self._quadratures[i]
        residuals = _ritz(self.lanczos, i)[2] if len(nodes) else nodes
        positive = nodes > self.floor
        nodes, weights, residuals = nodes[positive], weights[positive], residuals[positive]
        log_nodes = np.log10(nodes)
        uncertain = np.minimum(_distances(log_nodes), np.log10(1 + residuals / nodes))
        return log_nodes, weights, np.maximum(uncertain, _SHARPEST)


def _distances(points: FloatArray) -> FloatArray:
    """Mean distance of ascending points to their neighbours."""
    if len(points) < 2:
        return np.full(len(points), np.inf)
    gaps = np.diff(points)
    distances: FloatArray = (np.append(gaps[:1], gaps) + np.append(gaps, gaps[-1:])) / 2
    return distances


def _points(x: npt.ArrayLike) -> FloatArray:
    """``x`` as float64 numbers of any shape."""
    points = np.asarray(x, dtype=np.float64)
    if not np.isfinite(points).all():
        raise ValueError(f"x: expected finite numbers, got {points[~np.isfinite(points)][0]}")
    return points


def _gaussians(x: FloatArray, centres: FloatArray, widths: FloatArray) -> FloatArray:
    """Normal densities, (len(x), len(centres))."""
    kernel: FloatArray = np.exp(-0.5 * ((x[:, None] - centres) / widths) ** 2) / (np.sqrt(2 * np.pi) * widths)
    return kernel


def _split_discrete(
    nodes: FloatArray, weights: FloatArray, x: FloatArray, rounding: float
) -> tuple[FloatArray, FloatArray]:
    """Weight below x and at x, up to rounding, of a measure that is known exactly."""
    sums = np.append(0.0, np.cumsum(weights))
    begin, end = np.searchsorted(nodes, x - rounding, "left"), np.searchsorted(nodes, x + rounding, "right")
    below: FloatArray = sums[begin]
    at: FloatArray = sums[end] - below
    return below, at


def _last_pivots(
    alpha: FloatArray, beta: FloatArray, x: FloatArray, tiny: float
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Last pivot of the elimination of T - x, and how many pivots are negative: eigenvalues of T below x (Sturm)."""
    negative = np.zeros(len(x), np.intp)
    pivots = np.ones(len(x))
    couplings = np.append(0.0, beta[:-1] ** 2)
    for a, squared in zip(alpha, couplings, strict=True):
        pivots = a - x - squared / pivots
        pivots = np.where(np.abs(pivots) < tiny, np.copysign(tiny, pivots), pivots)
        negative += pivots < 0
    return pivots, negative


def spectral_density(
    operator: Any,
    *,
    probes: int = 10,
    steps: int = 64,
    deflate: int | tuple[Any, Any] = 0,
    dimension: int | None = None,
    seed: int | np.random.Generator | None = None,
    memory: int = 2**30,
    progress: Progress = None,
) -> SpectralDensity:
    r"""Estimate how the eigenvalues of a symmetric positive semi-definite operator are distributed.

    Stochastic Lanczos quadrature: ``steps`` steps of Lanczos from each of ``probes`` random vectors. The error falls
    like :math:`1 / \sqrt{\mathrm{probes}}`, the resolution like 1 / steps.

    Parameters
    ----------
    operator : LinearOperator or array, shape (n, n)
        Symmetric positive semi-definite, float32 or float64.
    probes : int
    steps : int
        At most n are taken.
    deflate : int or pair of arrays
        Outliers to treat exactly: a few eigenvalues far above the rest would carry almost all of the variance. Either
        known eigenpairs, values (d,) and orthonormal vectors (n, d), or how many of the largest to look for, in one
        Krylov space of ``steps`` steps; those of them that it does not resolve stay with the rest.
    dimension : int, optional
        P >= n (default n): the matrix has P - n eigenvalues 0 besides the operator's.
    seed : int, numpy.random.Generator or None
        The probes do not depend on ``memory``.
    memory : int
        Bytes for the Krylov bases, ``n * steps`` numbers a probe; it determines how many probes go together.
    progress : None, True or callable
        Progress over steps of blocks of probes: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    SpectralDensity

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, numbers out of range, mixed precision, eigenpairs that are none, products that are not
        finite, operators that turn out to have negative eigenvalues.
    MemoryError
        If ``memory`` does not hold one basis, or is not there.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.lanczos import spectral_density
    >>> X = np.random.default_rng(0).standard_normal((1000, 300))
    >>> density = spectral_density(X.T @ X / 1000, seed=0)
    >>> bool(abs(density.mean.value - np.square(X).sum() / 1000 / 300) < 4 * density.mean.standard_error)
    True
    """
    A, rng = as_operator(operator), as_generator(seed, stream="probes")
    n, count = A.shape[0], positive_int(probes, "probes")
    P = n if dimension is None else positive_int(dimension, "dimension")
    if n > P:
        raise ValueError(f"dimension: expected at least the operator's size {n}, got {P}")
    m = min(positive_int(steps, "steps"), n)
    together = _probes_at_once(A, m, count, memory)
    searched = not isinstance(deflate, tuple) and positive_int(deflate, "deflate", minimum=0) > 0
    step = _Steps(progress, m * (-(-count // together) + searched))
    try:
        values, vectors, products = _known_pairs(A, deflate, m, rng, step.count)
        rest = _deflated(A, vectors)
        m = max(1, min(m, n - len(values)))
        parts = []
        for begin in range(0, count, together):
            start = _spheres(rng, min(together, count - begin), vectors)
            parts.append(_run(rest, start if len(values) < n else 0 * start, m, step.count)[0])
    finally:
        step.close()
    lanczos = _joined(parts, float(n - len(values)))
    largest = max([*np.abs(values), *np.abs(lanczos.diagonal).max(axis=1)], default=0.0)
    _require_semidefinite(lanczos, float(largest))
    floor = _ROUNDINGS * float(np.finfo(A.dtype).eps) * float(largest)
    products += int(lanczos.steps.sum())
    return SpectralDensity(P, values, lanczos, products, n, max(floor, float(np.finfo(A.dtype).tiny)))


def _probes_at_once(A: LinearOperator, steps: int, probes: int, memory: int) -> int:
    needed, limit = _basis_bytes(A, steps), positive_int(memory, "memory")
    if needed > limit:
        raise MemoryError(
            f"the Krylov basis of {steps} vectors of length {A.shape[0]} needs {human(needed)}, and memory={limit} "
            f"allows {human(limit)}; take fewer steps or allow more"
        )
    together = min(probes, limit // needed)
    what, instead = f"the Krylov bases of {together} probes", "lower memory, or take fewer steps"
    require_memory(needed * together, what, instead, example(A))
    return together


def _joined(parts: list[Tridiagonals], squared_norm: float) -> Tridiagonals:
    diagonal, off_diagonal, steps, norms = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("diagonal", "off_diagonal", "steps", "squared_norms")
    )
    return Tridiagonals(diagonal, off_diagonal, steps, np.where(norms > 0, squared_norm, 0.0))


def _require_semidefinite(lanczos: Tridiagonals, size: float) -> None:
    lowest = min((nodes[0] for nodes, _ in map(lanczos.quadrature, range(len(lanczos.steps))) if len(nodes)), default=0)
    if lowest < -_NEGATIVE * size:
        raise ValueError(
            f"operator: expected a positive semi-definite matrix, got one with an eigenvalue <= {lowest:.6g} where the "
            f"largest are about {size:.6g}"
        )


def _known_pairs(
    A: LinearOperator, deflate: Any, steps: int, rng: np.random.Generator, step_done: Callable[[], object]
) -> tuple[FloatArray, FloatArray, int]:
    """Eigenvalues (float64, descending), eigenvectors and the products that finding or checking them took."""
    if not isinstance(deflate, tuple):
        if deflate == 0:
            return np.empty(0), _no_vectors(A), 0
        return _largest_pairs(A, deflate, steps, rng, step_done)
    if len(deflate) != 2:
        raise ValueError(f"deflate: expected a pair (values, vectors), got {len(deflate)} entries")
    values = devices.on_host(as_float_array(deflate[0], "deflate[0]", ndim=1))
    vectors = as_float_array(deflate[1], "deflate[1]", ndim=2, shape=(A.shape[0], len(values)))
    if vectors.dtype != A.dtype:
        raise TypeError(f"deflate[1]: expected {A.dtype} like the operator, got {vectors.dtype}")
    same_device(("operator", example(A)), ("deflate[1]", vectors))
    overlap = float(np.abs(vectors.T @ vectors - np.identity(len(values), like=vectors)).max())
    if overlap > _RESIDUAL:
        raise ValueError(f"deflate[1]: expected orthonormal columns, got products off by {overlap:.1e}")
    residual = float(_norms((product(A, vectors) - vectors * devices.as_like(values, vectors)).T).max())
    if residual > 10 * _RESIDUAL * np.abs(values).max():
        raise ValueError(
            f"deflate: expected eigenpairs of the operator, got a residual |A v - value v| of {residual:.1e} where the "
            f"largest value is {np.abs(values).max():.1e}"
        )
    order = np.argsort(values)[::-1]
    vectors = np.linalg.qr(vectors[:, devices.as_like(order, vectors)])[0]
    return values[order].astype(np.float64), vectors, len(values)


def _no_vectors(A: LinearOperator) -> FloatArray:
    """No columns, as long as those that A multiplies and of their kind."""
    return example(A).reshape(A.shape[0], 0)


def _deflated(A: LinearOperator, vectors: FloatArray) -> _Product:
    """Products with A on the complement of orthonormal vectors, zero on their span."""
    if vectors.shape[1] == 0:
        return partial(product, A)

    def times(x: FloatArray) -> FloatArray:
        y = product(A, x)
        for _ in range(2):
            y = y - vectors @ (vectors.T @ y)
        return y

    return times
