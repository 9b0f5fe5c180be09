r"""What the measured metrics share: a positive semi-definite matrix known through factored gradients.

The Fisher information matrix, the metric of feature space and the tangent kernel are all

.. math:: G = s \sum_t \sum_r g_{rt}\, g_{rt}^\top

with one gradient per seed r and sample t, of the outputs with respect to parameters, features or rescaled
parameters. They differ in what a layer's factors are; everything asked of G is a function of the factors.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import devices, spectrum
from ._engines import check_engine
from ._executor import Progress
from ._memory import batch_bytes, require_memory
from ._validate import (
    FloatArray,
    boolean,
    choice,
    positive_int,
    require_finite,
)
from .costs import Cost, operations_per_second
from .factors import BATCH_BYTES
from .gram import symmetric_product
from .gramfile import GramFile, Work, as_path
from .network import Network
from .statistics import FisherStatistics

__all__ = ["Metric"]


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
    def _diagonal(self, progress: Progress = None) -> FloatArray:
        """The diagonal of G, (P,)."""

    @abstractmethod
    def _jacobians(self) -> Iterator[FloatArray]:
        """The gradients written out, (t, R, P) for successive batches of t samples."""

    @abstractmethod
    def output_seeds(self) -> FloatArray:
        """Return S, (R, T, C), the vectors of output space sent back at every sample."""

    @abstractmethod
    def layer(self, l: int) -> Metric:
        """Return the diagonal block of layer l as a metric of its own.

        Parameters
        ----------
        l : int
            From 1 to L.

        Returns
        -------
        Metric

        Raises
        ------
        ValueError, TypeError
            If there is no such layer.
        """

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
            machines (``ProcessPoolExecutor``, ``mpi4py.futures.MPIPoolExecutor``, ``client.get_executor()`` of Dask),
            or several GPUs (:class:`~fisherfield.GPUPool`). Network and inputs are sent once to every worker. Processes
            that are to use a GPU must be spawned, not forked. The result does not depend on it.
        progress : None, True or callable
            Progress over tiles: a bar (needs tqdm) or ``callable(done, total)``.
        resume : bool
            Whether to go on with what is in ``out``. False overwrites it.

        Returns
        -------
        array, shape (R*T, R*T)
            Output-major: row ``r*T + t``. Kept, hence read-only; copy it to change it (CuPy cannot refuse that it is
            changed in place). With ``out`` a memory map of the file, also of a matrix that a GPU computed;
            ``eigenvalues()`` and ``top_eigenpairs()`` then read it.

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
        check_engine(executor, self.X)
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
                lambda: f"the {size} x {size} dual matrix ({self.estimate('dual').work})",
                f"{self._smaller_dual}; trace(), diagonal(), top_eigenpairs() and spectral_density() do not need it",
                self.X,
            )
            with np.errstate(over="ignore", invalid="ignore"):
                matrix = self._gram(tile, executor, progress)
            require_finite(matrix.diagonal(), "dual()")  # bounds every entry, by Cauchy-Schwarz
            self._dual = devices.read_only(matrix)
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
        return self.dual() if self._dual_is_smaller else self.dense()

    @property
    def _dual_is_smaller(self) -> bool:
        """Whether the dual is taken for the smaller of the two: it is not larger."""
        return self.num_seeds * self.num_samples <= self.dimension

    @cached_property
    def _eigenvalues(self) -> FloatArray:
        smaller = self._smaller
        require_memory(
            smaller.nbytes,
            f"the copy of the {len(smaller)} x {len(smaller)} matrix in which LAPACK finds all eigenvalues",
            "statistics() finds the largest without it",
            smaller,
        )
        values = devices.as_like(spectrum.eigenvalues(smaller), self.X)  # those of a file are found on the host
        kept: FloatArray = devices.read_only(values)
        return kept

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
            mean=self._trace / self._num_eigenvalues,
            second_moment=squares / self._num_eigenvalues,
            maximum=float(top[0]),
            top_mean=float(top.sum(dtype=np.float64)) / min(self.num_outliers, self._num_eigenvalues),
            num_parameters=self._num_eigenvalues,
            num_samples=self.num_samples,
            num_outputs=self.net.num_outputs,
            num_outliers=self.num_outliers,
        )

    def diagonal(self, *, progress: Progress = None) -> FloatArray:
        """Return the exact diagonal of G: matrix products per layer and batch, never a Jacobian.

        Parameters
        ----------
        progress : None, True or callable
            Progress over samples or batches of them: a bar (needs tqdm) or ``callable(done, total)``.

        Returns
        -------
        array, shape (P,)
            In the precision of the network.

        Raises
        ------
        ValueError
            If it overflows.
        TypeError
            For a ``progress`` that is none of these.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            total = self._diagonal(progress=progress)
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
            self.X,
        )
        out = np.empty(shape, self.dtype, like=self.X)
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
            self.X,
        )
        total: FloatArray | None = None
        for jacobian in self._jacobians():
            columns = devices.contiguous(jacobian.reshape(-1, self.dimension).T)
            part = symmetric_product(columns, self._scale, self._executor)
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        require_finite(total.diagonal(), "dense()")
        return total

    def estimate(self, what: str) -> Cost:
        """Return what an answer takes, before it is asked for: bytes, operations, seconds at this machine's rate.

        Parameters
        ----------
        what : {"dual", "eigenvalues", "dense", "jacobian", "diagonal", "product", "top_eigenpairs"}
            ``"product"`` is ``G @ v`` for one vector, factors kept; ``"top_eigenpairs"`` one pair through products.

        Returns
        -------
        Cost
            Its ``bytes``, ``flops`` and ``seconds``.

        Raises
        ------
        ValueError, TypeError
            For an unknown answer.

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
            "diagonal": (2 * self.dimension * item + batch_bytes(self.X, BATCH_BYTES), costs["diagonal"]),
            "product": (2 * self.dimension * item + self._product_bytes, costs["product"]),
            "top_eigenpairs": (40 * self.dimension * item + self._product_bytes, 6 * costs["product"]),
        }
        found = table[choice(what, "what", tuple(table))]
        rate = operations_per_second(self.dtype, self._executor, self.X)
        return Cost(what, int(found[0]), found[1], found[1] / rate)

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
