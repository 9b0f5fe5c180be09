r"""Random estimators of the diagonal of the Fisher information matrix, and their exact variances.

Practitioners draw a target per input from the model and take squared gradients, or second derivatives:

.. math:: \hat I_1 = \frac{1}{T} \sum_t (\partial_i \log p(y_t | x_t))^2, \qquad
    \hat I_2 = -\frac{1}{T} \sum_t \partial_i^2 \log p(y_t | x_t), \qquad y_t \sim p(\cdot | x_t)

(Soen, Sun 2024; 2021). Both are unbiased. With the derivatives J and B of the outputs, first and second by the
parameter, the score s of the outputs and their information I, the variances over the targets of one input are

.. math:: \mathrm{Var}(\hat I_1 | x) = \mathrm{Var}_y[(J \cdot s)^2], \qquad
    \mathrm{Var}(\hat I_2 | x) = \tilde B^\top I \tilde B, \quad \tilde B = B + \Gamma(J, J),

with :math:`\Gamma = 0` where outputs are natural parameters (all built-in likelihoods but the heteroscedastic one). For
a weight, :math:`J = b_i a_j` and :math:`B = D_i a_j^2`, so that all of this is numbers of units times :math:`a_j^4`,
one matrix product per layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._executor import SERIAL, Progress, check_progress
from ._validate import FloatArray, boolean, choice, non_negative, positive_int, require_finite
from .curvature import SecondDerivatives
from .factors import factorize, unit_seeds
from .fisher import Fisher
from .likelihoods import Likelihood, checked
from .losses import LossCurvature
from .network import Network
from .unitwise import layer_slices, ordered_sum, unit_sums

__all__ = ["METHODS", "DiagonalEstimate", "DiagonalVariance", "LayerVariance", "diagonal_variance", "estimate_diagonal"]

METHODS = ("score", "hessian")

_SMALLEST = 1e-150  # variances, squares of entries of the diagonal, are lost below it

_LayerNumbers = list[tuple[FloatArray, Sequence[FloatArray]]]
_UnitNumbers = Callable[[int, int], _LayerNumbers]


# --- estimates ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DiagonalEstimate:
    """An estimate of the diagonal of the Fisher information matrix from drawn targets.

    Attributes
    ----------
    values : array, shape (P,)
        The estimate, unbiased.
    standard_errors : array, shape (P,), or None
        Their standard errors given the inputs, from the spread of the draws of each input; None for a single draw (see
        :func:`diagonal_variance` for the exact ones).
    method : {"score", "hessian"}
        Squared scores or second derivatives.
    samples : int
        Targets drawn per input.
    num_samples : int
        T, the number of inputs.
    """

    values: FloatArray
    standard_errors: FloatArray | None
    method: str
    samples: int
    num_samples: int

    def __repr__(self) -> str:
        return (
            f"DiagonalEstimate(method={self.method!r}, P={len(self.values)}, T={self.num_samples}, "
            f"samples={self.samples})"
        )


def estimate_diagonal(
    net: Network,
    X: Any,
    likelihood: str | Likelihood = "gaussian",
    *,
    method: str = "score",
    samples: int = 10,
    seed: int | np.random.Generator | None = None,
    executor: Executor | None = None,
    progress: Progress = None,
) -> DiagonalEstimate:
    r"""Estimate the diagonal of the Fisher information matrix from targets drawn from the model.

    ``"score"`` averages squared scores, :math:`\hat I_1`; ``"hessian"`` negative second derivatives of the log-density,
    :math:`\hat I_2`, which may be negative (Soen, Sun 2024; 2021). Which one varies less depends on the network and
    the layer, as :func:`diagonal_variance` says exactly. The diagonal itself, without any draws, is
    ``Fisher(net, X).diagonal()``, at the cost of C draws.

    Parameters
    ----------
    net : Network
        P parameters, C outputs.
    X : array, shape (T, M_0)
        Inputs, one a row, in the precision of the network.
    likelihood : str or Likelihood
        As of :class:`~fisherfield.Fisher`.
    method : {"score", "hessian"}
        Which estimator.
    samples : int, default 10
        Targets drawn per input; the standard errors fall like ``1/sqrt(samples)`` and need two.
    seed : int, numpy.random.Generator or None
        Of the draws, which are those of ``Fisher(..., kind="monte_carlo", samples=samples, seed=seed)``.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool). No bit of the result depends on their number.
    progress : None, True or callable
        Progress over inputs: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    DiagonalEstimate

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names.
    NotImplementedError
        With ``"hessian"``, if a likelihood of one's own is not ``canonical`` and has no ``exponential_connection``.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.MLP((20, 50, 50, 3), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=0)
    >>> X = np.random.default_rng(0).standard_normal((30, 20))
    >>> exact = ff.Fisher(net, X, likelihood="categorical").diagonal()
    >>> found = ff.estimate_diagonal(net, X, "categorical", method="hessian", samples=100, seed=0)
    >>> error = (found.values - exact)[:1050] / found.standard_errors[:1050]  # the last layer has no error
    >>> bool(abs(error).max() < 5)
    True
    """
    choice(method, "method", METHODS)
    check_progress(progress)
    draws = positive_int(samples, "samples")
    metric = Fisher(net, X, likelihood=likelihood, kind="monte_carlo", samples=draws, seed=seed, executor=executor)
    numbers, num_seeds = (_squared_scores if method == "score" else _second_derivatives)(metric)
    T, powers = metric.num_samples, (2, 4) if draws > 1 else (2,)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = unit_sums(
            net, T, numbers, powers, num_seeds, executor=executor, progress=progress, dtype=np.float64
        )  # squares of squared gradients may be below what float32 holds
        values = (sums[0] * (1 / T)).astype(net.dtype, copy=False)
        errors = np.sqrt(sums[1] / (draws * (draws - 1.0))) / T if draws > 1 else None
    require_finite(values, "estimate_diagonal().values")
    if errors is not None:
        require_finite(errors, "estimate_diagonal().standard_errors")
        errors = errors.astype(net.dtype, copy=False)
    return DiagonalEstimate(values, errors, method, draws, T)


def _squared_scores(metric: Fisher) -> tuple[_UnitNumbers, int]:
    """``(b . s)^2`` of every unit, and the vectors sent back for them."""
    count = metric.num_seeds

    def numbers(begin: int, end: int) -> _LayerNumbers:
        layers = factorize(
            metric.net, metric.X[begin:end], lambda outputs: metric._batch_seeds(outputs, begin, end), SERIAL
        )
        return [(layer.A, _mean_and_spread(count * np.square(layer.B, dtype=np.float64))) for layer in layers]

    return numbers, count


def _second_derivatives(metric: Fisher) -> tuple[_UnitNumbers, int]:
    """Second derivatives of -log p of every unit, and the vectors sent back for them."""
    curvature = LossCurvature(metric.net, metric.X, metric.likelihood, metric.targets or ())

    def numbers(begin: int, end: int) -> _LayerNumbers:
        return [
            (A, _mean_and_spread(drawn.astype(np.float64, copy=False))) for A, drawn in curvature.of_units(begin, end)
        ]

    return numbers, curvature.num_seeds


def _mean_and_spread(drawn: FloatArray) -> tuple[FloatArray, ...]:
    """Mean of the draws (S, t, M) and, of several, the sum of squared deviations from it: zero where all are equal."""
    if len(drawn) == 1:
        return (drawn[0],)
    deviations = drawn - drawn[0]
    mean = ordered_sum(deviations) / len(drawn)
    deviations -= mean
    return drawn[0] + mean, ordered_sum(np.square(deviations, out=deviations))


# --- exact variances ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerVariance:
    """How well the two estimators do in one layer, with one target drawn per input.

    Deviations are root mean squares over the layer's parameters.

    Attributes
    ----------
    layer : int
        l = 1, ..., L.
    num_parameters : int
    mean : float
        Mean of the exact diagonal over the layer's parameters.
    score_deviation, hessian_deviation : float
        Standard deviations of the estimators given the inputs.
    input_deviation : float
        What the choice of the inputs adds to the variance of both, as a standard deviation; NaN for a single input.
    score_bound : float or None
        Upper bound of ``score_deviation`` by eigenvalues, if asked for.
    hessian_bounds : (float, float) or None
        Lower and upper bound of ``hessian_deviation``.
    """

    layer: int
    num_parameters: int
    mean: float
    score_deviation: float
    hessian_deviation: float
    input_deviation: float
    score_bound: float | None
    hessian_bounds: tuple[float, float] | None

    @property
    def ratio(self) -> float:
        """``hessian_deviation / score_deviation``; NaN where both are zero."""
        if self.score_deviation == 0:
            return math.nan if self.hessian_deviation == 0 else math.inf
        return self.hessian_deviation / self.score_deviation

    @property
    def better(self) -> str:
        """The estimator of smaller variance, ``"score"`` or ``"hessian"``; ``"equal"`` if none is."""
        if self.hessian_deviation == self.score_deviation:
            return "equal"
        return "hessian" if self.hessian_deviation < self.score_deviation else "score"


@dataclass(frozen=True, eq=False)
class DiagonalVariance:
    r"""The exact diagonal of the Fisher information matrix, and exact variances of its random estimators.

    Variances are of the means over the T inputs, with one target drawn for each: n draws per input divide
    ``score`` and ``hessian`` by n, but not ``inputs``. Variances are float64 whatever the precision of the network.

    Attributes
    ----------
    diagonal : array, shape (P,)
        The exact diagonal.
    score, hessian : array, shape (P,)
        Variances of :math:`\hat I_1` and :math:`\hat I_2` given the inputs.
    inputs : array, shape (P,)
        What the choice of the inputs adds to both: the unbiased estimate of :math:`\mathrm{Var}_x(I_{ii}(x)) / T` from
        the T inputs at hand; NaN for a single one. It is a difference, accurate to about 1e-16 times the square of the
        diagonal over T, and zero where that would make it negative.
    score_bound : array, shape (P,), or None
        Upper bound of ``score`` by the largest eigenvalue of :math:`K - I \otimes I`, if asked for.
    hessian_bounds : pair of arrays, shape (P,), or None
        Bounds of ``hessian`` by the smallest and the largest eigenvalue of I.
    num_samples : int
        T.
    layer_slices : tuple of slices
        Where the parameters of each layer lie among the P.
    """

    diagonal: FloatArray
    score: FloatArray
    hessian: FloatArray
    inputs: FloatArray
    score_bound: FloatArray | None
    hessian_bounds: tuple[FloatArray, FloatArray] | None
    num_samples: int
    layer_slices: tuple[slice, ...]

    def variance(self, method: str, samples: int = 1, *, inputs: bool = False) -> FloatArray:
        """Return the variance of an estimator, shape (P,), with so many targets drawn per input.

        Parameters
        ----------
        method : {"score", "hessian"}
        samples : int
            Targets drawn per input (default 1).
        inputs : bool
            Whether the T inputs are random too, independent draws from what they are a sample of: the total variance.
            Default: they are given.

        Returns
        -------
        array, shape (P,), float64
            In the units of the diagonal squared; NaN where ``inputs`` is asked for and T = 1.

        Raises
        ------
        ValueError, TypeError
            For an unknown method, ``samples`` other than a positive integer, ``inputs`` other than True or False.
        """
        one = self.score if choice(method, "method", METHODS) == "score" else self.hessian
        given: FloatArray = one / positive_int(samples, "samples")
        return given + self.inputs if boolean(inputs, "inputs") else given

    def standard_deviation(self, method: str, samples: int = 1, *, inputs: bool = False) -> FloatArray:
        """Return the square root of :meth:`variance`, shape (P,).

        Parameters
        ----------
        method, samples, inputs
            As of :meth:`variance`.

        Returns
        -------
        array, shape (P,), float64
            In the units of the diagonal.

        Raises
        ------
        ValueError, TypeError
            As of :meth:`variance`.
        """
        return np.sqrt(self.variance(method, samples, inputs=inputs))

    def layers(self) -> tuple[LayerVariance, ...]:
        """Return the comparison of the two estimators in every layer, first layer first."""
        return tuple(self._layer(l, part) for l, part in enumerate(self.layer_slices, 1))

    def _layer(self, l: int, part: slice) -> LayerVariance:
        def deviation(variance: FloatArray) -> float:
            return math.sqrt(float(variance[part].mean(dtype=np.float64)))

        bounds = self.hessian_bounds
        return LayerVariance(
            layer=l,
            num_parameters=part.stop - part.start,
            mean=float(self.diagonal[part].mean(dtype=np.float64)),
            score_deviation=deviation(self.score),
            hessian_deviation=deviation(self.hessian),
            input_deviation=deviation(self.inputs),
            score_bound=None if self.score_bound is None else deviation(self.score_bound),
            hessian_bounds=None if bounds is None else (deviation(bounds[0]), deviation(bounds[1])),
        )

    def samples_for(self, relative_error: float, method: str) -> tuple[int, ...]:
        r"""Return how many targets per input bring each layer's diagonal within a relative error.

        The error is that of the layer's diagonal as a vector, :math:`\sqrt{E|\hat d - d|^2} / |d|`, given the inputs;
        at least one target is drawn. A layer whose diagonal is zero needs one.

        Parameters
        ----------
        relative_error : float
            Above 0.
        method : {"score", "hessian"}

        Returns
        -------
        tuple of int, length L
            One number per layer.

        Raises
        ------
        ValueError, TypeError
            For an unknown method, an error that is not above 0 or takes more than 1e18 draws, or a diagonal so small
            that float64 cannot hold its squares.
        """
        wanted = non_negative(relative_error, "relative_error", strict=True)
        deviation = self.standard_deviation(method)
        counts = []
        for l, part in enumerate(self.layer_slices, 1):
            size = float(self.diagonal[part].max())
            if 0 < size < _SMALLEST:
                raise ValueError(
                    f"diagonal: expected entries above {_SMALLEST:g} in layer {l}, whose squares float64 can hold, got "
                    f"at most {size:.1e}; scale the weights up"
                )
            relative = 0.0
            if size > 0:
                norms = [
                    float(np.linalg.norm(x[part].astype(np.float64, copy=False) / size))
                    for x in (deviation, self.diagonal)
                ]
                relative = norms[0] / norms[1]
            count = (relative / wanted) ** 2 if relative / wanted < 1e9 else math.inf
            if count > 1e18:
                raise ValueError(f"relative_error: expected a number that 1e18 draws reach, got {wanted:g}")
            counts.append(max(1, math.ceil(count)))
        return tuple(counts)

    def __repr__(self) -> str:
        bounds = "" if self.score_bound is None else ", with bounds"
        return f"DiagonalVariance(P={len(self.diagonal)}, T={self.num_samples}{bounds})"


def diagonal_variance(
    net: Network,
    X: Any,
    likelihood: str | Likelihood = "gaussian",
    *,
    bounds: bool = False,
    executor: Executor | None = None,
    progress: Progress = None,
) -> DiagonalVariance:
    r"""Return the exact variances of the random estimators of the diagonal, for every parameter.

    Nothing is drawn: fourth moments of the output law are taken exactly,

    .. math:: \mathrm{Var}(\hat I_1) = \frac{1}{T^2} \sum_t a_j^4\, \mathrm{Var}_y[(b_i \cdot s)^2], \qquad
        \mathrm{Var}(\hat I_2) = \frac{1}{T^2} \sum_t a_j^4\, \tilde D_i^\top I \tilde D_i

    for one target per input, the inputs given (Soen, Sun 2024; see :mod:`fisherfield.diagonal`). For regression with
    unit noise these are :math:`2 |J|^4` and :math:`|B|^2`. In the last layer, and in all layers where activations are
    piecewise linear, :math:`\hat I_2` has no variance. The eigenvalue bounds of the papers are

    .. math:: \mathrm{Var}(\hat I_1) \le |J|^4 \lambda_{\max}(K - I \otimes I), \qquad
        |\tilde B|^2 \lambda_{\min}(I) \le \mathrm{Var}(\hat I_2) \le |\tilde B|^2 \lambda_{\max}(I)

    at each input. The cost is that of C draws of the second estimator; the bounds take O(C^3) per sample besides.

    Parameters
    ----------
    net : Network
        P parameters, C outputs.
    X : array, shape (T, M_0)
        Inputs, one a row, in the precision of the network.
    likelihood : str or Likelihood
        As of :class:`~fisherfield.Fisher`.
    bounds : bool, default False
        Also give the eigenvalue bounds.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool). No bit of the result depends on their number.
    progress : None, True or callable
        Progress over inputs: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    DiagonalVariance

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision, unknown names.
    NotImplementedError
        If a likelihood of one's own lacks ``squared_score_variance``, ``exponential_connection`` (unless it is
        ``canonical``) or, for bounds, ``squared_score_bound``.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.MLP((20, 50, 50, 3), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=0)
    >>> X = np.random.default_rng(0).standard_normal((30, 20))
    >>> found = ff.diagonal_variance(net, X, "categorical")
    >>> [layer.better for layer in found.layers()]
    ['score', 'score', 'hessian']
    >>> found.samples_for(0.1, "score")  # targets per input, for 10 % of each layer's diagonal
    (23, 8, 6)
    >>> found.samples_for(0.1, "hessian")  # that of the last layer is exact
    (777, 111, 1)
    """
    boolean(bounds, "bounds")
    metric = Fisher(net, X, likelihood=likelihood, executor=executor)
    law, T = metric.likelihood, metric.num_samples
    sweep = SecondDerivatives(net)

    def numbers(begin: int, end: int) -> _LayerNumbers:
        found: list[FloatArray] = []

        def seeds(outputs: FloatArray) -> FloatArray:
            found.append(outputs)
            return unit_seeds(len(outputs), net.num_outputs, outputs)

        layers = sweep(metric.X[begin:end], seeds, net.num_outputs, SERIAL)
        eigenvalues = _eigenvalues(law, found[0]) if bounds else None
        return [(layer.A, _moments(law, found[0], layer.B, layer.D, eigenvalues)) for layer in layers]

    powers = (2,) + (4,) * (6 if bounds else 3)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = unit_sums(
            net, T, numbers, powers, net.num_outputs, executor=executor, progress=progress, dtype=np.float64
        )
        sums[0] *= 1 / T
        sums[1:] *= 1 / T**2
        diagonal, score, hessian, squares, *bounding = sums
        # (1/T) sum I^2 - (mean I)^2, of which squares is 1/T of the first term
        inputs = np.maximum(squares - diagonal**2 / T, 0) * (T / (T - 1)) if T > 1 else np.full_like(diagonal, np.nan)
        rounded = diagonal.astype(net.dtype, copy=False)
    names = ("diagonal", "score", "hessian", "inputs", "score_bound", "hessian_bounds", "hessian_bounds")
    for name, result in zip(names, (rounded, *sums[1:]), strict=False):
        require_finite(result, f"diagonal_variance().{name}")
    return DiagonalVariance(
        diagonal=rounded,
        score=score,
        hessian=hessian,
        inputs=inputs,
        score_bound=bounding[0] if bounds else None,
        hessian_bounds=(bounding[1], bounding[2]) if bounds else None,
        num_samples=T,
        layer_slices=tuple(layer_slices(net)),
    )


def _eigenvalues(law: Likelihood, outputs: FloatArray) -> list[FloatArray]:
    """The largest one of the covariance of s s^T, the smallest and the largest of I, each (t, 1)."""
    values = (law.squared_score_bound(outputs), *law.information_bounds(outputs))
    names = ("squared_score_bound", "information_bounds", "information_bounds")
    return [checked(law, name, value, outputs[:, 0])[:, None] for name, value in zip(names, values, strict=True)]


def _moments(
    law: Likelihood, outputs: FloatArray, b: FloatArray, D: FloatArray, eigenvalues: list[FloatArray] | None
) -> list[FloatArray]:
    """What is summed over samples, each (t, M), from first and second derivatives of the outputs (C, t, M).

    In float64: variances are of the fourth order in gradients, which float32 may hold where it cannot hold those.
    """
    b, D = b.astype(np.float64, copy=False), D.astype(np.float64, copy=False)
    if not law.canonical:
        D = D + checked(law, "exponential_connection", law.exponential_connection(outputs, b), b)
    information, score, hessian = (
        checked(law, name, result, b[0])
        for name, result in (
            ("information_form", law.information_form(outputs, b)),
            ("squared_score_variance", law.squared_score_variance(outputs, b)),
            ("information_form", law.information_form(outputs, D)),
        )
    )
    moments = [information, score, hessian, information**2]
    if eigenvalues is not None:
        fourth, smallest, largest = eigenvalues
        bend = ordered_sum(D * D)
        moments += [fourth * ordered_sum(b * b) ** 2, smallest * bend, largest * bend]
    return moments
