"""What the figures of dynamical isometry share: spectra of networks given one input beside their law."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import plot
from ..conditional import ConditionalFisher, conditional_fisher
from ..experiments import compare_conditional
from ..theory import (
    ConditionalSpectrum,
    DiscreteLaw,
    IsometryPoint,
    conditional_spectrum,
    isometry_point,
    layered_law,
    top_atom,
)
from ._figure import Agreement, Cell, Numbers, Results
from ._panels import share_legend

__all__ = ["EXACT", "GAP", "agree", "compute", "draw_spectra", "farthest", "groups", "isometry", "label_depths"]

STATISTICS = ("top", "top_mass", "mean", "variance")
# Averages over networks against theory, relative, times M / L: on 200 to 300 networks each of M = 100 up to 0.12 was
# found for the top and the mean, 0.24 for the variance (with a standard error as large), nothing for the mass.
GAP = 0.25
EXACT = 1e-9  # relative: rounding through all layers


def compute(activation: str, depth: int, eps: float, width: int, seed: int) -> Numbers:
    """Eigenvalues of one network given one input; what is predicted from the ensemble, and from its own layers."""
    point = isometry_point(activation, depth, eps)
    found = compare_conditional(point.architecture(width), point.second_moment, (seed,))
    law = found.spectrum.law
    net, X = found.draw(seed)
    own = conditional_fisher(net, X[0])
    shares = [float(slope.mean()) for slope in own.slopes]
    top, mass = top_atom(own.squared_norms.tolist(), point.weight_var, shares)
    return {
        "eigenvalues": found.eigenvalues[0],
        "measured": {name: getattr(found, name)[0] for name in STATISTICS},
        "theory": dict(zip(STATISTICS, (law.maximum, law.atoms.masses[-1], law.mean, law.variance), strict=True)),
        "own": {"top": top, "top_mass": mass},
        "low": low_eigenvalues(point, own, found.eigenvalues[0], mass),
    }


def low_eigenvalues(point: IsometryPoint, own: ConditionalFisher, eigenvalues: Any, mass: float) -> dict[str, float]:
    """Mean of the lower half of the eigenvalues below the top, and what the network's own layers predict."""
    width = len(eigenvalues)
    lowest = np.sort(eigenvalues)[: round(width * (1 - mass)) // 2]
    slopes = [DiscreteLaw(slope**2) for slope in own.slopes]
    law = layered_law(own.squared_norms.tolist(), point.weight_var, slopes)
    levels = (np.arange(len(lowest)) + 0.5) / width
    return {"measured": lowest.mean(), "theory": law.quantile(levels).mean()}


# --- the picture ------------------------------------------------------------------------------------------------------


def draw_spectra(results: Results, figure: Any, by: str, title: str) -> Any:
    """Draw a panel of eigenvalues over M V L for each value of ``by``; return the axes of one panel more."""
    panels = groups(results, by)
    axes = figure.subplots(2, (len(panels) + 2) // 2).ravel()
    for ax, (cell, found) in zip(axes, panels, strict=False):
        point = isometry(cell)
        plot.conditional_spectrum(
            [numbers["eigenvalues"] for numbers in found],
            predicted(cell).law,
            unit=cell["width"] * point.mean,
            bins=60,
            title=f"${title.format(cell[by])}$",
            ax=ax,
        )
        ax.set_xlabel(r"$\lambda / (M V L)$")
        ax.set_ylabel("density")
    share_legend(figure, figure.axes, 4)
    for ax in axes[len(panels) + 1 :]:
        ax.remove()
    last = axes[len(panels)]
    last.spines[["top", "right"]].set_visible(False)
    return last


def label_depths(ax: Any, depths: Iterable[int]) -> None:
    """A logarithmic axis of depths, with the numbers that there are."""
    places = list(depths)
    ax.set(xscale="log", xlabel="depth $L$")
    ax.set_xticks(places, map(str, places))
    ax.set_xticks([], minor=True)


# --- theory beside measurement ----------------------------------------------------------------------------------------


def isometry(cell: Cell) -> IsometryPoint:
    """The point of dynamical isometry of a cell."""
    return isometry_point(cell["activation"], cell["depth"], cell["eps"])


def predicted(cell: Cell) -> ConditionalSpectrum:
    """The law of the eigenvalues of a cell."""
    point = isometry(cell)
    return conditional_spectrum(point.architecture(cell["width"]), point.second_moment)


def groups(results: Results, by: str) -> list[tuple[Cell, list[Numbers]]]:
    """Numbers of all seeds for each value of ``by``, with the cell of the first."""
    first: dict[float, Cell] = {}
    found: dict[float, list[Numbers]] = {}
    for cell, numbers in results:
        first.setdefault(cell[by], cell)
        found.setdefault(cell[by], []).append(numbers)
    return [(first[value], found[value]) for value in found]


def agree(results: Results, by: str, symbol: str) -> list[Agreement]:
    """The ensemble up to a gap of relative order L / M; the top of a network's own layers to rounding."""
    agreements = []
    for cell, found in groups(results, by):
        where, gap = f"{symbol} = {cell[by]:g}", GAP * cell["depth"] / cell["width"]
        for name in STATISTICS:
            values = [numbers["measured"][name] for numbers in found]
            theory = found[0]["theory"][name]
            agreements.append(Agreement.of_samples(f"{name.replace('_', ' ')}, {where}", theory, values, gap))
        for name in ("top", "top_mass"):
            worst = farthest(numbers["measured"][name] / numbers["own"][name] for numbers in found)
            agreements.append(Agreement(f"{name.replace('_', ' ')} of own layers, {where}", 1.0, worst, EXACT))
        ratios = [numbers["low"]["measured"] / numbers["low"]["theory"] for numbers in found]
        agreements.append(Agreement.of_samples(f"lowest eigenvalues, own layers, {where}", 1.0, ratios, gap))
    return agreements


def farthest(ratios: Iterable[float]) -> float:
    """The ratio that is farthest from 1."""
    return float(max(ratios, key=lambda ratio: abs(ratio - 1)))
