r"""Moments and free cumulants as truncated power series.

A law's moments ``m_1, ..., m_n`` are the coefficients of :math:`\psi(s) = \sum_k m_k s^k`. Free multiplication
multiplies S-transforms, :math:`S(u) = \psi^{-1}(u) (1 + u) / u` (Voiculescu, Dykema, Nica 1992, Section 3.6), and free
cumulants are the coefficients of :math:`u R(u)`, where :math:`1 + u R(u) = 1 + \psi(s)` at :math:`u = s (1 + \psi(s))`
(Speicher 1994).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fisherfield._validate import as_float_array

__all__ = ["cumulants_of", "free_cumulants", "free_moments", "free_product", "shifted"]

Array = npt.NDArray[np.float64]


def free_cumulants(moments: npt.ArrayLike) -> Array:
    r"""Return the free cumulants :math:`\kappa_1, \dots, \kappa_n` of a law with the moments :math:`m_1, \dots, m_n`.

    Parameters
    ----------
    moments : array, shape (n,)

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError, TypeError
        For what is no sequence of finite numbers, or an empty one.

    Examples
    --------
    The semicircle of variance 1 has one free cumulant:

    >>> from fisherfield import theory
    >>> theory.free_cumulants([0.0, 1.0, 0.0, 2.0, 0.0, 5.0]).tolist()
    [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """
    return cumulants_of(_as_numbers(moments, "moments"))


def free_moments(cumulants: npt.ArrayLike) -> Array:
    r"""Return the moments of a law with the free cumulants :math:`\kappa_1, \dots, \kappa_n`.

    Parameters
    ----------
    cumulants : array, shape (n,)

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError, TypeError
        For what is no sequence of finite numbers, or an empty one.

    Examples
    --------
    Marchenko and Pastur's law of ratio 1 has free cumulants 1; its moments are the Catalan numbers:

    >>> from fisherfield import theory
    >>> theory.free_moments([1.0, 1.0, 1.0, 1.0, 1.0]).tolist()
    [1.0, 2.0, 5.0, 14.0, 42.0]
    """
    kappa = _as_numbers(cumulants, "cumulants")
    n = len(kappa)
    # s = u / (1 + u R(u)) is the inverse of u = s (1 + psi(s)).
    s = np.zeros(n + 2)
    s[1:] = _reciprocal(np.concatenate([[1.0], kappa]))
    return _inverse(s)[2:]


def cumulants_of(moments: Array) -> Array:
    """``free_cumulants`` of numbers that need no check."""
    n = len(moments)
    u = np.zeros(n + 2)
    u[1], u[2:] = 1.0, moments
    s = _inverse(u)  # s = u / (1 + u R(u))
    return _reciprocal(s[1:])[1:]


def free_product(first: Array, second: Array) -> Array:
    """Return the moments of the free product of two laws on x >= 0 with positive means."""
    one_plus = np.zeros(len(first))
    one_plus[:2] = 1.0  # chi(u) / u for chi = psi^-1; S = (1 + u) chi / u
    product = _multiply(_multiply(_chi_over_u(first), _chi_over_u(second)), one_plus)
    return _inverse(np.concatenate([[0.0], product]))[1:]


def shifted(moments: Array, shift: float) -> Array:
    """Return the moments of the law moved by ``shift``."""
    powers = np.concatenate([[1.0], moments])
    out = np.empty(len(moments))
    row = np.ones(1)  # Pascal's triangle
    for n in range(1, len(powers)):
        row = np.concatenate([[1.0], row[1:] + row[:-1], [1.0]])
        out[n - 1] = np.sum(row * powers[: n + 1] * shift ** np.arange(n, -1, -1))
    return out


def _as_numbers(value: npt.ArrayLike, name: str) -> Array:
    return np.asarray(as_float_array(value, name, ndim=1), dtype=np.float64)


def _chi_over_u(moments: Array) -> Array:
    return _inverse(np.concatenate([[0.0], moments]))[1:]


def _multiply(a: Array, b: Array) -> Array:
    return np.convolve(a, b)[: len(a)]


def _reciprocal(a: Array) -> Array:
    """1 / a for a series with a constant term."""
    out = np.zeros(len(a))
    out[0] = 1 / a[0]
    for n in range(1, len(a)):
        out[n] = -np.dot(a[1 : n + 1], out[:n][::-1]) / a[0]
    return out + 0.0  # no negative zeros


def _inverse(f: Array) -> Array:
    """Inverse of f = f_1 s + f_2 s^2 + ... by Lagrange: n times coefficient n is that of s^(n-1) in (s / f)^n."""
    n = len(f) - 1
    ratio = _reciprocal(f[1:])
    power, out = np.eye(1, n)[0], np.zeros(n + 1)
    for k in range(1, n + 1):
        power = _multiply(power, ratio)
        out[k] = power[k - 1] / k
    return out
