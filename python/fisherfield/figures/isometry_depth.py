r"""Spectra given one input against the depth, where gradients keep their size.

Hayase, Karakida (2021): orthogonal weights at the isometry point of hard tanh with :math:`L (1/p - 1) = 1/4`, all
layers of one width M; eigenvalues of F(x) over M V L, V the mean square of an activation. Most are equal to the
largest, which grows in proportion to the depth.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..plot.style import MARKS, THEORY_LINE
from ._figure import Cell, Figure, Results
from ._isometry import agree, compute, draw_spectra, groups, isometry, label_depths

__all__ = ["FIGURE"]

EPS = 0.25


def cells(quick: bool) -> list[Cell]:
    """A cell for every depth and seed."""
    depths, width, seeds = ((6, 10, 20), 300, 16) if quick else ((6, 20, 50), 600, 24)
    return [
        {"activation": "hard_tanh", "depth": depth, "eps": EPS, "width": width, "seed": seed}
        for depth in depths
        for seed in range(seeds)
    ]


def draw(results: Results, figure: Any) -> None:
    """Spectra for each depth, and the largest eigenvalue against the depth."""
    ax = draw_spectra(results, figure, "depth", "L = {:g}")
    depths = [cell["depth"] for cell, _ in groups(results, "depth")]
    scales = [1 / (cell["width"] * isometry(cell).second_moment) for cell, _ in groups(results, "depth")]
    tops = [[numbers["measured"]["top"] for numbers in found] for _, found in groups(results, "depth")]
    ax.errorbar(
        depths,
        [scale * np.mean(top) for scale, top in zip(scales, tops, strict=True)],
        [scale * np.std(top) for scale, top in zip(scales, tops, strict=True)],
        elinewidth=1,
        label="measured",
        **MARKS,
    )
    limit = [depth * np.expm1(EPS) / EPS for depth in depths]
    ax.plot(depths, limit, label=r"$L (e^\epsilon - 1) / \epsilon$", **THEORY_LINE)
    label_depths(ax, depths)
    ax.set(yscale="log", ylabel=r"$\lambda_{\max} / (M V)$")
    ax.legend(frameon=False, fontsize="small")


FIGURE = Figure(
    name="isometry-depth",
    title="spectra given one input against the depth, hard tanh",
    source="Hayase, Karakida (2021), spectra of the conditional Fisher information",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=partial(agree, by="depth", symbol="L"),
    size=(10.0, 6.0),
)
