r"""Two hidden units that may overlap or vanish: the singularities of multilayer perceptrons in their smallest case.

.. math:: f(x) = v_1 \phi(w_1 \cdot x) + v_2 \phi(w_2 \cdot x), \qquad y \sim N(f(x), 1), \qquad x \sim N(0, I_d)

(Amari, Park, Ozeki 2006). Where the units overlap, :math:`w_1 = w_2`, only the sum of the v matters; where one is
eliminated, :math:`v_i = 0`, its w does not. There the Fisher information matrix is singular, and gradient descent that
passes by rests on a plateau. Expectations over x are sums over a grid, so that nothing is drawn.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._validate import (
    FloatArray,
    as_float_array,
    choice,
    non_negative,
    number,
    positive_int,
    same_dtype,
)
from ...activations import Activation, get
from ...architecture import ActivationLike
from ...network import Network
from .cone import METHODS

__all__ = ["SINGULARITIES", "Approach", "Overlap", "SingleUnit", "TwoUnits", "UnitFlow", "slow_manifold"]

SINGULARITIES = ("overlap", "elimination")

_REACH = 9.0  # standard deviations: beyond them the Gaussian weight is below rounding
_INACCURATE = 1e-6  # relative error of the grid above which a flow warns
_NEGLIGIBLE = 1e-18  # weight, relative to the largest, of points of the grid that are left out


# --- results ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Overlap:
    """A network of two units in the coordinates of the overlap.

    Attributes
    ----------
    u : array, shape (d,)
        ``w_1 - w_2``; zero where the units overlap.
    z : float
        ``(v_1 - v_2) / (v_1 + v_2)``; 1 or -1 where one is eliminated.
    v : float
        ``v_1 + v_2``.
    w : array, shape (d,)
        ``(v_1 w_1 + v_2 w_2) / v``.
    """

    u: FloatArray
    z: float
    v: float
    w: FloatArray


@dataclass(frozen=True, eq=False)
class SingleUnit:
    """The best approximation of a teacher by one unit ``v phi(w . x)``; ``w`` has shape (d,)."""

    v: float
    w: FloatArray
    loss: float


@dataclass(frozen=True, eq=False)
class Approach:
    r"""Eigenvalues of the Fisher information matrix on the way to a singularity.

    Attributes
    ----------
    singularity : {"overlap", "elimination"}
    distances : array, shape (n,)
        :math:`|w_1 - w_2|` or :math:`v_2`.
    eigenvalues : array, shape (n, P)
        Descending.
    exponents : array, shape (P,)
        Slopes of log eigenvalue against log distance, by least squares.
    """

    singularity: str
    distances: FloatArray
    eigenvalues: FloatArray
    exponents: FloatArray


@dataclass(frozen=True, eq=False)
class UnitFlow:
    """The path of an averaged gradient flow of a student.

    Attributes
    ----------
    times, loss, smallest_eigenvalue : array, shape (n,)
        At the steps of the integrator; the eigenvalue is that of the Fisher information matrix.
    parameters : array, shape (n, P)
    method : {"standard", "natural"}
    damping : float
        Of the natural gradient; 0 for the standard one.
    plateau : SingleUnit
        The single unit on which the plateau lies, and its loss.
    factor : float
        On the plateau the loss is within this factor of the single unit's.
    entered, left : float
        When the loss first came down to ``factor`` times and to ``1 / factor`` of the plateau's; NaN if it never did.
    reached : bool
        Whether the loss came down to what was asked.
    """

    times: FloatArray
    parameters: FloatArray
    loss: FloatArray
    smallest_eigenvalue: FloatArray
    method: str
    damping: float
    plateau: SingleUnit
    factor: float
    entered: float
    left: float
    reached: bool

    @property
    def plateau_length(self) -> float:
        """``left - entered``: the time on the plateau; NaN if one of them is."""
        return self.left - self.entered

    @property
    def time(self) -> float:
        """When it ended."""
        return float(self.times[-1])

    def __repr__(self) -> str:
        damping = f", damping={self.damping:g}" if self.method == "natural" else ""
        return (
            f"UnitFlow({self.method!r}{damping}, plateau_length={self.plateau_length:.4g}, time={self.time:.4g}, "
            f"loss={self.loss[-1]:.3g})"
        )


# --- the model ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoUnits:
    r"""Two hidden units with Gaussian inputs and unit noise, averaged over the inputs.

    Its P = 2 d + 2 parameters are in the order of :class:`~fisherfield.Network`: :math:`w_1`, :math:`w_2`, then
    :math:`v_1, v_2`. The grid is equispaced (the trapezoidal rule): it converges exponentially for smooth functions,
    faster than Gauss-Hermite for those with poles near the real line such as tanh.

    Attributes
    ----------
    activation : str, Activation or callable
        Smooth and curved: what bends the output near the overlap is the second derivative. ``"erf"`` is the plain error
        function; ``erf(w x / sqrt(2))`` is that of ``w / sqrt(2)``.
    inputs : {1, 2}
        d.
    nodes : int, default 121
        Of the grid, per axis, on 9 standard deviations to either side; see :meth:`quadrature_error`.

    Raises
    ------
    ValueError, TypeError
        For unknown names, activations that are linear or have kinks, other numbers of inputs.

    Examples
    --------
    A student that starts near the overlap of its units, and a teacher of two different ones:

    >>> from fisherfield.learning.singular import TwoUnits
    >>> model = TwoUnits("tanh", inputs=2)
    >>> teacher = model.parameters([[1.0, 0.5], [-0.3, 1.0]], [1.0, 0.8])
    >>> student = model.from_overlap(u=[0.05, 0.02], z=0.3, v=0.8, w=[0.5, 0.4])
    >>> model.flow(student, teacher, "standard")
    UnitFlow('standard', plateau_length=33.49, time=363.6, loss=1e-06)
    >>> model.flow(student, teacher, "natural", damping=1e-4)
    UnitFlow('natural', damping=0.0001, plateau_length=0.6934, time=5.987, loss=1e-06)
    """

    activation: ActivationLike = "tanh"
    inputs: int = 1
    nodes: int = 121

    def __post_init__(self) -> None:
        phi = get(self.activation)
        if phi.kinks or phi.name == "linear":
            raise ValueError(f"activation: expected a smooth and curved one, like 'tanh' or 'erf', got {phi.name!r}")
        if positive_int(self.inputs, "inputs") > 2:
            raise ValueError(f"inputs: expected 1 or 2, got {self.inputs}")
        object.__setattr__(self, "activation", phi)
        object.__setattr__(self, "inputs", int(self.inputs))
        object.__setattr__(self, "nodes", positive_int(self.nodes, "nodes", minimum=3))

    # --- parameters ---

    @property
    def num_parameters(self) -> int:
        """P = 2 d + 2."""
        return 2 * self.inputs + 2

    def parameters(self, w: Any, v: Any) -> FloatArray:
        """Return the parameters of a network from the weights of both units.

        Parameters
        ----------
        w : array_like, shape (2, d), or (2,) for one input
            Input weights, one unit a row.
        v : array_like, shape (2,)
            Output weights.

        Returns
        -------
        array, shape (P,), float64

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        shape = (2,) if self.inputs == 1 and np.ndim(w) == 1 else (2, self.inputs)
        weights = _float64(w, "w", shape)
        return np.concatenate([weights.ravel(), _float64(v, "v", (2,))])

    def from_overlap(self, u: Any, z: float, v: float, w: Any) -> FloatArray:
        """Return the parameters of a network given in the coordinates of :class:`Overlap`.

        Parameters
        ----------
        u : array_like, shape (d,), or float for one input
            Difference of the input weights.
        z, v : float
            Difference of the output weights over their sum, and the sum.
        w : array_like, shape (d,), or float for one input
            Mean of the input weights, weighted by v.

        Returns
        -------
        array, shape (P,), float64

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        gap, centre = self._vector(u, "u"), self._vector(w, "w")
        side, total = number(z, "z"), number(v, "v")
        units = (centre + (1 - side) / 2 * gap, centre - (1 + side) / 2 * gap)
        return np.concatenate([*units, [total * (1 + side) / 2, total * (1 - side) / 2]])

    def overlap(self, parameters: Any) -> Overlap:
        """Return the coordinates of the overlap.

        Parameters
        ----------
        parameters : array, shape (P,)
            Of the network, float64.

        Returns
        -------
        Overlap

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity, and where ``v_1 + v_2`` is zero: then z and w do not exist.
        """
        w, v = self._split(self._checked(parameters))
        total = v.sum()
        if total == 0:
            raise ValueError("parameters: expected v_1 + v_2 other than zero, where z and w do not exist, got 0")
        return Overlap(u=w[0] - w[1], z=float((v[0] - v[1]) / total), v=float(total), w=v @ w / total)

    def network(self, parameters: Any) -> Network:
        """Return the network of these parameters, without biases, for all that this library measures.

        Parameters
        ----------
        parameters : array, shape (P,)
            Of the network, float64.

        Returns
        -------
        Network

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.

        Examples
        --------
        >>> import numpy as np, fisherfield as ff
        >>> from fisherfield.learning.singular import TwoUnits
        >>> model = TwoUnits("erf")
        >>> here = model.from_overlap(u=0.5, z=0.3, v=1.3, w=0.7)
        >>> X = np.random.default_rng(0).standard_normal((100_000, 1))
        >>> measured = ff.Fisher(model.network(here), X).dense()
        >>> bool(abs(measured - model.fisher(here)).max() < 0.01)
        True
        """
        w, v = self._split(self._checked(parameters))
        return Network([w.copy(), v[None].copy()], None, activation=self._phi)

    # --- averages over inputs ---

    def loss(self, parameters: Any, teacher: Any) -> float:
        """Return the population loss, half the mean squared difference to the teacher's output.

        Noise of the targets would add a constant.

        Parameters
        ----------
        parameters, teacher : array, shape (P,)
            Of the two networks, float64.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        return self._loss(self._checked(parameters), self._outputs(self._checked(teacher, "teacher")))

    def gradient(self, parameters: Any, teacher: Any) -> FloatArray:
        """Return the gradient of :meth:`loss`.

        Parameters
        ----------
        parameters, teacher : array, shape (P,)
            Of the two networks, float64.

        Returns
        -------
        array, shape (P,), float64

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        return self._jet(self._checked(parameters), self._outputs(self._checked(teacher, "teacher")))[0]

    def fisher(self, parameters: Any) -> FloatArray:
        r"""Return the Fisher information matrix :math:`E_x[\nabla f\, \nabla f^\top]`.

        Parameters
        ----------
        parameters : array, shape (P,)
            Of the network, float64.

        Returns
        -------
        array, shape (P, P), float64

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        J = self._jacobian(self._checked(parameters))[1]
        return np.asarray(J @ J.T)

    def eigenvalues(self, parameters: Any) -> FloatArray:
        """Return the eigenvalues of :meth:`fisher`, descending.

        They are squares of singular values of the weighted Jacobian, and so accurate down to 1e-31 of the largest.

        Parameters
        ----------
        parameters : array, shape (P,)
            Of the network, float64.

        Returns
        -------
        array, shape (P,), float64

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        J = self._jacobian(self._checked(parameters))[1]
        triangle = np.linalg.qr(J.T, mode="r")
        return np.asarray(np.linalg.svd(triangle, compute_uv=False) ** 2)

    def quadrature_error(self, parameters: Any) -> float:
        """Return the change of :meth:`fisher`, relative to its largest entry, when the grid is made twice as fine.

        With the default ``nodes`` it is about 1e-15 for tanh at w = 1, 1e-10 at 2 and 1e-7 at 3.

        Parameters
        ----------
        parameters : array, shape (P,)
            Of the network, float64.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        flat = self._checked(parameters)
        finer = TwoUnits(self.activation, self.inputs, 2 * self.nodes - 1).fisher(flat)
        return float(abs(self.fisher(flat) - finer).max() / (abs(finer).max() or 1.0))

    def approach(self, parameters: Any, singularity: str = "overlap", *, distances: Any = None) -> Approach:
        r"""Return how the eigenvalues of the Fisher information matrix vanish on the way to a singularity.

        At the overlap, u = 0, the matrix has d + 1 null vectors. Near it d eigenvalues go like :math:`u^2`: changes of
        :math:`w_1` and :math:`w_2` that cancel there bend the output by :math:`u\, x^2 \phi''`. The last one goes like
        :math:`u^6`: changes of both w undo one of :math:`v_1 - v_2` up to the third order in u. At the elimination of
        a unit, d eigenvalues go like :math:`v_2^2`.

        Parameters
        ----------
        parameters : array, shape (P,)
            Where to come from: u is shortened at the same z, v, w, or :math:`v_2` is set alone.
        singularity : {"overlap", "elimination"}
        distances : array, shape (n,), optional
            At least two, positive; eight between 0.02 and 0.2 by default.

        Returns
        -------
        Approach

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, an unknown name, fewer than two distances or one that is not positive, and where
            there is no direction to come from: ``w_1 = w_2``, or ``v_1 + v_2`` is zero.

        Examples
        --------
        >>> from fisherfield.learning.singular import TwoUnits
        >>> model = TwoUnits("erf")
        >>> here = model.from_overlap(u=0.5, z=0.3, v=1.3, w=0.7)
        >>> model.approach(here, "overlap").exponents.round(1) + 0.0
        array([0. , 0. , 1.9, 6. ])
        >>> model.approach(here, "elimination").exponents.round(1) + 0.0
        array([0. , 0. , 0.1, 1.9])
        """
        flat = self._checked(parameters)
        choice(singularity, "singularity", SINGULARITIES)
        steps = np.geomspace(0.02, 0.2, 8) if distances is None else _float64(distances, "distances", (None,))
        if len(steps) < 2 or not (steps > 0).all():
            raise ValueError(f"distances: expected at least two positive numbers, got {steps.tolist()}")
        if singularity == "overlap":
            here = self.overlap(flat)
            length = np.linalg.norm(here.u)
            if length == 0:
                raise ValueError("parameters: expected units that do not overlap, to have a direction, got w_1 = w_2")
            points = [self.from_overlap(step / length * here.u, here.z, here.v, here.w) for step in steps]
        else:
            points = [np.append(flat[:-1], step) for step in steps]
        eigenvalues = np.array([self.eigenvalues(point) for point in points])
        slopes = np.polyfit(np.log(steps), np.log(eigenvalues), 1)[0]
        return Approach(singularity, steps, eigenvalues, slopes)

    # --- learning ---

    def single_unit(self, teacher: Any) -> SingleUnit:
        """Return the best approximation of a teacher by one unit: where the plateau of two overlapping ones lies.

        It is the best of three local minima, searched from the teacher's two units and from their mean.

        Parameters
        ----------
        teacher : array, shape (P,)
            Its parameters, float64.

        Returns
        -------
        SingleUnit

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.
        """
        flat = self._checked(teacher, "teacher")
        weights, _ = self._split(flat)
        from scipy.optimize import least_squares

        points, root = self._grid
        wanted = self._outputs(flat)

        def residual(y: FloatArray) -> FloatArray:
            return np.asarray(root * y[-1] * self._phi(points @ y[:-1]) - wanted)

        def slope(y: FloatArray) -> FloatArray:
            value, first = self._phi.evaluate(points @ y[:-1])
            return np.asarray(root[:, None] * np.column_stack([(y[-1] * first)[:, None] * points, value]))

        starts = [np.append(w, flat[-2:].sum() or 1.0) for w in (*weights, weights.mean(axis=0))]
        tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        found = min((least_squares(residual, y, jac=slope, **tight) for y in starts), key=lambda result: result.cost)
        return SingleUnit(v=float(found.x[-1]), w=found.x[:-1], loss=float(found.cost))

    def flow(
        self,
        start: Any,
        teacher: Any,
        method: str = "standard",
        *,
        damping: float = 1e-4,
        factor: float = 2.0,
        until_loss: float = 1e-6,
        max_time: float = 1e5,
    ) -> UnitFlow:
        r"""Follow the averaged gradient flow of a student, and measure its plateau.

        .. math:: \dot\theta = -\nabla E \quad\text{or}\quad \dot\theta = -(F + \rho I)^{-1} \nabla E.

        The loss falls all the time with both. The plateau lies at the loss of the best :meth:`single_unit`: there every
        network of two overlapping units with :math:`v_1 + v_2 = v` is a critical point. Its length is the time that the
        loss takes from ``factor`` times that level to ``1 / factor`` of it.

        Parameters
        ----------
        start, teacher : array, shape (P,)
            Parameters, float64.
        method : {"standard", "natural"}
        damping : float > 0, default 1e-4
            :math:`\rho`, of the natural gradient alone.
        factor : float > 1, default 2
        until_loss : float > 0, default 1e-6
            Where the flow ends; take it below the plateau.
        max_time : float > 0, default 1e5

        Returns
        -------
        UnitFlow

        Raises
        ------
        ValueError, TypeError
            For anything else.
        RuntimeError
            If the integrator gives up.

        Warns
        -----
        RuntimeWarning
            If :meth:`quadrature_error` is above 1e-6 at the end or for the teacher.
        """
        origin, wanted = self._checked(start, "start"), self._outputs(self._checked(teacher, "teacher"))
        natural = choice(method, "method", METHODS) == "natural"
        rho = non_negative(damping, "damping", strict=True)
        end, limit = (
            non_negative(x, name, strict=True) for x, name in ((until_loss, "until_loss"), (max_time, "max_time"))
        )
        if number(factor, "factor") <= 1:
            raise ValueError(f"factor: expected a number > 1, got {factor}")
        plateau = self.single_unit(teacher)
        ridge = rho * np.eye(self.num_parameters)

        def rate(_: float, y: FloatArray) -> FloatArray:
            gradient, F = self._jet(y, wanted)
            return -np.linalg.solve(F + ridge, gradient) if natural else -gradient

        crossings = [_Crossing(self, wanted, level) for level in (factor * plateau.loss, plateau.loss / factor, end)]
        times, path, (entered, left, done) = _integrate(rate, origin, limit, crossings)
        error = max(self.quadrature_error(point) for point in (path[-1], teacher))
        if error > _INACCURATE:
            warnings.warn(
                f"flow(): the grid of inputs reaches a relative accuracy of {error:.0e} only; take more nodes",
                RuntimeWarning,
                stacklevel=2,
            )
        return UnitFlow(
            times=times,
            parameters=path,
            loss=np.array([self._loss(y, wanted) for y in path]),
            smallest_eigenvalue=np.array([self.eigenvalues(y)[-1] for y in path]),
            method=method,
            damping=rho if natural else 0.0,
            plateau=plateau,
            factor=float(factor),
            entered=entered,
            left=left,
            reached=bool(np.isfinite(done)),
        )

    def slow_coefficient(self, w: Any, direction: Any = None) -> float:
        r"""Return :math:`c_1` of :func:`slow_manifold`.

        It is the coefficient of :math:`\phi` in the least-squares fit of :math:`(e \cdot x)^2 \phi''(w \cdot x)` by
        :math:`\phi(w \cdot x)` and :math:`x \phi'(w \cdot x)`.

        Parameters
        ----------
        w : array, shape (d,), or float for one input
        direction : array, shape (2,), optional
            e, that of :math:`w_1 - w_2`, of any length; needed for two inputs.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, and a direction that is zero, or missing for two inputs.
        """
        centre = self._vector(w, "w")
        if direction is None and self.inputs == 2:
            raise ValueError("direction: expected that of w_1 - w_2, needed for two inputs, got None")
        along = self._vector(1.0 if direction is None else direction, "direction")
        length = np.linalg.norm(along)
        if length == 0:
            raise ValueError("direction: expected a vector other than zero, got zeros")
        points, root = self._grid
        value, first, second = self._phi.evaluate(points @ centre, 2)
        basis = root[:, None] * np.column_stack([value, first[:, None] * points])
        bend = root * (points @ along / length) ** 2 * second
        return float(np.linalg.lstsq(basis, bend, rcond=None)[0][0])

    # --- sums over the grid ---

    @property
    def _phi(self) -> Activation:
        return get(self.activation)

    @property
    def _grid(self) -> tuple[FloatArray, FloatArray]:
        return _grid(self.inputs, self.nodes)

    def _checked(self, parameters: Any, name: str = "parameters") -> FloatArray:
        return _float64(parameters, name, (self.num_parameters,))

    def _vector(self, value: Any, name: str) -> FloatArray:
        """A vector (d,); for one input a number will do."""
        return _float64([value] if np.ndim(value) == 0 else value, name, (self.inputs,))

    def _split(self, flat: FloatArray) -> tuple[FloatArray, FloatArray]:
        return flat[:-2].reshape(2, self.inputs), flat[-2:]

    def _outputs(self, flat: FloatArray) -> FloatArray:
        """Outputs (N,) on the grid, times the roots of the weights."""
        (w, v), (points, root) = self._split(flat), self._grid
        return np.asarray(root * (self._phi(points @ w.T) @ v))

    def _jacobian(self, flat: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Outputs (N,) and their derivatives (P, N) on the grid, times the roots of the weights."""
        (w, v), (points, root) = self._split(flat), self._grid
        value, first = self._phi.evaluate(w @ points.T)
        value *= root
        slopes = (v[:, None] * root * first)[:, None] * points.T
        return v @ value, np.concatenate([slopes.reshape(-1, len(root)), value])

    def _jet(self, flat: FloatArray, wanted: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradient of the loss and Fisher information matrix."""
        f, J = self._jacobian(flat)
        return J @ (f - wanted), J @ J.T

    def _loss(self, flat: FloatArray, wanted: FloatArray) -> float:
        return float(((self._outputs(flat) - wanted) ** 2).sum() / 2)


class _Crossing:
    """Event of the integrator: the loss comes down to a level."""

    direction = -1.0

    def __init__(self, model: TwoUnits, wanted: FloatArray, level: float) -> None:
        self._model, self._wanted, self._level = model, wanted, level
        self.terminal = False

    def __call__(self, _: float, y: FloatArray) -> float:
        return self._model._loss(y, self._wanted) - self._level


def _integrate(
    rate: Any, origin: FloatArray, limit: float, crossings: list[_Crossing]
) -> tuple[FloatArray, FloatArray, list[float]]:
    """Times, points (n, P), and when each level was crossed, NaN if never; the last one ends the flow."""
    crossings[-1].terminal = True
    if crossings[-1](0.0, origin) <= 0:
        limit = 0.0
    from scipy.integrate import solve_ivp

    found = solve_ivp(rate, (0, limit), origin, method="LSODA", events=crossings, rtol=1e-9, atol=1e-12)
    if not found.success:
        raise RuntimeError(
            f"flow(): the integrator stopped at time {found.t[-1]:g}: {found.message}; take more damping"
        )
    when = [
        0.0 if event(0.0, origin) <= 0 else float(hits[0]) if len(hits) else float("nan")
        for event, hits in zip(crossings, found.t_events, strict=True)
    ]
    return found.t, np.ascontiguousarray(found.y.T), when


@functools.cache
def _grid(inputs: int, nodes: int) -> tuple[FloatArray, FloatArray]:
    """Points (N, d) of the trapezoidal rule for the Gaussian measure, and the roots of their weights."""
    axis = np.linspace(-_REACH, _REACH, nodes)
    points = np.stack(np.meshgrid(*[axis] * inputs, indexing="ij"), axis=-1).reshape(-1, inputs)
    weights = np.exp(-(points**2).sum(axis=1) / 2)
    kept = weights > _NEGLIGIBLE
    result = np.ascontiguousarray(points[kept]), np.sqrt(weights[kept] / weights[kept].sum())
    for array in result:
        array.flags.writeable = False
    return result


def _float64(value: Any, name: str, shape: tuple[int | None, ...]) -> FloatArray:
    array = as_float_array(value, name, ndim=len(shape), shape=shape)
    same_dtype([("the grid of inputs", np.zeros(1)), (name, array)])
    return array


# --- the slow manifold --------------------------------------------------------------------------------------


def slow_manifold(z: float, half_squares: Any, *, v: float, c1: float) -> FloatArray:
    r"""Return z along the slow manifold near the overlap, as a function of :math:`u^2 / 2`.

    A student near the overlap, of a teacher that is nearly a single unit, follows slowly what its v and w adapt to at
    once. To leading order in u the standard gradient flow obeys

    .. math:: \frac{dz}{d(u^2 / 2)} = -\frac{2 z}{v^2 (1 - z^2)} + \frac{c_1}{4} z (1 - z^2)

    with the constant of :meth:`TwoUnits.slow_coefficient`. The law of the literature,
    :math:`u^2 / 2 = (2/3) v^2 \log((z^2 + 3)^2 / |z|) + \mathrm{const}` (Wei et al. 2008), puts the gradients by v and
    w to zero instead. Against full flows it gives between 0.45 and 2.1 times the change of :math:`u^2 / 2`, and that
    does not improve with smaller u, where the error of the law above vanishes in proportion.

    Parameters
    ----------
    z : float
        At the first of ``half_squares``; not 1 or -1, where the law is singular.
    half_squares : array, shape (n,)
        Values of :math:`u^2 / 2`, ascending or descending.
    v : float
        Sum of the output weights; not zero.
    c1 : float

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError, TypeError
        For z = 1 or -1, v = 0, values that neither ascend nor descend, and where ``|z|`` reaches 1 on the way.

    Examples
    --------
    >>> from fisherfield.learning.singular import TwoUnits, slow_manifold
    >>> c1 = TwoUnits("erf").slow_coefficient(0.7)
    >>> slow_manifold(0.3, [0.0, 0.1, 0.2], v=1.3, c1=c1).round(3)
    array([0.3  , 0.251, 0.21 ])
    """
    start, total, bend = number(z, "z"), number(v, "v"), number(c1, "c1")
    if abs(start) == 1:
        raise ValueError(f"z: expected a number other than 1 and -1, where the law is singular, got {z}")
    if total == 0:
        raise ValueError("v: expected a number other than zero, got 0")
    grid = _float64(half_squares, "half_squares", (None,))
    if len(grid) == 1:
        return np.array([start])
    steps = np.diff(grid)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError("half_squares: expected ascending or descending numbers, got others")
    from scipy.integrate import solve_ivp

    def law(_: float, y: FloatArray) -> FloatArray:
        rest = 1 - y * y
        return -2 * y / (total * total * rest) + bend * y * rest / 4

    found = solve_ivp(law, (grid[0], grid[-1]), [start], t_eval=grid, rtol=1e-10, atol=1e-14)
    if not found.success:
        raise ValueError(f"half_squares: expected a range on which |z| stays off 1, got one up to {grid[-1]:g}")
    return np.asarray(found.y[0])
