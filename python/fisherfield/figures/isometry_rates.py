r"""The largest learning rate of online training against the depth.

Hayase, Karakida (2021): at the isometry points of hard tanh with :math:`\epsilon = 1/4` the largest eigenvalue given
one input grows in proportion to the depth, so that the largest stable rate, 2 over it, falls like 1 / L. Dots are 2
over measured eigenvalues, diamonds rates at which training on one input starts to grow. With the bias the common
squared norm of all layers is :math:`M V + 1`, and exactly

.. math:: (M V + 1)\, \eta_c = 2 \frac{\epsilon / L}{(1 + \epsilon / L)^L - 1} \approx \frac{2 \epsilon}{(e^\epsilon
    - 1) L}.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..experiments import compare_conditional, learning_rate_boundary
from ..plot.style import INK, LEVEL, MARKS, THEORY_LINE
from ..theory import isometry_point
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._isometry import GAP, farthest, groups, label_depths

__all__ = ["FIGURE"]

EPS = 0.25
BISECTION = 1e-3  # relative width of the last bracket of rates
PERTURBATION = 1e-6  # of the target
DIAMONDS: dict[str, Any] = {"marker": "D", "markerfacecolor": "none", "markeredgecolor": INK, "markersize": 9}


def cells(quick: bool) -> list[Cell]:
    """A cell for every depth and seed; training takes long, and is done for some seeds."""
    depths, width, seeds, trained = ((5, 10, 20, 40), 150, 16, 2) if quick else ((5, 10, 20, 40, 80), 300, 24, 2)
    return [
        {"depth": depth, "width": width, "seed": seed, "train": seed < trained}
        for depth in depths
        for seed in range(seeds)
    ]


def compute(depth: int, width: int, seed: int, train: bool) -> Numbers:
    """The critical rate of one network by its eigenvalues, by training, and by theory."""
    point = isometry_point("hard_tanh", depth, EPS)
    found = compare_conditional(point.architecture(width), point.second_moment, (seed,))
    net, X = found.draw(seed)
    return {
        "theory": found.spectrum.critical_learning_rate(),
        "measured": 2 / found.top[0],
        "trained": learning_rate_boundary(net, X[0], tolerance=BISECTION, perturbation=PERTURBATION) if train else None,
    }


def square(depth: int, width: int) -> float:
    """Squared norm of a layer, with the derivative by the bias."""
    return width * isometry_point("hard_tanh", depth, EPS).second_moment + 1


def exact(depth: float) -> float:
    """The rate times the squared norm of a layer."""
    return 2 * (EPS / depth) / math.expm1(depth * math.log1p(EPS / depth))


def draw(results: Results, figure: Any) -> None:
    """Rates against the depth, and times squared norm and depth, where they are nearly constant."""
    left, right = figure.subplots(1, 2)
    points = groups(results, "depth")
    depths = np.array([cell["depth"] for cell, _ in points])
    factors = np.array([square(cell["depth"], cell["width"]) for cell, _ in points]) * depths
    theory = np.array([found[0]["theory"] for _, found in points])
    measured = [[numbers["measured"] for numbers in found] for _, found in points]
    trained = [[numbers["trained"] for numbers in found if numbers["trained"]] for _, found in points]
    for ax, scale in ((left, np.ones(len(depths))), (right, factors)):
        draw_rates(ax, depths, scale, measured, MARKS | {"markersize": 4, "label": r"$2 / \lambda_{\max}$, measured"})
        draw_rates(ax, depths, scale, trained, MARKS | DIAMONDS | {"label": "by training"})
        ax.plot(depths, scale * theory, label="theory", **THEORY_LINE)
        label_depths(ax, depths.tolist())
        ax.spines[["top", "right"]].set_visible(False)
    limit = 2 * EPS / math.expm1(EPS)
    left.plot(depths, limit / factors[0] * depths[0] / depths, linestyle=":", label="$1 / L$", **LEVEL)
    left.set(yscale="log", ylabel=r"largest stable rate $\eta_c$")
    left.legend(frameon=False, fontsize="small")
    right.axhline(limit, linestyle=":", label=r"$2 \epsilon / (e^\epsilon - 1)$", **LEVEL)
    right.set(ylabel=r"$L (M V + 1)\, \eta_c$", ylim=(0.85 * limit, 1.15 * limit))
    right.legend(frameon=False, fontsize="small", loc="lower right")


def draw_rates(ax: Any, depths: Any, scale: Any, rates: list[list[float]], style: dict[str, Any]) -> None:
    """One mark a network."""
    x = np.repeat(depths, [len(of_depth) for of_depth in rates])
    ax.plot(x, np.concatenate([a * np.array(of_depth) for a, of_depth in zip(scale, rates, strict=True)]), **style)


def agreements(results: Results) -> list[Agreement]:
    """Rates up to a gap of relative order L / M, their slope, and the boundary of training."""
    found = []
    points = groups(results, "depth")
    for cell, numbers in points:
        rates = [entry["measured"] for entry in numbers]
        gap = GAP * cell["depth"] / cell["width"]
        found.append(Agreement.of_samples(f"rate, L = {cell['depth']}", numbers[0]["theory"], rates, gap))
        ratios = [entry["trained"] / entry["measured"] for entry in numbers if entry["trained"]]
        found.append(Agreement(f"trained over measured, L = {cell['depth']}", 1.0, farthest(ratios), BISECTION))
    return [*found, slope(points)]


def slope(points: list[tuple[Cell, list[Numbers]]]) -> Agreement:
    """The exponent of the depth in the rates times squared norms; -1 but for finite depth and width."""
    depths = np.array([cell["depth"] for cell, _ in points])
    width = points[0][0]["width"]
    squares = np.array([square(depth, width) for depth in depths])
    rates = np.array([[entry["measured"] for entry in numbers] for _, numbers in points])
    slopes = np.polyfit(np.log(depths), np.log(squares[:, None] * rates), 1)[0]
    expected = float(np.polyfit(np.log(depths), np.log([exact(depth) for depth in depths]), 1)[0])
    gap = abs(expected + 1) + float(GAP * depths.max() / width / np.log(depths.max() / depths.min()))
    return Agreement.of_samples("exponent of L in the rate", -1.0, slopes.tolist(), gap)


FIGURE = Figure(
    name="isometry-rates",
    title="largest learning rate of online training against the depth",
    source="Hayase, Karakida (2021), online training",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.6, 3.8),
)
