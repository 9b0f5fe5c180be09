r"""Mean, second moment and maximum of the eigenvalues against the number of samples, at one width.

Karakida, Akaho, Amari (2019), Supplement C.1: theory holds for any T. L = 3, one output, unit Gaussian inputs. The
paper's width is not known to us; here M = 500. Lines are Theorems 1, 3 and 4 at leading order in M; the numbers compare
refined statistics at the smallest, a middle and the largest T.
"""

from __future__ import annotations

from typing import Any

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
from .statistics_width import ENSEMBLES, architecture

__all__ = ["FIGURE"]

WIDTH = 500


def cells(quick: bool) -> list[Cell]:
    """A cell for every activation, number of samples and seed."""
    counts, seeds = ((10, 30, 100, 300), 6) if quick else ((10, 20, 50, 100, 200, 500, 1000), 10)
    return [
        {"activation": activation, "samples": samples, "seed": seed}
        for activation in ENSEMBLES
        for samples in counts
        for seed in range(seeds)
    ]


def compute(activation: str, samples: int, seed: int) -> Numbers:
    """Statistics of one network on inputs of its own, and those that theory predicts."""
    return measured_and_predicted(compare(architecture(activation, WIDTH), samples, (seed,), eigenvalues=False))


def draw(results: Results, figure: Any) -> None:
    """One panel a statistic."""
    draw_statistics(results, figure, "samples", "number of samples $T$", theory)


def theory(activation: str, samples: int) -> FisherStatistics:
    """The leading order."""
    return mean_field(architecture(activation, WIDTH), samples).statistics


def agreements(results: Results) -> list[Agreement]:
    """At the smallest, a middle and the largest number of samples."""
    counts = sorted({cell["samples"] for cell, _ in results})
    gaps = {"mean": MEAN / WIDTH, "second_moment": SECOND_MOMENT / WIDTH, "maximum": MAXIMUM / WIDTH}
    return [
        found
        for activation in ENSEMBLES
        for T in dict.fromkeys((counts[0], counts[len(counts) // 2], counts[-1]))
        if (chosen := select(results, activation=activation, samples=T))
        for found in statistics_agreements(chosen, gaps, f"{activation}, T = {T}")
    ]


FIGURE = Figure(
    name="statistics-samples",
    title="statistics of the eigenvalues against the number of samples",
    source="Karakida, Akaho, Amari (2019), Supplement C.1",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.6, 3.4),
)
