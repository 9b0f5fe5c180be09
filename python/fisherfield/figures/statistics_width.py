r"""Mean, second moment and maximum of the eigenvalues against the width, for three activations.

Karakida, Akaho, Amari (2019), Figure 1: L = 3, one output, T = 100 unit Gaussian inputs, all layers of width M. Lines
are Theorems 1, 3 and 4 at leading order in M. The second moment of small networks lies above them by the spread of the
bulk, which the numbers below the picture, refined statistics at the largest width, take into account. That the
paper has these variances and widths is not confirmed.
"""

from __future__ import annotations

from typing import Any

from ..architecture import MLP
from ..experiments import compare
from ..statistics import FisherStatistics
from ..theory import mean_field
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import (
    MAXIMUM,
    MEAN,
    SECOND_MOMENT,
    draw_statistics,
    measured_and_predicted,
    select,
    statistics_agreements,
)

__all__ = ["ENSEMBLES", "FIGURE", "architecture"]

ENSEMBLES = {"tanh": (3.0, 0.64), "relu": (2.0, 0.1), "linear": (1.0, 0.1)}  # weight and bias variances
SAMPLES = 100


def architecture(activation: str, width: int, outputs: int = 1) -> MLP:
    """Two hidden layers of the width of the input."""
    weight_var, bias_var = ENSEMBLES[activation]
    return MLP((width, width, width, outputs), activation, weight_var=weight_var, bias_var=bias_var)


def cells(quick: bool) -> list[Cell]:
    """A cell for every activation, width and seed."""
    widths = (30, 100, 300, 1000) if quick else (10, 20, 50, 100, 200, 500, 1000)
    return [
        {"activation": activation, "width": width, "seed": seed}
        for activation in ENSEMBLES
        for width in widths
        for seed in range(10)
    ]


def compute(activation: str, width: int, seed: int) -> Numbers:
    """Statistics of one network on inputs of its own, and those that theory predicts."""
    return measured_and_predicted(compare(architecture(activation, width), SAMPLES, (seed,), eigenvalues=False))


def draw(results: Results, figure: Any) -> None:
    """One panel a statistic."""
    draw_statistics(results, figure, "width", "width $M$", theory)


def theory(activation: str, width: int) -> FisherStatistics:
    """The leading order."""
    return mean_field(architecture(activation, width), SAMPLES).statistics


def agreements(results: Results) -> list[Agreement]:
    """At the largest width, where finite width leaves the least room."""
    M = max(cell["width"] for cell, _ in results)
    gaps = {"mean": MEAN / M, "second_moment": SECOND_MOMENT / M, "maximum": MAXIMUM / M}
    return [
        found
        for activation in ENSEMBLES
        if (chosen := select(results, activation=activation, width=M))
        for found in statistics_agreements(chosen, gaps, f"{activation}, M = {M}")
    ]


FIGURE = Figure(
    name="statistics-width",
    title="statistics of the eigenvalues against the width",
    source="Karakida, Akaho, Amari (2019), Figure 1",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.6, 3.4),
)
