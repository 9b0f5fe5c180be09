r"""The map of training on images: mini-batches, one epoch.

Karakida, Akaho, Amari (2019), Figure 2, right: L = 4, C = 10, squared loss, momentum 0.9, one epoch of mini-batches of
500, inputs of mean 0 and variance 1, variances near the line of order and chaos. The paper's images are MNIST and, in
Supplement C.2, CIFAR-10, which do not come with this package, and its variances are not known to us. Here they are the
1797 digits of 8 x 8 pixels that scikit-learn has, in 18 mini-batches of 100, with the variances of the other figures;
theory takes the overlaps of all pairs of 1000 of them. ``fisherfield train-map --data fashion-mnist --batch-size 500
--steps 120`` draws the same map for Fashion-MNIST.

Of six settings of variances, batch and steps that were tried at quick size, five had 95 % or more of the cells on the
side of theory; the sixth, ReLU variances with 100 batches of 18, had 90.5 % below the line.

18 steps are enough to explode: 5 % above the critical rate deviations along the largest eigenvector grow by 1.5 in each
step. They are too few to tell how deep the others converge.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import data, plot
from ..experiments import training_map
from ..report import plain
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import joined_map, map_agreements

__all__ = ["FIGURE"]

BATCH = 100


def cells(quick: bool) -> list[Cell]:
    """A cell for every width, with all learning rates."""
    widths, count = ((100, 200, 400), 14) if quick else ((100, 200, 300, 400, 500, 700, 1000), 20)
    rates = [float(f"{rate:.3g}") for rate in np.geomspace(1e-3, 0.1, count)]
    return [{"width": width, "rates": rates, "seed": 0} for width in widths]


def compute(width: int, rates: list[float], seed: int) -> Numbers:
    """Train one network at every rate."""
    X = data.standardize(data.digits()[0])
    found = training_map(
        (width,),
        rates,
        inputs=X,
        targets=data.labels("digits"),
        steps=-(-len(X) // BATCH),
        batch_size=BATCH,
        momentum=0.9,
        seed=seed,
    )
    return {"map": plain(found)}


def draw(results: Results, figure: Any) -> None:
    """The map: black where the loss has not fallen."""
    plot.training_map(joined_map(results), ax=figure.subplots())


def agreements(results: Results) -> list[Agreement]:
    """On either side of the theory's line."""
    return map_agreements(joined_map(results))


FIGURE = Figure(
    name="training-map-data",
    title="the map of training on digits, one epoch of mini-batches",
    source="Karakida, Akaho, Amari (2019), Figure 2, right, and Supplement C.2",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
)
