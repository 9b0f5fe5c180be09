"""The spectrum of a wide network of one hidden layer, for as many Gaussian inputs as it takes to see all of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fisherfield import activations
from fisherfield._memory import require_memory
from fisherfield._validate import FloatArray, positive_int
from fisherfield.activations import Activation
from fisherfield.architecture import ActivationLike

from .gaussian import Moments, deviation_moments, moments, warn_unconverged

__all__ = ["SingleHiddenLayer"]

Array = npt.NDArray[np.float64]

_MEAN_TOL = 1e-10  # of the mean of an activation, relative to its root mean square
# Mean square of a rest, relative to that of phi, that rounding alone can give; and the accuracy asked of larger ones.
_NO_REST, _REST_TOL = 1e-20, 1e-9


@dataclass(frozen=True)
class SingleHiddenLayer:
    r"""The spectrum of a wide network of one hidden layer, averaged over Gaussian inputs (Pennington, Worah 2018).

    All widths are n, weights Gaussian of variance 1/n, no biases; inputs are standard normal, and their number is
    large against :math:`n^2`. With :math:`\eta = E\phi^2`, :math:`\eta' = E\phi'^2`, :math:`\zeta = (E\phi')^2` for
    unit Gaussian inputs of phi, and s, t the singular values of :math:`W_2` and :math:`W_1`, the Fisher information
    matrix of the :math:`2 n^2` weights splits into the :math:`n^2` blocks

    .. math::
        \begin{pmatrix} \zeta s_i^2 + \eta' - \zeta & \zeta s_i t_j \\
        \zeta s_i t_j & \zeta t_j^2 + \eta - \zeta \end{pmatrix},

    :math:`s^2` and :math:`t^2` of the Marchenko-Pastur law of ratio 1. Of order n eigenvalues do not follow it.

    Parameters
    ----------
    activation : str, Activation or callable
        See :func:`fisherfield.activations.get`, with :math:`E\phi = 0`: a mean m would add n outliers near
        :math:`m^2 n`. Subtract it.

    Raises
    ------
    ValueError
        If :math:`E\phi` is not 0, or phi is.

    Warns
    -----
    QuadratureWarning
        If an integral does not reach its tolerance.

    Examples
    --------
    >>> from fisherfield import theory
    >>> law = theory.SingleHiddenLayer("erf")
    >>> round(law.mean, 6), round(law.gap, 6), law.zero_mass
    (0.516985, 0.040146, 0.0)
    >>> theory.SingleHiddenLayer("linear").zero_mass
    0.5
    >>> law.eigenvalues(50).shape
    (5000,)
    """

    activation: Activation

    def __init__(self, activation: ActivationLike) -> None:
        object.__setattr__(self, "activation", activations.get(activation))
        m, phi = self._moments, self.activation
        if m.square == 0:
            raise ValueError(f"activation: expected a function that is not 0, got {phi.name}")
        if abs(m.mean) > _MEAN_TOL * math.sqrt(m.square):
            raise ValueError(
                f"activation: expected E phi(u) = 0 for u ~ N(0, 1), got {m.mean:.17g} for {phi.name}; subtract it: "
                f"activations.custom(lambda u: phi(u) - {m.mean:.17g}, kinks={phi.kinks})"
            )

    @cached_property
    def _moments(self) -> Moments:
        return moments(self.activation, 1.0)

    @property
    def eta(self) -> float:
        r""":math:`E\phi^2`."""
        return self._moments.square

    @property
    def eta_first(self) -> float:
        r""":math:`\eta' = E\phi'^2`."""
        return self._moments.square_first

    @property
    def zeta(self) -> float:
        r""":math:`(E\phi')^2`."""
        return self._moments.mean_first**2

    @cached_property
    def gap(self) -> float:
        r"""Lower end of the spectrum, :math:`\eta - \zeta \ge 0`: 0 if phi is linear."""
        slope, phi = self._moments.mean_first, self.activation
        return self._mean_square(lambda u: phi(u) - slope * u)

    @cached_property
    def _slope_variance(self) -> float:
        slope, phi = self._moments.mean_first, self.activation
        return self._mean_square(lambda u: phi.evaluate(u)[1] - slope)

    def _mean_square(self, rest: Callable[[FloatArray], FloatArray]) -> float:
        m = deviation_moments(rest, self.activation.kinks, 1.0)
        if m.square <= _NO_REST * self.eta:
            return 0.0
        warn_unconverged(m.error, m.points, _REST_TOL, f"deviation of {self.activation.name} from a line")
        return m.square

    @property
    def upper_edge(self) -> float:
        r"""Upper end of the spectrum, from :math:`s^2 = t^2 = 4`."""
        return float(self._pair(np.array(4.0), np.array(4.0))[0])

    @property
    def zero_mass(self) -> float:
        """Fraction of eigenvalues that are 0: 1/2 if phi is linear, else 0."""
        return 0.5 if self.gap == 0 else 0.0

    @property
    def mean(self) -> float:
        r"""Mean eigenvalue :math:`(\eta + \eta') / 2`."""
        return (self.eta + self.eta_first) / 2

    @property
    def variance(self) -> float:
        r"""Variance of the eigenvalues, :math:`(\eta - \eta')^2 / 4 + 2 \zeta^2`."""
        return (self.eta - self.eta_first) ** 2 / 4 + 2 * self.zeta**2

    def eigenvalues(self, n: int) -> Array:
        """Return the eigenvalues of the blocks, descending, for s^2 and t^2 at n midpoint quantiles.

        Parameters
        ----------
        n : int
            Number of quantiles; what it is for a width, but for the fluctuations.

        Returns
        -------
        ndarray, shape (2 n^2,), float64

        Raises
        ------
        ValueError, TypeError
            If n is no positive integer.
        MemoryError
            If the arrays need more memory than there is.
        """
        require_memory(80 * positive_int(n, "n") ** 2, f"eigenvalues(n={n})", "give a smaller n")
        squares = _marchenko_pastur_quantiles((np.arange(n) + 0.5) / n)
        pairs = self._pair(squares[:, np.newaxis], squares)
        ascending: Array = np.sort(np.concatenate([part.ravel() for part in pairs]))
        return ascending[::-1]

    def _pair(self, s2: Array, t2: Array) -> tuple[Array, Array]:
        """Both eigenvalues of a block; the smaller from the determinant, whose terms are all positive."""
        zeta, low, high = self.zeta, self.gap, self._slope_variance
        a, b = zeta * s2 + high, zeta * t2 + low
        larger = (a + b) / 2 + np.hypot((a - b) / 2, zeta * np.sqrt(s2 * t2))
        return larger, (high * b + zeta * s2 * low) / larger


def _marchenko_pastur_quantiles(u: Array) -> Array:
    r"""Quantiles of the Marchenko-Pastur law of ratio 1, on [0, 4].

    At :math:`x = 4 \sin^2(a / 2)` its distribution function is :math:`(a + \sin a) / \pi`.
    """
    target = math.pi * u
    angle = target / 2  # from below; the function is concave, so Newton's steps stay below
    for _ in range(100):
        step = (target - angle - np.sin(angle)) / (1 + np.cos(angle))
        angle = angle + step
        if np.abs(step).max() <= 1e-15:
            break
    result: Array = 4 * np.sin(angle / 2) ** 2
    return result
