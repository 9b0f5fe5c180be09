r"""Two random estimators of the diagonal, layer by layer: exact deviations, bounds, and deviations of drawn estimates.

Soen, Sun (2024): squared scores and second derivatives at targets drawn from the model, one per input, in a network of
three hidden sigmoid layers. Bars are the exact diagonal, marks exact deviations, whiskers eigenvalue bounds; dashes are
deviations of repeated estimates, root mean squares over the parameters of a layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import plot
from ..architecture import MLP
from ..diagonal import METHODS, DiagonalVariance, diagonal_variance, estimate_diagonal
from ..network import Network
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import share_legend

__all__ = ["FIGURE", "compare_estimators", "estimator_agreements"]

LIKELIHOODS = {"gaussian": "regression", "categorical": "classification"}
SIDES = {"score": -0.14, "hessian": 0.14}  # of the marks of plot.diagonal_variance
ROUNDING = 1e-12
DRAWS = 20  # of each estimate: the rare ones are in each
DRAWN: dict[str, Any] = {"marker": "_", "color": "0.45", "ms": 18, "mew": 2, "linestyle": "none", "zorder": 1}


def cells(quick: bool) -> list[Cell]:
    """A cell for each likelihood."""
    sizes = (
        {"widths": [20, 30, 30, 30, 5], "samples": 100, "repeats": 100}
        if quick
        else {"widths": [64, 100, 100, 100, 10], "samples": 200, "repeats": 300}
    )
    return [{"likelihood": likelihood, **sizes, "seed": 0} for likelihood in LIKELIHOODS]


def problem(widths: list[int], samples: int, seed: int) -> tuple[Network, Any]:
    """A network and unit Gaussian inputs."""
    arch = MLP(tuple(widths), "sigmoid", weight_var=9.0, bias_var=0.1)
    return arch.sample(seed=seed), np.random.default_rng(seed).standard_normal((samples, widths[0]))


def compute(likelihood: str, widths: list[int], samples: int, repeats: int, seed: int) -> Numbers:
    """Exact variances by layer, and what repeated estimates show of them."""
    net, X = problem(widths, samples, seed)
    return compare_estimators(net, X, likelihood, repeats)


def compare_estimators(net: Network, X: Any, likelihood: str, repeats: int) -> Numbers:
    """Means over the parameters of each layer: the diagonal, variances, bounds, and variances by each repeat."""
    exact = diagonal_variance(net, X, likelihood, bounds=True)
    assert exact.score_bound is not None
    assert exact.hessian_bounds is not None
    bounds = {"score": (0 * exact.score, exact.score_bound), "hessian": exact.hessian_bounds}
    return {
        "diagonal": by_layer(exact, exact.diagonal),
        "variance": {method: by_layer(exact, exact.variance(method)) for method in METHODS},
        "bounds": {method: [by_layer(exact, bound) for bound in bounds[method]] for method in METHODS},
        "held": {method: share_within(exact.variance(method), *bounds[method]) for method in METHODS},
        "drawn": {method: drawn_variances(net, X, likelihood, exact, method, repeats) for method in METHODS},
    }


def drawn_variances(
    net: Network, X: Any, likelihood: str, exact: DiagonalVariance, method: str, repeats: int
) -> list[list[float]]:
    """Squared errors of estimates with targets of their own, times their draws: the variance of one, but for chance."""
    estimates = (
        estimate_diagonal(net, X, likelihood, method=method, samples=DRAWS, seed=repeat).values
        for repeat in range(repeats)
    )
    return [by_layer(exact, DRAWS * (values - exact.diagonal) ** 2) for values in estimates]


def by_layer(exact: DiagonalVariance, values: Any) -> list[float]:
    """Means over the parameters of each layer."""
    return [float(values[part].mean()) for part in exact.layer_slices]


def share_within(variance: Any, lower: Any, upper: Any) -> float:
    """Fraction of parameters whose variance lies within its bounds, up to rounding."""
    slack = ROUNDING * variance.max()
    return float(((lower <= variance + slack) & (variance <= upper + slack)).mean())


def draw(results: Results, figure: Any) -> None:
    """A panel for each likelihood."""
    for ax, (cell, numbers) in zip(figure.subplots(1, len(results)), results, strict=True):
        net, X = problem(cell["widths"], cell["samples"], cell["seed"])
        exact = diagonal_variance(net, X, cell["likelihood"], bounds=True)
        plot.diagonal_variance(exact, title=LIKELIHOODS[cell["likelihood"]], ax=ax)
        for method, side in SIDES.items():
            measured = np.sqrt(np.mean(numbers["drawn"][method], axis=0))
            varies = np.array(numbers["variance"][method]) > 0
            layers = np.arange(1, len(measured) + 1)[varies] + side
            ax.plot(layers, measured[varies], label="of drawn estimates", **DRAWN)
    share_legend(figure, figure.axes, 3)


def agreements(results: Results) -> list[Agreement]:
    """Variances of drawn estimates against the exact ones; bounds; what has no variance."""
    return [
        agreement
        for cell, numbers in results
        for agreement in estimator_agreements(LIKELIHOODS[cell["likelihood"]], numbers)
    ]


def estimator_agreements(where: str, numbers: Numbers) -> list[Agreement]:
    """Of one network: three standard errors over the repeats, and nothing else, are allowed."""
    found = []
    for method, drawn in numbers["drawn"].items():
        for l, (variance, values) in enumerate(zip(numbers["variance"][method], zip(*drawn, strict=True), strict=True)):
            name = f"{method}, layer {l + 1}, {where}"
            if variance > 0:
                found.append(Agreement.of_samples(f"variance of {name}", variance, values, 0.0))
            else:
                error = np.sqrt(max(values)) / numbers["diagonal"][l]
                found.append(Agreement(f"estimate of {name}", 1.0, 1.0 + float(error), ROUNDING))
        found.append(Agreement(f"share within bounds, {method}, {where}", 1.0, numbers["held"][method], 0.0))
    return found


FIGURE = Figure(
    name="estimators-layers",
    title="two estimators of the diagonal by layer, with exact deviations and bounds",
    source="Soen, Sun (2024), variances by layer",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(10.0, 4.6),
)
