"""Laws of finitely many atoms, and the atoms of other laws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fisherfield._validate import as_float_array, non_negative, positive_int

__all__ = ["Atoms", "DiscreteLaw"]

Array = npt.NDArray[np.float64]


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
        """Return the law of a projection of normalised trace ``p``: mass p at 1, the rest at 0.

        Parameters
        ----------
        p : float
            Mass of the atom at 1, in [0, 1].

        Returns
        -------
        DiscreteLaw

        Raises
        ------
        ValueError, TypeError
            If p is no number in [0, 1].
        """
        p = non_negative(p, "p")
        if p > 1:
            raise ValueError(f"p: expected a number in [0, 1], got {p:g}")
        return cls([0.0, 1.0][p == 1 :], [1 - p, p][p == 1 :]) if p > 0 else cls([0.0])

    def moments(self, n: int) -> Array:
        """Return the moments :math:`m_1, ..., m_n`.

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
        """Return the mass of the atoms at or below each x.

        Parameters
        ----------
        x : ndarray, any shape

        Returns
        -------
        ndarray of the shape of x, float64
        """
        cumulative = np.concatenate([[0.0], np.cumsum(self.masses)])
        return cumulative[np.searchsorted(self.positions, x, side="right")]
