"""The Fisher information matrix of a finite network on data."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from . import devices
from ._executor import SERIAL, Progress
from ._memory import require_memory
from ._validate import FloatArray, require_finite
from .factors import backpropagated
from .likelihoods import Likelihood
from .linearized import Chart
from .network import Network
from .network_metric import NetworkMetric
from .unitwise import unit_sums

__all__ = ["Fisher"]


class Fisher(NetworkMetric):
    r"""The Fisher information matrix (FIM) of a network on inputs X, computed when asked and never as a whole.

    .. math:: F = \frac{1}{T} \sum_t J_t^\top S_t S_t^\top J_t, \qquad J_t = \partial f(x_t) / \partial\theta,

    where :math:`S_t` comes from the likelihood p(y | f) and the kind:

    ===============  ===============================  ========================  =================================
    ``kind``         :math:`S_t S_t^\top`             what it is                what others call it
    ===============  ===============================  ========================  =================================
    ``exact``        :math:`E_{y \sim p}[s s^\top]`   the FIM: the expectation  BackPACK ``DiagGGNExact``,
                                                      over y taken exactly      curvlinops ``GGNLinearOperator``,
                                                                                nngeometry ``FIM``
    ``monte_carlo``  mean of :math:`s s^\top` over    an unbiased estimate of   ``DiagGGNMC``,
                     drawn y                          the FIM                   ``FisherMCLinearOperator``,
                                                                                ``FIM_MonteCarlo``
    ``empirical``    :math:`s s^\top` at the          not the FIM: it depends   ``SumGradSquared``,
                     observed y                       on the data's targets     ``EFLinearOperator``
    ===============  ===============================  ========================  =================================

    with the score :math:`s = \nabla_f \log p(y | f)`. The scale is that of ``-log p``, averaged over the T samples and
    summed over the outputs: the 1/T is inside, there is no 1/C and no 1/2. Losses of PyTorch scale otherwise: with
    ``reduction="mean"`` the GGN of ``CrossEntropyLoss`` is the exact F, those of ``MSELoss`` and ``BCEWithLogitsLoss``
    are 2/C and 1/C times it; ``docs/which-fisher.md`` has the factors of every library.

    Biases are parameters. Parameters are flattened layer by layer, W (row-major) then b. For the Gaussian likelihood
    :math:`S_t S_t^\top = I` (Karakida, Akaho, Amari 2019, Eqs. 1-2), for the categorical one
    :math:`\mathrm{diag}(g) - g g^\top` (Karakida, Akaho, Amari 2021, Theorem 3.3).

    Parameters
    ----------
    net : Network
        The network; P parameters, C outputs.
    X : array, shape (T, M_0)
        Inputs, one a row, in the precision of the network and on its device, which does the work and holds the results:
        of NumPy, or of CuPy for a network on a GPU (``net.to("cuda")``). Not copied if C-contiguous: results are
        computed when asked, so do not change it while this object is in use.
    likelihood : str or Likelihood
        Output distribution: ``"gaussian"`` is ``y ~ N(f(x), I)``, ``"categorical"`` has softmax probabilities; see
        :mod:`fisherfield.likelihoods` for all, and for one's own.
    kind : {"exact", "monte_carlo", "empirical"}
        Which of the three; see the table.
    samples : int, optional
        Targets drawn per input, with ``kind="monte_carlo"`` (default 1); the estimate's error falls like
        ``1/sqrt(samples)``. R = samples.
    seed : int, numpy.random.Generator or None
        Of these draws. They are made when first needed and kept in ``targets``; a generator gives its random numbers
        right away.
    targets : array, optional
        Observed targets, with ``kind="empirical"``, in the likelihood's format: (T, C) numbers, or (T,) classes for
        the categorical one; copied. R = 1.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool of ``FISHERFIELD_NUM_THREADS`` or all processors). No bit of any
        result depends on their number; only the last bits of eigenvalues may follow the BLAS's own threads. Work on a
        GPU takes none.
    memory : float or str, optional
        Bytes, or text like ``"4 GB"``, that may be taken for factors: those of the batch of samples at work, and those
        that products keep for the next one; what does not fit is computed anew. Default: half of what is available, of
        the GPU's memory for a network there.
        Below 128 MiB the cut into batches, and with it the last bits of products, follows the budget.
    storage : {"float32", "float64"}, optional
        Precision in which products keep factors (default: that of the network). In float32 they take half the memory,
        and products are accurate to 1e-7.
    precision : {"tf32", "tf32x3", "bf16x3"}, optional
        Of a float32 network on a GPU: a reduced precision of :meth:`dual` and of what follows from it, on tensor cores;
        :data:`fisherfield.devices.PRECISIONS` has the errors.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision or devices, unknown names, options of another kind.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> arch = ff.MLP(widths=(20, 100, 100, 3), activation="tanh", weight_var=3.0, bias_var=0.64)
    >>> X = np.random.default_rng(0).standard_normal((30, 20))
    >>> fim = ff.Fisher(arch.sample(seed=0), X)
    >>> fim.shape, fim.rank_bound
    ((12503, 12503), 90)
    >>> fim.dual().shape
    (90, 90)
    >>> bool(np.isclose(fim.trace(), fim.eigenvalues().sum()))
    True

    The categorical likelihood has C - 1 directions per sample:

    >>> softmax = ff.Fisher(arch.sample(seed=0), X, likelihood="categorical")
    >>> softmax.dual().shape
    (60, 60)
    >>> estimate = ff.Fisher(arch.sample(seed=0), X, likelihood="categorical", kind="monte_carlo", samples=500, seed=0)
    >>> bool(abs(estimate.trace() / softmax.trace() - 1) < 0.1)
    True
    """

    def __init__(
        self,
        net: Network,
        X: Any,
        *,
        likelihood: str | Likelihood = "gaussian",
        kind: str = "exact",
        samples: int | None = None,
        seed: int | np.random.Generator | None = None,
        targets: Any = None,
        executor: Executor | None = None,
        memory: float | str | None = None,
        storage: npt.DTypeLike | None = None,
        precision: str | None = None,
    ) -> None:
        super().__init__(net, X, likelihood, kind, samples, seed, targets, executor, memory, storage, precision)

    @property
    def num_parameters(self) -> int:
        """P."""
        return self.dimension

    @property
    def _charts(self) -> tuple[Chart, ...]:
        return (Chart(biases=float(self.net.has_biases)),) * self.net.depth

    @property
    def parameter_slices(self) -> dict[str, slice]:
        """Where each ``W1, b1, W2, ...`` lies among the P entries; W_l is flattened row by row."""
        slices: dict[str, slice] = {}
        offset = 0
        for l, W in list(enumerate(self.net.weights, 1))[self._layers]:
            for name, size in ((f"W{l}", W.size), (f"b{l}", W.shape[0] if self.net.has_biases else 0)):
                if size:
                    slices[name] = slice(offset, offset + size)
                offset += size
        return slices

    def _diagonal(self, progress: Progress = None, seeds: FloatArray | None = None) -> FloatArray:
        """The diagonal, without factors: seeds stay in the cache and are only squared."""
        asked = range(self.net.depth)[self._layers]

        def squares(begin: int, end: int) -> list[tuple[FloatArray, list[FloatArray]]]:
            def seeds_at(outputs: FloatArray) -> FloatArray:
                if seeds is not None:
                    part: FloatArray = devices.contiguous(seeds[:, begin:end])
                    return part
                return self._batch_seeds(outputs, begin, end)

            found = []
            down = reversed(range(asked[0], self.net.depth))
            for l, layer in zip(down, backpropagated(self.net, self.X[begin:end], seeds_at, SERIAL), strict=False):
                if l in asked:
                    found.append((layer.A, [layer.sum_of_squares(SERIAL)]))  # while the seeds are in the cache
            return found[::-1]

        count = self.num_seeds if seeds is None else len(seeds)
        sums = unit_sums(self.net, self.num_samples, squares, (2,), count, self._layers, self._executor, progress)
        total: FloatArray = sums[0]
        total *= self._scale
        return total

    def fisher_rao_norm(self) -> float:
        r"""Return the Fisher-Rao norm :math:`\theta^\top F \theta`, theta the weights alone, no root taken.

        It is :math:`\frac{1}{T} \sum_t |S_t^\top J_t \theta|^2`: one product with the Jacobian, forward through the
        layers. Wide random networks have :attr:`MeanField.fisher_rao_norm <fisherfield.MeanField.fisher_rao_norm>`; the
        published Theorem 5 of Karakida, Akaho and Amari (2019), which leaves out the terms between layers, is
        ``MeanField.fisher_rao_bound``. Of :meth:`layer` the weights of that layer.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> arch = ff.MLP((500, 500, 500, 50), "relu", weight_var=2.0, bias_var=None)
        >>> fim = ff.Fisher(arch.sample(seed=0), np.random.default_rng(0).standard_normal((200, 500)))
        >>> mf = ff.mean_field(arch, 200)
        >>> round(mf.fisher_rao_norm), round(mf.fisher_rao_bound), abs(fim.fisher_rao_norm() / 900 - 1) < 0.1
        (900, 300, True)
        """
        weights = [
            part
            for l, W in list(enumerate(self.net.weights))[self._layers]
            for part in (W.ravel(), np.zeros(W.shape[0] if self.net.has_biases else 0, self.dtype, like=W))
        ]
        moved = self._gradients.times(np.concatenate(weights)[None])
        norm = float(np.square(moved, dtype=np.float64).sum()) * self._scale
        require_finite(norm, "fisher_rao_norm()")
        return norm

    def layer_blocks(self) -> list[FloatArray]:
        """Return the diagonal blocks of F, one per layer: W_l (row-major) then b_l, shape (P_l, P_l)."""
        sizes = self._layer_dimensions[self._layers]
        require_memory(
            (sum(n**2 for n in sizes) + max(sizes) ** 2) * self.dtype.itemsize,
            f"the layer blocks of sizes {list(sizes)}",
            "diagonal() gives the diagonal alone",
            self.X,
        )
        return [self.layer(l).dense() for l in range(1, self.net.depth + 1)[self._layers]]

    def __repr__(self) -> str:
        return f"Fisher({self._described}, dtype={self.dtype})"
