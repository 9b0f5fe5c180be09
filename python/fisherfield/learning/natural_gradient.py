r"""Natural gradient descent, with the Fisher information matrix or an approximation of it.

.. math:: \theta_{t+1} = \theta_t - \eta\, (G + \lambda I)^{-1} \nabla E + \mu\, (\theta_t - \theta_{t-1})

Near a minimum, without damping, the exact metric converges for :math:`\eta < 2 (1 + \mu)` whatever the network
(Karakida, Akaho, Amari 2019). In a wide network the residuals of regression shrink by :math:`1 - \gamma \eta` a step,
with :math:`\gamma = 1` for the exact metric (Karakida, Osawa 2020); see
:meth:`~fisherfield.learning.approximations.ApproximateFisher.isotropy` for that of an approximation.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .._executor import Progress, reporter
from .._validate import (
    FloatArray,
    as_momentum,
    boolean,
    non_negative,
    number,
    positive_int,
    require_cpu,
)
from ..fisher import Fisher
from ..likelihoods import Gaussian, Likelihood, scores
from ..losses import loss_gradient, mean_loss, observed
from ..network import Network
from .approximations import ApproximateFisher, as_coupling
from .batches import as_batch_size, batches

__all__ = ["NaturalGradient", "NaturalGradientRun", "NaturalGradientStep"]

_ARMIJO = 1e-4  # part of the decrease that the slope promises
_HALVINGS = 30
_ATTEMPTS = 20  # at a step, each with more damping
_SMALLEST_DAMPING = 1e-8  # of the first one, where it adapts
_DIVERGED = 1e3  # the loss, and times the first one
_FUNCTION_SPACE = 5000  # residuals, up to which the exact metric is inverted in their space
_TOLERANCE = 1e-8  # of conjugate gradients


@dataclass(frozen=True)
class NaturalGradientStep:
    """What one step did.

    Attributes
    ----------
    index : int
        0, 1, ...
    loss_before, loss_after : float
        On the samples of the step; ``loss_after`` is infinite where the step left what the network can hold.
    learning_rate : float
        Multiple of the natural gradient that was taken, after a line search; 0 where no step was.
    damping : float
        With which the step was computed.
    ratio : float or None
        Decrease of the loss over that of its quadratic model with the exact Fisher information matrix, where that was
        asked for: by ``adapt_damping`` or ``learning_rate=None``.
    evaluations : int
        Of the loss.
    """

    index: int
    loss_before: float
    loss_after: float
    learning_rate: float
    damping: float
    ratio: float | None
    evaluations: int


@dataclass(frozen=True, eq=False)
class NaturalGradientRun:
    """What several steps did.

    Attributes
    ----------
    network : Network
        After the last step; if it diverged, before the step that did.
    losses : array, shape (steps + 1,)
        Before the first step and after each one; with mini-batches on the samples of each step.
    steps : tuple of NaturalGradientStep
    status : {"finished", "reached", "stalled", "diverged"}
        All steps were taken; ``until`` was reached; no shorter step, or one with more damping, lowered the loss of all
        samples; or the loss grew out of bounds.
    """

    network: Network
    losses: FloatArray
    steps: tuple[NaturalGradientStep, ...]
    status: str

    @property
    def diverged(self) -> bool:
        """Whether the loss grew out of bounds: above 1000 and 1000 times the first one, or not finite."""
        return self.status == "diverged"

    def steps_to(self, loss: float) -> int | None:
        """Return after how many steps the loss was at most ``loss``, None if it never was.

        Parameters
        ----------
        loss : float
            Threshold.

        Returns
        -------
        int or None
            Index in ``losses``: 0 where the first one is low enough.

        Raises
        ------
        ValueError, TypeError
            If the loss is no finite number.
        """
        below = np.flatnonzero(self.losses <= number(loss, "loss"))
        return int(below[0]) if len(below) else None

    def __repr__(self) -> str:
        return f"NaturalGradientRun({self.status} after {len(self.steps)} steps, loss {self.losses[-1]:.4g})"


class NaturalGradient:
    r"""Natural gradient descent on a loss.

    The natural gradient of regression is found in function space, where nothing cancels:
    :math:`G^{-1} J^\top r` from one system of the size of the residuals r, also without damping. That of other losses
    comes from the gradient, and needs damping. No P x P matrix and no Jacobian is formed.

    Parameters
    ----------
    net : Network
        From which it starts; not changed.
    X : array, shape (T, M_0)
        Inputs, one a row, in the precision of the network.
    loss : str or Likelihood
        As of :func:`~fisherfield.loss_gradient`: ``"squared"`` is :math:`|y - f|^2 / 2`, ``"cross_entropy"`` that of
        the softmax, others are :math:`-\log p`; averaged over samples.
    targets : array
        Observed targets in the likelihood's format: (T, C) numbers, or (T,) classes.
    metric : str or array, shape (L, L)
        ``"exact"``, ``"block_diagonal"``, ``"tri_diagonal"``, ``"kfac"`` or a symmetric :math:`\Sigma`, as of
        :func:`~fisherfield.learning.approximations.approximate_fisher`.
    damping : float, default 1e-3
        :math:`\lambda`, in units of the eigenvalues of G; 0 only with the squared loss, and a network wide enough.
    learning_rate : float, optional
        :math:`\eta`, fixed: then steps are plain ones unless a line search or the adapted damping is asked for. By
        default each step takes the minimum of the quadratic model along the natural gradient x, with the exact Fisher
        information matrix, :math:`\eta = g \cdot x / x^\top (F + \lambda I) x`: one for the exact metric, close to
        :math:`1 / \gamma` for its approximations.
    momentum : float, default 0.0
        :math:`\mu`, 0 <= mu < 1.
    line_search : bool, default False
        Halve a step until the loss falls by 1e-4 of what the slope promises (Armijo). Where momentum points uphill it
        is dropped.
    adapt_damping : bool, optional
        Levenberg and Marquardt's rule, by default where no ``learning_rate`` is fixed: a step that does not lower the
        loss is not taken, and tried again with four times the damping and without momentum. Where the decrease is below
        a quarter of that of the quadratic model the next damping is four times this one, where it is above three
        quarters half of it.
    batch_size : int, optional
        Samples of a step (default: all of them), from random orders of all samples.
    seed : int, numpy.random.Generator or None
        Of the orders.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool).

    Attributes
    ----------
    network : Network
        The current one.
    damping : float
        Of the next step.
    diverged : bool

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.MLP((20, 300, 300, 1), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=0)
    >>> X = np.random.default_rng(0).standard_normal((10, 20))
    >>> opt = ff.NaturalGradient(net, X, targets=np.sin(X[:, :1]), damping=1e-6)
    >>> run = opt.run(steps=5)
    >>> run.status, bool(run.losses[-1] < 1e-6 * run.losses[0])
    ('finished', True)
    """

    def __init__(
        self,
        net: Network,
        X: Any,
        loss: str | Likelihood = "squared",
        *,
        targets: Any,
        metric: str | npt.ArrayLike = "exact",
        damping: float = 1e-3,
        learning_rate: float | None = None,
        momentum: float = 0.0,
        line_search: bool = False,
        adapt_damping: bool | None = None,
        batch_size: int | None = None,
        seed: int | np.random.Generator | None = 0,
        executor: Executor | None = None,
    ) -> None:
        if isinstance(net, Network):
            require_cpu(net.weights[0], "net", "natural gradient descent works")
        known = observed(net, X, loss, targets, executor)
        assert known.targets is not None
        self._X, self._targets, self._likelihood = known.X, known.targets[0], known.likelihood
        self._executor, self._coupling = executor, as_coupling(metric, net.depth, "metric")
        self._exact = isinstance(metric, str) and metric == "exact"
        self.damping = non_negative(damping, "damping")
        self._rate = None if learning_rate is None else non_negative(learning_rate, "learning_rate", strict=True)
        self._adapt = self._rate is None if adapt_damping is None else boolean(adapt_damping, "adapt_damping")
        self._search = boolean(line_search, "line_search")
        if self.damping == 0 and (self._adapt or not isinstance(self._likelihood, Gaussian)):
            cause = "with adapt_damping" if self._adapt else f"with the loss of likelihood {self._likelihood.name}"
            raise ValueError(f"damping: expected a number > 0 {cause}, got 0")
        self._momentum = as_momentum(momentum)
        samples = len(self._X)
        self._batch_size = as_batch_size(batch_size, samples)
        self._batches = batches(samples, self._batch_size, seed)
        self._smallest = _SMALLEST_DAMPING * self.damping
        self._velocity = np.zeros(net.num_parameters, net.dtype)
        self._taken, self._bound = 0, math.inf
        self.network, self.diverged = net, False

    def loss(self) -> float:
        """Return the loss of the current network on all samples.

        Returns
        -------
        float
        """
        return mean_loss(self.network, self._X, self._targets, self._likelihood, self._executor)

    def step(self) -> NaturalGradientStep:
        """Take one step, and tell what it did.

        Returns
        -------
        NaturalGradientStep

        Raises
        ------
        RuntimeError
            If an earlier step diverged.
        ValueError
            Where the damping leaves a matrix singular beside rounding.
        """
        if self.diverged:
            raise RuntimeError(
                "the loss grew out of bounds in an earlier step; start anew with a smaller learning_rate, or none"
            )
        model, velocity, damping, evaluations = self._model(), self._momentum * self._velocity, self.damping, 0
        for _ in range(_ATTEMPTS if self._adapt else 1):
            trial = self._trial(model, velocity, damping)
            evaluations += trial.evaluations
            taken = trial.rate > 0 and (not self._adapt or trial.loss < model.loss)
            if taken or not self._adapt:
                break
            damping, velocity = 4 * damping, np.zeros_like(velocity)
        if self._taken == 0:
            self._bound = max(_DIVERGED, _DIVERGED * abs(model.loss))
        self.diverged = taken and not trial.loss <= self._bound
        self._velocity = trial.move if taken else np.zeros_like(velocity)
        if taken and not self.diverged:
            self.network = trial.network
        ratio = None
        if taken and math.isfinite(trial.loss) and (self._adapt or self._rate is None):
            ratio = model.ratio(trial.move, model.loss - trial.loss)
        if taken and self._adapt:
            self.damping = max(damping * _factor(ratio), self._smallest)
        self._taken += 1
        after, rate = (trial.loss, trial.rate) if taken else (model.loss, 0.0)
        return NaturalGradientStep(self._taken - 1, model.loss, after, rate, trial.damping, ratio, evaluations)

    def run(self, steps: int = 100, *, until: float | None = None, progress: Progress = None) -> NaturalGradientRun:
        """Take several steps; stop early where the loss is low enough, diverges, or does not move any more.

        Parameters
        ----------
        steps : int, default 100
        until : float, optional
            A loss; with mini-batches, that on the samples of a step.
        progress : None, True or callable
            Progress over steps: a bar (needs tqdm) or ``callable(done, steps)``.

        Returns
        -------
        NaturalGradientRun

        Raises
        ------
        RuntimeError
            If an earlier step diverged.
        ValueError, TypeError
            For numbers out of range, and where the damping leaves a matrix singular beside rounding.
        """
        limit = positive_int(steps, "steps")
        goal = -math.inf if until is None else number(until, "until")
        report, close = reporter(progress, limit, "steps")
        taken: list[NaturalGradientStep] = []
        status = "finished"
        try:
            while len(taken) < limit and status == "finished":
                done = self.step()
                taken.append(done)
                report(len(taken), limit)
                if self.diverged:
                    status = "diverged"
                elif done.loss_after <= goal:
                    status = "reached"
                elif done.learning_rate == 0 and self._batch_size == len(self._X):
                    status = "stalled"
        finally:
            close()
        losses = np.array([taken[0].loss_before, *(done.loss_after for done in taken)])
        return NaturalGradientRun(self.network, losses, tuple(taken), status)

    def __repr__(self) -> str:
        state = "diverged" if self.diverged else f"loss {self.loss():.4g}"
        return f"NaturalGradient({self._taken} steps, {state}, damping {self.damping:.3g})"

    def _trial(self, model: _Model, velocity: FloatArray, damping: float) -> _Trial:
        """A step with this damping, shortened by the line search if there is one."""
        nowhere = _Trial(self.network, model.loss, np.zeros_like(velocity), 0.0, damping, 0)
        try:
            natural = model.natural(damping)
        except ValueError:  # of a matrix that is singular beside rounding
            if not self._adapt:
                raise
            return nowhere
        rate = model.best_rate(natural, damping) if self._rate is None else self._rate
        descent = -natural.dtype.type(rate) * natural
        move = velocity + descent
        if not self._search:
            return _Trial(*model.after(move), move, rate, damping, 1)
        if float(model.gradient @ move) >= 0:
            move = descent
        slope, part = float(model.gradient @ move), 1.0
        if slope >= 0:
            return nowhere
        for tried in range(1, _HALVINGS + 1):
            shorter = move.dtype.type(part) * move
            network, loss = model.after(shorter)
            if loss <= model.loss + _ARMIJO * part * slope:
                return _Trial(network, loss, shorter, part * rate, damping, tried)
            part /= 2
        return replace(nowhere, evaluations=_HALVINGS)

    def _model(self) -> _Model:
        chosen: Any = slice(None) if self._batch_size == len(self._X) else next(self._batches)
        X, targets = self._X[chosen], self._targets[chosen]
        return _Model(self.network, X, targets, self._likelihood, self._coupling, self._exact, self._executor)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A step that may be taken: the network and the loss after it, and the parameters' move."""

    network: Network
    loss: float
    move: FloatArray
    rate: float
    damping: float
    evaluations: int


class _Model:
    """The loss of some samples about a network: gradient, metric, quadratic model."""

    def __init__(
        self,
        net: Network,
        X: FloatArray,
        targets: npt.NDArray[Any],
        likelihood: Likelihood,
        coupling: FloatArray | None,
        exact: bool,
        executor: Executor | None,
    ) -> None:
        self._at = (X, targets, likelihood, executor)
        self._net = net
        self._fisher = Fisher(net, X, likelihood=likelihood, executor=executor)
        self.gradient = loss_gradient(net, X, likelihood, targets=targets, executor=executor)
        size = self._fisher.num_seeds * len(X)
        self._in_function_space = isinstance(likelihood, Gaussian)
        if exact and (not self._in_function_space or size > min(_FUNCTION_SPACE, net.num_parameters)):
            self._metric: ApproximateFisher | Fisher = self._fisher
            self._in_function_space = False
        else:
            self._metric = ApproximateFisher(self._fisher, coupling)
            self._in_function_space &= coupling is None or self._metric.gamma is not None

    @cached_property
    def loss(self) -> float:
        """At the network."""
        return mean_loss(self._net, *self._at)

    def after(self, move: FloatArray) -> tuple[Network, float]:
        """The network after a move, and its loss; the old one and infinity if a parameter is no number."""
        with np.errstate(over="ignore", invalid="ignore"):
            parameters = self._net.parameters() + move
        if not np.isfinite(parameters).all():
            return self._net, math.inf
        moved = self._net.with_parameters(parameters)
        return moved, mean_loss(moved, *self._at)

    def natural(self, damping: float) -> FloatArray:
        """``(G + damping)^-1 gradient``."""
        if self._in_function_space and isinstance(self._metric, ApproximateFisher):
            return self._metric.solve_function_space(self._residuals, damping)
        if isinstance(self._metric, Fisher):
            return np.asarray(self._metric.solve(self.gradient, damping, tol=_TOLERANCE))
        return self._metric.solve(self.gradient, damping)

    @cached_property
    def _residuals(self) -> FloatArray:
        """Of Gaussian targets, over sigma and -T, (R, T): the gradient is J^T of it."""
        X, targets, likelihood, executor = self._at
        (score,) = scores(likelihood, self._net(X, executor=executor), [targets])
        assert isinstance(likelihood, Gaussian)
        noise = np.sqrt(np.asarray(likelihood.noise_var, score.dtype))
        return np.ascontiguousarray((score * noise / -score.dtype.type(len(X))).T)

    def best_rate(self, natural: FloatArray, damping: float) -> float:
        """Where the quadratic model is least along minus the natural gradient; 1 where there is none."""
        slope = float(self.gradient @ natural)
        bend = self._curvature(natural) + damping * float(natural @ natural)
        return slope / bend if slope > 0 and bend > 0 else 1.0

    def ratio(self, move: FloatArray, decrease: float) -> float | None:
        """``decrease`` over what the quadratic model promises, None where it promises none."""
        promised = -float(self.gradient @ move) - self._curvature(move) / 2
        return decrease / promised if promised > 0 else None

    def _curvature(self, v: FloatArray) -> float:
        """``v^T F v``."""
        held = isinstance(self._metric, ApproximateFisher)  # the factors
        moved = self._fisher.factors.times(v) if held else self._fisher._gradients.times(v[None])
        return float(np.square(moved, dtype=np.float64).sum()) / self._fisher.num_samples


def _factor(ratio: float | None) -> float:
    """Of the next damping."""
    if ratio is None:
        return 1.0
    return 4.0 if ratio < 0.25 else 0.5 if ratio > 0.75 else 1.0
