r"""Spectral laws by free probability: atoms, density, distribution function, quantiles and moments.

A law is a point mass on which operations act one after the other: shifts, scalings, free multiplication by a discrete
law or by a Wishart matrix, a change of dimension. Its transforms come from one equation at every point (compiled:
``subordination.hpp``), atoms and moments from exact algebra.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fisherfield import _executor
from fisherfield._native import kernels
from fisherfield._validate import as_float_array, non_negative, positive_int

from . import series
from .gaussian import stacklevel_of_user

__all__ = ["Atoms", "ConvergenceWarning", "DiscreteLaw", "FreeLaw", "Transform"]

Array = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
_Operation = tuple[str, float, "DiscreteLaw | None"]

_MASS_TOL = 1e-13  # masses are sums and differences of masses
_BULK_TOL = 1e-11  # mass of a band that is looked for; rounding stays below
_MISSING = 1e-3  # mass of bands not found that is warned of
_NEAR_ATOM = (1e-10, 1e-8, 1e-7, 1e-6)  # distances from an atom, over the bound, at which it is gone around
_NEAR_ZERO = 1e-10  # the same of zero, where transforms divide by z
_RANGE = 1e70  # squares and cubes of what is larger overflow
_CHUNK = 64  # points of a task


class ConvergenceWarning(RuntimeWarning):
    """An iteration did not converge at some points; the message says where."""


@dataclass(frozen=True)
class DiscreteLaw:
    """A law of finitely many atoms on x >= 0.

    Parameters
    ----------
    values : array, shape (n,)
        Positions, >= 0; equal ones are merged.
    weights : array, shape (n,), optional
        Masses, > 0, with sum 1; by default all equal.

    Raises
    ------
    ValueError, TypeError
        For other positions or masses.

    Examples
    --------
    >>> from fisherfield import theory
    >>> theory.DiscreteLaw([0.0, 1.0], [0.25, 0.75])
    DiscreteLaw(2 atoms in [0, 1], mean 0.75)
    """

    values: tuple[float, ...]
    weights: tuple[float, ...]

    def __init__(self, values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> None:
        x = as_float_array(values, "values", ndim=1).astype(np.float64)
        if x.min() < 0:
            raise ValueError(f"values: expected numbers >= 0, got {x.min():g}")
        w = np.full(len(x), 1 / len(x))
        if weights is not None:
            w = as_float_array(weights, "weights", ndim=1, shape=(len(x),)).astype(np.float64)
            if w.min() <= 0 or abs(math.fsum(w) - 1) > 1e-12:
                raise ValueError(f"weights: expected numbers > 0 of sum 1, got {w.min():g} and sum {math.fsum(w):.15g}")
        positions, where = np.unique(x, return_inverse=True)
        object.__setattr__(self, "values", tuple(positions.tolist()))
        object.__setattr__(self, "weights", tuple(np.bincount(where, w).tolist()))

    @classmethod
    def projection(cls, p: float) -> DiscreteLaw:
        """Return the law of a projection of normalised trace ``p``: mass p at 1, the rest at 0."""
        p = non_negative(p, "p")
        if p > 1:
            raise ValueError(f"p: expected a number in [0, 1], got {p:g}")
        return cls([0.0, 1.0][p == 1 :], [1 - p, p][p == 1 :]) if p > 0 else cls([0.0])

    def moments(self, n: int) -> Array:
        """Return the moments :math:`m_1, ..., m_n`."""
        x, w = np.array(self.values), np.array(self.weights)
        return np.array([np.dot(w, x**k) for k in range(1, positive_int(n, "n") + 1)])

    @property
    def mass_at_zero(self) -> float:
        """Mass of the atom at 0."""
        return self.weights[0] if self.values[0] == 0 else 0.0

    @property
    def nonzero(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Positions and masses of the atoms at x > 0."""
        begin = int(self.values[0] == 0)
        return self.values[begin:], self.weights[begin:]

    def __repr__(self) -> str:
        count, low, high = len(self.values), self.values[0], self.values[-1]
        atoms = f"{count} atom{'s' * (count > 1)}"
        return f"DiscreteLaw({atoms} in [{low:g}, {high:g}], mean {self.moments(1)[0]:g})"


class Atoms(NamedTuple):
    """The atoms of a law, ascending: ``positions`` (n,) and ``masses`` (n,)."""

    positions: Array
    masses: Array

    @property
    def total(self) -> float:
        """Mass of all atoms."""
        return math.fsum(self.masses)

    def below(self, x: Array) -> Array:
        """Return the mass of the atoms at or below each x."""
        cumulative = np.concatenate([[0.0], np.cumsum(self.masses)])
        return cumulative[np.searchsorted(self.positions, x, side="right")]


@dataclass(frozen=True, eq=False)
class Transform:
    r"""Transforms of a law, each of the shape of z, and how the iteration went.

    Attributes
    ----------
    z : ndarray of complex
        Where; on the real axis the limit from above is meant.
    stieltjes : ndarray of complex
        :math:`G(z) = \int d\mu(x) / (z - x)`.
    log_potential : ndarray of complex
        :math:`\int \log(z - x)\, d\mu(x)`; on the real axis its imaginary part is pi times the mass above z.
    height : ndarray
        Imaginary part at which the equation was solved: that of z, or more where the iteration stopped above it, as it
        does at edges and atoms.
    residual : ndarray
        Relative residual of the equation.
    evaluations : ndarray of int
        Evaluations of the chain of operations.
    converged : ndarray of bool
        Whether the solution is certified, or continues a certified one, and was followed down to z or at least to a
        height of 1e-9 of the spectrum's scale.
    """

    z: ComplexArray
    stieltjes: ComplexArray
    log_potential: ComplexArray
    height: Array
    residual: Array
    evaluations: npt.NDArray[np.int64]
    converged: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FreeLaw:
    r"""The law of the eigenvalues of a large random matrix made by free operations.

    Start from :meth:`point_mass`; every operation returns a new law. For a layer with
    :math:`H' = \hat q I + W D H D W^\top`, D free from H, of :math:`D^2` with law nu:

    ==========================================  ================================================================
    ``mu.times(nu)``                            :math:`D H D`: free multiplicative convolution
    ``mu.times_wishart(ratio)``                 :math:`H^{1/2} X^\top X H^{1/2}`, X of independent N(0, 1/n) entries,
                                                ``ratio`` n rows, n columns (n the dimension of H)
    ``mu.resized(ratio)``                       :math:`A A^\top` from :math:`A^\top A`: the same nonzero
                                                eigenvalues in ``ratio`` times the dimension
    ``mu.compressed(p)``                        the corner :math:`P H P` of dimension p n, P a free projection
    ``s * mu``, ``mu + c``                      :math:`s H` and :math:`H + c I`, s, c >= 0
    ==========================================  ================================================================

    In the transform :math:`m(z) = z G(z) - 1` free multiplication keeps m and maps :math:`z \mapsto z / S_\nu(m)`
    (Voiculescu's S-transform), so the operations compose to one explicit map, inverted by Newton's method along a path
    from far above the spectrum to the real axis. Distribution functions need no integral: the mass above x is the
    imaginary part of the log potential over pi, and with :math:`\Phi(z) = \int \log(1 - x/z) d\mu(x)`

    .. math:: \Phi_{\mu \boxtimes \nu}(z) = \Phi_\mu(z_\mu) + \Phi_\nu(z_\nu) + \log(1 + m(z)).

    Attributes
    ----------
    point : float
        Position of the point mass.
    operations : tuple
        What is done to it.

    Examples
    --------
    Marchenko and Pastur's law, compressed by a free projection of trace 1/2 (again one, of ratio 2, scaled):

    >>> from fisherfield import theory
    >>> law = theory.FreeLaw.point_mass(1.0).times_wishart().compressed(0.5)
    >>> law.moments(3).round(12).tolist()
    [1.0, 1.5, 2.75]
    >>> law.support.round(6).tolist()
    [[0.085786, 2.914214]]
    >>> round(float(law.cdf(1.0)), 6)
    0.576004
    """

    point: float
    operations: tuple[_Operation, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "point", non_negative(self.point, "point"))
        for name, _, law in self.operations:
            if name not in ("shift", "scale", "product", "wishart", "resize") or (name == "product") == (law is None):
                raise ValueError(f"operations: expected those that methods of FreeLaw make, got {name!r}")

    # --- construction -------------------------------------------------------------------------------------

    @classmethod
    def point_mass(cls, position: float) -> FreeLaw:
        """Return the law of ``position`` times the identity, ``position >= 0``."""
        return cls(non_negative(position, "position"))

    def times(self, law: DiscreteLaw) -> FreeLaw:
        """Return the free multiplicative convolution with a discrete law."""
        if not isinstance(law, DiscreteLaw):
            raise TypeError(f"law: expected a DiscreteLaw, got {type(law).__name__}")
        if law.values == (0.0,) or self._is_zero:
            return FreeLaw(0.0)
        return self * law.values[0] if len(law.values) == 1 else self._then("product", 0.0, law)

    def times_wishart(self, ratio: float = 1.0) -> FreeLaw:
        """Return the free product with X^T X / n for X of ``ratio`` n rows, n columns, entries of variance 1."""
        ratio = non_negative(ratio, "ratio", strict=True)
        return self if self._is_zero else self._then("wishart", ratio)

    def resized(self, ratio: float) -> FreeLaw:
        """Return the law of the same nonzero eigenvalues in ``ratio`` times the dimension.

        Raises
        ------
        ValueError
            If the mass away from zero exceeds ``ratio``: there are more nonzero eigenvalues than dimensions.
        """
        ratio = non_negative(ratio, "ratio", strict=True)
        if ratio == 1 or self._is_zero:
            return self
        nonzero = 1 - self._mass_at(0.0)
        if nonzero > ratio * (1 + 1e-12) + 1e-15:
            raise ValueError(f"ratio: expected at least {nonzero:g}, the mass away from zero, got {ratio:g}")
        if not self.operations:
            return self.times(DiscreteLaw.projection(1 / ratio))
        return self._then("resize", ratio)

    def compressed(self, p: float) -> FreeLaw:
        """Return the law of the corner P H P, in dimension p n: free cumulants p^(n-1) kappa_n."""
        if not 0 < non_negative(p, "p") <= 1:
            raise ValueError(f"p: expected a number in (0, 1], got {p:g}")
        return self.times(DiscreteLaw.projection(p)).resized(p)

    def __mul__(self, scale: float) -> FreeLaw:
        """Return the law of ``scale`` times the matrix."""
        scale = non_negative(scale, "scale")
        if scale == 0:
            return FreeLaw(0.0)
        return FreeLaw(self.point * scale) if not self.operations else self._then("scale", scale)

    __rmul__ = __mul__

    def __add__(self, shift: float) -> FreeLaw:
        """Return the law of the matrix plus ``shift`` times the identity."""
        shift = non_negative(shift, "shift")
        return FreeLaw(self.point + shift) if not self.operations else self._then("shift", shift)

    __radd__ = __add__

    def _then(self, name: str, value: float, law: DiscreteLaw | None = None) -> FreeLaw:
        neutral = {"scale": 1.0, "shift": 0.0}
        if neutral.get(name) == value:
            return self
        return FreeLaw(self.point, (*self.operations, (name, value, law)))

    @property
    def _is_zero(self) -> bool:
        return self.point == 0 and not self.operations

    # --- exact algebra ------------------------------------------------------------------------------------

    @cached_property
    def atoms(self) -> Atoms:
        r"""Atoms, exactly for the law as it is given; nodes that stand for a continuous factor count as its atoms.

        A free product has an atom at :math:`ab > 0` of mass :math:`\mu\{a\} + \nu\{b\} - 1` where that is positive, and
        at zero of mass :math:`\max(\mu\{0\}, \nu\{0\})` (Belinschi 2003); Wishart matrices leave none but at zero.
        """
        found = {self.point: 1.0}
        for name, value, law in self.operations:
            if name == "scale":
                found = {a * value: mass for a, mass in found.items()}
            elif name == "shift":
                found = {a + value: mass for a, mass in found.items()}
            elif name == "resize":
                zero = 1 - (1 - found.pop(0.0, 0.0)) / value
                found = {0.0: zero} | {a: mass / value for a, mass in found.items()}
            else:
                found = _atoms_of_product(found, value, law)
            found = {a: mass for a, mass in found.items() if mass > _MASS_TOL}
        positions = sorted(found)
        return Atoms(_frozen(np.array(positions)), _frozen(np.array([found[a] for a in positions])))

    def moments(self, n: int) -> Array:
        """Return the moments :math:`m_1, ..., m_n`, from the S-transforms as power series.

        Rounding grows with the order, by about a digit for every three orders: use it up to order 20 or so.
        """
        order = positive_int(n, "n")
        scale, found = self.point, np.ones(order)  # in units of the mean of what the operations so far have made
        for name, value, law in self.operations:
            if name == "scale":
                scale *= value
            elif name == "shift":
                found, scale = _in_units_of_mean(series.shifted(found, value / scale), scale)
            elif name == "resize":
                found, scale = _in_units_of_mean(found / value, scale)
            else:
                factor = _wishart_moments(value, order) if law is None else law.moments(order)
                factor, scale = _in_units_of_mean(factor, scale)
                found = series.free_product(found, factor)
        return found * scale ** np.arange(1, order + 1)

    def free_cumulants(self, n: int) -> Array:
        r"""Return the free cumulants :math:`\kappa_1, ..., \kappa_n`."""
        scale = self.mean or 1.0
        powers = scale ** np.arange(1, positive_int(n, "n") + 1)
        return series.cumulants_of(self.moments(n) / powers) * powers

    @cached_property
    def mean(self) -> float:
        """Mean eigenvalue."""
        return float(self.moments(1)[0])

    @cached_property
    def variance(self) -> float:
        """Variance of the eigenvalues."""
        if not self.operations:
            return 0.0
        (name, value, _), before = self.operations[-1], FreeLaw(self.point, self.operations[:-1])
        if name == "shift":  # leaves it as it is, where the difference of moments would lose digits
            return before.variance
        return value**2 * before.variance if name == "scale" else max(0.0, float(self.free_cumulants(2)[1]))

    # --- transforms ---------------------------------------------------------------------------------------

    def transform(self, z: npt.ArrayLike, *, executor: Executor | None = None) -> Transform:
        r"""Return the Stieltjes transform and the log potential at z.

        Parameters
        ----------
        z : array_like of complex or float, any shape
            Real points mean the limit from above; at an atom it does not exist, see ``height``.
        executor : concurrent.futures.Executor, optional
            Threads to use (default: a shared pool). No bit depends on their number.

        Returns
        -------
        Transform
        """
        points = _as_points(z)
        flat = np.ascontiguousarray(np.where(points.imag < 0, points.conj(), points).ravel())
        stieltjes, potential = np.empty_like(flat), np.empty_like(flat)
        rows = np.empty((len(flat), 4))
        self._fill(flat, stieltjes, potential, rows, executor)
        shape, lower = points.shape, points.imag < 0
        stieltjes, potential = stieltjes.reshape(shape), potential.reshape(shape)
        height, residual, evaluations, converged = (column.reshape(shape) for column in rows.T)
        return Transform(
            points,
            np.where(lower, stieltjes.conj(), stieltjes),
            np.where(lower, potential.conj(), potential),
            height,
            residual,
            evaluations.astype(np.int64),
            converged > 0,
        )

    def _fill(
        self, z: ComplexArray, stieltjes: ComplexArray, potential: ComplexArray, rows: Array, executor: Executor | None
    ) -> None:
        if not self.operations:
            with np.errstate(divide="ignore", invalid="ignore"):
                distance = z - self.point
                stieltjes[:], potential[:] = 1 / distance, np.log(distance)
            rows[:] = np.stack([z.imag, np.zeros(len(z)), np.ones(len(z)), distance != 0], axis=1)
            return
        scaled, solve = z / self._unit, self._kernel.solve
        _executor.run(
            lambda begin: solve(scaled, stieltjes, potential, rows, begin, min(begin + _CHUNK, len(z))),
            range(0, len(z), _CHUNK),
            executor,
        )
        stieltjes /= self._unit
        potential += math.log(self._unit)
        rows[:, 0] *= self._unit

    def stieltjes(self, z: npt.ArrayLike) -> ComplexArray:
        r"""Return :math:`G(z) = \int d\mu(x) / (z - x)`, NaN (with a warning) where the iteration fails."""
        found = self.transform(z)
        return self._checked(found, found.stieltjes)

    def density(self, x: npt.ArrayLike, *, height: float = 0.0) -> Array:
        r"""Return the density of the continuous part, :math:`-\mathrm{Im}\, G(x + i y) / \pi` as y falls to ``height``.

        Parameters
        ----------
        x : array_like of float, any shape
        height : float, default 0
            0 gives the density itself; y > 0 its convolution with a Cauchy law of that width (atoms still left out).

        Returns
        -------
        ndarray of the shape of x
            NaN, with a warning, where the iteration fails. At an atom: the value next to it, above.

        Warns
        -----
        ConvergenceWarning
        """
        points, y = _as_reals(x), non_negative(height, "height")
        if not self.operations:
            return np.zeros(points.shape)
        found = self.transform(points + 1j * y) if y > 0 else self._off_atoms(points)
        points = found.z.real
        density = np.maximum(-self._checked(found, found.stieltjes).imag, 0.0) / np.pi
        atoms = self.atoms
        for position, mass in zip(atoms.positions, atoms.masses, strict=True):
            lift = found.height
            with np.errstate(invalid="ignore", divide="ignore"):
                cauchy = mass * lift / ((points - position) ** 2 + lift**2) / np.pi
            density = np.where(lift > 0, np.maximum(density - cauchy, 0.0), density)
        return np.asarray(density)

    def cdf(self, x: npt.ArrayLike) -> Array:
        """Return the mass at or below each x, atoms included; from the log potential, not by an integral.

        What a band has just above an atom, within 1e-10 of the spectrum's scale (up to 1e-6 where atoms of both
        factors of a free product meet), counts as below the atom.
        """
        points = _as_reals(x)
        flat = points.ravel()
        out = (flat >= 0).astype(np.float64)
        inside = (flat >= 0) & (flat <= self._bound)
        if inside.any():
            out[inside] = self._continuous_below(flat[inside]) + self.atoms.below(flat[inside])
        return np.clip(out, 0.0, 1.0).reshape(points.shape)

    def quantile(self, u: npt.ArrayLike) -> Array:
        """Return the smallest x with ``cdf(x) >= u`` for 0 <= u <= 1 (0: the lower end of the spectrum), shape of u."""
        levels = _as_reals(u, "u")
        if not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"u: expected numbers in [0, 1], got {levels.min():g} to {levels.max():g}")
        return self._quantiles(levels.ravel()).reshape(levels.shape)

    # --- the continuous part ------------------------------------------------------------------------------

    @cached_property
    def support(self) -> Array:
        """Bands of the continuous part, ascending, shape (n, 2); bands of a mass below 1e-11 are not looked for.

        An atom is not part of it, unless a band covers or touches it. Warns if bands are not found: those close to an
        atom, or narrower than 1e-12 of the spectrum's scale.
        """
        if 1 - self.atoms.total < _BULK_TOL:
            return _frozen(np.empty((0, 2)))
        bands = _frozen(_Bands(self).found)
        missing = 1 - self.atoms.total - float(np.diff(self._continuous_below(bands.ravel()))[::2].sum())
        if not abs(missing) < _MISSING:
            warnings.warn(
                f"bands of a mass of {missing:.1e} were not found: the spectrum has clusters narrower than can be told "
                "apart from atoms",
                ConvergenceWarning,
                stacklevel=stacklevel_of_user(),
            )
        return bands

    @cached_property
    def minimum(self) -> float:
        """Lower end of the spectrum."""
        return float(min([*self.support[:1, 0], *self.atoms.positions[:1]], default=self.mean))

    @cached_property
    def maximum(self) -> float:
        """Upper end of the spectrum."""
        return float(max([*self.support[-1:, 1], *self.atoms.positions[-1:]], default=self.mean))

    def nodes(self, n: int = 2000) -> tuple[Array, Array]:
        r"""Return about n points in the bands and weights of a rule that integrates against dx.

        :math:`\sum_i w_i \rho(x_i) g(x_i) \approx \int \rho g\, dx` for a smooth g: a Gauss-Legendre rule of t in
        :math:`x = (a + b)/2 - (b - a)/2 \cos t` on each band [a, b], cut at the necks of its density. A density that
        behaves like a root at an edge, or like one over a root, is smooth in t. Pieces get points by their mass, at
        least eight each. Where mass gathers within a tiny part of a band, as at the lower end with saturating
        activations, the rule misses some of it; ``cdf`` does not.

        Returns
        -------
        x, w : ndarray, shape (about n,)
            Ascending; empty if there is no continuous part.
        """
        count = positive_int(n, "n")
        pieces, whole = self._pieces
        if len(pieces) == 0:
            return np.empty(0), np.empty(0)
        masses = np.diff(self._continuous_below(pieces.ravel()))[::2]
        shares = np.maximum(np.round(count * masses / masses.sum()), 8).astype(int)
        rules = [
            _cosine_rule(low, high, share, edges)
            for (low, high), share, edges in zip(pieces.tolist(), shares.tolist(), whole, strict=True)
        ]
        return np.concatenate([x for x, _ in rules]), np.concatenate([w for _, w in rules])

    @cached_property
    def _pieces(self) -> tuple[Array, list[bool]]:
        """Bands, cut at the necks of the density, shape (n, 2), and whether each piece is a whole band."""
        pieces: list[tuple[float, float]] = []
        whole: list[bool] = []
        masses = np.diff(self._continuous_below(self.support.ravel()))[::2]
        for (low, high), share in zip(self.support.tolist(), masses / masses.sum(), strict=True):
            x = _cosine_rule(low, high, max(32, int(3000 * share)))[0]
            cuts = list(pairwise([low, *x[_necks(self.density(x))], high]))
            pieces += cuts
            whole += [len(cuts) == 1] * len(cuts)
        return np.array(pieces).reshape(-1, 2), whole

    # --- private ------------------------------------------------------------------------------------------

    @property
    def _unit(self) -> float:
        """Power of two near the point: in this unit the kernel works."""
        return 2.0 ** math.frexp(self.point)[1]

    @cached_property
    def _kernel(self) -> Any:
        operations = [
            (name, value / self._unit if name == "shift" else value, *(law.nonzero if law else ((), ())))
            for name, value, law in self.operations
        ]
        kernel = kernels.Subordination(self.point / self._unit, operations)
        if not 1 / _RANGE < kernel.bound < _RANGE:
            raise ValueError(
                f"law: expected the largest eigenvalue within a factor of {_RANGE:g} of the point mass it starts from, "
                f"got a bound of {kernel.bound:.1e} times it"
            )
        return kernel

    @cached_property
    def _bound(self) -> float:
        """No eigenvalue is larger."""
        return float(self._kernel.bound) * self._unit if self.operations else self.point

    def _mass_at(self, x: float) -> float:
        atoms = self.atoms
        return float(atoms.masses[atoms.positions == x].sum())

    def _checked(self, found: Transform, values: ComplexArray) -> ComplexArray:
        failed = ~found.converged
        if not failed.any():
            return values
        where = ", ".join(f"{point:.6g}" for point in found.z[failed].ravel()[:3])
        warnings.warn(
            f"{failed.sum()} of {failed.size} points did not converge and are NaN, among them z = {where}; the "
            f"iteration stopped {found.height[failed].max():.1e} above the axis: ask for z + iy with a larger y",
            ConvergenceWarning,
            stacklevel=stacklevel_of_user(),
        )
        return np.where(failed, complex(math.nan, math.nan), values)

    def _off_atoms(self, x: Array) -> Transform:
        """Transform at x, but to the right of atoms, and of zero, at which it lies: as close as the iteration gets."""
        if not self.operations:
            return self.transform(x)
        tiny = _NEAR_ZERO * self._bound
        x = np.where(np.abs(x) < tiny, tiny, x)
        positions = self.atoms.positions
        if len(positions) == 0:
            return self.transform(x)
        nearest = positions[np.abs(x[..., None] - positions).argmin(axis=-1)]
        close = np.abs(x - nearest) < _NEAR_ATOM[-1] * self._bound
        for distance in _NEAR_ATOM:
            away = distance * self._bound
            found = self.transform(np.where(np.abs(x - nearest) < away, nearest + away, x))
            if found.converged[close].all():
                break
        return found

    def _continuous_below(self, x: Array) -> Array:
        """Mass of the continuous part below each x."""
        if not self.operations:
            return np.zeros(x.shape)
        found = self._off_atoms(x)
        upper = self._checked(found, found.log_potential).imag / np.pi
        return 1 - upper - self.atoms.below(found.z.real)

    def _quantiles(self, levels: Array) -> Array:
        atoms = self.atoms
        breaks = np.unique(np.concatenate([self.support.ravel(), atoms.positions, self.nodes(400)[0]]))
        if len(breaks) == 0:  # a spectrum narrower than the spacing of floating-point numbers
            return np.full(len(levels), self.mean)
        mass = np.zeros(len(breaks))
        mass[np.searchsorted(breaks, atoms.positions)] = atoms.masses
        reached = np.maximum.accumulate(self.cdf(breaks))
        reached[-1] = 1.0
        high = np.searchsorted(reached, levels)
        out = breaks[high]
        between = (high > 0) & (levels < (reached - mass)[high])  # else at an atom, or at the lower end
        if between.any():
            j = high[between]
            out[between] = self._invert(levels[between] - atoms.below(breaks[j - 1]), breaks[j - 1], breaks[j])
        return out

    def _invert(self, levels: Array, low: Array, high: Array) -> Array:
        """Where the continuous part has this mass below: Newton's method, kept in brackets by bisection."""
        x = (low + high) / 2
        for iteration in range(200):
            found = self._off_atoms(x)
            upper = self._checked(found, found.log_potential).imag / np.pi
            excess = 1 - upper - self.atoms.below(found.z.real) - levels
            low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = x + np.pi * excess / found.stieltjes.imag
            middle = (low + high) / 2
            following = np.where((step > low) & (step < high) & (iteration % 4 < 3), step, middle)
            if (np.abs(following - x) <= 4e-16 * self._bound + 1e-15 * x).all():
                break
            x = following
        return x

    def __reduce__(self) -> tuple[Callable[..., FreeLaw], tuple[Any, ...]]:
        return FreeLaw, (self.point, self.operations)

    def __repr__(self) -> str:
        steps = "".join(f", {name}" for name, _, _ in self.operations[:6])
        more = f", ... ({len(self.operations)} operations)" if len(self.operations) > 6 else ""
        return f"FreeLaw({self.point:g}{steps}{more})"


class _Bands:
    """Search for the bands of a law: panels are cut until each is empty, within a band, or holds one edge.

    Distribution function and density vouch for each other: a panel is taken to lie within a band if the integral of the
    density over six points is the mass that the distribution function gives it; a gap would spoil that.
    """

    _NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)
    _AGREE = 1e-3
    _CUT = 0.4871  # not 1/2: cuts stay off atoms at simple fractions

    def __init__(self, law: FreeLaw) -> None:
        self._law, self._scale = law, law._bound
        breaks = np.linspace(-0.0031, 1.0029, 65) * self._scale
        self._pieces: list[tuple[float, float]] = []
        ends = np.stack([breaks, *self._sample(breaks)])
        panels = np.stack([ends[:, :-1], ends[:, 1:]])  # (end, (x, mass below, inside), panel)
        while panels.shape[2]:
            panels = self._cut(self._examine(panels))
        self.found = self._merged()

    def _sample(self, x: Array) -> tuple[Array, Array]:
        """Continuous mass below x, and whether x lies within a band (1.0 or 0.0)."""
        found = self._law._off_atoms(x)
        below = 1 - found.log_potential.imag / np.pi - self._law.atoms.below(found.z.real)
        return below, self._inside(found).astype(np.float64)

    def _inside(self, found: Transform) -> npt.NDArray[np.bool_]:
        density = -found.stieltjes.imag * self._scale
        inside: npt.NDArray[np.bool_] = (density > 1e-9) & ((found.height == 0) | (density > 1e-4))
        return inside

    def _examine(self, panels: Array) -> Array:
        """Keep the pieces of bands that are clear; return the panels that are not."""
        (low, below_low, in_low), (high, below_high, in_high) = panels
        mass, inside = below_high - below_low, in_low + in_high
        narrow = high - low < 1e-12 * self._scale
        empty = (inside == 0) & ((mass < _BULK_TOL) | narrow)
        taken = (inside == 2) & ((mass < _BULK_TOL) | narrow)
        unclear = (inside == 2) & ~taken
        taken[unclear] = self._filled(low[unclear], high[unclear], mass[unclear])
        edge = np.flatnonzero(inside == 1)
        rising = in_high[edge] > 0
        at = self._edges(low[edge], high[edge], rising)
        start, stop = np.where(rising, at, low[edge]), np.where(rising, high[edge], at)
        done = (mass[edge] < _BULK_TOL) | narrow[edge] | self._filled(at, np.where(rising, stop, start), mass[edge], 2)
        self._pieces += zip(low[taken].tolist(), high[taken].tolist(), strict=True)
        self._pieces += zip(start[done].tolist(), stop[done].tolist(), strict=True)
        clear = empty | taken
        clear[edge[done]] = True
        return panels[:, :, ~clear]

    def _filled(self, start: Array, stop: Array, mass: Array, power: int = 1) -> npt.NDArray[np.bool_]:
        """Whether the density integrates to the mass; ``power`` 2 smooths an edge at ``start``, a root or 1 / root."""
        if len(start) == 0:
            return np.empty(0, dtype=bool)
        t = (1 + self._NODES) / 2
        points = start[:, None] + (stop - start)[:, None] * t**power
        found = self._law._off_atoms(points)
        density = -found.stieltjes.imag / np.pi
        integral = density @ (self._WEIGHTS / 2 * power * t ** (power - 1)) * np.abs(stop - start)
        return self._inside(found).all(axis=1) & (np.abs(integral - mass) <= self._AGREE * mass + _BULK_TOL)

    def _edges(self, low: Array, high: Array, rising: npt.NDArray[np.bool_]) -> Array:
        """Bisect for the edge of the band, whose side is ``high`` where ``rising``."""
        for _ in range(48):
            if len(low) == 0 or (high - low <= 1e-15 * self._scale).all():
                break
            x = (low + high) / 2
            right = self._sample(x)[1] == rising
            low, high = np.where(right, low, x), np.where(right, x, high)
        return np.where(rising, high, low)

    def _cut(self, panels: Array) -> Array:
        low, high = panels
        x = low[0] + self._CUT * (high[0] - low[0])
        if len(x) == 0:
            return panels
        middle = np.stack([x, *self._sample(x)])
        return np.concatenate([np.stack([low, middle]), np.stack([middle, high])], axis=2)

    def _merged(self) -> Array:
        bands: list[list[float]] = []
        for low, high in sorted(self._pieces):
            if bands and low <= bands[-1][1] + 1e-14 * self._scale:
                bands[-1][1] = high
            else:
                bands.append([low, high])
        found: Array = np.maximum(np.array(bands).reshape(-1, 2), 0.0)
        return found


def _atoms_of_product(atoms: dict[float, float], ratio: float, law: DiscreteLaw | None) -> dict[float, float]:
    """Atoms of a free product with a discrete law, or (None) with a Wishart matrix of this ratio."""
    zero = max(atoms.get(0.0, 0.0), max(0.0, 1 - ratio) if law is None else law.mass_at_zero)
    found = {0.0: zero}
    for a, mass in atoms.items() if law else ():
        assert law is not None
        for b, other in zip(*law.nonzero, strict=True):
            if a > 0 and mass + other - 1 > _MASS_TOL:
                found[a * b] = mass + (other - 1)
    return found


def _cosine_rule(low: float, high: float, n: int, edges: bool = True) -> tuple[Array, Array]:
    """Nodes and weights for x = low + (high - low) sin(t/2)^2: midpoints of t, or Gauss-Legendre between cuts.

    With edges at both ends, rho dx / dt is smooth and even there: midpoints converge exponentially.
    """
    t, weights = (2 * np.arange(n) + 1) / n - 1, np.full(n, 2 / n)
    if not edges:
        t, weights = kernels.gauss_legendre(n)
    t = (1 + t) * np.pi / 2
    return low + (high - low) * np.sin(t / 2) ** 2, (high - low) * np.pi / 4 * np.sin(t) * weights


def _necks(density: Array) -> list[int]:
    """Where the density has minima of less than half the maxima on either side."""
    inner = density[1:-1]
    valleys = (1 + np.flatnonzero((inner < density[:-2]) & (inner <= density[2:]))).tolist()
    while valleys:
        peaks = [density[begin : end + 1].max() for begin, end in pairwise([0, *valleys, len(density) - 1])]
        ratios = [
            density[v] / max(min(sides), np.finfo(float).tiny)
            for v, sides in zip(valleys, pairwise(peaks), strict=True)
        ]
        shallow = int(np.argmax(ratios))
        if ratios[shallow] < 0.5:
            break
        del valleys[shallow]
    return valleys


def _wishart_moments(ratio: float, n: int) -> Array:
    """Free cumulants of X^T X / n are all ``ratio``."""
    return series.free_moments(np.full(n, ratio))


def _in_units_of_mean(moments: Array, scale: float) -> tuple[Array, float]:
    mean = float(moments[0])
    return moments / mean ** np.arange(1, len(moments) + 1), scale * mean


def _frozen(array: Array) -> Array:
    """Not writeable: it is kept and given out again."""
    array.setflags(write=False)
    return array


def _as_points(z: npt.ArrayLike) -> ComplexArray:
    array = np.asarray(z)
    if array.dtype.kind not in "iufc":
        raise TypeError(f"z: expected numbers, got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError("z: expected finite numbers, got inf or NaN")
    return array.astype(np.complex128)


def _as_reals(x: npt.ArrayLike, name: str = "x") -> Array:
    array = np.asarray(x)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got inf or NaN")
    return array.astype(np.float64)
