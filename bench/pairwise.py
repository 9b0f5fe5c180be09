"""The predicted dual matrix by an independent route: Gauss-Legendre panels of every double integral."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import erf

import fisherfield as ff

Function = Callable[[np.ndarray], np.ndarray]

FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "tanh": (np.tanh, lambda u: 1 - np.tanh(u) ** 2),
    "erf": (erf, lambda u: 2 / np.sqrt(np.pi) * np.exp(-(u**2))),
    "relu": (lambda u: np.maximum(u, 0), lambda u: (u > 0) * 1.0),
}


def gaussian_panels(breaks: np.ndarray, points: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the standard Gaussian measure on [-9, 9], split at the breaks (last axis)."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    edges = np.sort(np.concatenate([np.broadcast_to(np.arange(-9.0, 10.0), (*breaks.shape[:-1], 19)), breaks], -1))
    half = np.diff(edges)[..., None] / 2
    z = (edges[..., :-1, None] + half) + half * nodes
    w = half * weights * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return z.reshape(*z.shape[:-2], -1), w.reshape(*w.shape[:-2], -1)


def moments(activation: str, a: float, b: float, c: float) -> tuple[float, float]:
    """E phi(u)phi(v) and E phi'(u)phi'(v) for the covariance [[a, b], [b, c]]; both kinks lie on panel edges."""
    rho = np.clip(b / np.sqrt(a * c), -1.0, 1.0)
    rest = np.sqrt(1 - rho**2)
    x, wx = gaussian_panels(np.zeros(1))
    kink = np.clip(-rho * x / rest, -9, 9) if rest > 0 else np.zeros_like(x)
    y, wy = gaussian_panels(kink[:, None])
    u, v = np.sqrt(a) * x, np.sqrt(c) * (rho * x[:, None] + rest * y)
    return tuple(float(wx @ (f(u) * (wy * f(v)).sum(1))) for f in FUNCTIONS[activation])  # type: ignore[return-value]


def largest_error(arch: ff.MLP, X: np.ndarray, predicted: np.ndarray, pairs: int = 30) -> float:
    """Largest error over random pairs of samples, relative to sqrt(K_ss K_tt)."""
    activation = arch.activations[0].name
    worst = 0.0
    for s, t in np.random.default_rng(0).integers(0, len(X), (pairs, 2)):
        overlap = [X[i] @ X[j] / X.shape[1] for i, j in ((s, s), (s, t), (t, t))]
        forward, slopes = [overlap[1]], []
        for l in range(arch.depth - 1):
            a, b, c = (arch.weight_vars[l] * x + arch.bias_vars[l] for x in overlap)
            value, slope = moments(activation, a, b, c)
            overlap = [moments(activation, a, a, a)[0], value, moments(activation, c, c, c)[0]]
            forward.append(value)
            slopes.append(slope)
        back, K = 1.0, 0.0
        for l in range(arch.depth - 1, -1, -1):
            K += arch.widths[l] * back * forward[l] / len(X)
            if l > 0:
                back *= arch.weight_vars[l] * slopes[l - 1]
        worst = max(worst, abs(predicted[s, t] - K) / np.sqrt(predicted[s, s] * predicted[t, t]))
    return worst
