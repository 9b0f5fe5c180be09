r"""Dynamical isometry: the point where gradients keep their size through depth, and spectra known in closed form.

With orthogonal weights and slopes :math:`\phi'` that are 0 or 1, the Fisher information of one sample is a chain of
projections in general position, whose spectrum is known (Hayase, Karakida 2021). With L weight layers of width M, the
dual per width of one sample, weights only, is

.. math::
    \frac{1}{M} J J^\top = H_L, \qquad H_1 = \hat q_0 I, \qquad
    H_{l+1} = \hat q_l I + W_{l+1} D_l H_l D_l W_{l+1}^\top, \qquad D_l = \mathrm{diag}\, \phi'(u^l),

:math:`\hat q_l = |h^l|^2 / M`. Bias parameters add 1/M to each :math:`\hat q_l`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

from fisherfield import activations
from fisherfield._validate import FloatArray, as_floats, as_sequence, non_negative, positive_int
from fisherfield.activations import Activation
from fisherfield.architecture import MLP, ActivationLike, variance_per_layer

from .gaussian import deviation_moments, moments, quiet_moments, warn_unconverged

__all__ = ["IsometryPoint", "TwoHiddenLayers", "isometry_point", "top_atom"]

Array = npt.NDArray[np.float64]

# Activations that are the identity up to their kinks and constant beyond: distance and number of the kinks.
_CLAMPS = {"hard_tanh": (1.0, 2), "shifted_relu": (0.5, 1)}
_Q_RANGE = (1e-6, 1e2)
_PER_DECADE = 8  # values of q at which the equation's sign is looked at
# Relative spread of the slopes, and relative change of it over q, that rounding alone can give.
_NO_SPREAD, _NO_CHANGE = 1e-20, 1e-9
# Relative accuracy of integrals of differences, whose own tolerance is of the terms.
_ROUNDING, _SPREAD_TOL = 1e-12, 1e-9
_SMALLEST_EPS, _LARGEST_EPS = 1e-280, 700.0


# --- the isometry point -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IsometryPoint:
    r"""Where a deep network with orthogonal weights is dynamically isometric; made by :func:`isometry_point`.

    The properties are of the law of :math:`H_L`, the dual per width of one sample (weights only; with bias parameters
    :math:`\hat q_l` is larger by 1/M), for wide networks, all layers of one width and inputs of
    :math:`|x|^2 / M_0 = V`, so that every :math:`\hat q_l = V`. Eigenvalues of the Fisher information matrix of the
    sample are M times those of :math:`H_L`, or zero.

    Attributes
    ----------
    activation : Activation
        The activation function.
    depth : int
        Number of weight layers L.
    eps : float
        Variance of the squared singular values of the input-output Jacobian, :math:`L (1/p - 1)`.
    p : float
        :math:`(E\phi'^2)^2 / E\phi'^4`; where slopes are 0 or 1, the probability of 1.
    q : float
        Variance q* of the pre-activations, the same in every layer.
    weight_var, bias_var : float
        :math:`\sigma_w^2 = 1 / E\phi'^2` and :math:`\sigma_b^2 = q^* - \sigma_w^2 V`.
    second_moment : float
        :math:`V = E\phi^2`.
    """

    activation: Activation
    depth: int
    eps: float
    p: float
    q: float
    weight_var: float
    bias_var: float
    second_moment: float

    @property
    def gain(self) -> float:
        r"""Factor :math:`\sigma_w` of the orthogonal weights."""
        return math.sqrt(self.weight_var)

    def architecture(self, width: int) -> MLP:
        """Return the ensemble of networks of L layers of this width, inputs and outputs included.

        Parameters
        ----------
        width : int
            Of every layer, >= 1.

        Returns
        -------
        MLP
            With orthogonal weights.

        Raises
        ------
        ValueError, TypeError
            If the width is no positive integer.
        """
        return MLP(
            (positive_int(width, "width"),) * (self.depth + 1),
            self.activation,
            weight_var=self.weight_var,
            bias_var=self.bias_var,
            init="orthogonal",
        )

    @cached_property
    def has_atoms(self) -> bool:
        r"""Whether every slope is 0 or ±1, so that the law of :math:`H_L` has the atoms in closed form."""
        if self.activation.name in _CLAMPS and self.activation.functions is None:
            return True
        size = np.abs(self.activation.evaluate(math.sqrt(self.q) * np.linspace(-8.03, 8.01, 2001))[1])
        return bool(np.minimum(size, np.abs(size - 1)).max() < 1e-8)

    @property
    def top(self) -> float:
        r"""Largest eigenvalue :math:`V (\sigma_w^{2L} - 1) / (\sigma_w^2 - 1)`; where ``top_mass`` is 0, a bound of it.

        Raises
        ------
        ValueError
            If slopes other than 0 and ±1 occur.
        """
        self._require_atoms("top")
        step = self.eps / self.depth  # sigma_w^2 - 1
        return self.second_moment * math.expm1(self.depth * math.log1p(step)) / step

    @property
    def top_mass(self) -> float:
        r"""Fraction of eigenvalues that equal ``top``: :math:`1 - (L - 1)(1 - p)`, or 0 if that is negative.

        Raises
        ------
        ValueError
            If slopes other than 0 and ±1 occur.
        """
        self._require_atoms("top_mass")
        return max(0.0, 1 - (self.depth - 1) * self.eps / (self.depth + self.eps))

    @property
    def top_limit(self) -> float:
        r"""What ``top`` approaches for deep networks, :math:`V L (e^\epsilon - 1) / \epsilon`.

        Raises
        ------
        ValueError
            If slopes other than 0 and ±1 occur.
        """
        self._require_atoms("top_limit")
        return self.second_moment * self.depth * math.expm1(self.eps) / self.eps

    @property
    def mean(self) -> float:
        """Mean eigenvalue V L, for any slopes."""
        return self.second_moment * self.depth

    @property
    def variance(self) -> float:
        r"""Variance of the eigenvalues, for any slopes: :math:`\frac{\epsilon}{L} V^2 \sum_{l=1}^{L-1} l^2`.

        Each layer multiplies by squared slopes that are free of what lies below: with m and v the mean and variance of
        :math:`H_l`, those of :math:`\sigma_w^2 D H_l D` are m and :math:`v + (1/p - 1) m^2`.
        """
        L = self.depth
        return self.eps / L * self.second_moment**2 * ((L - 1) * L * (2 * L - 1) / 6)

    def _require_atoms(self, name: str) -> None:
        if not self.has_atoms:
            raise ValueError(
                f"{name}: expected an activation whose slopes are 0 and ±1, got {self.activation.name}; of other "
                "slopes mean and variance have a closed form"
            )


def isometry_point(
    activation: ActivationLike, depth: int, eps: float, *, q_range: tuple[float, float] = _Q_RANGE
) -> IsometryPoint:
    r"""Return the point of dynamical isometry of a deep network with orthogonal weights.

    .. math::
        \sigma_w^2 E\phi'^2 = 1, \qquad L \left( \frac{E\phi'^4}{(E\phi'^2)^2} - 1 \right) = \epsilon, \qquad
        q^* = \sigma_w^2 E\phi^2 + \sigma_b^2, \qquad u \sim N(0, q^*).

    Squared singular values of the input-output Jacobian then have mean 1 and variance eps (Pennington, Schoenholz,
    Ganguli 2017); for slopes in {0, 1} the second equation is :math:`L (1/p - 1) = \epsilon` (Hayase, Karakida 2021).

    Parameters
    ----------
    activation : str, Activation or callable
        See :func:`fisherfield.activations.get`. Closed forms for hard_tanh and shifted_relu; for others the equation
        is solved for q*, its integrals with error control.
    depth : int
        Number of weight layers L.
    eps : float
        Variance, > 0.
    q_range : (float, float), default (1e-6, 100)
        Where q* is looked for, if there is no closed form.

    Returns
    -------
    IsometryPoint

    Raises
    ------
    ValueError
        If there is no such point, for eps out of reach or a negative :math:`\sigma_b^2`; if there are several in
        ``q_range``; or if eps does not determine q* because the spread of the slopes is the same at every q, as for
        linear, relu, leaky_relu and abs.

    Warns
    -----
    QuadratureWarning
        If an integral does not reach its tolerance.

    Examples
    --------
    >>> import fisherfield as ff
    >>> point = ff.isometry_point("hard_tanh", 100, 0.25)
    >>> round(point.q, 4), round(point.gain, 5)
    (0.1093, 1.00125)
    >>> point.architecture(400).init
    'orthogonal'
    """
    phi, depth = activations.get(activation), positive_int(depth, "depth")
    eps = non_negative(eps, "eps", strict=True)
    if not _SMALLEST_EPS <= eps <= _LARGEST_EPS:
        raise ValueError(
            f"eps: expected a number from {_SMALLEST_EPS:g} to {_LARGEST_EPS:g}, whose exponentials are float64 "
            f"numbers, got {eps:g}"
        )
    low, high = _as_range(q_range)
    if phi.name in _CLAMPS and phi.functions is None:
        q, weight_var, bias_var = _clamp_point(phi.name, depth, eps)
        second_moment = (q - bias_var) / weight_var
    else:
        q = _solve(phi, depth, eps, np.geomspace(low, high, math.ceil(_PER_DECADE * math.log10(high / low)) + 2))
        m = moments(phi, q)
        slopes = _Slopes.at(phi, q)
        warn_unconverged(slopes.error, slopes.points, _SPREAD_TOL, f"fourth moment of the slopes of {phi.name}")
        weight_var, bias_var, second_moment = 1 / m.square_first, _bias_var(phi, q), m.square
    return IsometryPoint(phi, depth, eps, 1 / (1 + eps / depth), q, weight_var, bias_var, second_moment)


def _as_range(q_range: tuple[float, float]) -> tuple[float, float]:
    ends = as_sequence(q_range, "q_range", "two numbers (low, high)")
    if len(ends) != 2:
        raise ValueError(f"q_range: expected two numbers (low, high), got {len(ends)}")
    low, high = (non_negative(end, f"q_range[{i}]", strict=True) for i, end in enumerate(ends))
    if low >= high:
        raise ValueError(f"q_range: expected low < high, got {low:g} and {high:g}")
    return low, high


def _clamp_point(name: str, depth: int, eps: float) -> tuple[float, float, float]:
    r"""Return (q, weight_var, bias_var) of the identity clamped at one or two kinks +-k.

    With :math:`x = k / \sqrt{2q}`, :math:`1 - p = \mathrm{erfc}(x)` times half the number of kinks; :math:`\sigma_b^2`
    has no difference of nearly equal terms and is positive.
    """
    kink, sides = _CLAMPS[name]
    weight_var = 1 + eps / depth
    tail = 2 / sides * (eps / depth) / weight_var  # erfc(x)
    if tail >= 1:
        raise ValueError(
            f"eps: expected less than {depth} for {name} with depth={depth}, because more than half its slopes are 1, "
            f"got {eps:g}"
        )
    x = float(special.erfcinv(tail))
    beyond = math.exp(-x * x) * (1 / (x * math.sqrt(math.pi)) - special.erfcx(x))
    return kink**2 / (2 * x * x), weight_var, float(weight_var * sides * kink**2 / 2 * beyond)


@dataclass(frozen=True)
class _Slopes:
    r"""Relative variance of the squared slopes, :math:`E\phi'^4 / (E\phi'^2)^2 - 1`."""

    spread: float
    error: float
    points: int

    @classmethod
    def at(cls, phi: Activation, q: float) -> _Slopes:
        mean = quiet_moments(phi, q).square_first
        if mean == 0:
            return cls(math.inf, 0.0, 0)

        def deviation(u: FloatArray) -> FloatArray:
            slope = phi.evaluate(u)[1]
            result: FloatArray = slope * slope / mean - 1
            return result

        m = deviation_moments(deviation, phi.kinks, q)
        return cls(m.square, m.error, m.points)


def _bias_var(phi: Activation, q: float) -> float:
    """Return sigma_b^2 at q, negative where there is none; 0 where it is 0 up to the rounding of the integrals."""
    m = quiet_moments(phi, q)
    value = q - m.square / m.square_first
    return 0.0 if abs(value) <= _ROUNDING * q else value


def _solve(phi: Activation, depth: int, eps: float, grid: Array) -> float:
    from scipy import optimize  # slow to import

    spreads = np.array([_Slopes.at(phi, q).spread for q in grid])
    largest, smallest = float(spreads.max()), float(spreads.min())
    if largest - smallest <= _NO_CHANGE * largest or largest <= _NO_SPREAD:
        fixed = 0.0 if largest <= _NO_SPREAD else depth * largest
        raise ValueError(
            f"activation: expected slopes whose spread depends on q, got {phi.name}, which has eps = {fixed:g} at "
            f"depth={depth} whatever q, so that no eps determines q; choose another activation, for instance "
            "hard_tanh or shifted_relu"
        )

    def mismatch(log_q: float) -> float:
        return _Slopes.at(phi, math.exp(log_q)).spread * depth / eps - 1

    above = spreads * depth > eps
    crossings = np.flatnonzero(above[1:] != above[:-1])
    found = [
        math.exp(optimize.brentq(mismatch, math.log(grid[i]), math.log(grid[i + 1]), xtol=1e-14, rtol=1e-14))
        for i in crossings
    ]
    points = [q for q in found if _bias_var(phi, q) >= 0]
    if len(points) == 1:
        return points[0]
    where = f"{phi.name}, depth={depth} and q_range=({grid[0]:g}, {grid[-1]:g})"
    if not found:
        raise ValueError(
            f"eps: expected {depth * smallest:.6g} to {depth * largest:.6g} for {where}, got {eps:g}; change eps, "
            "depth or q_range"
        )
    solutions = ", ".join(f"{q:.6g}" for q in points or found)
    if not points:
        raise ValueError(
            f"eps: expected one that leaves sigma_b^2 = q - sigma_w^2 E phi^2 >= 0 for {where}, got {eps:g}, with "
            f"sigma_b^2 = {', '.join(f'{_bias_var(phi, q):.3g}' for q in found)} at q = {solutions}; change eps or "
            "subtract a constant from the activation"
        )
    raise ValueError(f"q_range: expected a range with one solution for {where}, got q = {solutions}; narrow it to one")


# --- atoms and two hidden layers --------------------------------------------------------------------------------------


def top_atom(
    shifts: Sequence[float], scales: float | Sequence[float], p: float | Sequence[float]
) -> tuple[float, float]:
    r"""Return position and mass of the largest atom of :math:`H_L`, for layers that differ.

    .. math::
        \lambda_{\max} = \sum_{l=0}^{L-1} \hat q_l \prod_{k=l+1}^{L-1} \sigma_{w,k}^2, \qquad
        \text{mass } 1 - \sum_{l=1}^{L-1} (1 - p_l).

    For slopes that are 0 or ±1, :math:`\sigma_{w,k}` the scale of the orthogonal matrix that follows the k-th hidden
    layer. Exact at finite width, for measured :math:`\hat q_l` and fractions :math:`p_l` of slopes that are not 0: it
    counts the dimension of an intersection of subspaces in general position.

    Parameters
    ----------
    shifts : sequence of L floats
        :math:`\hat q_0, \dots, \hat q_{L-1}`, each >= 0.
    scales : float or sequence of L - 1 floats
        :math:`\sigma_w^2 > 0`.
    p : float or sequence of L - 1 floats
        :math:`p_1, \dots, p_{L-1}`, in [0, 1].

    Returns
    -------
    position, mass : float
        Where the formula for the mass is negative it is 0, and the position bounds the spectrum from above.

    Raises
    ------
    ValueError, TypeError
        For numbers out of range and sequences of the wrong length.

    References
    ----------
    Hayase, Karakida 2021, for the limit of equal layers.

    Examples
    --------
    >>> from fisherfield import theory
    >>> theory.top_atom([1.0, 1.0, 0.5], scales=2.0, p=[0.75, 0.875])
    (6.5, 0.625)
    """
    shifts = as_sequence(shifts, "shifts", "a sequence of L numbers")
    if not shifts:
        raise ValueError("shifts: expected at least one number, got none")
    qhat = [non_negative(shift, f"shifts[{l}]") for l, shift in enumerate(shifts)]
    gains = variance_per_layer(scales, "scales", len(qhat) - 1, strict=True)
    open_ = [_probability(value, "p") for value in variance_per_layer(p, "p", len(qhat) - 1, strict=False)]
    position, missing = qhat[0], 0.0
    for shift, gain, fraction in zip(qhat[1:], gains, open_, strict=True):
        if position > 0:  # of a zero matrix a projection takes nothing away
            missing += 1 - fraction
        position = shift + gain * position
    return position, max(0.0, 1 - missing)


def _probability(value: float, name: str) -> float:
    result = non_negative(value, name)
    if result > 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {result:g}")
    return result


@dataclass(frozen=True)
class TwoHiddenLayers:
    r"""The exact law of :math:`H_3`: two hidden layers of orthogonal weights and slopes that are 0 or ±1.

    .. math::
        H_3 = \hat q_2 I + \sigma_w^2 W_3 D_2 \left( \hat q_1 I + \sigma_w^2 \hat q_0 W_2 D_1 W_2^\top \right)
        D_2 W_3^\top, \qquad \lambda = \hat q_2 + \sigma_w^2 (\hat q_1 + \sigma_w^2 \hat q_0\, x),

    W orthogonal, D projections on fractions p1 and p2 of the coordinates. On the range of the second projection x has
    the law of the free product of the two, with :math:`c = p_1 + p_2 - 2 p_1 p_2` and
    :math:`d = 2 \sqrt{p_1 p_2 (1 - p_1)(1 - p_2)}` the density
    :math:`\sqrt{(x - c + d)(c + d - x)} / (2 \pi x (1 - x))` and atoms at 0 and 1; the rest are eigenvalues
    :math:`\hat q_2` (Hayase, Karakida 2021).

    Parameters
    ----------
    p1, p2 : float
        Fractions of slopes that are not 0, in [0, 1].
    shifts : sequence of three floats
        :math:`\hat q_0, \hat q_1, \hat q_2`, each >= 0.
    scale : float
        :math:`\sigma_w^2 > 0`.

    Raises
    ------
    ValueError, TypeError
        For numbers out of range, and another number of shifts.

    Examples
    --------
    >>> from fisherfield import theory
    >>> law = theory.TwoHiddenLayers(0.75, 0.75, shifts=(1.0, 1.0, 0.5), scale=2.0)
    >>> positions, masses = law.atoms
    >>> positions.tolist(), masses.tolist()
    ([0.5, 6.5], [0.25, 0.5])
    >>> law.support
    (2.5, 5.5)
    >>> law.cdf(np.array([0.4, 0.5, 6.4, 6.5])).round(12).tolist()
    [0.0, 0.25, 0.5, 1.0]
    """

    p1: float
    p2: float
    shifts: tuple[float, float, float]
    scale: float

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "p1", _probability(self.p1, "p1"))
        set_field(self, "p2", _probability(self.p2, "p2"))
        shifts = as_sequence(self.shifts, "shifts", "three numbers")
        if len(shifts) != 3:
            raise ValueError(f"shifts: expected three numbers, got {len(shifts)}")
        set_field(self, "shifts", tuple(non_negative(shift, f"shifts[{l}]") for l, shift in enumerate(shifts)))
        set_field(self, "scale", non_negative(self.scale, "scale", strict=True))

    @property
    def atoms(self) -> tuple[Array, Array]:
        """Positions, ascending, and masses of the atoms, those of mass 0 left out."""
        p1, p2 = self.p1, self.p2
        masses = [1 - p2, p2 - min(p1, p2), max(p1 - (1 - p2), 0.0)]
        positions = [self.shifts[2], self._place(0.0), self._place(1.0)]
        if self.shifts[0] == 0:  # x does not matter
            masses[1:] = [p2, 0.0]
        values, where = np.unique(positions, return_inverse=True)
        total: Array = np.bincount(where, weights=masses).astype(np.float64)
        return values[total > 0], total[total > 0]

    @property
    def support(self) -> tuple[float, float] | None:
        """Ends of the continuous part, or None if the law is all atoms."""
        if not self._is_continuous:
            return None
        low, high = self._edges
        return self._place(low), self._place(high)

    def density(self, x: npt.ArrayLike) -> Array:
        """Return the density of the continuous part; 0 outside the support.

        Parameters
        ----------
        x : array_like of float, any shape

        Returns
        -------
        ndarray of the shape of x, float64
            Infinite at an edge where the free product's is 0 or 1: there the density diverges.

        Raises
        ------
        TypeError
            For an array of another dtype than float32 or float64.
        """
        points = as_floats(x, "x").astype(np.float64)
        if not self._is_continuous:
            return np.zeros(points.shape)
        low, high = self._edges
        y = self._standard(points)
        inside = (y >= low) & (y <= high)
        y = np.where(inside, y, (low + high) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):  # 0/0 at an edge 0 or 1, where it grows as a square root
            value = np.sqrt((y - low) * (high - y)) / (2 * math.pi * y * (1 - y))
        value = np.where(np.isnan(value), np.inf, value) / (self.scale**2 * self.shifts[0])
        result: Array = np.where(inside, value, 0.0)
        return result

    def cdf(self, x: npt.ArrayLike) -> Array:
        r"""Return the fraction of eigenvalues up to ``x``, atoms at ``x`` included.

        The continuous part in closed form, with :math:`t = 2 \arctan \sqrt{(x - c + d) / (c + d - x)}`,

        .. math::
            \frac{1}{2\pi} \left[ t - 2 |p_1 - p_2| \arctan\left(\sqrt{b/a} \tan\tfrac{t}{2}\right)
            - 2 |1 - p_1 - p_2| \arctan\left(\sqrt{(1 - b)/(1 - a)} \tan\tfrac{t}{2}\right) \right],

        a = c - d, b = c + d.

        Parameters
        ----------
        x : array_like of float, any shape

        Returns
        -------
        ndarray of the shape of x, float64

        Raises
        ------
        TypeError
            For an array of another dtype than float32 or float64.
        """
        points = as_floats(x, "x").astype(np.float64)
        positions, masses = self.atoms
        total: Array = (points[..., np.newaxis] >= positions) @ masses
        if self._is_continuous:
            low, high = self._edges
            y = np.clip(self._standard(points), low, high)
            near, far = np.sqrt(y - low), np.sqrt(high - y)  # their ratio is tan(t / 2)
            angles = np.arctan2(near, far)
            for weight, numerator, denominator in (
                (abs(self.p1 - self.p2), high, low),
                (abs(self.p1 - (1 - self.p2)), self._complements[1], self._complements[0]),
            ):
                angles -= weight * np.arctan2(math.sqrt(numerator) * near, math.sqrt(denominator) * far)
            total = total + angles / math.pi
        return total

    @property
    def _is_continuous(self) -> bool:
        return self.shifts[0] > 0 and 0 < self.p1 < 1 and 0 < self.p2 < 1

    @property
    def _edges(self) -> tuple[float, float]:
        """Ends a = c - d and b = c + d as squares: no nearly equal terms are subtracted."""
        high = (math.sqrt(self.p1 * (1 - self.p2)) + math.sqrt(self.p2 * (1 - self.p1))) ** 2
        return (self.p1 - self.p2) ** 2 / high, high

    @property
    def _complements(self) -> tuple[float, float]:
        """1 - a and 1 - b, likewise."""
        largest = (math.sqrt(self.p1 * self.p2) + math.sqrt((1 - self.p1) * (1 - self.p2))) ** 2
        return largest, (self.p1 - (1 - self.p2)) ** 2 / largest

    def _place(self, x: float) -> float:
        first, second, third = self.shifts
        return third + self.scale * (second + self.scale * first * x)

    def _standard(self, points: Array) -> Array:
        result: Array = (points - self._place(0.0)) / (self.scale**2 * self.shifts[0])
        return result
