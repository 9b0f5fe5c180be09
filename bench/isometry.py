"""Print how far laws given one input are from networks, closed forms and each other: ``python bench/isometry.py``.

Where a figure has a goal it is asserted. Takes about two minutes on two cores.
"""

from __future__ import annotations

import math

import numpy as np

import fisherfield as ff
from fisherfield import theory
from fisherfield.experiments import learning_rate_boundary, rates_by_depth

LEVELS = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])


def show(name: str, value: float, goal: float) -> None:
    print(f"{name:66s} {value:9.1e} (goal {goal:g})", flush=True)
    assert value <= goal, f"{name}: {value:.1e}"


def sphere(seed: int, dimension: int, qhat0: float) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(dimension)
    return x * math.sqrt(dimension * qhat0) / np.linalg.norm(x)


def own_law(found: ff.ConditionalFisher, weight_var: float, init: str) -> theory.FreeLaw:
    """The law with a network's own norms and slopes."""
    slopes = [theory.DiscreteLaw(slope**2) for slope in found.slopes]
    return theory.layered_law(found.squared_norms, weight_var, slopes, init=init)


def top_atoms() -> None:
    for depth, eps, width in ((2, 0.25, 200), (10, 0.25, 300), (50, 0.25, 300), (200, 0.1, 300)):
        point = ff.isometry_point("hard_tanh", depth, eps)
        net = point.architecture(width).sample(seed=1)
        found = ff.conditional_fisher(net, sphere(1, width, point.second_moment))
        atoms, values = own_law(found, point.weight_var, "orthogonal").atoms, found.eigenvalues()
        count = int(np.sum(values > values[0] * (1 - 1e-9)))
        position = np.abs(values[:count] / atoms.positions[-1] - 1).max()
        show(f"top atom, depth {depth}: position", position, 1e-12)
        show(f"top atom, depth {depth}: mass", abs(atoms.masses[-1] - count / width), 1e-12)


def two_hidden_layers() -> None:
    rng, n, p1, p2, shifts = np.random.default_rng(3), 1000, 0.8, 0.65, (1.0, 0.7, 0.5)
    exact = theory.TwoHiddenLayers(p1, p2, shifts, 1.3)
    law = theory.layered_law(shifts, 1.3, [theory.DiscreteLaw.projection(p) for p in (p1, p2)])
    x = np.linspace(*exact.support, 500)[1:-1]
    show(
        "two hidden layers, density: recursion / closed form - 1",
        np.abs(law.density(x) / exact.density(x) - 1).max(),
        1e-6,
    )
    draws, kept, rank = [], round(p2 * n), round(p1 * n)
    for _ in range(20):
        Q = np.linalg.qr(rng.standard_normal((n, rank)))[0][:kept]
        draws += [0.5 + 1.3 * np.linalg.eigvalsh(0.7 * np.eye(kept) + 1.3 * Q @ Q.T), np.full(n - kept, 0.5)]
    values, grid = np.sort(np.concatenate(draws)), np.linspace(0.4, 3.5, 3001)
    distance = np.abs(exact.cdf(grid) - np.searchsorted(values, grid + 1e-9) / len(values)).max()
    show("two hidden layers, 20 draws, M = 1000: Kolmogorov distance", distance, 0.01)


def moments() -> None:
    slopes = [
        theory.DiscreteLaw.projection(0.8),
        theory.DiscreteLaw([0.1, 0.5, 1.2]),
        theory.DiscreteLaw([0.0, 0.3, 1.0]),
    ]
    for init in ("orthogonal", "gaussian"):
        law = theory.layered_law([1.0, 0.7, 0.5, 0.4], [1.3, 0.9, 1.1], slopes, init=init)
        z = 1.5 * law.maximum * np.exp(1j * (np.arange(200) + 0.5) * np.pi / 100)
        contour = [np.mean(law.stieltjes(z) * z ** (n + 1)).real for n in range(1, 9)]
        show(f"moments to order 8, {init}: transform / series - 1", np.abs(contour / law.moments(8) - 1).max(), 1e-8)


def gaussian_tanh() -> None:
    arch = ff.MLP((1000,) * 11, "tanh", weight_var=2.0, bias_var=0.1)
    predicted, quantiles, own, distances = ff.conditional_spectrum(arch).law.quantile(LEVELS), [], [], []
    for seed in range(40):
        found = ff.conditional_fisher(arch.sample(seed), sphere(100 + seed, 1000, 1.0))
        values = np.sort(found.eigenvalues())
        quantiles.append(np.quantile(values, LEVELS))
        if seed < 3:
            law = own_law(found, 2.0, "gaussian")
            own.append(np.abs(law.quantile(LEVELS) / quantiles[-1] - 1).max())
            distances.append(np.abs(law.cdf(values) - (np.arange(1000) + 0.5) / 1000).max())
    mean, deviation = np.mean(quantiles, axis=0), np.std(quantiles, axis=0, ddof=1)
    show("tanh, Gaussian weights, L = 10, M = 1000: quantiles of 40 networks", np.abs(predicted / mean - 1).max(), 0.02)
    print(f"  standard error of these means, at most {(deviation / mean).max() / math.sqrt(40):.1%};", end=" ")
    print(f"deviation of one network, at most {(deviation / mean).max():.1%}")
    print(f"  law of a network's own numbers, 3 networks: Kolmogorov distance {max(distances):.4f},", end=" ")
    print(f"quantiles within {max(own):.1%}", flush=True)


def rates() -> None:
    found = rates_by_depth("hard_tanh", (5, 10, 20, 50, 100), 0.25, width=500)
    print("depth, M L times the online rate: theory, 3 networks, limit; V")
    for depth, predicted, measured, limit in zip(
        found.depths, 500 * found.predicted, 500 * found.measured.mean(axis=1), 500 * found.limit, strict=True
    ):
        second_moment = ff.isometry_point("hard_tanh", depth, 0.25).second_moment
        print(f"{depth:5d} {predicted:8.2f} {measured:8.2f} {limit:8.2f} {second_moment:8.3f}", flush=True)
    point = ff.isometry_point("hard_tanh", 10, 0.25)
    net, x = point.architecture(300).sample(seed=0), sphere(0, 300, point.second_moment)
    boundary = learning_rate_boundary(net, x)
    show(
        "online rate by training / (2 / lambda_max) - 1",
        abs(boundary / ff.conditional_fisher(net, x).critical_learning_rate() - 1),
        1e-3,
    )


if __name__ == "__main__":
    for part in (top_atoms, two_hidden_layers, moments, gaussian_tanh, rates):
        part()
