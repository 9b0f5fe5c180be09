r"""Errors of estimation at the apex of the cone model, against those of a regular model.

Amari, Park, Ozeki (2006): n times the expected generalisation error of the maximum-likelihood estimate for c = 1.5,
exactly (dashed) and by simulation; the training error is its negative. A regular model has (d + 1) / 2 of both, which
is what information criteria count with.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..learning.singular import ConeModel
from ..plot.style import LEVEL, THEORY_LINE
from ._figure import Agreement, Cell, Figure, Numbers, Results

__all__ = ["FIGURE"]

OPENINGS = {0.5: ("0.6", "s"), 1.5: ("0.0", "o")}  # c: shade and mark
CLOSED = 1e-4 / 2  # half of the last digit
REFERENCE = 2.2308  # c = 1.5, d = 3


def cells(quick: bool) -> list[Cell]:
    """A cell for every opening and dimension."""
    draws = 100_000 if quick else 1_000_000
    return [{"c": c, "d": d, "draws": draws, "seed": d} for c in OPENINGS for d in (1, 2, 3, 5, 10)]


def compute(c: float, d: int, draws: int, seed: int) -> Numbers:
    """Simulated errors with their standard errors, and the exact one."""
    model = ConeModel(c, d)
    found = model.simulate(draws, seed=seed)
    return {
        "generalization": [found.generalization, found.generalization_deviation],
        "training": [found.training, found.training_deviation],
        "theory": model.generalization_error(),
    }


def draw(results: Results, figure: Any) -> None:
    """Both errors against the dimension."""
    ax = figure.subplots()
    for c, (shade, marker) in OPENINGS.items():
        points = [(cell["d"], numbers) for cell, numbers in results if cell["c"] == c]
        d = np.array([dimension for dimension, _ in points])
        theory = [numbers["theory"] for _, numbers in points]
        measured = [numbers["generalization"][0] for _, numbers in points]
        training = [-numbers["training"][0] for _, numbers in points]
        ax.plot(d, measured, marker, color=shade, ms=7, label=rf"$n E_{{\rm gen}}$, c = {c:g}")
        ax.plot(d, training, "+", color=shade, ms=13, label=rf"$-n E_{{\rm train}}$, c = {c:g}")
        ax.plot(d, theory, label="exact" if c == 1.5 else None, **THEORY_LINE)
    ax.plot(d, (d + 1) / 2, linestyle=":", label="regular model", **LEVEL)
    ax.set(xlabel="$d$, angles of the direction", ylabel="errors times $n$")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")


def agreements(results: Results) -> list[Agreement]:
    """Simulation within three standard errors; the closed form against its reference number."""
    found = []
    for cell, numbers in results:
        theory, where = numbers["theory"], f"c = {cell['c']:g}, d = {cell['d']}"
        mean, error = numbers["generalization"]  # the training error is its negative in every single draw
        found.append(Agreement(f"generalization error, {where}", theory, mean, 3 * error / theory))
        if (cell["c"], cell["d"]) == (1.5, 3):
            found.append(Agreement(f"closed form, {where}", REFERENCE, theory, CLOSED))
    return found


FIGURE = Figure(
    name="singular-errors",
    title="errors of estimation at the apex of the cone",
    source="Amari, Park, Ozeki (2006), generalisation errors",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(6.4, 4.4),
)
