"""Print the tables of docs/learning-rates.md and docs/natural-gradient.md: predicted beside measured, no timing.

``python bench/learning.py`` takes about two minutes.
"""

from __future__ import annotations

import math

import numpy as np

import fisherfield as ff

SEEDS = range(10)


def critical_rates() -> None:
    """The rate at momentum 0.9 of tanh networks, L = 4, T = 100: leading order, with the largest outlier, measured."""
    print(f"{'critical rate':16s} {'theory':>9s} {'corrected':>9s} {'measured':>9s} {'spread':>9s}")
    for width, outputs in ((300, 1), (150, 10), (300, 10), (600, 10), (1000, 10)):
        arch = ff.MLP((*(width,) * 4, outputs), "tanh", weight_var=3.0, bias_var=0.64)
        found = [ff.critical_learning_rate(arch.sample(seed), 100, 0.9, seed=seed) for seed in SEEDS]
        measured = [rate.measured for rate in found]
        numbers = (found[0].theory, found[0].corrected, np.mean(measured), np.std(measured, ddof=1))
        print(f"M = {width:4d}, C = {outputs:2d} " + " ".join(f"{x:9.5f}" for x in numbers), flush=True)


def fisher_rao_norms() -> None:
    """Per output, L = 3, M = 1000: measured, the exact wide limit, and Theorem 5 as published."""
    print(f"\n{'Fisher-Rao norm':16s} {'measured':>9s} {'error':>9s} {'exact':>9s} {'Theorem 5':>9s}")
    for activation, weight_var, bias_var in (("linear", 1.0, None), ("relu", 2.0, None), ("tanh", 3.0, 0.64)):
        arch = ff.MLP((1000, 1000, 1000, 30), activation, weight_var=weight_var, bias_var=bias_var)
        inputs = (np.random.default_rng(seed).standard_normal((100, 1000)) for seed in SEEDS)
        norms = [ff.Fisher(arch.sample(seed), X).fisher_rao_norm() / 30 for seed, X in zip(SEEDS, inputs, strict=True)]
        theory, error = ff.mean_field(arch, 100), np.std(norms, ddof=1) / math.sqrt(len(norms))
        numbers = (np.mean(norms), error, theory.fisher_rao_norm / 30, theory.fisher_rao_bound / 30)
        print(f"{activation:16s} " + " ".join(f"{x:9.4g}" for x in numbers), flush=True)


def residual_law() -> None:
    """Largest relative deviation of the residuals from (1 - 0.3)^t, t = 1 to 8, mean over three seeds."""
    widths = (125, 250, 500, 1000, 2000)
    print(f"\n{'residual law':16s} " + " ".join(f"{f'M = {width}':>9s}" for width in widths))
    for metric in ("exact", "block_diagonal", "tri_diagonal", "kfac"):
        deviations = [np.mean([_deviation(width, metric, seed) for seed in range(3)]) for width in widths]
        print(f"{metric:16s} " + " ".join(f"{100 * x:7.3f} %" for x in deviations), flush=True)


def _deviation(width: int, metric: str, seed: int, eta: float = 0.3, steps: int = 8) -> float:
    arch = ff.MLP((20, width, width, 1), "tanh", weight_var=2.0, bias_var=0.1)
    X = np.random.default_rng(seed).standard_normal((12, 20))
    net, y = arch.sample(seed), arch.sample(seed + 100)(X)
    gamma = ff.approximate_fisher(net, X, metric).isotropy(1e-12).gamma
    opt = ff.NaturalGradient(net, X, targets=y, metric=metric, damping=1e-12, learning_rate=eta / gamma)
    first, worst = net(X) - y, 0.0
    for t in range(1, steps + 1):
        opt.step()
        expected = (1 - eta) ** t * first
        worst = max(worst, float(np.linalg.norm(opt.network(X) - y - expected) / np.linalg.norm(expected)))
    return worst


if __name__ == "__main__":
    critical_rates()
    fisher_rao_norms()
    residual_law()
