"""The Fisher information matrix of a finite network on data."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import cached_property
from typing import Any

import numpy as np

from . import likelihoods, spectrum
from ._executor import Progress, check_executor
from ._memory import require_memory
from ._validate import FloatArray, choice, positive_int, require_finite
from .factors import FactoredJacobian, bytes_per_sample, factorize
from .gram import gram_matrix, symmetric_product
from .network import Network
from .statistics import FisherStatistics

__all__ = ["Fisher"]

_BATCH_BYTES = 2**26  # sums over samples hold the factors of one batch; batches do not depend on threads


class Fisher:
    r"""The Fisher information matrix (FIM) of a network on inputs X, computed when asked and never as a whole.

    .. math:: F = \frac{1}{T} \sum_t J_t^\top S_t S_t^\top J_t, \qquad J_t = \partial f(x_t) / \partial\theta,

    where :math:`S_t S_t^\top` is the Fisher information of the output distribution (the identity for the Gaussian
    likelihood; Karakida, Akaho, Amari 2019, Eqs. 1-2). The 1/T is inside; there is no 1/C and no 1/2. Biases are
    parameters. Parameters are flattened layer by layer, W (row-major) then b.

    Parameters
    ----------
    net : Network
        The network; P parameters, C outputs.
    X : array, shape (T, M_0)
        Inputs, one a row, in the precision of the network. Not copied if C-contiguous: results are computed when
        asked, so do not change it while this object is in use.
    likelihood : str or Likelihood
        Output distribution; ``"gaussian"`` is ``y ~ N(f(x), I)``.
    kind : {"exact"}
        Expectation over y from the output distribution, taken exactly.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool of ``FISHERFIELD_NUM_THREADS`` or all processors). No bit of any
        result depends on their number; only the last bits of eigenvalues may follow the BLAS's own threads.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> arch = ff.MLP(widths=(20, 100, 100, 2), activation="tanh", weight_var=3.0, bias_var=0.64)
    >>> X = np.random.default_rng(0).standard_normal((30, 20))
    >>> fim = ff.Fisher(arch.sample(seed=0), X)
    >>> fim.shape, fim.rank_bound
    ((12402, 12402), 60)
    >>> fim.dual().shape
    (60, 60)
    >>> bool(np.isclose(fim.trace(), fim.eigenvalues().sum()))
    True
    """

    def __init__(
        self,
        net: Network,
        X: Any,
        *,
        likelihood: str | likelihoods.Likelihood = "gaussian",
        kind: str = "exact",
        executor: Executor | None = None,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"net: expected a fisherfield.Network (for instance arch.sample(seed=0)), got {net!r}")
        check_executor(executor)
        self.net = net
        self.X = net.check_inputs(X)
        self.likelihood = likelihoods.get(likelihood)
        self.kind = choice(kind, "kind", ("exact",))
        self._executor = executor

    @property
    def num_parameters(self) -> int:
        """P."""
        return self.net.num_parameters

    @property
    def shape(self) -> tuple[int, int]:
        """``(P, P)``."""
        return self.num_parameters, self.num_parameters

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the network, the inputs and the results."""
        return self.net.dtype

    @property
    def num_samples(self) -> int:
        """T."""
        return len(self.X)

    @property
    def num_seeds(self) -> int:
        """R, columns of the square root of the output Fisher information (C for the Gaussian likelihood)."""
        return self.likelihood.num_seeds(self.net.num_outputs)

    @property
    def rank_bound(self) -> int:
        """``min(P, R T)``: at most so many eigenvalues differ from zero."""
        return min(self.num_parameters, self.num_seeds * self.num_samples)

    @property
    def parameter_slices(self) -> dict[str, slice]:
        """Where each ``W1, b1, W2, ...`` lies among the P entries; W_l is flattened row by row."""
        slices: dict[str, slice] = {}
        offset = 0
        for l, W in enumerate(self.net.weights, 1):
            for name, size in ((f"W{l}", W.size), (f"b{l}", W.shape[0] if self.net.has_biases else 0)):
                if size:
                    slices[name] = slice(offset, offset + size)
                offset += size
        return slices

    @cached_property
    def factors(self) -> FactoredJacobian:
        """The factored Jacobian of all samples (kept)."""
        require_memory(
            self._factor_bytes,
            "the factored Jacobian",
            "use fewer samples; diagonal() and trace() work batch by batch without it",
        )
        return factorize(self.net, self.X, self.likelihood, self._executor)

    @property
    def _factor_bytes(self) -> int:
        return bytes_per_sample(self.net, self.likelihood) * self.num_samples

    def _batches(self, bytes_per_sample: int) -> Iterator[FactoredJacobian]:
        """Factors of successive batches of samples, cut in the same places whether or not they are kept."""
        step = max(1, _BATCH_BYTES // bytes_per_sample)
        for begin in range(0, self.num_samples, step):
            end = min(begin + step, self.num_samples)
            if "factors" in self.__dict__:
                yield self.factors.samples(begin, end)
            else:
                yield factorize(self.net, self.X[begin:end], self.likelihood, self._executor)

    def _factor_batches(self) -> Iterator[FactoredJacobian]:
        return self._batches(bytes_per_sample(self.net, self.likelihood))

    def dual(self, *, tile: int | None = None, progress: Progress = None) -> FloatArray:
        r"""Return the dual :math:`F^* = B^\top B` with :math:`F = B B^\top`, which shares the nonzero eigenvalues of F.

        .. math:: F^*_{(r,s),(q,t)} = \frac{1}{T} \sum_l
            (B_l[r, s] \cdot B_l[q, t]) (A_l[s] \cdot A_l[t] + 1)

        with the backpropagated seeds B and the layer inputs A (the +1 where the layer has biases). For the Gaussian
        likelihood it is the empirical neural tangent kernel over T.

        Parameters
        ----------
        tile : int, optional
            Samples a tile. The result does not depend on it.
        progress : None, True or callable
            Progress over tiles: a bar (needs tqdm) or ``callable(done, total)``.

        Returns
        -------
        array, shape (R*T, R*T)
            Output-major: row ``r*T + t``. Kept, hence read-only; copy it to change it.

        Raises
        ------
        MemoryError
            If the matrix cannot fit, with the bytes needed.
        """
        if tile is not None:
            positive_int(tile, "tile")
        if "_dual" not in self.__dict__:
            size = self.num_seeds * self.num_samples
            require_memory(
                size**2 * self.dtype.itemsize + (0 if "factors" in self.__dict__ else self._factor_bytes),
                f"the {size} x {size} dual matrix",
                "use fewer samples (or outputs), or float32; diagonal() and trace() do not need it",
            )
            factors = self.factors
            matrix = gram_matrix(factors, 1.0 / self.num_samples, tile=tile, executor=self._executor, progress=progress)
            require_finite(matrix.diagonal(), "dual()")  # bounds every entry, by Cauchy-Schwarz
            matrix.flags.writeable = False
            self._dual = matrix
        return self._dual

    def eigenvalues(self) -> FloatArray:
        """Return the ``min(P, R T)`` possibly nonzero eigenvalues of F, descending.

        They come from the smaller of F and its dual, by LAPACK: their last bits may follow the number of threads of
        the BLAS, which the matrix itself does not depend on. Rounding can leave values of about ``-eps * maximum``;
        they are not clipped.
        """
        return self._eigenvalues

    @cached_property
    def _smaller(self) -> FloatArray:
        """F or its dual, whichever is smaller: they share trace, Frobenius norm and nonzero eigenvalues."""
        return self.dense() if self.num_parameters < self.num_seeds * self.num_samples else self.dual()

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

    def trace(self) -> float:
        r"""Return tr F, from the norms of the gradients: no Gram matrix, float64 accumulation."""
        return self._trace

    @cached_property
    def _trace(self) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.concatenate([factors.squared_norms() for factors in self._factor_batches()], axis=1)
            total = norms.sum() / self.num_samples
        require_finite(total, "trace()")
        return float(total)

    def statistics(self) -> FisherStatistics:
        r"""Return mean, second moment and maximum over all P eigenvalues (zeros included).

        The mean comes from gradient norms, the second moment from the Frobenius norm of F or its dual
        (:math:`\mathrm{tr} F^2 = \|F\|_F^2 = \|F^*\|_F^2`), whichever is smaller; only the C largest eigenvalues
        are computed.
        """
        return self._statistics

    @cached_property
    def _statistics(self) -> FisherStatistics:
        num_outputs = self.net.num_outputs
        if "_eigenvalues" in self.__dict__:
            top = self._eigenvalues[:num_outputs]
        else:
            top = spectrum.largest_eigenvalues(self._smaller, num_outputs)
        with np.errstate(over="ignore"):
            squares = spectrum.squared_frobenius_norm(self._smaller)
        require_finite(squares, "statistics().second_moment")
        return FisherStatistics(
            mean=self.trace() / self.num_parameters,
            second_moment=squares / self.num_parameters,
            maximum=float(top[0]),
            top_mean=float(np.mean(top, dtype=np.float64)),
            num_parameters=self.num_parameters,
            num_samples=self.num_samples,
            num_outputs=num_outputs,
        )

    def diagonal(self) -> FloatArray:
        """Return the exact diagonal of F, shape (P,): one matrix product per layer and batch, never a Jacobian."""
        total = np.zeros(self.num_parameters, self.dtype)
        for factors in self._factor_batches():
            total += factors.diagonal(1.0 / self.num_samples, self._executor)
        require_finite(total, "diagonal()")
        return total

    def jacobian(self) -> FloatArray:
        r"""Return the Jacobian :math:`S_t^\top J_t` written out, shape (T, R, P), unscaled: F = sum_t J_t^T J_t / T.

        Raises
        ------
        MemoryError
            If it cannot fit.
        """
        entries = self.num_samples * self.num_seeds * self.num_parameters
        require_memory(
            entries * self.dtype.itemsize,
            f"the Jacobian of shape {(self.num_samples, self.num_seeds, self.num_parameters)}",
            "dual(), diagonal(), trace() and eigenvalues() do not need it",
        )
        return self.factors.jacobian()

    def dense(self) -> FloatArray:
        """Return F itself, shape (P, P), for small networks.

        Raises
        ------
        MemoryError
            If it cannot fit.
        """
        require_memory(
            2 * self.num_parameters**2 * self.dtype.itemsize,
            f"the {self.num_parameters} x {self.num_parameters} matrix F (and one batch's part of it)",
            "diagonal() and trace() do not form it",
        )
        return self._sum_of_blocks(slice(None))

    def layer_blocks(self) -> list[FloatArray]:
        """Return the diagonal blocks of F, one per layer: W_l (row-major) then b_l, shape (P_l, P_l)."""
        sizes = [W.size + (W.shape[0] if self.net.has_biases else 0) for W in self.net.weights]
        require_memory(
            (sum(n**2 for n in sizes) + max(sizes) ** 2) * self.dtype.itemsize,
            f"the layer blocks of sizes {sizes}",
            "diagonal() gives the diagonal alone",
        )
        return [self._sum_of_blocks(slice(l, l + 1)) for l in range(self.net.depth)]

    def _sum_of_blocks(self, layers: slice) -> FloatArray:
        """F restricted to some layers, as a sum over batches of Jacobians."""
        total: FloatArray | None = None
        for factors in self._batches(self.num_seeds * self.num_parameters * self.dtype.itemsize):
            jacobian = FactoredJacobian(factors.layers[layers]).jacobian()
            columns = np.ascontiguousarray(jacobian.reshape(-1, jacobian.shape[-1]).T)
            part = symmetric_product(columns, 1.0 / self.num_samples, self._executor)
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        require_finite(total.diagonal(), "F")
        return total

    def __repr__(self) -> str:
        return (
            f"Fisher({self.kind}, {self.likelihood.name}, P={self.num_parameters}, T={self.num_samples}, "
            f"R={self.num_seeds}, dtype={self.dtype})"
        )
