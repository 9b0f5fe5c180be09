r"""Losses after training over the width and the learning rate, with the predicted critical rate on them.

Karakida, Akaho, Amari (2019), Figure 2, left: L = 4, C = 10, T = 100 unit Gaussian inputs, a teacher of the same
ensemble, momentum 0.9, 100 steps of all samples. Losses separate into those that explode and those that converge
along :math:`\eta_c = 2 (1 + \mu) / \lambda_{\max}` of Theorem 7. A cell has converged if its loss is lower than before.

That the boundary lies on the line of leading order is in part two errors that cancel. The largest of C outliers lies
above the theory's maximum, which is their mean; and training survives a little above the true critical rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import plot
from ..experiments import training_map
from ..report import plain
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import joined_map, map_agreements

__all__ = ["FIGURE"]

SAMPLES = 100
STEPS = 100


def cells(quick: bool) -> list[Cell]:
    """A cell for every width, with all learning rates."""
    widths, count = ((100, 200, 300, 400), 14) if quick else (tuple(range(100, 1001, 100)), 20)
    rates = [float(f"{rate:.3g}") for rate in np.geomspace(2.2e-3, 0.35, count)]
    return [{"width": width, "rates": rates, "seed": 0} for width in widths]


def compute(width: int, rates: list[float], seed: int) -> Numbers:
    """Train one network at every rate."""
    return {"map": plain(training_map((width,), rates, inputs=SAMPLES, steps=STEPS, momentum=0.9, seed=seed))}


def draw(results: Results, figure: Any) -> None:
    """The map: black where the loss has not fallen."""
    plot.training_map(joined_map(results), ax=figure.subplots())


def agreements(results: Results) -> list[Agreement]:
    """On either side of the theory's line."""
    return map_agreements(joined_map(results))


FIGURE = Figure(
    name="training-map",
    title="losses after training over width and learning rate, with the predicted critical rate",
    source="Karakida, Akaho, Amari (2019), Figure 2, left",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
)
