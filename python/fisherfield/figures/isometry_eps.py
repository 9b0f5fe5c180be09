r"""Spectra given one input against eps, where gradients keep their size.

Hayase, Karakida (2021): orthogonal weights at the isometry points of the shifted ReLU, depth 10;
:math:`\epsilon = L (1/p - 1)` is the variance of the squared singular values of the input-output Jacobian. The smaller
it is, the more eigenvalues are equal to the largest.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..plot.style import MARKS, THEORY_LINE
from ._figure import Cell, Figure, Results
from ._isometry import agree, compute, draw_spectra, groups

__all__ = ["FIGURE"]

DEPTH = 10


def cells(quick: bool) -> list[Cell]:
    """A cell for every eps and seed."""
    width, seeds = (300, 16) if quick else (600, 24)
    return [
        {"activation": "shifted_relu", "depth": DEPTH, "eps": eps, "width": width, "seed": seed}
        for eps in (1 / 16, 1 / 4, 1 / 2)
        for seed in range(seeds)
    ]


def draw(results: Results, figure: Any) -> None:
    """Spectra for each eps, and the fraction of eigenvalues at the top."""
    ax = draw_spectra(results, figure, "eps", r"\epsilon = {:g}")
    points = groups(results, "eps")
    masses = [[numbers["measured"]["top_mass"] for numbers in found] for _, found in points]
    eps = [cell["eps"] for cell, _ in points]
    ax.errorbar(eps, np.mean(masses, axis=1), np.std(masses, axis=1), elinewidth=1, label="measured", **MARKS)
    x = np.linspace(0, max(eps), 100)
    mass = 1 - (DEPTH - 1) * x / (DEPTH + x)
    ax.plot(x, mass, label="$1 - (L - 1)(1 - p)$", **THEORY_LINE)
    ax.set(xlabel=r"$\epsilon$", ylabel=r"fraction at $\lambda_{\max}$", ylim=(0, 1.05))
    ax.legend(frameon=False, fontsize="small", loc="lower left")


FIGURE = Figure(
    name="isometry-eps",
    title="spectra given one input against eps, shifted ReLU",
    source="Hayase, Karakida (2021), spectra of the conditional Fisher information",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=partial(agree, by="eps", symbol="eps"),
    size=(9.0, 6.0),
)
