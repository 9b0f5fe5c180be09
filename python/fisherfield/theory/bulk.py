r"""The bulk of the dual Fisher matrix where the number of samples is of the order of the width.

Once mean subtraction, or an odd network, has taken the outliers away, the leading order leaves n equal eigenvalues. At
finite T / M they spread: the Gram matrices of the layers are sample covariances of M_l features, and products of them
with each other. Their law is derived here, not in the papers, by following the resolvent through the layers, with
gradients taken to be independent of activations (as the order parameters take them). Given the part z of a
pre-activation that all samples share, with :math:`q^l_{st}` its variance, what is left to a sample is Gaussian, of
variance :math:`s^2 = q^l - q^l_{st}`; everything a hidden layer contributes is an average over z of moments of
:math:`\phi(z + s \xi)`.

With S_l the fluctuation of the Gram matrix of the activations and B_l that of the gradients,

.. math::
    T F^* = a I + \sum_{l=0}^{L-1} c_l S_l + \sum_{l=1}^{L-1} d_l B_l, \qquad
    c_l = M_l \tilde q^{l+1}_{st}, \quad d_l = M_{l-1} \hat q^{l-1}_{st} + 1, \quad
    a = \sum_l M_{l-1} (\tilde q^l - \tilde q^l_{st}) (\hat q^{l-1} - \hat q^{l-1}_{st}),

the +1 from the bias parameters. The resolvent's trace g (at x beyond the bulk) satisfies :math:`x(g) = R(g) + 1/g`
with R the law's R-transform; the edge is the minimum of x.

At finite width the maximum lies below the edge by the Tracy-Widom law, and C > 1 outputs mix: their common gradients
are, layer by layer, C x C Gaussian matrices next to the identity, whose largest eigenvalue lifts the edge. Left out are
the noise of single samples' diagonal entries and what mixing does beyond its linear order, each 1 to 3 % at width 300.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fisherfield._native import kernels
from fisherfield.activations import Activation
from fisherfield.architecture import MLP

from .gaussian import warn_unconverged
from .inputs import OrderParameters

__all__ = ["BulkLaw", "bulk_law", "conditional_moments"]

Array = npt.NDArray[np.float64]

# The range of the Gaussian integrals in standard deviations; e^{-32} is left out on either side.
_RANGE = 8.0
_NODES = 8  # of the Gauss-Legendre rule on one panel
_MOST_PANELS = 1024
_MOST_COMMON = 2000
# Accuracy of the law's averages; the moments they are made of are far better for the built-in activations.
_TOL = 1e-6
# Mean of the Tracy-Widom law of real symmetric matrices (beta = 1), and how many edge levels are told apart.
_TRACY_WIDOM = -1.2065335746
_LEVELS = 64
# E lambda_max of a C x C symmetric Gaussian matrix, off-diagonal variance 1 and diagonal variance 2, C = 1, ..., 10.
_LARGEST_OF_GAUSSIAN = (0.0, 1.25331, 2.07297, 2.71877, 3.26668, 3.75020, 4.18740, 4.58927, 4.96309, 5.31395)


@dataclass(frozen=True)
class BulkLaw:
    r"""The bulk of the Fisher information matrix without outliers: the n C possibly nonzero eigenvalues.

    n = T - 1 after mean subtraction and T for an odd network. See :attr:`fisherfield.theory.PredictedMetric.bulk`.

    Attributes
    ----------
    num_eigenvalues : int
        n C.
    mean : float
        :math:`R(0) = \alpha M (\kappa_1 - \kappa_2) / T`, with the bias parameters.
    second_moment : float
        Their mean square, with what the C outputs add by mixing.
    edge : float
        Where the limiting law ends, for T / M fixed.
    maximum : float
        Largest eigenvalue at finite width: the edge, less the mean :math:`1.2065\, s` of the Tracy-Widom law, plus
        what the outputs' mixing adds.
    top_mean : float
        Mean of the C largest.
    """

    num_eigenvalues: int
    mean: float
    second_moment: float
    edge: float
    maximum: float
    top_mean: float


# --- a hidden layer given the common part of its pre-activations ------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ConditionalMoments:
    r"""Moments of phi at :math:`u = z + s \xi`, xi a unit Gaussian, for every z (Z,).

    Attributes
    ----------
    mean, slope, curvature : (Z,) ndarray
        :math:`E \phi`, :math:`E \phi'`, and :math:`E \phi''` taken as :math:`E[\phi' \xi] / s`, kinks included.
    variance, covariance, slope_variance : (Z,) ndarray
        Var phi, Cov(phi, phi'), Var phi'.
    """

    mean: Array
    slope: Array
    curvature: Array
    variance: Array
    covariance: Array
    slope_variance: Array


def conditional_moments(phi: Activation, z: Array, s: float) -> ConditionalMoments:
    r"""Return the moments of :math:`\phi(z + s \xi)` given z, for z (Z,) and s > 0.

    Gauss-Legendre rules on panels at most 1 wide, in u and in xi, that end at the kinks.
    """
    xi, weight = _split_rule(z, s, phi.kinks)
    value, first = (np.asarray(f, dtype=np.float64) for f in phi.evaluate(z[:, None] + s * xi, order=1))

    def average(f: Array) -> Array:
        mean: Array = np.einsum("zk,zk->z", weight, f)
        return mean

    mean, slope = average(value), average(first)
    value, first = value - mean[:, None], first - slope[:, None]
    return ConditionalMoments(
        mean, slope, average(first * xi) / s, average(value**2), average(value * first), average(first**2)
    )


def _split_rule(z: Array, s: float, kinks: tuple[float, ...]) -> tuple[Array, Array]:
    """Nodes and weights (Z, k) of the unit Gaussian measure in xi, with panels that end where z + s xi meets a kink."""
    panels = min(int(2 * _RANGE * math.ceil(max(s, 1.0))), _MOST_PANELS)
    regular = np.broadcast_to(np.linspace(-_RANGE, _RANGE, panels + 1), (len(z), panels + 1))
    breaks = np.clip((np.array(kinks) - z[:, None]) / s, -_RANGE, _RANGE)
    ends = np.sort(np.hstack([regular, breaks]), axis=1)[:, :, None]
    node, weight = kernels.gauss_legendre(_NODES)
    half = np.diff(ends, axis=1) / 2
    xi = (ends[:, :-1] + half * (1 + node)).reshape(len(z), -1)
    density = np.exp(-(xi**2) / 2) / math.sqrt(2 * math.pi)
    return xi, (half * weight).reshape(len(z), -1) * density


def _common_rule(q_st: float, s: float) -> tuple[Array, Array]:
    """Nodes and weights (Z,) for z ~ N(0, q_st): the trapezoidal rule, fine enough for functions of z / s."""
    deviation = math.sqrt(q_st)
    if deviation == 0:
        return np.zeros(1), np.ones(1)
    step = 0.35 * min(1.0, 2 * s / deviation)
    reach = min(math.ceil(_RANGE / step), _MOST_COMMON // 2)
    x = np.linspace(-_RANGE, _RANGE, 2 * reach + 1)
    weight = np.exp(-(x**2) / 2)
    return deviation * x, weight / weight.sum()


@dataclass(frozen=True, eq=False)
class _HiddenLayer:
    """What the equations need of a hidden layer, for every z, (Z, 1) but for the weight (Z,).

    ``noise`` are the parts of Var phi, Cov(phi, phi') and Var phi' that are not linear in xi.
    """

    weight: Array
    slope: Array
    curvature: Array
    noise: tuple[Array, Array, Array]
    slope_variance: Array

    @classmethod
    def of(cls, weight: Array, s: float, given: ConditionalMoments) -> _HiddenLayer:
        b, c = s * given.slope, s * given.curvature
        noise = (given.variance - b**2, given.covariance - b * c, given.slope_variance - c**2)
        e11, e12, e22 = (part[:, None] for part in noise)
        columns = (given.slope[:, None], given.curvature[:, None])
        return cls(weight, *columns, (e11, e12, e22), given.slope_variance[:, None])

    def gradient_covariance(self, passed_on: float) -> Array:
        r"""Covariance (2, 2), times the width, of a layer's relative share in :math:`\tilde q_{st}` and in its total.

        ``passed_on`` is :math:`\tilde q_{st} / \tilde q` of the layer above. Zero where no gradient passes.
        """
        pair, own = self.slope[:, 0] ** 2, self.slope[:, 0] ** 2 + self.slope_variance[:, 0]
        shares = np.stack([pair, passed_on * own])
        means = np.array([self.weight @ pair, self.weight @ own])
        if not means.all():
            return np.zeros((2, 2))
        shares /= means[:, None]
        return np.asarray((shares * self.weight) @ shares.T)


def _hidden_layers(arch: MLP, order: OrderParameters) -> tuple[_HiddenLayer, ...]:
    layers, worst, points = [], 0.0, 0
    for l, phi in enumerate(arch.activations):  # at index l the hidden layer l + 1
        s = math.sqrt(order.q[l] - order.q_st[l])
        z, weight = _common_rule(float(order.q_st[l]), s)
        given = conditional_moments(phi, z, s)
        layers.append(_HiddenLayer.of(weight, s, given))
        scale = arch.weight_vars[l + 1]
        known = (
            (given.mean**2, order.qhat_st[l + 1], order.qhat[l + 1]),
            (given.mean**2 + given.variance, order.qhat[l + 1], order.qhat[l + 1]),
            (scale * order.qtilde_st[l + 1] * given.slope**2, order.qtilde_st[l], order.qtilde[l]),
            (scale * order.qtilde[l + 1] * (given.slope**2 + given.slope_variance), order.qtilde[l], order.qtilde[l]),
        )
        errors = [abs(weight @ f - expected) / unit for f, expected, unit in known if unit > 0]
        worst, points = max([worst, *map(float, errors)]), max(points, len(z))
    warn_unconverged(worst, points, _TOL, "bulk")
    return tuple(layers)


# --- the self-consistent equations ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Equations:
    r"""The fixed-point equations of the R-transform; :math:`\tau = g n / T`.

    Tables over layers are (L, 1), or (L, m) where m sets of gradients are solved for at once.
    """

    widths: Array
    weight_vars: tuple[float, ...]
    biases: float
    hidden: tuple[_HiddenLayer, ...]
    qhat: Array
    qhat_st: Array
    qtilde: Array
    qtilde_st: Array
    num_outputs: int
    num_samples: int
    n: int

    @cached_property
    def forward_weight(self) -> Array:
        """c_l, l = 0, ..., L - 1."""
        return self.widths * self.qtilde_st

    @cached_property
    def backward_weight(self) -> Array:
        """d_l at index l = 1, ..., L - 1; 0 at index 0."""
        weight: Array = self.widths * self.qhat_st + self.biases
        return np.vstack([np.zeros((1, 1)), weight[:-1]])

    @cached_property
    def constant(self) -> Array:
        """The part a of T F* that is a multiple of the identity."""
        total: Array = (self.widths * (self.qtilde - self.qtilde_st) * (self.qhat - self.qhat_st)).sum(axis=0)
        return total

    @property
    def mean(self) -> float:
        """R(0)."""
        return float(self._mean[0])

    @property
    def _mean(self) -> Array:
        each = self.widths * self.qhat + self.biases, self.widths * self.qhat_st + self.biases
        total: Array = (self.qtilde * each[0] - self.qtilde_st * each[1]).sum(axis=0) / self.num_samples
        return total

    def r_transform(self, g: Array, *, tol: float = 1e-11, iterations: int = 1000) -> Array:
        """Return R(g) (m,) for g (m,) > 0; inf beyond the g up to which a solution exists."""
        tau = g * (self.n / self.num_samples)
        L, m = len(self.widths), max(len(g), self.qtilde.shape[1])
        c = np.broadcast_to(self.forward_weight, (L, m))
        d = np.broadcast_to(self.backward_weight, (L, m))
        below = np.zeros((L, m)) + (self.qhat - self.qhat_st) * tau
        above = np.zeros((L + 1, m))
        above[1:L] = ((self.qtilde - self.qtilde_st) * tau)[:-1]
        identity = np.full(m, np.inf)
        for _ in range(iterations):
            c, d, new = self._iterate(tau, c, d, below, above)
            change = np.abs(new - identity) > tol * np.abs(new)
            identity = new
            if not change.any():  # false, too, where the new value is NaN: no solution
                break
        identity[change | np.isnan(identity)] = np.inf
        return np.asarray((self.constant + identity) / self.num_samples)

    def _iterate(self, tau: Array, c: Array, d: Array, below: Array, above: Array) -> tuple[Array, Array, Array]:
        """Update the traces below (of the S_l) and above (of the B_l) in place; return new weights and identity."""
        L = len(self.widths)
        v = (self.qhat - self.qhat_st)[0]
        (left,) = _positive(1 - c[:1] * v * tau / self.widths[0])
        below[0] = v * tau / left
        identity = c[0] * v / left
        new_c, new_d = self.forward_weight + np.zeros_like(c), self.backward_weight + np.zeros_like(d)
        for l in range(1, L):
            to_c, to_d, own, below[l], above[l] = self._layer(l, tau, c[l], d[l], below[l - 1], above[l + 1])
            new_c[l - 1] += self.weight_vars[l - 1] * to_c
            if l + 1 < L:
                new_d[l + 1] += self.weight_vars[l] / self.widths[l] * to_d
            identity = identity + own
        return new_c, new_d, identity

    def _layer(
        self, l: int, tau: Array, c: Array, d: Array, below: Array, above: Array
    ) -> tuple[Array, Array, Array, Array, Array]:
        """One hidden layer: what it adds to c below, to d above and to the identity, and its two traces.

        Activations and gradients of a unit mix where the unit's weights to the outputs point; in the other C - 1
        directions of the output space (``alone``) they do not.
        """
        layer, width, C = self.hidden[l - 1], float(self.widths[l, 0]), self.num_outputs
        e11, e12, e22 = layer.noise
        b, b2 = layer.slope, layer.curvature
        to_outputs = self.weight_vars[l] / width
        gain = to_outputs * self.qtilde_st[l] * C
        spread = to_outputs * (self.qtilde[l] - self.qtilde_st[l]) * tau
        signal = self.weight_vars[l - 1] * below
        c = c / width
        forward = b**2 * signal + e11 * tau
        mixed = b * b2 * signal + e12 * tau
        alone = b**2 * (to_outputs * above) + layer.slope_variance * spread
        backward = gain * (b2**2 * signal + e22 * tau) + alone
        room, room_d, room_alone = _positive(1 - c * forward), _positive(1 - d * backward), _positive(1 - d * alone)
        coupling = gain * mixed**2
        both = _positive(room * room_d - c * d * coupling)

        def average(paired: Array, unpaired: Array) -> Array:
            total: Array = layer.weight @ (paired + (C - 1) * unpaired) / C
            return total

        h11, h22, h12 = c * room_d / both, d * room / both, c * d * gain * mixed / both
        free, free_d = c / room, d / room_alone
        own_spread = layer.slope_variance * (spread / tau)
        return (
            width * average(h11 * b**2 + 2 * h12 * b * b2 + h22 * gain * b2**2, free * b**2),
            width * average(h22 * b**2, free_d * b**2),
            width
            * average(
                h11 * e11 + 2 * h12 * e12 + h22 * (gain * e22 + own_spread),
                free * e11 + free_d * own_spread,
            ),
            average((forward * room_d + d * coupling) / both, forward / room),
            width * average((backward * room + c * coupling) / both, alone / room_alone),
        )

    # --- what the law says ----------------------------------------------------------------------------------

    @cached_property
    def variance(self) -> float:
        """R'(0), the variance of the law, from a step so short that R'' hardly matters."""
        first = second = math.nan
        for h in 10.0 ** -np.arange(3, 12) / self.mean:
            first, second = (self.r_transform(np.array([h, 2 * h]), tol=1e-13) - self.mean) / h
            if abs(second - 2 * first) < 2e-3 * first:
                break
        return float(2 * first - second / 2)

    @cached_property
    def edge(self) -> tuple[float, float, float]:
        """Minimum of x(g), its place, and the second derivative there: on a grid of log g that narrows down on it."""
        place = np.arange(-8.0, 0.4, 0.2) - math.log(self.variance) / 2
        for narrowing in range(3):
            g = np.exp(place)
            x = self.r_transform(g, tol=1e-10, iterations=200) + 1 / g
            i = int(np.clip(np.argmin(x), 1, len(x) - 2))
            if narrowing > 0 and np.isfinite(x[i + 1]):
                break
            place = np.linspace(place[i - 1], place[i + 1], 21)
        slope, bend = (x[i + 1] - x[i - 1]) / 2, x[i + 1] + x[i - 1] - 2 * x[i]
        if not 0 < bend < math.inf:  # the equations have no solution beyond the minimum
            return float(x[i]), float(g[i]), 0.0
        shift, step = -slope / bend, math.log(g[i + 1] / g[i])
        lowest = float(g[i]) * math.exp(shift * step)
        return float(x[i] + slope * shift / 2), lowest, float(bend) / (step * lowest) ** 2  # for x' = 0

    @cached_property
    def mixing(self) -> tuple[float, float]:
        """Variances by which the outputs' mixing moves edge and mean: of the off-diagonal entries of a C x C matrix."""
        _, place, _ = self.edge
        more = self._with_more_gradient(h := 1e-3)
        for nearness in (1.0, 0.95, 0.8, 0.5):  # solutions may end right behind the edge
            edges = more.r_transform(np.full(more.qtilde.shape[1], nearness * place))
            if np.isfinite(edges).all():
                break
        return self._variance_over_gradients(edges, h), self._variance_over_gradients(more._mean, h)

    def _with_more_gradient(self, h: float) -> _Equations:
        """Columns (4 a hidden layer) in which pairs, then single samples, have a fraction h more, then less, of it.

        The layers below inherit it.
        """
        signs = np.array([[1, -1, 0, 0], [0, 0, 1, -1]])
        reached = np.triu(np.ones((len(self.widths), len(self.hidden))))
        pairs, single = (np.kron(reached, h * sign) for sign in signs)
        return replace(self, qtilde_st=self.qtilde_st * (1 + pairs), qtilde=self.qtilde * (1 + single))

    def _variance_over_gradients(self, values: Array, h: float) -> float:
        rates = (values[0::2] - values[1::2]).reshape(-1, 2) / (2 * h)
        return sum(float(rate @ self._gradient_covariance(l) @ rate) for l, rate in enumerate(rates, start=1))

    def _gradient_covariance(self, l: int) -> Array:
        passed_on = float(self.qtilde_st[l, 0] / self.qtilde[l, 0]) if self.qtilde[l, 0] > 0 else 0.0
        return self.hidden[l - 1].gradient_covariance(passed_on) / float(self.widths[l, 0])


def _positive(value: Array) -> Array:
    """NaN where a denominator is not positive for every z: there the equations have no solution."""
    return np.where((value > 0).all(axis=0), value, np.nan)


# --- finite width -----------------------------------------------------------------------------------------------------


def _largest_of_gaussian(C: int) -> float:
    known = len(_LARGEST_OF_GAUSSIAN)
    size = C - 0.5  # with which the large-C formula is within 0.4 % beyond the table
    return _LARGEST_OF_GAUSSIAN[C - 1] if known >= C else 2 * math.sqrt(size) + _TRACY_WIDOM / math.pow(size, 1 / 6)


def _levels(C: int, n: int) -> tuple[Array, Array]:
    """Mean levels of a C x C symmetric Gaussian matrix, and of the largest of n eigenvalues in units of their scale."""
    zeros, _ = kernels.gauss_hermite(C)  # the levels without fluctuations
    mixed = zeros * (_largest_of_gaussian(C) / zeros[-1]) if C > 1 else np.zeros(1)
    k = np.arange(1, min(C, n, _LEVELS) + 1)
    edge = -np.power(1.5 * math.pi * (k - 0.75), 2 / 3)
    edge[0] = _TRACY_WIDOM
    return mixed, edge


def bulk_law(arch: MLP, order: OrderParameters, num_samples: int, *, mean_subtracted: bool) -> BulkLaw:
    """Return the law of a plain network with Gaussian weights at equicorrelated Gaussian inputs.

    The order parameters must have pairs that are neither negatively nor fully correlated in any layer, and without
    mean subtraction uncorrelated ones.
    """
    C, n = arch.num_outputs, num_samples - mean_subtracted
    equations = _Equations(
        np.array(arch.widths[:-1], dtype=np.float64)[:, None],
        arch.weight_vars,
        float(arch.has_biases),
        _hidden_layers(arch, order),
        order.qhat[:, None],
        order.qhat_st[:, None],
        order.qtilde[:, None],
        order.qtilde_st[:, None],
        C,
        num_samples,
        n,
    )
    with np.errstate(all="ignore"):  # columns without a solution run on as NaN
        edge, _, second = equations.edge
        edge_variance, mean_variance = equations.mixing if C > 1 else (0.0, 0.0)
        scale = (second / 2) ** (1 / 3) * n ** (-2 / 3)
        variance = equations.variance
    mixed, levels = _levels(C, n)
    top = np.sort(np.add.outer(math.sqrt(edge_variance) * mixed, scale * levels), axis=None)[::-1] + edge
    return BulkLaw(
        num_eigenvalues=n * C,
        mean=equations.mean,
        second_moment=equations.mean**2 + variance + (C + 1) * mean_variance,
        edge=edge,
        maximum=float(top[0]),
        top_mean=float(top[:C].mean()),
    )
