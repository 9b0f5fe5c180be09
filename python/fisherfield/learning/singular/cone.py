r"""The cone model, whose Fisher information is degenerate at its apex.

.. math:: x \sim N(\xi\, a(\omega), I_{d+2}), \qquad a(\omega) = (1, c\, \omega) / \sqrt{1 + c^2}, \qquad \omega \in S^d

(Amari, Park, Ozeki 2006). Positive and negative :math:`\xi` give the two nappes. At the apex :math:`\xi = 0` the
direction :math:`\omega` does not matter, so that the usual asymptotics of estimation and learning fail there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._memory import require_memory
from ..._validate import (
    FloatArray,
    as_floats,
    as_generator,
    as_sequence,
    choice,
    non_negative,
    number,
    positive_int,
    same_dtype,
)

__all__ = [
    "METHODS",
    "ConeErrors",
    "ConeEstimate",
    "ConeFlow",
    "ConeModel",
    "GeneralizationTable",
    "generalization_table",
]

METHODS = ("standard", "natural")

_APEX = 1e-9  # of the target's xi: closer to the apex the natural flow ends
_REST = 1e-8  # of the same: slower than that a flow is at rest
_LARGEST = 1e100  # of coordinates, so that squares do not overflow

Point = Sequence[float]


# --- results ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ConeEstimate:
    """Maximum-likelihood estimates.

    Attributes
    ----------
    xi : array, shape (...)
        Signed: negative on the lower nappe.
    omega : array, shape (..., d + 1)
        Unit vectors.
    """

    xi: FloatArray
    omega: FloatArray


@dataclass(frozen=True)
class ConeErrors:
    r"""Errors of the maximum-likelihood estimate by simulation, times n, with their standard errors.

    Attributes
    ----------
    generalization, training : float
        As of :meth:`ConeModel.generalization_error` and :meth:`ConeModel.training_error`.
    generalization_deviation, training_deviation : float
        Standard errors of the two means.
    xi : float
        The true :math:`\sqrt n\, \xi_0`.
    draws : int
    """

    generalization: float
    training: float
    generalization_deviation: float
    training_deviation: float
    xi: float
    draws: int


@dataclass(frozen=True, eq=False)
class GeneralizationTable:
    """Exact n E_gen at the apex beside what a regular model of the same dimension has.

    Attributes
    ----------
    cs : tuple of float
    ds : tuple of int
    singular : array, shape (len(cs), len(ds))
        Of :meth:`ConeModel.generalization_error`.
    regular : array, shape (len(ds),)
        ``(d + 1) / 2``.
    """

    cs: tuple[float, ...]
    ds: tuple[int, ...]
    singular: FloatArray
    regular: FloatArray


@dataclass(frozen=True, eq=False)
class ConeFlow:
    """The path of an averaged gradient flow.

    Attributes
    ----------
    times, xi, theta, divergence : array, shape (n,)
        At the steps of the integrator; ``divergence`` is the Kullback-Leibler divergence to the target.
    method : {"standard", "natural"}
    status : {"target", "apex", "stationary", "time"}
        Why it ends: it reached the target, it ran into the apex where the natural gradient does not exist, it came to
        rest somewhere else (its speed fell below 1e-8 of the target's ``xi``), or the time was up.
    """

    times: FloatArray
    xi: FloatArray
    theta: FloatArray
    divergence: FloatArray
    method: str
    status: str

    @property
    def reached(self) -> bool:
        """Whether it came as close to the target as asked."""
        return self.status == "target"

    @property
    def time(self) -> float:
        """When it ended."""
        return float(self.times[-1])

    def __repr__(self) -> str:
        return (
            f"ConeFlow({self.method!r}, status={self.status!r}, time={self.time:.4g}, xi={self.xi[-1]:.4g}, "
            f"theta={self.theta[-1]:.4g})"
        )


# --- the model ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConeModel:
    r"""The cone :math:`x \sim N(\xi\, a(\omega), I_{d+2})`, :math:`a(\omega) = (1, c\, \omega) / \sqrt{1 + c^2}`.

    Attributes
    ----------
    c : float > 0
        Opening: tangent of the angle between the axis and the cone.
    d : int >= 1
        Dimension of the sphere of directions; the model has d + 1 parameters.

    Raises
    ------
    ValueError, TypeError
        If one of them is not in its range.

    Examples
    --------
    >>> from fisherfield.learning.singular import ConeModel
    >>> model = ConeModel(c=1.5, d=3)
    >>> round(model.generalization_error(), 4), model.regular_error()
    (2.2308, 2.0)
    >>> model.flow((0.02, 1.8), (1.0, 0.0), "standard")
    ConeFlow('standard', status='target', time=11.92, xi=0.9974, theta=0.01674)
    >>> model.flow((0.02, 1.8), (1.0, 0.0), "natural")
    ConeFlow('natural', status='target', time=4.259, xi=0.9859, theta=0.0003741)
    """

    c: float
    d: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", non_negative(self.c, "c", strict=True))
        object.__setattr__(self, "d", positive_int(self.d, "d"))

    @property
    def _share(self) -> float:
        """``c^2 / (1 + c^2)``: the squared sine of the angle between the axis and the cone."""
        return 1 - 1 / (1 + self.c * self.c)

    def mean(self, xi: npt.ArrayLike, omega: Any) -> FloatArray:
        r"""Return the mean :math:`\xi\, a(\omega)`.

        Parameters
        ----------
        xi : array_like, shape (...)
        omega : array, shape (..., d + 1)
            Unit vectors, of the dtype of ``xi``.

        Returns
        -------
        array, shape (..., d + 2)
            In the precision of ``xi``.

        Raises
        ------
        ValueError, TypeError
            For other shapes, mixed precision, vectors that are not of length one within rounding.
        """
        sizes, directions = _finite(xi, "xi"), _finite(omega, "omega")
        same_dtype([("xi", sizes), ("omega", directions)])
        if directions.shape != (*sizes.shape, self.d + 1):
            raise ValueError(
                f"omega: expected shape {(*sizes.shape, self.d + 1)} to go with xi, got {directions.shape}"
            )
        lengths = np.linalg.norm(directions, axis=-1)
        if not np.allclose(lengths, 1, rtol=0, atol=64 * (self.d + 1) * np.finfo(directions.dtype).eps):
            raise ValueError("omega: expected vectors of length 1, got others; divide them by their norm")
        along = np.ones((*sizes.shape, 1), sizes.dtype)
        return np.asarray(
            sizes[..., None] * np.concatenate([along, self.c * directions], axis=-1) / math.hypot(1, self.c)
        )

    # --- metric ---

    def fisher(self, xi: float) -> FloatArray:
        r"""Return the Fisher information in :math:`\xi` and d orthonormal angles at :math:`\omega`.

        It is diagonal with entries 1 and, d times, :math:`\xi^2 c^2 / (1 + c^2)`. The angles are geodesic (normal)
        coordinates of the sphere; for d = 1 there is one, the polar angle.

        Parameters
        ----------
        xi : float
            Distance from the apex, of either sign.

        Returns
        -------
        array, shape (d + 1, d + 1), float64

        Raises
        ------
        ValueError, TypeError
            If ``xi`` is no finite number.

        Examples
        --------
        >>> from fisherfield.learning.singular import ConeModel
        >>> ConeModel(c=1.0, d=1).fisher(0.2)
        array([[1.  , 0.  ],
               [0.  , 0.02]])
        """
        return np.diag([1.0, *[self._angular(xi)] * self.d])

    def determinant(self, xi: float) -> float:
        """Return the determinant of :meth:`fisher`; it vanishes like ``xi**(2 * d)``.

        Parameters
        ----------
        xi : float
            Distance from the apex, of either sign.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            If ``xi`` is no finite number.
        """
        return math.prod([self._angular(xi)] * self.d)

    def smallest_eigenvalue(self, xi: float) -> float:
        """Return the smallest eigenvalue of :meth:`fisher`; it vanishes like ``xi**2``.

        Parameters
        ----------
        xi : float
            Distance from the apex, of either sign.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            If ``xi`` is no finite number.
        """
        return min(1.0, self._angular(xi))

    def _angular(self, xi: float) -> float:
        """The Fisher information of an angle."""
        size = number(xi, "xi")
        return size * size * self._share

    # --- estimation ---

    def maximum_likelihood(self, x_mean: Any) -> ConeEstimate:
        r"""Return the maximum-likelihood estimates from means of samples, one for every row.

        With :math:`y = (y_1, y')` the mean of the samples,

        .. math:: \hat\xi = \mathrm{sign}(y_1) \frac{|y_1| + c |y'|}{\sqrt{1 + c^2}}, \qquad
            \hat\omega = \mathrm{sign}(y_1) \frac{y'}{|y'|}.

        The sign picks the nappe on the side of :math:`y_1`. Where :math:`y_1 = 0` both nappes are equally likely, and
        the upper one is returned; where :math:`y' = 0` all directions are, and the first unit vector is.

        Parameters
        ----------
        x_mean : array, shape (..., d + 2)

        Returns
        -------
        ConeEstimate
            In the precision of ``x_mean``.

        Raises
        ------
        ValueError, TypeError
            For wrong shapes or dtypes, NaN or infinity.

        Examples
        --------
        >>> import numpy as np
        >>> from fisherfield.learning.singular import ConeModel
        >>> found = ConeModel(c=1.0, d=1).maximum_likelihood(np.array([-1.0, 3.0, 4.0]))
        >>> found.xi.round(4).item(), found.omega.tolist()
        (-4.2426, [-0.6, -0.8])
        """
        y = _finite(x_mean, "x_mean")
        if y.ndim == 0 or y.shape[-1] != self.d + 2:
            raise ValueError(f"x_mean: expected shape (..., {self.d + 2}), got {y.shape}")
        first, others = y[..., 0], y[..., 1:]
        length = np.linalg.norm(others, axis=-1)
        side = np.where(first < 0, -1, 1).astype(y.dtype)
        omega = np.divide(others, length[..., None], out=np.zeros_like(others), where=length[..., None] > 0)
        omega[..., 0] += length == 0
        xi = side * (np.abs(first) + self.c * length) / math.hypot(1, self.c)
        return ConeEstimate(xi=np.asarray(xi), omega=side[..., None] * omega)

    def generalization_error(self) -> float:
        r"""Return n times the expected divergence from the truth at the apex to the estimate, exactly.

        .. math:: n E_{\mathrm{gen}} = \frac{1}{2 (1 + c^2)} \Bigl( 1 + 2 c \sqrt{\tfrac{2}{\pi}}\,
            \sqrt 2\, \frac{\Gamma((d+2)/2)}{\Gamma((d+1)/2)} + c^2 (d + 1) \Bigr),

        half the mean of :math:`n \hat\xi^2` at :math:`\xi_0 = 0`, for every n. Information criteria take
        :meth:`regular_error` in its place.

        Returns
        -------
        float
        """
        radius = math.sqrt(2) * math.exp(math.lgamma((self.d + 2) / 2) - math.lgamma((self.d + 1) / 2))
        square = 1 + 2 * self.c * math.sqrt(2 / math.pi) * radius + self.c**2 * (self.d + 1)
        return square / (2 * (1 + self.c**2))

    def training_error(self) -> float:
        """Return n times the expected excess of the training loss, -log-likelihood per sample, over that of the truth.

        It is the negative of :meth:`generalization_error`, as in regular models.

        Returns
        -------
        float
        """
        return -self.generalization_error()

    def regular_error(self) -> float:
        """Return ``(d + 1) / 2``, n E_gen of a regular model with as many parameters.

        Returns
        -------
        float
        """
        return (self.d + 1) / 2

    def simulate(
        self, draws: int = 100_000, *, xi: float = 0.0, seed: int | np.random.Generator | None = None
    ) -> ConeErrors:
        r"""Estimate n E_gen and n E_train from draws of the mean of n samples.

        Away from the apex, at :math:`\sqrt n\, |\xi_0| \gg 1`, they tend to those of a regular model.

        Parameters
        ----------
        draws : int, default 100000
            At least 2; standard errors fall like ``1/sqrt(draws)``.
        xi : float, default 0
            The true :math:`\sqrt n\, \xi_0`.
        seed : int, numpy.random.Generator or None

        Returns
        -------
        ConeErrors

        Raises
        ------
        ValueError, TypeError
            For fewer than two draws, and ``xi`` that is no finite number.
        MemoryError
            If the draws cannot fit.

        Examples
        --------
        >>> from fisherfield.learning.singular import ConeModel
        >>> found = ConeModel(c=1.5, d=3).simulate(seed=0)
        >>> bool(abs(found.generalization - 2.2308) < 4 * found.generalization_deviation)
        True
        """
        size = positive_int(draws, "draws", minimum=2)
        truth = self.mean(number(xi, "xi"), np.eye(self.d + 1)[0])
        require_memory(8 * 8 * size * (self.d + 2), f"{size} draws", "draw fewer, and average several estimates")
        x = truth + as_generator(seed, stream="cone").standard_normal((size, self.d + 2))
        found = self.maximum_likelihood(x)
        fitted = self.mean(found.xi, found.omega)
        generalization = ((fitted - truth) ** 2).sum(axis=1) / 2
        training = (((x - fitted) ** 2).sum(axis=1) - ((x - truth) ** 2).sum(axis=1)) / 2
        return ConeErrors(
            generalization=float(generalization.mean()),
            training=float(training.mean()),
            generalization_deviation=float(generalization.std(ddof=1)) / math.sqrt(size),
            training_deviation=float(training.std(ddof=1)) / math.sqrt(size),
            xi=float(xi),
            draws=size,
        )

    # --- learning ---

    def divergence(self, xi: npt.ArrayLike, theta: npt.ArrayLike, target: Point) -> FloatArray:
        r"""Return the Kullback-Leibler divergence between two points of the cone, half the squared distance of means.

        Points are given by :math:`\xi` and an angle along a great circle of directions: by symmetry a gradient flow
        stays on the one through its start and its target.

        Parameters
        ----------
        xi, theta : array_like
            Points, broadcast against each other.
        target : (float, float)
            :math:`(\xi_0, \theta_0)`.

        Returns
        -------
        array, of the shape that ``xi`` and ``theta`` broadcast to

        Raises
        ------
        ValueError, TypeError
            For shapes that do not go together, mixed precision, NaN or infinity, and a target that is no pair of
            numbers.
        """
        size, angle = _points(xi, theta)
        goal, zero = _point(target, "target")
        return np.asarray(self._divergence(size, angle, goal, zero))

    def velocity(
        self, xi: npt.ArrayLike, theta: npt.ArrayLike, target: Point, method: str = "standard"
    ) -> tuple[FloatArray, FloatArray]:
        r"""Return the velocities of :math:`(\xi, \theta)` in the averaged gradient flow to a target.

        .. math:: \dot\xi = -\xi + \xi_0 \frac{1 + c^2 \cos(\theta - \theta_0)}{1 + c^2}, \qquad
            \dot\theta = -\xi\, \xi_0 \frac{c^2}{1 + c^2} \sin(\theta - \theta_0)
            \quad\text{or}\quad -\frac{\xi_0}{\xi} \sin(\theta - \theta_0),

        with the ordinary or with the natural gradient of the divergence. Near the apex the first freezes the angle, the
        second turns it at a rate that diverges.

        Parameters
        ----------
        xi, theta : array_like
            Points, broadcast against each other.
        target : (float, float)
            :math:`(\xi_0, \theta_0)`.
        method : {"standard", "natural"}

        Returns
        -------
        xi, theta : array
            Derivatives by time, of the shape that ``xi`` and ``theta`` broadcast to.

        Raises
        ------
        ValueError
            With ``"natural"`` if a point lies at the apex, where the inverse of the metric does not exist.
        """
        size, angle = _points(xi, theta)
        goal, zero = _point(target, "target")
        if choice(method, "method", METHODS) == "natural" and not size.all():
            raise ValueError("xi: expected none at the apex, where the natural gradient does not exist, got 0")
        return self._velocity(size, angle - zero, goal, method)

    def _divergence(self, xi: Any, theta: Any, goal: float, zero: float) -> Any:
        # (xi - goal)^2 / 2 where angles agree, without cancellation at small distances
        return (xi - goal) ** 2 / 2 + 2 * xi * goal * self._share * np.sin((theta - zero) / 2) ** 2

    def _velocity(self, xi: Any, angle: Any, goal: float, method: str) -> tuple[Any, Any]:
        turn = xi * self._share if method == "standard" else 1 / xi
        outward = goal * (1 - 2 * self._share * np.sin(angle / 2) ** 2) - xi
        return outward, -goal * turn * np.sin(angle)

    def flow(
        self,
        start: Point,
        target: Point,
        method: str = "standard",
        *,
        until_divergence: float = 1e-4,
        max_time: float = 200.0,
    ) -> ConeFlow:
        r"""Follow the averaged gradient flow of :meth:`velocity` from ``start`` towards ``target``.

        The nappe without the target has a trap: for c > 1 the point :math:`\xi = \xi_0 (1 - c^2) / (1 + c^2)` opposite
        to the target is a local minimum of the divergence. A standard flow may cross the apex and end there. The
        natural flow cannot cross it: :math:`\dot\theta` is infinite there. On the target's nappe it turns before it
        comes there, unless it starts exactly opposite; on the other one it ends in the trap or in the apex. It is
        stopped where :math:`|\xi|` is 1e-9 of :math:`|\xi_0|`, and says so in ``status``.

        Parameters
        ----------
        start, target : (float, float)
            :math:`(\xi, \theta)`.
        method : {"standard", "natural"}
        until_divergence : float > 0
            Divergence at which the target counts as reached.
        max_time : float > 0

        Returns
        -------
        ConeFlow

        Raises
        ------
        ValueError, TypeError
            For anything else.

        Examples
        --------
        >>> from fisherfield.learning.singular import ConeModel
        >>> ConeModel(c=1.5, d=1).flow((0.02, 3.1), (1.0, 0.0), "standard")
        ConeFlow('standard', status='stationary', time=53.33, xi=-0.3846, theta=3.142)
        """
        origin, (goal, zero) = _point(start, "start"), _point(target, "target")
        choice(method, "method", METHODS)
        close = non_negative(until_divergence, "until_divergence", strict=True)
        limit = non_negative(max_time, "max_time", strict=True)
        scale, side = abs(goal), math.copysign(1.0, origin[0])
        rest = min(_REST * scale, close / 10)  # a flow that is to arrive is faster than close

        def rate(_: float, y: Any) -> tuple[Any, Any]:
            return self._velocity(y[0], y[1] - zero, goal, method)

        def arrival(_: float, y: Any) -> float:
            return float(self._divergence(y[0], y[1], goal, zero)) - close

        def apex(_: float, y: Any) -> float:
            return float(side * y[0]) - _APEX * scale

        def stop(_: float, y: Any) -> float:
            return math.hypot(*rate(0.0, y)) - rest

        events: dict[str, Any] = {"target": arrival, "apex": apex, "stationary": stop}
        if method == "standard":
            del events["apex"]
        ended = next((status for status, event in events.items() if event(0.0, origin) <= 0), None)
        times: FloatArray = np.zeros(1)
        path: FloatArray = np.array(origin)[:, None]
        if ended is None:
            times, path, ended = _integrate(rate, limit, origin, events)
        return ConeFlow(times, path[0], path[1], self._divergence(path[0], path[1], goal, zero), method, ended)


def _integrate(rate: Any, limit: float, origin: Point, events: dict[str, Any]) -> tuple[FloatArray, FloatArray, str]:
    """Times, points and the event that ended the flow, ``"time"`` if none did."""
    from scipy.integrate import solve_ivp

    for event in events.values():
        event.terminal = True
    found = solve_ivp(rate, (0, limit), origin, method="LSODA", events=list(events.values()), rtol=1e-10, atol=1e-13)
    if not found.success:
        raise RuntimeError(f"flow(): the integrator stopped at time {found.t[-1]:g}: {found.message}")
    hit = (status for status, when in zip(events, found.t_events, strict=True) if len(when))
    return found.t, found.y, next(hit, "time")


def _finite(value: Any, name: str) -> FloatArray:
    """``value`` as a finite float32 or float64 array of any shape."""
    try:
        array = as_floats(value, name)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array, got rows of different lengths") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return array


def _point(value: Any, name: str) -> tuple[float, float]:
    listed = as_sequence(value, name, "a pair (xi, theta)")
    if len(listed) != 2:
        raise ValueError(f"{name}: expected a pair (xi, theta), got {len(listed)} numbers")
    xi, theta = (number(value, f"{name}[{i}]") for i, value in enumerate(listed))
    if abs(xi) > _LARGEST:
        raise ValueError(f"{name}[0]: expected a number between -{_LARGEST:g} and {_LARGEST:g}, got {xi:g}")
    return xi, theta


def _points(xi: Any, theta: Any) -> tuple[FloatArray, FloatArray]:
    sizes, angles = _finite(xi, "xi"), _finite(theta, "theta")
    same_dtype([("xi", sizes), ("theta", angles)])
    try:
        np.broadcast_shapes(sizes.shape, angles.shape)
    except ValueError as error:
        raise ValueError(f"theta: expected a shape that goes with {sizes.shape} of xi, got {angles.shape}") from error
    return sizes, angles


def generalization_table(cs: Sequence[float], ds: Sequence[int]) -> GeneralizationTable:
    """Return the exact n E_gen at the apex for every c and d.

    Parameters
    ----------
    cs : sequence of float > 0
    ds : sequence of int >= 1

    Returns
    -------
    GeneralizationTable

    Raises
    ------
    ValueError, TypeError
        If one is empty or an entry is out of range.

    Examples
    --------
    >>> from fisherfield.learning.singular import generalization_table
    >>> generalization_table([0.5, 1.5], [1, 3]).singular.round(3)
    array([[1.   , 1.4  ],
           [1.308, 2.231]])
    """
    rows = as_sequence(cs, "cs", "a sequence of numbers > 0")
    columns = as_sequence(ds, "ds", "a sequence of integers >= 1")
    for name, listed in (("cs", rows), ("ds", columns)):
        if len(listed) == 0:
            raise ValueError(f"{name}: expected at least one entry, got none")
    models = [[ConeModel(c, d) for d in columns] for c in rows]
    return GeneralizationTable(
        cs=tuple(row[0].c for row in models),
        ds=tuple(model.d for model in models[0]),
        singular=np.array([[model.generalization_error() for model in row] for row in models]),
        regular=np.array([model.regular_error() for model in models[0]]),
    )
