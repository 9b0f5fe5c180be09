"""The Fisher information matrix of a random wide network, as mean-field theory predicts it."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fisherfield._executor import check_executor, run
from fisherfield._native import kernels
from fisherfield._validate import as_float_array, non_negative, number, positive_int
from fisherfield.architecture import MLP
from fisherfield.statistics import FisherStatistics, critical_learning_rate

from .blocks import Block, DenseBlock, EquicorrelatedBlock, require_square
from .gaussian import DEFAULT_TOL, check_tol, warn_unconverged

__all__ = ["InputStatistics", "MeanField", "OrderParameters", "WideOutputBounds", "mean_field"]

Array = npt.NDArray[np.float64]

# Samples per side of a tile of the pairwise recursion; no result depends on it.
_TILE = 96
# kappa_2 / kappa_1 up to which a network counts as centred: far above rounding, far below any fluctuation.
_CENTERED = 1e-10


@dataclass(frozen=True)
class InputStatistics:
    r"""T inputs that share one mean square and one overlap.

    Parameters
    ----------
    T : int
        Number of inputs, >= 1.
    qhat0 : float, default 1.0
        :math:`\hat q^0 = |x_s|^2 / M_0`, > 0. 1 for standard Gaussian inputs.
    qhat_st0 : float, default 0.0
        :math:`\hat q^0_{st} = x_s \cdot x_t / M_0` for s != t; at most ``qhat0``, and at least
        ``-qhat0 / (T - 1)``: below it no T inputs exist.

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong kind or out of its range.

    Examples
    --------
    >>> import fisherfield as ff
    >>> ff.InputStatistics(T=100, qhat0=1.0, qhat_st0=0.2)
    InputStatistics(T=100, qhat0=1.0, qhat_st0=0.2)
    """

    T: int
    qhat0: float = 1.0
    qhat_st0: float = 0.0

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "T", positive_int(self.T, "T"))
        set_field(self, "qhat0", non_negative(self.qhat0, "qhat0", strict=True))
        overlap = number(self.qhat_st0, "qhat_st0")
        lowest = -self.qhat0 / max(self.T - 1, 1)
        possible = min(max(overlap, lowest), self.qhat0)
        if abs(overlap - possible) > 1e-12 * self.qhat0:  # more than rounding
            raise ValueError(
                f"qhat_st0: expected {lowest:g} <= qhat_st0 <= {self.qhat0:g} for T = {self.T} (from -qhat0 / (T - 1) "
                f"to qhat0: the matrix of overlaps is positive semi-definite), got {overlap:g}"
            )
        set_field(self, "qhat_st0", possible)

    @classmethod
    def from_data(cls, X: npt.ArrayLike) -> InputStatistics:
        """Return the mean square and the mean overlap of the rows of X (T, M_0).

        A quick estimate where the norms are nearly constant; ``mean_field(arch, X)`` uses every
        overlap instead.
        """
        x = np.asarray(as_float_array(X, "X", ndim=2), dtype=np.float64)
        T, dimension = x.shape
        squares = float(np.vdot(x, x))
        total = x.sum(axis=0)
        overlap = (float(total @ total) - squares) / (dimension * T * (T - 1)) if T > 1 else 0.0
        return cls(T, squares / (dimension * T), overlap)


@dataclass(frozen=True, eq=False)
class OrderParameters:
    r"""Order parameters per layer (Karakida, Akaho, Amari 2019, Eqs. 9-12).

    For data X the entries are means: over the samples, and (``_st``) over the pairs s != t; NaN where there
    is no pair.

    Attributes
    ----------
    q, q_st : (L,) ndarray
        :math:`q^l, q^l_{st}` for l = 1, ..., L, at index l - 1: variance and covariance of the
        pre-activations.
    qhat, qhat_st : (L,) ndarray
        :math:`\hat q^l, \hat q^l_{st}` for l = 0, ..., L - 1, at index l: mean square and overlap of the
        activations.
    qtilde, qtilde_st : (L,) ndarray
        :math:`\tilde q^l, \tilde q^l_{st}` for l = 1, ..., L, at index l - 1: :math:`\sum_i (\delta^l_i)^2`,
        the sum (not the mean) over the units of one output's squared derivatives, and its overlap. 1 at the
        output layer.
    """

    q: Array
    q_st: Array
    qhat: Array
    qhat_st: Array
    qtilde: Array
    qtilde_st: Array


@dataclass(frozen=True)
class WideOutputBounds:
    """Eigenvalue statistics when the number of outputs C grows with the width.

    Karakida, Akaho, Amari 2019, Eqs. 21-23.

    Attributes
    ----------
    mean : float
        Mean eigenvalue, which is unchanged.
    second_moment, maximum : tuple of float
        (lower, upper) bounds.
    """

    mean: float
    second_moment: tuple[float, float]
    maximum: tuple[float, float]


def mean_field(
    arch: MLP,
    inputs: int | InputStatistics | npt.ArrayLike,
    *,
    M: float | None = None,
    tol: float = DEFAULT_TOL,
    executor: Executor | None = None,
) -> MeanField:
    r"""Predict the Fisher information matrix of a random wide network.

    Parameters
    ----------
    arch : MLP
        Widths, activations and variances, possibly with skips (``ResidualMLP``); at least one hidden layer.
    inputs : int, InputStatistics or (T, M_0) array_like
        The number T of independent standard Gaussian inputs; their statistics; or the data, of which then
        every overlap :math:`x_s \cdot x_t / M_0` is used. float32 data are accepted; theory is computed in
        float64, on a copy.
    M : float, optional
        Width scale, :math:`M_l = \alpha_l M`. Default: the width of the first hidden layer. Only the split of
        a prediction into ``alpha``, ``kappa`` and M depends on it, not the prediction.
    tol : float, default 1e-12
        Relative tolerance of the Gaussian integrals, between 1e-14 and 0.1.
    executor : concurrent.futures.Executor, optional
        Runs the pairwise recursion of data; default: a shared thread pool. No bit of ``dual()`` depends on the
        number of threads; its largest eigenvalue comes from LAPACK or ARPACK, whose last bits may follow the
        BLAS's own threads.

    Returns
    -------
    MeanField

    Raises
    ------
    TypeError, ValueError
        For unusable inputs or parameters, a network without hidden layer, and order parameters that overflow.

    Warns
    -----
    QuadratureWarning
        If an integral does not reach ``tol``; the message has the accuracy that was reached.

    References
    ----------
    R. Karakida, S. Akaho, S. Amari, "Universal statistics of Fisher information in deep neural networks: mean
    field approach", AISTATS 2019 (arXiv:1806.01316).

    Examples
    --------
    >>> import fisherfield as ff
    >>> arch = ff.MLP(widths=(1000, 1000, 1000, 1), activation="tanh", weight_var=3.0, bias_var=0.64)
    >>> mf = ff.mean_field(arch, 100)
    >>> round(mf.kappa1, 8), round(mf.kappa2, 8)
    (0.9555219, 0.11861537)
    >>> round(mf.statistics.maximum, 3)
    253.969
    """
    if not isinstance(arch, MLP):
        raise TypeError(f"arch: expected an MLP, got {type(arch).__name__}")
    if arch.depth < 2:
        raise ValueError(
            f"arch: expected at least one hidden layer, widths (M_0, M_1, ..., C), got widths {arch.widths}; "
            "the theory's alpha sums over hidden layers"
        )
    check_executor(executor)
    scale = float(arch.widths[1]) if M is None else non_negative(M, "M", strict=True)
    return MeanField(arch, _as_inputs(inputs, arch.widths[0]), scale, check_tol(tol), executor)


def _as_inputs(inputs: Any, dimension: int) -> InputStatistics | Array:
    if isinstance(inputs, InputStatistics):
        return inputs
    if np.ndim(inputs) == 0:
        return InputStatistics(positive_int(inputs, "inputs"))
    data = as_float_array(inputs, "inputs", ndim=2, shape=(None, dimension))
    copy = np.array(data, dtype=np.float64)  # what is computed later must not see the caller's changes
    copy.flags.writeable = False
    return copy


@dataclass(frozen=True, eq=False)
class MeanField:
    r"""Predictions for one architecture and one set of inputs; made by :func:`mean_field`.

    :math:`F^* \approx I_C \otimes` ``dual()``: the leading order has one (T, T) block per output. Everything
    is computed when first asked for.

    Attributes
    ----------
    arch : MLP
        The architecture.
    inputs : InputStatistics or (T, M_0) ndarray
        The inputs; data are a read-only copy.
    M : float
        Width scale.
    tol : float
        Relative tolerance of the integrals.
    """

    arch: MLP
    inputs: InputStatistics | Array = field(repr=False)
    M: float
    tol: float
    executor: Executor | None = field(default=None, repr=False)

    # --- order parameters -----------------------------------------------------------------------------------

    @property
    def num_samples(self) -> int:
        """T."""
        return self.inputs.T if isinstance(self.inputs, InputStatistics) else len(self.inputs)

    @cached_property
    def _recursion(self) -> Any:
        arch, inputs = self.arch, self.inputs
        known = isinstance(inputs, InputStatistics)
        qhat0 = [inputs.qhat0] if isinstance(inputs, InputStatistics) else kernels.mean_squares(inputs)
        recursion = kernels.DepthRecursion(
            list(arch.activations),
            list(arch.weight_vars),
            list(arch.bias_vars),
            list(arch.skips),
            list(qhat0),
            self.tol,
        )
        for name, table in zip(("q", "qhat", "qtilde"), recursion.single, strict=True):
            if not np.isfinite(table).all():
                l = int(np.argwhere(~np.isfinite(table))[0, 0])
                raise ValueError(
                    f"arch: the order parameter {name} is not a finite number at index {l}"
                    f"{'' if known else ' for some input'}; use smaller weight_var or fewer layers"
                )
        error, points = recursion.accuracy
        warn_unconverged(error, points, self.tol, "mean_field")
        return recursion

    @cached_property
    def _pair(self) -> tuple[Array, Array, Array]:
        """(q_st, qhat_st, qtilde_st) of equicorrelated inputs, each (L,)."""
        assert isinstance(self.inputs, InputStatistics)
        q, qhat, qtilde, error, points = self._recursion.equicorrelated(self.inputs.qhat_st0)
        warn_unconverged(error, points, self.tol, "mean_field")
        return q[:, 0], qhat[:, 0], qtilde[:, 0]

    @cached_property
    def order_parameters(self) -> OrderParameters:
        """Order parameters per layer; for data their means over samples and pairs."""
        q, qhat, qtilde = (table.mean(axis=1) for table in self._recursion.single)
        if isinstance(self.inputs, InputStatistics):
            q_st, qhat_st, qtilde_st = self._pair
        else:
            _, (q_st, qhat_st, qtilde_st) = self._leading_with_means
        return OrderParameters(q, q_st, qhat, qhat_st, qtilde, qtilde_st)

    # --- the predicted dual ---------------------------------------------------------------------------------

    @property
    def _fan_in(self) -> Array:
        """M_{l-1} for l = 1, ..., L."""
        return np.array(self.arch.widths[:-1], dtype=np.float64)

    def _block(self, bias: float) -> tuple[Block, Array]:
        """(1/T) sum_l qtilde_st^l (M_{l-1} qhat_st^{l-1} + bias), and the pairs' mean order parameters."""
        T = self.num_samples
        if isinstance(self.inputs, InputStatistics):
            _, qhat, qtilde = (table[:, 0] for table in self._recursion.single)
            _, qhat_st, qtilde_st = self._pair
            diagonal = qtilde @ (self._fan_in * qhat + bias)
            off_diagonal = qtilde_st @ (self._fan_in * qhat_st + bias)
            return EquicorrelatedBlock(float(diagonal) / T, float(off_diagonal) / T, T), np.array(self._pair)
        return self._pairwise_block(self.inputs, bias)

    def _pairwise_block(self, x: Array, bias: float) -> tuple[Block, Array]:
        T, recursion = len(x), self._recursion
        require_square(T)
        out = np.empty((T, T))
        corners = [(row, column) for row in range(0, T, _TILE) for column in range(0, row + 1, _TILE)]
        results: list[Any] = [None] * len(corners)
        width, biases = list(self._fan_in / T), [bias / T] * self.arch.depth

        def compute(index: int) -> None:
            row, column = corners[index]
            rows, columns = min(_TILE, T - row), min(_TILE, T - column)
            results[index] = recursion.dual_tile(x, out, row, rows, column, columns, width, biases)

        run(compute, range(len(corners)), self.executor)
        out.flags.writeable = False
        sums, errors, points = zip(*results, strict=True)
        warn_unconverged(float(np.max(errors)), max(points), self.tol, "mean_field")
        pairs = T * (T - 1) // 2
        return DenseBlock(out), np.sum(sums, axis=0) / pairs if pairs else np.full_like(sums[0], math.nan)

    @cached_property
    def _leading_with_means(self) -> tuple[Block, Array]:
        return self._block(0.0)

    @property
    def _leading(self) -> Block:
        return self._leading_with_means[0]

    @cached_property
    def _refined(self) -> Block:
        return self._block(1.0)[0] if self.arch.has_biases else self._leading

    def dual(self, X: npt.ArrayLike | None = None, *, refined: bool = False) -> Array:
        r"""Return the predicted block of the dual, :math:`F^* \approx I_C \otimes` this.

        Entry (s, t) is :math:`(\alpha M / T) K_{st} = (1/T) \sum_l M_{l-1} \tilde q^l_{st} \hat
        q^{l-1}_{st}`.

        Parameters
        ----------
        X : (T, M_0) array_like, optional
            Other inputs than those of this prediction.
        refined : bool, default False
            Add the bias parameters, whose part of the Gram matrix is 1 where that of the weights is
            :math:`M_{l-1} \hat q^{l-1}_{st}`.

        Returns
        -------
        (T, T) ndarray
            Symmetric, read-only.

        Raises
        ------
        MemoryError
            Before any work, if the array would not fit.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> arch = ff.MLP(widths=(20, 30, 30, 1), activation="tanh", weight_var=2.0, bias_var=0.1)
        >>> X = np.random.default_rng(0).standard_normal((8, 20))
        >>> ff.mean_field(arch, X).dual().shape
        (8, 8)
        """
        if X is not None:
            return mean_field(self.arch, X, M=self.M, tol=self.tol, executor=self.executor).dual(refined=refined)
        matrix = (self._refined if refined else self._leading).matrix
        matrix.flags.writeable = False
        return matrix

    # --- statistics of the eigenvalues ----------------------------------------------------------------------

    @property
    def alpha(self) -> float:
        r""":math:`\alpha = \sum_{l=1}^{L-1} \alpha_l \alpha_{l-1}`; :math:`P \approx \alpha M^2`."""
        widths = self.arch.widths[:-1]
        return sum(n * m for n, m in pairwise(widths)) / self.M**2

    @property
    def kappa1(self) -> float:
        r""":math:`\kappa_1 = \sum_{l=1}^L (\alpha_{l-1}/\alpha)\, \tilde q^l \hat q^{l-1}`.

        For data the mean over samples.
        """
        return self._leading.mean_diagonal * self.num_samples / (self.alpha * self.M)

    @property
    def kappa2(self) -> float:
        r""":math:`\kappa_2 = \sum_{l=1}^L (\alpha_{l-1}/\alpha)\, \tilde q^l_{st} \hat q^{l-1}_{st}`.

        For data the mean over pairs; NaN for data with a single sample, which have no pair.
        """
        return self._leading.mean_off_diagonal * self.num_samples / (self.alpha * self.M)

    @property
    def is_centered(self) -> bool:
        """Whether kappa_2 vanishes: odd activations, no bias variance, uncorrelated inputs.

        The predicted maximum then is of the order of the bulk, and fluctuations, which the theory leaves out,
        decide it.
        """
        return abs(self.kappa2) <= _CENTERED * self.kappa1

    def _statistics(self, block: Block, count: float) -> FisherStatistics:
        """Moments over ``count`` eigenvalues of I_C x block."""
        C, largest = self.arch.num_outputs, block.largest_eigenvalue
        return FisherStatistics(
            mean=C * block.size * block.mean_diagonal / count,
            second_moment=C * block.square_sum / count,
            maximum=largest,
            top_mean=largest,
            num_parameters=self.arch.num_parameters,
            num_samples=block.size,
            num_outputs=C,
        )

    @property
    def statistics(self) -> FisherStatistics:
        r"""Leading-order statistics of the eigenvalues (Karakida, Akaho, Amari 2019, Theorems 1, 3 and 4).

        .. math::
            m = \kappa_1 C / M, \quad
            s = \alpha C \left(\tfrac{T-1}{T} \kappa_2^2 + \tfrac{1}{T} \kappa_1^2\right), \quad
            \lambda_{\max} = \alpha M \left(\tfrac{T-1}{T} \kappa_2 + \tfrac{1}{T} \kappa_1\right)

        with moments over :math:`P = \alpha M^2` eigenvalues; the field ``num_parameters`` is the exact P. For
        data the sums run over all entries of K and the maximum is its largest eigenvalue. For C > 1 the
        maximum is that of the *mean* of the C largest eigenvalues (``top_mean``); the single largest lies
        above it by O(sqrt(M)).

        The formula for the maximum needs a network that is not centred: where kappa_2 = 0 (odd activations
        without biases; see :attr:`is_centered`) the true maximum is decided by fluctuations. Negative
        overlaps (kappa_2 < 0) make
        :math:`\alpha M (\kappa_1 - \kappa_2) / T` the maximum.
        """
        return self._statistics(self._leading, self.alpha * self.M**2)

    @property
    def refined_statistics(self) -> FisherStatistics:
        r"""Statistics with the exact counts of the finite network.

        Adds to :attr:`statistics` what finite widths are known to change: the bias parameters,
        :math:`\mathrm{tr} F = C \sum_l \tilde q^l (M_{l-1} \hat q^{l-1} + 1)` and the same +1 in every entry
        of the dual (without biases, nothing), and moments over the true number of parameters P, output layer
        and biases included. What remains are fluctuations, of relative order :math:`1/\sqrt{M}` for a single
        network, and deviations of the average over networks, of relative order 1/M; only the average of
        ``maximum`` for C > 1 deviates by :math:`1/\sqrt{M}`: compare ``top_mean``.
        """
        return self._statistics(self._refined, self.arch.num_parameters)

    def count_above(self, k: float) -> float:
        r"""Return an upper bound of the number of eigenvalues >= k (Corollary 2).

        :math:`N(\lambda \ge k) \le \min\{\alpha \kappa_1 C M / k,\ C T\}`.

        Parameters
        ----------
        k : float
            Threshold, > 0.
        """
        threshold = non_negative(k, "k", strict=True)
        C = self.arch.num_outputs
        return min(self.alpha * self.kappa1 * C * self.M / threshold, float(C * self.num_samples))

    def bounds_wide_output(self) -> WideOutputBounds:
        r"""Return the statistics for a number of outputs of the order of the width (Eqs. 21-23).

        :math:`s \le s' \le C s` and :math:`\lambda_{\max} \le \lambda_{\max}' \le \sqrt{\alpha C s}\, M`,
        with the formulas of :attr:`statistics` for s and :math:`\lambda_{\max}`.
        """
        leading, C = self.statistics, self.arch.num_outputs
        return WideOutputBounds(
            mean=leading.mean,
            second_moment=(leading.second_moment, C * leading.second_moment),
            maximum=(leading.maximum, math.sqrt(self.alpha * C * leading.second_moment) * self.M),
        )

    # --- learning rate and Fisher-Rao norm

    def critical_learning_rate(self, momentum: float = 0.0) -> float:
        r"""Return :math:`\eta_c = 2 (1 + \mu) / \lambda_{\max}` (Lemma 6 and Theorem 7).

        Gradient descent on the squared loss :math:`\frac{1}{2T} \sum_t |y_t - f(x_t)|^2` leaves any global
        minimum for larger steps. For C > 1 the largest eigenvalue exceeds the formula's by O(sqrt(M)), and
        training may diverge somewhat below. Infinite where the predicted maximum is 0: no step is too large.

        Parameters
        ----------
        momentum : float, default 0.0
            Heavy-ball coefficient :math:`\mu`, 0 <= mu < 1.

        Examples
        --------
        >>> import fisherfield as ff
        >>> arch = ff.MLP(widths=(1000, 1000, 1000, 1), activation="tanh", weight_var=3.0, bias_var=0.64)
        >>> round(ff.mean_field(arch, 100).critical_learning_rate(momentum=0.9), 6)
        0.014962
        """
        return critical_learning_rate(self.statistics.maximum, momentum)

    @cached_property
    def fisher_rao_norm(self) -> float:
        r"""Wide limit of the Fisher-Rao norm :math:`\theta^\top F \theta`, theta the weights, without a root.

        :math:`\theta^\top F \theta = C\, E[(\partial_\epsilon f((1+\epsilon) W, b))^2]`; pre-activations and
        their derivatives by epsilon stay jointly Gaussian, which gives an exact recursion over depth; for
        data the mean over samples is taken. For positively homogeneous activations without biases or skips it
        is :math:`L^2 C q^L`. Compare :attr:`fisher_rao_bound`.
        """
        norms, error, points = self._recursion.fisher_rao_norms()
        warn_unconverged(error, points, self.tol, "fisher_rao_norm")
        return float(self.arch.num_outputs * norms.mean())

    @property
    def fisher_rao_bound(self) -> float:
        r"""Published Theorem 5: :math:`\sigma_w^2 (\alpha / \alpha_{\min}) C \kappa_1`.

        It is **not** a bound of :math:`\theta^\top F \theta`, because the terms between different layers are
        left out: a linear or ReLU network without biases has :math:`L^2 C q^L` where the theorem, at uniform
        width, gives :math:`L C q^L`. Use :attr:`fisher_rao_norm` for the value. The minimum of alpha_l is
        over l = 0, ..., L-1; with a variance per layer
        :math:`\sigma_w^2` is the largest one.
        """
        alpha_min = min(self.arch.widths[:-1]) / self.M
        return max(self.arch.weight_vars) * self.alpha / alpha_min * self.arch.num_outputs * self.kappa1
