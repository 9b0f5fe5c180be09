r"""The law of the squared slope of an activation function over a Gaussian, as finitely many atoms."""

from __future__ import annotations

import functools
import math
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from fisherfield import activations
from fisherfield._native import kernels
from fisherfield._validate import non_negative

from .discrete_law import DiscreteLaw
from .free_law import ConvergenceWarning
from .gaussian import check_tol, stacklevel_of_user

__all__ = ["slope_law"]

Array = npt.NDArray[np.float64]

_REACH = 9.0  # standard deviations; the mass beyond is 1e-19
_VANISHING = 1e-10  # squared slopes below, over the largest, are put together at their mean
_FLAT = 1e-9  # slopes of a straight piece that were computed by differences agree to this
_PANELS = sorted([0.0, *(sign * 2.0**k for k in range(12) for sign in (-1, 1))])  # phi' varies on the scale of 1
_NODES = (8, 16, 32, 64, 128, 256)


def slope_law(activation: Any, q: float, *, tol: float = 1e-9) -> DiscreteLaw:
    r"""Return the law of :math:`\phi'(u)^2`, :math:`u \sim N(0, q)`, by atoms.

    Exact for piecewise linear functions. Otherwise the atoms are the nodes of Gauss-Legendre rules on panels between
    the kinks. Free convolution with a law nu at Kolmogorov distance d from the true one moves a distribution function
    by at most d (Bercovici, Voiculescu 1993), and where the other factor is spread out, exponentially less. The number
    of nodes is doubled until the transform :math:`\int x / (z - x) d\nu` settles at points around the law.

    Parameters
    ----------
    activation : str, Activation or callable
    q : float
        Variance, >= 0.
    tol : float, default 1e-9
        Relative change of the transform at the last doubling, between 1e-14 and 0.1.

    Returns
    -------
    DiscreteLaw

    Raises
    ------
    ValueError, TypeError
        For an unknown activation, and numbers out of range.

    Warns
    -----
    ConvergenceWarning
        If the tolerance is not reached with 256 nodes a panel.

    Examples
    --------
    >>> from fisherfield import theory
    >>> theory.slope_law("relu", 1.0)
    DiscreteLaw(2 atoms in [0, 1], mean 0.5)
    >>> round(float(theory.slope_law("tanh", 1.0).moments(1)[0]), 12)
    0.464402902448
    """
    phi, q, tol = activations.get(activation), non_negative(q, "q"), check_tol(tol)
    if q == 0:
        return DiscreteLaw(phi.evaluate(np.zeros(1))[1] ** 2)
    previous: npt.NDArray[np.complex128] | None = None
    change = math.inf
    for nodes in _NODES:
        law = _law_with_nodes(phi, math.sqrt(q), nodes)
        if len(law.values) <= len(phi.kinks) + 1:
            return law
        probe = _probe(law)
        if previous is not None:
            change = float(np.abs(probe - previous).max() / np.abs(probe).max())
            if change <= tol:
                return law
        previous = probe
    warnings.warn(
        f"law of the slopes of {phi.name} at q = {q:g}: its transform changed by {change:.1e} at the last doubling, to "
        f"{_NODES[-1]} nodes a panel, not {tol:.1e}; if the function has kinks, name them (kinks=)",
        ConvergenceWarning,
        stacklevel=stacklevel_of_user(),
    )
    return law


def _law_with_nodes(phi: activations.Activation, deviation: float, nodes: int) -> DiscreteLaw:
    reach = _REACH * deviation
    values, masses = [], []
    t, weights = _legendre(nodes)
    for low, high in pairwise([-reach, *(kink for kink in phi.kinks if abs(kink) < reach), reach]):
        ends = [low, *(x for x in _PANELS if low < x < high), high]
        u = np.concatenate([begin + (end - begin) * t for begin, end in pairwise(ends)])
        squares = phi.evaluate(u)[1] ** 2
        if np.ptp(squares) <= _FLAT * max(1.0, squares.max()):  # a straight piece is one atom
            values.append(squares[:1])
            masses.append(np.array([_mass(low, high, deviation)]))
            continue
        for panel, (begin, end) in enumerate(pairwise(ends)):
            part = slice(panel * nodes, (panel + 1) * nodes)
            piece = weights * np.exp(-0.5 * (u[part] / deviation) ** 2)
            if piece.any():
                values.append(squares[part])
                masses.append(piece * (_mass(begin, end, deviation) / piece.sum()))
    x, w = np.concatenate(values), np.concatenate(masses)
    kept = w > 1e-30
    x, w = x[kept], w[kept] / math.fsum(w[kept])
    vanishing = (x > 0) & (x < _VANISHING * x.max())  # as equal as the eigenvalues they lead to
    if np.count_nonzero(vanishing) > 1:
        x = np.where(vanishing, np.dot(x, w * vanishing) / w[vanishing].sum(), x)
    return DiscreteLaw(x, w)


@functools.cache
def _legendre(nodes: int) -> tuple[Array, Array]:
    """Nodes and weights on [0, 1]."""
    t, weights = kernels.gauss_legendre(nodes)
    return (1 + t) / 2, weights / 2


def _mass(low: float, high: float, deviation: float) -> float:
    """Mass of a Gaussian between two points, from the tail that is not near 1."""
    a, b = low / deviation, high / deviation
    return float(ndtr(-a) - ndtr(-b) if a > 0 else ndtr(b) - ndtr(a))


def _probe(law: DiscreteLaw) -> npt.NDArray[np.complex128]:
    x, w = np.array(law.values), np.array(law.weights)
    z = math.sqrt(np.dot(x * x, w)) * np.array([-0.5, 0.5j, 1.0 + 0.5j, 2.0 + 0.5j])
    transform: npt.NDArray[np.complex128] = (x * w / (z[:, None] - x)).sum(axis=1)
    return transform
