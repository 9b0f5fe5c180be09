r"""How far the C outliers of a finite network lie apart, and with them the largest eigenvalue.

The outliers are the eigenvalues of the C x C Gram matrix of the mean gradients :math:`\bar g_k = \frac{1}{T} \sum_t
\nabla f_k(x_t)` (Karakida, Akaho, Amari 2021, Theorem 3.2). In the limit of wide layers it is
:math:`\bar\lambda I`, and the theory's maximum is :math:`\bar\lambda`. At finite width its entries fluctuate by
:math:`O(\sqrt M)`, and the largest eigenvalue lies above the mean one. The papers are silent on it; this is derived
here.

The products :math:`X^l_{kk'}(s,t) = \delta^l_k(s) \cdot \delta^l_{k'}(t)` of two outputs obey, given those above,

.. math:: X^l = \chi^l_{st} X^{l+1} + \xi^l, \qquad \operatorname{Cov}[\xi^l(s,t), \xi^l(s',t')] =
    \frac{\sigma_{w,l+1}^4}{M_l} E[\phi'_s \phi'_t \phi'_{s'} \phi'_{t'}]\,
    \tilde q^{l+1}_{ss'} \tilde q^{l+1}_{tt'}, \qquad \chi^l_{st} = \sigma_{w,l+1}^2 E[\phi'_s \phi'_t]

because the weights between are fresh Gaussians. The layers up to m pass :math:`\xi^m` on with the weight
:math:`A^m_{st} = M_{m-1} \hat q^{m-1}_{st} + 1 + \chi^{m-1}_{st} A^{m-1}_{st}` (without biases no 1). Each entry off
the diagonal then has the variance

.. math:: \sigma^2 = \sum_{m=1}^{L-1} \frac{\sigma_{w,m+1}^4}{M_m} \frac{1}{T^4} \sum_{s,t,s',t'} A^m_{st} A^m_{s't'}
    E[\phi'_s \phi'_t \phi'_{s'} \phi'_{t'}]\, \tilde q^{m+1}_{ss'} \tilde q^{m+1}_{tt'}

and each on it twice that, about their own mean: a matrix of the Gaussian orthogonal ensemble, :math:`\bar\lambda I +
\sigma G`. What is left out, the skew of the entries and the repulsion of the outliers by the bulk, makes the largest
eigenvalue 2 to 6 % larger still at widths from 150 to 400.
"""

from __future__ import annotations

import functools
import math
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from fisherfield._native import kernels
from fisherfield._validate import positive_int
from fisherfield.architecture import MLP

from .inputs import OrderParameters

__all__ = ["goe_maximum", "outlier_spread", "require_fresh_weights"]

Array = npt.NDArray[np.float64]

_REACH = 9.0  # standard deviations; the mass beyond is 1e-19
_SIZES = ((1, 1), (2,), (1, 1, 1, 1), (1, 1, 2), (2, 2), (1, 3), (4,))  # of groups of two and of four samples
_NODES = 16  # of Gauss-Legendre rules on panels of a standard deviation
_ALIKE = 0.01  # samples whose own deviation is this part of their common one are taken as the same
_DRAWS = 20_000  # of small matrices: the mean of the largest eigenvalue to 0.005
_DRAWN_OPERATIONS = 1e9
_LARGE = 100
_TRACY_WIDOM = -1.2065335745820  # mean of their law for real symmetric matrices


def outlier_spread(arch: MLP, order: OrderParameters, num_samples: int) -> float:
    r"""Return :math:`\sigma`, the deviation of the entries of the Gram matrix of mean gradients.

    Overlaps of different samples are those of ``order``, the same for all pairs; negative ones, which many samples
    cannot have, are taken as zero.

    Parameters
    ----------
    arch : MLP
        With Gaussian weights and without skips.
    order : OrderParameters
        Single numbers per layer.
    num_samples : int
        T.

    Returns
    -------
    float
        0 for a network without hidden layers, whose mean gradients of different outputs are orthogonal.

    Raises
    ------
    ValueError, TypeError
        For residual networks, orthogonal weights, and a number of samples that is no positive integer.

    Examples
    --------
    >>> import fisherfield as ff
    >>> from fisherfield.theory import outlier_spread
    >>> arch = ff.MLP((600, 600, 600, 5), "tanh", weight_var=3.0, bias_var=0.64)
    >>> round(outlier_spread(arch, ff.mean_field(arch, 100).order_parameters, 100), 3)
    1.841
    """
    require_fresh_weights(arch)
    count, bias = positive_int(num_samples, "num_samples"), float(arch.has_biases)
    same = np.array([order.qhat, order.qtilde, order.q])
    other = np.fmin(np.fmax([order.qhat_st, order.qtilde_st, order.q_st], 0.0), same)  # NaN: there are no others
    patterns, widths, weight_vars = _patterns(count), arch.widths, arch.weight_vars
    passed, chi, variance = np.zeros(2), np.zeros(2), 0.0  # A and chi, of the same sample and of two
    for m in range(arch.depth - 1):  # hidden layers, counted from 0
        slopes = _slope_products(arch.activations[m], same[2, m], other[2, m])
        passed = widths[m] * np.array([same[0, m], other[0, m]]) + bias + chi * passed
        chi = weight_vars[m + 1] * np.array([slopes[2,], slopes[1, 1]])
        above = (same[1, m + 1], other[1, m + 1])
        for weight, labels in patterns:
            s, t, u, v = labels
            path = passed[int(s != t)] * passed[int(u != v)] * above[s != u] * above[t != v]
            sizes = tuple(sorted(map(labels.count, set(labels))))
            variance += weight * weight_vars[m + 1] ** 2 / widths[m + 1] * path * slopes[sizes]
    return math.sqrt(variance)


def require_fresh_weights(arch: MLP) -> None:
    """Refuse networks whose weights are not independent of each other, or that pass by them."""
    if arch.residual or arch.init != "gaussian":
        kind = "residual network" if arch.residual else f"{arch.init} weights"
        raise ValueError(f"arch: expected Gaussian weights and no skips, got {kind}")


def _patterns(num_samples: int) -> list[tuple[float, tuple[int, ...]]]:
    """Which of four samples drawn from T coincide, as labels, and how likely that is."""
    found = []
    for labels in product(range(4), repeat=4):
        firsts = list(dict.fromkeys(labels))
        if firsts == list(range(len(firsts))):  # labels in the order of their first appearance
            ways = math.prod(num_samples - k for k in range(len(firsts)))
            found.append((ways / num_samples**4, labels))
    return found


def _slope_products(phi: Any, q: float, q_st: float) -> dict[tuple[int, ...], float]:
    r"""Means of products of two and of four slopes, by how many of them belong to the same sample.

    Samples are :math:`u_s = \sqrt{q_{st}} z + \sqrt{q - q_{st}} x_s`: given z, different ones are independent.
    """
    common, own = math.sqrt(q_st), math.sqrt(q - q_st)
    same = own <= _ALIKE * common
    if same:
        common, own = 0.0, math.sqrt(q)
    step = 0.4 * min(1.0, own / common) if common else 1.0
    z = np.arange(-_REACH, _REACH + step, step) if common else np.zeros(1)
    density = np.exp(-0.5 * z**2)
    density /= density.sum()
    given = _slope_moments(phi, common * z, own)
    return {
        sizes: float(density @ np.prod([given[size - 1] for size in ((sum(sizes),) if same else sizes)], axis=0))
        for sizes in _SIZES
    }


def _slope_moments(phi: Any, means: Array, deviation: float) -> Array:
    r"""Means of :math:`\phi'(u)^n`, n = 1, ..., 4, for Gaussian u of each of the means: (4, number of means)."""
    t, weights = kernels.gauss_legendre(_NODES)
    ends = np.broadcast_to(np.arange(-_REACH, _REACH + 1), (len(means), int(2 * _REACH) + 1))
    kinks = (np.array(phi.kinks) - means[:, None]) / deviation  # panels end there
    ends = np.sort(np.concatenate([ends, np.clip(kinks, -_REACH, _REACH)], axis=1), axis=1)
    half = np.diff(ends)[:, :, None] / 2
    x = ends[:, :-1, None] + half * (1 + t)
    mass = np.exp(-0.5 * x**2) * half * weights
    mass /= mass.sum(axis=(1, 2), keepdims=True)
    slope = phi.evaluate(means[:, None, None] + deviation * x)[1]
    return np.stack([(mass * slope**n).sum(axis=(1, 2)) for n in range(1, 5)])


@functools.cache
def goe_maximum(size: int) -> float:
    r"""Return the mean of the largest eigenvalue of a matrix of the Gaussian orthogonal ensemble.

    Symmetric, entries off the diagonal of variance 1 and on it of variance 2; :math:`2 \sqrt{n}` for large n. The mean
    over draws with a fixed seed, to about 0.01; beyond n = 100 that of the limiting law of Tracy and Widom,
    :math:`2 \sqrt n - 1.2065\, n^{-1/6}`.

    Parameters
    ----------
    size : int
        n, >= 1.

    Returns
    -------
    float
        0 for n = 1.

    Raises
    ------
    ValueError, TypeError
        If the size is no positive integer.

    Examples
    --------
    >>> from fisherfield.theory import goe_maximum
    >>> goe_maximum(1), abs(goe_maximum(2) - (3.141592653589793 / 2) ** 0.5) < 0.02
    (0.0, True)
    """
    if positive_int(size, "size") == 1:
        return 0.0
    if size > _LARGE:
        return 2 * math.sqrt(size) + _TRACY_WIDOM * math.pow(size, -1 / 6)
    rng = np.random.default_rng(0)
    draws = int(np.clip(_DRAWN_OPERATIONS / size**3, 20, _DRAWS))
    total = 0.0
    for begin in range(0, draws, 500):
        A = rng.standard_normal((min(500, draws - begin), size, size))
        total += float(np.linalg.eigvalsh((A + A.transpose(0, 2, 1)) / math.sqrt(2))[:, -1].sum())
    return total / draws
