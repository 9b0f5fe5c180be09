"""The metric of feature space: how the output distribution moves with the signals inside a network."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from .factors import LayerFactors, backward
from .likelihoods import Likelihood
from .linearized import Chart
from .network import Network
from .network_metric import NetworkMetric

__all__ = ["FeatureMetric", "feature_metric"]


class FeatureMetric(NetworkMetric):
    r"""Metric of the features :math:`h = (h^0, \dots, h^{L-1})`, the inputs of the layers, :math:`h^0 = x`.

    .. math:: A = \frac{1}{T} \sum_t \sum_k \nabla_h f_k(x_t)\, \nabla_h f_k(x_t)^\top, \qquad
        \nabla_{h^{l-1}} f_k = W^{l\top} \delta^l_k

    (Karakida, Akaho, Amari 2021, section on the metric of input and feature space); for other likelihoods than the
    Gaussian one with the seeds of the likelihood in the place of the outputs k, as in :class:`~fisherfield.Fisher`.
    Every layer's input is a coordinate of its own, varied alone as if it were an input of the rest of the network. In
    a residual network that is the input of a block's weights, not the shortcut around them. It has the methods of
    :class:`~fisherfield.Fisher` with features in the place of parameters,
    :math:`P = \sum_{l=0}^{L-1} M_l`; ``layer(l)`` is the block of :math:`h^{l-1}`, so that ``layer(1)`` is the metric
    of the inputs.

    Made by :func:`feature_metric`.

    Parameters
    ----------
    net, X, likelihood, kind, samples, seed, targets, executor, memory, storage, precision
        As of :class:`~fisherfield.Fisher`.

    Raises
    ------
    ValueError, TypeError
        As of :class:`~fisherfield.Fisher`.
    """

    @property
    def _charts(self) -> tuple[Chart, ...]:
        return (Chart(inputs=True),) * self.net.depth

    def _represent(self, l: int, layer: LayerFactors) -> LayerFactors:
        """B W: gradients with respect to the layer's inputs, as factors of a constant input."""
        W = self.net.weights[l]
        samples = layer.B.shape[1]
        ones = np.ones_like(W, shape=(samples, W.shape[1]))
        out = backward(layer.B, W, ones, False, self._executor)
        return LayerFactors(np.empty((samples, 0), W.dtype, like=W), out, True)

    def _bytes_per_sample(self, num_seeds: int) -> int:
        return super()._bytes_per_sample(num_seeds) + num_seeds * sum(self.net.widths[:-1]) * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"FeatureMetric({self._described}, dtype={self.dtype})"


def feature_metric(
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
) -> FeatureMetric:
    r"""Return the metric of a network's features on inputs X.

    Parameters
    ----------
    net, X, likelihood, kind, samples, seed, targets, executor, memory, storage
        As of :class:`~fisherfield.Fisher`.

    Returns
    -------
    FeatureMetric
        Of size :math:`P = \sum_{l=0}^{L-1} M_l`.

    Raises
    ------
    ValueError, TypeError
        As of :class:`~fisherfield.Fisher`.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.MLP((20, 50, 50, 2), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
    >>> X = np.random.default_rng(0).standard_normal((30, 20))
    >>> metric = ff.feature_metric(net, X)
    >>> metric.shape, metric.layer(1).shape  # all features; the inputs alone
    ((120, 120), (20, 20))
    >>> metric.statistics().num_parameters
    120
    """
    return FeatureMetric(net, X, likelihood, kind, samples, seed, targets, executor, memory, storage)
