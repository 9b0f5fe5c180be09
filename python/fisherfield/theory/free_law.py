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
from typing import Any

import numpy as np
import numpy.typing as npt

from fisherfield import _executor
from fisherfield._native import kernels
from fisherfield._validate import non_negative, positive_int

from . import series
from .bands import BULK_TOL, cosine_rule, find_bands, necks
from .discrete_law import Atoms, DiscreteLaw
from .gaussian import stacklevel_of_user

__all__ = ["ConvergenceWarning", "FreeLaw", "Transform"]

Array = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
_Operation = tuple[str, float, DiscreteLaw | None]

_MASS_TOL = 1e-13  # masses are sums and differences of masses
_MISSING = 1e-3  # mass of bands not found that is warned of
_NEAR_ATOM = (1e-10, 1e-8, 1e-7, 1e-6)  # distances from an atom, over the bound, at which it is gone around
_NEAR_ZERO = 1e-10  # the same of zero, where transforms divide by z
_RANGE = 1e70  # squares and cubes of what is larger overflow
_CHUNK = 64  # points of a task


class ConvergenceWarning(RuntimeWarning):
    """An iteration did not converge at some points; the message says where."""


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
        """Return the law of ``position`` times the identity, ``position >= 0``.

        Parameters
        ----------
        position : float
            Where it lies, >= 0.

        Returns
        -------
        FreeLaw

        Raises
        ------
        ValueError, TypeError
            If the position is no number >= 0.
        """
        return cls(non_negative(position, "position"))

    def times(self, law: DiscreteLaw) -> FreeLaw:
        """Return the free multiplicative convolution with a discrete law.

        Parameters
        ----------
        law : DiscreteLaw
            Law of :math:`D^2`, D free from the matrix.

        Returns
        -------
        FreeLaw

        Raises
        ------
        TypeError
            If ``law`` is no ``DiscreteLaw``.
        """
        if not isinstance(law, DiscreteLaw):
            raise TypeError(f"law: expected a DiscreteLaw, got {type(law).__name__}")
        if law.values == (0.0,) or self._is_zero:
            return FreeLaw(0.0)
        return self * law.values[0] if len(law.values) == 1 else self._then("product", 0.0, law)

    def times_wishart(self, ratio: float = 1.0) -> FreeLaw:
        """Return the free product with X^T X / n for X of ``ratio`` n rows, n columns, entries of variance 1.

        Parameters
        ----------
        ratio : float, default 1.0
            Rows of X over its columns, > 0.

        Returns
        -------
        FreeLaw

        Raises
        ------
        ValueError, TypeError
            If the ratio is no number > 0.
        """
        ratio = non_negative(ratio, "ratio", strict=True)
        return self if self._is_zero else self._then("wishart", ratio)

    def resized(self, ratio: float) -> FreeLaw:
        """Return the law of the same nonzero eigenvalues in ``ratio`` times the dimension.

        Parameters
        ----------
        ratio : float
            New dimension over the old one, > 0.

        Returns
        -------
        FreeLaw

        Raises
        ------
        ValueError, TypeError
            If the ratio is no number > 0, or the mass away from zero exceeds it: there are more nonzero eigenvalues
            than dimensions.
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
        """Return the law of the corner P H P, in dimension p n: free cumulants p^(n-1) kappa_n.

        Parameters
        ----------
        p : float
            Dimension of the corner over that of the matrix, in (0, 1].

        Returns
        -------
        FreeLaw

        Raises
        ------
        ValueError, TypeError
            If p is no number in (0, 1].
        """
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

        Parameters
        ----------
        n : int
            Highest order, >= 1.

        Returns
        -------
        ndarray, shape (n,), float64

        Raises
        ------
        ValueError, TypeError
            If n is no positive integer.
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
        r"""Return the free cumulants :math:`\kappa_1, ..., \kappa_n`.

        Parameters
        ----------
        n : int
            Highest order, >= 1.

        Returns
        -------
        ndarray, shape (n,), float64

        Raises
        ------
        ValueError, TypeError
            If n is no positive integer.
        """
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

        Raises
        ------
        ValueError, TypeError
            For points that are no finite numbers, and a law whose largest eigenvalue is not within a factor of 1e70 of
            the point mass.
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
        r"""Return the Stieltjes transform :math:`G(z) = \int d\mu(x) / (z - x)`.

        Parameters
        ----------
        z : array_like of complex or float, any shape
            As of :meth:`transform`.

        Returns
        -------
        ndarray of complex, of the shape of z
            NaN, with a warning, where the iteration fails.

        Raises
        ------
        ValueError, TypeError
            As :meth:`transform`.

        Warns
        -----
        ConvergenceWarning
            Where the iteration fails.
        """
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

        Raises
        ------
        ValueError, TypeError
            For points that are no finite real numbers, a height that is no number >= 0, and as :meth:`transform`.

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

        Parameters
        ----------
        x : array_like of float, any shape

        Returns
        -------
        ndarray of the shape of x, float64
            In [0, 1]; NaN, with a warning, where the iteration fails.

        Raises
        ------
        ValueError, TypeError
            For points that are no finite real numbers, and as :meth:`transform`.

        Warns
        -----
        ConvergenceWarning
            Where the iteration fails.
        """
        points = _as_reals(x)
        flat = points.ravel()
        out = (flat >= 0).astype(np.float64)
        inside = (flat >= 0) & (flat <= self._bound)
        if inside.any():
            out[inside] = self._continuous_below(flat[inside]) + self.atoms.below(flat[inside])
        return np.clip(out, 0.0, 1.0).reshape(points.shape)

    def quantile(self, u: npt.ArrayLike) -> Array:
        """Return the smallest x with ``cdf(x) >= u``; for u = 0 the lower end of the spectrum.

        Parameters
        ----------
        u : array_like of float, any shape
            Masses, 0 <= u <= 1.

        Returns
        -------
        ndarray of the shape of u, float64

        Raises
        ------
        ValueError, TypeError
            For levels that are no numbers in [0, 1], and as :meth:`transform`.

        Warns
        -----
        ConvergenceWarning
            Where the iteration fails.
        """
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
        if 1 - self.atoms.total < BULK_TOL:
            return _frozen(np.empty((0, 2)))
        bands = _frozen(find_bands(self._off_atoms, self.atoms, self._bound))
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

        Parameters
        ----------
        n : int, default 2000
            Number of points wanted, >= 1.

        Returns
        -------
        x, w : ndarray, shape (about n,)
            Ascending; empty if there is no continuous part.

        Raises
        ------
        ValueError, TypeError
            If n is no positive integer, and as :meth:`transform`.
        """
        count = positive_int(n, "n")
        pieces, whole = self._pieces
        if len(pieces) == 0:
            return np.empty(0), np.empty(0)
        masses = np.diff(self._continuous_below(pieces.ravel()))[::2]
        shares = np.maximum(np.round(count * masses / masses.sum()), 8).astype(int)
        rules = [
            cosine_rule(low, high, share, edges)
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
            x = cosine_rule(low, high, max(32, int(3000 * share)))[0]
            cuts = list(pairwise([low, *x[necks(self.density(x))], high]))
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
