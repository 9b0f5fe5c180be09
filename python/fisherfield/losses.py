r"""Value, gradient and diagonal of the Hessian of a loss, the negative log-likelihood of observed targets.

.. math:: E(\theta) = -\frac{1}{T} \sum_t \log p(y_t | f(x_t)) + \mathrm{const}

A loss is named after itself (``"squared"``, ``"cross_entropy"``) or is a likelihood of :mod:`fisherfield.likelihoods`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from ._executor import SERIAL, Progress
from ._validate import FloatArray, choice, require_finite
from .curvature import SecondDerivatives
from .factors import BATCH_BYTES, unit_seeds
from .fisher import Fisher
from .likelihoods import LOSSES, Gaussian, Likelihood, available, checked, get, scores
from .network import Network
from .unitwise import ordered_sum, unit_sums

__all__ = ["LossCurvature", "hessian_diagonal", "loss_gradient", "loss_value", "mean_loss", "observed"]


def loss_value(
    net: Network, X: Any, loss: str | Likelihood = "squared", *, targets: Any, executor: Executor | None = None
) -> float:
    r"""Return a loss, :math:`-\frac{1}{T} \sum_t \log p(y_t | f(x_t))`.

    Without the constant of the Gaussian density: :math:`\frac{1}{2T} \sum_t |y_t - f_t|^2 / \sigma^2`.

    Parameters
    ----------
    net, X, loss, targets, executor
        As of :func:`hessian_diagonal`.

    Returns
    -------
    float
        Averaged over samples, summed over outputs.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names, and a loss that is not finite.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.Network([np.eye(2)], None)
    >>> ff.loss_value(net, np.array([[1.0, 2.0]]), targets=np.array([[1.0, 5.0]]))
    4.5
    """
    metric = observed(net, X, loss, targets, executor)
    assert metric.targets is not None
    value = mean_loss(net, metric.X, metric.targets[0], metric.likelihood, executor)
    require_finite(value, "loss_value()")
    return value


def mean_loss(
    net: Network, X: FloatArray, targets: npt.NDArray[Any], likelihood: Likelihood, executor: Executor | None
) -> float:
    """Return what :func:`loss_value` does for checked arguments, infinite where it is not a number.

    Parameters
    ----------
    net : Network
    X : array, shape (T, M_0)
    targets : array, shape (T, C) or (T,)
        In the likelihood's format.
    likelihood : Likelihood
    executor : concurrent.futures.Executor or None
        Threads to use; None is the shared pool.

    Returns
    -------
    float
    """
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = net(X, executor=executor)
        if not np.isfinite(outputs).all():
            return math.inf
        if isinstance(likelihood, Gaussian):
            terms = (targets - outputs.astype(np.float64)) ** 2 / likelihood._noise(outputs)
            found = float(terms.sum()) / (2 * len(X))
        else:
            try:
                found = -float(np.mean(likelihood.log_density(outputs, targets), dtype=np.float64))
            except ValueError:  # of a density that no float can hold
                return math.inf
    return found if math.isfinite(found) else math.inf


def loss_gradient(
    net: Network, X: Any, loss: str | Likelihood = "squared", *, targets: Any, executor: Executor | None = None
) -> FloatArray:
    r"""Return the gradient of a loss, :math:`-\frac{1}{T} \sum_t J_t^\top s_t`, shape (P,).

    Parameters
    ----------
    net, X, loss, targets, executor
        As of :func:`hessian_diagonal`.

    Returns
    -------
    array, shape (P,)
        Layer by layer, W row by row, then b; ``net.with_parameters(net.parameters() - eta * gradient)`` takes a step.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.MLP((20, 50, 3), "tanh").sample(seed=0)
    >>> X, y = np.random.default_rng(0).standard_normal((30, 20)), np.arange(30) % 3
    >>> ff.loss_gradient(net, X, "cross_entropy", targets=y).shape
    (1203,)
    """
    metric = observed(net, X, loss, targets, executor)
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.full_like(metric.X, -1 / metric.num_samples, shape=(1, 1, metric.num_samples))
        gradient: FloatArray = metric._gradients.transposed_times(weights)[0]  # the scores are the seeds
    require_finite(gradient, "loss_gradient()")
    return gradient


def hessian_diagonal(
    net: Network,
    X: Any,
    loss: str | Likelihood = "squared",
    *,
    targets: Any,
    executor: Executor | None = None,
    progress: Progress = None,
) -> FloatArray:
    r"""Return the exact diagonal of the Hessian of a loss, shape (P,).

    .. math:: H_{ii} = \frac{1}{T} \sum_t \Bigl[ J_i^\top I(f_t) J_i - s_t \cdot \partial_i^2 f \Bigr],

    the diagonal of the Fisher information matrix and what the curvature of the network adds, with the score
    :math:`s = \nabla_f \log p(y | f)` at the observed targets (Soen, Sun 2021: the negative second derivative of the
    log-density). It may be negative. Where activations are piecewise linear the second term is zero; second
    derivatives leave out the delta functions at kinks.

    It takes a few matrix products per layer: the backward pass of the seeds of the Fisher information and one more,
    the score's, which is bent on its way; see :class:`~fisherfield.curvature.SecondDerivatives` for networks with
    three or more hidden layers. Memory holds numbers per unit and sample, and grows neither with T nor with P x T.

    Parameters
    ----------
    net : Network
        P parameters, C outputs.
    X : array, shape (T, M_0)
        Inputs, one a row, in the precision of the network.
    loss : str or Likelihood
        ``"squared"`` is :math:`|y - f|^2 / 2`, ``"cross_entropy"`` that of the softmax with class indices as targets;
        or the name of a likelihood or one of your own, whose loss is :math:`-\log p`. Losses are averaged over samples
        and summed over outputs.
    targets : array
        Observed targets in the likelihood's format: (T, C) numbers, or (T,) classes; on the device of the network, or
        a list.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool). No bit of the result depends on their number.
    progress : None, True or callable
        Progress over samples: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    array, shape (P,)
        Layer by layer, W row by row, then b.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names.
    NotImplementedError
        If a likelihood of one's own is not ``canonical`` and has no ``exponential_connection``.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.MLP((20, 50, 3), "tanh").sample(seed=0)
    >>> X, y = np.random.default_rng(0).standard_normal((30, 20)), np.arange(30) % 3
    >>> hessian = ff.hessian_diagonal(net, X, "cross_entropy", targets=y)
    >>> step, eta = np.eye(1203)[100], 1e-4  # the loss along one weight has this second derivative
    >>> moved = [net.with_parameters(net.parameters() + t * step) for t in (-eta, 0, eta)]
    >>> below, here, above = (-ff.likelihoods.get("categorical").log_density(n(X), y).mean() for n in moved)
    >>> bool(abs((below - 2 * here + above) / eta**2 - hessian[100]) < 1e-6)
    True
    """
    metric = observed(net, X, loss, targets, executor)
    curvature = LossCurvature(net, metric.X, metric.likelihood, metric.targets or ())

    with np.errstate(over="ignore", invalid="ignore"):
        total: FloatArray
        (total,) = unit_sums(
            net, metric.num_samples, curvature.of_units, (2,), curvature.num_seeds, executor=executor, progress=progress
        )
        total *= 1 / metric.num_samples
    require_finite(total, "hessian_diagonal()")
    return total


class LossCurvature:
    r"""Second derivatives of :math:`-\log p` at several targets per sample, as numbers of units.

    With respect to :math:`W_{ij}` it is :math:`n_i a_j^2` with :math:`n = b^\top I b - s \cdot (D + \Gamma(b, b))`,
    where b and D are first and second derivatives of the outputs with respect to the pre-activation and :math:`\Gamma`
    is the likelihood's :meth:`~fisherfield.likelihoods.Likelihood.exponential_connection`.

    Parameters
    ----------
    net : Network
    X : array, shape (T, M_0)
        Checked inputs.
    likelihood : Likelihood
    targets : sequence of arrays
        S targets per sample.
    """

    def __init__(self, net: Network, X: FloatArray, likelihood: Likelihood, targets: Sequence[Any]) -> None:
        self._net, self._X, self._likelihood, self._targets = net, X, likelihood, targets
        self._sweep = SecondDerivatives(net)

    @property
    def num_seeds(self) -> int:
        """Vectors that are sent back per sample."""
        C = self._net.num_outputs
        return len(self._targets) + (self._likelihood.num_seeds(C) if self._likelihood.canonical else C)

    def of_units(self, begin: int, end: int) -> list[tuple[FloatArray, FloatArray]]:
        """Return inputs and numbers of every layer.

        Parameters
        ----------
        begin, end : int
            Of the t samples [begin, end).

        Returns
        -------
        list of (array, array)
            Of shapes (t, M_in) and (S, t, M_out), from the first layer to the last.

        Raises
        ------
        NotImplementedError
            If a likelihood of one's own is not ``canonical`` and has no ``exponential_connection``.
        """
        law, count = self._likelihood, len(self._targets)
        found: list[FloatArray] = []

        def seeds(outputs: FloatArray) -> FloatArray:
            base = law.seeds(outputs) if law.canonical else unit_seeds(len(outputs), self._net.num_outputs, outputs)
            found.extend((outputs, scores(law, outputs, [drawn[begin:end] for drawn in self._targets])))
            return np.concatenate([base, found[1]])

        layers = self._sweep(self._X[begin:end], seeds, count, SERIAL)
        outputs, s = found
        result: list[tuple[FloatArray, FloatArray]] = []
        for layer in layers:
            b, D = layer.B[:-count], layer.D
            if law.canonical:
                information = ordered_sum(b * b)
            else:
                information = checked(law, "information_form", law.information_form(outputs, b), b[0])
                connection = checked(law, "exponential_connection", law.exponential_connection(outputs, b), b)
                D = D.copy()
                for k, bend in enumerate(connection):
                    D += s[:, :, k, None] * bend
            result.append((layer.A, information - D))
        return result


def observed(net: Network, X: Any, loss: str | Likelihood, targets: Any, executor: Executor | None) -> Fisher:
    """Return the empirical Fisher information matrix of a loss: it checks the arguments, and holds them checked.

    Parameters
    ----------
    net, X, loss, targets, executor
        As of :func:`hessian_diagonal`.

    Returns
    -------
    Fisher
        Of kind ``"empirical"``.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names, missing targets.
    """
    if isinstance(loss, str):
        choice(loss, "loss", (*LOSSES, *available()))
    try:
        likelihood = get(loss)
    except TypeError as error:
        own = ", ".join(map(repr, LOSSES))
        raise TypeError(str(error).replace("likelihood: expected one of", f"loss: expected one of {own},", 1)) from None
    if targets is None:
        raise ValueError("targets: expected the observed targets, got None")
    budget = 2 * BATCH_BYTES  # nothing is asked for twice, so nothing need be kept
    return Fisher(net, X, likelihood=likelihood, kind="empirical", targets=targets, executor=executor, memory=budget)
