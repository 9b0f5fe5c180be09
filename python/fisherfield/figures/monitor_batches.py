"""Paths of training in the plane of condition number and energy, for several sizes of mini-batches.

Liao, Drummond, Reid, Carneiro (2020): the running average of the condition numbers of mini-batches across, the
cumulative energy upwards, both of the empirical Fisher information matrix; so many epochs each, at one learning rate.
"""

from __future__ import annotations

from functools import partial

from ._figure import Cell, Figure
from ._monitor import agreements, compute, draw_paths

__all__ = ["FIGURE"]


def cells(quick: bool) -> list[Cell]:
    """A cell for each size."""
    return [
        {"batch_size": size, "learning_rate": 0.1, "epochs": 20 if quick else 100, "seed": 0}
        for size in (8, 16, 32, 64)
    ]


FIGURE = Figure(
    name="monitor-batches",
    title="condition number and energy during training, by size of mini-batches",
    source="Liao, Drummond, Reid, Carneiro (2020), batch sizes",
    cells=cells,
    compute=compute,
    draw=partial(draw_paths, by="batch_size", label="$|B|$ = {}"),
    agreements=partial(agreements, by="batch_size", label="B = {}"),
    size=(6.4, 4.6),
)
