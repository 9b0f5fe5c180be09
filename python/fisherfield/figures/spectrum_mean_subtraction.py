r"""Mean subtraction in the last layer takes the outliers away.

Karakida, Akaho, Amari (2021), Equation 22: the Fisher information matrix of :math:`f - E[f]` has no eigenvalue of order
M where N is of the order of M. tanh, L = 3, C = 5, N = M / 5 unit Gaussian inputs. To the left the spectra with and
without mean subtraction at the largest width, to the right their maxima against the width.

Theory's leading order has N - 1 equal eigenvalues left, :math:`\alpha M (\kappa_1 - \kappa_2) / N`. They spread at
finite N / M, and the lines are the law of that spread, which is derived in :mod:`fisherfield.theory.bulk` and not in
the papers: its maximum errs by up to 5 %.
"""

from __future__ import annotations

from typing import Any

from ..experiments import compare
from ..plot.style import THEORY_LINE
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import (
    MAXIMUM,
    MEAN,
    SECOND_MOMENT,
    average,
    draw_points,
    draw_spectrum,
    finish_panel,
    measured_and_predicted,
    select,
    share_legend,
    statistics_agreements,
)
from .statistics_width import architecture

__all__ = ["FIGURE"]

OUTPUTS, PER_SAMPLE = 5, 5  # C, and M / N
BULK = 0.05  # how far the law of the bulk may be off at its edge
NAMES = {False: "F", True: "F, mean subtracted"}


def cells(quick: bool) -> list[Cell]:
    """A cell for every width and network, with and without mean subtraction."""
    widths, seeds = ((100, 200, 300), 6) if quick else ((100, 200, 300, 500, 800), 10)
    return [
        {"width": width, "centered": centered, "seed": seed}
        for width in widths
        for centered in NAMES
        for seed in range(seeds)
    ]


def compute(width: int, centered: bool, seed: int) -> Numbers:
    """Eigenvalues of one network on inputs of its own."""
    arch = architecture("tanh", width, OUTPUTS)
    return measured_and_predicted(compare(arch, width // PER_SAMPLE, (seed,), centered=centered))


def draw(results: Results, figure: Any) -> None:
    """Two spectra, and maxima against the width."""
    axes = figure.subplot_mosaic([["with", "growth"], ["without", "growth"]], width_ratios=(3, 2))
    largest = select(results, width=max(cell["width"] for cell, _ in results))
    spectra = (axes["with"], axes["without"])
    for ax, (centered, name) in zip(spectra, NAMES.items(), strict=True):
        draw_spectrum(ax, select(largest, centered=centered), name)
    axes["without"].sharex(axes["with"])
    axes["with"].set_xlabel("")
    draw_growth(axes["growth"], results)
    share_legend(figure, axes.values(), 4)


def draw_growth(ax: Any, results: Results) -> None:
    """The mean of the C largest eigenvalues."""
    for kind, (centered, name) in enumerate(NAMES.items()):
        chosen = select(results, centered=centered)
        widths = sorted({cell["width"] for cell, _ in chosen})
        draw_points(ax, chosen, "width", "top_mean", kind, name)
        predicted = [average(select(chosen, width=width), "refined").top_mean for width in widths]
        ax.plot(widths, predicted, label="their mean, theory", **THEORY_LINE)
    ax.set(xscale="log", yscale="log", xlabel=f"width $M = {PER_SAMPLE}\\,N$", ylabel=f"mean of the {OUTPUTS} largest")
    finish_panel(ax, "the largest eigenvalues")


def agreements(results: Results) -> list[Agreement]:
    """At the largest width."""
    M = max(cell["width"] for cell, _ in results)
    usual = {"mean": MEAN / M, "second_moment": SECOND_MOMENT / M}
    gaps = {False: usual | {"top_mean": MAXIMUM / M}, True: usual | {"maximum": BULK, "top_mean": BULK}}
    return [
        found
        for centered, name in NAMES.items()
        for found in statistics_agreements(select(results, width=M, centered=centered), gaps[centered], name)
    ]


FIGURE = Figure(
    name="spectrum-mean-subtraction",
    title="the spectrum with and without mean subtraction",
    source="Karakida, Akaho, Amari (2021), mean subtraction",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.6, 5.2),
)
