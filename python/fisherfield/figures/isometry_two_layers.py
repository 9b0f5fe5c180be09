r"""Two hidden layers, where the spectrum given one input has a closed form.

Hayase, Karakida (2021): orthogonal weights at the isometry points of hard tanh with L = 3. Bars are finite networks,
the dashed line is the density by a chain of S-transforms, crosses on it are the closed form, that of a free product of
two projections.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import plot
from ..conditional import conditional_fisher
from ..experiments import compare_conditional
from ..plot.style import INK, MARKS
from ..theory import TwoHiddenLayers, conditional_spectrum, isometry_point
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._isometry import EXACT, farthest, groups
from ._panels import share_legend

__all__ = ["FIGURE"]

LEVELS = (0.1, 0.5, 0.9)  # of the eigenvalues between the two atoms
CLOSED = 1e-8  # relative: the S-transform is inverted to rounding, times the steepness of the edges
DEPTH = 3


def closed_form(eps: float, width: int) -> TwoHiddenLayers:
    """The law of the ensemble, in units of eigenvalues of F(x)."""
    point = isometry_point("hard_tanh", DEPTH, eps)
    shift = width * point.second_moment + 1  # 1 is the derivative by the bias
    return TwoHiddenLayers(point.p, point.p, shifts=(shift,) * 3, scale=point.weight_var)


def cells(quick: bool) -> list[Cell]:
    """A cell for every eps and seed."""
    width, seeds = (400, 16) if quick else (1000, 16)
    return [{"eps": eps, "width": width, "seed": seed} for eps in (0.25, 1.0) for seed in range(seeds)]


def compute(eps: float, width: int, seed: int) -> Numbers:
    """Eigenvalues of one network, and quantiles of those between the atoms beside the closed form of its own layers."""
    point = isometry_point("hard_tanh", DEPTH, eps)
    found = compare_conditional(point.architecture(width), point.second_moment, (seed,))
    net, X = found.draw(seed)
    own = conditional_fisher(net, X[0])
    p1, p2 = (float(slope.mean()) for slope in own.slopes)
    law = TwoHiddenLayers(p1, p2, shifts=tuple(own.squared_norms.tolist()), scale=point.weight_var)
    eigenvalues = np.sort(found.eigenvalues[0])
    masses = law.atoms[1]
    bottom, total = round(width * masses[:-1].sum()), round(width * (1 - masses[-1]))
    band = eigenvalues[bottom:total]
    places = [round(level * len(band)) for level in LEVELS]
    return {
        "eigenvalues": eigenvalues[::-1],
        "measured": band[places],
        "theory": [quantile(law, (bottom + place + 0.5) / width) for place in places],
        "atoms": {"measured": eigenvalues[[0, total]], "theory": law.atoms[0][[0, -1]]},
        "spacing": (band[-1] - band[0]) / len(band),
    }


def quantile(law: TwoHiddenLayers, level: float) -> float:
    """Invert the closed distribution function between the atoms."""
    from scipy.optimize import brentq

    assert law.support is not None
    return float(brentq(lambda x: float(law.cdf(x)) - level, *law.support, xtol=1e-12 * law.support[1]))


def draw(results: Results, figure: Any) -> None:
    """A panel for each eps."""
    panels = groups(results, "eps")
    for ax, (cell, found) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        eps, width = cell["eps"], cell["width"]
        point = isometry_point("hard_tanh", DEPTH, eps)
        unit = width * point.mean
        chain = conditional_spectrum(point.architecture(width), point.second_moment).law
        eigenvalues = [numbers["eigenvalues"] for numbers in found]
        plot.conditional_spectrum(
            eigenvalues, chain, unit=unit, bins=50, title=rf"$\epsilon = {eps:g}$, $p = {point.p:.3g}$", ax=ax
        )
        law = closed_form(eps, width)
        assert law.support is not None
        x = np.linspace(*law.support, 22)[1:-1]
        ax.plot(x / unit, unit * law.density(x), label="closed form", **MARKS | {"marker": "+", "markeredgecolor": INK})
        ax.set(xlabel=r"$\lambda / (M V L)$", ylabel="density")
    share_legend(figure, figure.axes, 5)


def agreements(results: Results) -> list[Agreement]:
    """Quantiles within a spacing of eigenvalues; atoms to rounding; the two routes of theory against each other."""
    found = []
    for cell, numbers in groups(results, "eps"):
        where = f"eps = {cell['eps']:g}"
        for i, level in enumerate(LEVELS):
            ratios = [entry["measured"][i] / entry["theory"][i] for entry in numbers]
            gap = float(np.mean([entry["spacing"] / entry["theory"][i] for entry in numbers]))
            found.append(Agreement.of_samples(f"{100 * level:g} % of the band, {where}", 1.0, ratios, gap))
        for i, name in enumerate(("bottom", "top")):
            ratios = [entry["atoms"]["measured"][i] / entry["atoms"]["theory"][i] for entry in numbers]
            found.append(Agreement(f"{name} atom, {where}", 1.0, farthest(ratios), EXACT))
        found.append(routes(cell["eps"], cell["width"]))
    return found


def routes(eps: float, width: int) -> Agreement:
    """The distribution function by S-transforms where the closed one is farthest from it."""
    law, point = closed_form(eps, width), isometry_point("hard_tanh", DEPTH, eps)
    assert law.support is not None
    low, high = law.support
    x = np.linspace(low, high, 52)[1:-1]
    chain = conditional_spectrum(point.architecture(width), point.second_moment).law.cdf(x) / law.cdf(x)
    return Agreement(f"S-transforms over closed form, eps = {eps:g}", 1.0, farthest(chain.tolist()), CLOSED)


FIGURE = Figure(
    name="isometry-two-layers",
    title="two hidden layers: spectrum given one input in closed form",
    source="Hayase, Karakida (2021), solvable case of two hidden layers",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.6, 4.0),
)
