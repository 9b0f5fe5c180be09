"""The bands of a law's continuous part, and quadrature on them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fisherfield._native import kernels

from .discrete_law import Atoms

if TYPE_CHECKING:
    from .free_law import Transform

__all__ = ["BULK_TOL", "cosine_rule", "find_bands", "necks"]

Array = npt.NDArray[np.float64]

BULK_TOL = 1e-11  # mass of a band that is looked for


def find_bands(transform: Callable[[Array], Transform], atoms: Atoms, bound: float) -> Array:
    """Return the bands, ascending, shape (n, 2), of the law on [0, bound] of this transform and these atoms."""
    return _Search(transform, atoms, bound).found


class _Search:
    """Search for the bands of a law: panels are cut until each is empty, within a band, or holds one edge.

    Distribution function and density vouch for each other: a panel is taken to lie within a band if the integral of the
    density over six points is the mass that the distribution function gives it; a gap would spoil that.
    """

    _NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)
    _AGREE = 1e-3
    _CUT = 0.4871  # not 1/2: cuts stay off atoms at simple fractions

    def __init__(self, transform: Callable[[Array], Transform], atoms: Atoms, bound: float) -> None:
        self._transform, self._atoms, self._scale = transform, atoms, bound
        breaks = np.linspace(-0.0031, 1.0029, 65) * self._scale
        self._pieces: list[tuple[float, float]] = []
        ends = np.stack([breaks, *self._sample(breaks)])
        panels = np.stack([ends[:, :-1], ends[:, 1:]])  # (end, (x, mass below, inside), panel)
        while panels.shape[2]:
            panels = self._cut(self._examine(panels))
        self.found = self._merged()

    def _sample(self, x: Array) -> tuple[Array, Array]:
        """Continuous mass below x, and whether x lies within a band (1.0 or 0.0)."""
        found = self._transform(x)
        below = 1 - found.log_potential.imag / np.pi - self._atoms.below(found.z.real)
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
        empty = (inside == 0) & ((mass < BULK_TOL) | narrow)
        taken = (inside == 2) & ((mass < BULK_TOL) | narrow)
        unclear = (inside == 2) & ~taken
        taken[unclear] = self._filled(low[unclear], high[unclear], mass[unclear])
        edge = np.flatnonzero(inside == 1)
        rising = in_high[edge] > 0
        at = self._edges(low[edge], high[edge], rising)
        start, stop = np.where(rising, at, low[edge]), np.where(rising, high[edge], at)
        done = (mass[edge] < BULK_TOL) | narrow[edge] | self._filled(at, np.where(rising, stop, start), mass[edge], 2)
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
        found = self._transform(points)
        density = -found.stieltjes.imag / np.pi
        integral = density @ (self._WEIGHTS / 2 * power * t ** (power - 1)) * np.abs(stop - start)
        return self._inside(found).all(axis=1) & (np.abs(integral - mass) <= self._AGREE * mass + BULK_TOL)

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


def cosine_rule(low: float, high: float, n: int, edges: bool = True) -> tuple[Array, Array]:
    """Nodes and weights for x = low + (high - low) sin(t/2)^2: midpoints of t, or Gauss-Legendre between cuts.

    With edges at both ends, rho dx / dt is smooth and even there: midpoints converge exponentially.
    """
    t, weights = (2 * np.arange(n) + 1) / n - 1, np.full(n, 2 / n)
    if not edges:
        t, weights = kernels.gauss_legendre(n)
    t = (1 + t) * np.pi / 2
    return low + (high - low) * np.sin(t / 2) ** 2, (high - low) * np.pi / 4 * np.sin(t) * weights


def necks(density: Array) -> list[int]:
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
