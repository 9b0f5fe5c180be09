"""Gaussian moments of activation functions, with error control, and quadrature nodes."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fisherfield import activations
from fisherfield._native import kernels
from fisherfield._validate import FloatArray, non_negative, number, positive_int
from fisherfield.activations import Activation

__all__ = ["Moments", "PairMoments", "QuadratureWarning", "gauss_hermite", "moments", "pair_moments"]

DEFAULT_TOL = 1e-12
# Below this the rounding of the sums themselves would decide.
_SMALLEST_TOL = 1e-14
# Files whose lines are not the caller's: this package, and functools, which runs cached properties.
_OURS = (f"{Path(__file__).parents[1]}/", functools.__file__)


class QuadratureWarning(RuntimeWarning):
    """A Gaussian integral did not reach the tolerance; the message says what was reached."""


def check_tol(tol: float) -> float:
    """Return ``tol`` as a float in [1e-14, 0.1]."""
    value = number(tol, "tol")
    if not _SMALLEST_TOL <= value <= 0.1:
        raise ValueError(f"tol: expected a number between {_SMALLEST_TOL:g} and 0.1, got {value:g}")
    return value


def stacklevel_of_user() -> int:
    """Return the ``stacklevel``, for a function that calls this one, of the innermost frame outside the package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame, level = frame.f_back, level + 1
    return level


def warn_unconverged(error: float, points: int, tol: float, what: str) -> None:
    """Warn if the estimated relative ``error`` of ``what`` is above ``tol``."""
    if not error <= tol:
        warnings.warn(
            f"{what}: the integrals reached a relative accuracy of {error:.1e} with {points} points, "
            f"not {tol:.1e}; if the activation function has kinks, name them (kinks=), otherwise give a "
            "larger tol",
            QuadratureWarning,
            stacklevel=stacklevel_of_user(),
        )


@dataclass(frozen=True)
class Moments:
    r"""Moments of an activation function over :math:`u \sim N(0, q)`.

    Attributes
    ----------
    mean, mean_first : float
        :math:`E\phi`, :math:`E\phi'`.
    square, square_first : float
        :math:`E\phi^2`, :math:`E\phi'^2`.
    mixed, weighted : float
        :math:`E[\phi\phi' u]`, :math:`E[\phi'^2 u^2]`, which the Fisher-Rao norm needs.
    error : float
        Estimated relative error: the largest change between the last two rules. Means are relative to the
        root mean squares, ``mixed`` to its Cauchy-Schwarz bound.
    points : int
        Number of points of the last rule.
    """

    mean: float
    mean_first: float
    square: float
    square_first: float
    mixed: float
    weighted: float
    error: float
    points: int


@dataclass(frozen=True)
class PairMoments:
    r"""Moments over a Gaussian pair (u, v).

    ``value`` is :math:`E\phi(u)\phi(v)`, ``first`` is :math:`E\phi'(u)\phi'(v)`, ``error`` is the estimated
    relative error of the integrals, ``points`` their number of points; both are 0 for closed forms, and for
    hard_tanh and shifted_relu, whose fixed quadrature is accurate to rounding without an estimate.
    """

    value: float
    first: float
    error: float
    points: int


def moments(activation: Any, q: float, *, tol: float = DEFAULT_TOL) -> Moments:
    r"""Return the moments of an activation function over a centred Gaussian.

    Smooth functions are integrated by the trapezoidal rule, whose error falls exponentially with the number
    of points; functions with kinks by Gauss-Legendre rules between the kinks. The rule is refined until two
    successive answers agree to ``tol``.

    Parameters
    ----------
    activation : str, Activation or callable
        See :func:`fisherfield.activations.get`.
    q : float
        Variance, >= 0.
    tol : float, default 1e-12
        Relative tolerance, between 1e-14 and 0.1.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError, TypeError
        For an unknown activation, and numbers out of range.

    Warns
    -----
    QuadratureWarning
        If the tolerance is not reached.

    Examples
    --------
    >>> from fisherfield import theory
    >>> m = theory.moments("tanh", 3.64)
    >>> round(m.square, 10)
    0.6206008591
    """
    phi = activations.get(activation)
    result = quiet_moments(phi, non_negative(q, "q"), tol=check_tol(tol))
    warn_unconverged(result.error, result.points, tol, f"moments of {phi.name} at q = {q:g}")
    return result


def quiet_moments(phi: Activation, q: float, *, tol: float = DEFAULT_TOL) -> Moments:
    """Return the moments without a warning, for callers that judge the error themselves."""
    return Moments(*kernels.moments(phi, q, tol))


def deviation_moments(deviation: Callable[[FloatArray], FloatArray], kinks: tuple[float, ...], q: float) -> Moments:
    """Return moments of a function of u ~ N(0, q), smooth between its kinks, whose derivative is of no interest.

    Its ``square`` keeps the digits that a difference of moments loses.
    """
    return quiet_moments(Activation("deviation", kinks=kinks, functions=(deviation, np.zeros_like, np.zeros_like)), q)


def pair_moments(activation: Any, a: float, b: float, c: float, *, tol: float = DEFAULT_TOL) -> PairMoments:
    r"""Return :math:`E\phi(u)\phi(v)` and :math:`E\phi'(u)\phi'(v)` for Var u = a, Cov(u, v) = b, Var v = c.

    Closed forms for linear, relu, leaky_relu, abs, erf, sin and cos; for hard_tanh and shifted_relu a fixed
    quadrature of the single integral that Price's theorem leaves; otherwise Mehler's series in the correlation, and
    the double integral where the series is slow (next to correlation +-1).

    Parameters
    ----------
    activation : str, Activation or callable
        See :func:`fisherfield.activations.get`.
    a, b, c : float
        Covariance matrix [[a, b], [b, c]], positive semi-definite.
    tol : float, default 1e-12
        Tolerance relative to the values at full correlation, between 1e-14 and 0.1.

    Returns
    -------
    PairMoments

    Raises
    ------
    ValueError
        If the covariance matrix is not positive semi-definite.

    Warns
    -----
    QuadratureWarning
        If the tolerance is not reached.

    References
    ----------
    Karakida, Akaho, Amari 2019, Eqs. 9-12 (:math:`I_\phi` and :math:`I_{\phi'}`) for a = c.

    Examples
    --------
    >>> from fisherfield import theory
    >>> round(theory.pair_moments("relu", 1.0, 0.0, 1.0).value, 10)  # 1 / (2 pi)
    0.1591549431
    """
    phi = activations.get(activation)
    a, b, c = non_negative(a, "a"), number(b, "b"), non_negative(c, "c")
    if abs(b) > math.sqrt(a) * math.sqrt(c) * (1 + 1e-12):
        raise ValueError(
            f"b: expected |b| <= sqrt(a c) = {math.sqrt(a) * math.sqrt(c):g}, got {b:g}; "
            "[[a, b], [b, c]] is a covariance matrix"
        )
    result = PairMoments(*kernels.pair_moments(phi, a, b, c, check_tol(tol)))
    warn_unconverged(result.error, result.points, tol, f"pair moments of {phi.name}")
    return result


def gauss_hermite(n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    r"""Return the nodes (n,) and weights (n,) of the Gauss-Hermite rule for the Gaussian measure.

    :math:`\sum_i w_i g(z_i) \approx \int Du\, g(u)`, exact for polynomials of degree 2n - 1; the weights add
    to one. Stable at any order (tested to n = 1000); weights below the smallest double are zero.

    Parameters
    ----------
    n : int
        Number of nodes, 1 to 10000.

    Returns
    -------
    nodes, weights : ndarray, shape (n,), float64
        Nodes ascending.

    Raises
    ------
    ValueError, TypeError
        If n is no integer from 1 to 10000.

    Notes
    -----
    For functions with poles near the real line, tanh for one, the trapezoidal rule of :func:`moments`
    converges far faster.

    Examples
    --------
    >>> from fisherfield import theory
    >>> z, w = theory.gauss_hermite(1000)
    >>> round(float(w @ z**4), 12)
    3.0
    """
    if positive_int(n, "n") > 10000:
        raise ValueError(f"n: expected at most 10000 nodes, got {n}")
    nodes, weights = kernels.gauss_hermite(n)
    return nodes, weights
