r"""The spectrum for regression: C eigenvalues leave the bulk.

Karakida, Akaho, Amari (2021), Theorems 3.1 and 3.2: tanh, L = 3, M = 200, C = 10, N = 100 unit Gaussian inputs, 100
networks. To the left all eigenvalues, to the right the largest ones, rank by rank. In the limit of wide layers the C
outliers are equal, and theory's maximum is theirs. At finite width they lie apart by an order of :math:`\sqrt M`, the
theory's value is their mean, and the largest has an estimate of its own
(:attr:`fisherfield.theory.MeanField.largest_outlier`). The line below them is the largest eigenvalue of the bulk, from
the law of the mean-subtracted network.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..experiments import compare
from ..plot.style import THEORY_LINE
from ..theory import MeanField, mean_field
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import (
    MAXIMUM,
    MEAN,
    SECOND_MOMENT,
    agreement,
    draw_ranks,
    draw_spectrum,
    finish_panel,
    measured_and_predicted,
    share_legend,
    statistics_agreements,
)
from .statistics_width import architecture

__all__ = ["FIGURE"]

WIDTH, OUTPUTS, SAMPLES = 200, 10, 100
LARGEST = 0.06  # how low the estimate of the largest outlier is at widths from 150 to 400


def cells(quick: bool) -> list[Cell]:
    """A cell for every network."""
    return [{"seed": seed} for seed in range(20 if quick else 100)]


def compute(seed: int) -> Numbers:
    """Eigenvalues of one network on inputs of its own."""
    return measured_and_predicted(compare(architecture("tanh", WIDTH, OUTPUTS), SAMPLES, (seed,)))


def draw(results: Results, figure: Any) -> None:
    """All eigenvalues, and the largest ones."""
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    draw_spectrum(left, results, "all eigenvalues")
    limit, count = theory(), 2 * OUTPUTS
    draw_ranks(right, results, np.full(OUTPUTS, limit.refined_statistics.maximum), count)
    right.plot(np.arange(OUTPUTS + 1, count + 1), np.full(OUTPUTS, edge(limit)), **THEORY_LINE)
    finish_panel(right, f"the {count} largest")
    share_legend(figure, (left, right), 3)


def theory() -> MeanField:
    """The theory of all networks."""
    return mean_field(architecture("tanh", WIDTH, OUTPUTS), SAMPLES)


def edge(limit: MeanField) -> float:
    """The largest eigenvalue of the bulk."""
    law = limit.centered().bulk
    assert law is not None
    return law.maximum


def agreements(results: Results) -> list[Agreement]:
    """Statistics, the largest eigenvalue, and how many lie above the middle between outliers and bulk."""
    limit = theory()
    gaps = {"mean": MEAN / WIDTH, "second_moment": SECOND_MOMENT / WIDTH, "top_mean": MAXIMUM / WIDTH}
    middle = math.sqrt(limit.refined_statistics.maximum * edge(limit))
    largest = [numbers["measured"]["maximum"] for _, numbers in results]
    counts = [sum(value > middle for value in numbers["eigenvalues"]) for _, numbers in results]
    return [
        *statistics_agreements(results, gaps, "tanh"),
        agreement("maximum, tanh", [limit.largest_outlier] * len(largest), largest, LARGEST),
        agreement("number of outliers, tanh", [OUTPUTS] * len(counts), counts, 0.0),
    ]


FIGURE = Figure(
    name="spectrum-regression",
    title="the spectrum for regression, with C outliers",
    source="Karakida, Akaho, Amari (2021), spectra of regression",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.6, 4.2),
)
