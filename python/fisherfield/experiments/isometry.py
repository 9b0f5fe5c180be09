"""Theory beside measurement for the conditional Fisher information matrix, and the online learning rate it allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .._executor import Progress, reporter
from .._validate import (
    FloatArray,
    as_dtype,
    as_float_array,
    as_seeds,
    as_sequence,
    non_negative,
    positive_int,
    require_cpu,
)
from ..activations import Activation
from ..architecture import MLP
from ..conditional import conditional_fisher
from ..factors import backward
from ..fisher import Fisher
from ..network import Network
from ..report import Comparison, Row
from ..statistics import critical_learning_rate
from ..theory import ConditionalSpectrum, FreeLaw, conditional_spectrum, isometry_point, layered_law

__all__ = [
    "ConditionalComparison",
    "DepthLaw",
    "compare_conditional",
    "learning_rate_boundary",
    "rates_by_depth",
    "top_mass",
]

Array = npt.NDArray[np.float64]

_EQUAL = 1e-6  # relative distance from the maximum up to which eigenvalues count as equal to it
_VANISHED = 1e-6  # residuals that have shrunk so far have decayed
_PERTURBATIONS = (1e-7, 1e-2)  # below, rounding is seen in residuals that have shrunk; above, the loss is not quadratic
_MAX_DOUBLINGS = 200


# --- spectra ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConditionalComparison:
    r"""What :func:`compare_conditional` found, for S networks of C outputs.

    Attributes
    ----------
    architecture : MLP
    spectrum : ConditionalSpectrum
        The prediction, with the derivatives by the biases.
    seeds : tuple of int
        One per sampled network.
    dtype : str
        Precision of the networks.
    eigenvalues : ndarray, shape (S, C)
        Of :math:`F(x)`, one input for each network, descending; the other P - C are zero.
    batch : int or None
        Inputs T of the small batches.
    batch_eigenvalues : ndarray, shape (S, C T), or None
        Of the Fisher information matrix of a batch, 1/T inside, descending.
    """

    architecture: MLP
    spectrum: ConditionalSpectrum
    seeds: tuple[int, ...]
    dtype: str
    eigenvalues: FloatArray
    batch: int | None
    batch_eigenvalues: FloatArray | None

    def draw(self, seed: int) -> tuple[Network, FloatArray]:
        """Return the network of a seed and its inputs, (1, M_0) or (T, M_0), the first the one given.

        Parameters
        ----------
        seed : int
            One of the seeds of the comparison, or another: at least 0.

        Returns
        -------
        net : Network
        X : array, shape (1, M_0) or (T, M_0)

        Raises
        ------
        ValueError, TypeError
            For another seed.
        """
        return _draw(self.architecture, seed, self.batch or 1, self.spectrum.qhat[0], np.dtype(self.dtype))

    @property
    def top(self) -> Array:
        """Largest eigenvalue of each network, (S,)."""
        return self.eigenvalues[:, 0].astype(np.float64)

    @property
    def top_mass(self) -> Array:
        """Fraction of the C eigenvalues that equal the largest, (S,)."""
        return top_mass(self.eigenvalues)

    @property
    def mean(self) -> Array:
        """Mean of the C eigenvalues, (S,)."""
        return np.asarray(self.eigenvalues.mean(axis=1, dtype=np.float64))

    @property
    def variance(self) -> Array:
        """Variance of the C eigenvalues, (S,)."""
        return np.asarray(self.eigenvalues.var(axis=1, dtype=np.float64))

    @cached_property
    def leading_order(self) -> FreeLaw:
        """The law without the derivatives by the biases, a relative 1 / M of the whole.

        Where there are closed forms, as at an :class:`~fisherfield.IsometryPoint`, they are M times the points of the
        law of :math:`H_L`, and this is that law scaled by M.
        """
        arch, spectrum = self.architecture, self.spectrum
        if not arch.has_biases:
            return spectrum.law
        widths = arch.widths
        return layered_law(
            [width * square for width, square in zip(widths[:-1], spectrum.qhat, strict=True)],
            arch.weight_vars[1:],
            spectrum.slopes,
            ratios=[after / before for before, after in pairwise(widths[1:])],
            init=arch.init,
        )

    def comparison(self) -> Comparison:
        r"""Return the table: top and its mass, mean, variance, and the largest rate of stable online learning.

        ``theory`` is :attr:`leading_order` in the width, ``refined`` the prediction with the derivatives by the biases.
        The row of the mass is left out where no atom is predicted at the top.
        """
        theory, refined = self.leading_order, self.spectrum.law

        def row(quantity: str, symbol: str, predicted: float, exact: float, measured: Array) -> Row:
            return Row(quantity, symbol, predicted, exact, tuple(measured.tolist()))

        rows = [row("top", "lambda_max", theory.maximum, refined.maximum, self.top)]
        if _mass_at_top(theory) > 0:
            rows.append(row("top mass", "of C", _mass_at_top(theory), _mass_at_top(refined), self.top_mass))
        rates = np.array([critical_learning_rate(top) for top in self.top])
        return Comparison(
            (
                *rows,
                row("mean", "tr K / C", theory.mean, refined.mean, self.mean),
                row("variance", "tr (K - mean)^2 / C", theory.variance, refined.variance, self.variance),
                row(
                    "online rate",
                    "2 / lambda_max",
                    critical_learning_rate(theory.maximum),
                    critical_learning_rate(refined.maximum),
                    rates,
                ),
            )
        )


def top_mass(eigenvalues: FloatArray) -> Array:
    """Return the fraction of each row, descending, that equals its first entry up to 1e-6 (float32: 1e-5) of it.

    Parameters
    ----------
    eigenvalues : array, shape (S, C), float32 or float64
        Descending in each row.

    Returns
    -------
    array, shape (S,), float64
        Between 1 / C and 1.
    """
    tolerance = max(_EQUAL, 100 * float(np.finfo(eigenvalues.dtype).eps))
    return np.asarray((eigenvalues >= eigenvalues[:, :1] * (1 - tolerance)).mean(axis=1))


def _mass_at_top(law: FreeLaw) -> float:
    """Mass of the atom at the upper end, 0 if there is a band."""
    atoms = law.atoms
    return float(atoms.masses[-1]) if len(atoms.positions) and atoms.positions[-1] == law.maximum else 0.0


def compare_conditional(
    architecture: MLP,
    qhat0: float = 1.0,
    seeds: Sequence[int] = tuple(range(5)),
    *,
    batch: int | None = None,
    dtype: npt.DTypeLike = "float64",
    executor: Executor | None = None,
    progress: Progress = None,
) -> ConditionalComparison:
    r"""Compare the predicted spectrum of the conditional Fisher information matrix with those of sampled networks.

    .. math:: F(x) = J^\top J, \qquad J = \partial f(x) / \partial\theta

    Where an orthogonal network is dynamically isometric, most eigenvalues equal the largest, which grows in proportion
    to the depth (Hayase, Karakida 2021).

    Parameters
    ----------
    architecture : MLP
        The ensemble of networks, for instance ``point.architecture(500)`` of an :class:`~fisherfield.IsometryPoint`.
    qhat0 : float, default 1.0
        :math:`|x|^2 / M_0`, > 0, exactly that of every input. At an isometry point take its ``second_moment``: then
        the layers are alike.
    seeds : sequence of int
        One network each, all different: ``architecture.sample(seed)``. The inputs have a uniform direction, drawn from
        ``numpy.random.default_rng(seed)``.
    batch : int, optional
        Also measure the Fisher information matrix of T inputs, the first of them the one of the conditional matrix.
        It has C T eigenvalues.
    dtype : {"float64", "float32"}
        Precision of networks and inputs.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool).
    progress : None, True or callable
        Progress over networks: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    ConditionalComparison

    Raises
    ------
    ValueError, TypeError
        For bad numbers, and residual networks, which have no prediction.
    MemoryError
        If a dual matrix (C x C, or C T x C T) cannot fit.

    Examples
    --------
    >>> import fisherfield as ff
    >>> from fisherfield.experiments import compare_conditional
    >>> point = ff.isometry_point("hard_tanh", 5, 0.25)
    >>> found = compare_conditional(point.architecture(200), point.second_moment, seeds=range(3))
    >>> abs(found.comparison()["top mass"].relative_error) < 0.1
    True
    """
    precision, numbers = as_dtype(dtype), as_seeds(seeds)
    inputs = 1 if batch is None else positive_int(batch, "batch")
    spectrum = conditional_spectrum(architecture, qhat0)
    report, close = reporter(progress, len(numbers), "networks")
    conditional, batches = [], []
    try:
        for done, seed in enumerate(numbers, 1):
            net, X = _draw(architecture, seed, inputs, spectrum.qhat[0], precision)
            conditional.append(conditional_fisher(net, X[0], executor=executor).eigenvalues())
            if batch is not None:
                batches.append(Fisher(net, X, executor=executor).eigenvalues())
            report(done, len(numbers))
    finally:
        close()
    return ConditionalComparison(
        architecture,
        spectrum,
        numbers,
        precision.name,
        np.stack(conditional),
        None if batch is None else inputs,
        np.stack(batches) if batches else None,
    )


def _draw(architecture: MLP, seed: int, count: int, qhat0: float, dtype: np.dtype[Any]) -> tuple[Network, FloatArray]:
    """A network, and inputs of uniform directions and mean square ``qhat0``, (count, M_0)."""
    dimension = architecture.widths[0]
    X = np.random.default_rng(seed).standard_normal((count, dimension))
    X *= math.sqrt(dimension * qhat0) / np.linalg.norm(X, axis=1, keepdims=True)
    return architecture.sample(seed, dtype), X.astype(dtype, copy=False)


# --- learning rates ---------------------------------------------------------------------------------------------------


def learning_rate_boundary(
    net: Network,
    x: Any,
    *,
    steps: int = 200,
    perturbation: float = 1e-6,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> float:
    r"""Return the largest learning rate at which training on one input is stable, by training.

    Gradient descent on :math:`|f(x) - y|^2 / 2`, all weights and biases moving, from a target y close to the output: to
    first order each step multiplies the residual by :math:`I - \eta K`, K the dual of F(x), so that the boundary is
    :math:`2 / \lambda_{\max}`. It is bisected between rates at which the residual grows within the steps and at which
    it does not. From a target far away the boundary is soft: weights move to where the loss is flatter.

    Parameters
    ----------
    net : Network
        Is not changed. Copies of its weights are trained in float64, whatever its precision: the differences are tiny.
    x : array, shape (M_0,)
    steps : int, default 200
        Most of a training run. With few, smaller eigenvalues still lower the residual when the largest makes it grow,
        and the answer is too large.
    perturbation : float, default 1e-6
        :math:`|y - f(x)| / |f(x)|` (where f(x) = 0, :math:`|y|`) at the start, from 1e-7 to 1e-2.
    tolerance : float, default 1e-3
        Relative width of the bracket at the end, < 1; its geometric mean is the answer.
    seed : int, default 0
        Draws the direction of the perturbation.

    Returns
    -------
    float
        Infinite where no gradient is.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes and numbers out of range.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> from fisherfield.experiments import learning_rate_boundary
    >>> net = ff.MLP((30, 40, 20), "tanh", weight_var=1.5, bias_var=0.1).sample(seed=0)
    >>> x = np.random.default_rng(0).standard_normal(30)
    >>> boundary = learning_rate_boundary(net, x, tolerance=0.01)
    >>> bool(np.isclose(boundary, ff.conditional_fisher(net, x).critical_learning_rate(), rtol=0.01))
    True
    """
    count = positive_int(steps, "steps", minimum=2)
    size, width = (
        non_negative(value, name, strict=True)
        for value, name in ((perturbation, "perturbation"), (tolerance, "tolerance"))
    )
    if width >= 1:
        raise ValueError(f"tolerance: expected a number < 1, got {width:g}")
    if not _PERTURBATIONS[0] <= size <= _PERTURBATIONS[1]:
        raise ValueError("perturbation: expected {:g} to {:g}, got {:g}".format(*_PERTURBATIONS, size))
    fisher = conditional_fisher(net, as_float_array(x, "x", ndim=1))
    require_cpu(fisher.X, "net", "runs of training work")
    mean = float(fisher.mean)
    if mean <= 0:
        return math.inf
    x = fisher.X.astype(np.float64)
    output = _copy(net)(x)[0]
    noise = np.random.default_rng(positive_int(seed, "seed", minimum=0)).standard_normal(len(output))
    target = output + noise * (size * (np.linalg.norm(output) or 1.0) / np.linalg.norm(noise))

    def grows(rate: float) -> bool:
        return _residual_grows(_copy(net), x, target, rate, count)

    low, high = _bracket(grows, 2 / mean)  # the largest eigenvalue is not far above the mean one
    while high > low * (1 + width):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if grows(middle) else (middle, high)
    return math.sqrt(low * high)


def _bracket(grows: Callable[[float], bool], start: float) -> tuple[float, float]:
    """Rates a factor of 2 apart, at the lower of which the residual falls."""
    rate, growing = start, grows(start)
    for _ in range(_MAX_DOUBLINGS):
        following = rate / 2 if growing else rate * 2
        if grows(following) != growing:
            return min(rate, following), max(rate, following)
        rate = following
    raise ValueError("net: expected training that is stable at some learning rate and not at another, found none")


def _copy(net: Network) -> Network:
    """The network with weights of its own, in float64."""
    return Network(
        [W.astype(np.float64) for W in net.weights],
        None if net.biases is None else [b.astype(np.float64) for b in net.biases],
        activation=net.activations[: net.depth - 1 - net.residual],
        residual=net.residual,
    )


def _residual_grows(net: Network, x: Array, target: Array, rate: float, steps: int) -> bool:
    """Whether the residual ever grows. Changes the weights of ``net``.

    The square of its norm is a sum of terms that each grow or fall by a constant factor a step: once it grows, it
    grows on.
    """
    first = before = math.inf
    for step in range(steps + 1):
        residual, layers, slopes = _forward(net, x, target)
        size = float(np.linalg.norm(residual))
        if not size <= before:  # or NaN
            return True
        first, before = size if step == 0 else first, size
        if size <= _VANISHED * first:
            return False
        _descend(net, residual, layers, slopes, rate)
    return False


def _forward(net: Network, x: Array, target: Array) -> tuple[Array, list[FloatArray], list[FloatArray]]:
    """Residual (1, C), inputs of all layers and slopes of the hidden ones, each of one row."""
    layers: list[FloatArray] = [x]
    slopes: list[FloatArray] = []
    for value, slope in net.hidden_layers(x):
        layers.append(value)
        slopes.append(slope)
    return net.affine(net.depth - 1, layers[-1]) - target, layers, slopes


def _descend(net: Network, residual: Array, layers: list[FloatArray], slopes: list[FloatArray], rate: float) -> None:
    """One step of gradient descent, in place; gradients by backpropagation through the weights before the step."""
    from scipy.linalg.blas import dger  # slow to import

    delta: FloatArray = residual[None]
    for l in range(net.depth - 1, -1, -1):
        u = delta[0, 0]
        if l > 0:
            delta = backward(delta, net.weights[l], slopes[l - 1], net.skips[l], None)
        dger(-rate, layers[l][0], u, a=net.weights[l].T, overwrite_a=1)  # in Fortran's order, hence in place
        if net.biases is not None:
            net.biases[l][:] -= rate * u


@dataclass(frozen=True)
class DepthLaw:
    r"""Critical rates of online learning by depth, times the depth L; made by :func:`rates_by_depth`.

    Attributes
    ----------
    depths : tuple of n ints
        L.
    predicted : ndarray, shape (n,)
        :math:`L \cdot 2 / \lambda_{\max}`, of the law with the derivatives by the biases.
    measured : ndarray, shape (n, S)
        The same of sampled networks, from their eigenvalues.
    limit : ndarray, shape (n,)
        :math:`2 \epsilon / (M V (e^\epsilon - 1))`, which both approach for wide and deep networks. V, which falls
        slowly with the depth, is that of each depth.
    """

    depths: tuple[int, ...]
    predicted: Array
    measured: Array
    limit: Array


def rates_by_depth(
    activation: str | Activation = "hard_tanh",
    depths: Sequence[int] = (5, 10, 20, 40),
    eps: float = 0.25,
    *,
    width: int = 300,
    seeds: Sequence[int] = tuple(range(3)),
    dtype: npt.DTypeLike = "float64",
    executor: Executor | None = None,
    progress: Progress = None,
) -> DepthLaw:
    r"""Return the critical rate of online learning times the depth, which dynamical isometry makes nearly constant.

    At the isometry points of fixed eps, where :math:`\lambda_{\max} \to M V L (e^\epsilon - 1) / \epsilon` (Hayase,
    Karakida 2021).

    Parameters
    ----------
    activation : str or Activation
        With slopes 0 and ±1, such as hard_tanh and shifted_relu.
    depths : sequence of int
        Numbers L of weight layers.
    eps : float
        See :func:`fisherfield.isometry_point`.
    width : int
        M, of all layers.
    seeds, dtype, executor
        As of :func:`compare_conditional`.
    progress : None, True or callable
        Progress over depths.

    Returns
    -------
    DepthLaw

    Raises
    ------
    ValueError, TypeError
        For depths without an isometry point, other slopes, and numbers out of range.

    Examples
    --------
    >>> from fisherfield.experiments import rates_by_depth
    >>> found = rates_by_depth(depths=(5, 10), width=100, seeds=range(2))
    >>> found.measured.shape, bool(np.allclose(found.predicted, found.limit, rtol=0.05))
    ((2, 2), True)
    """
    numbers, M = as_sequence(depths, "depths", "a sequence of integers"), positive_int(width, "width")
    points = [isometry_point(activation, positive_int(depth, "depths"), eps) for depth in numbers]
    if not points:
        raise ValueError("depths: expected at least one depth, got none")
    limit = np.array([2 * point.depth / (M * point.top_limit) for point in points])
    report, close = reporter(progress, len(points), "depths")
    predicted, measured = [], []
    try:
        for done, point in enumerate(points, 1):
            found = compare_conditional(
                point.architecture(M), point.second_moment, seeds, dtype=dtype, executor=executor
            )
            predicted.append(point.depth * found.spectrum.critical_learning_rate())
            measured.append([point.depth * critical_learning_rate(top) for top in found.top])
            report(done, len(points))
    finally:
        close()
    return DepthLaw(tuple(point.depth for point in points), np.array(predicted), np.array(measured), limit)
