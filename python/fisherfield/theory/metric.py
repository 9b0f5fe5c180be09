"""The predicted spectrum of one metric: what the measured metrics have beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fisherfield import devices
from fisherfield._validate import positive_int
from fisherfield.statistics import FisherStatistics

from .blocks import Block
from .bulk import BulkLaw
from .outputs import Betas, Outputs, float64

__all__ = ["LayerSum", "PredictedMetric"]

# Mean overlap of two samples, relative to that with themselves, up to which a metric counts as centred: far above
# rounding, far below any fluctuation.
_CENTERED = 1e-10

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerSum:
    r"""Weights of the sum over layers that makes one output's block of a predicted dual.

    .. math:: K_{st} = \sum_l \tilde q^l_{st} \left( w_l\, \hat q^{l-1}_{st} + v_l \right)

    Attributes
    ----------
    width : tuple of float
        :math:`w_l`, l = 1, ..., L.
    bias : tuple of float
        :math:`v_l`.
    """

    width: tuple[float, ...]
    bias: tuple[float, ...]

    def only(self, layers: slice) -> LayerSum:
        """Return the sum over some of the layers.

        Parameters
        ----------
        layers : slice
            Of layers counted from 0.

        Returns
        -------
        LayerSum
            With weights 0 for the other layers.
        """
        chosen = range(len(self.width))[layers]

        def keep(weights: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(weight if l in chosen else 0.0 for l, weight in enumerate(weights))

        return LayerSum(keep(self.width), keep(self.bias))


class Ensemble(Protocol):
    """What a predicted metric asks of the theory of one architecture and one set of inputs."""

    def block(self, weights: LayerSum) -> Block:
        """One output's block (T, T) of a sum over layers."""

    def output_information(self, *, mean_subtracted: bool = False) -> Sequence[Outputs]:
        """The output Fisher information, once for every draw of the outputs over which predictions are averaged."""

    @property
    def num_outputs(self) -> int:
        """C."""

    @property
    def num_outliers(self) -> int:
        """How many eigenvalues leave the bulk."""


@dataclass(frozen=True, eq=False)
class PredictedMetric:
    r"""The predicted spectrum of one metric of a random wide network.

    The dual is :math:`S^\top (I_C \otimes K) S` with the seeds S of the likelihood and one output's block K (T, T),
    ``dual()``, which holds the metric's scale: for the Fisher information matrix and equicorrelated inputs
    :math:`K_{tt} = \alpha M \kappa_1 / T` and :math:`K_{st} = \alpha M \kappa_2 / T`.

    Made by :func:`~fisherfield.mean_field` and the methods ``parameters``, ``layer``, ``centered``, ``ntk`` and
    ``feature_metric`` of its result; each has its measured counterpart of the same name.

    Attributes
    ----------
    ensemble : MeanField
        Theory of the architecture and the inputs.
    leading, refined : LayerSum
        Leading order in the width; with the exact counts of the finite network.
    depth : int
        L.
    counts : callable
        From some layers (a slice) to the number of eigenvalues over which moments run, to leading order and exactly.
    bulk_law : callable or None
        From whether the mean is subtracted to the law of :attr:`bulk`; None for metrics that have none.
    only_layer : int or None
        The layer of which this is the block.
    is_mean_subtracted : bool
    """

    ensemble: Ensemble
    leading: LayerSum
    refined: LayerSum
    depth: int
    counts: Callable[[slice], tuple[float, int]]
    bulk_law: Callable[[bool], BulkLaw | None] | None = None
    only_layer: int | None = None
    is_mean_subtracted: bool = False

    # --- other metrics --------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        parts = [f"P={self.counts(self.layers)[1]}"]
        parts += [f"layer={self.only_layer}"] * (self.only_layer is not None)
        parts += ["mean subtracted"] * self.is_mean_subtracted
        return f"PredictedMetric({', '.join(parts)})"

    def layer(self, l: int) -> PredictedMetric:
        """Return the prediction for the diagonal block of layer l = 1, ..., L.

        The same formulas with the single term l of the sum over layers (Karakida, Akaho, Amari 2021).

        Parameters
        ----------
        l : int
            Layer, from 1; of a metric that is one layer's already, that one.

        Returns
        -------
        PredictedMetric

        Raises
        ------
        ValueError, TypeError
            If there is no such layer.
        """
        names = range(1, self.depth + 1)[self.layers]
        if positive_int(l, "l") not in names:
            raise ValueError(f"l: expected a layer from {names[0]} to {names[-1]}, got {l}")
        return replace(self, only_layer=l)

    def centered(self) -> PredictedMetric:
        r"""Return the prediction for the mean-subtracted network, :math:`f(x_t) - \frac{1}{T} \sum_s f(x_s)`.

        One output's block K becomes :math:`P K P` with :math:`P = I - 1 1^\top / T` (Karakida, Akaho, Amari
        2021, Eq. 22): the outliers go, and what is left is, at leading order, T - 1 equal eigenvalues
        :math:`\alpha M (\kappa_1 - \kappa_2) / T` per output. In a finite network they spread, by an order
        :math:`\sqrt{T/M}` relative to them; :attr:`bulk` is their law, and where it applies ``refined_statistics``
        has its second moment, maximum and top mean.

        Returns
        -------
        PredictedMetric

        Examples
        --------
        >>> import fisherfield as ff
        >>> arch = ff.MLP(widths=(1000, 1000, 1000, 1), activation="linear", weight_var=1.0, bias_var=0.1)
        >>> centered = ff.mean_field(arch, 100).centered()
        >>> round(centered.statistics.maximum, 2), round(centered.refined_statistics.maximum, 2)
        (30.0, 58.96)
        """
        return replace(self, is_mean_subtracted=True)

    @property
    def layers(self) -> slice:
        """Of which the metric consists."""
        return slice(None) if self.only_layer is None else slice(self.only_layer - 1, self.only_layer)

    @property
    def is_centered(self) -> bool:
        """Whether gradients at different samples are uncorrelated, so that nothing leaves the bulk.

        It may be so for one metric and not for another: with odd activations and no bias variance it is for the
        Fisher information matrix and the tangent kernel, but not for the metric of features; and it is for the block of
        the first layer wherever the inputs are uncorrelated.
        """
        block = self._leading_block
        return abs(block.mean_off_diagonal) <= _CENTERED * block.mean_diagonal

    # --- the block and its counts ---------------------------------------------------------------------------

    def _block(self, weights: LayerSum) -> Block:
        block = self.ensemble.block(weights.only(self.layers))
        return block.centered() if self.is_mean_subtracted else block

    @cached_property
    def _leading_block(self) -> Block:
        return self._block(self.leading)

    @cached_property
    def _refined_block(self) -> Block:
        return self._leading_block if self.refined == self.leading else self._block(self.refined)

    def dual(self, *, refined: bool = False) -> Array:
        r"""Return one output's block K of the predicted dual.

        The dual is :math:`S^\top (I_C \otimes K) S` with the seeds S of the likelihood: :math:`I_C \otimes K` for the
        Gaussian one.

        Parameters
        ----------
        refined : bool, default False
            With the bias parameters, as of :meth:`fisherfield.MeanField.dual`.

        Returns
        -------
        ndarray, shape (T, T), float64
            Symmetric, on the device of the data; read-only on the CPU.

        Raises
        ------
        MemoryError
            If it cannot fit.
        """
        matrix: Array = devices.read_only((self._refined_block if refined else self._leading_block).matrix)
        return matrix

    # --- spectrum -------------------------------------------------------------------------------------------

    @property
    def _outputs(self) -> Sequence[Outputs]:
        return self.ensemble.output_information(mean_subtracted=self.is_mean_subtracted)

    @property
    def betas(self) -> Betas:
        """Coefficients of the statistics (Karakida, Akaho, Amari 2021, Theorem 3.3), averaged over draws."""
        found = [outputs.betas for outputs in self._outputs]
        return Betas(*(float(np.mean([getattr(b, name) for b in found])) for name in ("beta1", "beta2", "beta3")))

    @cached_property
    def statistics(self) -> FisherStatistics:
        """Leading-order statistics of the eigenvalues; see :attr:`fisherfield.MeanField.statistics`."""
        return self._statistics(self._leading_block, self.counts(self.layers)[0])

    @cached_property
    def refined_statistics(self) -> FisherStatistics:
        """Statistics with the exact counts; see :attr:`fisherfield.MeanField.refined_statistics`."""
        count = self.counts(self.layers)[1]
        found, law = self._statistics(self._refined_block, count), self.bulk
        if law is None:
            return found
        spread = law.num_eigenvalues * (law.second_moment - law.mean**2)
        # the bias parameters of an odd network keep an outlier, which many samples lift above the bulk
        return replace(
            found,
            second_moment=found.second_moment + spread / count,
            maximum=max(found.maximum, law.maximum),
            top_mean=max(found.top_mean, law.top_mean),
        )

    @property
    def bulk(self) -> BulkLaw | None:
        r"""Law of the bulk of a Fisher information matrix without outliers, at finite T / M; None where not derived.

        It is there after mean subtraction, and for networks with :math:`\kappa_2 = 0`: for the unit Gaussian likelihood
        and all layers of a plain network with Gaussian weights, at unit Gaussian inputs or an ``InputStatistics``,
        where no layer's pre-activations are negatively or fully correlated.

        The leading order has n C equal eigenvalues there. The law of their spread is not in the papers: it is derived
        in ``fisherfield.theory.bulk``, for gradients independent of the activations, T of the order of the widths and
        C small against them. Checked against means over 10 sampled networks (L = 3, C = 1 and 5, equal widths of 300 to
        1000, T of 50 to 200): maximum and top mean err by up to 5 % for tanh and linear and 8 % for relu, where they
        come out too low; the second moment relative to the squared mean by 2 % from width 600 on, and is up to 4 %
        too low at width 300. Deeper relu networks of width 300 with C = 5 are off by 11 %.

        Examples
        --------
        >>> import fisherfield as ff
        >>> arch = ff.MLP(widths=(1000, 1000, 1000, 5), activation="tanh", weight_var=3.0, bias_var=0.64)
        >>> law = ff.mean_field(arch, 100).centered().bulk
        >>> law.num_eigenvalues, round(law.mean, 2), round(law.edge, 2), round(law.maximum, 2)
        (495, 16.75, 25.76, 27.31)
        """
        if self.bulk_law is None or self.only_layer is not None:
            return None
        return self.bulk_law(self.is_mean_subtracted)

    def _statistics(self, block: Block, count: float) -> FisherStatistics:
        outputs, size = self._outputs, self.counts(self.layers)[1]
        top = self._outliers(block)
        return FisherStatistics(
            mean=float(np.mean([draw.trace(block) for draw in outputs])) / count,
            second_moment=float(np.mean([draw.square_sum(block) for draw in outputs])) / count,
            maximum=float(top[0]),
            top_mean=float(top.sum()) / min(self.ensemble.num_outliers, size),
            num_parameters=size,
            num_samples=block.size,
            num_outputs=self.ensemble.num_outputs,
            num_outliers=self.ensemble.num_outliers,
        )

    def _outliers(self, block: Block) -> Array:
        k = self.ensemble.num_outliers
        return float64(np.stack([draw.largest_eigenvalues(block, k) for draw in self._outputs]).mean(axis=0))

    def outliers(self, *, refined: bool = False) -> Array:
        r"""Return the predicted largest eigenvalues, as many as outliers are expected, descending.

        For the categorical likelihood they are the C - 1 largest eigenvalues of
        :math:`Q^{1/2} (I_C \otimes K) Q^{1/2}`. (Only C - 1, not C, leave the bulk: :math:`Q_t 1 = 0`.) With several
        draws of the outputs they are averaged one by one. They are those of :meth:`dual`, also where nothing
        leaves the bulk and :attr:`bulk` has the maximum.

        Parameters
        ----------
        refined : bool, default False
            With the bias parameters, as of :meth:`fisherfield.MeanField.dual`.

        Returns
        -------
        ndarray, shape (k,), float64
            k is the rank of the output Fisher information, or the number R T of all eigenvalues where that is less.

        Raises
        ------
        MemoryError
            If the predicted block, or what is made of it, cannot fit.
        """
        return self._outliers(self._refined_block if refined else self._leading_block)

    def eigenvalues(self, *, refined: bool = False) -> Array:
        """Return the predicted eigenvalues that are possibly nonzero, descending; of the first draw of outputs.

        Parameters
        ----------
        refined : bool, default False
            With the bias parameters, as of :meth:`fisherfield.MeanField.dual`.

        Returns
        -------
        ndarray, shape (R T,), float64
            R the number of seeds: C for the unit Gaussian likelihood.

        Raises
        ------
        MemoryError
            If the predicted dual, (R T, R T), cannot fit.
        """
        return self._outputs[0].eigenvalues(self._refined_block if refined else self._leading_block)

    @property
    def maximum_bounds(self) -> tuple[float, float]:
        r"""Lower and upper bound of the maximum.

        .. math:: \frac{\sum \lambda^2}{\sum \lambda} \le \lambda_{\max} \le \sqrt{\sum \lambda^2}

        Of the leading order, for every draw of the outputs, then averaged as the maximum is. For the categorical
        likelihood and equicorrelated inputs they are
        :math:`\alpha M (\beta_2 \kappa_2^2 + \beta_3 \kappa_1^2) / (\beta_1 \kappa_1)` and
        :math:`\alpha M \sqrt{\beta_2 \kappa_2^2 + \beta_3 \kappa_1^2}` (Karakida, Akaho, Amari 2021, Theorem 3.3).
        """
        block = self._leading_block
        sums = [(draw.trace(block), draw.square_sum(block)) for draw in self._outputs]
        lower = [squares / trace if trace > 0 else 0.0 for trace, squares in sums]
        return float(np.mean(lower)), float(np.mean([math.sqrt(squares) for _, squares in sums]))
