"""Paths of training in the plane of condition number and energy, for several learning rates.

Liao, Drummond, Reid, Carneiro (2020): the running average of the condition numbers of mini-batches across, the
cumulative energy upwards, both of the empirical Fisher information matrix; mini-batches of one size.
"""

from __future__ import annotations

from functools import partial

from ._figure import Cell, Figure
from ._monitor import agreements, compute, draw_paths

__all__ = ["FIGURE"]


def cells(quick: bool) -> list[Cell]:
    """A cell for each rate."""
    return [
        {"batch_size": 32, "learning_rate": rate, "epochs": 20 if quick else 100, "seed": 0}
        for rate in (0.01, 0.03, 0.1, 0.3)
    ]


FIGURE = Figure(
    name="monitor-rates",
    title="condition number and energy during training, by learning rate",
    source="Liao, Drummond, Reid, Carneiro (2020), learning rates",
    cells=cells,
    compute=compute,
    draw=partial(draw_paths, by="learning_rate", label=r"$\eta$ = {}"),
    agreements=partial(agreements, by="learning_rate", label="eta = {}"),
    size=(6.4, 4.6),
)
