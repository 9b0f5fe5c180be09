r"""The spectrum for classification with cross-entropy: C - 1 outliers, one by one.

Karakida, Akaho, Amari (2021), Theorem 3.3: L = 3, M = 1000, C = 10, N = 100 unit Gaussian inputs, three activations.
The output Fisher information Q is that at each network's own outputs, and theory is evaluated at these. Above all
eigenvalues with the predicted histogram of the bulk, below the largest ones rank by rank; dashed are eigenvalues of
:math:`Q^{1/2} (I_C \otimes K) Q^{1/2}`, and the bar at the first rank spans the bounds of the theorem.

Not C but C - 1 eigenvalues grow out of the bulk, for adding the same number to all outputs changes nothing. The
smallest of them lie in the bulk or next to it at these widths. Outliers deviate from theory by up to 10 % at M = 600,
and by an order of 1/M; the bulk, whose spread is that of a finite network and wider than predicted, pushes those close
to it up by about :math:`(b / 2 \lambda)^2`, with b its edge, the C-th eigenvalue.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validate import FloatArray
from ..experiments import compare
from ..plot.style import THEORY
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import (
    MEAN,
    agreement,
    draw_ranks,
    draw_spectrum,
    measured_and_predicted,
    select,
    share_legend,
    statistics_agreements,
)
from .statistics_width import ENSEMBLES, architecture

__all__ = ["FIGURE"]

OUTPUTS, SAMPLES = 10, 100
OUTLIER = 0.1 * 600  # their relative error, times the width


def cells(quick: bool) -> list[Cell]:
    """A cell for every activation and network."""
    width, seeds = (600, 8) if quick else (1000, 20)
    return [
        {"activation": activation, "width": width, "seed": seed} for activation in ENSEMBLES for seed in range(seeds)
    ]


def compute(activation: str, width: int, seed: int) -> Numbers:
    """Eigenvalues of one network on inputs of its own, and those that theory predicts at its outputs."""
    found = compare(architecture(activation, width, OUTPUTS), SAMPLES, (seed,), likelihood="categorical")
    return measured_and_predicted(found) | {
        "predicted": found.prediction.eigenvalues(refined=True).tolist(),
        "bounds": list(found.prediction.maximum_bounds),
    }


def draw(results: Results, figure: Any) -> None:
    """Above all eigenvalues, below the largest ones; one column an activation."""
    shown = activations(results)
    axes = figure.subplots(2, len(shown), height_ratios=(5, 4), squeeze=False)
    for (upper, lower), activation in zip(axes.T, shown, strict=True):
        chosen = select(results, activation=activation)
        rank_by_rank = np.mean([numbers["predicted"] for _, numbers in chosen], axis=0)
        draw_spectrum(upper, chosen, activation, predicted=rank_by_rank[OUTPUTS - 1 :])
        upper.set_xlabel(r"eigenvalue $\lambda$ of $F$")
        draw_ranks(lower, chosen, rank_by_rank[: OUTPUTS - 1], OUTPUTS + 5)
        low, high = np.mean([numbers["bounds"] for _, numbers in chosen], axis=0)
        lower.vlines(1, low, high, colors=THEORY, lw=1, label="bounds of the maximum")
    share_legend(figure, axes.flat, 4)


def activations(results: Results) -> list[str]:
    """Those of the cells."""
    return list(dict.fromkeys(cell["activation"] for cell, _ in results))


def outliers(results: Results) -> FloatArray:
    """Return the predicted ones, (networks, C - 1)."""
    return np.array([numbers["predicted"][: OUTPUTS - 1] for _, numbers in results])


def agreements(results: Results) -> list[Agreement]:
    """Statistics, every outlier, and the theorem's bounds."""
    found = []
    for activation in activations(results):
        chosen = select(results, activation=activation)
        M = chosen[0][0]["width"]
        gaps = {"mean": MEAN / M, "second_moment": 2 * OUTLIER / M, "top_mean": OUTLIER / M}
        found += statistics_agreements(chosen, gaps, activation)
        found += outlier_agreements(chosen, activation, OUTLIER / M)
        inside = [
            numbers["bounds"][0] <= numbers["measured"]["maximum"] <= numbers["bounds"][1] for _, numbers in chosen
        ]
        found.append(Agreement(f"share of maxima within the bounds, {activation}", 1.0, float(np.mean(inside)), 0.0))
    return found


def outlier_agreements(results: Results, activation: str, gap: float) -> list[Agreement]:
    """Every outlier, one by one."""
    values = np.array([numbers["eigenvalues"][:OUTPUTS] for _, numbers in results])
    edge = values[:, OUTPUTS - 1].mean()
    return [
        agreement(f"outlier {i}, {activation}", theory, measured, gap + float(edge / (2 * np.mean(theory))) ** 2)
        for i, (theory, measured) in enumerate(zip(outliers(results).T, values.T, strict=False), 1)
    ]


FIGURE = Figure(
    name="spectrum-softmax",
    title="the spectrum for classification, with C - 1 outliers",
    source="Karakida, Akaho, Amari (2021), spectra of cross-entropy",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(10.8, 7.2),
)
