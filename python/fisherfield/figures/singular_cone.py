r"""Flows of learning around the apex of the cone model, where the Fisher information is singular.

Amari, Park, Ozeki (2006): :math:`x \sim N(\xi\, a(\omega), I)` with c = 1.5 and a target at :math:`\xi = 1`. Near the
apex the standard gradient freezes the angle and may end on the wrong nappe, at
:math:`\xi = (1 - c^2) / (1 + c^2)`; the natural gradient turns at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import plot
from ..learning.singular import METHODS, ConeModel
from ..plot.style import INK, RUNS, THEORY_LINE
from ._figure import Agreement, Cell, Figure, Numbers, Results

__all__ = ["FIGURE"]

C, D = 1.5, 3
TARGET = (1.0, 0.0)
TURN, OPPOSITE = (0.02, 1.8), (0.02, 3.1)
# Times to a divergence of 1e-4, integrated by a Runge-Kutta rule of fixed steps.
TIMES = {(TURN, "standard"): 11.9223, (TURN, "natural"): 4.2592, (OPPOSITE, "natural"): 4.2984}
LAST_DIGIT = 1e-4
STYLES = {"standard": {"color": INK}, "natural": {"color": RUNS[5]["color"]}}  # of plot.cone_phase_portrait
DASHES = {TURN: "-", OPPOSITE: (0, (6, 1, 1, 1))}


def cells(quick: bool) -> list[Cell]:
    """A cell for each path; quick or not, for it is a matter of milliseconds."""
    return [{"start": list(start), "method": method} for start in (TURN, OPPOSITE) for method in METHODS]


def compute(start: list[float], method: str) -> Numbers:
    """Follow one path."""
    flow = ConeModel(C, D).flow(start, TARGET, method)
    return {
        "times": flow.times,
        "divergence": flow.divergence,
        "xi": flow.xi[-1],
        "status": flow.status,
        "time": flow.time,
    }


def draw(results: Results, figure: Any) -> None:
    """Phase portraits of both gradients, and the divergence from the target against time."""
    *portraits, right = figure.subplots(1, 3)
    for ax, method in zip(portraits, METHODS, strict=True):
        plot.cone_phase_portrait(
            ConeModel(C, D), TARGET, method=method, starts=(TURN, OPPOSITE), title=f"{method} gradient", ax=ax
        )
    for cell, numbers in results:
        start, method = tuple(cell["start"]), cell["method"]
        label = rf"{method}, from $\theta$ = {start[1]}"
        right.plot(numbers["times"], numbers["divergence"], linestyle=DASHES[start], label=label, **STYLES[method])
    right.axhline(trap_divergence(), label="wrong nappe, closed form", **THEORY_LINE)
    right.set(yscale="log", xlim=(0, 26), xlabel="time $t$ of the flow", ylabel="divergence from the target")
    right.set_title("way to the target", fontsize="small", loc="left", pad=12)
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize="small", loc="center right")


def trap() -> float:
    """The xi at which the wrong nappe is closest to the target."""
    return TARGET[0] * (1 - C**2) / (1 + C**2)


def trap_divergence() -> float:
    """Half the squared distance of the target from the wrong nappe."""
    return (TARGET[0] ** 2 - trap() ** 2) / 2


def agreements(results: Results) -> list[Agreement]:
    """Times to the target, and where the path ends that does not reach it."""
    found = []
    for cell, numbers in results:
        start, method = tuple(cell["start"]), cell["method"]
        where = f"{method}, theta = {start[1]}"
        if (start, method) in TIMES:
            found.append(Agreement(f"time, {where}", TIMES[start, method], numbers["time"], LAST_DIGIT))
        else:
            found.append(Agreement(f"end on the wrong nappe, {where}", trap(), numbers["xi"], LAST_DIGIT))
            divergence = float(np.min(numbers["divergence"]))
            found.append(Agreement(f"divergence there, {where}", trap_divergence(), divergence, LAST_DIGIT))
    return found


FIGURE = Figure(
    name="singular-cone",
    title="flows of learning around the apex of the cone",
    source="Amari, Park, Ozeki (2006), cone model",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(13.0, 4.2),
)
