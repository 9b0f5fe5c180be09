"""What products with a metric tell: top eigenpairs, densities, traces and moments, without a matrix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from . import devices, lanczos, solve, spectrum, top_eigenpairs
from ._executor import Progress
from ._validate import (
    FloatArray,
    as_float_array,
    choice,
    non_negative,
    require_finite,
    same_device,
)
from .eigenpairs import EigenPairs
from .estimators import Estimate, hutch_plus_plus, hutchinson
from .lanczos import SpectralDensity
from .metric import Metric
from .products import (
    GradientMap,
    symmetric_operator,
)
from .solve import Solution

__all__ = ["MatrixFreeMetric"]

_ESTIMATORS = {"hutchinson": hutchinson, "hutch++": hutch_plus_plus}


class MatrixFreeMetric(Metric):
    """A metric with products: what they tell of it needs no matrix."""

    @property
    @abstractmethod
    def _gradients(self) -> GradientMap:
        """All gradients as a linear map."""

    @abstractmethod
    def _subsample(self, samples: npt.NDArray[np.intp]) -> MatrixFreeMetric:
        """The same metric of some of the samples."""

    @abstractmethod
    def _seed_products(self, c: FloatArray) -> FloatArray:
        """``S[r, t] . c`` for vectors c of output space: (k, C) to (k, R, T)."""

    def __matmul__(self, V: Any) -> FloatArray:
        r"""Return G V for V (P,) or (P, k), in the precision of the metric, without G or a Jacobian.

        A product takes :math:`8 T \sum_l M_l M_{l-1}` operations whatever the number of outputs (half of it for one or
        two seeds), and no more memory than the budget ``memory`` besides the vectors.
        """
        product: FloatArray = self.as_linear_operator() @ self._as_vectors(V, "V")
        return product

    def __rmatmul__(self, V: Any) -> FloatArray:
        """Return V G for V (P,) or (k, P); G is symmetric."""
        rows = V if isinstance(V, np.ndarray) else devices.as_array(V)
        return (self @ rows.T).T

    __array_ufunc__ = None  # NumPy leaves ``V @ G`` to us

    def as_linear_operator(self) -> LinearOperator:
        """Return G as a LinearOperator of shape (P, P), with products of blocks of vectors.

        It is one of ``scipy.sparse.linalg``, or of ``cupyx.scipy.sparse.linalg`` for a network on a GPU.
        """
        return symmetric_operator(self.dimension, self._times, self.X)

    def _operator(self) -> LinearOperator:
        """G or its dual, whichever is smaller, by its products."""
        return self.dual_operator() if self._dual_is_smaller else self.as_linear_operator()

    def dual_operator(self) -> LinearOperator:
        """Return the dual as a LinearOperator of shape (R T, R T), in the order of :meth:`dual`.

        It is one of ``scipy.sparse.linalg``, or of ``cupyx.scipy.sparse.linalg`` for a network on a GPU.
        """
        return symmetric_operator(self.num_seeds * self.num_samples, self._dual_times, self.X)

    def top_eigenpairs(
        self,
        k: int = 1,
        tol: float = 1e-6,
        *,
        vectors: bool = False,
        start: Any = None,
        max_products: int | None = None,
        method: str = "auto",
        seed: int | np.random.Generator | None = 0,
        progress: Progress = None,
    ) -> EigenPairs:
        r"""Return the k largest eigenvalues of G, each with its residual.

        Block Lanczos on products with G, started on a subsample of the data from random combinations of the mean
        gradients, which span the top eigenspace of a wide network (Karakida, Akaho, Amari 2021, Theorem 3.2), and
        carried on with all samples; LAPACK on the smaller of G and its dual where that is cheaper; block Lanczos on the
        dual matrix where it has been computed, also in a file. The result says which.

        Parameters
        ----------
        k : int
            How many, at most ``min(P, R T)``.
        tol : float
            Residual :math:`\|G v - \lambda v\|` over :math:`\lambda`. The error of an eigenvalue is at most that, and
            of the order of its square over the relative gap to the next. Residuals within 50 roundings of the
            eigenvalue (6e-6 in float32) count as converged: products are no better.
        vectors : bool
            Whether to return eigenvectors of G too.
        start : array, shape (P,) or (P, m), optional
            Start from these vectors instead, with ``method="matrix-free"``: eigenvectors of a network a few steps of
            training ago, say. What a subsample shows guards against larger eigenvalues that they do not hold.
        max_products : int, optional
            Stop when so many products with one vector are done (default ``300 + 30 k``), converged or not; a block of
            k that has begun is finished.
        method : {"auto", "dense", "dual matrix", "matrix-free"}
        seed : int, numpy.random.Generator or None
            Of the start.
        progress : None, True or callable
            Progress over products: a bar (needs tqdm) or ``callable(done, max_products)``.

        Returns
        -------
        EigenPairs
            ``values``, ``vectors``, ``residuals``, ``iterations``, ``products``, ``method``, ``converged``.

        Raises
        ------
        ValueError, TypeError
            For bad arguments, or if a product overflows.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> net = ff.MLP((20, 100, 100, 3), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
        >>> fim = ff.Fisher(net, np.random.default_rng(0).standard_normal((2000, 20)))
        >>> top = fim.top_eigenpairs(k=3, tol=1e-4, vectors=True)
        >>> top.converged, top.method, top.vectors.shape
        (True, 'matrix-free', (12503, 3))
        >>> rate = 2 / top.values[0]  # gradient descent on the squared loss is stable below it
        """
        return top_eigenpairs.top_eigenpairs(
            self,
            k,
            tol,
            vectors=vectors,
            start=start,
            max_products=max_products,
            method=method,
            seed=seed,
            progress=progress,
        )

    @overload
    def solve(
        self,
        g: Any,
        damping: float = ...,
        *,
        method: str = ...,
        tol: float = ...,
        max_products: int | None = ...,
        details: Literal[False] = ...,
        progress: Progress = ...,
    ) -> FloatArray: ...
    @overload
    def solve(
        self,
        g: Any,
        damping: float = ...,
        *,
        method: str = ...,
        tol: float = ...,
        max_products: int | None = ...,
        details: Literal[True],
        progress: Progress = ...,
    ) -> Solution: ...
    def solve(
        self,
        g: Any,
        damping: float = 1e-3,
        *,
        method: str = "auto",
        tol: float = 1e-10,
        max_products: int | None = None,
        details: bool = False,
        progress: Progress = None,
    ) -> FloatArray | Solution:
        r"""Return :math:`(G + \lambda I)^{-1} g`, the damped natural gradient if g is a gradient, without G.

        Exactly through the dual (Woodbury; Cholesky factors of the smaller of G and its dual), or by conjugate
        gradients on products, whichever takes fewer operations and fits.

        Parameters
        ----------
        g : array, shape (P,) or (P, k)
            Right-hand sides, in the precision of the metric.
        damping : float, default 1e-3
            :math:`\lambda > 0`, in units of the eigenvalues of G.
        method : {"auto", "dense", "matrix-free"}
            ``"dense"`` factorises the smaller of G and its dual, which is kept.
        tol : float, default 1e-10
            Relative residual at which conjugate gradients stop.
        max_products : int, optional
            With G, after which they stop, converged or not (default 1000 per right-hand side).
        details : bool, default False
            Return a :class:`~fisherfield.solve.Solution` that tells method, residual and products.
        progress : None, True or callable
            Progress over products: a bar (needs tqdm) or ``callable(done, max_products)``.

        Returns
        -------
        array, shape of ``g``, or Solution

        Warns
        -----
        RuntimeWarning
            If conjugate gradients did not converge, with the residual they reached.

        Raises
        ------
        ValueError, TypeError
            For bad arguments, or where the damping is lost in the rounding of the matrix.
        MemoryError
            With ``"dense"``, if the matrix cannot fit.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> net = ff.MLP((20, 100, 100, 3), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
        >>> X, y = np.random.default_rng(0).standard_normal((30, 20)), np.ones((30, 3))
        >>> fim, gradient = ff.Fisher(net, X), ff.loss_gradient(net, X, targets=y)
        >>> found = fim.solve(gradient, damping=1e-3, details=True)
        >>> found.method, found.converged, found.residual < 1e-9
        ('dense', True, True)
        >>> step = net.with_parameters(net.parameters() - found.x)  # a damped step of natural gradient
        """
        return solve.solve(
            self,
            g,
            damping,
            method=method,
            tol=tol,
            max_products=max_products,
            details=details,
            progress=progress,
        )

    @overload
    def trace(self, method: Literal["exact"] = ...) -> float: ...
    @overload
    def trace(
        self,
        method: Literal["hutchinson", "hutch++"],
        *,
        probes: int | None = None,
        seed: int | np.random.Generator | None = None,
        progress: Progress = None,
    ) -> Estimate: ...
    def trace(
        self,
        method: str = "exact",
        *,
        probes: int | None = None,
        seed: int | np.random.Generator | None = None,
        progress: Progress = None,
    ) -> float | Estimate:
        r"""Return tr G: exactly, from the norms of the gradients, or estimated from products with random vectors.

        The exact trace forms no Gram matrix, accumulates in float64, and is the method of choice; the estimates are
        those that other software has, and exactly unbiased.

        Parameters
        ----------
        method : {"exact", "hutchinson", "hutch++"}
            See :func:`fisherfield.estimators.hutchinson` and :func:`~fisherfield.estimators.hutch_plus_plus`.
        probes : int, optional
            Random vectors, at least 2 (default 30 of Hutchinson's, 10 of Hutch++, which takes three products with
            each). Only with the estimates, as are the seed and progress.
        seed : int, numpy.random.Generator or None
        progress : None, True or callable
            Progress over products: a bar (needs tqdm) or ``callable(done, total)``.

        Returns
        -------
        float or Estimate
            An estimate has a ``value`` and a ``standard_error``; ``float(estimate)`` is its value.

        Raises
        ------
        ValueError, TypeError
            For unknown methods, options of another method, or overflow.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> net = ff.MLP((20, 100, 100, 1), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
        >>> fim = ff.Fisher(net, np.random.default_rng(0).standard_normal((50, 20)))
        >>> exact, estimate = fim.trace(), fim.trace("hutch++", seed=0)
        >>> abs(estimate.value - exact) < 4 * estimate.standard_error < exact
        True
        """
        estimator = _estimator(method, probes=probes, seed=seed, progress=progress)
        return self._trace if estimator is None else estimator(self._operator(), power=1)

    @overload
    def second_moment(self, method: Literal["exact"] = ...) -> float: ...
    @overload
    def second_moment(
        self,
        method: Literal["hutchinson", "hutch++"],
        *,
        probes: int | None = None,
        seed: int | np.random.Generator | None = None,
        progress: Progress = None,
    ) -> Estimate: ...
    def second_moment(
        self,
        method: str = "exact",
        *,
        probes: int | None = None,
        seed: int | np.random.Generator | None = None,
        progress: Progress = None,
    ) -> float | Estimate:
        r"""Return :math:`\mathrm{tr}\, G^2 / P`, as ``statistics().second_moment``: exactly or estimated.

        The exact one is the Frobenius norm of G or its dual, whichever is smaller; the estimates need products alone.

        Parameters
        ----------
        method : {"exact", "hutchinson", "hutch++"}
            See :func:`fisherfield.estimators.hutchinson` (one product a probe: :math:`\|G z\|^2`) and
            :func:`~fisherfield.estimators.hutch_plus_plus` (four, on :math:`G^2`).
        probes, seed, progress
            As of :meth:`trace`.

        Returns
        -------
        float or Estimate

        Raises
        ------
        ValueError, TypeError
            For unknown methods, options of another method, or overflow.
        MemoryError
            If the exact one needs a matrix that cannot fit.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> net = ff.MLP((20, 100, 100, 1), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
        >>> fim = ff.Fisher(net, np.random.default_rng(0).standard_normal((50, 20)))
        >>> bool(np.isclose(fim.second_moment(), fim.statistics().second_moment))
        True
        >>> bool(np.isclose(float(fim.second_moment("hutch++", seed=0)), fim.second_moment(), rtol=0.1))
        True
        """
        estimator = _estimator(method, probes=probes, seed=seed, progress=progress)
        if estimator is not None:
            return estimator(self._operator(), power=2).scaled(1 / self._num_eigenvalues)
        with np.errstate(over="ignore"):
            squares = spectrum.squared_frobenius_norm(self._smaller)
        require_finite(squares, "second_moment()")
        return squares / self._num_eigenvalues

    def spectral_density(
        self,
        *,
        probes: int = 10,
        steps: int = 64,
        deflate: int | EigenPairs | None = None,
        seed: int | np.random.Generator | None = None,
        memory: int = 2**30,
        progress: Progress = None,
    ) -> SpectralDensity:
        """Estimate how the eigenvalues are distributed, by stochastic Lanczos quadrature: products alone.

        Counts and moments run over all P eigenvalues (C T of the tangent kernel), zeros included, with standard errors.

        Parameters
        ----------
        probes : int
            Random vectors; errors fall like ``1 / sqrt(probes)``.
        steps : int
            Products with each; the resolution is about 1 / steps of the spectrum.
        deflate : int or EigenPairs, optional
            How many of the largest eigenvalues to find first and treat exactly (default: as many as outliers are
            expected), or those that ``top_eigenpairs(k, vectors=True)`` found.
        seed : int, numpy.random.Generator or None
        memory : int
            Bytes for the Krylov bases: how many probes go together.
        progress : None, True or callable
            Progress over steps: a bar (needs tqdm) or ``callable(done, total)``.

        Returns
        -------
        SpectralDensity
            See :class:`fisherfield.lanczos.SpectralDensity`; :func:`fisherfield.plot.spectral_density` draws it.

        Raises
        ------
        ValueError, TypeError
            For numbers out of range.
        MemoryError
            If ``memory`` does not hold the basis of one probe.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> net = ff.MLP((20, 100, 100, 1), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
        >>> fim = ff.Fisher(net, np.random.default_rng(0).standard_normal((200, 20)))
        >>> density = fim.spectral_density(seed=0)
        >>> bool(np.isclose(density.maximum, fim.statistics().maximum))
        True
        >>> exact, estimate = fim.count_above(0.5), density.count_above(0.5)
        >>> abs(estimate.value - exact) < 4 * estimate.standard_error < exact
        True
        """
        operator, known = self._operator(), self.num_outliers if deflate is None else deflate
        pairs: int | tuple[FloatArray, FloatArray]
        if isinstance(known, EigenPairs):
            if known.vectors is None:
                raise ValueError("deflate: expected eigenpairs with vectors, got none; ask for vectors=True")
            operator, pairs = self.as_linear_operator(), (known.values, known.vectors)
        else:
            pairs = known
        return lanczos.spectral_density(
            operator,
            probes=probes,
            steps=steps,
            deflate=pairs,
            dimension=self._num_eigenvalues,
            seed=seed,
            memory=memory,
            progress=progress,
        )

    def count_above(self, threshold: float) -> int:
        r"""Return how many eigenvalues are >= ``threshold``, from all of them.

        Theory bounds it: :math:`N(\lambda \ge k) \le \min\{\alpha \kappa_1 C M / k,\ C T\}` (Karakida, Akaho, Amari
        2019, Corollary 2), ``mean_field(arch, T).count_above(k)``.

        Parameters
        ----------
        threshold : float
            Greater than 0.

        Returns
        -------
        int
            At most min(P, R T).

        Raises
        ------
        ValueError, TypeError
            For other thresholds.
        MemoryError
            If the dense eigenvalues cannot fit; ``spectral_density().count_above(threshold)`` estimates the number.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> arch = ff.MLP((100, 100, 100, 1), "tanh", weight_var=3.0, bias_var=0.64)
        >>> fim = ff.Fisher(arch.sample(seed=0), np.random.default_rng(0).standard_normal((50, 100)))
        >>> fim.count_above(2.0), fim.count_above(10.0)
        (36, 1)
        >>> ff.mean_field(arch, 50).count_above(2.0), round(ff.mean_field(arch, 50).count_above(10.0))
        (50.0, 19)
        """
        k = non_negative(threshold, "threshold", strict=True)
        return int((self._all_eigenvalues("spectral_density().count_above(threshold) estimates the number") >= k).sum())

    def condition_number(self, rtol: float | None = None) -> float:
        """Return the largest eigenvalue over the smallest one that is not zero.

        Parameters
        ----------
        rtol : float, optional
            Eigenvalues at or below ``rtol`` times the largest count as zero. Default: ``n * eps``, the rounding of
            the ``n = min(P, R T)`` eigenvalues of :meth:`eigenvalues`.

        Returns
        -------
        float
            At least 1.

        Raises
        ------
        ValueError, TypeError
            For an ``rtol`` outside [0, 1), or if all eigenvalues are zero.
        MemoryError
            If the dense eigenvalues cannot fit.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> net = ff.MLP((20, 100, 100, 1), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
        >>> fim = ff.Fisher(net, np.random.default_rng(0).standard_normal((50, 20)))
        >>> bool(np.isclose(fim.condition_number(), fim.eigenvalues()[0] / fim.eigenvalues()[-1]))
        True
        """
        given = None if rtol is None else non_negative(rtol, "rtol")
        if given is not None and given >= 1:
            raise ValueError(f"rtol: expected 0 <= rtol < 1, got {given:g}")
        values = self._all_eigenvalues("spectral_density() shows the spectrum from products alone")
        relative = len(values) * float(np.finfo(values.dtype).eps) if given is None else given
        nonzero = values[values > relative * values[0]]
        if values[0] <= 0 or nonzero.size == 0:
            raise ValueError(f"condition_number(): expected a positive eigenvalue, got a maximum of {values[0]}")
        return float(nonzero[0]) / float(nonzero[-1])

    def _all_eigenvalues(self, instead: str) -> FloatArray:
        """All eigenvalues, and where they cannot fit what answers the question without them."""
        try:
            return self.eigenvalues()
        except MemoryError as error:
            error.add_note(f"Here {instead}.")
            raise

    def _as_vectors(self, V: Any, name: str) -> FloatArray:
        """One or several vectors of length P, in the precision of the metric."""
        shape: tuple[int | None, ...] = (self.dimension,) if np.ndim(V) == 1 else (self.dimension, None)
        vectors = as_float_array(V, name, ndim=len(shape), shape=shape)
        if vectors.dtype != self.dtype:
            raise TypeError(
                f"{name}: expected {self.dtype} like the metric, got {vectors.dtype}; convert it with .astype"
            )
        same_device(("X", self.X), (name, vectors))
        return vectors

    def _times(self, V: FloatArray) -> FloatArray:
        """G V, vectors as rows."""
        return self._checked_product(self._gradients.gram_times, V)

    def _dual_times(self, U: FloatArray) -> FloatArray:
        """G* U, vectors as rows."""

        def times(blocks: FloatArray) -> FloatArray:
            return self._gradients.times(self._gradients.transposed_times(blocks))

        shape = (len(U), self.num_seeds, self.num_samples)
        return self._checked_product(times, U.reshape(shape)).reshape(U.shape)

    def _checked_product(self, times: Callable[[FloatArray], FloatArray], vectors: FloatArray) -> FloatArray:
        with np.errstate(over="ignore", invalid="ignore"):
            product = times(vectors)
            product *= self._scale
        require_finite(product, "the product")
        return product


def _estimator(
    method: str, *, probes: int | None, seed: int | np.random.Generator | None, progress: Progress
) -> Callable[..., Estimate] | None:
    """The estimator with its options, None for the exact method, which has none."""
    if choice(method, "method", ("exact", *_ESTIMATORS)) == "exact":
        for name, value in (("probes", probes), ("seed", seed), ("progress", progress)):
            if value is not None:
                raise ValueError(f"{name}: expected only together with an estimate, got {name} with method='exact'")
        return None
    options: dict[str, Any] = {} if probes is None else {"probes": probes}
    return partial(_ESTIMATORS[method], seed=seed, progress=progress, **options)
