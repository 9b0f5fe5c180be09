"""The critical learning rate of gradient descent, by theory and by measurement."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import devices, statistics
from .._executor import Progress
from .._validate import FloatArray, as_float_array, as_generator, as_momentum, positive_int
from ..architecture import MLP
from ..fisher import Fisher
from ..likelihoods import Gaussian, Likelihood
from ..likelihoods import get as get_likelihood
from ..network import Network
from ..theory import InputStatistics, MeanField, conditional_spectrum, mean_field

__all__ = ["CriticalLearningRate", "critical_learning_rate"]

_PAIRWISE = 2000  # samples up to which the theory takes all pairs of them, rather than their mean overlap


@dataclass(frozen=True)
class CriticalLearningRate:
    r"""Learning rates :math:`\eta_c = 2 (1 + \mu) / \lambda_{\max}`, by several estimates of the largest eigenvalue.

    Fields are None where there is nothing to say: no theory of a network whose ensemble is not known, no measurement
    of an ensemble.

    Attributes
    ----------
    momentum : float
        :math:`\mu`.
    theory : float or None
        Leading order (Karakida, Akaho, Amari 2019, Theorem 7). For C > 1 its eigenvalue is the mean of the C largest
        ones, and the rate is too large.
    refined : float or None
        The same with the exact counts and biases of the finite network.
    corrected : float or None
        With :attr:`~fisherfield.theory.MeanField.largest_outlier`, an estimate of the largest of the C eigenvalues at
        finite width; None where it is not derived (other likelihoods than the unit Gaussian one, residual networks,
        orthogonal weights).
    measured : float or None
        Of this network on these inputs.
    uncertainty : float or None
        Relative residual of the measured eigenvalue, which bounds the relative error of ``measured``.
    online : float or None
        Of training on one input at a time: the theory's largest eigenvalue given one input, for wide layers. The unit
        Gaussian likelihood without skips only.
    batch : float or None
        The theory for T = ``batch_size``, corrected where that is known: the rate at which the curvature of a typical
        single mini-batch exceeds 2. What a batch overshoots others may undo, and noise may add up: it is advice, not a
        bound of stochastic gradient descent.
    """

    momentum: float
    theory: float | None
    refined: float | None
    corrected: float | None
    measured: float | None
    uncertainty: float | None
    online: float | None
    batch: float | None

    @property
    def best(self) -> float:
        """The measured rate; without one, the best prediction there is."""
        found = (self.measured, self.corrected, self.refined)
        return next(rate for rate in found if rate is not None)


def critical_learning_rate(
    model: MLP | Network,
    data: Any,
    momentum: float = 0.0,
    likelihood: str | Likelihood = "gaussian",
    *,
    batch_size: int | None = None,
    tol: float = 1e-4,
    seed: int | np.random.Generator | None = 0,
    executor: Executor | None = None,
    progress: Progress = None,
) -> CriticalLearningRate:
    r"""Return the learning rate above which gradient descent leaves every minimum.

    .. math:: \eta_c = 2 (1 + \mu) / \lambda_{\max}(F)

    for :math:`\theta_{t+1} = \theta_t - \eta \nabla E + \mu (\theta_t - \theta_{t-1})` (Karakida, Akaho, Amari 2019,
    Lemma 6 and Theorem 7), with E the mean over samples of :math:`|y - f|^2 / 2`, or of :math:`-\log p` of another
    likelihood. It is a necessary condition of convergence close to a minimum, where the Hessian is F. About half of it
    is fastest (LeCun et al. 1998). From far away training may survive somewhat larger rates by moving to where the loss
    is flatter, and training moves the largest eigenvalue. A measurement takes products with F only, no matrix.

    Parameters
    ----------
    model : MLP or Network
        An architecture gives the theory alone, at once. A network gives the measurement, and the theory too if it
        comes from :meth:`MLP.sample <fisherfield.MLP.sample>`.
    data : array (T, M_0), int or InputStatistics
        Inputs, or T unit Gaussian ones, which are drawn from ``seed`` for a measurement. The theory takes all pairs of
        up to 2000 inputs, of more their mean overlap.
    momentum : float, default 0.0
        :math:`0 \le \mu < 1`.
    likelihood : str or Likelihood
        Whose Fisher information matrix, or the name of its loss. Where it depends on the outputs, those of the
        network, or without one draws of the limiting Gaussian process.
    batch_size : int, optional
        Also tell the rate of mini-batches of this size.
    tol : float, default 1e-4
        Relative residual of the measured eigenvalue.
    seed : int, numpy.random.Generator or None
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool).
    progress : None, True or callable
        Progress over products: a bar (needs tqdm) or ``callable(done, most)``.

    Returns
    -------
    CriticalLearningRate

    Raises
    ------
    ValueError, TypeError
        For wrong shapes and numbers out of range, and statistics of inputs, which cannot be measured, with a network.

    Examples
    --------
    >>> import fisherfield as ff
    >>> arch = ff.MLP((300, 300, 300, 300, 10), "tanh", weight_var=3.0, bias_var=0.64)
    >>> predicted = ff.critical_learning_rate(arch, 100, momentum=0.9)
    >>> measured = ff.critical_learning_rate(arch.sample(seed=0), 100, momentum=0.9)
    >>> [round(rate, 4) for rate in (predicted.theory, predicted.corrected)], abs(
    ...     predicted.corrected / measured.measured - 1
    ... ) < 0.1
    ([0.0294, 0.0253], True)
    """
    mu, law = as_momentum(momentum), get_likelihood(likelihood)
    batch = None if batch_size is None else positive_int(batch_size, "batch_size")
    if not isinstance(model, (MLP, Network)):
        raise TypeError(f"model: expected an MLP or a Network, got {type(model).__name__}")
    arch = model if isinstance(model, MLP) else model.architecture
    X = None if isinstance(data, InputStatistics) or np.ndim(data) == 0 else _as_inputs(data, model)
    count = data.T if isinstance(data, InputStatistics) else positive_int(data, "data") if X is None else len(X)
    if batch is not None and batch > count:
        raise ValueError(f"batch_size: expected at most {count}, the number of samples, got {batch}")
    measured = uncertainty = outputs = None
    if isinstance(model, Network):
        if isinstance(data, InputStatistics):
            raise TypeError("data: expected inputs (T, M_0) or their number with a Network, got InputStatistics")
        inputs = devices.as_like(_drawn(model, count, seed), model.weights[0]) if X is None else X
        fim = Fisher(model, inputs, likelihood=law, executor=executor)
        top = fim.top_eigenpairs(1, tol, seed=seed, progress=progress)
        measured = statistics.critical_learning_rate(float(top.values[0]), mu)
        uncertainty = float(top.residuals[0] / top.values[0]) if top.values[0] > 0 else 0.0
        outputs = model(inputs, executor=executor) if law.depends_on_outputs else None
        if X is None:  # theory knows no inputs, and works on the processor
            outputs = devices.on_host(outputs)
    if arch is None or arch.depth < 2:
        theory = refined = corrected = online = batch_rate = None
        if measured is None:
            raise ValueError("model: expected at least one hidden layer, for theory has none without; sample a network")
    else:
        known = data if X is None else _described(X)
        mf = mean_field(arch, known, likelihood=law, outputs=outputs, executor=executor)
        theory = mf.critical_learning_rate(mu)
        refined = statistics.critical_learning_rate(mf.refined_statistics.maximum, mu)
        corrected = _corrected(mf, mu)
        online = _online(mf, mu)
        batch_rate = None if batch is None else _batch_rate(mf, batch, mu, executor)
    return CriticalLearningRate(mu, theory, refined, corrected, measured, uncertainty, online, batch_rate)


def _as_inputs(data: Any, model: MLP | Network) -> FloatArray:
    return as_float_array(data, "data", ndim=2, shape=(None, model.widths[0]))


def _drawn(net: Network, count: int, seed: int | np.random.Generator | None) -> FloatArray:
    X = as_generator(seed, stream="inputs").standard_normal((count, net.widths[0]))
    return X.astype(net.dtype, copy=False)


def _described(X: FloatArray) -> FloatArray | InputStatistics:
    """The inputs, or of many their mean square and mean overlap."""
    count, dimension = X.shape
    if count <= _PAIRWISE:
        return X
    squares = float(np.square(X, dtype=np.float64).sum())
    total = X.sum(axis=0, dtype=np.float64)
    overlaps = float(total @ total) - squares
    return InputStatistics(count, squares / (count * dimension), overlaps / (count * (count - 1) * dimension))


def _corrected(mf: MeanField, momentum: float) -> float | None:
    if mf.likelihood != Gaussian() or mf.arch.residual or mf.arch.init != "gaussian":
        return None
    return statistics.critical_learning_rate(mf.largest_outlier, momentum)


def _online(mf: MeanField, momentum: float) -> float | None:
    if mf.likelihood != Gaussian() or mf.arch.residual:
        return None
    return conditional_spectrum(mf.arch, float(mf.order_parameters.qhat[0])).critical_learning_rate(momentum)


def _batch_rate(mf: MeanField, batch: int, momentum: float, executor: Executor | None) -> float:
    """Of a batch of inputs with the mean overlaps of all."""
    order = mf.order_parameters
    overlap = float(order.qhat_st[0]) if mf.num_samples > 1 else 0.0
    inputs = InputStatistics(batch, float(order.qhat[0]), overlap)
    of_batch = mean_field(mf.arch, inputs, likelihood=mf.likelihood, executor=executor)
    corrected = _corrected(of_batch, momentum)
    return of_batch.critical_learning_rate(momentum) if corrected is None else corrected
