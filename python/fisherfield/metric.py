r"""What the measured metrics share: a positive semi-definite matrix known through factored gradients.

The Fisher information matrix, the metric of feature space and the tangent kernel are all

.. math:: G = s \sum_t \sum_r g_{rt}\, g_{rt}^\top

with one gradient per seed r and sample t, of the outputs with respect to parameters, features or rescaled
parameters. They differ in what a layer's factors are; everything asked of G is a function of the factors.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from . import lanczos, likelihoods, spectrum, top_eigenpairs
from ._engines import check_engine, num_workers, shares_memory
from ._executor import Progress, check_executor
from ._memory import as_bytes, available_bytes, human, require_memory
from ._validate import (
    FloatArray,
    as_dtype,
    as_float_array,
    as_generator,
    boolean,
    choice,
    non_negative,
    positive_int,
    require_finite,
)
from .costs import Cost, operations_per_second
from .eigenpairs import EigenPairs
from .estimators import Estimate, hutch_plus_plus, hutchinson
from .factors import FactoredJacobian, LayerFactors, bytes_per_sample, factorize, require_finite_outputs
from .gram import gram_matrix, symmetric_product
from .gramfile import GramFile, Work, as_path, digest, identity_of
from .lanczos import SpectralDensity
from .linearized import Chart, LinearizedNetwork
from .network import Network
from .panels import MEMORY, Panels, panel_size
from .products import (
    Batch,
    BatchedGradients,
    CenteredGradients,
    ExplicitSeeds,
    FactoredBatch,
    GradientMap,
    LikelihoodSeeds,
    SweptBatch,
    SymmetricOperator,
    UnitSeeds,
)
from .statistics import FisherStatistics

__all__ = ["Centered", "Metric", "NetworkMetric"]

_ESTIMATORS = {"hutchinson": hutchinson, "hutch++": hutch_plus_plus}
_FACTORED_SEEDS = 2  # up to so many, factors take half the operations of sweeps and about the same memory
_BATCH_BYTES = 2**26  # sums over samples hold the factors of one batch; batches do not depend on threads


class Metric(ABC):
    """A positive semi-definite matrix G of size P, computed when asked and never as a whole.

    Attributes
    ----------
    net : Network
    X : array, shape (T, M_0)
    """

    net: Network
    X: FloatArray
    _executor: Executor | None
    _smaller_dual = "use a file, dual(out=...), fewer samples (or outputs), or float32"

    # --- what a metric is made of ---------------------------------------------------------------------------

    @property
    @abstractmethod
    def dimension(self) -> int:
        """P, the number of rows of G."""

    @property
    @abstractmethod
    def num_seeds(self) -> int:
        """R, gradients per sample: columns of the square root of the output Fisher information."""

    @property
    @abstractmethod
    def num_outliers(self) -> int:
        """How many eigenvalues leave the bulk in a wide network: the rank of the output Fisher information."""

    @property
    def _scale(self) -> float:
        """Factor of the sum over samples."""
        return 1.0 / self.num_samples

    @property
    def _num_eigenvalues(self) -> int:
        """Over how many eigenvalues the moments run."""
        return self.dimension

    @abstractmethod
    def _gram(self, tile: int | None, executor: Executor | None, progress: Progress) -> FloatArray:
        """The dual, (R T, R T)."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What the bits of the dual depend on, in terms of JSON."""

    @abstractmethod
    def _file_tile(self, executor: Executor | None) -> int:
        """Samples a tile of a dual in a file, unless given."""

    @abstractmethod
    def _file_work(self, tile: int, executor: Executor | None) -> Work:
        """How tiles of a dual in a file are computed."""

    @property
    @abstractmethod
    def _gram_bytes(self) -> int:
        """Memory that the dual takes besides itself."""

    @abstractmethod
    def _diagonal(self) -> FloatArray:
        """The diagonal of G, (P,)."""

    @abstractmethod
    def _jacobians(self) -> Iterator[FloatArray]:
        """The gradients written out, (t, R, P) for successive batches of t samples."""

    @property
    @abstractmethod
    def _gradients(self) -> GradientMap:
        """All gradients as a linear map."""

    @abstractmethod
    def output_seeds(self) -> FloatArray:
        """Return S, (R, T, C), the vectors of output space sent back at every sample."""

    @abstractmethod
    def layer(self, l: int) -> Metric:
        """Return the diagonal block of layer l as a metric of its own."""

    # --- what is asked of it --------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, P)``."""
        return self.dimension, self.dimension

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the network, the inputs and the results."""
        return self.net.dtype

    @property
    def num_samples(self) -> int:
        """T."""
        return len(self.X)

    @property
    def rank_bound(self) -> int:
        """``min(P, R T)``: at most so many eigenvalues differ from zero."""
        return min(self.dimension, self.num_seeds * self.num_samples)

    def dual(
        self,
        *,
        out: str | os.PathLike[str] | None = None,
        tile: int | None = None,
        executor: Executor | None = None,
        progress: Progress = None,
        resume: bool = True,
    ) -> FloatArray:
        r"""Return the dual :math:`G^* = B^\top B` with :math:`G = B B^\top`, which shares the nonzero eigenvalues of G.

        .. math:: G^*_{(r,s),(q,t)} = s\, g_{rs} \cdot g_{qt}

        with the gradients g of seed and sample, and s = 1/T (1 for the tangent kernel). For the Fisher information
        matrix :math:`g_{rs} \cdot g_{qt} = \sum_l (B_l[r, s] \cdot B_l[q, t]) (A_l[s] \cdot A_l[t] + 1)` with the
        backpropagated seeds B and the layer inputs A (the +1 where the layer has biases); for the Gaussian likelihood
        of unit noise it is the empirical neural tangent kernel over T.

        Parameters
        ----------
        out : path, optional
            File for a matrix that need not fit in memory: it is filled tile by tile and opened read-only. While tiles
            are missing it is called ``out.part``; ``out.index`` says which are there. A call that was killed goes on
            where it was when repeated; a finished file is opened at once. Factors of all samples need not fit either.
        tile : int, optional
            Samples a tile. The result does not depend on it. With ``out`` or workers in other processes a tile is what
            is sent, written and remembered at once: by default some hundreds or thousands, after the memory it takes.
        executor : concurrent.futures.Executor, optional
            Who computes, instead of the threads given to the constructor: other threads, or processes, here or on other
            machines (``ProcessPoolExecutor``, ``mpi4py.futures.MPIPoolExecutor``, ``client.get_executor()`` of Dask).
            Network and inputs are sent once to every worker. The result does not depend on it.
        progress : None, True or callable
            Progress over tiles: a bar (needs tqdm) or ``callable(done, total)``.
        resume : bool
            Whether to go on with what is in ``out``. False overwrites it.

        Returns
        -------
        array, shape (R*T, R*T)
            Output-major: row ``r*T + t``. Kept, hence read-only; copy it to change it. With ``out`` a memory map of
            the file; ``eigenvalues()`` and ``top_eigenpairs()`` then read it.

        Raises
        ------
        MemoryError
            If the matrix cannot fit, with the bytes needed.
        OSError
            If ``out`` cannot be written, there is no room for it, or another process is writing it.
        ValueError
            If ``out`` holds anything else than this matrix or a part of it, or is damaged.

        Examples
        --------
        >>> import numpy as np, tempfile, fisherfield as ff
        >>> net = ff.MLP((20, 50, 3), "tanh").sample(seed=0)
        >>> fim = ff.Fisher(net, np.random.default_rng(0).standard_normal((30, 20)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     in_file = fim.dual(out=f"{folder}/dual.npy")
        ...     bool((in_file == fim.dual()).all())
        True
        """
        check_engine(executor)
        if not boolean(resume, "resume") and out is None:
            raise ValueError("resume: expected only together with out, got resume=False without it")
        if tile is not None:
            positive_int(tile, "tile")
        if out is not None:
            self._dual = self._dual_in_file(as_path(out), tile, executor, progress, resume)
            return self._dual
        if "_dual" not in self.__dict__:
            size = self.num_seeds * self.num_samples
            require_memory(
                size**2 * self.dtype.itemsize + self._gram_bytes,
                f"the {size} x {size} dual matrix",
                f"{self._smaller_dual}; diagonal() and trace() do not need it",
            )
            with np.errstate(over="ignore", invalid="ignore"):
                matrix = self._gram(tile, executor, progress)
            require_finite(matrix.diagonal(), "dual()")  # bounds every entry, by Cauchy-Schwarz
            matrix.flags.writeable = False
            self._dual = matrix
        return self._dual

    def _dual_in_file(
        self, path: Path, tile: int | None, executor: Executor | None, progress: Progress, resume: bool
    ) -> FloatArray:
        file = GramFile(path, self._identity(), self.num_seeds, self.num_samples, self.dtype)
        return file.fill(
            tile,
            lambda: self._file_tile(executor),
            lambda step: self._file_work(step, executor),
            progress,
            resume,
        )

    def eigenvalues(self) -> FloatArray:
        """Return the ``min(P, R T)`` possibly nonzero eigenvalues of G, descending.

        They come from the smaller of G and its dual, by LAPACK: their last bits may follow the number of threads of
        the BLAS, which the matrix itself does not depend on. Rounding can leave values of about ``-eps * maximum``;
        they are not clipped.
        """
        return self._eigenvalues

    @cached_property
    def _smaller(self) -> FloatArray:
        """G or its dual, whichever is smaller: they share trace, Frobenius norm and nonzero eigenvalues."""
        return self.dense() if self.dimension < self.num_seeds * self.num_samples else self.dual()

    @cached_property
    def _eigenvalues(self) -> FloatArray:
        smaller = self._smaller
        require_memory(
            smaller.nbytes,
            f"the copy of the {len(smaller)} x {len(smaller)} matrix in which LAPACK finds all eigenvalues",
            "statistics() finds the largest without it",
        )
        values = spectrum.eigenvalues(smaller)
        values.flags.writeable = False
        return values

    @cached_property
    def _trace(self) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            total = self._sum_of_squares()
        require_finite(total, "trace()")
        return total

    def _sum_of_squares(self) -> float:
        """The trace."""
        return float(self._diagonal().sum(dtype=np.float64))

    def statistics(self) -> FisherStatistics:
        r"""Return mean, second moment and maximum over all P eigenvalues (zeros included; C T of the tangent kernel).

        The mean comes from gradient norms, the second moment from the Frobenius norm of G or its dual
        (:math:`\mathrm{tr} G^2 = \|G\|_F^2 = \|G^*\|_F^2`), whichever is smaller; only the largest eigenvalues, as many
        as outliers are expected, are computed.
        """
        return self._statistics

    @cached_property
    def _statistics(self) -> FisherStatistics:
        if "_eigenvalues" in self.__dict__:
            top = self._eigenvalues[: self.num_outliers]
        else:
            top = spectrum.largest_eigenvalues(self._smaller, self.num_outliers)
        with np.errstate(over="ignore"):
            squares = spectrum.squared_frobenius_norm(self._smaller)
        require_finite(squares, "statistics().second_moment")
        return FisherStatistics(
            mean=self.trace() / self._num_eigenvalues,
            second_moment=squares / self._num_eigenvalues,
            maximum=float(top[0]),
            top_mean=float(top.sum(dtype=np.float64)) / min(self.num_outliers, self._num_eigenvalues),
            num_parameters=self._num_eigenvalues,
            num_samples=self.num_samples,
            num_outputs=self.net.num_outputs,
            num_outliers=self.num_outliers,
        )

    def diagonal(self) -> FloatArray:
        """Return the exact diagonal of G, shape (P,): matrix products per layer and batch, never a Jacobian."""
        with np.errstate(over="ignore", invalid="ignore"):
            total = self._diagonal()
        require_finite(total, "diagonal()")
        return total

    def jacobian(self) -> FloatArray:
        r"""Return the gradients written out, shape (T, R, P), unscaled: :math:`G = s \sum_t J_t^\top J_t`, s = 1/T.

        Raises
        ------
        MemoryError
            If it cannot fit.
        """
        shape = (self.num_samples, self.num_seeds, self.dimension)
        require_memory(
            self.num_samples * self.num_seeds * self.dimension * self.dtype.itemsize,
            f"the Jacobian of shape {shape}",
            "dual(), diagonal(), trace() and eigenvalues() do not need it",
        )
        out = np.empty(shape, self.dtype)
        begin = 0
        for part in self._jacobians():
            out[begin : begin + len(part)] = part
            begin += len(part)
        return out

    def dense(self) -> FloatArray:
        """Return G itself, shape (P, P), for small networks.

        Raises
        ------
        MemoryError
            If it cannot fit.
        """
        require_memory(
            2 * self.dimension**2 * self.dtype.itemsize,
            f"the {self.dimension} x {self.dimension} matrix (and one batch's part of it)",
            "diagonal() and trace() do not form it",
        )
        total: FloatArray | None = None
        for jacobian in self._jacobians():
            columns = np.ascontiguousarray(jacobian.reshape(-1, self.dimension).T)
            part = symmetric_product(columns, self._scale, self._executor)
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        require_finite(total.diagonal(), "dense()")
        return total

    # --- products -------------------------------------------------------------------------------------------

    def __matmul__(self, V: Any) -> FloatArray:
        r"""Return G V for V (P,) or (P, k), in the precision of the metric, without G or a Jacobian.

        A product takes :math:`8 T \sum_l M_l M_{l-1}` operations whatever the number of outputs (half of it for one or
        two seeds), and no more memory than the budget ``memory`` besides the vectors.
        """
        product: FloatArray = self.as_linear_operator() @ self._as_vectors(V, "V")
        return product

    def __rmatmul__(self, V: Any) -> FloatArray:
        """Return V G for V (P,) or (k, P); G is symmetric."""
        return (self @ np.asarray(V).T).T

    __array_ufunc__ = None  # NumPy leaves ``V @ G`` to us

    def as_linear_operator(self) -> LinearOperator:
        """Return G as a SciPy LinearOperator of shape (P, P), with products of blocks of vectors."""
        return SymmetricOperator(self.dimension, self.dtype, self._times)

    def _operator(self) -> LinearOperator:
        """G or its dual, whichever is smaller, by its products."""
        if self.dimension < self.num_seeds * self.num_samples:
            return self.as_linear_operator()
        return self.dual_operator()

    def dual_operator(self) -> LinearOperator:
        """Return the dual as a SciPy LinearOperator of shape (R T, R T), in the order of :meth:`dual`."""
        return SymmetricOperator(self.num_seeds * self.num_samples, self.dtype, self._dual_times)

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
            training ago, say.
        max_products : int, optional
            Stop after so many products with one vector (default ``300 + 30 k``), converged or not.
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

    def estimate(self, what: str) -> Cost:
        """Return what an answer takes, before it is asked for: bytes, operations, seconds at this machine's rate.

        Parameters
        ----------
        what : {"dual", "eigenvalues", "dense", "jacobian", "diagonal", "product", "top_eigenpairs"}
            ``"product"`` is ``G @ v`` for one vector, factors kept; ``"top_eigenpairs"`` one pair through products.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> net = ff.MLP((784, 1000, 1000, 10), "tanh").sample(seed=0, dtype="float32")
        >>> fim = ff.Fisher(net, np.zeros((20000, 784), "float32"))
        >>> fim.estimate("dual").bytes > 160e9  # (R T)^2 numbers of 4 bytes
        True
        """
        size, costs = self.num_seeds * self.num_samples, self._operations
        item, small = self.dtype.itemsize, min(self.dimension, size)
        dense = 2.0 * self.dimension**2 * size
        in_smaller = costs["dual"] if size <= self.dimension else dense
        smaller_bytes = small**2 * item + (self._gram_bytes if size <= self.dimension else small**2 * item)
        table = {
            "dual": (size**2 * item + self._gram_bytes, costs["dual"]),
            "eigenvalues": (max(smaller_bytes, 2 * small**2 * item), in_smaller + 4 / 3 * small**3),
            "dense": (2 * self.dimension**2 * item, dense + costs["factors"]),
            "jacobian": (size * self.dimension * item, costs["factors"] + float(size) * self.dimension),
            "diagonal": (2 * self.dimension * item + _BATCH_BYTES, costs["diagonal"]),
            "product": (2 * self.dimension * item + self._product_bytes, costs["product"]),
            "top_eigenpairs": (40 * self.dimension * item + self._product_bytes, 6 * costs["product"]),
        }
        found = table[choice(what, "what", tuple(table))]
        return Cost(what, int(found[0]), found[1], found[1] / operations_per_second(self.dtype, self._executor))

    @property
    @abstractmethod
    def _operations(self) -> dict[str, float]:
        """Of the answers that the kernels give."""

    @property
    @abstractmethod
    def _product_bytes(self) -> int:
        """Memory that products keep and take, without vectors."""

    @property
    def _has_dual(self) -> bool:
        """Whether the dual has been computed."""
        return "_dual" in self.__dict__

    @abstractmethod
    def _subsample(self, samples: npt.NDArray[np.intp]) -> Metric:
        """The same metric of some of the samples."""

    def _as_vectors(self, V: Any, name: str) -> FloatArray:
        """One or several vectors of length P, in the precision of the metric."""
        shape: tuple[int | None, ...] = (self.dimension,) if np.ndim(V) == 1 else (self.dimension, None)
        vectors = as_float_array(V, name, ndim=len(shape), shape=shape)
        if vectors.dtype != self.dtype:
            raise TypeError(
                f"{name}: expected {self.dtype} like the metric, got {vectors.dtype}; convert it with .astype"
            )
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


class NetworkMetric(Metric):
    """A metric whose gradients are those of one network: the likelihood makes the seeds, layers give the factors."""

    def __init__(
        self,
        net: Network,
        X: Any,
        likelihood: str | likelihoods.Likelihood,
        kind: str,
        samples: int | None,
        seed: int | np.random.Generator | None,
        targets: Any,
        executor: Executor | None,
        memory: float | str | None,
        storage: npt.DTypeLike | None,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(
                f"net: expected a fisherfield.Network (for instance arch.sample(seed=0)), got {type(net).__name__}"
            )
        check_executor(executor)
        self.net = net
        self.X = net.check_inputs(X)
        self.likelihood = likelihoods.get(likelihood)
        self.likelihood.check_outputs(net.num_outputs)
        self.kind = choice(kind, "kind", likelihoods.KINDS)
        _refuse_foreign("samples", samples, self.kind, "monte_carlo")
        _refuse_foreign("seed", seed, self.kind, "monte_carlo")
        _refuse_foreign("targets", targets, self.kind, "empirical")
        self._executor = executor
        self._budget = None if memory is None else as_bytes(memory, "memory")
        self._storage = _as_storage(storage, net.dtype)
        self._layers = slice(None)  # of which the metric consists
        self._parent: NetworkMetric | None = None  # of which this is a block
        if self.kind == "monte_carlo":
            self._num_draws = positive_int(1 if samples is None else samples, "samples")
            # taken now: a generator may have moved on by the time the targets are drawn
            self._entropy = as_generator(seed, stream="targets").integers(2**32, size=8)
        if self.kind == "empirical":
            if targets is None:
                raise ValueError("targets: expected the observed targets with kind='empirical', got None")
            observed = self.likelihood.as_targets(
                targets, num_samples=len(self.X), num_outputs=net.num_outputs, dtype=net.dtype
            )
            self._observed = observed.copy()
            self._observed.flags.writeable = False

    @property
    def _whole(self) -> NetworkMetric:
        """The metric of which this is a block, else this one; it keeps factors and targets."""
        return self if self._parent is None else self._parent

    @property
    def _described(self) -> str:
        """What it is, for repr."""
        block = "" if self._parent is None else f"layer {self._layers.stop}, "
        return (
            f"{block}{self.kind}, {self.likelihood.name}, P={self.dimension}, T={self.num_samples}, R={self.num_seeds}"
        )

    # --- likelihood and kind --------------------------------------------------------------------------------

    @property
    def num_seeds(self) -> int:
        """R: for the exact kind the rank of the output Fisher information, otherwise the targets per sample."""
        if self.kind == "exact":
            return self.likelihood.num_seeds(self.net.num_outputs)
        return self._num_draws if self.kind == "monte_carlo" else 1

    @property
    def num_outliers(self) -> int:
        """How many eigenvalues leave the bulk in a wide network: C, and C - 1 for the categorical likelihood."""
        return self.likelihood.num_seeds(self.net.num_outputs)

    @property
    def targets(self) -> tuple[Any, ...] | None:
        """The targets of the scores, one array per draw: drawn (once) or observed; None for the exact kind."""
        return None if self.kind == "exact" else self._whole._scored_targets

    @cached_property
    def _scored_targets(self) -> tuple[Any, ...]:
        return (self._observed,) if self.kind == "empirical" else self._draw(self._outputs())

    def _draw(self, outputs: FloatArray) -> tuple[Any, ...]:
        """Targets at these outputs (T, C), one array per draw; the random numbers are always the same."""
        return likelihoods.draw_targets(self.likelihood, outputs, np.random.default_rng(self._entropy), self._num_draws)

    def _targets_at(self, outputs: FloatArray) -> tuple[Any, ...] | None:
        """Targets at other outputs than f(X): the observed ones, or drawn with the same random numbers."""
        return self._draw(outputs) if self.kind == "monte_carlo" else self.targets

    def output_seeds(self) -> FloatArray:
        """Return S, (R, T, C): square roots of the output Fisher information, or the scores of its estimates."""
        return self._seeds(self._outputs(), self.targets)

    def _outputs(self) -> FloatArray:
        """f(X), in batches: no layer is held for all samples."""
        step = max(1, _BATCH_BYTES // (sum(self.net.widths) * self.dtype.itemsize))
        parts = [
            self.net(self.X[begin : begin + step], executor=self._executor)
            for begin in range(0, self.num_samples, step)
        ]
        outputs = np.concatenate(parts)
        require_finite_outputs(outputs)
        return outputs

    def _seeds(self, outputs: FloatArray, targets: tuple[Any, ...] | None) -> FloatArray:
        """S, (R, t, C), at the outputs (t, C) of some samples, with their targets if the kind has any."""
        if targets is None:
            return self._checked(self.likelihood.seeds(outputs), outputs)
        return self._checked(likelihoods.score_seeds(self.likelihood, outputs, targets), outputs)

    def _checked(self, seeds: FloatArray, outputs: FloatArray) -> FloatArray:
        """Seeds as the kernels take them, also those of likelihoods that are not ours."""
        expected = (self.num_seeds, *outputs.shape)
        seeds = np.asarray(seeds)
        if seeds.shape != expected or seeds.dtype != outputs.dtype:
            raise ValueError(
                f"likelihood {self.likelihood.name}: expected seeds or scores of shape {expected} and dtype "
                f"{outputs.dtype} in all, got shape {seeds.shape} and dtype {seeds.dtype}"
            )
        if not np.isfinite(seeds).all():
            r, t, k = (int(i) for i in np.argwhere(~np.isfinite(seeds))[0])
            raise ValueError(
                f"likelihood {self.likelihood.name}: expected finite seeds, got {seeds[r, t, k]} at sample {t}, "
                f"output {k}, where net(X) is {outputs[t, k]}; scale the outputs down"
            )
        return np.ascontiguousarray(seeds)

    # --- factors --------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def _charts(self) -> tuple[Chart, ...]:
        """How every layer of the network moves with its coordinates in this metric."""

    @property
    def _layer_dimensions(self) -> tuple[int, ...]:
        """P_l, of every layer of the network."""
        return tuple(chart.dimension(W) for chart, W in zip(self._charts, self.net.weights, strict=True))

    def _represent(self, l: int, layer: LayerFactors) -> LayerFactors:
        """The layer's gradients in this metric, from those with respect to its weights and biases."""
        return layer

    @property
    def dimension(self) -> int:
        """P, the number of rows of the matrix."""
        return sum(self._layer_dimensions[self._layers])

    def layer(self, l: int) -> Self:
        """Return the diagonal block of layer l = 1, ..., L as a metric of its own; it shares the factors.

        Raises
        ------
        ValueError, TypeError
            If there is no such layer.
        """
        names = range(1, self.net.depth + 1)[self._layers]
        if positive_int(l, "l") not in names:
            raise ValueError(f"l: expected a layer from {names[0]} to {names[-1]}, got {l}")
        block = self._without_results()
        block._layers, block._parent = slice(l - 1, l), self._whole
        return block

    def _portable(self, executor: Executor | None) -> Self:
        """A copy that another process can use: with the targets that were drawn, and with its own threads."""
        targets = self.targets
        copy = self._without_results()
        copy._executor, copy._parent = executor, None
        if targets is not None:
            copy.__dict__["_scored_targets"] = targets
        return copy

    def _without_results(self) -> Self:
        """A copy that has yet to compute everything."""
        copy = object.__new__(type(self))
        computed = {name for name in self.__dict__ if isinstance(getattr(type(self), name, None), cached_property)}
        copy.__dict__.update({name: value for name, value in self.__dict__.items() if name not in computed | {"_dual"}})
        return copy

    @cached_property
    def factors(self) -> FactoredJacobian:
        """The factored Jacobian of all samples (kept)."""
        if self._parent is not None:
            return self._block_of(self._whole.factors)
        require_memory(
            self._factor_bytes,
            "the factored Jacobian",
            "use fewer samples; diagonal() and trace() work batch by batch without it",
        )
        return self._factorize(0, self.num_samples)

    @property
    def _factor_bytes(self) -> int:
        return self._bytes_per_sample(self.num_seeds) * self.num_samples

    def _bytes_per_sample(self, num_seeds: int) -> int:
        """Memory that making the factors of one sample takes."""
        return bytes_per_sample(self.net, num_seeds)

    def _block_of(self, factors: FactoredJacobian) -> FactoredJacobian:
        return FactoredJacobian(factors.layers[self._layers])

    def _factorize(self, begin: int, end: int, seeds: FloatArray | None = None) -> FactoredJacobian:
        """Factors of samples [begin, end), of all layers; ``seeds`` (R, T, C) instead of the likelihood's."""

        def seeds_at(outputs: FloatArray) -> FloatArray:
            if seeds is not None:
                return np.ascontiguousarray(seeds[:, begin:end])
            return self._batch_seeds(outputs, begin, end)

        with _counted_from(begin):
            factors = factorize(self.net, self.X[begin:end], seeds_at, self._executor)
        return FactoredJacobian(tuple(self._represent(l, layer) for l, layer in enumerate(factors)))

    def _batch_seeds(self, outputs: FloatArray, begin: int, end: int) -> FloatArray:
        """The likelihood's seeds (R, t, C) at the outputs of samples [begin, end)."""
        targets = self.targets
        return self._seeds(outputs, targets and tuple(drawn[begin:end] for drawn in targets))

    def _batches(self, bytes_per_sample: int, seeds: FloatArray | None = None) -> Iterator[FactoredJacobian]:
        """Factors of successive batches of samples, cut in the same places whether or not they are kept."""
        step = max(1, _BATCH_BYTES // bytes_per_sample)
        for begin, end in pairwise([*range(0, self.num_samples, step), self.num_samples]):
            yield self._factors_of(begin, end, seeds)

    def _factors_of(self, begin: int, end: int, seeds: FloatArray | None) -> FactoredJacobian:
        """Factors of samples [begin, end), from those that are kept if there are any."""
        if seeds is None and "factors" in self._whole.__dict__:
            return self._block_of(self._whole.factors.samples(begin, end))
        return self._block_of(self._factorize(begin, end, seeds))

    def _factor_batches(self, seeds: FloatArray | None = None) -> Iterator[FactoredJacobian]:
        num_seeds = self.num_seeds if seeds is None else len(seeds)
        return self._batches(self._bytes_per_sample(num_seeds), seeds)

    # --- products -------------------------------------------------------------------------------------------

    @property
    def _gradients(self) -> GradientMap:
        return self._gradient_map(self._has_unit_seeds, self._held_batches)

    @cached_property
    def _held_batches(self) -> dict[tuple[int, int], Batch]:
        """What products keep; no object that refers to this one, which would not be freed with its last user."""
        return {}

    @cached_property
    def _memory(self) -> int:
        """Bytes that factors may take."""
        return self._budget or (available_bytes() or 2**40) // 2

    @property
    def _panel_memory(self) -> int:
        """Bytes of factors and tiles in every process that computes a dual panel by panel."""
        return self._budget or MEMORY

    def _gradient_map(self, unit_seeds: bool, kept: dict[tuple[int, int], Batch]) -> GradientMap:
        """Gradients of the likelihood's seeds or of the outputs: in batches, as many kept as the budget allows."""
        num_seeds = self.net.num_outputs if unit_seeds else self.num_seeds
        factored = num_seeds <= _FACTORED_SEEDS
        held = self._held_bytes(num_seeds, factored)
        working = held + self._working_bytes(num_seeds, factored)
        if working > self._memory:
            raise MemoryError(f"memory: expected at least {human(working)}, for one sample, got {human(self._memory)}")
        step = max(1, min(_BATCH_BYTES, self._memory // 2) // working)
        ranges = list(pairwise([*range(0, self.num_samples, step), self.num_samples]))
        num_kept = int((self._memory - step * working) // (step * held))

        def make(begin: int, end: int) -> Batch:
            if not factored:
                return self._swept(begin, end, unit_seeds)
            seeds = self._unit_seeds() if unit_seeds and not self._has_unit_seeds else None
            return FactoredBatch(self._factors_of(begin, end, seeds), self._storage, self._executor)

        return BatchedGradients(ranges, make, kept, num_kept, num_seeds, self.dimension)

    def _held_bytes(self, num_seeds: int, factored: bool) -> int:
        """Memory per sample of what products keep: factors, or signals, slopes and outputs."""
        if factored:
            return self._bytes_per_sample(num_seeds) * self._storage.itemsize // self.dtype.itemsize
        seeds = num_seeds * self.net.num_outputs if self._holds_seeds and not self._has_unit_seeds else 0
        outputs = (self.net.num_outputs + seeds) * self.dtype.itemsize
        return 2 * sum(self.net.widths[1:-1]) * self._storage.itemsize + outputs

    def _working_bytes(self, num_seeds: int, factored: bool) -> int:
        """Memory per sample that making them, or a product, takes besides."""
        layers = 5 * max(self.net.widths) * self.dtype.itemsize
        return layers + (self._bytes_per_sample(num_seeds) if factored else 0)

    def _swept(self, begin: int, end: int, unit_seeds: bool) -> SweptBatch:
        with _counted_from(begin):
            network = LinearizedNetwork(
                self.net, self.X[begin:end], self._charts, self._layers, self._storage, self._executor
            )
        if unit_seeds:
            return SweptBatch(network, UnitSeeds())
        if self._holds_seeds:
            return SweptBatch(network, ExplicitSeeds(self._batch_seeds(network.outputs, begin, end)))
        return SweptBatch(network, LikelihoodSeeds(self.likelihood, network.outputs))

    @property
    def _holds_seeds(self) -> bool:
        """Whether products keep the seeds: where these take less than a sample's signals."""
        return self.kind != "exact" or self.num_seeds * self.net.num_outputs <= sum(self.net.widths)

    def _subsample(self, samples: npt.NDArray[np.intp]) -> Self:
        """The same metric of some of the samples, with their targets."""
        targets = self.targets
        part = self._without_results()
        part._layers, part._parent = slice(None), None
        part.X = np.ascontiguousarray(self.X[samples])
        if targets is not None:
            part.__dict__["_scored_targets"] = tuple(drawn[samples] for drawn in targets)
        if self._parent is None:
            return part
        block = part._without_results()
        block._layers, block._parent = self._layers, part
        return block

    @property
    def _operations(self) -> dict[str, float]:
        widths, R, T = self.net.widths, self.num_seeds, self.num_samples
        layers = list(pairwise(widths))
        used = layers[self._layers]
        through = float(sum(a * b for a, b in layers))
        own = float(sum(a * b for a, b in used))
        factors = 2 * T * (through + R * float(sum(a * b for a, b in layers[1:])))
        factored = R <= _FACTORED_SEEDS
        return {
            "factors": factors,
            "dual": factors + float(T) ** 2 * sum(R**2 * b + a for a, b in used),
            "diagonal": factors + 2 * T * own,
            "product": 4 * T * own if factored else 4 * T * (own + through),
        }

    @property
    def _product_bytes(self) -> int:
        factored = self.num_seeds <= _FACTORED_SEEDS
        needed = self.num_samples * self._held_bytes(self.num_seeds, factored) + 2 * _BATCH_BYTES
        return needed if self._budget is None else min(needed, self._budget)

    @property
    def _has_unit_seeds(self) -> bool:
        """Whether the seeds are the unit vectors of output space."""
        return self.kind == "exact" and self.likelihood == likelihoods.Gaussian()

    # --- answers --------------------------------------------------------------------------------------------

    @property
    def _gram_bytes(self) -> int:
        return 0 if "factors" in self._whole.__dict__ else self._factor_bytes

    def _gram(
        self, tile: int | None, executor: Executor | None, progress: Progress, seeds: FloatArray | None = None
    ) -> FloatArray:
        if executor is not None and not shares_memory(executor):
            num_seeds = self.num_seeds if seeds is None else len(seeds)
            step = panel_size(self, num_seeds, num_workers(executor)) if tile is None else tile
            return Panels(self, step, self._executor, seeds).gather(executor, progress)
        whole = self.factors if seeds is None else self._block_of(self._factorize(0, self.num_samples, seeds))
        return gram_matrix(whole, self._scale, tile=tile, executor=executor or self._executor, progress=progress)

    @property
    def _options(self) -> dict[str, Any]:
        """What else than network, data and likelihood makes the metric, in terms of JSON."""
        return {"layer": None if self._layers == slice(None) else self._layers.stop}

    def _identity(self) -> dict[str, Any]:
        return identity_of(self)

    def _file_tile(self, executor: Executor | None) -> int:
        workers = 1 if executor is None or shares_memory(executor) else num_workers(executor)
        return panel_size(self, self.num_seeds, workers)

    def _file_work(self, tile: int, executor: Executor | None) -> Work:
        threads = executor if shares_memory(executor) else None
        panels = Panels(self, tile, threads or self._executor)
        return lambda pairs: panels.computed(pairs, executor)

    def _sum_of_squares(self) -> float:
        norms = np.concatenate([factors.squared_norms() for factors in self._factor_batches()], axis=1)
        return float(norms.sum() * self._scale)

    def _diagonal(self, seeds: FloatArray | None = None) -> FloatArray:
        total = np.zeros(self.dimension, self.dtype)
        for factors in self._factor_batches(seeds):
            total += factors.diagonal(self._scale, self._executor)
        return total

    def _jacobians(self) -> Iterator[FloatArray]:
        for factors in self._batches(self.num_seeds * self.dimension * self.dtype.itemsize):
            yield factors.jacobian()

    def mean_gradients(self) -> FloatArray:
        r"""Return the C mean gradients of the outputs, :math:`\frac{1}{T} \sum_t \nabla f_k(x_t)`, shape (C, P).

        In a wide network that is not centred they span the eigenspace of the C largest eigenvalues for the Gaussian
        likelihood (Karakida, Akaho, Amari 2021, Theorem 3.2). One matrix product per layer and output.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            total = self._summed_gradients(self._unit_seeds())
        require_finite(total, "mean_gradients()")
        return total

    def _unit_seeds(self) -> FloatArray:
        """The unit vectors of output space, (C, T, C)."""
        C = self.net.num_outputs
        return np.repeat(np.eye(C, dtype=self.dtype)[:, None], self.num_samples, axis=1)

    def _summed_gradients(self, seeds: FloatArray) -> FloatArray:
        r"""``(1/T) sum_t seeds[r, t] . grad f(x_t)``, (R, P)."""
        require_memory(
            2 * len(seeds) * self.dimension * self.dtype.itemsize,
            f"the mean gradients of shape {(len(seeds), self.dimension)} (and one batch's part of them)",
            "ask layer by layer: layer(l)",
        )
        total = np.zeros((len(seeds), self.dimension), self.dtype)
        for factors in self._factor_batches(seeds):
            total += factors.summed_gradients(1.0 / self.num_samples, self._executor)
        return total

    def centered(self) -> Centered:
        r"""Return the metric of the mean-subtracted network, :math:`f(x_t) - \frac{1}{T} \sum_s f(x_s)`.

        Mean subtraction is batch normalisation of the last layer without its scale. It takes the mean gradient from
        every gradient, and with it the outliers from the spectrum (Karakida, Akaho, Amari 2021, Eq. 22; 2019,
        arXiv:1906.02926): for the Gaussian likelihood :math:`G^*` becomes
        :math:`(I_C \otimes P)\, G^* (I_C \otimes P)` with :math:`P = I - 1 1^\top / T`. Other likelihoods are
        evaluated at the mean-subtracted outputs, and their Monte-Carlo targets are drawn there, from the same random
        numbers.
        """
        return Centered(self)


def _refuse_foreign(name: str, value: Any, kind: str, owner: str) -> None:
    """Refuse an option that another kind would use."""
    if value is not None and kind != owner:
        raise ValueError(f"{name}: expected only together with kind={owner!r}, got {name} with kind={kind!r}")


@contextmanager
def _counted_from(begin: int) -> Iterator[None]:
    """Say of an error in a batch from which sample its numbers count."""
    try:
        yield
    except ValueError as error:
        if begin > 0:
            error.add_note(f"Samples are counted from sample {begin} of X, where a batch begins.")
        raise


def _as_storage(storage: npt.DTypeLike | None, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Precision in which factors are held: at most that of the network."""
    found = dtype if storage is None else as_dtype(storage, "storage")
    if found.itemsize > dtype.itemsize:
        raise ValueError(f"storage: expected at most the precision of the network, {dtype}, got {found}")
    return found


class Centered(Metric):
    r"""The metric of a mean-subtracted network; made by :meth:`NetworkMetric.centered`.

    .. math:: G = s \sum_t (J_t - \bar J)^\top S_t S_t^\top (J_t - \bar J), \qquad
        \bar J = \frac{1}{T} \sum_t J_t,

    with the likelihood's seeds :math:`S_t` at the mean-subtracted outputs. The differences are taken of whole matrices:
    entries carry the rounding of the original ones, and what vanishes exactly (the gradient with respect to the biases
    of the output, say) is left as about ``eps`` times those, of either sign. Products with the seeds go through the
    BLAS, whose last bits may follow its own threads. ``dual(out=...)`` computes the matrix in memory before it writes
    it, as a whole.

    Attributes
    ----------
    original : NetworkMetric
        The metric before the subtraction.
    """

    _smaller_dual = "use fewer samples (or outputs), or float32"

    def __init__(self, original: NetworkMetric) -> None:
        self.original = original
        self.net, self.X, self._executor = original.net, original.X, original._executor

    @property
    def dimension(self) -> int:
        """P, the number of rows of the matrix."""
        return self.original.dimension

    @property
    def num_seeds(self) -> int:
        """R, as of the original."""
        return self.original.num_seeds

    @property
    def num_outliers(self) -> int:
        """How many outliers the original has."""
        return self.original.num_outliers

    @property
    def _scale(self) -> float:
        return self.original._scale

    @property
    def _num_eigenvalues(self) -> int:
        return self.original._num_eigenvalues

    def centered(self) -> Centered:
        """Return this metric: a mean can be subtracted once."""
        return self

    def layer(self, l: int) -> Centered:
        """Return the diagonal block of layer l, mean-subtracted."""
        return Centered(self.original.layer(l))

    def output_seeds(self) -> FloatArray:
        """Return S at the mean-subtracted outputs, (R, T, C)."""
        return self._output_seeds

    @property
    def targets(self) -> tuple[Any, ...] | None:
        """The targets of the scores: drawn at the mean-subtracted outputs, or observed; None for the exact kind."""
        return self._scored_targets

    @cached_property
    def _outputs(self) -> FloatArray:
        outputs = self.original._outputs()
        outputs -= outputs.mean(axis=0, dtype=np.float64).astype(outputs.dtype)
        return outputs

    @cached_property
    def _scored_targets(self) -> tuple[Any, ...] | None:
        return self.original._targets_at(self._outputs)

    @cached_property
    def _output_seeds(self) -> FloatArray:
        seeds = self.original._seeds(self._outputs, self._scored_targets)
        seeds.flags.writeable = False
        return seeds

    @cached_property
    def _unit_seeds(self) -> FloatArray:
        return self.original._unit_seeds()

    @property
    def _has_unit_seeds(self) -> bool:
        """Whether the original's dual already is the products of the outputs' gradients."""
        return np.array_equal(self._output_seeds, self._unit_seeds)

    @cached_property
    def _gradients(self) -> GradientMap:
        return CenteredGradients(self.original._gradient_map(True, {}), self._output_seeds)

    def _subsample(self, samples: npt.NDArray[np.intp]) -> Centered:
        return Centered(self.original._subsample(samples))

    @property
    def _operations(self) -> dict[str, float]:
        return self.original._operations

    @property
    def _product_bytes(self) -> int:
        return self.original._product_bytes

    @property
    def _gram_bytes(self) -> int:
        size = self.net.num_outputs * self.num_samples
        per_sample = self.original._bytes_per_sample(self.net.num_outputs)
        return 3 * size**2 * self.dtype.itemsize + per_sample * self.num_samples

    def _gram(self, tile: int | None, executor: Executor | None, progress: Progress) -> FloatArray:
        kernel = self._output_kernel(tile, executor, progress)
        if not self._has_unit_seeds:
            columns = np.ascontiguousarray(_times_seeds(self._output_seeds, kernel).T)
            kernel = _times_seeds(self._output_seeds, columns)
        _symmetrize(kernel)
        return kernel

    def _identity(self) -> dict[str, Any]:
        targets = None if self.targets is None else digest(self.targets)
        return self.original._identity() | {"class": f"{type(self.original).__name__}.centered", "targets": targets}

    def _dual_in_file(
        self, path: Path, tile: int | None, executor: Executor | None, progress: Progress, resume: bool
    ) -> FloatArray:
        return super()._dual_in_file(path, self.num_samples, executor, progress, resume)

    def _file_tile(self, executor: Executor | None) -> int:
        return self.num_samples

    def _file_work(self, tile: int, executor: Executor | None) -> Work:
        # the means run over all samples: one tile, from memory
        return lambda pairs: ((pair, self.dual(executor=executor)) for pair in pairs)

    def _output_kernel(self, tile: int | None, executor: Executor | None, progress: Progress) -> FloatArray:
        """The products of all outputs' gradients less their means, (C T, C T)."""
        C, T = self.net.num_outputs, self.num_samples
        if self._has_unit_seeds:
            kernel = self.original.dual(tile=tile, executor=executor, progress=progress).copy()
        else:
            kernel = self.original._gram(tile, executor, progress, self._unit_seeds)
        for rows in kernel.reshape(C, T, C, T):
            _center(rows)
        return kernel

    @cached_property
    def _mean_gradients(self) -> FloatArray:
        return self.original._summed_gradients(self._unit_seeds)

    def _diagonal(self) -> FloatArray:
        # sum_r (S_r . (J_t - mean))^2 multiplied out, with Q_t = S_t S_t^T; a mean over samples of each term
        seeds, mean = self._output_seeds, self._mean_gradients
        information = np.einsum("rtk,rtq->ktq", seeds, seeds)
        total = self.original._diagonal(seeds)
        factor = self._scale * self.num_samples
        cross = self.original._summed_gradients(information)
        total -= 2 * factor * np.einsum("kp,kp->p", mean, cross)
        total += factor * np.einsum("kp,kq,qp->p", mean, information.mean(axis=1), mean, optimize=True)
        return total

    def _jacobians(self) -> Iterator[FloatArray]:
        begin = 0
        step = (self.num_seeds + self.net.num_outputs) * self.dimension * self.dtype.itemsize
        for factors in self.original._batches(step, self._unit_seeds):
            gradients = factors.jacobian() - self._mean_gradients
            seeds = self._output_seeds[:, begin : begin + len(gradients)]
            yield np.matmul(seeds.transpose(1, 0, 2), gradients)
            begin += len(gradients)

    def __repr__(self) -> str:
        return f"{self.original!r}.centered()"


def _center(block: FloatArray) -> None:
    """Subtract, in place, row and column means over the samples of a (T, C, T) row of blocks."""
    block -= block.mean(axis=0, keepdims=True, dtype=np.float64).astype(block.dtype)
    block -= block.mean(axis=2, keepdims=True, dtype=np.float64).astype(block.dtype)


def _symmetrize(matrix: FloatArray, step: int = 256) -> None:
    """Make a nearly symmetric matrix symmetric to the last bit, in place and without a second one."""
    for begin in range(0, len(matrix), step):
        rows, columns = matrix[begin : begin + step, begin:], matrix[begin:, begin : begin + step]
        mean = 0.5 * (rows + columns.T)
        rows[:], columns[:] = mean, mean.T


def _times_seeds(seeds: FloatArray, matrix: FloatArray) -> FloatArray:
    """``S^T matrix`` for the block-diagonal S of seeds (R, T, C): rows (C T) to (R T), both output-major."""
    num_seeds, samples, num_outputs = seeds.shape
    S = np.ascontiguousarray(seeds.transpose(1, 0, 2))  # (T, R, C)
    products: FloatArray = np.matmul(S, matrix.reshape(num_outputs, samples, -1).transpose(1, 0, 2))
    return products.transpose(1, 0, 2).reshape(num_seeds * samples, -1)
