r"""Gradient descent with momentum, runs of steps in the compiled core.

.. math:: \theta_{k+1} = \theta_k - \eta_k \nabla E(\theta_k) + \mu (\theta_k - \theta_{k-1}), \qquad
    E = \frac{1}{T} \sum_t \ell(f(x_t), y_t)

(Karakida, Akaho, Amari 2019, Section 3.4), on all samples or on mini-batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _executor
from .._executor import Progress
from .._memory import require_memory
from .._native import kernels
from .._validate import (
    FloatArray,
    as_momentum,
    as_sequence,
    choice,
    non_negative,
    positive_int,
    require_cpu,
)
from ..architecture import MLP
from ..factors import FactoredJacobian, LayerFactors
from ..likelihoods import LOSSES, Gaussian
from ..likelihoods import get as get_likelihood
from ..losses import mean_loss
from ..network import Network
from .batches import as_batch_size, batches

__all__ = ["Descent", "Step", "Training", "train"]

_STEP_FLOPS = 5e4  # what a step costs beyond its products
_CALL_INDICES = 2**22
_CALL_FLOPS = 5e9  # of one call of the kernel: about a tenth of a second, between two looks for an interrupt


@dataclass(frozen=True)
class Step:
    """One step of training, as a callback sees it.

    Attributes
    ----------
    index : int
        Of the step, from 0.
    loss : float
        Of the batch, before the step.
    learning_rate : float
    batch_size : int
    """

    index: int
    loss: float
    learning_rate: float
    batch_size: int
    _descent: Descent = field(repr=False)

    @property
    def factors(self) -> FactoredJacobian:
        """Gradients of each sample's own loss before the step, one seed; the arrays are overwritten by the next step.

        B holds the derivatives of the losses with respect to the pre-activations.
        """
        return self._descent.factors


@dataclass(frozen=True)
class Training:
    """What :func:`train` did.

    Attributes
    ----------
    network : Network or None
        After the last step; None if a parameter is not finite.
    losses : ndarray, shape (K,), float64
        Loss of the batch before each step; of a run that diverged, the last one is that at which it was stopped.
    final_loss : float
        Over all samples, at the end; infinite if it is not a number.
    diverged : bool
        Whether the run was stopped, its loss beyond ``divergence`` or not a number. Training may also fail by far
        less: compare ``final_loss``.
    """

    network: Network | None
    losses: npt.NDArray[np.float64]
    final_loss: float
    diverged: bool

    @property
    def converged(self) -> bool:
        """Whether the loss is lower at the end than in the first step."""
        return not self.diverged and self.final_loss < self.losses[0]


def train(
    net: Network,
    X: Any,
    loss: str = "squared",
    *,
    targets: Any,
    learning_rate: float | Sequence[float],
    steps: int = 100,
    momentum: float = 0.0,
    batch_size: int | None = None,
    seed: int | np.random.Generator | None = 0,
    divergence: float = 1e6,
    callback: Callable[[Step], object] | None = None,
    executor: Executor | None = None,
    progress: Progress = None,
) -> Training:
    r"""Train a copy of a network by gradient descent with momentum.

    Parameters
    ----------
    net : Network
        Where training starts; it is not changed. Its activations must be built in.
    X : array, shape (T, M_0)
        Inputs, one a row, in the precision of the network.
    loss : {"squared", "cross_entropy"}
        :math:`|y - f|^2 / 2`, or that of the softmax (also named ``"gaussian"`` and ``"categorical"``, after their
        likelihoods); averaged over samples, summed over outputs. The Hessian of the
        first is F and what curvature adds, so that :math:`2 (1 + \mu) / \lambda_{\max}(F)` bounds the rate.
    targets : array
        (T, C) numbers, or (T,) class indices.
    learning_rate : float or sequence of float
        :math:`\eta > 0`, one for all steps or one for each.
    steps : int, default 100
        Number of steps K.
    momentum : float, default 0.0
        :math:`0 \le \mu < 1`.
    batch_size : int, optional
        Samples per step, at most T; default all. Batches are cut one after another from random orders of all samples,
        so that each sample comes as often as any other; a batch may reach from one order into the next.
    seed : int, numpy.random.Generator or None
        Of the orders.
    divergence : float, default 1e6
        Training stops when the loss of a batch is not a number, or above this multiple (> 1) of the first one, or of
        that of outputs that are all zero where this is larger.
    callback : callable, optional
        Called after each step with a :class:`Step`, for instance a training monitor. Runs without one take many steps
        in one call of the kernel.
    executor : concurrent.futures.Executor, optional
        Threads that share each step (default: a shared pool). No bit of the result depends on their number.
    progress : None, True or callable
        Progress over steps: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    Training

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names, numbers out of range, activations that are
        not built in, or a loss that is not finite to begin with.
    MemoryError
        If parameters and activations of a batch cannot fit.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> arch = ff.MLP((20, 100, 100, 3), "tanh", weight_var=3.0, bias_var=0.64)
    >>> X = np.random.default_rng(0).standard_normal((50, 20))
    >>> y, net = arch.sample(seed=1)(X), arch.sample(seed=0)
    >>> critical = 2 * (1 + 0.9) / ff.Fisher(net, X).statistics().maximum
    >>> runs = [ff.train(net, X, targets=y, learning_rate=c * critical, momentum=0.9) for c in (0.5, 2)]
    >>> [run.diverged for run in runs], bool(runs[0].final_loss < 1e-2 * runs[0].losses[0])
    ([False, True], True)
    """
    count = positive_int(steps, "steps")
    constant = np.ndim(learning_rate) == 0
    rates = _as_rates(learning_rate, 1 if constant else count)
    factor = non_negative(divergence, "divergence", strict=True)
    if factor <= 1:
        raise ValueError(f"divergence: expected a number > 1, got {factor:g}")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a callable of a Step or None, got {callback!r}")
    descent = Descent(
        net, X, loss, targets=targets, momentum=momentum, batch_size=batch_size, seed=seed, executor=executor
    )
    report, close = _executor.reporter(progress, count, "steps")
    losses: list[npt.NDArray[np.float64]] = []
    done, limit = 0, math.inf
    try:
        while done < count and not descent.stopped:
            following = done + (1 if callback or done == 0 else min(descent.steps_per_call, count - done))
            losses.append(descent.run(rates * (following - done) if constant else rates[done:following], limit=limit))
            first = float(losses[0][0])
            if not math.isfinite(first):
                raise ValueError(
                    f"loss: expected a finite one to begin with, got {first}; scale weights or inputs down"
                )
            limit = factor * max(first, descent.loss_at_zero)
            if callback and not descent.stopped:
                callback(Step(done, float(losses[-1][-1]), rates[0 if constant else done], descent.batch_size, descent))
            done = following
            report(done, count)
    finally:
        close()
    final = descent.loss()
    return Training(descent.network, np.concatenate(losses), final, descent.stopped or not math.isfinite(final))


class Descent:
    """Gradient descent that is run a few steps at a time, for loops of one's own; see :func:`train`.

    Parameters
    ----------
    net, X, loss, targets, momentum, batch_size, seed, executor
        As of :func:`train`.

    Attributes
    ----------
    batch_size : int
    stopped : bool
        Whether the last step was not taken, its loss being above the limit or not a number.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As :func:`train`, for the arguments that they share.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> from fisherfield.learning import Descent
    >>> net = ff.MLP((20, 50, 3), "relu", weight_var=2.0).sample(seed=0)
    >>> X, y = np.random.default_rng(0).standard_normal((30, 20)), np.arange(30) % 3
    >>> descent = Descent(net, X, "cross_entropy", targets=y, momentum=0.9, batch_size=10)
    >>> rate = 0.05
    >>> for epoch in range(20):
    ...     losses = descent.run([rate] * 3)
    ...     rate *= 0.95
    >>> bool(descent.loss() < 0.2)
    True
    """

    def __init__(
        self,
        net: Network,
        X: Any,
        loss: str = "squared",
        *,
        targets: Any,
        momentum: float = 0.0,
        batch_size: int | None = None,
        seed: int | np.random.Generator | None = 0,
        executor: Executor | None = None,
    ) -> None:
        if not isinstance(net, Network):
            hint = "; draw one, with .sample(seed=0)" if isinstance(net, MLP) else ""
            raise TypeError(f"net: expected a Network, got {type(net).__name__}{hint}")
        custom = [phi.name for phi in net.activations if phi.native is None]
        if custom:
            raise ValueError(
                f"net: expected built-in activations, got {custom[0]!r}; for others take steps with loss_gradient and "
                "with_parameters"
            )
        require_cpu(net.weights[0], "net", "training works")
        self._net = net
        self._X = net.check_inputs(X)
        self._likelihood = get_likelihood(choice(loss, "loss", (*LOSSES, *LOSSES.values())))
        self._likelihood.check_outputs(net.num_outputs)
        if targets is None:
            raise ValueError("targets: expected the observed targets, got None")
        self._targets = self._likelihood.as_targets(
            targets, num_samples=len(self._X), num_outputs=net.num_outputs, dtype=net.dtype
        )
        require_cpu(self._targets, "targets", "training works")
        self._momentum = as_momentum(momentum)
        if float(net.dtype.type(self._momentum)) >= 1:
            raise ValueError(f"momentum: expected a number < 1 in {net.dtype} too, got 1 - {1 - self._momentum:g}")
        T = len(self._X)
        self.batch_size = as_batch_size(batch_size, T)
        self._batches: Iterator[npt.NDArray[np.int64]] | None = None
        if self.batch_size < T:
            self._batches = batches(T, self.batch_size, seed)
        _executor.check_executor(executor)
        self._executor = executor
        self.stopped = False
        self._theta = net.parameters()
        self._velocity = np.zeros_like(self._theta)
        self._activity, self._workspace = self._allocate()
        self._layers = self._described()

    def run(self, learning_rates: Sequence[float], *, limit: float = math.inf) -> npt.NDArray[np.float64]:
        r"""Take one step for each learning rate; return the loss of the batch before each.

        A loss above ``limit`` > 0, or not a number, is the last one returned, and its step is not taken.

        Parameters
        ----------
        learning_rates : sequence of K floats
            :math:`\eta_k > 0`, one for each step.
        limit : float, default inf
            Loss of a batch, > 0, above which the run stops.

        Returns
        -------
        ndarray, shape (K,), float64
            Shorter where the run stopped; see ``stopped``.

        Raises
        ------
        ValueError, TypeError
            For no rates, rates that are no numbers > 0 in the precision of the network, and a limit that is no number
            > 0.
        """
        listed = as_sequence(learning_rates, "learning_rates", "a sequence of numbers > 0, one for each step")
        rates = _as_rates(listed, len(listed), "learning_rates")
        bound = limit if limit == math.inf else non_negative(limit, "limit", strict=True)
        found: list[npt.NDArray[np.float64]] = []
        self.stopped = False
        for begin in range(0, len(rates), self.steps_per_call):
            if not self.stopped:
                found.append(self._run(np.asarray(rates[begin : begin + self.steps_per_call]), bound))
        return np.concatenate(found)

    def _run(self, rates: npt.NDArray[np.float64], limit: float) -> npt.NDArray[np.float64]:
        """One call of the kernel."""
        with np.errstate(over="ignore", under="ignore"):
            held = rates.astype(self._net.dtype)
        if not (np.isfinite(held) & (held > 0)).all():
            wrong = rates[~(np.isfinite(held) & (held > 0))][0]
            raise ValueError(f"learning_rate: expected numbers > 0 that {held.dtype} can hold, got {wrong:g}")
        rows = None if self._batches is None else np.stack([next(self._batches) for _ in rates])
        losses = np.empty(len(rates))
        finite = min(limit, float(np.finfo(np.float64).max))
        targets, labels = (self._targets, None) if self._likelihood == Gaussian() else (None, self._targets)
        threads, team = self._threads, kernels.Team()

        def lead() -> int:
            return kernels.descend(
                self._layers, self._workspace, self._X, targets, labels, rows, rates, self._momentum, finite, losses,
                threads, team,
            )  # fmt: skip

        done = _executor.assisted(lead, team.help, team.dismiss, threads - 1, self._executor)
        self.stopped = done < len(rates)
        if self.stopped and rows is not None and self._batches is not None:
            self._batches = chain(rows[done + 1 :], self._batches)  # what no step has seen comes next
        return losses[: done + 1]

    @property
    def steps_per_call(self) -> int:
        """How many steps take about a tenth of a second, or the memory of a few millions of indices."""
        if self._batches is None:
            return max(1, int(_CALL_FLOPS / (self._flops + _STEP_FLOPS)))
        most = int(_CALL_FLOPS / (self._flops + 10 * _STEP_FLOPS))  # drawing indices takes longer
        return max(1, min(most, _CALL_INDICES // self.batch_size))

    @property
    def network(self) -> Network | None:
        """A copy of the network as it is; None if a parameter is not finite."""
        return self._net.with_parameters(self._theta) if np.isfinite(self._theta).all() else None

    @property
    def factors(self) -> FactoredJacobian:
        """Gradients of each sample's loss, of the last batch and before its step; overwritten by the next step."""
        inputs = self._X if self._workspace[0] is None else self._workspace[0]
        below = [inputs, *(activity.out for activity in self._activity[:-1])]
        return FactoredJacobian(
            tuple(
                LayerFactors(A, activity.delta[None], self._net.has_biases)
                for A, activity in zip(below, self._activity, strict=True)
            )
        )

    def loss(self) -> float:
        """Return the loss over all samples; infinite if it is not a number.

        Returns
        -------
        float
        """
        net = self.network
        if net is None:
            return math.inf
        return mean_loss(net, self._X, self._targets, self._likelihood, self._executor)

    @property
    def loss_at_zero(self) -> float:
        """The loss of outputs that are all zero: a scale."""
        if self._likelihood != Gaussian():
            return math.log(self._net.num_outputs)
        return float(np.square(self._targets, dtype=np.float64).sum()) / (2 * len(self._X))

    @property
    def _flops(self) -> float:
        """Of one step: forward, backward and gradient."""
        return 6.0 * self.batch_size * self._net.num_parameters

    @property
    def _threads(self) -> int:
        return _executor.workers(self._executor) if self._flops > 4e6 else 1

    def _described(self) -> list[Any]:
        """What the kernel knows of each layer: views of the parameters and what they moved by, and its arrays."""
        weights, moves = self._parts(self._theta), self._parts(self._velocity)
        natives = [phi.native for phi in self._net.activations] + [None]
        return [
            (W, b, vW, vb, phi, skip, *activity)
            for (W, b), (vW, vb), phi, skip, activity in zip(
                weights, moves, natives, self._net.skips, self._activity, strict=True
            )
        ]

    def _parts(self, flat: FloatArray) -> list[tuple[FloatArray, FloatArray | None]]:
        """Views of W and b of every layer."""
        parts, offset = [], 0
        for W in self._net.weights:
            end = offset + W.size
            bias = flat[end : end + len(W)] if self._net.has_biases else None
            parts.append((flat[offset:end].reshape(W.shape), bias))
            offset = end + (len(W) if self._net.has_biases else 0)
        return parts

    def _allocate(self) -> tuple[list[_Activity], tuple[Any, ...]]:
        """What every layer computes, and the workspace, carved from one block of memory."""
        net, b = self._net, self.batch_size
        inputs, outputs = net.widths[:-1], net.widths[1:]
        carried = [*net.skips[1:], False]
        kept = [(True, l < net.depth - 1, carried[l], True) for l in range(net.depth)]
        sizes = [b * width if keep else 0 for width, keeps in zip(outputs, kept, strict=True) for keep in keeps]
        gathered = 0 if self._batches is None else b * inputs[0]
        sizes += [gathered, max(W.size for W in net.weights), 2 * b * max(outputs)]
        require_memory(
            sum(sizes) * net.dtype.itemsize, f"the activations of a batch of {b} samples", "take a smaller batch_size"
        )
        block = np.empty(sum(sizes), net.dtype)
        arrays = [block[begin:end] for begin, end in pairwise([0, *accumulate(sizes)])]
        activity = []
        for l, width in enumerate(outputs):
            out, slope, pre, delta = (part.reshape(-1, width) for part in arrays[4 * l : 4 * l + 4])
            activity.append(_Activity(out, slope if slope.size else None, pre if pre.size else None, delta))
        batch, gradient, transposed = arrays[4 * net.depth :]
        return activity, (batch.reshape(b, -1) if gathered else None, np.empty(b), gradient, transposed)


class _Activity(NamedTuple):
    """Arrays (b, M_l) of one layer: phi(u), phi'(u) of a hidden one, u if it is carried on, derivatives by u."""

    out: FloatArray
    slope: FloatArray | None
    pre: FloatArray | None
    delta: FloatArray


def _as_rates(value: Any, count: int, name: str = "learning_rate") -> list[float]:
    """``count`` rates > 0."""
    if np.ndim(value) == 0:
        return [non_negative(value, name, strict=True)] * count
    rates = as_sequence(value, name, "a number > 0 or a sequence of them")
    if len(rates) != count or count == 0:
        raise ValueError(f"{name}: expected one number, or one for each of {max(count, 1)} steps, got {len(rates)}")
    return [non_negative(rate, f"{name}[{k}]", strict=True) for k, rate in enumerate(rates)]
