"""The map of training over widths and learning rates, with the predicted critical rate on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _executor, data
from .._executor import SERIAL, Progress
from .._validate import (
    FloatArray,
    as_dtype,
    as_float_array,
    as_momentum,
    as_sequence,
    choice,
    non_negative,
    positive_int,
    require_cpu,
)
from ..architecture import MLP
from ..learning import train
from ..likelihoods import LOSSES
from ..losses import loss_value
from .rates import critical_learning_rate

__all__ = ["TrainingMap", "as_training_targets", "training_map"]

Array = npt.NDArray[np.float64]

_MEASURED = 1000  # samples from which theory and measurement take the largest eigenvalue
_MOST_RATES = 10_000
_MARGIN = 4.0  # how far the default rates reach beyond the critical ones


@dataclass(frozen=True)
class TrainingMap:
    r"""What :func:`training_map` found, for n widths and m rates.

    Attributes
    ----------
    widths : ndarray, shape (n,)
        Hidden widths M, ascending.
    rates : ndarray, shape (m,)
        Learning rates, ascending.
    initial_loss : ndarray, shape (n,)
        Of all samples, before training.
    final_loss : ndarray, shape (n, m)
        After it; infinite where it was stopped.
    theory : ndarray, shape (n,)
        :math:`\eta_c` of leading order; see :class:`CriticalLearningRate` for this and the next two.
    corrected : ndarray, shape (n,)
        With the estimate of the largest of the C outliers; NaN where there is none.
    measured : ndarray, shape (n,)
        Of the networks before training.
    momentum : float
    steps : int
    num_samples : int
    batch_size : int or None
    description : str
        Of networks and loss.
    """

    widths: npt.NDArray[np.int64]
    rates: Array
    initial_loss: Array
    final_loss: Array
    theory: Array
    corrected: Array
    measured: Array
    momentum: float
    steps: int
    num_samples: int
    batch_size: int | None
    description: str

    @property
    def converged(self) -> npt.NDArray[np.bool_]:
        """Whether the loss is lower after training than before, (n, m)."""
        return self.final_loss < self.initial_loss[:, None]

    def fractions(self, line: str = "theory") -> tuple[float, float]:
        """Return which fraction of the cells above a line diverge, and which of those below converge.

        Parameters
        ----------
        line : {"theory", "corrected", "measured"}

        Returns
        -------
        above, below : float
            NaN where there is no cell.

        Raises
        ------
        ValueError, TypeError
            For an unknown line.
        """
        rates = getattr(self, choice(line, "line", ("theory", "corrected", "measured")))
        above = self.rates > rates[:, None]
        diverged = ~self.converged

        def share(cells: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_]) -> float:
            return float(np.count_nonzero(cells & of) / np.count_nonzero(of)) if of.any() else math.nan

        return share(diverged, above), share(~diverged, ~above & np.isfinite(rates)[:, None])

    @property
    def boundary(self) -> Array:
        """Between the largest rate below which all converge and the next one, their geometric mean, (n,).

        0 where none converges, infinite where all do.
        """
        count = np.where(self.converged.all(axis=1), len(self.rates), np.argmin(self.converged, axis=1))
        edges = np.concatenate([[0.0], np.sqrt(self.rates[1:]) * np.sqrt(self.rates[:-1]), [np.inf]])
        return np.asarray(edges[count])


def training_map(
    widths: Sequence[int] = tuple(range(100, 1001, 100)),
    rates: int | Sequence[float] = 20,
    *,
    depth: int = 4,
    num_outputs: int = 10,
    activation: Any = "tanh",
    weight_var: float = 3.0,
    bias_var: float = 0.64,
    inputs: int | npt.ArrayLike = 100,
    targets: Any = None,
    loss: str = "squared",
    momentum: float = 0.9,
    steps: int = 100,
    batch_size: int | None = None,
    seed: int = 0,
    dtype: npt.DTypeLike = "float64",
    executor: Executor | None = None,
    progress: Progress = None,
) -> TrainingMap:
    r"""Train networks of several widths at several learning rates, and say where theory expects them to diverge.

    Figure 2 of Karakida, Akaho and Amari (2019): losses separate into those that explode and those that converge along
    :math:`\eta_c = 2 (1 + \mu) / \lambda_{\max}`, which falls with the width like 1 / M.

    Parameters
    ----------
    widths : sequence of int
        M of all hidden layers, and of Gaussian inputs. All rates of one width start from the same network.
    rates : int or sequence of float
        Learning rates, or how many of them: at equal ratios from a fourth of the least :math:`\eta_c` to four times the
        largest.
    depth : int, default 4
        Number of weight layers L >= 2.
    num_outputs : int, default 10
        C.
    activation, weight_var, bias_var
        As of :class:`~fisherfield.MLP`.
    inputs : int or array, shape (T, M_0)
        T unit Gaussian inputs, of dimension M, with a teacher's outputs as targets: a network of the same ensemble; or
        data.
    targets : array, optional
        Of data: class indices (T,), for the squared loss too, which then takes them as unit vectors, or numbers (T, C).
    loss : {"squared", "cross_entropy"}
        Cross-entropy needs data with classes. Its :math:`\lambda_{\max}` is that of the categorical likelihood.
    momentum : float, default 0.9
    steps : int, default 100
    batch_size : int, optional
        See :func:`fisherfield.train`.
    seed : int, default 0
        Of networks (``seed``), teachers (``seed + 1``), inputs and batches.
    dtype : {"float64", "float32"}
        Precision of networks and inputs.
    executor : concurrent.futures.Executor, optional
        Threads, each of which trains cells of the map (default: a shared pool).
    progress : None, True or callable
        Progress over cells: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    TrainingMap
        Theory and measurement take 1000 of the inputs, if there are more.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, unknown names and numbers out of range.

    Examples
    --------
    >>> from fisherfield.experiments import training_map
    >>> found = training_map(widths=(30, 60), rates=6, inputs=50, steps=50)
    >>> found.final_loss.shape, found.fractions("measured")[1]
    ((2, 6), 1.0)
    """
    sizes = sorted(positive_int(M, "widths") for M in as_sequence(widths, "widths", "a sequence of integers"))
    if not sizes:
        raise ValueError("widths: expected at least one width, got none")
    L, C, count = (
        positive_int(depth, "depth", minimum=2),
        positive_int(num_outputs, "num_outputs"),
        positive_int(steps, "steps"),
    )
    mu, precision, number = as_momentum(momentum), as_dtype(dtype), positive_int(seed, "seed", minimum=0)
    likelihood = LOSSES[choice(loss, "loss", tuple(LOSSES))]
    _executor.check_executor(executor)
    _executor.check_progress(progress)
    draw = _source(inputs, targets, loss, C, precision, number)

    problems, critical = [], []
    for M in sizes:
        X, y, arch = draw(M, L, activation, weight_var, bias_var)
        net = arch.sample(number, precision)
        some = X if len(X) <= _MEASURED else data.draw(X, _MEASURED, number)
        critical.append(critical_learning_rate(net, some, mu, likelihood, executor=executor))
        problems.append((net, X, y))
    theory, measured = (np.array([getattr(rate, name) for rate in critical]) for name in ("theory", "measured"))
    corrected = np.array([math.nan if rate.corrected is None else rate.corrected for rate in critical])
    grid = _as_rates(rates, theory)

    initial = np.array([loss_value(net, X, loss, targets=y, executor=executor) for net, X, y in problems])
    final = np.empty((len(sizes), len(grid)))

    def run(cell: tuple[int, int]) -> None:
        i, j = cell
        net, X, y = problems[i]
        found = train(
            net,
            X,
            loss,
            targets=y,
            learning_rate=float(grid[j]),
            steps=count,
            momentum=mu,
            batch_size=batch_size,
            seed=number,
            executor=SERIAL,
        )
        final[cell] = math.inf if found.diverged else found.final_loss

    cells = [(i, j) for i in reversed(range(len(sizes))) for j in range(len(grid))]  # the longest first
    _executor.run(run, cells, executor, progress, "cells")
    return TrainingMap(
        np.array(sizes),
        grid,
        initial,
        final,
        theory,
        corrected,
        measured,
        mu,
        count,
        len(problems[0][1]),
        batch_size,
        f"{activation if isinstance(activation, str) else 'custom'}, L = {L}, C = {C}, {loss.replace('_', '-')} loss",
    )


_Draw = Callable[[int, int, Any, float, float], tuple[FloatArray, Any, MLP]]


def _source(inputs: int | npt.ArrayLike, targets: Any, loss: str, C: int, dtype: np.dtype[Any], seed: int) -> _Draw:
    """What makes inputs, targets and the ensemble of a width."""
    gaussian = np.ndim(inputs) == 0
    if gaussian != (targets is None):
        raise ValueError(
            "targets: expected together with data in inputs, and only with them; Gaussian inputs have a teacher"
        )
    if gaussian and loss != "squared":
        raise ValueError(f"loss: expected 'squared' with Gaussian inputs, whose targets are numbers, got {loss!r}")
    T = positive_int(inputs, "inputs") if gaussian else 0
    X = None if gaussian else as_float_array(inputs, "inputs", ndim=2).astype(dtype, copy=False)
    for name, array in (("inputs", X), ("targets", targets)):
        require_cpu(array, name, "training works")
    y = None if gaussian else as_training_targets(targets, loss, C, dtype)

    def draw(M: int, L: int, activation: Any, weight_var: float, bias_var: float) -> tuple[FloatArray, Any, MLP]:
        dimension = M if X is None else X.shape[1]
        arch = MLP((dimension, *(M,) * (L - 1), C), activation, weight_var=weight_var, bias_var=bias_var)
        if X is not None:
            return X, y, arch
        drawn = np.random.default_rng(seed).standard_normal((T, M)).astype(dtype, copy=False)
        return drawn, arch.sample(seed + 1, dtype)(drawn), arch

    return draw


def as_training_targets(targets: Any, loss: str, C: int, dtype: np.dtype[Any]) -> Any:
    """Return targets as the loss takes them: for the squared loss classes become unit vectors.

    Parameters
    ----------
    targets : array, shape (T,) or (T, C)
        Classes from 0 to C - 1, or numbers.
    loss : str
        Only ``"squared"`` changes classes.
    C : int
        Number of outputs.
    dtype : numpy.dtype
        Precision of numbers.

    Returns
    -------
    array, shape (T,) or (T, C)
        Numbers in ``dtype``; integers as they are.

    Raises
    ------
    ValueError
        For the squared loss and one axis, if there are no integers from 0 to C - 1.
    """
    array = np.asarray(targets)
    if loss == "squared" and array.ndim == 1:
        if array.dtype.kind not in "iu" or array.size == 0:
            raise ValueError(f"targets: expected classes from 0 to {C - 1}, got {array.size} entries of {array.dtype}")
        if array.min() < 0 or array.max() >= C:
            raise ValueError(f"targets: expected classes from 0 to {C - 1}, got {array.min()} to {array.max()}")
        return np.eye(C, dtype=dtype)[array]
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def _as_rates(rates: int | Sequence[float], critical: Array) -> Array:
    """Learning rates, ascending."""
    if np.ndim(rates) == 0:
        count = positive_int(rates, "rates", minimum=2)
        if count > _MOST_RATES:
            raise ValueError(f"rates: expected at most {_MOST_RATES} rates, got {count}")
        return np.geomspace(critical.min() / _MARGIN, critical.max() * _MARGIN, count)
    listed = as_sequence(rates, "rates", "a number of rates or a sequence of them")
    if not listed:
        raise ValueError("rates: expected at least one rate, got none")
    return np.array(sorted(non_negative(rate, "rates", strict=True) for rate in listed))
