r"""The spectrum of the metric of feature space: its maximum is of order 1 for any width and any number of samples.

Karakida, Akaho, Amari (2021), section on the metric of input and feature space: tanh, L = 3, M = 500, N = 1000 unit
Gaussian inputs; here C = 2. The features are the input and the activations of both hidden layers, 3 M in all. To the
right the mean of the C largest eigenvalues against the width, which theory does not depend on, with as many samples as
units. Gradients decay from layer to layer by factors that fluctuate by an order of :math:`1/\sqrt M`, and so do the
eigenvalues of single networks.
"""

from __future__ import annotations

from typing import Any

from ..experiments import compare
from ..plot.style import THEORY_LINE
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import (
    MAXIMUM,
    MEAN,
    SQUARE,
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

OUTPUTS = 2


def cells(quick: bool) -> list[Cell]:
    """A cell for every width and network; twice as many samples as units at the largest width."""
    largest, seeds = (200, 10) if quick else (500, 20)
    return [
        {"width": width, "samples": samples, "seed": seed}
        for width, samples in ((largest // 5, largest // 5), (largest // 2, largest // 2), (largest, 2 * largest))
        for seed in range(seeds)
    ]


def compute(width: int, samples: int, seed: int) -> Numbers:
    """Eigenvalues of one network on inputs of its own."""
    return measured_and_predicted(compare(architecture("tanh", width, OUTPUTS), samples, (seed,), metric="features"))


def draw(results: Results, figure: Any) -> None:
    """All eigenvalues at the largest width, and the largest ones against the width."""
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    draw_spectrum(left, main(results), "all eigenvalues", symbol="A")
    widths = sorted({cell["width"] for cell, _ in results})
    draw_points(right, results, "width", "top_mean", 0, "their mean, measured")
    predicted = [average(select(results, width=width), "refined").top_mean for width in widths]
    right.plot(widths, predicted, label="their mean, theory", **THEORY_LINE)
    right.set(xscale="log", xlabel="width $M$", ylabel=f"mean of the {OUTPUTS} largest", ylim=(0, 2 * max(predicted)))
    finish_panel(right, "the largest eigenvalues")
    share_legend(figure, (left, right), 3)


def main(results: Results) -> Results:
    """Networks of the histogram."""
    return select(results, width=max(cell["width"] for cell, _ in results))


def agreements(results: Results) -> list[Agreement]:
    """Statistics of the networks of the histogram."""
    chosen = main(results)
    M = chosen[0][0]["width"]
    gaps = {"mean": MEAN / M, "second_moment": SQUARE / M, "top_mean": MAXIMUM / M}
    return statistics_agreements(chosen, gaps, f"tanh, M = {M}")


FIGURE = Figure(
    name="spectrum-features",
    title="the spectrum of the metric of feature space",
    source="Karakida, Akaho, Amari (2021), metric of feature space",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.6, 4.2),
)
