"""The Fisher information matrix of a random wide network, as mean-field theory predicts it."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fisherfield import devices, likelihoods
from fisherfield._executor import check_executor, run
from fisherfield._native import kernels
from fisherfield._validate import as_float_array, as_generator, choice, non_negative, positive_int, same_device
from fisherfield.architecture import MLP
from fisherfield.devices.pairs import PairRecursion, mean_squares
from fisherfield.statistics import FisherStatistics, critical_learning_rate

from .blocks import Block, DenseBlock, EquicorrelatedBlock, require_square
from .bulk import BulkLaw, bulk_law
from .gaussian import DEFAULT_TOL, check_tol, warn_unconverged
from .inputs import InputStatistics, OrderParameters
from .metric import LayerSum, PredictedMetric
from .outliers import goe_maximum, outlier_spread, require_fresh_weights
from .outputs import Betas, IdentityOutputs, Outputs, SampledOutputs, float64

__all__ = ["MeanField", "WideOutputBounds", "mean_field"]

Array = npt.NDArray[np.float64]

# Samples per side of a tile of the pairwise recursion; no result depends on it.
_TILE = 96
# Relative to a variance, what of a covariance is rounding.
_ROUNDING = 1e-12
# Draws of the outputs from the limiting Gaussian process, over which predictions are averaged.
_DRAWS = 10


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
    likelihood: str | likelihoods.Likelihood = "gaussian",
    kind: str = "exact",
    samples: int | None = None,
    outputs: npt.ArrayLike | None = None,
    output_seeds: npt.ArrayLike | None = None,
    seed: int | np.random.Generator | None = 0,
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
        float64, on a copy. For a CuPy array the pairs are worked on by the GPU, and what has an entry per sample or
        pair (``dual``, ``nngp``, ``eigenvalues``, ``outputs``, and ``outliers``) lies there; numbers, and arrays with
        an entry per layer, are the host's.
    likelihood : str or Likelihood
        Output distribution, as of :class:`~fisherfield.Fisher`. The unit Gaussian one has predictions that depend on
        the architecture alone; others need the output Fisher information :math:`Q_t`, hence outputs.
    kind : {"exact", "monte_carlo", "empirical"}
        As of :class:`~fisherfield.Fisher`. The targets of ``"empirical"`` come from a teacher, another draw of the
        outputs; for observed ones use ``output_seeds``.
    samples : int, optional
        Targets drawn per input, with ``kind="monte_carlo"`` (default 1).
    outputs : (T, C) or (S, T, C) array_like, optional
        Outputs of a network, or of S networks over which predictions are averaged, at which :math:`Q_t` is evaluated:
        ``net(X)``, on the device of the inputs. Default: 10 draws from the Gaussian process that wide networks converge
        to.
    output_seeds : (R, T, C) or (S, R, T, C) array_like, optional
        In place of outputs: the square roots of :math:`Q_t` themselves, ``fim.output_seeds()``, for any kind; for
        predictions of the mean-subtracted network ``fim.centered().output_seeds()``. The likelihood is still to be
        named: its rank is the number of outliers.
    seed : int, numpy.random.Generator or None
        Of these draws. The random numbers are the same on a GPU, but it roots the covariance with eigenvectors of its
        own solver, which makes other draws of the same law.
    M : float, optional
        Width scale, :math:`M_l = \alpha_l M`. Default: the width of the first hidden layer. Only the split of
        a prediction into ``alpha``, ``kappa`` and M depends on it, not the prediction.
    tol : float, default 1e-12
        Relative tolerance of the Gaussian integrals, between 1e-14 and 0.1.
    executor : concurrent.futures.Executor, optional
        Runs the pairwise recursion of data, for those on a GPU the few integrals that are left to the processor;
        default: a shared thread pool. No bit of ``dual()`` depends on the number of threads; its largest eigenvalue
        comes from LAPACK or ARPACK, whose last bits may follow the BLAS's own threads.

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
    law = likelihoods.get(likelihood)
    law.check_outputs(arch.num_outputs)
    choice(kind, "kind", likelihoods.KINDS)
    if samples is not None and kind != "monte_carlo":
        raise ValueError(f"samples: expected only together with kind='monte_carlo', got samples with kind={kind!r}")
    if outputs is not None and (kind == "empirical" or output_seeds is not None):
        raise ValueError(
            "outputs: expected neither with kind='empirical' nor with output_seeds; use output_seeds alone"
        )
    if outputs is not None and kind == "exact" and not law.depends_on_outputs:
        raise ValueError(f"outputs: expected None, for the information of the {law.name} likelihood is the same at all")
    if samples is not None and output_seeds is not None:
        raise ValueError("samples: expected None together with output_seeds, which hold the draws")
    known = _as_inputs(inputs, arch.widths[0])
    shape = (_num_samples(known), arch.num_outputs)
    return MeanField(
        arch,
        known,
        scale,
        check_tol(tol),
        law,
        kind,
        positive_int(1 if samples is None else samples, "samples"),
        None if outputs is None else _as_stack(outputs, "outputs", shape, known),
        None if output_seeds is None else _as_stack(output_seeds, "output_seeds", (None, *shape), known),
        # taken now: a generator may have moved on by the time the outputs are drawn
        tuple(as_generator(seed, stream="outputs").integers(2**32, size=8).tolist()),
        executor,
    )


def _num_samples(inputs: InputStatistics | Array) -> int:
    return inputs.T if isinstance(inputs, InputStatistics) else len(inputs)


def _as_stack(value: Any, name: str, shape: tuple[int | None, ...], inputs: InputStatistics | Array) -> Array:
    """Return a copy of one array or of several of that shape, stacked along a first axis, in float64, read-only."""
    try:
        single = np.ndim(value) == len(shape)
    except ValueError:  # rows of different lengths, of which as_float_array says more
        single = True
    array = as_float_array(value, name, ndim=len(shape) + (not single), shape=shape if single else (None, *shape))
    same_device(("inputs", np.empty(0) if isinstance(inputs, InputStatistics) else inputs), (name, array))
    stack: Array = devices.read_only((array[None] if single else array).astype(np.float64))
    return stack


def _as_inputs(inputs: Any, dimension: int) -> InputStatistics | Array:
    if isinstance(inputs, InputStatistics):
        return inputs
    if np.ndim(inputs) == 0:
        return InputStatistics(positive_int(inputs, "inputs"))
    data = as_float_array(inputs, "inputs", ndim=2, shape=(None, dimension))
    copy: Array = devices.read_only(data.astype(np.float64))  # what is computed later must not see the caller's changes
    return copy


def _mean_squares(x: Array) -> Array:
    """Of every row of X, the bits that the overlaps of the pairs have."""
    return mean_squares(x) if devices.is_cuda(x) else kernels.mean_squares(x)


@dataclass(frozen=True, eq=False)
class MeanField:
    r"""Predictions for one architecture and one set of inputs; made by :func:`mean_field`.

    For the Gaussian likelihood :math:`F^* \approx I_C \otimes` ``dual()``: the leading order has one (T, T) block per
    output. Everything is computed when first asked for.

    Attributes
    ----------
    arch : MLP
        The architecture.
    inputs : InputStatistics or (T, M_0) ndarray
        The inputs; data are a copy, on their device, and read-only on the CPU.
    M : float
        Width scale.
    tol : float
        Relative tolerance of the integrals.
    likelihood : Likelihood
        Output distribution.
    kind : str
    num_draws : int
        Targets per sample of the Monte-Carlo kind.
    """

    arch: MLP
    inputs: InputStatistics | Array = field(repr=False)
    M: float
    tol: float
    likelihood: likelihoods.Likelihood
    kind: str = "exact"
    num_draws: int = 1
    given_outputs: Array | None = field(default=None, repr=False)
    given_seeds: Array | None = field(default=None, repr=False)
    entropy: tuple[int, ...] = field(default=(), repr=False)
    executor: Executor | None = field(default=None, repr=False)

    # --- order parameters -----------------------------------------------------------------------------------

    @property
    def num_samples(self) -> int:
        """T."""
        return _num_samples(self.inputs)

    @property
    def num_outputs(self) -> int:
        """C."""
        return self.arch.num_outputs

    @property
    def num_outliers(self) -> int:
        """How many eigenvalues leave the bulk: the rank of the output Fisher information."""
        return self.likelihood.num_seeds(self.num_outputs)

    @cached_property
    def _recursion(self) -> Any:
        arch, inputs = self.arch, self.inputs
        known = isinstance(inputs, InputStatistics)
        qhat0 = [inputs.qhat0] if isinstance(inputs, InputStatistics) else _mean_squares(inputs)
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
            _, (q_st, qhat_st, qtilde_st) = self._block_with_means(self._parameters.leading)
        return OrderParameters(q, q_st, qhat, qhat_st, qtilde, qtilde_st)

    # --- sums over layers -----------------------------------------------------------------------------------

    @cached_property
    def _blocks(self) -> dict[LayerSum, tuple[Block, Array]]:
        return {}

    def block(self, weights: LayerSum) -> Block:
        """One output's block (T, T) of a sum over layers; kept.

        Parameters
        ----------
        weights : LayerSum
            Of the L layers.

        Returns
        -------
        Block
            A matrix, or for equicorrelated inputs its two numbers.

        Raises
        ------
        MemoryError
            If the block of data cannot fit.
        """
        return self._block_with_means(weights)[0]

    def _block_with_means(self, weights: LayerSum) -> tuple[Block, Array]:
        """The block, and the pairs' mean order parameters."""
        if weights not in self._blocks:
            if isinstance(self.inputs, InputStatistics):
                self._blocks[weights] = self._equicorrelated_block(weights, self.inputs.T)
            else:
                self._blocks[weights] = self._pairwise_block(self.inputs, weights)
        return self._blocks[weights]

    def _equicorrelated_block(self, weights: LayerSum, T: int) -> tuple[Block, Array]:
        width, bias = np.array(weights.width), np.array(weights.bias)
        _, qhat, qtilde = (table[:, 0] for table in self._recursion.single)
        _, qhat_st, qtilde_st = self._pair
        diagonal = qtilde @ (width * qhat + bias)
        off_diagonal = qtilde_st @ (width * qhat_st + bias)
        return EquicorrelatedBlock(float(diagonal), float(off_diagonal), T), np.array(self._pair)

    def _pairwise_block(self, x: Array, weights: LayerSum) -> tuple[Block, Array]:
        T = len(x)
        require_square(T, x)
        if devices.is_cuda(x):
            out, sums, error, points = self._pairs_on_gpu.dual(weights.width, weights.bias, self.executor)
        else:
            out, sums, error, points = self._sum_pairs(x, list(weights.width), list(weights.bias))
        warn_unconverged(error, points, self.tol, "mean_field")
        pairs = T * (T - 1) // 2
        return DenseBlock(devices.read_only(out)), sums / pairs if pairs else np.full_like(sums, math.nan)

    @cached_property
    def _pairs_on_gpu(self) -> PairRecursion:
        assert not isinstance(self.inputs, InputStatistics)
        return PairRecursion(self._recursion, self.arch, self.inputs, self.tol)

    def _sum_pairs(self, x: Array, width: list[float], bias: list[float]) -> tuple[Array, Array, float, int]:
        """The dual, the sums of q, qhat, qtilde over pairs, and what the integrals reached."""
        T, recursion = len(x), self._recursion
        out = np.empty((T, T))
        corners = [(row, column) for row in range(0, T, _TILE) for column in range(0, row + 1, _TILE)]
        results: list[Any] = [None] * len(corners)

        def compute(index: int) -> None:
            row, column = corners[index]
            rows, columns = min(_TILE, T - row), min(_TILE, T - column)
            results[index] = recursion.dual_tile(x, out, row, rows, column, columns, width, bias)

        run(compute, range(len(corners)), self.executor)
        sums, errors, points = zip(*results, strict=True)
        return out, np.sum(sums, axis=0), float(np.max(errors)), max(points)

    # --- outputs --------------------------------------------------------------------------------------------

    def nngp(self) -> Array:
        r"""Return the covariance of one output over the samples: :math:`q^L` and :math:`q^L_{st}`.

        The outputs of a wide network are, at fixed inputs, C independent draws from this Gaussian process.

        Returns
        -------
        ndarray, shape (T, T), float64
            Symmetric, on the device of the data; read-only on the CPU.

        Raises
        ------
        MemoryError
            If it cannot fit.
        """
        matrix: Array = devices.read_only(self._output_covariance.matrix)
        return matrix

    @property
    def _output_covariance(self) -> Block:
        last = (0.0,) * (self.arch.depth - 1)
        return self.block(LayerSum((*last, self.arch.weight_vars[-1]), (*last, self.arch.bias_vars[-1])))

    @cached_property
    def outputs(self) -> Array:
        """Outputs (S, T, C) at which the likelihood is evaluated: given, or drawn from the Gaussian process."""
        T, C = self.num_samples, self.num_outputs
        if self.given_outputs is not None:
            return self.given_outputs
        if self.kind == "exact" and not self.likelihood.depends_on_outputs:
            return np.zeros((1, T, C), like=self._like)
        noise = self._generator(0).standard_normal((T, _DRAWS * C))
        drawn = self._output_covariance.root_product(noise).reshape(T, _DRAWS, C).transpose(1, 0, 2)
        frozen: Array = devices.read_only(drawn)
        return frozen

    @property
    def _like(self) -> Array | None:
        """An array where results lie; None: in the memory of the processor."""
        return None if isinstance(self.inputs, InputStatistics) else self.inputs

    def _generator(self, use: int) -> np.random.Generator:
        """The same random numbers whenever they are asked for: 0 for outputs, 1 for targets."""
        return np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(use,)))

    def output_information(self, *, mean_subtracted: bool = False) -> tuple[Outputs, ...]:
        """Return the output Fisher information, once for every draw of the outputs.

        Parameters
        ----------
        mean_subtracted : bool, default False
            Whether at the outputs less their mean over the samples.

        Returns
        -------
        tuple of S Outputs
            What the statistics need of :math:`Q_t`; one of them where it is the same at all outputs.

        Raises
        ------
        ValueError
            Where the likelihood refuses the outputs: a rate beyond float64, for one.
        """
        if mean_subtracted not in self._output_information:
            self._output_information[mean_subtracted] = self._evaluate_likelihood(mean_subtracted)
        return self._output_information[mean_subtracted]

    @cached_property
    def _output_information(self) -> dict[bool, tuple[Outputs, ...]]:
        return {}

    def _evaluate_likelihood(self, mean_subtracted: bool) -> tuple[Outputs, ...]:
        if self.given_seeds is not None:
            return tuple(SampledOutputs(seeds) for seeds in self.given_seeds)
        if self.is_unit_gaussian:
            return (IdentityOutputs(self.num_outputs, self.num_samples, self._like),)
        outputs = self.outputs
        if mean_subtracted:
            outputs = outputs - outputs.mean(axis=1, keepdims=True)
        law = self.likelihood
        if self.kind == "exact":
            return tuple(SampledOutputs(float64(law.seeds(draw))) for draw in outputs)
        # a teacher's targets are what they are, whatever is subtracted from the student
        teachers = np.roll(self.outputs, 1, axis=0) if self.kind == "empirical" else outputs
        rng = self._generator(1)
        targets = [likelihoods.draw_targets(law, teacher, rng, self.num_draws) for teacher in teachers]
        scores = [likelihoods.score_seeds(law, draw, drawn) for draw, drawn in zip(outputs, targets, strict=True)]
        return tuple(SampledOutputs(float64(seeds)) for seeds in scores)

    @property
    def is_unit_gaussian(self) -> bool:
        """Whether the output Fisher information is the identity, so that predictions draw no outputs."""
        return self.given_seeds is None and self.kind == "exact" and self.likelihood == likelihoods.Gaussian()

    # --- metrics --------------------------------------------------------------------------------------------

    def parameters(self) -> PredictedMetric:
        """Return the prediction for the Fisher information matrix, whose statistics are also this object's own.

        Returns
        -------
        PredictedMetric
        """
        return self._parameters

    @cached_property
    def _parameters(self) -> PredictedMetric:
        arch, T = self.arch, self.num_samples
        none, ones = (0.0,) * arch.depth, (1.0 / T,) * arch.depth
        width = tuple(m / T for m in arch.widths[:-1])
        weights = [m * n for m, n in pairwise(arch.widths)]
        sizes = [size + (n if arch.has_biases else 0) for size, n in zip(weights, arch.widths[1:], strict=True)]

        def counts(layers: slice) -> tuple[float, int]:
            if layers == slice(None):  # P = alpha M^2 leaves out the output layer
                return self.alpha * self.M**2, arch.num_parameters
            return sum(weights[layers]), sum(sizes[layers])

        refined = LayerSum(width, ones if arch.has_biases else none)
        return PredictedMetric(self, LayerSum(width, none), refined, arch.depth, counts, self._bulk_law)

    @property
    def bulk(self) -> BulkLaw | None:
        """Law of the bulk of a centred network, None for others; see :attr:`PredictedMetric.bulk`.

        ``centered().bulk`` is that of the mean-subtracted network.
        """
        return self._parameters.bulk

    @cached_property
    def _bulk_laws(self) -> dict[bool, BulkLaw | None]:
        return {}

    def _bulk_law(self, mean_subtracted: bool) -> BulkLaw | None:
        """The law, or None where it is not derived; kept."""
        if mean_subtracted not in self._bulk_laws:
            order = self._order_of_bulk(mean_subtracted)
            self._bulk_laws[mean_subtracted] = (
                None if order is None else bulk_law(self.arch, order, self.num_samples, mean_subtracted=mean_subtracted)
            )
        return self._bulk_laws[mean_subtracted]

    def _order_of_bulk(self, mean_subtracted: bool) -> OrderParameters | None:
        """Order parameters without rounding below 0, or None where the law of the bulk is not derived."""
        plain = not self.arch.residual and self.arch.init == "gaussian"
        if not (plain and self.is_unit_gaussian and isinstance(self.inputs, InputStatistics)):
            return None
        if self.num_samples == 1 or not (mean_subtracted or self.is_centered):
            return None
        order = self.order_parameters
        correlation = order.q_st / order.q
        if correlation.min() < -_ROUNDING or correlation.max() > 1 - _ROUNDING:
            return None
        q_st, qhat_st, qtilde_st = (np.maximum(t, 0.0) for t in (order.q_st, order.qhat_st, order.qtilde_st))
        return replace(order, q_st=q_st, qhat_st=qhat_st, qtilde_st=qtilde_st)

    def layer(self, l: int) -> PredictedMetric:
        """Return the prediction for the diagonal block of layer l = 1, ..., L of the Fisher information matrix.

        Parameters
        ----------
        l : int
            Layer, from 1 to L.

        Returns
        -------
        PredictedMetric

        Raises
        ------
        ValueError, TypeError
            If there is no such layer.
        """
        return self._parameters.layer(l)

    def centered(self) -> PredictedMetric:
        """Return the prediction for the mean-subtracted network; see :meth:`PredictedMetric.centered`.

        Returns
        -------
        PredictedMetric
        """
        return self._parameters.centered()

    def ntk(self, parametrization: str = "standard") -> PredictedMetric:
        r"""Return the prediction for the tangent kernel :math:`\Theta`, not divided by T; moments over C T eigenvalues.

        In the NTK parametrisation one output's block is :math:`\sum_l \tilde q^l_{st} q^l_{st}`, free of the width
        (Karakida, Akaho, Amari 2021, section on the NTK): with :math:`\kappa_1' = \sum_l \tilde q^l q^l` and
        :math:`\kappa_2' = \sum_l \tilde q^l_{st} q^l_{st}` the mean is :math:`\kappa_1'`, the second moment
        :math:`\kappa_1'^2 + (T - 1) \kappa_2'^2` and the maximum :math:`\kappa_1' + (T - 1) \kappa_2'`, C times. In the
        standard parametrisation it is T times the block of the Fisher information matrix.

        Parameters
        ----------
        parametrization : {"standard", "ntk"}

        Returns
        -------
        PredictedMetric

        Raises
        ------
        ValueError
            If the likelihood is not the unit Gaussian one.
        """
        self._require_gaussian("ntk()")
        arch = self.arch
        count = self.num_outputs * self.num_samples

        def counts(layers: slice) -> tuple[float, int]:
            return count, count

        if choice(parametrization, "parametrization", ("standard", "ntk")) == "ntk":
            # residual networks too: the terms are those of the layer's own weights and biases
            own = LayerSum(arch.weight_vars, arch.bias_vars)
            return PredictedMetric(self, own, own, arch.depth, counts)
        none, ones = (0.0,) * arch.depth, (1.0,) * arch.depth
        width = tuple(map(float, arch.widths[:-1]))
        refined = LayerSum(width, ones if arch.has_biases else none)
        return PredictedMetric(self, LayerSum(width, none), refined, arch.depth, counts)

    def feature_metric(self) -> PredictedMetric:
        r"""Return the prediction for the metric of feature space, moments over :math:`\alpha_t M = \sum_l M_{l-1}`.

        One output's block is :math:`\frac{1}{T} \sum_l \sigma_w^2\, \tilde q^l_{st}`; its maximum stays of order 1 for
        any width and any number of samples (Karakida, Akaho, Amari 2021, section on the metric of input and feature
        space).
        ``layer(1)`` is the metric of the inputs.

        Returns
        -------
        PredictedMetric
        """
        arch = self.arch
        weights = LayerSum((0.0,) * arch.depth, tuple(v / self.num_samples for v in arch.weight_vars))

        def counts(layers: slice) -> tuple[float, int]:
            size = sum(arch.widths[:-1][layers])
            return size, size

        return PredictedMetric(self, weights, weights, arch.depth, counts)

    def _require_gaussian(self, what: str) -> None:
        if not self.is_unit_gaussian:
            raise ValueError(
                f"likelihood: expected the unit Gaussian one and kind='exact' for {what}, got {self.likelihood.name}, "
                f"{self.kind}; make the prediction with likelihood='gaussian'"
            )

    def dual(self, X: npt.ArrayLike | None = None, *, refined: bool = False) -> Array:
        r"""Return one output's block of the predicted dual, :math:`F^* \approx I_C \otimes` this.

        (For other likelihoods than the unit Gaussian one :math:`F^* \approx S^\top (I_C \otimes` this :math:`) S`.)

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
            Symmetric, on the device of the data; read-only on the CPU.

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
        return self._parameters.dual(refined=refined)

    # --- statistics of the eigenvalues ----------------------------------------------------------------------

    @property
    def alpha(self) -> float:
        r""":math:`\alpha = \sum_{l=1}^{L-1} \alpha_l \alpha_{l-1}`; :math:`P \approx \alpha M^2`."""
        widths = self.arch.widths[:-1]
        return sum(n * m for n, m in pairwise(widths)) / self.M**2

    @property
    def _leading(self) -> Block:
        return self.block(self._parameters.leading)

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

        Nothing then leaves the bulk, and the maximum is its edge: fluctuations, which the leading order of
        :attr:`statistics` leaves out, decide it; :attr:`refined_statistics` has them where :attr:`bulk` is known.
        """
        return self._parameters.is_centered

    @property
    def statistics(self) -> FisherStatistics:
        r"""Leading-order statistics of the eigenvalues (Karakida, Akaho, Amari 2019, Theorems 1, 3 and 4).

        .. math::
            m = \kappa_1 C / M, \quad
            s = \alpha C \left(\tfrac{T-1}{T} \kappa_2^2 + \tfrac{1}{T} \kappa_1^2\right), \quad
            \lambda_{\max} = \alpha M \left(\tfrac{T-1}{T} \kappa_2 + \tfrac{1}{T} \kappa_1\right)

        with moments over :math:`P = \alpha M^2` eigenvalues; the field ``num_parameters`` is the exact P. For
        data the sums run over all entries of K and the maximum is its largest eigenvalue. For other likelihoods
        than the Gaussian one (Karakida, Akaho, Amari 2021, Theorem 3.3; see :attr:`betas`)

        .. math::
            m = \beta_1 \kappa_1 / M, \quad s = \alpha (\beta_2 \kappa_2^2 + \beta_3 \kappa_1^2),

        and maximum and ``top_mean`` come from :meth:`outliers`, sharper than the theorem's :attr:`maximum_bounds`.

        For the Gaussian likelihood and C > 1 the
        maximum is that of the *mean* of the C largest eigenvalues (``top_mean``); the single largest lies
        above it by O(sqrt(M)).

        The formula for the maximum needs a network that is not centred: where kappa_2 = 0 (odd activations
        without biases; see :attr:`is_centered`) fluctuations decide the maximum; see :attr:`bulk`. Negative
        overlaps (kappa_2 < 0) make
        :math:`\alpha M (\kappa_1 - \kappa_2) / T` the maximum.
        """
        return self._parameters.statistics

    @property
    def refined_statistics(self) -> FisherStatistics:
        r"""Statistics with the exact counts of the finite network.

        Adds to :attr:`statistics` what finite widths are known to change: the bias parameters,
        :math:`\mathrm{tr} F = C \sum_l \tilde q^l (M_{l-1} \hat q^{l-1} + 1)` and the same +1 in every entry
        of the dual (without biases, nothing), and moments over the true number of parameters P, output layer
        and biases included. Without outliers, in centred and mean-subtracted networks, second moment,
        maximum and ``top_mean`` are those of the law of the :attr:`bulk` where it is known.
        What remains are fluctuations, of relative order :math:`1/\sqrt{M}` for a single
        network, and deviations of the average over networks, of relative order 1/M; only the average of
        ``maximum`` for C > 1 deviates by :math:`1/\sqrt{M}`: compare ``top_mean``.
        """
        return self._parameters.refined_statistics

    @property
    def betas(self) -> Betas:
        r""":math:`\beta_1, \beta_2, \beta_3` of the output Fisher information (2021, Theorem 3.3)."""
        return self._parameters.betas

    def outliers(self, *, refined: bool = False) -> Array:
        """Return the predicted eigenvalues outside the bulk, descending; see :meth:`PredictedMetric.outliers`.

        Parameters
        ----------
        refined : bool, default False
            With the bias parameters, as of :meth:`dual`.

        Returns
        -------
        ndarray, shape (k,), float64
            As of :meth:`PredictedMetric.outliers`.

        Raises
        ------
        MemoryError
            If the predicted block, or what is made of it, cannot fit.
        """
        return self._parameters.outliers(refined=refined)

    def eigenvalues(self, *, refined: bool = False) -> Array:
        """Return the predicted eigenvalues that are possibly nonzero, descending.

        Parameters
        ----------
        refined : bool, default False
            With the bias parameters, as of :meth:`dual`.

        Returns
        -------
        ndarray, shape (R T,), float64
            R the number of seeds: C for the unit Gaussian likelihood.

        Raises
        ------
        MemoryError
            If the predicted dual, (R T, R T), cannot fit.
        """
        return self._parameters.eigenvalues(refined=refined)

    @property
    def maximum_bounds(self) -> tuple[float, float]:
        """Lower and upper bound of the maximum (2021, Theorem 3.3); see :attr:`PredictedMetric.maximum_bounds`."""
        return self._parameters.maximum_bounds

    def count_above(self, k: float) -> float:
        r"""Return an upper bound of the number of eigenvalues >= k (Karakida, Akaho, Amari 2019, Corollary 2).

        :math:`N(\lambda \ge k) \le \min\{\alpha \kappa_1 C M / k,\ C T\}`; for other likelihoods than the unit
        Gaussian one with :math:`\beta_1` in the place of C, and the rank of the output information in C T.

        Parameters
        ----------
        k : float
            Threshold, > 0.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            If k is no number > 0.
        """
        threshold = non_negative(k, "k", strict=True)
        trace = self.statistics.mean * self.alpha * self.M**2
        return min(trace / threshold, float(min(self.num_outliers, self._num_seeds) * self.num_samples))

    @property
    def _num_seeds(self) -> int:
        """R."""
        if self.given_seeds is not None:
            return int(self.given_seeds.shape[1])
        return {"exact": self.num_outliers, "monte_carlo": self.num_draws, "empirical": 1}[self.kind]

    def bounds_wide_output(self) -> WideOutputBounds:
        r"""Return the statistics for a number of outputs of the order of the width.

        Karakida, Akaho, Amari 2019, Eqs. 21-23: :math:`s \le s' \le C s` and
        :math:`\lambda_{\max} \le \lambda_{\max}' \le \sqrt{\alpha C s}\, M`, with the formulas of
        :attr:`statistics` for s and :math:`\lambda_{\max}`. Stated for the Gaussian likelihood.

        Returns
        -------
        WideOutputBounds

        Raises
        ------
        ValueError
            If the likelihood is not the unit Gaussian one.
        """
        self._require_gaussian("bounds_wide_output()")
        leading, C = self.statistics, self.arch.num_outputs
        return WideOutputBounds(
            mean=leading.mean,
            second_moment=(leading.second_moment, C * leading.second_moment),
            maximum=(leading.maximum, math.sqrt(self.alpha * C * leading.second_moment) * self.M),
        )

    # --- learning rate and Fisher-Rao norm

    def critical_learning_rate(self, momentum: float = 0.0) -> float:
        r"""Return :math:`\eta_c = 2 (1 + \mu) / \lambda_{\max}`.

        Karakida, Akaho, Amari 2019, Lemma 6 and Theorem 7. Gradient descent on the squared loss
        :math:`\frac{1}{2T} \sum_t |y_t - f(x_t)|^2` leaves any global minimum for larger steps. For C > 1 the largest
        eigenvalue exceeds the formula's by O(sqrt(M)), and training may diverge somewhat below. Infinite where the
        predicted maximum is 0: no step is too large.

        Parameters
        ----------
        momentum : float, default 0.0
            Heavy-ball coefficient :math:`\mu`, 0 <= mu < 1.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            For a momentum that is no number in [0, 1).

        Examples
        --------
        >>> import fisherfield as ff
        >>> arch = ff.MLP(widths=(1000, 1000, 1000, 1), activation="tanh", weight_var=3.0, bias_var=0.64)
        >>> round(ff.mean_field(arch, 100).critical_learning_rate(momentum=0.9), 6)
        0.014962
        """
        return critical_learning_rate(self.statistics.maximum, momentum)

    @cached_property
    def largest_outlier(self) -> float:
        r"""Estimate of the largest eigenvalue at finite width, for C > 1 above the mean of the C largest ones.

        :math:`\bar\lambda + \sigma\, E[\lambda_{\max}(G)]`: the refined ``top_mean``, the deviation
        :math:`\sigma = O(\sqrt M)` of :func:`~fisherfield.theory.outlier_spread`, and the mean of the largest
        eigenvalue of a C x C matrix of the Gaussian orthogonal ensemble. For data with the mean overlaps. It
        is 2 to 6 % low at widths from 150 to 400, and closer at larger ones. In centred
        networks, which have no outliers, it is the refined maximum. A ``ValueError`` is raised where it is not derived:
        for other likelihoods than the unit Gaussian one, residual networks and orthogonal weights.

        Examples
        --------
        >>> import fisherfield as ff
        >>> arch = ff.MLP(widths=(150, 150, 150, 150, 10), activation="tanh", weight_var=3.0, bias_var=0.64)
        >>> mf = ff.mean_field(arch, 100)
        >>> round(mf.refined_statistics.maximum, 1), round(mf.largest_outlier, 1)
        (66.8, 80.6)
        """
        self._require_gaussian("largest_outlier")
        require_fresh_weights(self.arch)
        refined = self.refined_statistics
        if self.is_centered or self.num_outputs == 1:
            return refined.maximum
        spread = outlier_spread(self.arch, self.order_parameters, self.num_samples)
        return refined.maximum + spread * goe_maximum(self.num_outputs)

    @cached_property
    def fisher_rao_norm(self) -> float:
        r"""Wide limit of the Fisher-Rao norm :math:`\theta^\top F \theta`, theta the weights, without a root.

        :math:`\theta^\top F \theta = C\, E[(\partial_\epsilon f((1+\epsilon) W, b))^2]`; pre-activations and
        their derivatives by epsilon stay jointly Gaussian, which gives an exact recursion over depth; for
        data the mean over samples is taken. For positively homogeneous activations without biases or skips it
        is :math:`L^2 C q^L`. Compare :attr:`fisher_rao_bound`. For the Gaussian likelihood; for others a
        ``ValueError`` is raised.
        """
        self._require_gaussian("fisher_rao_norm")
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
        self._require_gaussian("fisher_rao_bound")
        alpha_min = min(self.arch.widths[:-1]) / self.M
        return max(self.arch.weight_vars) * self.alpha / alpha_min * self.arch.num_outputs * self.kappa1
